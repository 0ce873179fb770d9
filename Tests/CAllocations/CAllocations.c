#include "CAllocations.h"

#include <errno.h>
#include <stddef.h>

// glibc's own names for what is counted here; `free` stays its own.
extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *old, size_t size);
extern void *__libc_memalign(size_t alignment, size_t size);

static _Thread_local uint64_t allocations;

uint64_t demux_allocations(void) { return allocations; }

// The address sanitizer has its own malloc; the count then stays 0.
#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define DEMUX_SANITIZED
#endif
#endif

#ifndef DEMUX_SANITIZED

void *malloc(size_t size) {
    allocations++;
    return __libc_malloc(size);
}

void *calloc(size_t count, size_t size) {
    allocations++;
    return __libc_calloc(count, size);
}

void *realloc(void *old, size_t size) {
    allocations++;
    return __libc_realloc(old, size);
}

void *aligned_alloc(size_t alignment, size_t size) {
    allocations++;
    return __libc_memalign(alignment, size);
}

int posix_memalign(void **result, size_t alignment, size_t size) {
    allocations++;
    *result = __libc_memalign(alignment, size);
    return *result ? 0 : ENOMEM;
}

#endif
