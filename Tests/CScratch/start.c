// The start: hello, attach, claims, memory, ready.
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "control.h"

enum { TEXT = 512 };

// Says why the start fails: on standard error, and to the coordinator, which puts it into the guest's log. Always false.
__attribute__((format(printf, 2, 3))) static bool complain(struct control *control, const char *format, ...) {
    char text[TEXT];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    fprintf(stderr, "demux-c-scratch: %s\n", text);
    control_log(control, "error", text);
    return false;
}

// Sends a request that has all but its closing bracket and number, and waits for its answer, which is then in control->body.
static bool ask(struct control *control, dmx_text *text, const char *what) {
    uint64_t id = control->next_id++;
    dmx_text_add(text, ",\"id\":%" PRIu64 "}", id);
    if (!control_send(control, text)) return complain(control, "could not send %s to the coordinator: %s", what, strerror(errno));
    while (control->phase != PHASE_QUIT) {
        bool refused = false;
        dmx_received result = control_receive(control, true);
        if (result == DMX_PACKET && control_handle(control, id, &refused)) return !refused;
        if (result == DMX_CLOSED || result == DMX_FAILED)
            return complain(control, "the coordinator went away before it answered %s", what);
    }
    return false;
}

// An option that says where a window lies: a number, or "none". Absent: as it was.
static bool read_window(struct control *control, dmx_json options, const char *name, uint64_t most, struct window *window) {
    dmx_json value;
    char text[32];
    uint64_t first;
    if (!dmx_json_get(options, name, &value)) return true;
    if (dmx_json_string(value, text, sizeof text)) {
        if (strcmp(text, "none") == 0) {
            window->present = false;
            return true;
        }
        if (dmx_parse_number(text, &first) && first <= most - (window->length - 1)) {
            window->first = first;
            return true;
        }
    }
    return complain(
        control, "the option '%s' must be \"none\" or a number from 0 to 0x%" PRIx64 ", like \"0x%" PRIx64 "\"", name,
        most - (window->length - 1), window->first);
}

// Takes a page out of the packet that brought `attach`.
static void *take_page(struct control *control, int place, const char *what) {
    int descriptor = dmx_packet_take(&control->packet, place);
    void *page = descriptor < 0 ? NULL : dmx_map_page(descriptor);
    if (!page) complain(control, "could not map %s: %s", what, descriptor < 0 ? "it did not come with attach" : strerror(errno));
    if (descriptor >= 0) close(descriptor);
    return page;
}

static bool attach(struct control *control) {
    struct server *server = control->server;
    dmx_json value;
    uint64_t version, slots;
    char mode[16];
    bool ring;
    dmx_json body = control->body;
    if (!control_integer(body, "version", UINT32_MAX, &version) || version != DMX_VERSION)
        return complain(control, "attach has another version than 1");
    if (!dmx_json_get(body, "mode", &value) || !dmx_json_string(value, mode, sizeof mode) || strcmp(mode, "isolated") != 0)
        return complain(control, "attach has another mode than isolated, the only one that hello offered");
    if (!control_integer(body, "vcpus", DMX_SLOTS, &slots) || slots == 0)
        return complain(control, "attach has no 'vcpus' from 1 to 128");
    if (!dmx_json_get(body, "ring", &value) || !dmx_json_boolean(value, &ring)) return complain(control, "attach has no 'ring'");
    if (dmx_json_get(body, "options", &value) &&
        (!read_window(control, value, "ports", 0xffff, &server->ports) ||
         !read_window(control, value, "mmio", UINT64_MAX, &server->mmio)))
        return false;
    server->slot_count = (unsigned)slots;
    server->counters = (dmx_counters_page *)take_page(control, DMX_ATTACH_COUNTERS, "the counters page");
    if (!server->counters) return false;
    if (server->counters->magic != DMX_COUNTERS_MAGIC) return complain(control, "the counters page has not the magic number of one");
    server->page = (dmx_slots_page *)take_page(control, DMX_ATTACH_SLOTS, "the slots page");
    if (!server->page) return false;
    server->kick = dmx_packet_take(&control->packet, DMX_ATTACH_KICK);
    server->done = dmx_packet_take(&control->packet, DMX_ATTACH_DONE);
    if (server->kick < 0 || server->done < 0) return complain(control, "attach came without the two doorbells");
    if (!dmx_bell_prepare(server->kick) || !dmx_bell_prepare(server->done))
        return complain(control, "a doorbell that came with attach is unusable");
    if (ring) server->ring = (dmx_ring *)take_page(control, DMX_ATTACH_RING, "the ring page");
    return !ring || server->ring;
}

