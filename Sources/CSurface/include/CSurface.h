// A scan-out in shared memory and a reader's page, as Protocols/surface.md lays them out, and the atomic moves on them.
//
// Everything that another process may write is read through here: each word once, untorn.
#ifndef DEMUX_CSURFACE_H
#define DEMUX_CSURFACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    DEMUX_SURFACE_VERSION = 1,
    DEMUX_SURFACE_FORMAT_X8R8G8B8 = 1,
    DEMUX_SURFACE_HEADER_LENGTH = 4096,
    DEMUX_SURFACE_DAMAGE_OFFSET = 4096,
    DEMUX_SURFACE_DAMAGE_ENTRIES = 1024,
    DEMUX_SURFACE_CURSOR_OFFSET = 20480,
    DEMUX_SURFACE_CURSOR_SIDE = 64,
    DEMUX_SURFACE_PIXELS_OFFSET = 36864,
    DEMUX_SURFACE_LARGEST_SIDE = 8192,
    DEMUX_SURFACE_LARGEST_LENGTH = 256 * 1024 * 1024,
    DEMUX_READER_PAGE_LENGTH = 4096,
    DEMUX_READER_PAGE_VERSION = 1,
};

enum { DEMUX_SURFACE_RETIRED = 1, DEMUX_SURFACE_BLANK = 2 };
enum { DEMUX_SURFACE_DAMAGE = 1, DEMUX_SURFACE_COPY = 2 };

// "DMXSURF1" and "DMXREAD1", little-endian.
static const uint64_t demux_surface_magic = 0x3146525553584d44;
static const uint64_t demux_reader_magic = 0x3144414552584d44;

typedef struct demux_surface_header {
    uint64_t magic;
    uint32_t version;
    uint32_t pixels_offset;
    uint32_t width;
    uint32_t height;
    uint32_t stride;
    uint32_t format;
    uint64_t length;
    uint32_t flags;
    uint32_t reserved;
    uint64_t frame;
    uint64_t damage_head;
    uint32_t cursor_sequence;
    int32_t cursor_x;
    int32_t cursor_y;
    uint32_t cursor_hot_x;
    uint32_t cursor_hot_y;
    uint32_t cursor_width;
    uint32_t cursor_height;
    uint32_t cursor_visible;
} demux_surface_header;

typedef struct demux_surface_entry {
    uint16_t x;
    uint16_t y;
    uint16_t width;
    uint16_t height;
    uint16_t kind;
    uint16_t source_x;
    uint16_t source_y;
    uint16_t pad;
} demux_surface_entry;

typedef struct demux_reader_page {
    uint64_t magic;
    uint32_t version;
    uint32_t viewers;
    uint32_t max_rate;
    uint32_t reserved;
    uint64_t seen;
} demux_reader_page;

_Static_assert(sizeof(demux_surface_entry) == 16, "an entry of the damage ring is 16 bytes");
_Static_assert(DEMUX_SURFACE_DAMAGE_OFFSET + DEMUX_SURFACE_DAMAGE_ENTRIES * 16 == DEMUX_SURFACE_CURSOR_OFFSET, "the cursor follows the ring");
_Static_assert(
    DEMUX_SURFACE_CURSOR_OFFSET + DEMUX_SURFACE_CURSOR_SIDE * DEMUX_SURFACE_CURSOR_SIDE * 4 == DEMUX_SURFACE_PIXELS_OFFSET,
    "the pixels follow the cursor");

// MARK: single words
// Through the struct's address, so that Swift never makes a copy of a field that it would have to write back.

