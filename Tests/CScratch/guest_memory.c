#include "guest_memory.h"

#include "demux_emulator.h"

bool guest_memory_map(struct guest_memory *memory, int descriptor, uint64_t length) {
    void *file = dmx_map_sealed(descriptor, length);
    if (!file) return false;
    memory->file = (uint8_t *)file;
    memory->length = length;
    memory->region_count = 0;
    return true;
}

bool guest_memory_add(struct guest_memory *memory, uint64_t address, uint64_t length, uint64_t offset) {
    if (memory->region_count == GUEST_MEMORY_MOST_REGIONS || length == 0) return false;
    if (offset > memory->length || length > memory->length - offset || address > UINT64_MAX - (length - 1)) return false;
    memory->regions[memory->region_count].address = address;
    memory->regions[memory->region_count].length = length;
    memory->regions[memory->region_count].offset = offset;
    memory->region_count++;
    return true;
}

// One byte of RAM; NULL outside. Byte by byte, because a value may cross a region's end.
static uint8_t *byte_at(const struct guest_memory *memory, uint64_t address) {
    for (size_t i = 0; i < memory->region_count; i++) {
        uint64_t into = address - memory->regions[i].address;
        if (address >= memory->regions[i].address && into < memory->regions[i].length)
            return memory->file + memory->regions[i].offset + into;
    }
    return NULL;
}

bool guest_memory_load(const struct guest_memory *memory, uint64_t address, uint32_t size, uint64_t *value) {
    bool complete = true;
    *value = 0;
    for (uint32_t i = 0; i < size; i++) {
        const uint8_t *byte = byte_at(memory, address + i);
        complete = complete && byte;
        *value |= (uint64_t)(byte ? __atomic_load_n(byte, __ATOMIC_RELAXED) : 0xff) << (i * 8);
    }
    return complete;
}

bool guest_memory_store(struct guest_memory *memory, uint64_t address, uint32_t size, uint64_t value) {
    bool complete = true;
    for (uint32_t i = 0; i < size; i++) {
        uint8_t *byte = byte_at(memory, address + i);
        complete = complete && byte;
        if (byte) __atomic_store_n(byte, (uint8_t)(value >> (i * 8)), __ATOMIC_RELAXED);
    }
    return complete;
}
