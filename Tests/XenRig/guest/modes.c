// modes.c: the guest program that walks through the modes of a standard VGA, for comparing two implementations picture by
// picture. In each step it draws something that depends on nothing but the step, says `MODE name ready` and waits (screen.h).
//
// The name says how the picture is to be taken:
//   cursor-…   the text cursor blinks: the picture is one that differs from the step before
//   look-…     depends on time, or is known to differ from QEMU's: kept for looking at, not compared
//   …-touched  little has changed since the step before: an update that redraws only what changed must get it right
// Lines `ok - what` and `not ok - what: got … wanted …` are checks of what can be read back. After the last step it says
// `MODE done`, and then draws a moving square in 640×480×32 for ever, saying `FRAME n` every 64th time.
//
// The standard modes are set by the BIOS; the rest by the registers themselves, as drivers and old programs do.
//
// CONFIG_SAMPLE leaves out steps that differ from one of the rest in depth or size alone: each way to set a mode, to write and to pan remains, and
// each depth.
#include "modes.h"

static u8 *const ram = (u8 *)RAM;

static int all(void) { return !(config & CONFIG_SAMPLE); }

void equal(const char *what, u32 got, u32 wanted)
{
    if (got == wanted) print("ok - %s\n", what);
    else print("not ok - %s: got %x wanted %x\n", what, got, wanted);
}

