// The scratch device in plain C: an isolated emulator, written from Protocols/emulator-protocol.md alone.
//
// The register file is in registers.c, the requests in serve.c, the coordinator in control.c; here is the loop that waits for
// either.
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "control.h"

static struct server device = {
    .ports = {.present = true, .first = 0x540, .length = REGISTERS_PORTS},
    .mmio = {.present = true, .first = 0xfed90000, .length = REGISTERS_MEMORY},
    .kick = -1,
    .done = -1,
    .slot_count = 1,
};
static struct control connection = {.next_id = 1, .phase = PHASE_STARTING, .server = &device};

static void tell_modified(void *context, uint64_t first, uint64_t last) {
    control_modified((struct control *)context, first, last);
}

static void tell_malformed(void *context, const char *what, uint64_t times) {
    char text[256];
    snprintf(text, sizeof text, "%s (%llu malformed so far)", what, (unsigned long long)times);
    control_log((struct control *)context, "warning", text);
}

// Serves until the coordinator says quit; the exit status.
static int run(void) {
    bool more = false;
    while (connection.phase != PHASE_QUIT) {
        bool serving = connection.phase == PHASE_SERVING;
        struct pollfd waiting[2] = {
            {.fd = connection.socket, .events = POLLIN}, // poll skips a negative number: a coordinator that is gone
            {.fd = serving ? device.kick : -1, .events = POLLIN},
        };
        if (poll(waiting, 2, more && serving ? 0 : -1) < 0) {
            if (errno == EINTR) continue;
            perror("demux-c-scratch: could not wait");
            return 1;
        }
        if (waiting[1].revents & ~POLLIN) {
            fprintf(stderr, "demux-c-scratch: the doorbell broke\n");
            return 1;
        }
        if (serving && (more || waiting[1].revents)) more = server_kicked(&device);
        if (waiting[0].revents && !control_readable(&connection)) {
            fprintf(stderr, "demux-c-scratch: the coordinator went away before it said start\n");
            return 1;
        }
    }
    return 0;
}

int main(int count, char **arguments) {
    if (count == 2 && strcmp(arguments[1], "--single-accesses") == 0) {
        connection.single_accesses = true;
    } else if (count > 1) {
        fprintf(stderr, "demux-c-scratch: the argument '%s' is not known; there is only --single-accesses\n", arguments[1]);
        return 2;
    }
    device.modified = tell_modified;
    device.malformed = tell_malformed;
    device.context = &connection;
    connection.socket = dmx_socket();
    if (connection.socket < 0) {
        fprintf(
            stderr,
            "demux-c-scratch: no coordinator: %s must hold the number of a SOCK_SEQPACKET socket's descriptor (%s); start this "
            "program from a guest's specification, or by 'demux attach'\n",
            DMX_SOCKET_VARIABLE, strerror(errno));
        return 2;
    }
    if (!control_start(&connection) && connection.phase != PHASE_QUIT) return 1;
    return run();
}
