// picture.c: compares and converts pictures, in dom0 and on this machine. Reads PPM (P6, 8 bits) and PNG, by their first bytes.
//   picture same A B         exit status 0: same size and pixels. 1: not; says the first pixel that differs, and how many. 2: unreadable
//   picture size A           prints WIDTH×HEIGHT, the number of colours up to 1000, and a checksum of the pixels
//   picture png A B.png      writes A as PNG, soon
//   picture small A B.png    writes A as a small PNG, slowly: for pictures that are checked in
//   picture pixel A X Y      prints its colour, as rrggbb
#include <png.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct picture { unsigned width, height; unsigned char *rgb; };

static void fail(const char *name, const char *what)
{
    fprintf(stderr, "picture: %s: %s\n", name, what);
    exit(2);
}
static struct picture load(const char *name)
{
    struct picture p = { 0, 0, NULL };
    unsigned char magic[2] = { 0, 0 };
    FILE *f = fopen(name, "rb");
    if (!f) fail(name, "cannot be opened");
    if (fread(magic, 1, 2, f) != 2) fail(name, "is empty");
    if (magic[0] == 'P' && magic[1] == '6') {
        unsigned most = 0;
        if (fscanf(f, "%u %u %u", &p.width, &p.height, &most) != 3 || most != 255 || fgetc(f) == EOF || !p.width || !p.height ||
            p.width > 16384 || p.height > 16384)
            fail(name, "is a PPM with a header that is not understood");
        size_t size = (size_t)p.width * p.height * 3;
        p.rgb = malloc(size);
        if (!p.rgb || fread(p.rgb, 1, size, f) != size) fail(name, "is a PPM that ends too early");
    } else {
        png_image image = { .version = PNG_IMAGE_VERSION };
        rewind(f);
        if (!png_image_begin_read_from_stdio(&image, f)) fail(name, image.message);
        image.format = PNG_FORMAT_RGB;
        p.width = image.width; p.height = image.height;
        p.rgb = malloc(PNG_IMAGE_SIZE(image));
        if (!p.rgb || !png_image_finish_read(&image, NULL, p.rgb, 0, NULL)) fail(name, image.message);
    }
    fclose(f);
    return p;
}
static unsigned at(const struct picture *p, size_t i) { return p->rgb[3 * i] << 16 | p->rgb[3 * i + 1] << 8 | p->rgb[3 * i + 2]; }

static int same(const char *first, const char *second)
{
    struct picture a = load(first), b = load(second);
    if (a.width != b.width || a.height != b.height) {
        printf("sizes differ: %ux%u and %ux%u\n", a.width, a.height, b.width, b.height);
        return 1;
    }
    size_t count = (size_t)a.width * a.height, different = 0, where = 0;
    for (size_t i = 0; i < count; i++)
        if (at(&a, i) != at(&b, i) && !different++) where = i;
    if (!different) return 0;
    printf("%zu of %zu pixels differ; the first at x %zu, y %zu of %ux%u: %06x and %06x\n", different, count, where % a.width,
           where / a.width, a.width, a.height, at(&a, where), at(&b, where));
    return 1;
}
static void size(const char *name)
{
    struct picture p = load(name);
    unsigned colours[1000], n = 0, sum = 2166136261u;
    for (size_t i = 0; i < (size_t)p.width * p.height; i++) {
        unsigned c = at(&p, i), k = 0;
        sum = (sum ^ c) * 16777619u;
        if (n == 1000 || (i && at(&p, i - 1) == c)) continue;
        while (k < n && colours[k] != c) k++;
        if (k == n) colours[n++] = c;
    }
    printf("%ux%u %u %08x\n", p.width, p.height, n, sum);
}
// The colours of a picture in the order in which they appear, and each pixel as a number of them; 0 if there are more than 256.
static unsigned palette_of(const struct picture *p, png_color colours[256], unsigned char *indices)
{
    unsigned known[256], n = 0;
    for (size_t i = 0; i < (size_t)p->width * p->height; i++) {
        unsigned c = at(p, i), k = 0;
        while (k < n && known[k] != c) k++;
        if (k == 256) return 0;
        if (k == n) {
            known[n] = c;
            colours[n++] = (png_color){ .red = c >> 16, .green = c >> 8 & 0xff, .blue = c & 0xff };
        }
        indices[i] = k;
    }
    return n;
}
static void small(const char *name, const char *to)
{
    struct picture p = load(name);
    png_color colours[256];
    unsigned char *indices = malloc((size_t)p.width * p.height);
    FILE *f = fopen(to, "wb");
    if (!indices || !f) fail(to, "cannot be written");
    unsigned count = palette_of(&p, colours, indices), depth = !count || count > 16 ? 8 : count > 4 ? 4 : count > 2 ? 2 : 1;
    png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, NULL, NULL, NULL);
    png_infop info = png ? png_create_info_struct(png) : NULL;
    if (!info || setjmp(png_jmpbuf(png))) fail(to, "cannot be written");
    png_init_io(png, f);
    png_set_compression_level(png, 9);
    png_set_compression_mem_level(png, 9);
    png_set_filter(png, 0, count ? PNG_FILTER_NONE : PNG_ALL_FILTERS);
    png_set_IHDR(png, info, p.width, p.height, depth, count ? PNG_COLOR_TYPE_PALETTE : PNG_COLOR_TYPE_RGB, PNG_INTERLACE_NONE,
                 PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
    if (count) png_set_PLTE(png, info, colours, count);
    png_write_info(png, info);
    if (depth < 8) png_set_packing(png);
    for (unsigned y = 0; y < p.height; y++)
        png_write_row(png, count ? indices + (size_t)y * p.width : p.rgb + (size_t)y * p.width * 3);
    png_write_end(png, NULL);
    if (fclose(f)) fail(to, "cannot be written");
}
int main(int argc, char **argv)
{
    if (argc == 4 && !strcmp(argv[1], "same")) return same(argv[2], argv[3]);
    if (argc == 3 && !strcmp(argv[1], "size")) { size(argv[2]); return 0; }
    if (argc == 5 && !strcmp(argv[1], "pixel")) {
        struct picture p = load(argv[2]);
        unsigned x = atoi(argv[3]), y = atoi(argv[4]);
        if (x >= p.width || y >= p.height) fail(argv[2], "has no such pixel");
        printf("%06x\n", at(&p, (size_t)y * p.width + x));
        return 0;
    }
    if (argc == 4 && !strcmp(argv[1], "png")) {
        struct picture p = load(argv[2]);
        png_image image = { .version = PNG_IMAGE_VERSION, .width = p.width, .height = p.height, .format = PNG_FORMAT_RGB,
                            .flags = PNG_IMAGE_FLAG_FAST };
        if (!png_image_write_to_file(&image, argv[3], 0, p.rgb, 0, NULL)) fail(argv[3], image.message);
        return 0;
    }
    if (argc == 4 && !strcmp(argv[1], "small")) { small(argv[2], argv[3]); return 0; }
    fprintf(stderr, "usage: picture same A B | size A | png A B.png | small A B.png | pixel A X Y\n");
    return 2;
}
