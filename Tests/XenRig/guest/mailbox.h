// mailbox.h: how a program in dom0 drives the agent. No I/O is involved: dom0 maps the page at guest-physical
// AGENT_MAILBOXES (xenforeignmemory) and writes there.
//
// There is one mailbox for each vCPU, vCPU v's at AGENT_MAILBOXES + v * AGENT_MAILBOX_SIZE. To have an access made:
// wait until magic is there; fill opcode to flags; then increment `submitted` (a release store). The agent runs the
// access with one instruction, writes `value` and `status`, and then sets `done` equal to `submitted`. A vCPU whose
// access is not answered stays in it, and its `done` behind. All fields are little-endian.
#pragma once
#include <stdint.h>

#define AGENT_MAILBOXES     0x20000u
#define AGENT_MAILBOX_SIZE  128u
#define AGENT_MAGIC         0x58554d44u         // "DMUX" in memory
#define AGENT_BUFFERS       0x30000u            // for the string operations: RAM that nothing else uses,
#define AGENT_BUFFERS_END   0x60000u            // up to here

enum agent_opcode {
    AGENT_PORT_READ = 1,    // value = in(address)
    AGENT_PORT_WRITE = 2,   // out(address, value)
    AGENT_REP_INS = 3,      // port → buffer
    AGENT_REP_OUTS = 4,     // buffer → port
    AGENT_MMIO_READ = 5,    // value = [address]; 8 bytes through an MMX register
    AGENT_MMIO_WRITE = 6,   // [address] = value
    AGENT_REP_MOVS_OUT = 7, // buffer → address
    AGENT_REP_MOVS_IN = 8,  // address → buffer
    AGENT_REP_STOS = 9,     // value → address, repeatedly
    AGENT_PCI_READ = 10,    // address is what goes to CF8, with its low two bits: CF8 = address & ~3, then a read at
    AGENT_PCI_WRITE = 11,   // … or a write, at CFC + (address & 3)
    AGENT_NOP = 12,
    AGENT_REP_MOVS_MMIO = 13, // address → the address in `value`
};
enum { AGENT_FLAG_DOWN = 1 };                   // direction flag set: addresses are those of the first, highest element
enum { AGENT_OK = 0, AGENT_REFUSED = 1 };       // refused: unknown opcode, or a size that it cannot have

struct agent_mailbox {
    volatile uint32_t magic;        // 0x00  AGENT_MAGIC once this vCPU's agent is up
    volatile uint32_t submitted;    // 0x04  incremented by dom0
    volatile uint32_t done;         // 0x08  set by the agent
    volatile uint32_t opcode;       // 0x0c
    volatile uint64_t address;      // 0x10  port, guest-physical address, or CF8 value
    volatile uint64_t value;        // 0x18  in: data; out: the result of a read
    volatile uint32_t size;         // 0x20  bytes of one element: 1, 2, 4; and 8 for single MMIO accesses
    volatile uint32_t count;        // 0x24  elements of a string operation
    volatile uint32_t buffer;       // 0x28  guest-physical address of its RAM side
    volatile uint32_t flags;        // 0x2c
    volatile uint32_t status;       // 0x30  out: AGENT_OK or AGENT_REFUSED
    uint32_t reserved[19];
};
_Static_assert(sizeof(struct agent_mailbox) == AGENT_MAILBOX_SIZE, "a mailbox is 128 bytes");