// ---------------------------------------------------------------- 4, 2 and 1 bit a pixel
static void pattern(u32 count, u32 seed)
{
    for (u32 i = 0; i < count; i++) ram[i] = i * seed + (i >> 5) * (seed >> 1) + (i >> 8);
}
// What can be read back in the planar modes, out of sight at 0xa000.
static void planar_reads(void)
{
    static const u8 planes[4] = { 0x0f, 0x33, 0x55, 0x00 };
    u32 a = WINDOW + 0xa000;
    graphics(1, 0); graphics(3, 0); graphics(5, 0); graphics(8, 0xff);
    for (u32 p = 0; p < 4; p++) { sequencer(2, 1 << p); mmio_write(a, 1, planes[p]); }
    for (u32 p = 0; p < 4; p++) { graphics(4, p); equal("read mode 0 reads the plane of GR4", mmio_read(a, 1), planes[p]); }
    graphics(5, 8);
    graphics(2, 7); graphics(7, 0xf); equal("read mode 1 finds colour 7", mmio_read(a, 1), 0x01);
    graphics(2, 1); graphics(7, 0x1); equal("read mode 1 cares for plane 0 alone", mmio_read(a, 1), 0x0f);
    graphics(2, 0); graphics(7, 0x0); equal("read mode 1 cares for nothing", mmio_read(a, 1), 0xff);
    graphics(5, 0); sequencer(2, 0xf);
    // Write mode 0 with rotation, a function and the bit mask, on what the latches have.
    static const u8 functions[4] = { 0x00, 0x08, 0x10, 0x18 };
    static const char *const names[4] = { "write mode 0 rotates", "write mode 0 with AND", "write mode 0 with OR", "write mode 0 with XOR" };
    for (u32 f = 0; f < 4; f++) {
        graphics(3, functions[f] | 3); graphics(8, 0xf0);
        mmio_read(a, 1); mmio_write(a + 16, 1, 0x9a);           // 0x9a rotated by 3 is 0x53
        graphics(4, 1);
        u32 old = planes[1], v = f == 0 ? 0x53 : f == 1 ? 0x53 & old : f == 2 ? 0x53 | old : 0x53 ^ old;
        equal(names[f], mmio_read(a + 16, 1), (v & 0xf0) | (old & 0x0f));
    }
    graphics(3, 0); graphics(8, 0xff); graphics(4, 2);
    graphics(0, 0x4); graphics(1, 0xc);                          // set/reset for planes 2 and 3 only
    mmio_write(a, 1, 0x66); equal("set/reset gives plane 2", mmio_read(a, 1), 0xff);
    graphics(4, 0); equal("and plane 0 has what was written", mmio_read(a, 1), 0x66);
    graphics(0, 0); graphics(1, 0); graphics(4, 0);
}
static void planar(u32 mode, u32 width, u32 height, const char *name)
{
    u32 pitch = width / 8, bar = height / 24;
    if (mode) set_mode(mode);
    sequencer(2, 0xf); graphics(3, 0); graphics(5, 0); graphics(8, 0xff); graphics(1, 0xf);
    for (u32 c = 0; c < 16; c++) { graphics(0, c); rep_stos(WINDOW + c * bar * pitch, 0, 1, bar * pitch, 0); }
    graphics(1, 0);
    // Each plane its own pattern.
    for (u32 p = 0; p < 4; p++) {
        sequencer(2, 1 << p);
        pattern(4 * bar * pitch, 0x35 + 0x22 * p);
        rep_movs(WINDOW + 16 * bar * pitch, RAM, 1, 4 * bar * pitch, 0);
    }
    sequencer(2, 0xf);
    // Write mode 2: a diagonal, pixel by pixel.
    graphics(5, 2);
    for (u32 i = 0; i < 200; i++) {
        u32 a = WINDOW + i * pitch + (i + 40) / 8;
        graphics(8, 0x80 >> ((i + 40) & 7)); mmio_read(a, 1); mmio_write(a, 1, i / 8);
    }
    // Write mode 3: the label, as GRUB and Windows write text.
    graphics(8, 0xff); graphics(5, 3); graphics(0, 0xe);
    for (u32 n = 0; name[n]; n++)
        for (u32 y = 0; y < 16; y++) {
            u32 a = WINDOW + (8 + y) * pitch + 10 + n;
            mmio_read(a, 1); mmio_write(a, 1, font[(u8)name[n] * 16 + y]);
        }
    // Functions on a piece of the pattern.
    graphics(5, 0);
    for (u32 f = 0; f < 4; f++) {
        graphics(3, f << 3 | f); graphics(8, 0x7e);
        for (u32 x = 0; x < 12; x++) for (u32 y = 0; y < 4; y++) {
            u32 a = WINDOW + (16 * bar + 4 + f * 6 + y) * pitch + 4 + x;
            mmio_read(a, 1); mmio_write(a, 1, 0x3c + x);
        }
    }
    // Write mode 1: the label and its surroundings again, at the bottom, through the latches.
    graphics(3, 0); graphics(8, 0xff); graphics(5, 1);
    rep_movs(WINDOW + 21 * bar * pitch, WINDOW + 8 * pitch, 1, 16 * pitch, 0);
    graphics(5, 0);
    ready(name);
}
static void packed(void)
{
    set_mode(4);                                                 // 320×200, 2 bits, even and odd lines apart
    pattern(16384, 0x1b); rep_movs(TEXT, RAM, 4, 4096, 0);
    ready("cga-320x200x2");
    set_mode(6);                                                 // 640×200, 1 bit
    pattern(16384, 0x57); rep_movs(TEXT, RAM, 4, 4096, 0);
    ready("cga-640x200x1");
    set_mode(0x11);                                              // 640×480, 1 bit
    pattern(38400, 0x2f); sequencer(2, 0xf); rep_movs(WINDOW, RAM, 4, 9600, 0);
    ready("planar-11-640x480x1");
}
static void planar_modes(void)
{
    planar(0x0d, 320, 200, "planar-0d-320x200");
    if (all()) planar(0x10, 640, 350, "planar-10-640x350");
    planar(0x12, 640, 480, "planar-12-640x480");
    planar_reads();
    graphics(5, 2); sequencer(2, 0xf);
    graphics(8, 0x10);
    for (u32 i = 0; i < 40; i++) { u32 a = WINDOW + (200 + i) * 80 + 60; mmio_read(a, 1); mmio_write(a, 1, 15); }
    graphics(5, 0); graphics(8, 0xff);
    ready("planar-12-touched");
    for (u32 i = 0; i < 8; i++) attribute(i, 20 + i);
    ready("planar-12-palette-touched");
    // QEMU does not see that AR12 alone has changed, so the start does as well.
    attribute(0x12, 5); start_address(80); ready("planar-12-two-planes");
    attribute(0x12, 15); start_address(80 * 40); ready("planar-12-start");
    crtc(0x13, 44); start_address(2); ready("planar-12-wide");
    crtc(0x13, 40); start_address(80 * 100); crtc(7, crtc_read(7) & ~0x10); crtc(9, crtc_read(9) & ~0x40); crtc(0x18, 240);
    ready("planar-12-split");
    packed();
}