static inline uint32_t demux_surface_flags(const demux_surface_header *header) { return __atomic_load_n(&header->flags, __ATOMIC_ACQUIRE); }
static inline uint64_t demux_surface_frame(const demux_surface_header *header) { return __atomic_load_n(&header->frame, __ATOMIC_ACQUIRE); }
static inline uint64_t demux_surface_head(const demux_surface_header *header) { return __atomic_load_n(&header->damage_head, __ATOMIC_ACQUIRE); }
static inline uint32_t demux_surface_cursor_sequence(const demux_surface_header *header) {
    return __atomic_load_n(&header->cursor_sequence, __ATOMIC_ACQUIRE);
}
static inline void demux_surface_store_flags(demux_surface_header *header, uint32_t flags) {
    __atomic_store_n(&header->flags, flags, __ATOMIC_RELEASE);
}
static inline void demux_surface_store_frame(demux_surface_header *header, uint64_t frame) {
    __atomic_store_n(&header->frame, frame, __ATOMIC_RELEASE);
}
static inline void demux_surface_store_cursor_sequence(demux_surface_header *header, uint32_t sequence) {
    __atomic_store_n(&header->cursor_sequence, sequence, __ATOMIC_RELEASE);
}

static inline uint32_t demux_reader_viewers(const demux_reader_page *page) { return __atomic_load_n(&page->viewers, __ATOMIC_ACQUIRE); }
static inline uint32_t demux_reader_max_rate(const demux_reader_page *page) { return __atomic_load_n(&page->max_rate, __ATOMIC_ACQUIRE); }
static inline uint64_t demux_reader_seen(const demux_reader_page *page) { return __atomic_load_n(&page->seen, __ATOMIC_ACQUIRE); }
static inline void demux_reader_store_viewers(demux_reader_page *page, uint32_t viewers) {
    __atomic_store_n(&page->viewers, viewers, __ATOMIC_RELEASE);
}
static inline void demux_reader_store_max_rate(demux_reader_page *page, uint32_t rate) {
    __atomic_store_n(&page->max_rate, rate, __ATOMIC_RELEASE);
}
static inline void demux_reader_store_seen(demux_reader_page *page, uint64_t frame) { __atomic_store_n(&page->seen, frame, __ATOMIC_RELEASE); }

// MARK: the damage ring

// Writes entry number `head` and makes it visible. The fence keeps the entry behind the last `damage_head`: a reader that
// sees any of it then sees that the entry 1024 before it is gone.
static inline void demux_surface_push(demux_surface_header *header, uint64_t head, demux_surface_entry entry) {
    uint64_t *slot = (uint64_t *)(void *)((char *)header + DEMUX_SURFACE_DAMAGE_OFFSET) + head % DEMUX_SURFACE_DAMAGE_ENTRIES * 2;
    uint64_t words[2];
    __builtin_memcpy(words, &entry, sizeof words);
    __atomic_thread_fence(__ATOMIC_RELEASE);
    __atomic_store_n(slot, words[0], __ATOMIC_RELAXED);
    __atomic_store_n(slot + 1, words[1], __ATOMIC_RELAXED);
    __atomic_store_n(&header->damage_head, head + 1, __ATOMIC_RELEASE);
}

// Copies entry number `number`, whatever it is by now; demux_surface_head_again tells whether it was the right one.
static inline demux_surface_entry demux_surface_peek(const demux_surface_header *header, uint64_t number) {
    const uint64_t *slot =
        (const uint64_t *)(const void *)((const char *)header + DEMUX_SURFACE_DAMAGE_OFFSET) + number % DEMUX_SURFACE_DAMAGE_ENTRIES * 2;
    uint64_t words[2] = { __atomic_load_n(slot, __ATOMIC_RELAXED), __atomic_load_n(slot + 1, __ATOMIC_RELAXED) };
    demux_surface_entry entry;
    __builtin_memcpy(&entry, words, sizeof entry);
    return entry;
}

// The head once more, after entries were copied.
static inline uint64_t demux_surface_head_again(const demux_surface_header *header) {
    __atomic_thread_fence(__ATOMIC_ACQUIRE);
    return __atomic_load_n(&header->damage_head, __ATOMIC_RELAXED);
}

// MARK: the cursor's seqlock

typedef struct demux_surface_cursor {
    int32_t x;
    int32_t y;
    uint32_t hot_x;
    uint32_t hot_y;
    uint32_t width;
    uint32_t height;
    uint32_t visible;
} demux_surface_cursor;

