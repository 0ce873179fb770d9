// exerciser.c: the guest program that checks everything it can see of the emulators, from inside, on two vCPUs.
//
// It prints a line `ok - what` or `not ok - what: got … wanted …` for each check, then
// `EXERCISER done: N passed, M failed`, and then stays: vCPU 0 checks every half second that the Scratch device still
// answers, and says `HEARTBEAT n` every 8th time, or `HEARTBEAT wrong …`.
// `config` (start.S) says what is to be there: the Swift Scratch device, the C device, the PCI function.
#include "guest.h"

enum { BUFFER = 0x30000, BUFFER2 = 0x38000 };   // RAM for the string operations

static u32 passed, failed;

// ---------------------------------------------------------------- saying what was seen
static int check(int good, const char *where, const char *what, u32 got, u32 wanted)
{
    if (good) { passed++; print("ok - %s: %s\n", where, what); }
    else { failed++; print("not ok - %s: %s: got %x wanted %x\n", where, what, got, wanted); }
    return good;
}
static int equal(const char *where, const char *what, u32 got, u32 wanted)
{
    return check(got == wanted, where, what, got, wanted);
}
// Many comparisons that make one check: remembers the first difference.
static struct { u32 n, bad, got, wanted, at; } many;
static void many_start(void) { many.n = many.bad = many.got = many.wanted = many.at = 0; }
static void many_add(u32 at, u32 got, u32 wanted)
{
    many.n++;
    if (got != wanted && !many.bad++) { many.got = got; many.wanted = wanted; many.at = at; }
}
static void many_end(const char *where, const char *what)
{
    if (many.bad) print("# %u of %u differ, the first at %x\n", many.bad, many.n, many.at);
    equal(where, what, many.got, many.wanted);
}

// ---------------------------------------------------------------- a window on a register file
struct window { const char *name; int memory; u32 base; };

static u32 ones(unsigned size) { return size == 4 ? ~0u : (1u << 8 * size) - 1; }
static u32 get(const struct window *w, u32 at, unsigned size)
{
    return w->memory ? (u32)mmio_read(w->base + at, size) : in(w->base + at, size);
}
static void set(const struct window *w, u32 at, unsigned size, u32 v)
{
    if (w->memory) mmio_write(w->base + at, size, v); else out(w->base + at, size, v);
}
enum { ID = 0x10, SUM = 0x14, COUNTER = 0x18, INTERRUPT = 0x1c };

static void registers(const struct window *w, u32 id)
{
    const char *n = w->name;
    equal(n, "ID", get(w, ID, 4), id);
    equal(n, "ID by 2 bytes", get(w, ID, 2), id & 0xffff);
    equal(n, "ID by 1 byte", get(w, ID, 1), id & 0xff);
    set(w, ID, 4, 0x12345678);
    equal(n, "ID ignores a write", get(w, ID, 4), id);

    // the memory: every size at every place, against a copy of ours
    u8 copy[16];
    many_start();
    for (u32 i = 0; i < 16; i++) { copy[i] = 0xa0 + i; set(w, i, 1, copy[i]); }
    for (unsigned size = 1; size <= 4; size *= 2)
        for (u32 at = 0; at + size <= 16; at++) {
            u32 v = 0x9e3779b9u * (at + 16 * size + w->base), sum = 0;
            set(w, at, size, v);
            for (u32 i = 0; i < size; i++) copy[at + i] = v >> 8 * i;
            many_add(at | size << 8, get(w, at, size), v & ones(size));
            for (u32 i = 0; i < 16; i += 4) {
                sum = copy[i] | copy[i + 1] << 8 | copy[i + 2] << 16 | (u32)copy[i + 3] << 24;
                many_add(i | at << 8 | size << 16, get(w, i, 4), sum);
            }
        }
    many_end(n, "memory, 1, 2 and 4 bytes at each place");

    u32 s = get(w, SUM, 4);
    set(w, SUM, 4, 0xfffffff0); set(w, SUM, 2, 0xabcd); set(w, SUM, 1, 0xef);
    equal(n, "SUM adds 4, 2 and 1 bytes", get(w, SUM, 4), s + 0xfffffff0 + 0xabcd + 0xef);
    s = get(w, SUM, 4);
    equal(n, "SUM read by 2 bytes", get(w, SUM, 2), s & 0xffff);
    equal(n, "SUM read by 1 byte", get(w, SUM, 1), s & 0xff);
    set(w, SUM + 1, 1, 1); set(w, SUM + 2, 2, 1);
    equal(n, "SUM ignores writes inside it", get(w, SUM, 4), s);
    equal(n, "SUM read inside it", get(w, SUM + 2, 2), 0xffff);

    set(w, COUNTER, 4, 0xfffffffe);
    equal(n, "COUNTER as set", get(w, COUNTER, 4), 0xfffffffe);
    equal(n, "COUNTER counts, by 2 bytes", get(w, COUNTER, 2), 0xffff);
    equal(n, "COUNTER wraps, by 1 byte", get(w, COUNTER, 1), 0);
    equal(n, "COUNTER goes on", get(w, COUNTER, 4), 1);
    equal(n, "COUNTER read inside it", get(w, COUNTER + 1, 1), 0xff);
    equal(n, "COUNTER does not count that", get(w, COUNTER, 4), 2);
}

