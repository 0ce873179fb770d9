// The demo guest: a firmware of its own, as small as a display needs one. It assigns the PCI functions' BARs, runs the display's ROM (Debian's
// SeaVGABIOS) as SeaBIOS would, prints a banner in text mode by int 0x10, then draws a picture that moves in a VBE mode, and shows what
// is typed. Everything it tells goes to port 0xe9 too.

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef int i32;

struct registers { u32 ax, bx, cx, dx, es, di, bp; };
void bios_video(struct registers *);
void rom_start(u32 function);
void copy_words(u32 to, u32 from, u32 count);
void fill_words(u32 to, u32 value, u32 count);
void wait_interrupt(void);
void on_timer(void);
void on_keyboard(void);
void on_nothing(void);
void on_master(void);
void on_slave(void);
extern u8 bss_start[], bss_end[];

volatile u32 ticks;
volatile u8 keys[256];
volatile u8 key_head;
static u8 key_tail;

// An address in a register: as a constant the assembler would take it for one of 16 bits.
static inline u32 anywhere(u32 address) { __asm__("" : "+r"(address)); return address; }
#define MEMORY8(address) (*(volatile u8 *)anywhere(address))
#define MEMORY16(address) (*(volatile u16 *)anywhere(address))
#define MEMORY32(address) (*(volatile u32 *)anywhere(address))

static inline void out8(u16 port, u8 value) { __asm__ volatile("outb %0, %1" ::"a"(value), "Nd"(port)); }
static inline u8 in8(u16 port) { u8 value; __asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port)); return value; }
static inline void out32(u16 port, u32 value) { __asm__ volatile("outl %0, %1" ::"a"(value), "Nd"(port)); }
static inline u32 in32(u16 port) { u32 value; __asm__ volatile("inl %1, %0" : "=a"(value) : "Nd"(port)); return value; }

// MARK: what is told

static void tell(const char *text) { while (*text) out8(0xe9, (u8)*text++); }
static void tell_number(u32 value, u32 base) {
    char digits[12];
    int count = 0;
    do { digits[count++] = "0123456789abcdef"[value % base]; value /= base; } while (value);
    while (count) out8(0xe9, (u8)digits[--count]);
}

// MARK: the machine

static void set_vector(u32 vector, void (*handler)(void)) { MEMORY32(vector * 4) = (u32)handler; }

static void start_interrupts(void) {
    for (u32 vector = 0; vector < 256; vector++) set_vector(vector, on_nothing);
    for (u32 vector = 0x08; vector < 0x10; vector++) set_vector(vector, on_master);
    for (u32 vector = 0x70; vector < 0x78; vector++) set_vector(vector, on_slave);
    set_vector(0x08, on_timer);
    set_vector(0x09, on_keyboard);
    for (u32 address = 0x400; address < 0x500; address += 4) MEMORY32(address) = 0;
    MEMORY16(0x410) = 0x0020;                          // equipment: a colour display of 80 columns
    MEMORY16(0x413) = 639;                             // KiB of memory
    static const u8 words[][2] = { { 0x20, 0x11 }, { 0xa0, 0x11 }, { 0x21, 0x08 }, { 0xa1, 0x70 }, { 0x21, 0x04 }, { 0xa1, 0x02 }, { 0x21, 0x01 }, { 0xa1, 0x01 },
                                   { 0x21, 0xf8 }, { 0xa1, 0xff } };
    for (u32 index = 0; index < sizeof words / sizeof words[0]; index++) out8(words[index][0], words[index][1]);
    MEMORY32(0xfee000f0u) = 0x1ff;                     // the local APIC passes the PIC's interrupts on (virtual wire mode)
    MEMORY32(0xfee00350u) = 0x700;
    u32 divisor = 1193182 / 100;
    out8(0x43, 0x34);
    out8(0x40, (u8)divisor);
    out8(0x40, (u8)(divisor >> 8));
}

