#define _GNU_SOURCE
#include "CPlacement.h"
#include <sched.h>

int demux_bench_processor(int place) {
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) < 0) return -1;
    for (int processor = 0; processor < CPU_SETSIZE; processor++)
        if (CPU_ISSET(processor, &set) && place-- == 0) return processor;
    return -1;
}

int demux_bench_pin(pid_t pid, int processor) {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET((unsigned)processor, &set);
    return sched_setaffinity(pid, sizeof set, &set);
}

int demux_bench_unpin(void) {
    cpu_set_t set;
    CPU_ZERO(&set);
    for (int processor = 0; processor < CPU_SETSIZE; processor++) CPU_SET((unsigned)processor, &set);
    // The kernel takes those out that this process may not use.
    return sched_setaffinity(0, sizeof set, &set);
}