// ---------------------------------------------------------------- string instructions on ports
static void element(u32 a, unsigned size, u32 v)
{
    if (size == 1) *(volatile u8 *)a = v; else if (size == 2) *(volatile u16 *)a = v; else *(volatile u32 *)a = v;
}
static u32 element_at(u32 a, unsigned size)
{
    return size == 1 ? *(volatile u8 *)a : size == 2 ? *(volatile u16 *)a : *(volatile u32 *)a;
}
static const struct { unsigned size; u32 count, buffer; int down; const char *outs, *ins; } strings[] = {
    { 1, 1, BUFFER, 0, "rep outsb, 1", "rep insb, 1" },
    { 1, 1000, BUFFER, 0, "rep outsb, 1000", "rep insb, 1000" },
    { 2, 1000, BUFFER + 0xf80, 0, "rep outsw, 1000, page crossed", "rep insw, 1000, page crossed" },
    { 4, 1000, BUFFER + 0xfff, 0, "rep outsl, 1000, odd address", "rep insl, 1000, odd address" },
    { 4, 64, BUFFER + 0x1000, 1, "rep outsl, 64, downwards", "rep insl, 64, downwards" },
    { 1, 300, BUFFER + 0x1080, 1, "rep outsb, 300, downwards", "rep insb, 300, downwards" },
    { 2, 1000, BUFFER + 0x1800, 1, "rep outsw, 1000, downwards", "rep insw, 1000, downwards" },
};
static void port_strings(const struct window *w)
{
    for (u32 t = 0; t < sizeof strings / sizeof *strings; t++) {
        unsigned size = strings[t].size; u32 count = strings[t].count, first = strings[t].buffer;
        int down = strings[t].down, step = down ? -(int)size : (int)size;
        u32 sum = get(w, SUM, 4), a = first;
        for (u32 i = 0; i < count; i++, a += step) {
            u32 v = 0x01000193u * (i + 1);
            element(a, size, v); sum += v & ones(size);
        }
        rep_outs(w->base + SUM, first, size, count, down);
        equal(w->name, strings[t].outs, get(w, SUM, 4), sum);

        // COUNTER shows the order too. The elements around the buffer must stay.
        u32 from = 0xfe, last = first + step * (int)(count - 1), low = down ? last : first, high = (down ? first : last) + size;
        for (u32 i = 0; i < 8; i++) { element(low - 8 + i, 1, 0x5a); element(high + i, 1, 0x5a); }
        set(w, COUNTER, 4, from);
        rep_ins(w->base + COUNTER, first, size, count, down);
        many_start(); a = first;
        for (u32 i = 0; i < count; i++, a += step) many_add(i, element_at(a, size), (from + i) & ones(size));
        for (u32 i = 0; i < 8; i++) { many_add(~0u, element_at(low - 8 + i, 1), 0x5a); many_add(~0u, element_at(high + i, 1), 0x5a); }
        many_add(count, get(w, COUNTER, 4), from + count);
        many_end(w->name, strings[t].ins);
    }
}