// ---------------------------------------------------------------- 8 bits a pixel, the VGA's way
static void chain4(void)
{
    struct picture p = { .width = 320, .height = 200, .bits = 8, .pitch = 320, .label = "chain4-13" };
    set_mode(0x13);
    palette(6);
    for (u32 y = 0; y < 200; y++) card_line(&p, y, ram + 320 * y);
    rep_movs(WINDOW, RAM, 4, 16000, 0);
    ready("chain4-13");
    equal("chain-4 reads a byte back", mmio_read(WINDOW + 320 * 100 + 57, 1), ram[320 * 100 + 57]);
    equal("chain-4 reads four bytes back", mmio_read(WINDOW + 320 * 100 + 60, 4), *(u32 *)(ram + 320 * 100 + 60));
    mmio_write(WINDOW + 320 * 150 + 100, 4, 0xffffffff); mmio_write(WINDOW + 320 * 151 + 101, 2, 0x1234); mmio_write(WINDOW + 63999, 1, 0);
    static const u8 some[6] = { 63, 63, 0, 0, 63, 63 };
    dac(100, 2, some);
    ready("chain4-13-touched");
    sequencer(2, 5); rep_stos(WINDOW + 320 * 60, 0x20, 1, 320 * 8, 0); sequencer(2, 0xf);
    ready("chain4-13-plane-mask");
    crtc(9, crtc_read(9) & ~0x40); crtc(7, crtc_read(7) | 0x10); crtc(0x18, 299 - 256); start_address(20 * 80);
    ready("chain4-13-split");
}
static void mode_x(void)
{
    static const struct { u8 index, value; } registers[] = {
        { 6, 0x0d }, { 7, 0x3e }, { 9, 0x41 }, { 0x10, 0xea }, { 0x11, 0xac }, { 0x12, 0xdf }, { 0x14, 0 }, { 0x15, 0xe7 }, { 0x16, 6 },
        { 0x17, 0xe3 },
    };
    struct picture p = { .width = 320, .height = 240, .bits = 8, .pitch = 320, .label = "modex-320x240" };
    set_mode(0x13);
    palette(6);
    sequencer(4, 6);                                             // not chained
    sequencer(0, 1); out(0x3c2, 1, 0xe3); sequencer(0, 3);       // 480 lines
    crtc(0x11, crtc_read(0x11) & 0x7f);                          // the protected ones too
    for (u32 i = 0; i < sizeof registers / sizeof *registers; i++) crtc(registers[i].index, registers[i].value);
    for (u32 page = 0; page < 2; page++) {
        p.seed = page * 40;
        for (u32 plane = 0; plane < 4; plane++) {
            static u8 line[320];
            for (u32 y = 0; y < 240; y++) {
                card_line(&p, y, line);
                for (u32 x = 0; x < 80; x++) ram[80 * y + x] = line[4 * x + plane];
            }
            sequencer(2, 1 << plane);
            rep_movs(WINDOW + page * 19200, RAM, 4, 4800, 0);
        }
        p.label = "modex page 2";
    }
    ready("modex-320x240");
    start_address(19200); ready("modex-page-2");
    sequencer(2, 0xf); rep_stos(WINDOW + 19200 + 80 * 100 + 20, 255, 1, 30, 0); ready("modex-page-2-touched");
    start_address(80 * 33 + 5); ready("modex-pan");
    crtc(0x13, 80); start_address(0); ready("modex-wide");
    crtc(0x13, 40);
    // Latched copies move four pixels at once.
    graphics(8, 0); rep_movs(WINDOW + 80 * 200, WINDOW + 80 * 20, 1, 400, 0); graphics(8, 0xff);
    ready("modex-latched-copy");
}

