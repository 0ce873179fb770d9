// Linux interfaces that Swift cannot import: control-message macros, variadic fcntl, system calls without a wrapper.
// _GNU_SOURCE stays undefined, because Swift's own Glibc module is built without it and both must see the same types;
// what it would declare is reached by number.
#ifndef DEMUX_CLINUX_H
#define DEMUX_CLINUX_H

#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

enum { DEMUX_MAX_DESCRIPTORS = 16 };

static inline int demux_memfd_create(const char *name) { return (int)syscall(SYS_memfd_create, name, 3u /* CLOEXEC | ALLOW_SEALING */); }

enum { DEMUX_SEAL_SIZE = 0x0001 | 0x0002 | 0x0004 /* F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW */, DEMUX_SEAL_WRITE = 0x0008 /* F_SEAL_WRITE */ };
static inline int demux_add_seals(int fd, int seals) { return fcntl(fd, 1033 /* F_ADD_SEALS */, seals); }
static inline int demux_get_seals(int fd) { return fcntl(fd, 1034 /* F_GET_SEALS */); }

static inline int demux_set_nonblocking(int fd, int on) {
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0) return -1;
    return fcntl(fd, F_SETFL, on ? flags | O_NONBLOCK : flags & ~O_NONBLOCK);
}
static inline int demux_descriptor_flags(int fd) { return fcntl(fd, F_GETFD); }
static inline int demux_set_cloexec(int fd, int on) { return fcntl(fd, F_SETFD, on ? FD_CLOEXEC : 0); }
static inline int demux_duplicate(int fd) { return fcntl(fd, F_DUPFD_CLOEXEC, 3); }

// Marks every descriptor from `first` on close-on-exec, so that no child inherits what was not meant for it.
static inline int demux_cloexec_from(unsigned first) { return (int)syscall(436 /* close_range */, first, ~0u, 4u /* CLOEXEC */); }

// Reads without waiting, whatever the descriptor's own flags say (preadv2 with RWF_NOWAIT); -1 with EAGAIN when nothing is there. For eventfds.
static inline ssize_t demux_read_now(int fd, void *bytes, size_t length) {
    struct iovec part = { bytes, length };
    return syscall(SYS_preadv2, fd, &part, 1L, -1L, -1L, 0x08L /* RWF_NOWAIT */);
}

// Counts eventfds up without waiting. A write to one waits when its counter is full and whoever shares its open file has switched O_NONBLOCK off; no
// flag of a call's own says otherwise. But the kernel itself never waits when it counts one up, and does so when a read is done that was submitted
// with it (io_submit, IOCB_FLAG_RESFD): here a read of nothing from /dev/null, which is done at once.
typedef struct demux_ringer { unsigned long context; int nothing; } demux_ringer;
// Few: a host has aio-max-nr of them (65536), for all of its coordinators and whoever else asks.
enum { DEMUX_RINGER_DEPTH = 8 };
static inline int demux_ringer_open(demux_ringer *ringer) {
    aio_context_t context = 0;
    int nothing = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (nothing < 0) return -1;
    if (syscall(SYS_io_setup, DEMUX_RINGER_DEPTH, &context) < 0) { close(nothing); return -1; }
    ringer->context = context;
    ringer->nothing = nothing;
    return 0;
}
// 0, or -1 when the kernel takes it not. By any thread.
static inline int demux_ringer_ring(demux_ringer ringer, int fd) {
    struct iocb read, *reads[1] = { &read };
    memset(&read, 0, sizeof read);
    read.aio_fildes = (uint32_t)ringer.nothing;
    read.aio_lio_opcode = IOCB_CMD_PREAD;
    read.aio_flags = IOCB_FLAG_RESFD;
    read.aio_resfd = (uint32_t)fd;
    for (int attempt = 0; attempt < 8; attempt++) {
        if (syscall(SYS_io_submit, ringer.context, 1L, reads) == 1) return 0;
        if (errno != EAGAIN) return -1;
        // What is done has to be taken off the queue now and then.
        struct io_event done[DEMUX_RINGER_DEPTH];
        struct timespec none = { 0, 0 };
        (void)syscall(SYS_io_getevents, ringer.context, 0L, (long)DEMUX_RINGER_DEPTH, done, &none);
    }
    return -1;
}

// Locks a whole file for this open file alone, or (exclusive 0) together with other readers; -1 with EAGAIN when somebody else has it.
static inline int demux_lock_file(int fd, int exclusive) {
    struct flock lock = { .l_type = exclusive ? F_WRLCK : F_RDLCK, .l_whence = SEEK_SET };
    return fcntl(fd, 37 /* F_OFD_SETLK */, &lock);
}
static inline int demux_unlock_file(int fd) {
    struct flock lock = { .l_type = F_UNLCK, .l_whence = SEEK_SET };
    return fcntl(fd, 37 /* F_OFD_SETLK */, &lock);
}
// Gives storage back, so that the bytes read as zero; the file keeps its length.
static inline int demux_punch_hole(int fd, int64_t offset, int64_t length) {
    return (int)syscall(SYS_fallocate, fd, 0x01 | 0x02 /* KEEP_SIZE | PUNCH_HOLE */, offset, length);
}