// ---------------------------------------------------------------- memory-mapped windows
static void memory_window(const struct window *w)
{
    const char *n = w->name; u32 b = w->base;
    many_start();
    for (u32 at = 0x100; at <= 0xff8; at += at < 0x120 ? 1 : 0x11) {
        u64 v = 0x0123456789abcdefULL * (at | 1);
        for (unsigned size = 1; size <= 4; size *= 2) {
            mmio_write(b + at, size, v + size);
            many_add(at | size << 16, mmio_read(b + at, size), (u32)(v + size) & ones(size));
        }
    }
    many_end(n, "window memory, 1, 2 and 4 bytes");
    many_start();
    static const u32 places[] = { 0x00, 0x08, 0x100, 0x108, 0x804, 0xff8 };
    for (u32 i = 0; i < sizeof places / sizeof *places; i++) {
        u64 v = 0xfedcba9876543210ULL ^ places[i], r;
        mmio_write(b + places[i], 8, v);
        r = mmio_read(b + places[i], 8);
        many_add(places[i], r, v); many_add(places[i] + 4, r >> 32, v >> 32);
    }
    many_end(n, "memory, 8 bytes through MMX");
    equal(n, "nothing at 0x20", mmio_read(b + 0x20, 4), ~0u);
    equal(n, "nothing at 0xfe", mmio_read(b + 0xfe, 2), 0xffff);

    static const struct { unsigned size; u32 count; int down; const char *what; } moves[] = {
        { 4, 960, 0, "rep movsl, 960, there and back" }, { 2, 700, 0, "rep movsw, 700, there and back" },
        { 1, 500, 0, "rep movsb, 500, there and back" }, { 4, 960, 1, "rep movsl, 960, downwards, there and back" },
        { 1, 333, 1, "rep movsb, 333, downwards, there and back" },
    };
    for (u32 t = 0; t < sizeof moves / sizeof *moves; t++) {
        unsigned size = moves[t].size; u32 bytes = moves[t].count * size, top = moves[t].down ? bytes - size : 0;
        for (u32 i = 0; i < bytes; i++) { element(BUFFER + 0xf00 + i, 1, i * 7 + (i >> 8) + t); element(BUFFER2 + i, 1, 0); }
        rep_movs(b + 0x100 + top, BUFFER + 0xf00 + top, size, moves[t].count, moves[t].down);
        rep_movs(BUFFER2 + top, b + 0x100 + top, size, moves[t].count, moves[t].down);
        many_start();
        for (u32 i = 0; i < bytes; i++) many_add(i, element_at(BUFFER2 + i, 1), element_at(BUFFER + 0xf00 + i, 1));
        many_add(~0u, mmio_read(b + 0x100 + top, size), element_at(BUFFER + 0xf00 + top, size));
        many_end(n, moves[t].what);
    }
    rep_stos(b + 0x200, 0xc0ffee11, 4, 300, 0);
    rep_movs(BUFFER2, b + 0x200, 4, 300, 0);
    many_start();
    for (u32 i = 0; i < 300; i++) many_add(i, element_at(BUFFER2 + 4 * i, 4), 0xc0ffee11);
    many_end(n, "rep stosl, 300");
    rep_stos(b + 0x6ff, 0x3c, 1, 256, 1);
    many_start();
    for (u32 i = 0x600; i < 0x700; i++) many_add(i, mmio_read(b + i, 1), 0x3c);
    many_end(n, "rep stosb, 256, downwards");
    for (u32 i = 0; i < 64; i++) mmio_write(b + 0x800 + 4 * i, 4, 0xd00d0000 + i);
    rep_movs(b + 0xc00, b + 0x800, 4, 64, 0);
    many_start();
    for (u32 i = 0; i < 64; i++) many_add(i, mmio_read(b + 0xc00 + 4 * i, 4), 0xd00d0000 + i);
    many_end(n, "rep movsl inside the window");
}
static void same_registers(const struct window *a, const struct window *b, const char *what)
{
    many_start();
    for (u32 i = 0; i < 16; i += 4) { set(a, i, 4, 0x11111111u * (i + 1)); many_add(i, get(b, i, 4), 0x11111111u * (i + 1)); }
    for (u32 i = 0; i < 16; i++) { set(b, i, 1, 0xc0 + i); many_add(i, get(a, i, 1), 0xc0 + i); }
    set(a, COUNTER, 4, 77); get(b, COUNTER, 1); many_add(COUNTER, get(a, COUNTER, 4), 78);
    many_end(b->name, what);
}

