// lib.c: see guest.h.
#include "guest.h"
#include <stdarg.h>

volatile u32 ticks[32];
static volatile u32 print_lock;
static struct { u16 low, selector; u8 zero, type; u16 high; } __attribute__((packed)) idt[256];
extern char exception_stubs[], tick_stub[], ignore_stub[], trampoline[], trampoline_end[];

void *memset(void *p, int c, unsigned n) { char *d = p; while (n--) *d++ = c; return p; }
void *memcpy(void *p, const void *q, unsigned n) { char *d = p; const char *s = q; while (n--) *d++ = *s++; return p; }

// ---------------------------------------------------------------- accesses
u64 mmio_read(u32 address, unsigned size)
{
    u64 v = 0;
    switch (size) {
    case 1: { u8 b; asm volatile("movb (%1), %0" : "=q"(b) : "r"(address) : "memory"); return b; }
    case 2: { u16 w; asm volatile("movw (%1), %0" : "=r"(w) : "r"(address) : "memory"); return w; }
    case 4: { u32 l; asm volatile("movl (%1), %0" : "=r"(l) : "r"(address) : "memory"); return l; }
    default: asm volatile("movq (%1), %%mm0; movq %%mm0, %0; emms" : "=m"(v) : "r"(address) : "memory"); return v;
    }
}
void mmio_write(u32 address, unsigned size, u64 value)
{
    switch (size) {
    case 1: asm volatile("movb %0, (%1)" :: "q"((u8)value), "r"(address) : "memory"); break;
    case 2: asm volatile("movw %0, (%1)" :: "r"((u16)value), "r"(address) : "memory"); break;
    case 4: asm volatile("movl %0, (%1)" :: "r"((u32)value), "r"(address) : "memory"); break;
    default: asm volatile("movq %0, %%mm0; movq %%mm0, (%1); emms" :: "m"(value), "r"(address) : "memory"); break;
    }
}
#define STRING(insns) do { if (down) asm volatile("std; " insns "; cld" REGS); else asm volatile("cld; " insns REGS); } while (0)
void rep_ins(u16 port, u32 buffer, unsigned size, u32 count, int down)
{
#define REGS : "+D"(buffer), "+c"(count) : "d"(port) : "memory"
    if (size == 1) STRING("rep insb"); else if (size == 2) STRING("rep insw"); else STRING("rep insl");
#undef REGS
}
void rep_outs(u16 port, u32 buffer, unsigned size, u32 count, int down)
{
#define REGS : "+S"(buffer), "+c"(count) : "d"(port) : "memory"
    if (size == 1) STRING("rep outsb"); else if (size == 2) STRING("rep outsw"); else STRING("rep outsl");
#undef REGS
}
void rep_movs(u32 to, u32 from, unsigned size, u32 count, int down)
{
#define REGS : "+S"(from), "+D"(to), "+c"(count) :: "memory"
    if (size == 1) STRING("rep movsb"); else if (size == 2) STRING("rep movsw"); else STRING("rep movsl");
#undef REGS
}
void rep_stos(u32 to, u32 value, unsigned size, u32 count, int down)
{
#define REGS : "+D"(to), "+c"(count) : "a"(value) : "memory"
    if (size == 1) STRING("rep stosb"); else if (size == 2) STRING("rep stosw"); else STRING("rep stosl");
#undef REGS
}
static u32 cf8(unsigned device, unsigned function, unsigned reg)
{
    return 0x80000000u | device << 11 | function << 8 | (reg & 0xfc);
}
u32 pci_read(unsigned device, unsigned function, unsigned reg, unsigned size)
{
    out(0xcf8, 4, cf8(device, function, reg));
    return in(0xcfc + (reg & 3), size);
}
void pci_write(unsigned device, unsigned function, unsigned reg, unsigned size, u32 value)
{
    out(0xcf8, 4, cf8(device, function, reg));
    out(0xcfc + (reg & 3), size, value);
}

// ---------------------------------------------------------------- vCPUs, time
static volatile u32 *apic(u32 reg) { return (volatile u32 *)(0xfee00000u + reg); }

