#include "control.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { TEXT = 2048 };

// MARK: sending

static bool send_text(struct control *control, const dmx_text *text, bool wait) {
    if (control->socket < 0 || text->full) return false;
    return dmx_send(control->socket, text->at, text->length, wait);
}

void control_log(struct control *control, const char *level, const char *message) {
    char buffer[TEXT];
    dmx_text text = dmx_text_in(buffer, sizeof buffer);
    dmx_text_add(&text, "{\"type\":\"log\",\"level\":\"%s\",\"message\":", level);
    dmx_text_quote(&text, message);
    dmx_text_add(&text, "}");
    send_text(control, &text, false);
}

void control_modified(struct control *control, uint64_t first, uint64_t last) {
    char buffer[TEXT];
    dmx_text text = dmx_text_in(buffer, sizeof buffer);
    dmx_text_add(&text, "{\"type\":\"modified\",\"gfn\":\"0x%" PRIx64 "\",\"count\":%" PRIu64 "}", first, last - first + 1);
    // Waits for room: a page that is not reported is lost in a migration.
    send_text(control, &text, true);
}

// A message of the coordinator's that is no answer.
struct message {
    const char *type;
    bool numbered; // whether it has an `id`, and so wants an answer
    uint64_t id;
};

static void answer_ok(struct control *control, const struct message *message) {
    char buffer[TEXT];
    dmx_text text = dmx_text_in(buffer, sizeof buffer);
    if (!message->numbered) return;
    dmx_text_add(&text, "{\"type\":\"ok\",\"re\":%" PRIu64 "}", message->id);
    send_text(control, &text, false);
}

static void refuse(struct control *control, const struct message *message, const char *code, const char *why) {
    char buffer[TEXT];
    dmx_text text = dmx_text_in(buffer, sizeof buffer);
    dmx_text_add(&text, "{\"type\":\"error\",");
    if (message->numbered) dmx_text_add(&text, "\"re\":%" PRIu64 ",", message->id);
    dmx_text_add(&text, "\"code\":\"%s\",\"asked\":", code);
    dmx_text_quote(&text, message->type);
    dmx_text_add(&text, ",\"message\":");
    dmx_text_quote(&text, why);
    dmx_text_add(&text, "}");
    send_text(control, &text, false);
}

// Refuses a packet of which not even the type can be told.
static void refuse_packet(struct control *control, const char *code, const char *why) {
    struct message message = {.type = "a packet"};
    refuse(control, &message, code, why);
}

// MARK: receiving

// A number of the message, 0 to 2^32-1. False when it is absent; *broken is set when it is there and is something else.
static bool get_id(dmx_json body, const char *name, uint64_t *id, bool *broken) {
    dmx_json value;
    if (!dmx_json_get(body, name, &value)) return false;
    if (dmx_json_unsigned(value, id) && *id <= UINT32_MAX) return true;
    *broken = true;
    return false;
}

bool control_integer(dmx_json body, const char *name, uint64_t most, uint64_t *number) {
    dmx_json value;
    return dmx_json_get(body, name, &value) && dmx_json_unsigned(value, number) && *number <= most;
}

static void start_serving(struct control *control, const struct message *message) {
    control->phase = PHASE_SERVING;
    server_adopt(control->server);
    server_look(control->server);
    // What comes from now on rings the bell, and the main loop hears it.
    answer_ok(control, message);
}

static void change_vcpu(struct control *control, const struct message *message) {
    uint64_t vcpu;
    dmx_json value;
    char change[16];
    if (!dmx_json_get(control->body, "change", &value) || !dmx_json_string(value, change, sizeof change) ||
        (strcmp(change, "added") != 0 && strcmp(change, "gone") != 0) ||
        !control_integer(control->body, "vcpu", UINT32_MAX, &vcpu)) {
        refuse(control, message, DMX_ERROR_MALFORMED, "it needs 'vcpu' (a number) and 'change' (added or gone)");
    } else if (vcpu >= DMX_SLOTS) {
        refuse(control, message, DMX_ERROR_INVALID, "there are slots 0 to 127");
    } else {
        // A vCPU that is gone keeps its slot: it may come back, and looking costs nothing.
        if (strcmp(change, "added") == 0 && vcpu >= control->server->slot_count) control->server->slot_count = (unsigned)vcpu + 1;
        answer_ok(control, message);
    }
}

static void change_dirty_logging(struct control *control, const struct message *message) {
    dmx_json value;
    if (dmx_json_get(control->body, "on", &value) && dmx_json_boolean(value, &control->server->dirty_logging))
        answer_ok(control, message);
    else
        refuse(control, message, DMX_ERROR_MALFORMED, "it needs 'on' (true or false)");
}

static void give_back(struct control *control, struct window *window) {
    char buffer[TEXT];
    dmx_text text = dmx_text_in(buffer, sizeof buffer);
    if (!window->present) return;
    dmx_text_add(
        &text, "{\"type\":\"unclaim\",\"id\":%" PRIu32 ",\"claim\":%" PRIu64 "}", control->next_id++, window->claim);
    // Waits for room: a claim that stays would have the guest find the device again.
    send_text(control, &text, true);
    window->present = false;
}

