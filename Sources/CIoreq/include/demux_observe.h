// The observation memory of one emulator: what it writes while it serves, and others read (Protocols/emulator-protocol.md, section 8.1).
//
// One process writes it, with plain untorn stores; readers trust none of it. Pages are touched only by what is written into them: the
// first by every emulator, one for each window that was accessed, the ring only while somebody traces.
#ifndef DEMUX_OBSERVE_H
#define DEMUX_OBSERVE_H

#include <cpuid.h>
#include <stddef.h>
#include <stdint.h>

enum {
    DEMUX_OBSERVE_VERSION = 1,
    DEMUX_OBSERVE_BLOCKS = 32,
    DEMUX_OBSERVE_BUCKETS = 504,
    DEMUX_OBSERVE_TRACES = 8192,
    DEMUX_OBSERVE_CLOCK_TSC = 1,
    DEMUX_OBSERVE_CLOCK_MONOTONIC = 2,
};

// "DMXOBS01", little-endian.
static const uint64_t demux_observe_magic = 0x313053424f584d44ull;

// Which range a histogram is of. Block 0 is for everything that has none of its own.
typedef struct demux_observe_window {
    uint64_t first;
    uint64_t last;
    uint32_t kind;  // 0 none, 1 ports, 2 guest-physical, 3 a PCI function's configuration space (first: its request address)
    uint32_t reserved;
} demux_observe_window;

typedef struct demux_observe_head {
    uint64_t magic;
    uint32_t version;
    uint32_t tracing;  // the coordinator's: not 0 while somebody traces
    uint32_t clock;
    uint32_t reserved;
    uint64_t ticks_per_second;
    uint64_t base_ticks;
    uint64_t base_nanoseconds;  // CLOCK_MONOTONIC at base_ticks
    uint64_t traced;            // entries written to the ring since the beginning
    uint8_t space[200];
    demux_observe_window windows[DEMUX_OBSERVE_BLOCKS];
    uint8_t rest[3072];
} demux_observe_head;

// Latencies in ticks: 8 buckets for each power of two, so that a bucket is at most an eighth wider than its lower end.
typedef struct demux_observe_block {
    uint64_t count;
    uint64_t sum;
    uint64_t longest;
    uint64_t space[5];
    uint64_t buckets[DEMUX_OBSERVE_BUCKETS];
} demux_observe_block;

typedef struct demux_observe_trace {
    uint64_t number;  // of this entry, from 1 on
    uint64_t begun;   // ticks
    uint64_t duration;
    uint64_t address;
    uint64_t value;
    uint32_t count;
    uint32_t size;
    uint8_t type;
    uint8_t slot;   // 255: taken from the ring of posted writes
    uint8_t flags;  // 1 read, 2 data is a pointer, 4 backwards, 8 answered late
    uint8_t block;
    uint8_t space[12];
} demux_observe_trace;

typedef struct demux_observe_memory {
    demux_observe_head head;
    demux_observe_block blocks[DEMUX_OBSERVE_BLOCKS];
    demux_observe_trace traces[DEMUX_OBSERVE_TRACES];
} demux_observe_memory;

_Static_assert(sizeof(demux_observe_head) == 4096, "the head fills one page");
_Static_assert(offsetof(demux_observe_head, windows) == 256, "the table of windows is at byte 256");
_Static_assert(sizeof(demux_observe_block) == 4096, "a histogram fills one page");
_Static_assert(sizeof(demux_observe_trace) == 64, "an entry fills one cache line");
_Static_assert(sizeof(demux_observe_memory) == 4096 * 33 + 64 * 8192, "there are no gaps");

static inline uint64_t demux_observe_load(const uint64_t *word) { return __atomic_load_n(word, __ATOMIC_RELAXED); }
static inline void demux_observe_store(uint64_t *word, uint64_t value) { __atomic_store_n(word, value, __ATOMIC_RELAXED); }
static inline void demux_observe_publish(uint64_t *word, uint64_t value) { __atomic_store_n(word, value, __ATOMIC_RELEASE); }
static inline uint32_t demux_observe_tracing(const demux_observe_head *head) { return __atomic_load_n(&head->tracing, __ATOMIC_RELAXED); }
static inline void demux_observe_set_tracing(demux_observe_head *head, uint32_t on) { __atomic_store_n(&head->tracing, on, __ATOMIC_RELAXED); }

static inline demux_observe_block *demux_observe_block_at(demux_observe_memory *memory, uint32_t index) {
    return &memory->blocks[index & (DEMUX_OBSERVE_BLOCKS - 1)];
}
static inline demux_observe_window *demux_observe_window_at(demux_observe_memory *memory, uint32_t index) {
    return &memory->head.windows[index & (DEMUX_OBSERVE_BLOCKS - 1)];
}

// Adds one latency. The bucket's index is in bounds for every value: at most 495.
static inline void demux_observe_record(demux_observe_memory *memory, uint32_t index, uint64_t ticks) {
    demux_observe_block *block = demux_observe_block_at(memory, index);
    unsigned bucket = (unsigned)ticks;
    if (ticks >= 8) {
        unsigned exponent = 63u - (unsigned)__builtin_clzll(ticks);
        bucket = (exponent - 2) * 8 + ((unsigned)(ticks >> (exponent - 3)) & 7);
    }
    demux_observe_store(&block->count, demux_observe_load(&block->count) + 1);
    demux_observe_store(&block->sum, demux_observe_load(&block->sum) + ticks);
    demux_observe_store(&block->buckets[bucket], demux_observe_load(&block->buckets[bucket]) + 1);
    if (ticks > demux_observe_load(&block->longest)) demux_observe_store(&block->longest, ticks);
}

// Writes the next entry of the ring; a reader that finds another number in it has been overtaken.
static inline void demux_observe_add_trace(demux_observe_memory *memory, demux_observe_trace entry) {
    uint64_t number = demux_observe_load(&memory->head.traced);
    demux_observe_trace *place = &memory->traces[number & (DEMUX_OBSERVE_TRACES - 1)];
    demux_observe_store(&place->number, 0);
    __atomic_thread_fence(__ATOMIC_RELEASE);
    place->begun = entry.begun;
    place->duration = entry.duration;
    place->address = entry.address;
    place->value = entry.value;
    place->count = entry.count;
    place->size = entry.size;
    place->type = entry.type;
    place->slot = entry.slot;
    place->flags = entry.flags;
    place->block = entry.block;
    demux_observe_publish(&place->number, number + 1);
    demux_observe_publish(&memory->head.traced, number + 1);
}

// The processor's time-stamp counter: a few nanoseconds to read, and no system call whatever the kernel's clock source is.
static inline uint64_t demux_observe_ticks(void) { return __builtin_ia32_rdtsc(); }

// Whether the counter runs at one rate whatever the processor does (CPUID 0x80000007, EDX bit 8): only then is it a clock.
static inline int demux_observe_has_clock(void) {
    unsigned a = 0, b = 0, c = 0, d = 0;
    return __get_cpuid(0x80000007u, &a, &b, &c, &d) != 0 && (d & 1u << 8) != 0;
}

#endif
