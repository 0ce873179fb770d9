// The guest of the benchmarks of the screen, for QEMU: a firmware that finds the VGA, switches DISPI modes and draws what it is told by single
// bytes on the first serial port. Tests/Benchmarks/Bench/Screen/Painting.swift draws the same where a surface or an X server is asked.
//
// A, B  1024x768, 1920x1080, 32 bits a pixel          n  noise all over, 33 times a second (QEMU looks no more often)
// s     a screen of text, scrolled by a line 33 times a second     c  another 16x16 square in another colour, 60 times a second
// i     nothing at all: no timer either               p  one pixel in another colour, at once
// Each is answered by `k` when it has been done, or begun.

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;

void copy_words(u32 to, u32 from, u32 count);
void fill_words(u32 to, u32 value, u32 count);
void wait_interrupt(void);
void on_timer(void);
void on_nothing(void);
void on_master(void);
extern u8 bss_start[], bss_end[];

// What Tests/Demo/guest/start.S counts and keeps.
volatile u32 ticks;
volatile u8 keys[256];
volatile u8 key_head;

static inline u32 anywhere(u32 address) { __asm__("" : "+r"(address)); return address; }
#define MEMORY32(address) (*(volatile u32 *)anywhere(address))

static inline void out8(u16 port, u8 value) { __asm__ volatile("outb %0, %1" ::"a"(value), "Nd"(port)); }
static inline u8 in8(u16 port) { u8 value; __asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port)); return value; }
static inline void out16(u16 port, u16 value) { __asm__ volatile("outw %0, %1" ::"a"(value), "Nd"(port)); }
static inline void out32(u16 port, u32 value) { __asm__ volatile("outl %0, %1" ::"a"(value), "Nd"(port)); }
static inline u32 in32(u16 port) { u32 value; __asm__ volatile("inl %1, %0" : "=a"(value) : "Nd"(port)); return value; }

enum { COM = 0x3f8, FRAMES = 0xf1000000u, NOISE = 0x00400000, NOISE_WORDS = 3 << 20 };
static u32 width, height, random_state = 2463534242u;

static u32 random_word(void) {
    random_state ^= random_state << 13;
    random_state ^= random_state >> 17;
    random_state ^= random_state << 5;
    return random_state;
}

static void answer(void) {
    while (!(in8(COM + 5) & 0x20)) {}
    out8(COM, 'k');
}

static void start_machine(void) {
    for (u32 vector = 0; vector < 256; vector++) MEMORY32(vector * 4) = (u32)on_nothing;
    for (u32 vector = 0x08; vector < 0x10; vector++) MEMORY32(vector * 4) = (u32)on_master;
    MEMORY32(0x08 * 4) = (u32)on_timer;
    static const u8 words[][2] = { { 0x20, 0x11 }, { 0xa0, 0x11 }, { 0x21, 0x08 }, { 0xa1, 0x70 }, { 0x21, 0x04 }, { 0xa1, 0x02 }, { 0x21, 0x01 }, { 0xa1, 0x01 },
                                   { 0x21, 0xef }, { 0xa1, 0xff } };
    for (u32 index = 0; index < sizeof words / sizeof words[0]; index++) out8(words[index][0], words[index][1]);
    MEMORY32(0xfee000f0u) = 0x1ff;                     // the local APIC passes the PIC's interrupts on
    MEMORY32(0xfee00350u) = 0x700;
    out8(COM + 3, 0x03);
    out8(COM + 4, 0x0b);
    out8(COM + 1, 0x01);
}

static void start_display(void) {
    for (u32 device = 0; device < 32; device++) {
        out32(0xcf8, 0x80000000u | device << 11 | 8);
        if (in32(0xcfc) >> 16 != 0x0300) continue;
        out32(0xcf8, 0x80000000u | device << 11 | 0x10);
        out32(0xcfc, FRAMES);
        out32(0xcf8, 0x80000000u | device << 11 | 4);
        out32(0xcfc, 3);
    }
}

// How often the timer ticks; 0: not at all.
static void set_rate(u32 rate) {
    out8(0x21, rate ? 0xee : 0xef);
    if (!rate) return;
    u32 divisor = 1193182 / rate;
    out8(0x43, 0x34);
    out8(0x40, (u8)divisor);
    out8(0x40, (u8)(divisor >> 8));
}

static void set_mode(u32 w, u32 h) {
    const u16 values[][2] = { { 4, 0 }, { 1, (u16)w }, { 2, (u16)h }, { 3, 32 }, { 4, 0x41 } };
    for (u32 index = 0; index < 5; index++) { out16(0x1ce, values[index][0]); out16(0x1cf, values[index][1]); }
    in8(0x3da);
    out8(0x3c0, 0x20);                                 // the attribute controller lets the picture out
    width = w;
    height = h;
}

static u32 address_of(u32 x, u32 y) { return FRAMES + (y * width + x) * 4; }
static void box(u32 x, u32 y, u32 side, u32 colour) { for (u32 row = 0; row < side; row++) fill_words(address_of(x, y + row), colour, side); }

static void noise(void) { copy_words(FRAMES, NOISE + random_word() % (NOISE_WORDS - width * height) * 4, width * height); }

// A line of something like text: its characters have the density and the margins of a typeface.
static void line(u32 y) {
    fill_words(address_of(0, y), 0, width * 16);
    u32 length = 20 + random_word() % (width / 8 - 24);
    for (u32 column = 0; column < length; column++) {
        u32 random = random_word();
        if (random % 6 == 0) continue;
        u32 character = random / 6 % 94;
        for (u32 row = 2; row < 13; row++) {
            u32 bits = (character * 73 + row * 151) ^ (character * row * 29);
            u32 dots = bits & bits >> 3 & 0x7e;
            for (u32 dot = 0; dot < 8; dot++) if (dots & 0x80 >> dot) MEMORY32(address_of(column * 8 + dot, y + row)) = 0xc0c0c0;
        }
    }
}
static void scroll(void) {
    u32 lines = height / 16;
    copy_words(FRAMES, address_of(0, 16), width * (lines - 1) * 16);
    line((lines - 1) * 16);
}

void guest_main(void) {
    for (u8 *byte = bss_start; byte < bss_end; byte++) *byte = 0;
    random_state = 2463534242u;
    start_machine();
    start_display();
    for (u32 index = 0; index < NOISE_WORDS; index++) MEMORY32(NOISE + index * 4) = random_word() & 0xffffff;
    u32 seen = ticks, count = 0;
    u8 work = 'i';
    for (;;) {
        __asm__ volatile("cli");
        if (!(in8(COM + 5) & 1) && (work == 'i' || ticks == seen)) wait_interrupt();
        __asm__ volatile("sti");
        if (in8(COM + 5) & 1) {
            u8 command = in8(COM);
            if (command == 'A') set_mode(1024, 768);
            if (command == 'B') set_mode(1920, 1080);
            if (command == 'p') { count++; box(64, 64, 1, count * 0x010305 & 0xffffff); }
            else { work = command == 'n' || command == 's' || command == 'c' ? command : 'i'; set_rate(work == 'i' ? 0 : work == 'c' ? 60 : 33); }
            if (command == 's') for (u32 y = 0; y + 16 <= height; y += 16) line(y);
            answer();
        }
        if (ticks == seen) continue;
        seen = ticks;
        count++;
        if (work == 'n') noise();
        if (work == 's') scroll();
        if (work == 'c') box(count * 53 % (width / 16) * 16, count * 31 % (height / 16) * 16, 16, random_word() & 0xffffff);
    }
}
