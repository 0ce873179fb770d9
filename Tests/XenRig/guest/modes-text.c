// modes-text.c: the text modes' part of the guest program `modes`.
#include "modes.h"

static u16 *const cells = (u16 *)RAM;
static void text_at(u32 columns, u32 x, u32 y, u32 attr, const char *s)
{
    for (u16 *c = cells + y * columns + x; *s; s++) *c++ = attr << 8 | (u8)*s;
}
// Everything that a cell can be: all characters, all attributes, the line drawing that needs a ninth column.
void text_picture(u32 base, u32 columns, u32 rows, const char *label)
{
    for (u32 i = 0; i < columns * rows; i++) cells[i] = 0x0720;
    text_at(columns, 0, 0, 0x1f, label);
    for (u32 i = 0; i < 256; i++) cells[(2 + i / 32) * columns + 2 + i % 32] = 0x0700 | i;
    if (columns >= 80)
        for (u32 i = 0; i < 256; i++) {
            cells[(2 + i / 16) * columns + 40 + 2 * (i % 16)] = i << 8 | ('A' + i % 26);
            cells[(2 + i / 16) * columns + 41 + 2 * (i % 16)] = i << 8 | 0xb1;
        }
    for (u32 i = 0; i < 32; i++) cells[11 * columns + 2 + i] = 0x0ac0 | i;      // 0xc0 to 0xdf
    text_at(columns, 2, 13, 0x0b, "\xc9\xcd\xcd\xcb\xcd\xcd\xbb"); text_at(columns, 2, 14, 0x0b, "\xba  \xba  \xba");
    text_at(columns, 2, 15, 0x0b, "\xc8\xcd\xcd\xca\xcd\xcd\xbc"); text_at(columns, 12, 14, 0xe4, "\xdb\xdb\xdc\xdf\xdd\xde\xb0\xb1\xb2");
    for (u32 y = 18; y < rows; y++) {
        static char digits[] = "row 00 ";
        digits[4] = '0' + y / 10; digits[5] = '0' + y % 10;
        text_at(columns, 0, y, y, digits);
        for (u32 x = 8; x < columns; x++) cells[y * columns + x] = (y * 16 + x) << 8 | (33 + (x * 3 + y * 5) % 94);
    }
    rep_movs(base, RAM, 4, columns * rows / 2, 0);
}
void text_mode(u32 mode) { set_mode(mode); video(0x1003, 0, 0, 0); cursor(0x20, 0, 0); }     // no blink, no cursor

// Writes one glyph of 16 lines into a font in plane 2, as programs do that cannot ask the BIOS.
static void glyph(u32 font_offset, u32 character, const u8 *lines)
{
    sequencer(2, 4); sequencer(4, 7); graphics(4, 2); graphics(5, 0); graphics(6, 4);
    rep_movs(WINDOW + font_offset + character * 32, (u32)lines, 1, 16, 0);
    sequencer(2, 3); sequencer(4, 3); graphics(4, 0); graphics(5, 0x10); graphics(6, 0x0e);
}
static void load_font(u32 block, const u8 *glyphs)      // by the BIOS; it needs it below 1 MiB, at a segment's start
{
    struct bios_registers r = { .eax = 0x1100, .ebx = 0x1000 | block, .ecx = 256, .es = 0x5000 };
    for (u32 i = 0; i < 4096; i++) ((u8 *)0x50000)[i] = glyphs[i];
    bios(0x10, &r);
}

