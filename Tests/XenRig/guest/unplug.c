// unplug.c: the PV unplug protocol as drivers other than Linux's speak it (90-unplug), from a boot sector.
//
// `config` (start.S): 1: blacklists, the log, the Windows drivers' order, the ROM lock and garbage, with a line `ok - …` or
// `not ok - …` for each check; 2: one mask for disks and NICs, while vCPU 1 shows that it lives; 4: the
// platform device's own ports, as SUSE's old drivers use them. It ends with `UNPLUG done: N passed, M failed`, and then says
// `STILL n: …` for as long as it lives: what it finds of what was unplugged.
#include "guest.h"

enum { CONFIG_ORDER = 1, CONFIG_POLICY = 2, CONFIG_OLD = 4 };
enum { PORT = 0x10, MAGIC = 0x49d2, BLACKLISTED = 0xd249, WINDOWS = 1, LINUX = 3, EXPERIMENTAL = 0xffff };
enum { DISKS = 1, NICS = 2 };

static u32 passed, failed;
static void check(const char *what, u32 got, u32 wanted)
{
    if (got == wanted) { passed++; print("ok - %s\n", what); }
    else { failed++; print("not ok - %s: got %x wanted %x\n", what, got, wanted); }
}

// ---------------------------------------------------------------- what is there
// Functions of bus 0 with this class (its upper 16 bits); with `show`, each of them is printed.
static u32 functions(u32 class, int show)
{
    u32 count = 0;
    for (unsigned device = 0; device < 32; device++)
        for (unsigned function = 0; function < 8; function++) {
            u32 id = pci_read(device, function, 0, 4);
            if (id == ~0u) continue;
            u32 is = pci_read(device, function, 8, 4) >> 16;
            if (show) print("PCI 00:%x.%u %8x class %x\n", device, function, id, is);
            if (is == class) count++;
        }
    return count;
}
static u32 nvme(void) { return functions(0x0108, 0); }
static u32 nics(void) { return functions(0x0200, 0); }
// Whether the primary master identifies itself as a disk.
static u32 ide(void)
{
    out(0x1f6, 1, 0xa0);
    out(0x1f7, 1, 0xec);
    for (unsigned n = 0; n < 1000; n++) {
        u32 status = in(0x1f7, 1);
        if (status == 0 || status == 0xff || status & 1) return 0;
        if (!(status & 0x80) && status & 8) {
            for (unsigned i = 0; i < 256; i++) in(0x1f0, 2);
            return 1;
        }
        pauses(1000);
    }
    return 0;
}
static u32 c_device(void) { return in(0x550, 4) != ~0u; }
static u32 scratch(void) { return in(0x610, 4) != ~0u; }

// ---------------------------------------------------------------- the ports
static void name(u32 product, u32 build) { out(PORT + 2, 2, product); out(PORT, 4, build); }
static void log_line(const char *s) { while (*s) out(PORT + 2, 1, (u8)*s++); }
static void unplug(u32 mask) { out(PORT, 2, mask); }

static void protocol(void)
{
    check("the magic number is there", in(PORT, 2), MAGIC);
    check("the protocol's version is 1", in(PORT + 2, 1), 1);
    check("what has no meaning reads all-ones", in(PORT, 4) & in(PORT + 2, 4) & (in(PORT + 4, 2) | ~0xffffu), ~0u);
    name(LINUX, 7);
    check("a build that the specification blacklists reads the other magic", in(PORT, 2), BLACKLISTED);
    name(LINUX, 8);
    check("another build does not", in(PORT, 2), MAGIC);
    name(WINDOWS, 99);
    check("a build that the host blacklists reads it, too", in(PORT, 2), BLACKLISTED);
    name(WINDOWS, 98);
    check("and another does not", in(PORT, 2), MAGIC);
    log_line("words of a driver \x1b[31min red\x1b[0m\r\n");
    check("the version is still 1", in(PORT + 2, 1), 1);
}

