// The emulator protocol, version 1, for programs in C: the pages' layouts, the atomic moves on them, and the transport.
//
// The rules are in emulator-protocol.md, beside this file; section numbers below are that document's. Header only, libc
// only, GCC or Clang, C11 (with -std=gnu11) or C++17. Reading and writing the JSON is up to you: any library does, or the
// small reader in demux_emulator_json.h.
//
// Everything here is safe against hostile values in the pages: no index, count or pointer that is read from a page reaches
// beyond it.
#ifndef DEMUX_EMULATOR_H
#define DEMUX_EMULATOR_H

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

#if !defined(__GNUC__) || __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "The pages are little-endian and the moves on them use GCC's and Clang's atomic built-ins."
#endif

#ifdef __cplusplus
#define DMX_STATIC_ASSERT static_assert
extern "C" {
#else
#define DMX_STATIC_ASSERT _Static_assert
#endif

// MARK: constants

enum {
    DMX_VERSION = 1,
    // The largest packet in bytes, and the most descriptors beside one (section 2).
    DMX_LARGEST_PACKET = 65536,
    DMX_MOST_DESCRIPTORS = 16,
    // Every shared page but the guest's RAM and the bounce buffer.
    DMX_PAGE_SIZE = 4096,
    DMX_SLOTS = 128,
    DMX_RING_ENTRIES = 511,
    // A request with more repetitions is malformed (section 6.4).
    DMX_MOST_REPETITIONS = 65536,
    // The most bytes of state that `hello` may ask for (section 10.1).
    DMX_LARGEST_STATE = 1048576,
    // The most events in one `input`, and the full width or height of an absolute place (section 4.26).
    DMX_MOST_INPUT_EVENTS = 64,
    DMX_ABSOLUTE_EXTENT = 32767,
};

// The environment variable that holds the socket's descriptor number.
#define DMX_SOCKET_VARIABLE "DEMUX_SOCKET"

// A word for `capabilities` in hello: this program handles data_is_ptr itself (section 6.5).
#define DMX_CAPABILITY_DATA_POINTER "data-pointer"
// It has a scan-out (section 4.25), and takes input (section 4.26).
#define DMX_CAPABILITY_SURFACE "surface"
#define DMX_CAPABILITY_INPUT "input"

// The words of `unplug` in hello and in the message of that name (section 4.28): what a device is to the PV unplug protocol.
#define DMX_UNPLUG_IDE_DISK "ide-disk"
#define DMX_UNPLUG_SCSI_DISK "scsi-disk"
#define DMX_UNPLUG_NVME "nvme"
#define DMX_UNPLUG_NIC "nic"
#define DMX_UNPLUG_AUX_DISK "aux-disk"

// The codes of an error (section 4.3).
#define DMX_ERROR_MALFORMED "malformed"
#define DMX_ERROR_UNSUPPORTED "unsupported"
#define DMX_ERROR_CLASH "clash"
#define DMX_ERROR_INVALID "invalid"
#define DMX_ERROR_EXHAUSTED "exhausted"
#define DMX_ERROR_ORDER "order"
#define DMX_ERROR_HOST "host"

// The order of the descriptors beside `attach` (section 4.5). A direct emulator gets the first one only. When attach has "state", its memfd
// comes after all of these, and the observation memory, when it has "observe", after that.
enum {
    DMX_ATTACH_COUNTERS = 0,
    DMX_ATTACH_SLOTS = 1,
    DMX_ATTACH_KICK = 2,
    DMX_ATTACH_DONE = 3,
    DMX_ATTACH_RING = 4, // only when attach says "ring":true
};

// The order of the descriptors beside the answer to `region` (section 4.22), isolated emulators only.
enum {
    DMX_REGION_MEMORY = 0,
    DMX_REGION_BITMAP = 1,
    DMX_REGION_DOORBELL = 2, // only when the answer says "doorbell":true
};

// The length of the bitmap's file for a region of `length` bytes: one bit a page.
static inline uint64_t dmx_region_bitmap_length(uint64_t length) { return ((length / 4096 + 7) / 8 + 4095) & ~(uint64_t)4095; }

// Whether the guest has written to a page before the last answer to `region-dirty`.
static inline bool dmx_region_page_is_dirty(const void *bitmap, uint64_t page) { return ((const uint8_t *)bitmap)[page / 8] >> (page % 8) & 1; }

// MARK: the slots page (section 6)

// States of a slot.
enum { DMX_NONE = 0, DMX_READY = 1, DMX_INPROCESS = 2, DMX_RESPONSE_READY = 3 };

// Types of request.
enum { DMX_PORT_IO = 0, DMX_COPY = 1, DMX_PCI_CONFIG = 2, DMX_TIME_OFFSET = 7, DMX_INVALIDATE = 8 };

// The byte `bits` of a slot.
enum { DMX_BITS_STATE = 0x0f, DMX_BITS_DATA_IS_POINTER = 0x10, DMX_BITS_READ = 0x20, DMX_BITS_BACKWARDS = 0x40 };

// One vCPU's slot: Xen's struct ioreq.
typedef struct dmx_slot {
    uint64_t address;
    uint64_t data;
    uint32_t count;
    uint32_t size;
    uint32_t event_channel; // Xen's; direct emulators bind it
    uint16_t pad;
    uint8_t bits;
    uint8_t type;
} dmx_slot;

typedef struct dmx_slots_page {
    dmx_slot slots[DMX_SLOTS];
} dmx_slots_page;

DMX_STATIC_ASSERT(sizeof(dmx_slot) == 32, "a slot is 32 bytes");
DMX_STATIC_ASSERT(offsetof(dmx_slot, address) == 0 && offsetof(dmx_slot, data) == 8, "address and data come first");
DMX_STATIC_ASSERT(offsetof(dmx_slot, count) == 16 && offsetof(dmx_slot, size) == 20, "count is before size");
DMX_STATIC_ASSERT(offsetof(dmx_slot, event_channel) == 24, "the event channel is at byte 24");
DMX_STATIC_ASSERT(offsetof(dmx_slot, bits) == 30 && offsetof(dmx_slot, type) == 31, "bits is byte 30, type byte 31");
DMX_STATIC_ASSERT(sizeof(dmx_slots_page) == DMX_PAGE_SIZE, "128 slots fill a page");

// A request as it was when it was copied out of its slot. Only ever look at the copy (section 6.3).
typedef struct dmx_request {
    uint64_t address;
    uint64_t data;
    uint32_t count;
    uint32_t size;
    uint8_t type;
    bool read;
    bool data_is_pointer;
    bool backwards;
} dmx_request;

// The state of a slot, with acquire order.
static inline uint8_t dmx_slot_state(const dmx_slot *slot) {
    return (uint8_t)(__atomic_load_n(&slot->bits, __ATOMIC_ACQUIRE) & DMX_BITS_STATE);
}

// Moves the state and keeps the other bits; false when the state was not `from`.
static inline bool dmx_slot_move(dmx_slot *slot, uint8_t from, uint8_t to) {
    uint8_t old = __atomic_load_n(&slot->bits, __ATOMIC_ACQUIRE);
    while ((old & DMX_BITS_STATE) == from) {
        uint8_t wanted = (uint8_t)((old & ~DMX_BITS_STATE) | to);
        if (__atomic_compare_exchange_n(&slot->bits, &old, wanted, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) return true;
    }
    return false;
}

// Copies what a slot holds, each field read exactly once.
static inline void dmx_slot_copy(const dmx_slot *slot, dmx_request *request) {
    uint8_t bits = __atomic_load_n(&slot->bits, __ATOMIC_ACQUIRE);
    request->address = __atomic_load_n(&slot->address, __ATOMIC_RELAXED);
    request->data = __atomic_load_n(&slot->data, __ATOMIC_RELAXED);
    request->count = __atomic_load_n(&slot->count, __ATOMIC_RELAXED);
    request->size = __atomic_load_n(&slot->size, __ATOMIC_RELAXED);
    request->type = __atomic_load_n(&slot->type, __ATOMIC_RELAXED);
    request->read = (bits & DMX_BITS_READ) != 0;
    request->data_is_pointer = (bits & DMX_BITS_DATA_IS_POINTER) != 0;
    request->backwards = (bits & DMX_BITS_BACKWARDS) != 0;
}

// Takes a READY request: INPROCESS, then a copy. False when the slot was not READY.
// Between seeing READY and taking the request, drain the ring (section 7): what was posted before it is there by then.
static inline bool dmx_slot_take(dmx_slot *slot, dmx_request *request) {
    if (!dmx_slot_move(slot, DMX_READY, DMX_INPROCESS)) return false;
    dmx_slot_copy(slot, request);
    return true;
}

// Answers an INPROCESS request: `data`, then IORESP_READY. Ring the `done` bell afterwards.
// False when the host has taken the slot back: drop the answer, ring nothing.
static inline bool dmx_slot_answer(dmx_slot *slot, uint64_t data) {
    if (dmx_slot_state(slot) != DMX_INPROCESS) return false;
    __atomic_store_n(&slot->data, data, __ATOMIC_RELAXED);
    return dmx_slot_move(slot, DMX_INPROCESS, DMX_RESPONSE_READY);
}

// All-ones of an access's size: what a read gives that nobody answers; 64 bits for a size that no access has.
static inline uint64_t dmx_all_ones(uint32_t size) {
    return size == 1 ? UINT64_C(0xff) : size == 2 ? UINT64_C(0xffff) : size == 4 ? UINT64_C(0xffffffff) : UINT64_MAX;
}

// Whether a request is one that a host may make (section 6.4). INVALIDATE and TIMEOFFSET always are.
static inline bool dmx_request_is_well_formed(const dmx_request *request) {
    if (request->type == DMX_INVALIDATE || request->type == DMX_TIME_OFFSET) return true;
    bool small = request->size == 1 || request->size == 2 || request->size == 4;
    if (request->count == 0 || request->count > DMX_MOST_REPETITIONS) return false;
    switch (request->type) {
    case DMX_PORT_IO: return small && request->address <= 0xffff;
    case DMX_PCI_CONFIG: return small && request->count == 1 && !request->data_is_pointer;
    case DMX_COPY: return small || request->size == 8;
    default: return false;
    }
}

// `base` after `index` repetitions, up or down as the request says, wrapping at 2^64.
static inline uint64_t dmx_stepped(const dmx_request *request, uint64_t base, uint32_t index) {
    uint64_t distance = (uint64_t)index * request->size;
    return request->backwards ? base - distance : base + distance;
}

// MARK: the ring page (section 7)

typedef struct dmx_ring {
    uint32_t read_pointer;
    uint32_t write_pointer;
    uint64_t entries[DMX_RING_ENTRIES];
} dmx_ring;

DMX_STATIC_ASSERT(sizeof(dmx_ring) == DMX_PAGE_SIZE, "the ring fills a page");
DMX_STATIC_ASSERT(offsetof(dmx_ring, write_pointer) == 4 && offsetof(dmx_ring, entries) == 8, "two pointers, then entries");

// A posted access, its second half joined.
typedef struct dmx_posted {
    uint64_t address; // 20 bits
    uint64_t data;
    uint32_t size; // 1, 2, 4 or 8
    uint8_t type;
    bool read; // never in a correct entry
} dmx_posted;

typedef enum dmx_ring_result {
    DMX_RING_EMPTY = 0,
    DMX_RING_ENTRY = 1,
    // The pointers are further apart than the ring is long: nothing can be taken; count it as malformed.
    DMX_RING_BROKEN = 2,
} dmx_ring_result;

// Takes the oldest entry and gives its place back.
static inline dmx_ring_result dmx_ring_next(dmx_ring *ring, dmx_posted *posted) {
    // Both pointers in one load, because the host may rewind both at any moment.
    uint64_t both = __atomic_load_n((const uint64_t *)(const void *)ring, __ATOMIC_ACQUIRE);
    uint32_t read = (uint32_t)both, write = (uint32_t)(both >> 32);
    uint32_t waiting = write - read;
    if (waiting == 0) return DMX_RING_EMPTY;
    if (waiting > DMX_RING_ENTRIES) return DMX_RING_BROKEN;
    uint64_t low = __atomic_load_n(&ring->entries[read % DMX_RING_ENTRIES], __ATOMIC_RELAXED);
    uint32_t used = 1;
    posted->type = (uint8_t)low;
    posted->read = (low >> 9 & 1) != 0;
    posted->size = UINT32_C(1) << (low >> 10 & 3);
    posted->address = low >> 12 & 0xfffff;
    posted->data = low >> 32;
    if (posted->size == 8) {
        if (waiting < 2) return DMX_RING_EMPTY; // half of it: the other half is still to come
        uint64_t high = __atomic_load_n(&ring->entries[(read + 1) % DMX_RING_ENTRIES], __ATOMIC_RELAXED);
        posted->data |= high & UINT64_C(0xffffffff00000000);
        used = 2;
    }
    // An atomic add, never a store: the host may have rewound the pointer in between.
    __atomic_fetch_add(&ring->read_pointer, used, __ATOMIC_ACQ_REL);
    return DMX_RING_ENTRY;
}

// MARK: the counters page (section 8)

#define DMX_COUNTERS_MAGIC UINT64_C(0x3130544e43584d44) /* the bytes "DMXCNT01" */

enum {
    DMX_COUNT_REQUESTS = 0,
    DMX_COUNT_PORT_READS,
    DMX_COUNT_PORT_WRITES,
    DMX_COUNT_MEMORY_READS,
    DMX_COUNT_MEMORY_WRITES,
    DMX_COUNT_CONFIG_READS,
    DMX_COUNT_CONFIG_WRITES,
    DMX_COUNT_BUFFERED,
    DMX_COUNT_INVALIDATIONS,
    DMX_COUNT_TIME_OFFSETS,
    DMX_COUNT_DEFERRED,
    DMX_COUNT_MALFORMED,
    DMX_COUNT_WAKEUPS,
    DMX_COUNT_SPURIOUS,
    DMX_COUNTERS, // how many there are in version 1
};

typedef struct dmx_counters_page {
    uint64_t magic;
    uint64_t count; // how many the coordinator knows
    uint64_t values[126];
    uint32_t taken[DMX_SLOTS]; // requests taken from each slot, modulo 2^32
    uint8_t rest[2560];
} dmx_counters_page;

DMX_STATIC_ASSERT(offsetof(dmx_counters_page, taken) == 1024, "the slots' sequences begin at byte 1024");

DMX_STATIC_ASSERT(sizeof(dmx_counters_page) == DMX_PAGE_SIZE, "the counters fill a page");

// Adds to a counter, from the one thread that writes it. One that the coordinator does not know is left alone.
static inline void dmx_count(dmx_counters_page *page, unsigned counter, uint64_t amount) {
    if (counter >= DMX_COUNTERS || counter >= __atomic_load_n(&page->count, __ATOMIC_RELAXED)) return;
    uint64_t *value = &page->values[counter];
    __atomic_store_n(value, __atomic_load_n(value, __ATOMIC_RELAXED) + amount, __ATOMIC_RELAXED);
}

// A request was taken from a slot: how a watchdog tells one that hangs from another that looks the same.
static inline void dmx_count_taken(dmx_counters_page *page, unsigned slot) {
    if (slot >= DMX_SLOTS) return;
    __atomic_store_n(&page->taken[slot], __atomic_load_n(&page->taken[slot], __ATOMIC_RELAXED) + 1, __ATOMIC_RELAXED);
}

// MARK: the doorbells (section 5)

// Rings an eventfd. A counter that is full is still readable, so that a refused write loses nothing.
static inline void dmx_bell_ring(int bell) {
    uint64_t one = 1;
    ssize_t written;
    do written = write(bell, &one, sizeof one); while (written < 0 && errno == EINTR);
}

// Takes what was rung so far; true when there was any. Clear first, look at the slots afterwards.
static inline bool dmx_bell_clear(int bell) {
    uint64_t count = 0;
    ssize_t got;
    do got = read(bell, &count, sizeof count); while (got < 0 && errno == EINTR);
    return got == (ssize_t)sizeof count;
}

// MARK: the transport (section 2)

// One received packet. It is large: keep one, not many. Descriptors that nobody took are closed by dmx_packet_clear.
typedef struct dmx_packet {
    size_t length;
    int descriptor_count;
    int descriptors[DMX_MOST_DESCRIPTORS]; // -1 where taken
    char bytes[DMX_LARGEST_PACKET + 1];    // a NUL follows the last byte
} dmx_packet;

typedef enum dmx_received {
    DMX_PACKET = 1,    // a packet
    DMX_NOTHING = 0,   // nothing waits (only when `wait` is false)
    DMX_CLOSED = -1,   // the coordinator is gone
    DMX_CUT_OFF = -2,  // a packet beyond the limits: it was dropped
    DMX_FAILED = -3,   // see errno
} dmx_received;

// The socket that the coordinator passed on; -1 with errno when there is none. No child of this process inherits it. Once.
static inline int dmx_socket(void) {
    const char *text = getenv(DMX_SOCKET_VARIABLE);
    char *end = NULL;
    if (!text || *text < '0' || *text > '9') {
        errno = ENOENT;
        return -1;
    }
    long number = strtol(text, &end, 10);
    if (*end != '\0' || number > 1 << 20) {
        errno = EINVAL;
        return -1;
    }
    int socket = (int)number, type = 0;
    socklen_t length = sizeof type;
    if (getsockopt(socket, SOL_SOCKET, SO_TYPE, &type, &length) < 0) return -1;
    if (type != SOCK_SEQPACKET) {
        errno = EPROTOTYPE;
        return -1;
    }
    if (fcntl(socket, F_SETFD, FD_CLOEXEC) < 0) return -1;
    unsetenv(DMX_SOCKET_VARIABLE);
    return socket;
}

// Closes the descriptors that nobody took, and empties the packet. A new packet must be zeroed (static, or memset).
static inline void dmx_packet_clear(dmx_packet *packet) {
    for (int i = 0; i < packet->descriptor_count; i++)
        if (packet->descriptors[i] >= 0) close(packet->descriptors[i]);
    packet->descriptor_count = 0;
    packet->length = 0;
    packet->bytes[0] = '\0';
}

// Takes a descriptor out of a packet: the caller closes it. -1 when there is none at that place.
static inline int dmx_packet_take(dmx_packet *packet, int index) {
    if (index < 0 || index >= packet->descriptor_count) return -1;
    int descriptor = packet->descriptors[index];
    packet->descriptors[index] = -1;
    return descriptor;
}

// Receives one packet and its descriptors, which are close-on-exec. What the packet held before is cleared.
static inline dmx_received dmx_receive(int socket, dmx_packet *packet, bool wait) {
    union {
        struct cmsghdr align;
        char space[CMSG_SPACE(sizeof(int) * DMX_MOST_DESCRIPTORS)];
    } control;
    struct iovec part;
    struct msghdr message;
    dmx_packet_clear(packet);
    part.iov_base = packet->bytes;
    part.iov_len = DMX_LARGEST_PACKET;
    memset(&message, 0, sizeof message);
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control.space;
    message.msg_controllen = sizeof control.space;
    ssize_t got;
    do got = recvmsg(socket, &message, MSG_CMSG_CLOEXEC | (wait ? 0 : MSG_DONTWAIT)); while (got < 0 && errno == EINTR);
    if (got < 0) return errno == EAGAIN || errno == EWOULDBLOCK ? DMX_NOTHING : errno == ECONNRESET ? DMX_CLOSED : DMX_FAILED;
    for (struct cmsghdr *header = CMSG_FIRSTHDR(&message); header; header = CMSG_NXTHDR(&message, header)) {
        if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
        size_t here = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < here && packet->descriptor_count < DMX_MOST_DESCRIPTORS; i++)
            memcpy(&packet->descriptors[packet->descriptor_count++], CMSG_DATA(header) + i * sizeof(int), sizeof(int));
    }
    packet->length = (size_t)got;
    packet->bytes[got] = '\0';
    if (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) {
        dmx_packet_clear(packet);
        return DMX_CUT_OFF;
    }
    if (got == 0) {
        dmx_packet_clear(packet);
        return DMX_CLOSED;
    }
    return DMX_PACKET;
}

// Sends one packet whole. False with errno: EPIPE or ECONNRESET when the coordinator is gone, EAGAIN when there is no room
// now and `wait` is false, EMSGSIZE when it is empty or too long.
static inline bool dmx_send(int socket, const char *bytes, size_t length, bool wait) {
    if (length == 0 || length > DMX_LARGEST_PACKET) {
        errno = EMSGSIZE;
        return false;
    }
    ssize_t sent;
    do sent = send(socket, bytes, length, MSG_NOSIGNAL | (wait ? 0 : MSG_DONTWAIT)); while (sent < 0 && errno == EINTR);
    return sent == (ssize_t)length;
}

// MARK: shared memory (section 5)

// F_GET_SEALS and F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW by number: <fcntl.h> names them only under _GNU_SOURCE.
enum { DMX_GET_SEALS = 1034, DMX_SEALS = 0x1 | 0x2 | 0x4 };

// Whether a descriptor is memory of that very length whose size nobody can change any more; otherwise false with errno:
// EPERM when it is not sealed, EMSGSIZE when it has another length. Without this check, whoever shares the memory could
// shrink it and so have this process killed by SIGBUS.
static inline bool dmx_memory_is_sealed(int descriptor, uint64_t length) {
    struct stat status;
    int seals = fcntl(descriptor, DMX_GET_SEALS);
    if (seals < 0) return false;
    if ((seals & DMX_SEALS) != DMX_SEALS) {
        errno = EPERM;
        return false;
    }
    if (fstat(descriptor, &status) < 0) return false;
    if (status.st_size < 0 || (uint64_t)status.st_size != length || length == 0) {
        errno = EMSGSIZE;
        return false;
    }
    return true;
}

// Maps sealed memory, shared, for reading and writing; NULL with errno. The descriptor may be closed afterwards.
static inline void *dmx_map_sealed(int descriptor, uint64_t length) {
    if (!dmx_memory_is_sealed(descriptor, length)) return NULL;
    if (length > SIZE_MAX) {
        errno = EFBIG;
        return NULL;
    }
    void *memory = mmap(NULL, (size_t)length, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
    return memory == MAP_FAILED ? NULL : memory;
}

// Maps one of the protocol's pages.
static inline void *dmx_map_page(int descriptor) { return dmx_map_sealed(descriptor, DMX_PAGE_SIZE); }

// Prepares a received doorbell: a read of it must never wait, whatever the sender did.
static inline bool dmx_bell_prepare(int bell) {
    int flags = fcntl(bell, F_GETFL);
    return flags >= 0 && fcntl(bell, F_SETFL, flags | O_NONBLOCK) >= 0;
}

#ifdef __cplusplus
}
#endif

#endif