// ---------------------------------------------------------------- VBE by the BIOS, DISPI by its registers
static void vbe(u32 mode, u32 width, u32 height, u32 bits, const char *name)
{
    struct picture p = { .width = width, .height = height, .bits = bits, .pitch = width * ((bits + 7) / 8), .label = name };
    equal("the BIOS sets the VBE mode", video(0x4f02, 0x4000 | mode, 0, 0), 0x4f);
    if (bits == 8) palette(6);
    draw(&p);
    ready(name);
}
static void direct(u32 width, u32 height, u32 bits, u32 enable, const char *name)
{
    struct picture p = { .width = width, .height = height, .bits = bits, .pitch = width * ((bits + 7) / 8), .label = name,
                         .banked = !(enable & DISPI_LINEAR) };
    dispi_mode(width, height, bits, enable | DISPI_ON);
    equal("DISPI has the width", dispi_read(DISPI_XRES), width);
    if (bits == 8) palette(enable & DISPI_DAC8 ? 8 : 6);
    draw(&p);
    ready(name);
}
// A picture larger than the screen, of which a part is seen.
static void panning(u32 bits, const char *name, const char *moved)
{
    u32 bytes = (bits + 7) / 8;
    struct picture p = { .width = 800, .height = 700, .bits = bits, .pitch = 800 * bytes, .label = name };
    dispi_mode(640, 480, bits, DISPI_ON | DISPI_LINEAR);
    dispi(DISPI_VIRTUAL_WIDTH, 800);
    if (bits == 8) palette(6);
    draw(&p);
    dispi(DISPI_X, 48); dispi(DISPI_Y, 77);
    ready(name);
    dispi(DISPI_X, 160); dispi(DISPI_Y, 220);
    fill(&p, 400, 400, 40, 40, colour(bits, 255, 255, 255));
    ready(moved);
}
static void dispi_modes(void)
{
    for (u32 id = 0xb0c0; id <= 0xb0c5; id++) { dispi(DISPI_ID, id); equal("a DISPI ID reads back", dispi_read(DISPI_ID), id); }
    print("# DISPI memory %u KiB\n", dispi_read(DISPI_MEMORY) * 64);

    vbe(0x101, 640, 480, 8, "vbe-101-640x480x8");
    static const u8 some[6] = { 0, 63, 0, 63, 32, 0 };
    dac(80, 2, some);
    *(volatile u32 *)(frame_buffer + 640 * 479 + 636) = 0; *(volatile u8 *)(frame_buffer + 640 * 240 + 1) = 255;
    ready("vbe-101-touched");
    vbe(0x10d, 320, 200, 15, "vbe-10d-320x200x15");
    if (all()) vbe(0x110, 640, 480, 15, "vbe-110-640x480x15");
    if (all()) vbe(0x111, 640, 480, 16, "vbe-111-640x480x16");
    vbe(0x114, 800, 600, 16, "vbe-114-800x600x16");
    if (all()) vbe(0x112, 640, 480, 24, "vbe-112-640x480x24");
    vbe(0x118, 1024, 768, 24, "vbe-118-1024x768x24");
    if (all()) vbe(0x142, 640, 480, 32, "vbe-142-640x480x32");
    vbe(0x144, 1024, 768, 32, "vbe-144-1024x768x32");
    // One pixel in each corner, and one line: what a dirty page must bring, and no more.
    struct picture p = { .width = 1024, .height = 768, .bits = 32, .pitch = 4096 };
    fill(&p, 0, 0, 1, 1, 0xff0000); fill(&p, 1023, 0, 1, 1, 0x00ff00); fill(&p, 0, 767, 1, 1, 0x0000ff); fill(&p, 1023, 767, 1, 1, 0xff00ff);
    fill(&p, 100, 384, 700, 1, 0x123456);
    ready("vbe-144-touched");

    // 16 colours in planes, by the VBE's mode.
    equal("the BIOS sets VBE mode 102", video(0x4f02, 0x102, 0, 0), 0x4f);
    // QEMU 7.2 writes to it as if it were chained and all planes on: DISPI has registers SR2 and SR4 of its own there, in which a mode
    // of 8 or more bits sets what no write takes back. So it is not compared.
    if (all()) planar(0, 800, 600, "look-vbe-102-800x600x4");

    direct(320, 200, 8, DISPI_LINEAR, "dispi-320x200x8");
    direct(1024, 768, 8, DISPI_LINEAR | DISPI_DAC8, "dispi-1024x768x8-dac8");
    if (all()) direct(1280, 1024, 8, DISPI_LINEAR, "dispi-1280x1024x8");
    direct(800, 600, 15, DISPI_LINEAR, "dispi-800x600x15");
    direct(1152, 864, 16, DISPI_LINEAR, "dispi-1152x864x16");
    direct(1368, 768, 24, DISPI_LINEAR, "dispi-1368x768x24");
    if (all()) direct(1280, 1024, 32, DISPI_LINEAR, "dispi-1280x1024x32");
    direct(1920, 1080, 32, DISPI_LINEAR, "dispi-1920x1080x32");
    panning(8, "pan-8", "pan-8-moved");
    if (all()) panning(16, "pan-16", "pan-16-moved");
    panning(24, "pan-24", "pan-24-moved");
    if (all()) panning(32, "pan-32", "pan-32-moved");

    // Double buffering: the second page is drawn while the first is seen, then shown, and the other way round.
    struct picture page = { .width = 800, .height = 600, .bits = 16, .pitch = 1600, .label = "page 1" };
    dispi_mode(800, 600, 16, DISPI_ON | DISPI_LINEAR);
    draw(&page);
    page.at = 1600 * 600; page.seed = 77; page.label = "page 2"; draw(&page);
    ready("double-page-1");
    dispi(DISPI_Y, 600); ready("double-page-2");
    page.at = 0; fill(&page, 10, 300, 600, 60, 0xf800);
    dispi(DISPI_Y, 0); ready("double-page-1-again");

    // Through the 64 KiB window.
    direct(640, 480, 8, 0, "bank-640x480x8");
    if (all()) direct(640, 480, 16, 0, "bank-640x480x16");
    if (all()) direct(800, 600, 32, 0, "bank-800x600x32");
    direct(640, 480, 24, 0, "bank-640x480x24");

    // Switched off and on again without being cleared; then cleared.
    dispi(DISPI_ENABLE, 0);
    dispi_mode(640, 480, 24, DISPI_ON | DISPI_LINEAR | DISPI_KEEP); ready("dispi-kept");
    dispi_mode(640, 480, 32, DISPI_ON | DISPI_LINEAR); ready("dispi-cleared");
}

