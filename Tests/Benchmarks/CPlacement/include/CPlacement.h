// sched_setaffinity and its macros, which Swift does not see.
#ifndef DEMUX_CPLACEMENT_H
#define DEMUX_CPLACEMENT_H

#include <sys/types.h>

// The processor of that place (0, 1, …) among those that this process may use; -1 when there are not so many.
int demux_bench_processor(int place);

// Has a process (0: this thread) run on one processor only; -1 on failure.
int demux_bench_pin(pid_t pid, int processor);

// Has this thread run anywhere again, and with it what it starts from now on; -1 on failure.
int demux_bench_unpin(void);

#endif