// ---------------------------------------------------------------- what QEMU and Xen give
static void platform(void)
{
    equal("platform", "PCI host bridge", pci_read(0, 0, 0, 4), 0x12378086);
    equal("platform", "PIIX3 ISA bridge", pci_read(1, 0, 0, 4), 0x70008086);
    u32 status = in(0x64, 1);
    check(status != 0xff, "platform", "the keyboard controller answers", status, 0x1c);
    out(0x70, 1, 0x0d);
    u32 rtc = in(0x71, 1);
    check(rtc == 0x80, "platform", "the RTC has power", rtc, 0x80);
    equal("platform", "nobody's port, 1 byte", in(0x5f0, 1), 0xff);
    equal("platform", "nobody's port, 2 bytes", in(0x5f0, 2), 0xffff);
    equal("platform", "nobody's port, 4 bytes", in(0x5f0, 4), ~0u);
    out(0x5f0, 4, 0x12345678);
    equal("platform", "nobody's port after a write", in(0x5f0, 4), ~0u);
    equal("platform", "nobody's PCI function", pci_read(30, 0, 0, 4), ~0u);
}

// ---------------------------------------------------------------- the PCI function
static u32 pic_pending(u32 irq)
{
    u16 pic = irq < 8 ? 0x20 : 0xa0;
    out(pic, 1, 0x0a);                              // the next read gives the request register
    return in(pic, 1) >> (irq & 7) & 1;
}
static void pci_function(const struct window *ports, u32 id)
{
    const char *n = "PCI";
    u32 d = 0;
    while (d < 32 && pci_read(d, 0, 0, 4) != 0x5c7a1234) d++;
    if (!check(d < 32, n, "1234:5c7a is on bus 0", d, 31)) return;
    print("# device %u, BAR0 %x, BAR1 %x, interrupt line %x pin %x\n", d, pci_read(d, 0, 0x10, 4), pci_read(d, 0, 0x14, 4),
          pci_read(d, 0, 0x3c, 1), pci_read(d, 0, 0x3d, 1));
    equal(n, "IDs by halves", pci_read(d, 0, 0, 2) | pci_read(d, 0, 2, 2) << 16, 0x5c7a1234);
    equal(n, "class", pci_read(d, 0, 8, 4) >> 8, 0xff0000);
    equal(n, "class by bytes", pci_read(d, 0, 11, 1) << 16 | pci_read(d, 0, 10, 1) << 8 | pci_read(d, 0, 9, 1), 0xff0000);
    equal(n, "subsystem", pci_read(d, 0, 0x2c, 4), 0x00011234);
    equal(n, "INTA", pci_read(d, 0, 0x3d, 1), 1);
    pci_write(d, 0, 0, 4, 0);
    equal(n, "the IDs cannot be written", pci_read(d, 0, 0, 4), 0x5c7a1234);
    for (u32 i = 2; i < 6; i++) equal(n, "no such BAR", pci_read(d, 0, 0x10 + 4 * i, 4), 0);

    u32 command = pci_read(d, 0, 4, 2), bar0 = pci_read(d, 0, 0x10, 4), bar1 = pci_read(d, 0, 0x14, 4);
    struct window io = { "BAR0", 0, bar0 & ~3u }, mem = { "BAR1", 1, bar1 & ~15u };
    equal(n, "the firmware enabled decoding", command & 3, 3);
    equal(n, "BAR0 is ports", bar0 & 3, 1);
    equal(n, "BAR1 is 32-bit memory", bar1 & 15, 0);
    check(io.base && mem.base, n, "the firmware placed both BARs", io.base, mem.base);

    pci_write(d, 0, 4, 2, command & ~3u);
    pci_write(d, 0, 0x10, 4, ~0u); pci_write(d, 0, 0x14, 4, ~0u);
    equal(n, "BAR0 has 32 ports", pci_read(d, 0, 0x10, 4) & 0xffff, 0xffe1);
    equal(n, "BAR1 has 4 KiB", pci_read(d, 0, 0x14, 4), 0xfffff000);
    pci_write(d, 0, 0x10, 4, bar0); pci_write(d, 0, 0x14, 4, bar1);
    equal(n, "BAR0 as before", pci_read(d, 0, 0x10, 4), bar0);
    equal(n, "BAR1 as before", pci_read(d, 0, 0x14, 4), bar1);
    equal(n, "decoding off, BAR0", get(&io, ID, 4), ~0u);
    equal(n, "decoding off, BAR1", get(&mem, ID, 4), ~0u);
    pci_write(d, 0, 4, 2, (command & ~3u) | 1);
    equal(n, "decoding ports only, BAR0", get(&io, ID, 4), id);
    equal(n, "decoding ports only, BAR1", get(&mem, ID, 4), ~0u);
    pci_write(d, 0, 4, 2, command);

    registers(&io, id);
    same_registers(ports, &io, "the same registers as the ports'");
    port_strings(&io);
    registers(&mem, id);
    same_registers(ports, &mem, "the same registers as the ports'");
    memory_window(&mem);

    struct window io2 = { "BAR0 moved", 0, 0xd540 }, mem2 = { "BAR1 moved", 1, 0xf8765000 };
    mmio_write(mem.base + 0x345, 4, 0x600df00d);
    equal(n, "nothing yet at BAR0's new place", get(&io2, ID, 4), ~0u);
    equal(n, "nothing yet at BAR1's new place", get(&mem2, ID, 4), ~0u);
    pci_write(d, 0, 0x10, 4, io2.base); pci_write(d, 0, 0x14, 4, mem2.base);
    equal(n, "BAR0 moved", pci_read(d, 0, 0x10, 4), io2.base | 1);
    equal(n, "BAR1 moved", pci_read(d, 0, 0x14, 4), mem2.base);
    equal(n, "nothing at BAR0's old place", get(&io, ID, 4), ~0u);
    equal(n, "nothing at BAR1's old place", get(&mem, ID, 4), ~0u);
    registers(&io2, id);
    same_registers(ports, &io2, "the same registers as the ports'");
    registers(&mem2, id);
    equal(n, "the window's memory moved along", mmio_read(mem2.base + 0x345, 4), 0x600df00d);
    pci_write(d, 0, 0x10, 4, bar0); pci_write(d, 0, 0x14, 4, bar1);
    equal(n, "BAR0 back", get(&io, ID, 4), id);
    equal(n, "BAR1 back", get(&mem, ID, 4), id);
    equal(n, "nothing where BAR0 was meanwhile", get(&io2, ID, 4), ~0u);
    equal(n, "nothing where BAR1 was meanwhile", get(&mem2, ID, 4), ~0u);

    // INTx: seen in the status register and, routed, in the PIC's request register (the PIC is masked).
    u32 irq = pci_read(d, 0, 0x3c, 1) & 15;
    equal(n, "INTERRUPT is 0 at rest", get(&mem, INTERRUPT, 4), 0);
    equal(n, "no INTx in the status register", pci_read(d, 0, 6, 2) >> 3 & 1, 0);
    equal(n, "no INTx at the PIC", pic_pending(irq), 0);
    set(&mem, INTERRUPT, 4, 1);
    equal(n, "INTERRUPT reads 1 when asserted", get(&io, INTERRUPT, 4), 1);
    equal(n, "INTx in the status register", pci_read(d, 0, 6, 2) >> 3 & 1, 1);
    equal(n, "INTx at the PIC", pic_pending(irq), 1);
    set(&mem, INTERRUPT, 4, 0);
    equal(n, "INTERRUPT reads 0 again", get(&io, INTERRUPT, 4), 0);
    equal(n, "INTx gone from the status register", pci_read(d, 0, 6, 2) >> 3 & 1, 0);
    equal(n, "INTx gone from the PIC", pic_pending(irq), 0);

    // MSI: to this vCPU's local APIC, where it is seen as a pending vector, for interrupts are off.
    equal(n, "there is a capability list", pci_read(d, 0, 6, 2) >> 4 & 1, 1);
    u32 cap = pci_read(d, 0, 0x34, 1) & 0xfc, rounds = 0;
    while (cap && pci_read(d, 0, cap, 1) != 5 && rounds++ < 48) cap = pci_read(d, 0, cap + 1, 1) & 0xfc;
    if (!check(cap && rounds < 48, n, "there is an MSI capability", cap, 0x40)) return;
    equal(n, "MSI with 64-bit addresses", pci_read(d, 0, cap + 2, 2) >> 7 & 1, 1);
    pci_write(d, 0, cap + 4, 4, 0xfee00000); pci_write(d, 0, cap + 8, 4, 0); pci_write(d, 0, cap + 12, 2, 0x51);
    equal(n, "MSI's address", pci_read(d, 0, cap + 4, 4), 0xfee00000);
    equal(n, "MSI's data", pci_read(d, 0, cap + 12, 2), 0x51);
    equal(n, "no MSI pending", (u32)mmio_read(0xfee00220, 4) >> 17 & 1, 0);
    pci_write(d, 0, cap + 2, 2, pci_read(d, 0, cap + 2, 2) | 1);
    equal(n, "MSI enabled", pci_read(d, 0, cap + 2, 2) & 1, 1);
    set(&io, INTERRUPT, 4, 2);
    u32 pending = 0;
    for (u32 i = 0; i < 1000 && !pending; i++) { pauses(200); pending = (u32)mmio_read(0xfee00220, 4) >> 17 & 1; }
    equal(n, "the MSI came", pending, 1);
    pci_write(d, 0, cap + 2, 2, pci_read(d, 0, cap + 2, 2) & ~1u);
    doze();                                         // takes the pending vector, which a stub ignores …
    *(volatile u32 *)0xfee000b0 = 0;                // … and which ends here
}

