// Counts the calls of malloc and its family by the present thread, so that a test can say that a path has none.
#ifndef DEMUX_CALLOCATIONS_H
#define DEMUX_CALLOCATIONS_H

#include <stdint.h>

uint64_t demux_allocations(void);

#endif
