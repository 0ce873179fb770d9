// Requests and posted writes: from the shared pages to the registers and back.
#ifndef SERVE_H
#define SERVE_H

#include <stdbool.h>
#include <stdint.h>

#include "demux_emulator.h"
#include "guest_memory.h"
#include "registers.h"

// A window of the device in the guest's address space.
struct window {
    bool present;
    uint64_t claim; // the coordinator's number for it
    uint64_t first;
    uint64_t length;
};

struct server {
    dmx_slots_page *page;
    dmx_ring *ring; // NULL: there is none
    dmx_counters_page *counters;
    int kick, done;
    unsigned slot_count; // 1 to 128
    struct window ports, mmio;
    struct registers device;
    struct guest_memory memory;
    bool dirty_logging;
    // Called after guest memory was written while dirty logging is on: frames `first` to `last`.
    void (*modified)(void *context, uint64_t first, uint64_t last);
    // Called when a malformed request was answered, at its first, second, fourth, eighth … time.
    void (*malformed)(void *context, const char *what, uint64_t times);
    void *context;
    uint64_t malformed_count;
};

// What a predecessor on this server left: answers what it had taken, and rings for what it had answered. Once, at `start`.
void server_adopt(struct server *server);
// Looks at every slot and the ring once; true when there was something.
bool server_look(struct server *server);
// The `kick` bell is readable: clears it and serves until nothing is left, in a bounded time. True when there may be more.
bool server_kicked(struct server *server);

#endif
