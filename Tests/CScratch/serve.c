#include "serve.h"

static void malformed(struct server *server, const char *what) {
    dmx_count(server->counters, DMX_COUNT_MALFORMED, 1);
    uint64_t times = ++server->malformed_count;
    if ((times & (times - 1)) == 0) server->malformed(server->context, what, times);
}

// The window in which an access falls; NULL when it is in none (the claim may just have been given back: that is no mistake).
static const struct window *window_of(const struct server *server, uint8_t type) {
    const struct window *window = type == DMX_PORT_IO ? &server->ports : type == DMX_COPY ? &server->mmio : NULL;
    return window && window->present ? window : NULL;
}

static uint64_t read_once(struct server *server, uint8_t type, uint64_t address, uint32_t size) {
    const struct window *window = window_of(server, type);
    dmx_count(server->counters, type == DMX_PORT_IO ? DMX_COUNT_PORT_READS : DMX_COUNT_MEMORY_READS, 1);
    if (!window || address < window->first) return dmx_all_ones(size);
    return registers_read(&server->device, window->length, address - window->first, size);
}

static void write_once(struct server *server, uint8_t type, uint64_t address, uint32_t size, uint64_t value) {
    const struct window *window = window_of(server, type);
    dmx_count(server->counters, type == DMX_PORT_IO ? DMX_COUNT_PORT_WRITES : DMX_COUNT_MEMORY_WRITES, 1);
    if (window && address >= window->first)
        registers_write(&server->device, window->length, address - window->first, size, value);
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
    for (uint32_t i = 0; i < request->count; i++) {
        uint64_t address = request->type == DMX_COPY ? dmx_stepped(request, request->address, i) : request->address;
        uint64_t buffer = dmx_stepped(request, request->data, i);
        if (request->read) {
            uint64_t value = read_once(server, request->type, address, request->size);
            if (request->data_is_pointer) guest_memory_store(&server->memory, buffer, request->size, value);
            else result = value;
        } else {
            uint64_t value = request->data;
            if (request->data_is_pointer) value = guest_memory_load(&server->memory, buffer, request->size);
            write_once(server, request->type, address, request->size, value);
        }
    }
    if (request->read && request->data_is_pointer && server->dirty_logging) tell_modified(server, request);
    return result;
}

// Serves a copied request; gives what goes back into the slot's `data`.
static uint64_t serve(struct server *server, const dmx_request *request) {
    dmx_count(server->counters, DMX_COUNT_REQUESTS, 1);
    uint64_t refused = request->read && !request->data_is_pointer ? dmx_all_ones(request->size) : request->data;
    if (!dmx_request_is_well_formed(request)) {
        malformed(server, "a request of a type, size, count or port that no access has");
        return refused;
    }
    switch (request->type) {
    case DMX_INVALIDATE: // nothing of the guest's address space is cached here
        dmx_count(server->counters, DMX_COUNT_INVALIDATIONS, 1);
        return request->data;
    case DMX_TIME_OFFSET: // there is no clock in this device
        dmx_count(server->counters, DMX_COUNT_TIME_OFFSETS, 1);
        return request->data;
    case DMX_PCI_CONFIG: // this device asked for no PCI function
        dmx_count(server->counters, request->read ? DMX_COUNT_CONFIG_READS : DMX_COUNT_CONFIG_WRITES, 1);
        return refused;
    default: break;
    }
    if (request->data_is_pointer && !server->memory.file) {
        malformed(server, "a request with a buffer in guest memory, which this emulator did not ask for");
        return refused;
    }
    return carry_out(server, request);
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
        dmx_count(server->counters, DMX_COUNT_BUFFERED, 1);
        dmx_request request = {
            .address = posted.address, .data = posted.data, .count = 1, .size = posted.size, .type = posted.type, .read = posted.read,
        };
        bool is_write = !request.read && (request.type == DMX_COPY || request.type == DMX_PORT_IO);
        if (request.type == DMX_TIME_OFFSET) dmx_count(server->counters, DMX_COUNT_TIME_OFFSETS, 1);
        else if (!is_write || !dmx_request_is_well_formed(&request)) malformed(server, "a posted entry that is no write");
        else write_once(server, posted.type, posted.address, posted.size, posted.data);
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
