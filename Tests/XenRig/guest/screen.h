// screen.h: what the guest programs that show something have beside guest.h: the BIOS, the VGA's registers, DISPI, the frame
// buffer, pictures to draw, and the wait for dom0. One vCPU only.
#pragma once
#include "guest.h"

// --- the BIOS, through real mode (bios.S). `es` is a segment; flags are not passed.
struct bios_registers { u32 eax, ebx, ecx, edx, esi, edi, ebp, es, reserved; };
void bios(u32 interrupt, struct bios_registers *r);
u32 video(u32 ax, u32 bx, u32 cx, u32 dx);          // int 10h; returns ax
void set_mode(u32 mode);                            // int 10h, AH = 0

// --- the VGA's registers
static inline void sequencer(u32 index, u32 v) { out(0x3c4, 2, index | v << 8); }
static inline void graphics(u32 index, u32 v) { out(0x3ce, 2, index | v << 8); }
static inline void crtc(u32 index, u32 v) { out(0x3d4, 2, index | v << 8); }
static inline u32 crtc_read(u32 index) { out(0x3d4, 1, index); return in(0x3d5, 1); }
static inline u32 sequencer_read(u32 index) { out(0x3c4, 1, index); return in(0x3c5, 1); }
void attribute(u32 index, u32 v);                   // and leaves the picture switched on
u32 attribute_read(u32 index);
void dac(u32 first, u32 count, const u8 *rgb);      // 3 bytes an entry, as the DAC takes them: 6 or 8 bits
void start_address(u32 a);                          // CR0C, CR0D
void cursor(u32 first, u32 last, u32 address);      // the text cursor's lines and place; first ≥ 0x20 hides it

// --- DISPI
enum { DISPI_ID, DISPI_XRES, DISPI_YRES, DISPI_BPP, DISPI_ENABLE, DISPI_BANK, DISPI_VIRTUAL_WIDTH, DISPI_VIRTUAL_HEIGHT,
       DISPI_X, DISPI_Y, DISPI_MEMORY };
enum { DISPI_ON = 1, DISPI_CAPABILITIES = 2, DISPI_DAC8 = 0x20, DISPI_LINEAR = 0x40, DISPI_KEEP = 0x80 };
static inline void dispi(u32 index, u32 v) { out(0x1ce, 2, index); out(0x1cf, 2, v); }
static inline u32 dispi_read(u32 index) { out(0x1ce, 2, index); return in(0x1cf, 2); }
void dispi_mode(u32 width, u32 height, u32 bits, u32 enable);

// --- the PCI device 1234:1111
extern u32 frame_buffer, register_bar;              // BAR0 and BAR2, 0 if there is none
void find_display(void);

// --- pictures in the packed-pixel modes: 8 (indexed), 15, 16, 24, 32 bits
struct picture { u32 width, height, bits, pitch; u32 seed; const char *label; int banked; u32 at; };
void palette(u32 bits);                             // the 256 colours that the 8-bit pictures use; bits of the DAC
u32 colour(u32 bits, u32 red, u32 green, u32 blue); // a pixel of that depth; 8 bits: an index made of them
void draw(const struct picture *p);                 // at byte `at` of video memory, linear or through the bank window
void fill(const struct picture *p, u32 x, u32 y, u32 width, u32 height, u32 pixel);
// Bytes of one line of the test card into `line`.
void card_line(const struct picture *p, u32 y, u8 *line);
extern u8 font[4096];                               // the BIOS's 8×16 font, after read_font()
void read_font(void);

// --- dom0. wait_for_go() waits until a byte comes from the first serial port, or somebody presses the space bar, and returns 1;
// or, if `limit` is not 0, until that many ticks of 20 ms (on Xen) have passed, and returns 0. ready() says `MODE name ready` on
// all ports that print() knows, every 5 seconds, until it is told to go on.
int wait_for_go(u32 limit);
void ready(const char *name);
u64 tsc(void);