static int keyboard_ready(u8 mask, u8 wanted) {
    for (u32 looks = 0; looks < 1000; looks++) if ((in8(0x64) & mask) == wanted) return 1;
    return 0;
}
static void start_keyboard(void) {
    if (in8(0x64) == 0xff) { tell("guest: no keyboard controller\n"); return; }
    for (u32 index = 0; index < 32 && in8(0x64) & 1; index++) in8(0x60);
    out8(0x64, 0xaa);
    if (!keyboard_ready(1, 1) || in8(0x60) != 0x55) { tell("guest: the keyboard controller fails its test\n"); return; }
    out8(0x64, 0x60);
    out8(0x60, 0x60);                                  // translated, no interrupts yet
    out8(0x60, 0xf4);
    if (keyboard_ready(1, 1)) in8(0x60);
    out8(0x64, 0x60);
    out8(0x60, 0x61);
    tell("guest: the keyboard is there\n");
}

static u32 config_read(u32 function, u32 place) { out32(0xcf8, 0x80000000u | function << 8 | place); return in32(0xcfc); }
static void config_write(u32 function, u32 place, u32 value) { out32(0xcf8, 0x80000000u | function << 8 | place); out32(0xcfc, value); }

static u32 next_memory = 0xf1000000u, next_port = 0xc000;

// Gives every BAR of a function a place, and the ROM too; tells where the ROM is, 0 if there is none.
static u32 assign(u32 function) {
    u32 rom = 0;
    for (u32 place = 0x10; place <= 0x30; place += 4) {
        if (place == 0x28) place = 0x30;
        int is_rom = place == 0x30;
        config_write(function, place, is_rom ? 0xfffff800u : 0xffffffffu);
        u32 mask = config_read(function, place);
        if (!mask || mask == 0xffffffffu) continue;
        if (!is_rom && mask & 1) {
            u32 size = (~(mask & 0xfffcu) & 0xffffu) + 1;
            next_port = (next_port + size - 1) & ~(size - 1);
            config_write(function, place, next_port);
            next_port += size;
            continue;
        }
        u32 size = ~(mask & (is_rom ? 0xfffff800u : 0xfffffff0u)) + 1;
        if (!size || size > 0x08000000u) continue;
        next_memory = (next_memory + size - 1) & ~(size - 1);
        config_write(function, place, next_memory);
        if (is_rom) rom = next_memory;
        next_memory += size;
        if (!is_rom && (mask & 6) == 4) { place += 4; config_write(function, place, 0); }
    }
    config_write(function, 4, (config_read(function, 4) & 0xffff) | 3);
    return rom;
}

static int start_display(void) {
    u32 display = 0, display_rom = 0;
    for (u32 device = 0; device < 32; device++) {
        u32 function = device << 3;
        u32 identity = config_read(function, 0);
        if (identity == 0xffffffffu) continue;
        if (identity == 0x12378086u) {                 // QEMU's host bridge: RAM at 0xc0000–0xfffff
            for (u32 place = 0x58; place <= 0x5c; place += 4) config_write(function, place, 0x33333333u);
            continue;
        }
        u32 class = config_read(function, 8) >> 16;
        if (class >> 8 == 6) continue;
        u32 rom = assign(function);
        if (class == 0x0300 && !display) { display = function; display_rom = rom; }
    }
    if (!display) { tell("guest: there is no display\n"); return 0; }
    if (!display_rom) { tell("guest: the display has no ROM\n"); return 0; }
    config_write(display, 0x30, display_rom | 1);
    if (MEMORY16(display_rom) != 0xaa55) { tell("guest: the display's ROM does not begin with 55 aa\n"); return 0; }
    copy_words(0xc0000, display_rom, MEMORY8(display_rom + 2) * 128);
    config_write(display, 0x30, display_rom);
    tell("guest: the display's ROM, ");
    tell_number(MEMORY8(0xc0002) / 2, 10);
    tell(" KiB, is started\n");
    rom_start(display);
    return 1;
}

// MARK: what is typed

static const char plain[] = "\0\0331234567890-=\b\tqwertyuiop[]\n\0asdfghjkl;'`\0\\zxcvbnm,./\0*\0 ";
static const char shifted[] = "\0\033!@#$%^&*()_+\b\tQWERTYUIOP{}\n\0ASDFGHJKL:\"~\0|ZXCVBNM<>?\0*\0 ";
static int is_shifted;