// Makes the sequence odd. `sequence` is the writer's own count of it, even.
static inline void demux_surface_cursor_begin(demux_surface_header *header, uint32_t sequence) {
    __atomic_store_n(&header->cursor_sequence, sequence + 1, __ATOMIC_RELAXED);
    __atomic_thread_fence(__ATOMIC_RELEASE);
}
static inline void demux_surface_cursor_end(demux_surface_header *header, uint32_t sequence) {
    __atomic_store_n(&header->cursor_sequence, sequence + 2, __ATOMIC_RELEASE);
}
static inline void demux_surface_cursor_place(demux_surface_header *header, int32_t x, int32_t y) {
    __atomic_store_n(&header->cursor_x, x, __ATOMIC_RELAXED);
    __atomic_store_n(&header->cursor_y, y, __ATOMIC_RELAXED);
}
static inline void demux_surface_cursor_visible(demux_surface_header *header, uint32_t visible) {
    __atomic_store_n(&header->cursor_visible, visible, __ATOMIC_RELAXED);
}
static inline void demux_surface_cursor_shape(
    demux_surface_header *header, uint32_t hot_x, uint32_t hot_y, uint32_t width, uint32_t height, const uint32_t *pixels) {
    uint32_t *image = (uint32_t *)(void *)((char *)header + DEMUX_SURFACE_CURSOR_OFFSET);
    __atomic_store_n(&header->cursor_hot_x, hot_x, __ATOMIC_RELAXED);
    __atomic_store_n(&header->cursor_hot_y, hot_y, __ATOMIC_RELAXED);
    __atomic_store_n(&header->cursor_width, width, __ATOMIC_RELAXED);
    __atomic_store_n(&header->cursor_height, height, __ATOMIC_RELAXED);
    for (uint32_t row = 0; row < height && row < DEMUX_SURFACE_CURSOR_SIDE; row++)
        for (uint32_t column = 0; column < width && column < DEMUX_SURFACE_CURSOR_SIDE; column++)
            __atomic_store_n(image + row * DEMUX_SURFACE_CURSOR_SIDE + column, pixels[row * width + column], __ATOMIC_RELAXED);
}

// Copies place, shape and the whole image. True when nothing of it changed meanwhile; false may be tried again.
static inline bool demux_surface_cursor_read(
    const demux_surface_header *header, uint32_t *sequence, demux_surface_cursor *cursor, uint32_t *pixels) {
    const uint32_t *image = (const uint32_t *)(const void *)((const char *)header + DEMUX_SURFACE_CURSOR_OFFSET);
    *sequence = __atomic_load_n(&header->cursor_sequence, __ATOMIC_ACQUIRE);
    if (*sequence & 1) return false;
    cursor->x = __atomic_load_n(&header->cursor_x, __ATOMIC_RELAXED);
    cursor->y = __atomic_load_n(&header->cursor_y, __ATOMIC_RELAXED);
    cursor->hot_x = __atomic_load_n(&header->cursor_hot_x, __ATOMIC_RELAXED);
    cursor->hot_y = __atomic_load_n(&header->cursor_hot_y, __ATOMIC_RELAXED);
    cursor->width = __atomic_load_n(&header->cursor_width, __ATOMIC_RELAXED);
    cursor->height = __atomic_load_n(&header->cursor_height, __ATOMIC_RELAXED);
    cursor->visible = __atomic_load_n(&header->cursor_visible, __ATOMIC_RELAXED);
    for (uint32_t i = 0; i < DEMUX_SURFACE_CURSOR_SIDE * DEMUX_SURFACE_CURSOR_SIDE; i++)
        pixels[i] = __atomic_load_n(image + i, __ATOMIC_RELAXED);
    __atomic_thread_fence(__ATOMIC_ACQUIRE);
    return __atomic_load_n(&header->cursor_sequence, __ATOMIC_RELAXED) == *sequence;
}

#endif
