// The struct control connection: what is said to the coordinator and what it says.
#ifndef CONTROL_H
#define CONTROL_H

#include <stdbool.h>
#include <stdint.h>

#include "demux_emulator.h"
#include "demux_emulator_json.h"
#include "serve.h"

typedef enum phase { PHASE_STARTING, PHASE_READY, PHASE_SERVING, PHASE_PAUSED, PHASE_QUIT } phase;

struct control {
    int socket; // -1 once the coordinator has closed its end
    uint32_t next_id;
    phase phase;
    bool single_accesses; // do not say that requests with a buffer in guest memory are understood
    struct server *server;
    dmx_packet packet; // the packet that is being looked at
    dmx_json body;     // the same, as JSON
};

// Says hello and carries out everything up to the answer to `ready`. False, after a line on standard error, when it cannot.
bool control_start(struct control *control);
// The socket is readable: handles what waits, in a bounded time. False when the program must end, because the coordinator is
// gone before it ever said `start`.
bool control_readable(struct control *control);
// Receives a packet; refuses one that was cut off.
dmx_received control_receive(struct control *control, bool wait);
// Handles the packet that was received. True when it answers the request `awaited` (0: none is awaited); *refused then says how.
bool control_handle(struct control *control, uint64_t awaited, bool *refused);
// Sends a packet, waiting for room.
bool control_send(struct control *control, dmx_text *text);
// A number that a message must have, at most `most`.
bool control_integer(dmx_json body, const char *name, uint64_t most, uint64_t *number);
// A line for the guest's log; dropped when the socket has no room.
void control_log(struct control *control, const char *level, const char *message);
// Tells that guest memory was written while dirty logging is on.
void control_modified(struct control *control, uint64_t first, uint64_t last);

#endif