// The next character that was typed; 0 when there is none.
static char typed(void) {
    while (key_tail != key_head) {
        u8 code = keys[key_tail++];
        u8 key = code & 0x7f;
        if (key == 0x2a || key == 0x36) { is_shifted = code < 0x80; continue; }
        if (code >= 0x80 || key >= sizeof plain - 1) continue;
        char character = (is_shifted ? shifted : plain)[key];
        if (!character || character == 033) continue;
        tell("guest: typed '");
        if (character >= ' ') out8(0xe9, (u8)character); else tell_number((u8)character, 10);
        tell("'\n");
        return character;
    }
    return 0;
}

// MARK: text mode

static void put(char character) {
    struct registers call = { .ax = 0x0e00 | (u8)character, .bx = 7 };
    bios_video(&call);
}
static void place_cursor(u32 row, u32 column) {
    struct registers call = { .ax = 0x0200, .dx = row << 8 | column };
    bios_video(&call);
}
static void print(u32 row, u32 column, u8 attribute, const char *text) {
    for (; *text; text++, column++) {
        place_cursor(row, column);
        struct registers call = { .ax = 0x0900 | (u8)*text, .bx = attribute, .cx = 1 };
        bios_video(&call);
    }
}

static void banner(void) {
    struct registers call = { .ax = 0x0003 };
    bios_video(&call);
    for (u32 row = 2; row < 9; row++) {
        place_cursor(row, 8);
        struct registers fill = { .ax = 0x0920, .bx = 0x1f, .cx = 64 };
        bios_video(&fill);
    }
    print(3, 29, 0x1f, "D  E  M  U  X   demo");
    print(5, 14, 0x1e, "This text was printed by int 10h of SeaVGABIOS, whose");
    print(6, 14, 0x1e, "accesses are served by another process: the display.");
    print(7, 31, 0x9b, "(this line blinks)");
    for (u32 colour = 0; colour < 16; colour++) print(11, 8 + colour * 4, (u8)(colour << 4 | (colour < 7 ? 15 : 0)), "    ");
    print(14, 8, 0x07, "What you type now: ");
    place_cursor(14, 27);
    tell("guest: the banner is on the screen\n");
}

// MARK: a picture

static struct { u32 base, width, height, pitch; } screen;
static u8 information[512] __attribute__((aligned(16)));
static u8 mode[256] __attribute__((aligned(16)));
static u32 font;

#define FIELD16(table, place) ((u32)(table)[place] | (u32)(table)[(place) + 1] << 8)
#define FIELD32(table, place) (FIELD16(table, place) | FIELD16(table, (place) + 2) << 16)

static int vbe(u32 function, u32 bx, u32 cx, u8 *table) {
    struct registers call = { .ax = 0x4f00 | function, .bx = bx, .cx = cx, .es = (u32)table >> 4, .di = (u32)table & 15 };
    bios_video(&call);
    return (call.ax & 0xffff) == 0x004f;
}

// Switches to the first mode of 32 bits a pixel that has this size.
static int set_mode(u32 width, u32 height) {
    for (u32 index = 0; index < 4; index++) information[index] = (u8)"VBE2"[index];
    if (!vbe(0, 0, 0, information)) { tell("guest: there is no VBE\n"); return 0; }
    u32 list = FIELD16(information, 16) * 16 + FIELD16(information, 14);
    for (u32 index = 0; index < 256; index++) {
        u32 number = MEMORY16(list + index * 2);
        if (number == 0xffff) break;
        if (!vbe(1, 0, number, mode)) continue;
        if (!(FIELD16(mode, 0) & 0x80) || FIELD16(mode, 18) != width || FIELD16(mode, 20) != height || mode[25] != 32) continue;
        screen.base = FIELD32(mode, 40);
        screen.pitch = FIELD16(mode, 16);
        screen.width = width;
        screen.height = height;
        if (!vbe(2, number | 0x4000, 0, mode)) continue;
        tell("guest: mode ");
        tell_number(number, 16);
        tell(": ");
        tell_number(width, 10);
        tell("x");
        tell_number(height, 10);
        tell("x32, its frame buffer at 0x");
        tell_number(screen.base, 16);
        tell("\n");
        return 1;
    }
    tell("guest: there is no such mode\n");
    return 0;
}