void text_steps(void)
{
    static u8 other[4096];
    text_mode(3);
    text_picture(TEXT, 80, 25, "text-80x25");
    ready("text-80x25");
    mmio_write(TEXT + 2 * (12 * 80 + 40), 2, 0x4e21); mmio_write(TEXT + 1, 1, 0x2f); mmio_write(TEXT + 3998, 1, '#');
    mmio_write(TEXT + 2 * (20 * 80 + 10), 4, 0x1e411e42);
    ready("text-80x25-touched");

    cursor(14, 15, 20 * 80 + 30); ready("cursor-line");
    cursor(0, 15, 24 * 80 + 79); ready("cursor-block-corner");
    cursor(4, 9, 3 * 80 + 70); ready("cursor-middle");
    cursor(9, 4, 3 * 80 + 70); ready("text-cursor-reversed");
    cursor(0x20, 15, 0); ready("text-cursor-off");

    // Another font: every glyph's left and right exchanged, and a line under it.
    for (u32 i = 0; i < 4096; i++) {
        other[i] = 0;
        for (u32 b = 0; b < 8; b++) if (font[i] >> b & 1) other[i] |= 0x80 >> b;
        if (i % 16 == 15) other[i] = 0xaa;
    }
    load_font(1, other);
    video(0x1103, 0x04, 0, 0);          // attribute bit 3 set: map 1, clear: map 0
    equal("SR3 selects maps 1 and 0", sequencer_read(3), 4);
    ready("text-two-fonts");
    static const u8 box[16] = { 0xff, 0x81, 0xbd, 0xa5, 0xa5, 0xa5, 0xa5, 0xa5, 0xa5, 0xa5, 0xa5, 0xa5, 0xa5, 0xbd, 0x81, 0xff };
    glyph(0x4000, 'A', box); glyph(0x0000, 'r', box);
    ready("text-two-fonts-touched");
    load_font(4, other);
    video(0x1103, 0x10, 0, 0);          // attribute bit 3 set: map 0, clear: map 4
    ready("text-font-map-4");

    text_mode(3);                       // loads the font again
    text_picture(TEXT, 80, 25, "text-palette");
    for (u32 i = 0; i < 16; i++) attribute(i, 15 - i);
    ready("text-palette-attribute");
    static const u8 some[12] = { 63, 0, 0, 0, 63, 0, 0, 0, 63, 40, 20, 10 };
    dac(4, 4, some);
    ready("text-palette-dac-touched");
    static u8 others[48];               // the DAC's entries 0x40 to 0x4f, of which AR14 then chooses
    for (u32 i = 0; i < 48; i++) others[i] = i * 11 & 63;
    dac(0x40, 16, others);
    attribute(0x14, 4); attribute(0x10, attribute_read(0x10) | 0x80);
    ready("text-palette-colour-select");

    text_mode(3);
    text_picture(TEXT, 80, 25, "text-8-dots");
    sequencer(1, sequencer_read(1) | 1);
    ready("text-8-dots");

    // Panning: a taller and then a wider text than the screen.
    text_mode(3);
    text_picture(TEXT, 80, 60, "text-pan");
    start_address(5 * 80); ready("text-pan-rows");
    start_address(30 * 80 + 3); ready("text-pan-odd");
    crtc(0x13, 60); start_address(0); ready("text-wide");
    crtc(0x13, 40); start_address(80); ready("text-scrolled");
    video(0x1003, 1, 0, 0); cursor(14, 15, 3 * 80); ready("look-text-blink");

    text_mode(3);
    text_picture(TEXT, 80, 25, "text-blank");
    in(0x3da, 1); out(0x3c0, 1, 0); ready("text-blank");
    in(0x3da, 1); out(0x3c0, 1, 0x20); ready("text-unblanked");

    text_mode(3);
    video(0x1112, 0, 0, 0);             // the 8×8 font
    cursor(0x20, 0, 0);
    text_picture(TEXT, 80, 50, "text-80x50");
    ready("text-80x50");
    cursor(0, 7, 40 * 80 + 40); ready("cursor-80x50");

    text_mode(1);
    text_picture(TEXT, 40, 25, "text-40x25");
    ready("text-40x25");

    // Monochrome: the CRTC is at 3b4. SeaVGABIOS writes its registers there before it says so in 3c2, so here they come again; and
    // it would be as wrong on the way back, so the colour address is set first.
    static const u8 mono[] = { 0x5f, 0x4f, 0x50, 0x82, 0x55, 0x81, 0xbf, 0x1f, 0x00, 0x4f, 0x20, 0x0e, 0x00, 0x00, 0x00, 0x00, 0x9c, 0x8e,
        0x8f, 0x28, 0x0f, 0x96, 0xb9, 0xa3, 0xff };
    set_mode(7);
    out(0x3b4, 2, 0x0011);
    for (u32 i = 0; i < sizeof mono; i++) out(0x3b4, 2, i | mono[i] << 8);
    in(0x3ba, 1); out(0x3c0, 1, 0x20);
    for (u32 i = 0; i < 2000; i++) cells[i] = (i / 80 % 5 == 0 ? 0x07 : i / 80 % 5 == 1 ? 0x0f : i / 80 % 5 == 2 ? 0x70 : 0) << 8 | (i & 255);
    rep_movs(MONO, RAM, 4, 1000, 0);
    ready("text-mono");
    out(0x3c2, 1, 0x67); in(0x3da, 1);
}
