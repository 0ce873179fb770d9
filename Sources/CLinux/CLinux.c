#include "CLinux.h"

#include <stdlib.h>

extern int prctl(int, ...);

enum { ABOVE_USUAL_NUMBERS = 64 };

// Puts ours[i] at theirs[i]. Each is copied out of the way first, to copies[i], so that none is overwritten before it was used. 0, or the error's number.
static int place(const int *ours, const int *theirs, int *copies, int count, int null_input, int free_from) {
    for (int i = 0; i < count; i++) {
        if (theirs[i] >= free_from) free_from = theirs[i] + 1;
    }
    for (int i = 0; i < count; i++) {
        copies[i] = fcntl(ours[i], F_DUPFD_CLOEXEC, free_from);
        if (copies[i] < 0) return errno;
    }
    if (null_input) {
        int null = open("/dev/null", O_RDONLY);
        if (null < 0) return errno;
        if (null != 0) {
            if (dup2(null, 0) < 0) return errno;
            close(null);
        }
    }
    for (int i = 0; i < count; i++) {
        if (dup2(copies[i], theirs[i]) < 0) return errno;
    }
    return 0;
}

pid_t demux_spawn(
    const char *path, char *const *arguments, char *const *environment, const int *ours, const int *theirs, int descriptors, const int *blocked,
    int blocked_count, int flags) {
    // Made here: the child of a process of many threads must not allocate.
    int *copies = calloc((size_t)descriptors + 1, sizeof *copies);
    if (!copies) return -ENOMEM;
    // What goes wrong in the child is told through a pipe; it closes when the program is executed.
    int ends[2];
    if (demux_pipe(ends) < 0) {
        int code = errno;
        free(copies);
        return -code;
    }
    int report = fcntl(ends[1], F_DUPFD_CLOEXEC, ABOVE_USUAL_NUMBERS);
    int code = errno;
    close(ends[1]);
    if (report < 0) {
        close(ends[0]);
        free(copies);
        return -code;
    }
    sigset_t all, mask, before;
    sigfillset(&all);
    sigemptyset(&mask);
    for (int i = 0; i < blocked_count; i++) sigaddset(&mask, blocked[i]);
    // No handler of this process's may run in the child.
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pid_t parent = getpid();
    pid_t pid = fork();
    if (pid == 0) {
        // From here on only what is safe after fork() in a process of many threads.
        static const int reset[] = { SIGPIPE, SIGHUP, SIGTERM, SIGINT };
        for (size_t i = 0; i < sizeof reset / sizeof *reset; i++) signal(reset[i], SIG_DFL);
        code = 0;
        if (flags & DEMUX_SPAWN_ENDS_WITH_THREAD) {
            if (prctl(1 /* PR_SET_PDEATHSIG */, (long)SIGKILL, 0L, 0L, 0L) < 0) code = errno;
            // The parent has ended before that took effect.
            if (getppid() != parent) _exit(127);
        }
        if (code == 0) code = place(ours, theirs, copies, descriptors, flags & DEMUX_SPAWN_NULL_INPUT, report + 1);
        if (code == 0) {
            sigprocmask(SIG_SETMASK, &mask, NULL);
            execve(path, arguments, environment);
            code = errno;
        }
        ssize_t told = write(report, &code, sizeof code);
        (void)told;
        _exit(127);
    }
    code = pid < 0 ? errno : 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    free(copies);
    close(report);
    if (pid > 0) {
        ssize_t got;
        do got = read(ends[0], &code, sizeof code); while (got < 0 && errno == EINTR);
        if (got != sizeof code) code = 0;
        if (code != 0) while (waitpid(pid, NULL, 0) < 0 && errno == EINTR) {}
    }
    close(ends[0]);
    return code == 0 ? pid : -code;
}