enum {
    DEMUX_SPAWN_NULL_INPUT = 1,       // descriptor 0 is /dev/null, unless one of `theirs` is 0
    DEMUX_SPAWN_ENDS_WITH_THREAD = 2, // it gets SIGKILL when the thread that starts it ends
};
// Starts a program in a process of its own: its pid, or the error's number below 0 when that cannot be done, or the program cannot be executed.
// `arguments` (with the program's own name) and `environment` end with NULL. ours[i] becomes theirs[i], whatever numbers they have here. The program starts
// with `blocked` blocked, and no other signal.
pid_t demux_spawn(
    const char *path, char *const *arguments, char *const *environment, const int *ours, const int *theirs, int descriptors, const int *blocked,
    int blocked_count, int flags);

static inline int demux_pidfd_open(pid_t pid) { return (int)syscall(434, pid, 0); }
static inline int demux_pidfd_send_signal(int pidfd, int signal) { return (int)syscall(424, pidfd, signal, NULL, 0); }

// Sends bytes and descriptors as one message. Returns what sendmsg returned; interrupted calls are repeated.
static inline ssize_t demux_send(int fd, const void *bytes, size_t length, const int *descriptors, int count, int flags) {
    struct iovec part = { (void *)bytes, length };
    union { struct cmsghdr align; char space[CMSG_SPACE(sizeof(int) * DEMUX_MAX_DESCRIPTORS)]; } control;
    struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1 };
    if (count > DEMUX_MAX_DESCRIPTORS) { errno = EINVAL; return -1; }
    if (count > 0) {
        memset(&control, 0, sizeof control);
        message.msg_control = control.space;
        message.msg_controllen = CMSG_SPACE(sizeof(int) * (size_t)count);
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(sizeof(int) * (size_t)count);
        memcpy(CMSG_DATA(header), descriptors, sizeof(int) * (size_t)count);
    }
    ssize_t sent;
    do sent = sendmsg(fd, &message, flags | MSG_NOSIGNAL); while (sent < 0 && errno == EINTR);
    return sent;
}

// Receives one message and its descriptors (close-on-exec). `truncated` is set when bytes or descriptors were cut off;
// descriptors that did arrive are always handed over, so that the caller can close them.
static inline ssize_t demux_receive(int fd, void *bytes, size_t length, int *descriptors, int *count, int *truncated, int flags) {
    struct iovec part = { bytes, length };
    union { struct cmsghdr align; char space[CMSG_SPACE(sizeof(int) * DEMUX_MAX_DESCRIPTORS)]; } control;
    struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1, .msg_control = control.space, .msg_controllen = sizeof control.space };
    *count = 0;
    *truncated = 0;
    ssize_t got;
    do got = recvmsg(fd, &message, flags | MSG_CMSG_CLOEXEC); while (got < 0 && errno == EINTR);
    // The other side closed with messages of ours unread. The kernel says so once, ahead of what it had sent us before.
    if (got < 0 && errno == ECONNRESET) do got = recvmsg(fd, &message, flags | MSG_CMSG_CLOEXEC); while (got < 0 && errno == EINTR);
    if (got < 0) return got;
    if (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) *truncated = 1;
    for (struct cmsghdr *header = CMSG_FIRSTHDR(&message); header; header = CMSG_NXTHDR(&message, header)) {
        if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
        int here = (int)((header->cmsg_len - CMSG_LEN(0)) / sizeof(int));
        for (int i = 0; i < here && *count < DEMUX_MAX_DESCRIPTORS; i++)
            memcpy(&descriptors[(*count)++], CMSG_DATA(header) + (size_t)i * sizeof(int), sizeof(int));
    }
    return got;
}

struct demux_peer { pid_t pid; uid_t uid; gid_t gid; };
static inline int demux_peer_credentials(int fd, struct demux_peer *peer) {
    struct { pid_t pid; uid_t uid; gid_t gid; } credentials; // struct ucred
    socklen_t length = sizeof credentials;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &credentials, &length) < 0) return -1;
    peer->pid = credentials.pid; peer->uid = credentials.uid; peer->gid = credentials.gid;
    return 0;
}

// Writes what C's standard output still holds; -1 when that fails, or anything has failed before.
static inline int demux_flush_output(void) {
    int failed = ferror(stdout);
    return fflush(stdout) != 0 || failed ? -1 : 0;
}