static void box(u32 x, u32 y, u32 width, u32 height, u32 colour) {
    for (u32 row = y; row < y + height && row < screen.height; row++) fill_words(screen.base + row * screen.pitch + x * 4, colour, width);
}

static u32 sky(u32 row) { return (row * 96 / screen.height) << 16 | (row * 64 / screen.height) << 8 | (72 + row * 144 / screen.height); }
static void background(u32 x, u32 y, u32 width, u32 height) {
    for (u32 row = y; row < y + height && row < screen.height; row++) fill_words(screen.base + row * screen.pitch + x * 4, sky(row), width);
}

// A character of the ROM's font of 8 by 16, each dot two pixels wide and high.
static void draw(u32 x, u32 y, char character, u32 colour) {
    for (u32 row = 0; row < 16; row++) {
        u8 dots = MEMORY8(font + (u8)character * 16 + row);
        for (u32 column = 0; column < 8; column++)
            if (dots & 0x80 >> column) box(x + column * 2, y + row * 2, 2, 2, colour);
    }
}
static void write_text(u32 x, u32 y, u32 colour, const char *text) { for (; *text; text++, x += 16) draw(x, y, *text, colour); }

static const u8 disc[16] = { 10, 14, 17, 19, 21, 22, 23, 23, 23, 23, 22, 21, 19, 17, 14, 10 };   // half widths, each for 3 rows

static void ball(u32 x, u32 y, int clear) {
    for (u32 part = 0; part < 16; part++) {
        if (clear) background(x + 24 - disc[part], y + part * 3, disc[part] * 2, 3);
        else box(x + 24 - disc[part], y + part * 3, disc[part] * 2, 3, 0xffb000 + part * 0x000500);
    }
}

static void picture(void) {
    struct registers call = { .ax = 0x1130, .bx = 0x0600 };
    bios_video(&call);
    font = (call.es & 0xffff) * 16 + (call.bp & 0xffff);
    background(0, 0, screen.width, screen.height);
    write_text(32, 24, 0xffffff, "Demux: a guest, drawn by its own code");
    write_text(32, 72, 0xffe080, "Type:");
    tell("guest: the picture is drawn\n");
    u32 x = 40, y = 200, column = 0;
    i32 dx = 5, dy = 3;
    u32 next = ticks;
    for (u32 frame = 0;; frame++) {
        ball(x, y, 1);
        if (x + dx > screen.width - 50 || (i32)x + dx < 2) dx = -dx;
        if (y + dy > screen.height - 50 || (i32)y + dy < 160) dy = -dy;
        x += dx;
        y += dy;
        ball(x, y, 0);
        for (char character; (character = typed());) {
            if (character == '\b') {
                if (column) { column--; background(128 + column * 16, 72, 16, 32); }
                continue;
            }
            if (character == '\n' || column >= 38) { background(128, 72, 38 * 16, 32); column = 0; }
            if (character >= ' ') { draw(128 + column * 16, 72, character, 0xffffff); column++; }
        }
        if (frame % 500 == 499) { tell("guest: "); tell_number(frame + 1, 10); tell(" frames are drawn\n"); }
        next += 4;
        if ((i32)(next - ticks) < -50) next = ticks;
        while ((i32)(ticks - next) < 0) wait_interrupt();
    }
}

void guest_main(void) {
    for (u8 *byte = bss_start; byte < bss_end; byte++) *byte = 0;
    tell("guest: vCPU 0 is up\n");
    start_interrupts();
    start_keyboard();
    if (!start_display()) return;
    __asm__ volatile("sti");
    banner();
    for (u32 until = ticks + 300; (i32)(ticks - until) < 0;) {
        wait_interrupt();
        for (char character; (character = typed());) put(character);
    }
    if (set_mode(800, 600)) picture();
    tell("guest: ends\n");
}
