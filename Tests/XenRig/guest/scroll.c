// scroll.c: the guest program of the display's benchmark (Tests/XenRig/bench/display.sh): times what people wait for, and prints
// `TIMING name round units`, units of 1024 cycles of the TSC; then `TIMING done`.
//   scroll   the BIOS scrolls the text screen by a line (int 10h, AH=06)      clear  the BIOS clears it
//   print    the BIOS prints 80 characters (AH=0e)                             rep    one rep stosl over the 4000 bytes
//   fill-NAME  rep stosl over all of a 1024×768×32 screen, without a pause, in three phases: quiet, viewer, quiet-again. Before each
//            it says `MODE NAME ready` and waits to be told to go on (screen.h), so that dom0 can let a viewer come and go.
#include "screen.h"

enum { ROUNDS = 9, FILLS = 256, FILL_ROUNDS = 15, WIDTH = 1024, HEIGHT = 768 };

static void timing(const char *name, u32 round, u64 cycles)
{
    if (round) print("TIMING %s %u %u\n", name, round, (u32)(cycles >> 10));
}
static void text_timings(void)
{
    set_mode(3);
    for (u32 i = 0; i < 2000; i++) mmio_write(0xb8000 + 2 * i, 2, (0x10 + i % 96) << 8 | (33 + i % 90));
    for (u32 round = 0; round <= ROUNDS; round++) {         // round 0 warms everything up
        u64 t = tsc();
        video(0x0601, 0x0700, 0, 24 << 8 | 79);
        timing("scroll", round, tsc() - t);
        video(0x0200, 0, 0, 5 << 8);
        t = tsc();
        for (u32 i = 0; i < 80; i++) video(0x0e00 | ('a' + i % 26), 7, 0, 0);
        timing("print", round, tsc() - t);
        t = tsc();
        rep_stos(0xb8000, 0x07200720, 4, 1000, 0);
        timing("rep", round, tsc() - t);
        t = tsc();
        video(0x0600, 0x0700, 0, 24 << 8 | 79);
        timing("clear", round, tsc() - t);
    }
}
static void fills(const char *phase, const char *name)
{
    ready(phase);
    for (u32 round = 0; round <= FILL_ROUNDS; round++) {
        u64 t = tsc();
        for (u32 i = 0; i < FILLS; i++) rep_stos(frame_buffer, (round * FILLS + i) * 0x01030507, 4, WIDTH * HEIGHT, 0);
        timing(name, round, (tsc() - t) / FILLS);           // a shift: FILLS is a power of two
    }
}
void vcpu_main(unsigned vcpu)
{
    if (vcpu) for (;;) doze();
    find_display();
    if (!frame_buffer) { print("TIMING done: no display\n"); for (;;) wait_for_go(0); }
    text_timings();
    dispi_mode(WIDTH, HEIGHT, 32, DISPI_ON | DISPI_LINEAR);
    fills("quiet", "fill-quiet");
    fills("viewer", "fill-viewer");
    fills("quiet-again", "fill-quiet-again");
    print("TIMING done\n");
    for (;;) wait_for_go(0);
}