// ---------------------------------------------------------------- both vCPUs at once
static const struct window scratch_ports = { "Scratch ports", 0, 0x500 }, scratch_memory = { "Scratch memory", 1, 0xfed80000 },
                           c_ports = { "C ports", 0, 0x540 }, c_memory = { "C memory", 1, 0xfed90000 };
enum { ROUNDS = 500 };
static volatile u32 phase, finished[2], wrong[2], wrong_got[2], wrong_wanted[2];

// vCPU 0 has the lower 8 bytes of the memory, vCPU 1 the upper ones; each must see only what it wrote.
static void hammer(unsigned vcpu, const struct window *w)
{
    u32 bad = 0;
    for (u32 i = 0; i < ROUNDS; i++) {
        unsigned size = 1u << i % 3; u32 at = 8 * vcpu + i * size % 8, v = (0x9e3779b9u * i) ^ (vcpu ? ~0u : 0), r;
        set(w, at, size, v);
        r = get(w, at, size);
        if (r != (v & ones(size)) && !bad++) { wrong_got[vcpu] = r; wrong_wanted[vcpu] = v & ones(size); }
    }
    wrong[vcpu] = bad;
    __atomic_store_n(&finished[vcpu], 1, __ATOMIC_RELEASE);
}
static const struct window *const phases[] = { 0, &scratch_ports, &c_ports, &scratch_memory, &c_memory };
static void both(u32 p, const char *what)
{
    finished[0] = finished[1] = 0;
    __atomic_store_n(&phase, p, __ATOMIC_RELEASE);
    hammer(0, phases[p]);
    for (u32 i = 0; i < 100000 && !__atomic_load_n(&finished[1], __ATOMIC_ACQUIRE); i++) pauses(2000);
    if (!check(finished[1], phases[p]->name, "vCPU 1 came to the end", finished[1], 1)) return;
    for (unsigned v = 0; v < 2; v++) {
        if (wrong[v]) print("# vCPU %u: %u of %u wrong\n", v, wrong[v], ROUNDS);
        check(!wrong[v], phases[p]->name, what, wrong_got[v], wrong_wanted[v]);
    }
}
static volatile u32 second_up;
static void second_vcpu(void)
{
    second_up = 1;
    for (u32 seen = 0; phase != 99;) {
        u32 p = __atomic_load_n(&phase, __ATOMIC_ACQUIRE);
        if (p != seen && p != 99) { seen = p; hammer(1, phases[p]); }
        pauses(500);
    }
    for (;;) doze();                                // no timer here: asleep for good
}

