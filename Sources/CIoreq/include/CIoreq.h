// The ABI that Xen and a device emulator share, and the atomic moves on it.
//
// Follows xen/include/public/hvm/ioreq.h. Swift cannot import its bit-fields, so the byte that holds them is named
// here and taken apart with masks; sizes and offsets are checked at build time, and against Xen's own header in CXen.
#ifndef DEMUX_CIOREQ_H
#define DEMUX_CIOREQ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "demux_observe.h"

enum { DEMUX_PAGE_SIZE = 4096, DEMUX_SLOTS_PER_PAGE = 128, DEMUX_RING_ENTRIES = 511 };

enum { DEMUX_STATE_NONE = 0, DEMUX_STATE_READY = 1, DEMUX_STATE_INPROCESS = 2, DEMUX_STATE_RESPONSE_READY = 3 };

// The byte of bit-fields: state:4 data_is_ptr:1 dir:1 df:1 pad:1, lowest bit first.
enum { DEMUX_BITS_STATE = 0x0f, DEMUX_BITS_DATA_IS_PTR = 0x10, DEMUX_BITS_READ = 0x20, DEMUX_BITS_DF = 0x40 };

// struct ioreq: one vCPU's synchronous slot.
typedef struct demux_ioreq {
    uint64_t addr;
    uint64_t data;
    uint32_t count;
    uint32_t size;
    uint32_t vp_eport;
    uint16_t pad;
    uint8_t bits;
    uint8_t type;
} demux_ioreq;

// struct buffered_iopage: the ring of posted writes.
typedef struct demux_ring {
    uint32_t read_pointer;
    uint32_t write_pointer;
    uint64_t entries[DEMUX_RING_ENTRIES];
} demux_ring;

_Static_assert(sizeof(demux_ioreq) == 32, "struct ioreq is 32 bytes");
_Static_assert(offsetof(demux_ioreq, bits) == 30, "the state byte is byte 30 of struct ioreq");
_Static_assert(offsetof(demux_ioreq, type) == 31, "the type is byte 31 of struct ioreq");
_Static_assert(sizeof(demux_ring) == DEMUX_PAGE_SIZE, "the buffered ring fills one page");
_Static_assert(sizeof(demux_ioreq) * DEMUX_SLOTS_PER_PAGE == DEMUX_PAGE_SIZE, "128 slots fill one page");

// The bit-field byte, with acquire order: what the other side wrote before it moved the state is visible after this.
static inline uint8_t demux_slot_bits(const demux_ioreq *slot) { return __atomic_load_n(&slot->bits, __ATOMIC_ACQUIRE); }

// Stores the bit-field byte with release order: everything written to the slot before is visible to who sees it.
static inline void demux_slot_store_bits(demux_ioreq *slot, uint8_t bits) {
    __atomic_store_n(&slot->bits, bits, __ATOMIC_RELEASE);
}

// Moves the state from one value to another, keeping the other bits; false when the state was not `from`.
// A compare-exchange, because a coordinator may answer a dead emulator's slot while its successor looks at it.
static inline bool demux_slot_move(demux_ioreq *slot, uint8_t from, uint8_t to) {
    uint8_t old = __atomic_load_n(&slot->bits, __ATOMIC_ACQUIRE);
    while ((old & DEMUX_BITS_STATE) == from) {
        uint8_t wanted = (uint8_t)((old & ~DEMUX_BITS_STATE) | to);
        if (__atomic_compare_exchange_n(&slot->bits, &old, wanted, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
            return true;
    }
    return false;
}

// Both ring pointers, read pointer in the low half, in one atomic load: Xen rewinds both at once (ATOMIC mode).
static inline uint64_t demux_ring_pointers(const demux_ring *ring) {
    return __atomic_load_n((const uint64_t *)(const void *)ring, __ATOMIC_ACQUIRE);
}

static inline bool demux_ring_exchange_pointers(demux_ring *ring, uint64_t expected, uint64_t wanted) {
    return __atomic_compare_exchange_n((uint64_t *)(void *)ring, &expected, wanted, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
}

// The emulator gives entries back. An atomic add, because Xen may subtract 511 from both pointers at any moment.
static inline void demux_ring_consume(demux_ring *ring, uint32_t entries) {
    __atomic_fetch_add(&ring->read_pointer, entries, __ATOMIC_ACQ_REL);
}

// The host publishes entries that it has written.
static inline void demux_ring_publish(demux_ring *ring, uint32_t entries) {
    __atomic_fetch_add(&ring->write_pointer, entries, __ATOMIC_ACQ_REL);
}

// A counter in a page that another process reads: a plain, untorn store.
static inline void demux_counter_add(uint64_t *counter, uint64_t amount) {
    __atomic_store_n(counter, __atomic_load_n(counter, __ATOMIC_RELAXED) + amount, __ATOMIC_RELAXED);
}
// The number of requests taken from a slot: one more.
static inline void demux_sequence_advance(uint32_t *sequence) {
    __atomic_store_n(sequence, __atomic_load_n(sequence, __ATOMIC_RELAXED) + 1, __ATOMIC_RELAXED);
}
static inline uint32_t demux_sequence_read(const uint32_t *sequence) { return __atomic_load_n(sequence, __ATOMIC_RELAXED); }
static inline uint64_t demux_counter_read(const uint64_t *counter) { return __atomic_load_n(counter, __ATOMIC_RELAXED); }

// A word of memory that outlives its writer: whoever reads it later sees all that was written before.
static inline void demux_word_store(uint64_t *word, uint64_t value) { __atomic_store_n(word, value, __ATOMIC_RELEASE); }
static inline uint64_t demux_word_load(const uint64_t *word) { return __atomic_load_n(word, __ATOMIC_ACQUIRE); }

// Orders this side's writes to the page before the notification that follows.
static inline void demux_fence(void) { __atomic_thread_fence(__ATOMIC_SEQ_CST); }

static inline void demux_cpu_relax(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
}

#endif
