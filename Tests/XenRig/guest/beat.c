// beat.c: the guest program that only shows that it goes on: ten times a second it counts in a register of the Scratch device, if there is one, and
// has the BIOS print a line on the screen, which scrolls. Says `BEAT up`, then `BEAT n, w wrong` once a second: w counts the times the register did
// not read what was written. It sleeps in between, so that several fit beside each other.
#include "screen.h"

enum { PORT = 0x500, TENTH = 100 };

static void show(u32 n)
{
    static const char hex[] = "0123456789abcdef";
    for (int shift = 28; shift >= 0; shift -= 4) video(0x0e00 | hex[n >> shift & 15], 7, 0, 0);
    video(0x0e0d, 7, 0, 0);
    video(0x0e0a, 7, 0, 0);
}

void vcpu_main(unsigned vcpu)
{
    if (vcpu) for (;;) doze();
    find_display();
    if (frame_buffer) set_mode(3);
    int scratch = in(PORT + 0x10, 4) != ~0u;
    print("BEAT up\n");
    for (u32 n = 1, wrong = 0;; n++) {
        if (scratch) {
            out(PORT, 4, n);
            if (in(PORT, 4) != n) wrong++;
        }
        // Without the timer: its interrupt is nothing for the BIOS.
        if (frame_buffer) show(n);
        if (n % 10 == 0) print("BEAT %u, %u wrong\n", n, wrong);
        timer(TENTH);
        doze();
        timer(0);
    }
}
