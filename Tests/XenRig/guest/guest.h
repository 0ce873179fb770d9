// guest.h: what the guest programs have instead of an operating system. 32-bit, flat, no paging, interrupts off
// except inside doze().
#pragma once
typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

#define MAX_VCPUS 16
extern volatile u32 config;       // in the boot sector, see start.S
enum { CONFIG_SCRATCH = 1, CONFIG_C_DEVICE = 2, CONFIG_PCI = 4, CONFIG_SERIAL = 0x100, CONFIG_SAMPLE = 0x200 };

void vcpu_main(unsigned vcpu);    // given by each program; called on every vCPU that starts

// --- port and memory accesses of a size in bytes; each is exactly one instruction
static inline u32 in(u16 port, unsigned size)
{
    u32 v = 0;
    if (size == 1) { u8 b; asm volatile("inb %1, %0" : "=a"(b) : "Nd"(port) : "memory"); v = b; }
    else if (size == 2) { u16 w; asm volatile("inw %1, %0" : "=a"(w) : "Nd"(port) : "memory"); v = w; }
    else asm volatile("inl %1, %0" : "=a"(v) : "Nd"(port) : "memory");
    return v;
}
static inline void out(u16 port, unsigned size, u32 v)
{
    if (size == 1) asm volatile("outb %0, %1" :: "a"((u8)v), "Nd"(port) : "memory");
    else if (size == 2) asm volatile("outw %0, %1" :: "a"((u16)v), "Nd"(port) : "memory");
    else asm volatile("outl %0, %1" :: "a"(v), "Nd"(port) : "memory");
}
u64 mmio_read(u32 address, unsigned size);              // 8 bytes go through an MMX register
void mmio_write(u32 address, unsigned size, u64 value);

// --- string instructions. `down` sets the direction flag; the addresses are those of the first element touched.
void rep_ins(u16 port, u32 buffer, unsigned size, u32 count, int down);
void rep_outs(u16 port, u32 buffer, unsigned size, u32 count, int down);
void rep_movs(u32 to, u32 from, unsigned size, u32 count, int down);
void rep_stos(u32 to, u32 value, unsigned size, u32 count, int down);

// --- PCI configuration by CF8/CFC
u32 pci_read(unsigned device, unsigned function, unsigned reg, unsigned size);
void pci_write(unsigned device, unsigned function, unsigned reg, unsigned size, u32 value);

// --- vCPUs and time
void start_vcpus(void);           // INIT-SIPI-SIPI to all others; each calls vcpu_main
extern volatile u32 ticks[32];    // of each vCPU, while its timer runs
void timer(u32 milliseconds);     // the local APIC's timer, periodic; 0 stops it. Starts a new period
void doze(void);                  // sleeps until an interrupt (a tick)
static inline void pauses(unsigned n) { while (n--) asm volatile("pause"); }
void lock(volatile u32 *l);
void unlock(volatile u32 *l);

// --- printing: ports 0x402 and 0xe9 (Xen shows that one in `xl dmesg`, line by line), and the serial port if
// CONFIG_SERIAL. print() knows %s %u %x (8 digits at least with %8x) and holds a lock for the whole call.
void print(const char *format, ...);
