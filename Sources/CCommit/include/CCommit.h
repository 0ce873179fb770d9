// The commit area of a state region (Protocols/emulator-protocol.md, section 10.1): a selector and two halves.
//
// What makes it hold against the death of the process at any instruction: a killed process has carried out its stores up to some instruction and
// none after it, whatever the processor's memory model, because the kernel's way from there to whoever looks afterwards orders them all. So it is
// the order of the *program* that counts. The atomics below keep the compiler to it, and serve a reader that looks while the process lives.
#ifndef DEMUX_CCOMMIT_H
#define DEMUX_CCOMMIT_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum { DEMUX_COMMIT_HEAD = 64, DEMUX_COMMIT_ENTRY = 32, DEMUX_COMMIT_MOST_ENTRIES = 128, DEMUX_COMMIT_BLOCK = 32 };
enum { DEMUX_COMMIT_DEVICE = DEMUX_COMMIT_HEAD + DEMUX_COMMIT_ENTRY * DEMUX_COMMIT_MOST_ENTRIES };

enum { DEMUX_ENTRY_ANSWERED = 1 };

// One half's head.
typedef struct demux_commit_head {
    uint64_t number;
    uint64_t sum;
    uint32_t version;
    uint32_t length;
    uint32_t entries;
    uint32_t posted;
    uint32_t position;
    uint32_t zero;
    uint64_t word;
    uint64_t zeros[2];
} demux_commit_head;

// What one slot's request had come to.
typedef struct demux_commit_entry {
    uint16_t slot;
    uint16_t flags;
    uint32_t sequence;
    uint32_t done;
    uint32_t zero;
    uint64_t value;
    uint64_t zeros;
} demux_commit_entry;

_Static_assert(sizeof(demux_commit_head) == DEMUX_COMMIT_HEAD, "a half's head is 64 bytes");
_Static_assert(sizeof(demux_commit_entry) == DEMUX_COMMIT_ENTRY, "an entry is 32 bytes");

// Four lanes of 64 bits, so that a compiler takes as many as the processor has room for.
typedef uint64_t demux_lanes __attribute__((vector_size(32)));
typedef struct demux_sum {
    demux_lanes plain, weighted;
} demux_sum;

// The sum: word i of the bytes goes to lane i mod 4; a lane adds it to `plain`, and then `plain` to `weighted`, modulo 2^64.
static inline demux_sum demux_sum_begin(void) {
    return (demux_sum){{0x9e3779b97f4a7c15, 0xbf58476d1ce4e5b9, 0x94d049bb133111eb, 0xd6e8feb86659fd93}, {0, 0, 0, 0}};
}

static inline void demux_sum_bytes(demux_sum *sum, const void *from, size_t blocks) {
    const unsigned char *source = (const unsigned char *)from;
    demux_lanes plain = sum->plain, weighted = sum->weighted;
    for (size_t block = 0; block < blocks; block++) {
        demux_lanes words;
        memcpy(&words, source + block * DEMUX_COMMIT_BLOCK, sizeof words);
        plain += words;
        weighted += plain;
    }
    sum->plain = plain;
    sum->weighted = weighted;
}

// Copies and sums in one pass. The two do not overlap.
static inline void demux_sum_copy(demux_sum *sum, void *to, const void *from, size_t blocks) {
    unsigned char *restrict target = (unsigned char *)to;
    const unsigned char *restrict source = (const unsigned char *)from;
    demux_lanes plain = sum->plain, weighted = sum->weighted;
    for (size_t block = 0; block < blocks; block++) {
        demux_lanes words;
        memcpy(&words, source + block * DEMUX_COMMIT_BLOCK, sizeof words);
        memcpy(target + block * DEMUX_COMMIT_BLOCK, &words, sizeof words);
        plain += words;
        weighted += plain;
    }
    sum->plain = plain;
    sum->weighted = weighted;
}

// Folds the lanes: for each, sum = (sum xor plain) * P, then sum = (sum xor weighted) * P, rotated left by 29 each time.
static inline uint64_t demux_sum_end(const demux_sum *sum) {
    uint64_t result = 0;
    for (int lane = 0; lane < 4; lane++) {
        result = (result ^ sum->plain[lane]) * 0xff51afd7ed558ccd;
        result = result << 29 | result >> 35;
        result = (result ^ sum->weighted[lane]) * 0xff51afd7ed558ccd;
        result = result << 29 | result >> 35;
    }
    return result;
}

// Writes a half: device bytes, then the head. The entries, `head.entries` of them, are in it already. `blocks` is the device's bytes, rounded
// up to whole blocks, in `from` and in the half.
static inline void demux_commit_write(void *half, demux_commit_head head, const void *from, size_t blocks) {
    unsigned char *place = (unsigned char *)half;
    demux_sum sum = demux_sum_begin();
    head.sum = 0;
    demux_sum_bytes(&sum, &head, DEMUX_COMMIT_HEAD / DEMUX_COMMIT_BLOCK);
    demux_sum_bytes(&sum, place + DEMUX_COMMIT_HEAD, head.entries);
    demux_sum_copy(&sum, place + DEMUX_COMMIT_DEVICE, from, blocks);
    head.sum = demux_sum_end(&sum);
    memcpy(place, &head, sizeof head);
}

// The sum that a half should have; `head` is a copy of its head, whose numbers were checked.
static inline uint64_t demux_commit_sum(const void *half, demux_commit_head head, size_t blocks) {
    const unsigned char *place = (const unsigned char *)half;
    demux_sum sum = demux_sum_begin();
    head.sum = 0;
    demux_sum_bytes(&sum, &head, DEMUX_COMMIT_HEAD / DEMUX_COMMIT_BLOCK);
    demux_sum_bytes(&sum, place + DEMUX_COMMIT_HEAD, head.entries);
    demux_sum_bytes(&sum, place + DEMUX_COMMIT_DEVICE, blocks);
    return demux_sum_end(&sum);
}

// Flips: release order, so that no store to the half comes after it. The fence behind it keeps the compiler from moving the stores of the next commit,
// which go to the half that this one has just given up, in front of it.
static inline void demux_commit_select(uint64_t *selector, uint64_t number) {
    __atomic_store_n(selector, number, __ATOMIC_RELEASE);
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
}

// Acquire order: what the one that flipped had written is seen.
static inline uint64_t demux_commit_selected(const uint64_t *selector) { return __atomic_load_n(selector, __ATOMIC_ACQUIRE); }

// One more request is about to be taken from a slot. Before the slot's move to INPROCESS, which has release order: whoever finds that
// state finds the new number.
static inline void demux_taken_advance(uint32_t *taken) {
    __atomic_store_n(taken, __atomic_load_n(taken, __ATOMIC_RELAXED) + 1, __ATOMIC_RELEASE);
}
// Says that everything before holds.
static inline void demux_mark(uint32_t *place) { __atomic_store_n(place, 1, __ATOMIC_RELEASE); }

static inline uint32_t demux_taken_read(const uint32_t *taken) { return __atomic_load_n(taken, __ATOMIC_ACQUIRE); }

#endif
