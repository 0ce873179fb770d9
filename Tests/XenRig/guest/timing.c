// timing.c: the guest program of the benchmark (Tests/XenRig/bench): times reads of a byte from ports that different servers
// have, in turn, and prints `TIMING name round cycles`, cycles of the TSC for one read on average; then `TIMING done`.
#include "guest.h"

enum { READS = 128, ROUNDS = 15 };

static const struct { const char *name; u16 port, served; } ports[] = {
    { "qemu", 0x87, 1 },         // a page register of the DMA controller
    { "scratch", 0x500, 1 },     // Scratch's memory: direct
    { "c-device", 0x540, 1 },    // the C device's: isolated, through the coordinator
    { "unclaimed", 0x5f0, 0 },
};
enum { PORTS = sizeof ports / sizeof *ports };

static u64 tsc(void) { u32 low, high; asm volatile("rdtsc" : "=a"(low), "=d"(high) :: "memory"); return (u64)high << 32 | low; }

void vcpu_main(unsigned vcpu)
{
    if (vcpu) for (;;) doze();
    u32 wrong = 0;
    for (u32 p = 0; p < PORTS; p++) out(ports[p].port, 1, 0x30 + p);
    // Round 0 warms everything up and is not printed.
    for (u32 round = 0; round <= ROUNDS; round++)
        for (u32 p = 0; p < PORTS; p++) {
            u32 wanted = ports[p].served ? 0x30 + p : 0xff;
            u64 start = tsc();
            for (u32 n = 0; n < READS; n++) if (in(ports[p].port, 1) != wanted) wrong++;
            u32 cycles = (tsc() - start) / READS;    // a shift: READS is a power of two
            if (round) print("TIMING %s %u %u\n", ports[p].name, round, cycles);
        }
    print("TIMING done: %u wrong\n", wrong);
    timer(100);
    for (;;) doze();
}