// ---------------------------------------------------------------- the registers in BAR2, as bochs-drm uses them
static void bar2(void)
{
    if (!register_bar) { print("not ok - BAR2 is there\n"); return; }
    u32 r = register_bar;
    static const u16 mode[][2] = { { DISPI_ENABLE, 0 }, { DISPI_BPP, 32 }, { DISPI_XRES, 800 }, { DISPI_YRES, 600 }, { DISPI_BANK, 0 },
        { DISPI_VIRTUAL_WIDTH, 800 }, { DISPI_VIRTUAL_HEIGHT, 600 }, { DISPI_X, 0 }, { DISPI_Y, 0 }, { DISPI_ENABLE, DISPI_ON | DISPI_LINEAR } };
    u32 id = mmio_read(r + 0x500, 2);
    equal("BAR2 has the DISPI ID", id >= 0xb0c0 && id <= 0xb0c5, 1);
    print("# BAR2 begins with %8x %8x: an EDID, or not, as QEMU's on Xen\n", (u32)mmio_read(r, 4), (u32)mmio_read(r + 4, 4));
    equal("BAR2 says how large its extension is", mmio_read(r + 0x600, 4), 8);
    equal("the byte order is little", mmio_read(r + 0x604, 4), 0x1e1e1e1e);
    mmio_write(r + 0x402, 1, 0x67);
    mmio_read(r + 0x41a, 1); mmio_write(r + 0x400, 1, 0x20);      // unblanked, as bochs-drm does it
    for (u32 i = 0; i < sizeof mode / sizeof *mode; i++) mmio_write(r + 0x500 + 2 * mode[i][0], 2, mode[i][1]);
    struct picture p = { .width = 800, .height = 600, .bits = 32, .pitch = 3200, .label = "bar2-800x600x32" };
    draw(&p);
    ready("bar2-800x600x32");
    mmio_write(r + 0x604, 4, 0xbebebebe);
    equal("the byte order is big", mmio_read(r + 0x604, 4), 0xbebebebe);
    ready("bar2-big-endian");
    mmio_write(r + 0x604, 4, 0x1e1e1e1e);
    // bochs-drm writes these at every flush, mostly with what they have.
    for (u32 i = 0; i < 4; i++) { mmio_write(r + 0x50c, 2, 800); mmio_write(r + 0x510, 2, 0); mmio_write(r + 0x512, 2, 0); }
    ready("bar2-little-endian");
}

// ---------------------------------------------------------------- after the last step
static void moving(void)
{
    struct picture p = { .width = 640, .height = 480, .bits = 32, .pitch = 2560, .label = "moving" };
    u32 x = 0, y = 100, dx = 4;
    dispi_mode(640, 480, 32, DISPI_ON | DISPI_LINEAR);
    draw(&p);
    timer(20);
    for (u32 frame = 1;; frame++) {
        fill(&p, x, y, 32, 32, 0);
        x += dx; if (x == 640 - 32 || x == 0) dx = -dx;
        fill(&p, x, y, 32, 32, 0xffff00);
        if (frame % 64 == 0) print("FRAME %u\n", frame);
        doze();
    }
}

void vcpu_main(unsigned vcpu)
{
    if (vcpu) for (;;) doze();
    config |= CONFIG_SERIAL;
    print("MODE begin\n");
    find_display();
    read_font();
    text_steps();
    planar_modes();
    chain4();
    mode_x();
    dispi_modes();
    bar2();
    text_mode(3);
    text_picture(TEXT, 80, 25, "text-at-last");
    ready("text-at-last");
    do print("MODE done\n"); while (!wait_for_go(250));
    moving();
}
