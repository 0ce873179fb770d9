// The scratch device itself: a register file that is seen at I/O ports and at MMIO. It knows no protocol.
#ifndef REGISTERS_H
#define REGISTERS_H

#include <stdbool.h>
#include <stdint.h>

enum {
    REGISTERS_PORTS = 32,         // length of the port window
    REGISTERS_MEMORY = 4096,      // length of the MMIO window
    REGISTERS_IDENTITY = 0x54524343, // "CCRT", little-endian
};

struct registers {
    uint8_t bytes[16];                 // 0x00-0x0f
    uint32_t sum;                      // 0x14
    uint32_t counter;                  // 0x18
    uint8_t memory[REGISTERS_MEMORY];  // 0x100-0xfff are in use
};

// `offset` is from the start of the window and may be anything; `window` is its length; `size` is 1, 2, 4 or 8.
// What is not there reads as all-ones.
uint64_t registers_read(struct registers *device, uint64_t window, uint64_t offset, uint32_t size);
// What is not there ignores writes.
void registers_write(struct registers *device, uint64_t window, uint64_t offset, uint32_t size, uint64_t value);

#endif
