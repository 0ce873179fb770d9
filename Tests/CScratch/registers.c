#include "registers.h"

#include <string.h>

#include "demux_emulator.h"

enum { IDENTITY = 0x10, SUM = 0x14, COUNTER = 0x18, MEMORY = 0x100 };

// Where an access that lies wholly in one piece of plain memory finds it; NULL otherwise.
static uint8_t *plain(struct registers *device, uint64_t window, uint64_t offset, uint32_t size) {
    if (offset > window || size > window - offset) return NULL;
    if (offset + size <= sizeof device->bytes) return device->bytes + offset;
    if (offset >= MEMORY && offset + size <= REGISTERS_MEMORY) return device->memory + offset;
    return NULL;
}

uint64_t registers_read(struct registers *device, uint64_t window, uint64_t offset, uint32_t size) {
    uint64_t value = 0;
    const uint8_t *bytes = plain(device, window, offset, size);
    if (bytes) {
        memcpy(&value, bytes, size);
        return value;
    }
    if (offset >= IDENTITY && offset < SUM && size <= SUM - offset)
        return (uint64_t)REGISTERS_IDENTITY >> ((offset - IDENTITY) * 8) & dmx_all_ones(size);
    if (offset == SUM && size <= 4) return device->sum & dmx_all_ones(size);
    if (offset == COUNTER && size <= 4) return device->counter++ & dmx_all_ones(size);
    return dmx_all_ones(size);
}

void registers_write(struct registers *device, uint64_t window, uint64_t offset, uint32_t size, uint64_t value) {
    uint8_t *bytes = plain(device, window, offset, size);
    value &= dmx_all_ones(size);
    if (bytes) memcpy(bytes, &value, size);
    else if (offset == SUM && size <= 4) device->sum += (uint32_t)value;
    else if (offset == COUNTER && size <= 4) device->counter = (uint32_t)value;
}
