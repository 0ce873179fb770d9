// events.c: in the Linux guest: says on its output what all input devices report: `EVENT name: key CODE VALUE`, `abs AXIS VALUE`,
// `rel AXIS VALUE`. Devices that are there when it starts.
#include <errno.h>
#include <fcntl.h>
#include <linux/input.h>
#include <poll.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum { DEVICES = 16 };

int main(void)
{
    static char names[DEVICES][80];
    struct pollfd fds[DEVICES];
    unsigned count = 0;
    setvbuf(stdout, NULL, _IOLBF, 0);
    for (unsigned i = 0; i < DEVICES; i++) {
        char path[32];
        snprintf(path, sizeof path, "/dev/input/event%u", i);
        int fd = open(path, O_RDONLY);
        if (fd < 0) continue;
        if (ioctl(fd, EVIOCGNAME(sizeof names[count] - 1), names[count]) < 0) snprintf(names[count], sizeof names[count], "%s", path);
        printf("INPUT %s: %s\n", path, names[count]);
        fds[count++] = (struct pollfd){ .fd = fd, .events = POLLIN };
    }
    printf("INPUT %u devices\n", count);
    for (;;) {
        if (poll(fds, count, -1) < 0 && errno != EINTR) return 1;
        for (unsigned i = 0; i < count; i++) {
            struct input_event e;
            if (!(fds[i].revents & POLLIN) || read(fds[i].fd, &e, sizeof e) != sizeof e) continue;
            const char *kind = e.type == EV_KEY ? "key" : e.type == EV_ABS ? "abs" : e.type == EV_REL ? "rel" : NULL;
            if (kind) printf("EVENT %s: %s %u %d\n", names[i], kind, e.code, e.value);
        }
    }
}