static void windows(void)
{
    name(EXPERIMENTAL, 1);
    check("the experimental product is not blacklisted", in(PORT, 2), MAGIC);
    functions(0, 1);
    check("QEMU's IDE disk is there", ide(), 1);
    check("our NVMe controller is there", nvme(), 1);
    check("QEMU's NIC is there", nics(), 1);
    check("the C device is there", c_device(), 1);
    unplug(DISKS);
    check("after the disks' write: no IDE disk", ide(), 0);
    check("no NVMe controller", nvme(), 0);
    check("the NIC is still there", nics(), 1);
    check("the C device, too", c_device(), 1);
    unplug(NICS);
    check("after the NICs' write: no NIC", nics(), 0);
    check("no C device", c_device(), 0);
    for (unsigned n = 0; n < 3; n++) {
        name(EXPERIMENTAL, 1);
        unplug(DISKS);
        unplug(NICS);
    }
    functions(0, 1);
    check("after three repetitions: no disk and no NIC", ide() + nvme() + nics() + c_device(), 0);
    check("what is neither is still there", scratch(), 1);
}

// Bit 0 of the flags: the ROM area is read-only when the write completes.
static void rom(void)
{
    volatile u8 *rom = (u8 *)0xf0000;
    u8 old = *rom;
    check("the flags begin as 0", in(PORT, 1), 0);
    *rom = ~old;
    check("unlocked, the ROM area takes a write", *rom, (u8)~old);
    *rom = old;
    out(PORT, 1, 1);
    check("the flags read as locked", in(PORT, 1), 1);
    *rom = ~old;
    check("locked, it drops one", *rom, old);
    out(PORT, 1, 0);
    check("the flags read as unlocked", in(PORT, 1), 0);
    *rom = ~old;
    check("unlocked, it takes one again", *rom, (u8)~old);
    *rom = old;
}

static u32 seed = 0x2545f491;
static u32 random(void) { seed ^= seed << 13; seed ^= seed >> 17; seed ^= seed << 5; return seed; }

static void garbage(void)
{
    enum { BUFFER = 0x30000 };
    u32 wrong = 0;
    for (u32 n = 0; n < 10000; n++) {
        u32 r = random();
        u16 port = PORT + (r >> 8) % 16;
        unsigned size = 1u << (r >> 16) % 3;
        if (r % 16 == 0) {
            u32 *words = (u32 *)BUFFER, count = 1 + (r >> 20) % 32;
            for (u32 i = 0; i < count; i++) words[i] = random();
            if (r & 16) rep_outs(port, BUFFER, size, count, 0); else rep_ins(port, BUFFER, size, count, 0);
        } else if (r & 1) {
            out(port, size, random());
        } else {
            u32 got = in(port, size);
            if (port == PORT && size == 2 && got != MAGIC && got != BLACKLISTED) wrong++;
            if (port == PORT + 2 && size == 1 && got != 1) wrong++;
            if (port == PORT && size == 1 && got > 1) wrong++;
        }
    }
    out(PORT, 1, 0);
    check("10,000 accesses of garbage: what is read is always of the protocol", wrong, 0);
    name(LINUX, 8);
    check("afterwards the magic number is there", in(PORT, 2), MAGIC);
    check("and the version, and unlocked flags", in(PORT + 2, 1) | in(PORT, 1) << 8, 1);
    check("and what was unplugged is gone", ide() + nvme() + nics() + c_device(), 0);
    check("and what was not is there", scratch(), 1);
}

// ---------------------------------------------------------------- the platform device's own ports
static unsigned platform;
static u16 window;
// The platform device's place and where its BAR0 is; says what is wrong with it, 0 when nothing is.
static const char *look_at_platform(void)
{
    for (platform = 0; platform < 32; platform++) if ((pci_read(platform, 0, 0, 4) & 0xffff) == 0x5853) break;
    if (platform == 32) return "missing";
    u32 bar = pci_read(platform, 0, 0x10, 4);
    window = bar & ~0xff;
    if ((bar & 0xff) != 1 || bar >> 16 || !window) return "without ports";
    if (!(pci_read(platform, 0, 4, 2) & 1)) return "not decoding";
    if (in(window, 1) > 1 || in(window + 4, 4) != ~0u) return "not answering";
    if (in(window, 1) != in(PORT, 1)) return "not the one with the flags";
    return 0;
}
static const char *platform_words(void) { const char *wrong = look_at_platform(); return wrong ? wrong : "whole"; }