// Fills a UNIX socket address; -1 with ENAMETOOLONG when the path does not fit its 107 bytes.
static inline int demux_unix_address(const char *path, struct sockaddr_un *address) {
    size_t length = strlen(path);
    if (length >= sizeof address->sun_path) { errno = ENAMETOOLONG; return -1; }
    memset(address, 0, sizeof *address);
    address->sun_family = AF_UNIX;
    memcpy(address->sun_path, path, length + 1);
    return 0;
}
static inline int demux_bind_unix(int fd, const char *path) {
    struct sockaddr_un address;
    if (demux_unix_address(path, &address) < 0) return -1;
    return bind(fd, (struct sockaddr *)&address, sizeof address);
}
static inline int demux_connect_unix(int fd, const char *path) {
    struct sockaddr_un address;
    if (demux_unix_address(path, &address) < 0) return -1;
    return connect(fd, (struct sockaddr *)&address, sizeof address);
}

static inline int demux_accept(int fd) { return (int)syscall(SYS_accept4, fd, NULL, NULL, SOCK_CLOEXEC); }
static inline int demux_accept_nonblocking(int fd) { return (int)syscall(SYS_accept4, fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK); }
static inline int demux_pipe(int ends[2]) { return (int)syscall(SYS_pipe2, ends, O_CLOEXEC); }
// Copies bytes from one pipe into another without taking them; waits for the first one.
static inline long demux_tee(int from, int to, size_t length) { return syscall(SYS_tee, from, to, length, 0); }
static inline char **demux_environment(void) { extern char **environ; return environ; }

// poll with a limit in nanoseconds; below 0: none. (ppoll as glibc has it needs _GNU_SOURCE; without a signal mask the call is the same.)
static inline int demux_poll(struct pollfd *entries, unsigned count, int64_t nanoseconds) {
    struct timespec limit = { nanoseconds / 1000000000, nanoseconds % 1000000000 };
    return (int)syscall(SYS_ppoll, entries, count, nanoseconds < 0 ? NULL : &limit, NULL, 0);
}

static inline void *demux_map_failed(void) { return MAP_FAILED; }

// waitid on a pidfd: 0 and *status filled when the child has ended, 1 when it still runs, -1 on error.
// *status is the exit code, or 256 + signal number.
static inline int demux_wait_pidfd(int pidfd, int *status) {
    siginfo_t info;
    memset(&info, 0, sizeof info);
    int result;
    do result = waitid((idtype_t)3 /* P_PIDFD */, (id_t)pidfd, &info, WEXITED | WNOHANG); while (result < 0 && errno == EINTR);
    if (result < 0) return -1;
    if (info.si_pid == 0) return 1;
    *status = info.si_code == CLD_EXITED ? info.si_status : 256 + info.si_status;
    return 0;
}

// From now on orphans among the descendants become this process's children, instead of pid 1's.
static inline int demux_become_subreaper(void) {
    extern int prctl(int, ...);
    return prctl(36 /* PR_SET_CHILD_SUBREAPER */, 1L, 0L, 0L, 0L);
}
// Reaps any one child that has ended: its pid and *status as above; 0 when none has, -1 when there are no children.
static inline pid_t demux_reap(int *status) {
    int raw = 0;
    pid_t pid;
    do pid = waitpid(-1, &raw, WNOHANG); while (pid < 0 && errno == EINTR);
    *status = WIFEXITED(raw) ? WEXITSTATUS(raw) : 256 + WTERMSIG(raw);
    return pid;
}

// Giving up the rights of root for good, for the whole process; to be called while it has one thread.
static inline int demux_renounce(uid_t uid, gid_t gid) {
    extern int setgroups(size_t, const gid_t *);
    extern int setresgid(gid_t, gid_t, gid_t);
    extern int setresuid(uid_t, uid_t, uid_t);
    extern int prctl(int, ...);
    if (geteuid() == 0 && setgroups(0, NULL) < 0) return -1;
    if (setresgid(gid, gid, gid) < 0 || setresuid(uid, uid, uid) < 0) return -1;
    return prctl(38 /* PR_SET_NO_NEW_PRIVS */, 1L, 0L, 0L, 0L);
}
// 1 when the process is that user and group and nothing it can do makes it root again; 0 when not.
static inline int demux_has_renounced(uid_t uid, gid_t gid) {
    extern int setresgid(gid_t, gid_t, gid_t);
    extern int setresuid(uid_t, uid_t, uid_t);
    extern int setgroups(size_t, const gid_t *);
    uid_t user = (uid_t)-1;
    gid_t group = (gid_t)-1;
    if (getuid() != uid || geteuid() != uid || getgid() != gid || getegid() != gid) return 0;
    if (uid == 0) return 1;
    if (setresuid(user, 0, user) == 0 || setresuid(0, user, user) == 0 || setresuid(user, user, 0) == 0) return 0;
    return gid == 0 || (setresgid(group, 0, group) != 0 && setresgid(0, group, group) != 0 && setgroups(0, NULL) != 0);
}

// How many heaps malloc may make for threads; they are shared beyond.
static inline void demux_limit_heaps(int count) {
    extern int mallopt(int, int);
    (void)mallopt(-8 /* M_ARENA_MAX */, count);
}

#endif
