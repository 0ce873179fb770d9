// counter.c: the guest program that shows whether an access is lost, doubled or wrongly answered while the emulator behind it dies.
//
// Each of two vCPUs writes the next number into a register of its own of the Scratch device, by port and by memory in turn, reads it back,
// and adds one to the sum that all share; every 16th time it adds eight with one string instruction. It says `COUNTER up`, goes on until
// a second Scratch device answers at port 0x520 (dom0 attaches one), then prints
// `COUNTER done: N rounds, W wrong, sum S wanted T, longest L ms` for what was seen until then, and from then on `SEES x` whenever the device's
// identity reads another value than before.
#include "guest.h"

enum { PORTS = 0x500, MEMORY = 0xfed80000, ID = 0x10, SUM = 0x14, STOP = 0x520, BUFFER = 0x30000 };

static volatile u32 stop, finished, up, rounds[2], wrong[2], got[2], wanted[2], added[2], longest[2];
static u32 scale;                                   // 1024 cycles in a millisecond

// In units of 1024 cycles: enough for an hour of whatever processor.
static u32 now(void)
{
    u32 low, high;
    asm volatile("rdtsc" : "=a"(low), "=d"(high));
    return low >> 10 | high << 22;
}
static void calibrate(void)
{
    timer(20);
    doze();
    u32 begin = now();
    for (u32 end = ticks[0] + 10; (int)(ticks[0] - end) < 0;) doze();
    scale = (now() - begin) / 200;
    timer(0);
    if (!scale) scale = 1;
}

static void count(unsigned v)
{
    u32 *ones = (u32 *)(BUFFER + 0x1000 * v);
    for (u32 i = 0; i < 8; i++) ones[i] = 1;
    for (u32 n = 1; !stop; n++) {
        u32 begin = now(), r, took;
        if (n & 1) { out(PORTS + 4 * v, 4, n); r = in(PORTS + 4 * v, 4); }
        else { mmio_write(MEMORY + 4 * v, 4, n); r = mmio_read(MEMORY + 4 * v, 4); }
        if (r != n && !wrong[v]++) { got[v] = r; wanted[v] = n; }
        if (n % 16) { out(PORTS + SUM, 4, 1); added[v] += 1; }
        else { rep_outs(PORTS + SUM, (u32)ones, 4, 8, 0); added[v] += 8; }
        took = now() - begin;
        if (took > longest[v]) longest[v] = took;
        rounds[v] = n;
        if (v == 0 && n % 8 == 0 && in(STOP + ID, 4) != ~0u) stop = 1;
    }
    __atomic_add_fetch(&finished, 1, __ATOMIC_RELEASE);
}

void vcpu_main(unsigned vcpu)
{
    if (vcpu == 1) { up = 1; count(1); }
    if (vcpu) for (;;) doze();
    calibrate();
    start_vcpus();
    while (!up) pauses(2000);
    print("COUNTER up, %u cycles a ms\n", scale << 10);
    count(0);
    while (__atomic_load_n(&finished, __ATOMIC_ACQUIRE) < 2) pauses(2000);
    for (unsigned v = 0; v < 2; v++)
        if (wrong[v]) print("# vCPU %u: %u wrong, first %x for %x\n", v, wrong[v], got[v], wanted[v]);
    u32 sum = in(PORTS + SUM, 4), most = longest[0] > longest[1] ? longest[0] : longest[1];
    print("COUNTER done: %u rounds, %u wrong, sum %u wanted %u, longest %u ms\n", rounds[0] + rounds[1], wrong[0] + wrong[1], sum,
          added[0] + added[1], most / scale);
    timer(50);
    for (u32 before = 0;;) {
        u32 id = in(PORTS + ID, 4);
        if (id != before) print("SEES %x\n", id);
        before = id;
        doze();
    }
}
