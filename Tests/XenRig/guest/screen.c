// screen.c: see screen.h.
#include "screen.h"

u32 frame_buffer, register_bar;
u8 font[4096];
static u8 line[8192 * 4];

void *memcpy(void *p, const void *q, unsigned n);

u64 tsc(void) { u32 low, high; asm volatile("rdtsc" : "=a"(low), "=d"(high) :: "memory"); return (u64)high << 32 | low; }

// ---------------------------------------------------------------- the BIOS
u32 video(u32 ax, u32 bx, u32 cx, u32 dx)
{
    struct bios_registers r = { .eax = ax, .ebx = bx, .ecx = cx, .edx = dx };
    bios(0x10, &r);
    return r.eax & 0xffff;
}
void set_mode(u32 mode) { video(mode, 0, 0, 0); }
void read_font(void)
{
    struct bios_registers r = { .eax = 0x1130, .ebx = 0x0600 };
    bios(0x10, &r);
    memcpy(font, (const void *)((r.es << 4) + (r.ebp & 0xffff)), sizeof font);
}

// ---------------------------------------------------------------- registers
void attribute(u32 index, u32 v)
{
    in(0x3da, 1);
    out(0x3c0, 1, index); out(0x3c0, 1, v);
    out(0x3c0, 1, 0x20);
}
u32 attribute_read(u32 index)
{
    in(0x3da, 1);
    out(0x3c0, 1, index | 0x20);
    u32 v = in(0x3c1, 1);
    in(0x3da, 1);
    return v;
}
void dac(u32 first, u32 count, const u8 *rgb)
{
    out(0x3c8, 1, first);
    rep_outs(0x3c9, (u32)rgb, 1, 3 * count, 0);
}
void start_address(u32 a) { crtc(0x0c, a >> 8 & 0xff); crtc(0x0d, a & 0xff); }
void cursor(u32 first, u32 last, u32 address)
{
    crtc(0x0a, first); crtc(0x0b, last);
    crtc(0x0e, address >> 8); crtc(0x0f, address & 0xff);
}
void dispi_mode(u32 width, u32 height, u32 bits, u32 enable)
{
    dispi(DISPI_ENABLE, 0);
    dispi(DISPI_XRES, width); dispi(DISPI_YRES, height); dispi(DISPI_BPP, bits);
    dispi(DISPI_ENABLE, enable);
}
void find_display(void)
{
    for (u32 d = 0; d < 32; d++)
        if (pci_read(d, 0, 0, 4) == 0x11111234) {
            frame_buffer = pci_read(d, 0, 0x10, 4) & ~15u;
            register_bar = pci_read(d, 0, 0x18, 4) & ~15u;
            print("# display at slot %u: BAR0 %8x BAR2 %8x revision %x class %x command %x\n", d, frame_buffer, register_bar,
                  pci_read(d, 0, 8, 1), pci_read(d, 0, 8, 4) >> 8, pci_read(d, 0, 4, 2));
        }
}

// ---------------------------------------------------------------- pictures
void palette(u32 bits)
{
    u8 rgb[768];
    for (u32 i = 0; i < 256; i++) {
        u32 red = i, green = i * 7 & 255, blue = 255 - i;
        if (i == 255) green = blue = 255;
        if (i == 0) red = blue = 0;
        rgb[3 * i] = red >> (8 - bits); rgb[3 * i + 1] = green >> (8 - bits); rgb[3 * i + 2] = blue >> (8 - bits);
    }
    dac(0, 256, rgb);
}
u32 colour(u32 bits, u32 red, u32 green, u32 blue)
{
    switch (bits) {
    case 15: return (red >> 3) << 10 | (green >> 3) << 5 | blue >> 3;
    case 16: return (red >> 3) << 11 | (green >> 2) << 5 | blue >> 3;
    case 24: case 32: return red << 16 | green << 8 | blue;
    default: return red == 255 && green == 255 && blue == 255 ? 255 : red == 0 && green == 0 && blue == 0 ? 0 : (red + 2 * green + blue) & 255;
    }
}
static void store(u8 *to, u32 bits, u32 pixel)
{
    switch (bits) {
    case 8: *to = pixel; break;
    case 15: case 16: *(u16 *)to = pixel; break;
    case 24: to[0] = pixel; to[1] = pixel >> 8; to[2] = pixel >> 16; break;
    default: *(u32 *)to = pixel;
    }
}
// The test card: ramps of all three colours, a white frame one pixel wide, a diagonal, and the label at its top left.
void card_line(const struct picture *p, u32 y, u8 *to)
{
    u32 step = (p->bits + 7) / 8, length = 0;
    while (p->label && p->label[length]) length++;
    for (u32 x = 0; x < p->width; x++, to += step) {
        u32 red = (x + p->seed) & 255, green = (y + 3 * p->seed) & 255, blue = (x >> 8) * 64 + (y >> 8) * 32 + ((x ^ y) & 31);
        if (x == 0 || y == 0 || x == p->width - 1 || y == p->height - 1 || x == y) red = green = blue = 255;
        if (y >= 16 && y < 32 && x >= 16 && x < 16 + 8 * length) {
            u32 bits = font[(u8)p->label[(x - 16) / 8] * 16 + y - 16];
            red = green = blue = bits >> (7 - (x & 7)) & 1 ? 255 : 0;
        }
        store(to, p->bits, colour(p->bits, red, green, blue & 255));
    }
}
static void store_bytes(const struct picture *p, u32 offset, const u8 *from, u32 count)
{
    if (!p->banked) { rep_movs(frame_buffer + offset, (u32)from, 1, count, 0); return; }
    while (count) {
        u32 part = 65536 - (offset & 65535);
        if (part > count) part = count;
        unsigned size = (offset | part) & 3 ? 1 : 4;
        dispi(DISPI_BANK, offset >> 16);
        rep_movs(0xa0000 + (offset & 65535), (u32)from, size, part / size, 0);
        offset += part; from += part; count -= part;
    }
}
void draw(const struct picture *p)
{
    for (u32 y = 0; y < p->height; y++) {
        card_line(p, y, line);
        store_bytes(p, p->at + y * p->pitch, line, p->width * ((p->bits + 7) / 8));
    }
}
void fill(const struct picture *p, u32 x, u32 y, u32 width, u32 height, u32 pixel)
{
    u32 step = (p->bits + 7) / 8;
    for (u32 i = 0; i < width; i++) store(line + i * step, p->bits, pixel);
    for (u32 i = 0; i < height; i++) store_bytes(p, p->at + (y + i) * p->pitch + x * step, line, width * step);
}

// ---------------------------------------------------------------- dom0
int wait_for_go(u32 limit)
{
    int serial = in(0x3fd, 1) != 0xff, told = 0;
    timer(20);
    for (u32 n = 0; !told && (!limit || n < limit); n++) {
        if (serial && in(0x3fd, 1) & 1) { in(0x3f8, 1); told = 1; break; }
        u32 status = in(0x64, 1);
        // With the PICs masked nobody else takes what the keyboard says. 0x39: the space bar goes down.
        if (status != 0xff && status & 1 && in(0x60, 1) == 0x39 && !(status & 0x20)) told = 1;
        else doze();
    }
    timer(0);
    return told;
}
void ready(const char *name)
{
    do print("MODE %s ready\n", name);      // again and again: whoever listens may have come late
    while (!wait_for_go(250));
}
