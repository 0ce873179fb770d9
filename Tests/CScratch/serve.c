#include "serve.h"

static void malformed(struct server *server, const char *what) {
    dmx_count(server->counters, DMX_COUNT_MALFORMED, 1);
    uint64_t times = ++server->malformed_count;
    if ((times & (times - 1)) == 0) server->malformed(server->context, what, times);
}

// The window in which all of an access lies; NULL when it is in none (a claim may just have been given back, or the host's
// range is wider than ours).
static const struct window *window_of(const struct server *server, uint8_t type, uint64_t address, uint32_t size) {
    const struct window *window = type == DMX_PORT_IO ? &server->ports : &server->mmio;
    uint64_t offset = address - window->first;
    bool inside = window->present && address >= window->first && offset < window->length && size <= window->length - offset;
    return inside ? window : NULL;
}

// Tells which frames of guest memory a read into a buffer has written.
static void tell_modified(struct server *server, const dmx_request *request) {
    uint64_t one = request->data, other = dmx_stepped(request, request->data, request->count - 1);
    uint64_t low = request->backwards ? other : one, high = (request->backwards ? one : other) + request->size - 1;
    if (high >= low) server->modified(server->context, low >> 12, high >> 12);
}

// Carries a well-formed port or memory access out; gives what goes back into the slot's `data`.
static uint64_t carry_out(struct server *server, const dmx_request *request) {
    uint64_t result = request->data;
    uint32_t size = request->size;
    bool strayed = false;
    for (uint32_t i = 0; i < request->count; i++) {
        uint64_t address = request->type == DMX_COPY ? dmx_stepped(request, request->address, i) : request->address;
        uint64_t buffer = dmx_stepped(request, request->data, i), value = request->data;
        const struct window *window = window_of(server, request->type, address, size);
        if (!window) strayed = true;
        if (request->read) {
            value = window ? registers_read(&server->device, window->length, address - window->first, size) : dmx_all_ones(size);
            if (!request->data_is_pointer) result = value;
            else if (!guest_memory_store(&server->memory, buffer, size, value)) strayed = true;
        } else {
            if (request->data_is_pointer && !guest_memory_load(&server->memory, buffer, size, &value)) strayed = true;
            if (window) registers_write(&server->device, window->length, address - window->first, size, value);
        }
    }
    if (strayed) malformed(server, "an access outside the claims, or with a buffer outside the guest's memory");
    if (request->read && request->data_is_pointer && server->dirty_logging) tell_modified(server, request);
    return result;
}

// Serves a copied request; gives what goes back into the slot's `data`.
static uint64_t serve(struct server *server, const dmx_request *request) {
    dmx_count(server->counters, DMX_COUNT_REQUESTS, 1);
    uint64_t refused = request->read && !request->data_is_pointer ? dmx_all_ones(request->size) : request->data;
    switch (request->type) {
    case DMX_INVALIDATE: // nothing of the guest's address space is cached here
        dmx_count(server->counters, DMX_COUNT_INVALIDATIONS, 1);
        return request->data;
    case DMX_TIME_OFFSET: // there is no clock in this device
        dmx_count(server->counters, DMX_COUNT_TIME_OFFSETS, 1);
        return request->data;
    case DMX_PORT_IO: dmx_count(server->counters, request->read ? DMX_COUNT_PORT_READS : DMX_COUNT_PORT_WRITES, 1); break;
    case DMX_COPY: dmx_count(server->counters, request->read ? DMX_COUNT_MEMORY_READS : DMX_COUNT_MEMORY_WRITES, 1); break;
    case DMX_PCI_CONFIG:
        dmx_count(server->counters, request->read ? DMX_COUNT_CONFIG_READS : DMX_COUNT_CONFIG_WRITES, 1);
        malformed(server, "a PCI configuration access, for a device that has no PCI function");
        return refused;
    default: break;
    }
    if (!dmx_request_is_well_formed(request)) {
        malformed(server, "a request of a type, size, count or port that no access has");
        return refused;
    }
    if (request->data_is_pointer && !server->memory.file) {
        malformed(server, "a request with a buffer in guest memory, to which this emulator has no access");
        return refused;
    }
    return carry_out(server, request);
}

// Carries a posted write out.
static void take_posted(struct server *server, const dmx_posted *posted) {
    dmx_request request = {.address = posted->address, .data = posted->data, .count = 1, .size = posted->size, .type = posted->type};
    bool is_write = !posted->read && (posted->type == DMX_COPY || posted->type == DMX_PORT_IO);
    dmx_count(server->counters, DMX_COUNT_BUFFERED, 1);
    if (posted->type == DMX_TIME_OFFSET) dmx_count(server->counters, DMX_COUNT_TIME_OFFSETS, 1);
    else if (is_write && dmx_request_is_well_formed(&request)) carry_out(server, &request);
    else malformed(server, "a posted entry that is no write");
}

static bool drain(struct server *server) {
    bool any = false;
    dmx_posted posted;
    // Bounded by the ring's length: a host that posts without pause must not keep the slots waiting.
    for (unsigned i = 0; server->ring && i < DMX_RING_ENTRIES; i++) {
        dmx_ring_result result = dmx_ring_next(server->ring, &posted);
        if (result == DMX_RING_BROKEN) malformed(server, "a ring whose pointers are further apart than it is long");
        if (result != DMX_RING_ENTRY) break;
        any = true;
        take_posted(server, &posted);
    }
    return any;
}

static void answer(struct server *server, dmx_slot *slot, const dmx_request *request) {
    if (dmx_slot_answer(slot, serve(server, request))) dmx_bell_ring(server->done);
}

void server_adopt(struct server *server) {
    for (unsigned i = 0; i < server->slot_count; i++) {
        dmx_slot *slot = &server->page->slots[i];
        dmx_request request;
        switch (dmx_slot_state(slot)) {
        case DMX_INPROCESS:
            drain(server);
            dmx_slot_copy(slot, &request);
            answer(server, slot, &request);
            break;
        case DMX_RESPONSE_READY: dmx_bell_ring(server->done); break;
        default: break;
        }
    }
}

bool server_look(struct server *server) {
    bool any = drain(server);
    for (unsigned i = 0; i < server->slot_count; i++) {
        dmx_slot *slot = &server->page->slots[i];
        dmx_request request;
        if (dmx_slot_state(slot) != DMX_READY) continue;
        // What this vCPU posted before its request is in the ring by now, and comes first.
        drain(server);
        if (!dmx_slot_take(slot, &request)) continue;
        dmx_count_taken(server->counters, i);
        answer(server, slot, &request);
        any = true;
    }
    return any;
}

bool server_kicked(struct server *server) {
    bool any = false;
    // Cleared before the slots are looked at: what comes later rings again.
    if (dmx_bell_clear(server->kick)) dmx_count(server->counters, DMX_COUNT_WAKEUPS, 1);
    for (int round = 0; round < 64; round++) {
        if (!server_look(server)) {
            if (!any) dmx_count(server->counters, DMX_COUNT_SPURIOUS, 1);
            return false;
        }
        any = true;
    }
    return true;
}