static void gate(unsigned vector, const char *stub)
{
    u32 a = (u32)stub;
    idt[vector].low = a; idt[vector].high = a >> 16; idt[vector].selector = 8; idt[vector].type = 0x8e;
}
// Called by start.S on each vCPU, on its own stack.
void enter(void)
{
    static volatile u32 ready;
    unsigned vcpu = (*apic(0x20) >> 25) & (MAX_VCPUS - 1);
    if (!ready) {                                   // the first vCPU, before it starts the others
        for (unsigned v = 0; v < 256; v++) gate(v, v < 32 ? exception_stubs + 16 * v : ignore_stub);
        gate(0x40, tick_stub);
        out(0x21, 1, 0xff); out(0xa1, 1, 0xff);     // both PICs masked: only the local APICs interrupt
        ready = 1;
    }
    struct { u16 limit; u32 base; } __attribute__((packed)) pointer = { sizeof idt - 1, (u32)idt };
    asm volatile("lidt %0" :: "m"(pointer));
    u32 cr0;
    asm volatile("mov %%cr0, %0" : "=r"(cr0));      // MMX usable: no emulation, no task-switch trap
    asm volatile("mov %0, %%cr0; fninit" :: "r"((cr0 & ~12u) | 2));
    *apic(0xf0) = 0x1ff;                            // enabled, spurious vector 0xff
    vcpu_main(vcpu);
}
void timer(u32 milliseconds)
{
    if (!milliseconds) { *apic(0x320) = 0x10000; return; }
    *apic(0x3e0) = 0xb;                             // divide by 1; Xen's bus clock is 100 MHz
    *apic(0x320) = 0x20040;                         // periodic, vector 0x40
    *apic(0x380) = milliseconds * 100000;
}
void doze(void) { asm volatile("sti; hlt; cli" ::: "memory"); }
static void wait_ticks(u32 n)
{
    unsigned vcpu = *apic(0x20) >> 25;
    for (u32 end = ticks[vcpu] + n; (int)(ticks[vcpu] - end) < 0;) doze();
}
void start_vcpus(void)
{
    memcpy((void *)0x1000, trampoline, trampoline_end - trampoline);
    timer(5);
    *apic(0x300) = 0xc4500; wait_ticks(2);          // INIT to all but this one
    *apic(0x300) = 0xc4601; wait_ticks(1);          // start at 0x1000
    *apic(0x300) = 0xc4601; wait_ticks(1);
    timer(0);
}
void lock(volatile u32 *l) { while (__atomic_exchange_n(l, 1, __ATOMIC_ACQUIRE)) asm volatile("pause"); }
void unlock(volatile u32 *l) { __atomic_store_n(l, 0, __ATOMIC_RELEASE); }

// ---------------------------------------------------------------- printing
static void put(char c)
{
    out(0x402, 1, c);
    out(0xe9, 1, c);
    if (config & CONFIG_SERIAL) {
        for (unsigned n = 0; n < 100000 && !(in(0x3fd, 1) & 0x20); n++) ;
        out(0x3f8, 1, c);
    }
}
static void number(u32 v, u32 base, unsigned width)
{
    char digits[12]; unsigned n = 0;
    do { digits[n++] = "0123456789abcdef"[v % base]; v /= base; } while (v);
    while (n < width) digits[n++] = '0';
    while (n) put(digits[--n]);
}
void print(const char *format, ...)
{
    va_list a; va_start(a, format);
    lock(&print_lock);
    for (; *format; format++) {
        if (*format != '%') { put(*format); continue; }
        unsigned width = 0;
        if (*++format == '8') { width = 8; format++; }
        if (*format == 's') { for (const char *s = va_arg(a, const char *); *s; s++) put(*s); }
        else if (*format == 'u') number(va_arg(a, u32), 10, width);
        else if (*format == 'x') number(va_arg(a, u32), 16, width);
        else put(*format);
    }
    unlock(&print_lock);
    va_end(a);
}
void exception(u32 vector, u32 error, u32 eip)
{
    // The lock may be held by this very vCPU, so it is forced open first.
    unlock(&print_lock);
    print("\nEXCEPTION %u, error %x, at %8x\n", vector, error, eip);
    for (;;) doze();
}
