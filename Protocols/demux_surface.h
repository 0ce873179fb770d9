// The surface, version 1, for programs in C: the layouts, the atomic moves of a reader, and the doorbells.
//
// The rules are in surface.md, beside this file; section numbers below are that document's. Header only, libc only, GCC or
// Clang, C11 (with -std=gnu11). Everything here is safe against hostile values in a surface: what dmx_surface_look gives lies
// inside it.
#ifndef DEMUX_SURFACE_H
#define DEMUX_SURFACE_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <unistd.h>

#if !defined(__GNUC__) || __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "The surface is little-endian and the moves on it use GCC's and Clang's atomic built-ins."
#endif

#ifdef __cplusplus
extern "C" {
#endif

// MARK: layouts

enum {
    DMX_SURFACE_VERSION = 1,
    DMX_SURFACE_FORMAT = 1, // 0x00RRGGBB in a native word
    DMX_SURFACE_DAMAGE_OFFSET = 4096,
    DMX_SURFACE_ENTRIES = 1024,
    DMX_SURFACE_CURSOR_OFFSET = 20480,
    DMX_SURFACE_CURSOR_SIDE = 64,
    DMX_SURFACE_PIXELS_OFFSET = 36864,
    DMX_SURFACE_LARGEST_SIDE = 8192,
    DMX_SURFACE_LARGEST_LENGTH = 268435456,
    DMX_READER_PAGE_LENGTH = 4096,
};
enum { DMX_SURFACE_RETIRED = 1, DMX_SURFACE_BLANK = 2 };
enum { DMX_SURFACE_DAMAGE = 1, DMX_SURFACE_COPY = 2 };

#define DMX_SURFACE_MAGIC 0x3146525553584d44ull // "DMXSURF1"
#define DMX_READER_MAGIC 0x3144414552584d44ull  // "DMXREAD1"

// Section 2.
typedef struct dmx_surface {
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
    uint32_t hot_x;
    uint32_t hot_y;
    uint32_t cursor_width;
    uint32_t cursor_height;
    uint32_t visible;
} dmx_surface;

// Section 3.
typedef struct dmx_surface_entry {
    uint16_t x;
    uint16_t y;
    uint16_t width;
    uint16_t height;
    uint16_t kind;
    uint16_t source_x;
    uint16_t source_y;
    uint16_t pad;
} dmx_surface_entry;

// Section 5.
typedef struct dmx_reader_page {
    uint64_t magic;
    uint32_t version;
    uint32_t viewers;
    uint32_t max_rate;
    uint32_t reserved;
    uint64_t seen;
} dmx_reader_page;

// The length of a surface's file; 0 for sizes that no surface has.
static inline uint64_t dmx_surface_length(uint32_t width, uint32_t height) {
    if (width < 1 || height < 1 || width > DMX_SURFACE_LARGEST_SIDE || height > DMX_SURFACE_LARGEST_SIDE) return 0;
    uint64_t length = DMX_SURFACE_PIXELS_OFFSET + (uint64_t)width * 4 * height;
    return length <= DMX_SURFACE_LARGEST_LENGTH ? length : 0;
}

// Whether the header of a mapped surface is what the message said. Seals and length of the file are checked before mapping.
static inline bool dmx_surface_check(const dmx_surface *surface, uint32_t width, uint32_t height) {
    return surface->magic == DMX_SURFACE_MAGIC && surface->version == DMX_SURFACE_VERSION &&
        surface->pixels_offset == DMX_SURFACE_PIXELS_OFFSET && surface->width == width && surface->height == height &&
        surface->stride == width * 4 && surface->format == DMX_SURFACE_FORMAT && surface->length == dmx_surface_length(width, height);
}

// MARK: a reader (section 3)

typedef struct dmx_surface_reader {
    const dmx_surface *surface;
    uint32_t width; // from the message
    uint32_t height;
    uint64_t tail;
    bool looked;
} dmx_surface_reader;

static inline uint64_t dmx_surface_frame(const dmx_surface *surface) { return __atomic_load_n(&surface->frame, __ATOMIC_ACQUIRE); }
static inline uint32_t dmx_surface_flags(const dmx_surface *surface) { return __atomic_load_n(&surface->flags, __ATOMIC_ACQUIRE); }

// Cuts an entry to the surface; false when nothing of it is left. A copy that is not wholly inside becomes damage.
static inline bool dmx_surface_clamp(const dmx_surface_reader *reader, dmx_surface_entry *entry) {
    if (entry->x >= reader->width || entry->y >= reader->height || entry->width == 0 || entry->height == 0) return false;
    uint32_t width = reader->width - entry->x, height = reader->height - entry->y;
    bool whole = entry->width <= width && entry->height <= height;
    if (entry->kind == DMX_SURFACE_COPY &&
        (!whole || (uint32_t)entry->source_x + entry->width > reader->width || (uint32_t)entry->source_y + entry->height > reader->height))
        entry->kind = DMX_SURFACE_DAMAGE;
    if (entry->width > width) entry->width = (uint16_t)width;
    if (entry->height > height) entry->height = (uint16_t)height;
    return true;
}

// What has changed since the last look: the number of entries put into `entries` (room for 1023), all inside the surface; -1 when
// everything may have changed. `frame` gets what belongs into `seen`.
static inline int dmx_surface_look(dmx_surface_reader *reader, dmx_surface_entry *entries, uint64_t *frame) {
    const dmx_surface *surface = reader->surface;
    *frame = dmx_surface_frame(surface);
    uint64_t head = __atomic_load_n(&surface->damage_head, __ATOMIC_ACQUIRE), tail = reader->tail;
    bool everything = !reader->looked || head - tail >= DMX_SURFACE_ENTRIES;
    reader->tail = head;
    reader->looked = true;
    if (everything) return -1;
    const uint64_t *ring = (const uint64_t *)(const void *)((const char *)surface + DMX_SURFACE_DAMAGE_OFFSET);
    int count = 0;
    for (uint64_t n = tail; n != head; n++) {
        const uint64_t *slot = ring + n % DMX_SURFACE_ENTRIES * 2;
        uint64_t words[2] = { __atomic_load_n(slot, __ATOMIC_RELAXED), __atomic_load_n(slot + 1, __ATOMIC_RELAXED) };
        memcpy(&entries[count++], words, sizeof words);
    }
    __atomic_thread_fence(__ATOMIC_ACQUIRE);
    if (__atomic_load_n(&surface->damage_head, __ATOMIC_RELAXED) - tail >= DMX_SURFACE_ENTRIES) return -1;
    int kept = 0;
    for (int i = 0; i < count; i++) {
        dmx_surface_entry entry = entries[i];
        if (entry.kind != DMX_SURFACE_DAMAGE && entry.kind != DMX_SURFACE_COPY) return -1;
        if (dmx_surface_clamp(reader, &entry)) entries[kept++] = entry;
    }
    return kept;
}

// MARK: a reader's page and the doorbells (sections 5 and 6)

// Rings: never waits, raises no signal.
static inline void dmx_doorbell_ring(int fd) {
    if (send(fd, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 && errno == ENOTSOCK) {
        uint64_t one = 1;
        ssize_t written = write(fd, &one, sizeof one);
        (void)written;
    }
}

// Takes the rings so far. False when the other end is closed for good: watch it no longer.
static inline bool dmx_doorbell_clear(int fd) {
    char bytes[64];
    for (int i = 0; i < 8; i++) {
        ssize_t got = recv(fd, bytes, sizeof bytes, MSG_DONTWAIT);
        if (got == 0) return false;
        if (got < 0 && errno == ENOTSOCK) {
            uint64_t count;
            ssize_t taken = read(fd, &count, sizeof count);
            (void)taken;
        }
        if (got < (ssize_t)sizeof bytes) return true;
    }
    return true;
}

// Says what this reader wants, and tells the display.
static inline void dmx_reader_want(dmx_reader_page *page, int want, uint32_t viewers, uint32_t max_rate) {
    __atomic_store_n(&page->max_rate, max_rate, __ATOMIC_RELEASE);
    __atomic_store_n(&page->viewers, viewers, __ATOMIC_RELEASE);
    dmx_doorbell_ring(want);
}
static inline void dmx_reader_saw(dmx_reader_page *page, uint64_t frame) { __atomic_store_n(&page->seen, frame, __ATOMIC_RELEASE); }

#ifdef __cplusplus
}
#endif

#endif