static bool claim(struct control *control, const char *space, const char *label, struct window *window) {
    char buffer[TEXT];
    dmx_text text = dmx_text_in(buffer, sizeof buffer);
    if (!window->present) return true;
    dmx_text_add(
        &text, "{\"type\":\"claim\",\"space\":\"%s\",\"label\":\"%s\",\"first\":\"0x%" PRIx64 "\",\"last\":\"0x%" PRIx64 "\"", space,
        label, window->first, window->first + (window->length - 1));
    if (!ask(control, &text, "claim")) return false;
    return control_integer(control->body, "claim", UINT64_MAX, &window->claim) || complain(control, "the answer to claim has no number");
}

// A number that is written as text.
static bool get_number(dmx_json object, const char *name, uint64_t *number) {
    dmx_json value;
    return dmx_json_get(object, name, &value) && dmx_json_number_text(value, number);
}

// Takes the guest's RAM when it is shared. Without it the device works, but for requests with a buffer in guest memory: a host
// that gives no RAM makes none.
static bool take_memory(struct control *control) {
    char buffer[TEXT], kind[16];
    dmx_text text = dmx_text_in(buffer, sizeof buffer);
    struct guest_memory *memory = &control->server->memory;
    dmx_json grant, value, key, regions;
    uint64_t length;
    const char *cursor = NULL;
    dmx_text_add(&text, "{\"type\":\"memory\"");
    if (!ask(control, &text, "memory")) return control->phase != PHASE_QUIT && control->socket >= 0;
    if (!dmx_json_get(control->body, "memory", &grant) || !dmx_json_get(grant, "kind", &value) ||
        !dmx_json_string(value, kind, sizeof kind))
        return complain(control, "the answer to memory does not say of what kind it is");
    if (strcmp(kind, "shared") != 0) return true;
    int descriptor = dmx_packet_take(&control->packet, 0);
    if (!get_number(grant, "length", &length) || !dmx_json_get(grant, "regions", &regions) || descriptor < 0 ||
        !guest_memory_map(memory, descriptor, length)) {
        const char *why = descriptor < 0 ? "it did not come with the answer" : strerror(errno);
        complain(control, "could not map the guest's memory: %s", why);
        if (descriptor >= 0) close(descriptor);
        return false;
    }
    close(descriptor);
    while (dmx_json_next(regions, &cursor, &key, &value)) {
        uint64_t address, size, offset;
        if (!get_number(value, "address", &address) || !get_number(value, "length", &size) || !get_number(value, "offset", &offset) ||
            !guest_memory_add(memory, address, size, offset))
            return complain(control, "a region of the guest's memory does not lie in its file, or there are more than 16");
    }
    return true;
}

bool control_start(struct control *control) {
    char buffer[TEXT];
    dmx_text text = dmx_text_in(buffer, sizeof buffer);
    dmx_text_add(&text, "{\"type\":\"hello\",\"versions\":[%d],\"name\":\"c-scratch\"", DMX_VERSION);
    dmx_text_add(&text, ",\"modes\":[\"isolated\"],\"capabilities\":[");
    if (!control->single_accesses) dmx_text_quote(&text, DMX_CAPABILITY_DATA_POINTER);
    dmx_text_add(&text, "],\"unplug\":[\"%s\"]", DMX_UNPLUG_NIC);
    if (!ask(control, &text, "hello")) return false;
    if (!attach(control)) return false;
    if (!claim(control, "pio", "registers", &control->server->ports)) return false;
    if (!claim(control, "mmio", "registers and memory", &control->server->mmio)) return false;
    if (!control->single_accesses && !take_memory(control)) return false;
    control->phase = PHASE_READY;
    text = dmx_text_in(buffer, sizeof buffer);
    dmx_text_add(&text, "{\"type\":\"ready\"");
    return ask(control, &text, "ready");
}