// The guest's own drivers take over. Every request is answered before the next packet is looked at, and nothing is kept back: the
// device only has to go. Asked again, there is nothing left to remove.
static void unplug(struct control *control, const struct message *message) {
    dmx_json classes, key, value;
    const char *cursor = NULL;
    char word[32], buffer[TEXT];
    bool concerned = false;
    struct server *server = control->server;
    dmx_text text = dmx_text_in(buffer, sizeof buffer);
    if (!message->numbered || !dmx_json_get(control->body, "classes", &classes) || *classes.at != '[') {
        refuse(control, message, DMX_ERROR_MALFORMED, "it needs an 'id', and 'classes' (a list)");
        return;
    }
    while (dmx_json_next(classes, &cursor, &key, &value))
        if (dmx_json_string(value, word, sizeof word) && strcmp(word, DMX_UNPLUG_NIC) == 0) concerned = true;
    bool removes = concerned && (server->ports.present || server->mmio.present);
    if (removes) {
        give_back(control, &server->ports);
        give_back(control, &server->mmio);
    }
    dmx_text_add(&text, "{\"type\":\"ok\",\"re\":%" PRIu64 ",\"removed\":[%s]}", message->id, removes ? "\"c-scratch\"" : "");
    send_text(control, &text, true);
}

static bool emulator_says(const char *type) {
    static const char *const types[] = {"hello", "claim", "unclaim", "pci",      "ready", "intx",
                                        "msi",   "memory", "dma",    "modified", "log"};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (strcmp(type, types[i]) == 0) return true;
    return false;
}

static void handle_request(struct control *control, const struct message *message) {
    const char *type = message->type;
    bool started = control->phase == PHASE_SERVING || control->phase == PHASE_PAUSED;
    if (strcmp(type, "quit") == 0) {
        // Nothing is in flight: every request is answered before the next packet is looked at.
        answer_ok(control, message);
        control->phase = PHASE_QUIT;
    } else if (strcmp(type, "start") == 0) {
        if (control->phase == PHASE_READY) start_serving(control, message);
        else refuse(control, message, DMX_ERROR_ORDER, "it comes once, after 'ready'");
    } else if (strcmp(type, "pause") == 0 || strcmp(type, "resume") == 0) {
        if (!started) {
            refuse(control, message, DMX_ERROR_ORDER, "this emulator has not been started");
        } else {
            control->phase = strcmp(type, "pause") == 0 ? PHASE_PAUSED : PHASE_SERVING;
            if (control->phase == PHASE_SERVING) dmx_bell_ring(control->server->kick); // look at everything once
            answer_ok(control, message);
        }
    } else if (strcmp(type, "vcpu") == 0) {
        change_vcpu(control, message);
    } else if (strcmp(type, "unplug") == 0) {
        unplug(control, message);
    } else if (strcmp(type, "dirty-logging") == 0) {
        change_dirty_logging(control, message);
    } else if (strcmp(type, "attach") == 0) {
        refuse(control, message, DMX_ERROR_ORDER, "it comes once, as the answer to 'hello'");
    } else {
        refuse(
            control, message, DMX_ERROR_UNSUPPORTED,
            emulator_says(type) ? "it is the emulator that says this" : "this emulator does not know the type");
    }
}

bool control_handle(struct control *control, uint64_t awaited, bool *refused) {
    char type[64] = "a packet";
    dmx_json value;
    struct message message = {.type = type};
    uint64_t re = 0;
    bool broken = false;
    *refused = false;
    if (!dmx_json_parse(control->packet.bytes, control->packet.length, &control->body)) {
        refuse_packet(control, DMX_ERROR_MALFORMED, "it is not a JSON object");
        return false;
    }
    message.numbered = get_id(control->body, "id", &message.id, &broken);
    bool answers = get_id(control->body, "re", &re, &broken);
    if (broken || !dmx_json_get(control->body, "type", &value) || *value.at != '"') {
        refuse(control, &message, DMX_ERROR_MALFORMED, "it needs a 'type'; 'id' and 're' are numbers of 32 bits");
        return false;
    }
    if (!dmx_json_string(value, type, sizeof type)) {
        strcpy(type, "a packet");
        refuse(control, &message, DMX_ERROR_UNSUPPORTED, "its type is longer than any that this emulator knows");
        return false;
    }
    // An ok or an error is never answered: two programs could go on refusing each other's refusals for ever. `attach` is the
    // answer to hello.
    bool is_error = strcmp(type, "error") == 0;
    if (is_error) fprintf(stderr, "demux-c-scratch: refused: %.*s\n", (int)control->packet.length, control->packet.bytes);
    if (is_error || strcmp(type, "ok") == 0 || (strcmp(type, "attach") == 0 && answers && awaited)) {
        *refused = is_error;
        return awaited && answers && re == awaited;
    }
    handle_request(control, &message);
    return false;
}

bool control_send(struct control *control, dmx_text *text) { return send_text(control, text, true); }

dmx_received control_receive(struct control *control, bool wait) {
    dmx_received result = dmx_receive(control->socket, &control->packet, wait);
    if (result == DMX_CUT_OFF) refuse_packet(control, DMX_ERROR_MALFORMED, "it is too long or has too many descriptors");
    if (result == DMX_FAILED) perror("demux-c-scratch: could not receive from the coordinator");
    return result;
}

bool control_readable(struct control *control) {
    // Bounded: a coordinator that talks without pause must not keep the guest waiting.
    for (int i = 0; i < 32 && control->phase != PHASE_QUIT; i++) {
        bool refused;
        dmx_received result = control_receive(control, false);
        if (result == DMX_NOTHING) return true;
        if (result == DMX_PACKET) control_handle(control, 0, &refused);
        if (result == DMX_CLOSED || result == DMX_FAILED) {
            close(control->socket);
            control->socket = -1;
            // An isolated emulator has nobody left to serve: the coordinator and whoever could take its place are gone.
            if (control->phase != PHASE_SERVING && control->phase != PHASE_PAUSED) return false;
            control->phase = PHASE_QUIT;
        }
    }
    return true;
}
