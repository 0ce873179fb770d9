// The yardstick: the least that a server of one ioreq page must do, in C. It serves a few registers and a window of
// memory, as Emulators/Scratch does, on the page and the eventfds that a Swift emulator would get. It spins as Swift's loop
// does before it blocks, so that only the work between differs.
//   demux-c-loop PORT MMIO SPIN_MICROSECONDS VCPUS RAM_BYTES
//   descriptors: 3 page of slots, 4 eventfd from the host, 5 eventfd to it, 6 guest RAM (its first 640 KiB are used)
#include <CIoreq.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

enum { PORT_IO = 0, COPY = 1, LOW_RAM = 0xa0000, WINDOW = 0x1000 };

static uint8_t registers[16], memory[WINDOW];
static uint64_t port_base, window_base, ram_bytes;
static uint8_t *ram;

static uint64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

// Where an access lands; NULL when nothing is there.
static uint8_t *place(uint8_t type, uint64_t address, uint32_t size) {
    uint64_t offset = address - (type == PORT_IO ? port_base : window_base), length = type == PORT_IO ? sizeof registers : WINDOW;
    if (type > COPY || size > 8 || offset >= length || length - offset < size) return NULL;
    return (type == PORT_IO ? registers : memory) + offset;
}

// One request, repetition by repetition; gives what goes back into the slot's data.
static uint64_t serve(const demux_ioreq *request) {
    uint64_t value = request->data;
    int reads = (request->bits & DEMUX_BITS_READ) != 0, pointer = (request->bits & DEMUX_BITS_DATA_IS_PTR) != 0;
    int64_t step = (request->bits & DEMUX_BITS_DF) ? -(int64_t)request->size : (int64_t)request->size;
    if (request->count == 0 || request->count > 65536) return value;
    for (uint32_t done = 0; done < request->count; done++) {
        uint64_t address = request->addr, from = request->data + (uint64_t)(step * done);
        if (request->type == COPY) address += (uint64_t)(step * done);
        uint8_t *target = place(request->type, address, request->size), *source = (uint8_t *)&value;
        if (pointer) {
            if (from >= ram_bytes || ram_bytes - from < request->size) continue;
            source = ram + from;
        }
        if (!target) { if (reads) memset(source, 0xff, request->size > 8 ? 8 : request->size); continue; }
        if (reads) { if (!pointer) value = 0; memcpy(source, target, request->size); }
        else memcpy(target, source, request->size);
    }
    return pointer ? request->data : value;
}

// Looks for a request, at most that long. The clock is not read while requests come at once.
static int spin(const demux_ioreq *slots, int vcpus, uint64_t nanoseconds) {
    uint64_t deadline = 0;
    for (;;) {
        for (int looks = 0; looks < 16; looks++) {
            for (int vcpu = 0; vcpu < vcpus; vcpu++)
                if ((demux_slot_bits(&slots[vcpu]) & DEMUX_BITS_STATE) == DEMUX_STATE_READY) return 1;
            demux_cpu_relax();
        }
        uint64_t time = now();
        if (!deadline) deadline = time + nanoseconds;
        else if (time >= deadline) return 0;
    }
}

int main(int count, char **arguments) {
    if (count != 6) { fprintf(stderr, "usage: demux-c-loop PORT MMIO SPIN_MICROSECONDS VCPUS RAM_BYTES\n"); return 2; }
    prctl(PR_SET_PDEATHSIG, SIGKILL); // started from the benchmark's main thread, and of no use after it
    port_base = strtoull(arguments[1], NULL, 0);
    window_base = strtoull(arguments[2], NULL, 0);
    uint64_t nanoseconds = strtoull(arguments[3], NULL, 0) * 1000u;
    int vcpus = atoi(arguments[4]);
    ram_bytes = strtoull(arguments[5], NULL, 0);
    if (ram_bytes > LOW_RAM) ram_bytes = LOW_RAM; // until there a byte's place in the file is its address
    demux_ioreq *slots = mmap(NULL, DEMUX_PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, 3, 0);
    ram = mmap(NULL, ram_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, 6, 0);
    if (slots == MAP_FAILED || ram == MAP_FAILED || vcpus < 1 || vcpus > DEMUX_SLOTS_PER_PAGE) { perror("demux-c-loop: map descriptors 3 and 6"); return 1; }
    uint64_t one = 1, ignored;
    for (;;) {
        for (int vcpu = 0; vcpu < vcpus; vcpu++) {
            demux_ioreq *slot = &slots[vcpu];
            if (!demux_slot_move(slot, DEMUX_STATE_READY, DEMUX_STATE_INPROCESS)) continue;
            demux_ioreq copy = *slot;
            slot->data = serve(&copy);
            demux_slot_move(slot, DEMUX_STATE_INPROCESS, DEMUX_STATE_RESPONSE_READY);
            if (write(5, &one, sizeof one) < 0) return 1;
        }
        if (nanoseconds && spin(slots, vcpus, nanoseconds)) continue;
        struct pollfd wait = { .fd = 4, .events = POLLIN };
        if (poll(&wait, 1, -1) > 0 && read(4, &ignored, sizeof ignored) < 0) return 1;
    }
}
