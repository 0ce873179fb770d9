// The guest's RAM, when the coordinator shares it as a file (the answer to `memory` with kind "shared").
#ifndef GUEST_MEMORY_H
#define GUEST_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { GUEST_MEMORY_MOST_REGIONS = 16 };

struct guest_memory {
    uint8_t *file; // NULL: there is none, and every address is outside
    uint64_t length;
    size_t region_count;
    struct {
        uint64_t address, length, offset;
    } regions[GUEST_MEMORY_MOST_REGIONS];
};

// Maps the file after checking it; false with errno when it is not what was announced.
bool guest_memory_map(struct guest_memory *memory, int descriptor, uint64_t length);
// Adds a region; false when it does not lie in the file, wraps, or is one too many.
bool guest_memory_add(struct guest_memory *memory, uint64_t address, uint64_t length, uint64_t offset);

// A little-endian value of 1 to 8 bytes. Bytes outside RAM read as 0xff, and writes to them are dropped: false then.
bool guest_memory_load(const struct guest_memory *memory, uint64_t address, uint32_t size, uint64_t *value);
bool guest_memory_store(struct guest_memory *memory, uint64_t address, uint32_t size, uint64_t value);

#endif