// ----------------------------------------------------------------
void vcpu_main(unsigned vcpu)
{
    if (vcpu == 1) second_vcpu();
    if (vcpu > 1) for (;;) doze();
    print("EXERCISER start, config %x\n", config);
    platform();
    start_vcpus();
    for (u32 i = 0; i < 2000 && !second_up; i++) pauses(2000);
    equal("platform", "the second vCPU runs", second_up, 1);
    if (config & CONFIG_SCRATCH) {
        registers(&scratch_ports, 0x54524353);
        port_strings(&scratch_ports);
        registers(&scratch_memory, 0x54524353);
        memory_window(&scratch_memory);
        same_registers(&scratch_ports, &scratch_memory, "the same registers as the ports'");
    }
    if (config & CONFIG_PCI) pci_function(&scratch_ports, 0x54524353);
    if (config & CONFIG_C_DEVICE) {
        registers(&c_ports, 0x54524343);
        port_strings(&c_ports);
        registers(&c_memory, 0x54524343);
        memory_window(&c_memory);
        same_registers(&c_ports, &c_memory, "the same registers as the ports'");
    }
    if ((config & CONFIG_SCRATCH) && (config & CONFIG_C_DEVICE)) {
        set(&scratch_ports, 0, 4, 0x0badf00d); set(&c_ports, 0, 4, 0x600dcafe);
        equal("C ports", "another device than Scratch", get(&scratch_ports, 0, 4), 0x0badf00d);
    }
    if (second_up) {
        if (config & CONFIG_SCRATCH) both(1, "both vCPUs at once");
        if (config & CONFIG_C_DEVICE) both(2, "both vCPUs at once");
        if (config & CONFIG_SCRATCH) both(3, "both vCPUs at once");
        if (config & CONFIG_C_DEVICE) both(4, "both vCPUs at once");
    }
    phase = 99;
    print("EXERCISER done: %u passed, %u failed\n", passed, failed);

    const struct window *w = config & CONFIG_SCRATCH ? &scratch_ports : config & CONFIG_C_DEVICE ? &c_ports : 0;
    u32 wanted = w == &c_ports ? 0x54524343 : 0x54524353;
    timer(100);
    for (u32 beat = 1;; beat++) {
        for (u32 end = ticks[0] + 5; (int)(ticks[0] - end) < 0;) doze();
        u32 got = w ? get(w, ID, 4) : wanted;
        if (got != wanted) print("HEARTBEAT wrong %u: got %x wanted %x\n", beat, got, wanted);
        else if (beat % 8 == 0) print("HEARTBEAT %u\n", beat);
    }
}