static void old(void)
{
    const char *wrong = look_at_platform();
    check("the firmware has given the platform device its ports", wrong != 0, 0);
    check("it is the device that QEMU has", pci_read(platform, 0, 0, 4), 0x00015853);
    check("of its class and revision", pci_read(platform, 0, 8, 4), 0xff800001);
    check("of its subsystem", pci_read(platform, 0, 0x2c, 4), 0x00015853);
    check("and on its pin", pci_read(platform, 0, 0x3d, 1), 1);
    pci_write(platform, 0, 4, 2, 0);
    pci_write(platform, 0, 0x10, 4, ~0u);
    check("its BAR0 is 256 ports", pci_read(platform, 0, 0x10, 4), 0xffffff01);
    pci_write(platform, 0, 0x10, 4, 0xdf00);
    u32 base = pci_read(platform, 0, 0x14, 4);
    check("its BAR1 is prefetchable memory with a place", (base & 0xffffff) == 8 && base >> 24, 1);
    check("without decoding nobody is there", in(0xdf00, 1), 0xff);
    pci_write(platform, 0, 4, 2, 3);
    check("it answers where it has been moved to", in(0xdf00, 1), 0);
    check("and not where it was", in(window, 1), 0xff);
    check("its memory reads as zeros", *(volatile u32 *)((base & 0xff000000) + 0x1234), 0);
    window = 0xdf00;
    for (const char *s = "words through BAR0\n"; *s; s++) out(window + 8, 1, (u8)*s);
    out(window, 1, 1);
    check("its first port is the ROM's lock", in(PORT, 1), 1);
    out(window, 1, 0);
    check("the disks are there", ide() + nvme(), 2);
    check("the NICs are there", nics() + c_device(), 2);
    out(window + 8, 4, 1);
    check("after 1 at +8: no disk", ide() + nvme(), 0);
    check("the NICs are still there", nics() + c_device(), 2);
    out(window + 4, 4, 1);
    check("after 1 at +4: no NIC either", nics() + c_device(), 0);
    out(window + 8, 1, 2);
    check("again: nothing comes back", ide() + nvme() + nics() + c_device(), 0);
    check("what is neither is still there", scratch(), 1);
}

// ---------------------------------------------------------------- a policy
static volatile u32 written;

void vcpu_main(unsigned vcpu)
{
    if (vcpu != 0) {
        // Another slot of the server in which vCPU 0 may wait.
        for (u32 n = 1;; n++) {
            timer(500);
            doze();
            if (!written) print("OTHER %u reads %x\n", n, in(PORT, 2));
        }
    }
    if (config & CONFIG_POLICY) {
        start_vcpus();
        name(LINUX, 8);
        print("UNPLUG writes\n");
        unplug(DISKS | NICS);
        written = 1;
        print("UNPLUG went on\n");
        check("the ports are served afterwards", in(PORT, 2), MAGIC);
        unplug(DISKS | NICS);
    } else if (config & CONFIG_OLD) {
        old();
    } else {
        protocol();
        windows();
        rom();
        garbage();
    }
    print("UNPLUG done: %u passed, %u failed\n", passed, failed);
    timer(500);
    for (u32 n = 1;; n++) {
        doze();
        if (n % 4) continue;
        u32 disks = ide() + nvme(), cards = nics() + c_device();
        print("STILL %u: disks %u, NICs %u\n", n / 4, disks, cards);
        print("PLATFORM %u is %s\n", n / 4, platform_words());
        // The Windows drivers say so again when they resume.
        if ((config & CONFIG_ORDER) && cards) { name(EXPERIMENTAL, 1); unplug(DISKS); unplug(NICS); print("AGAIN\n"); }
    }
}
