#!/usr/bin/python3
# walk.py SERIAL OUTDIR PROGRAM...: goes through the steps of guest/modes.c. SERIAL is the guest's first serial port, a terminal or a
# UNIX socket. At each `MODE name ready` a picture is taken by running `PROGRAM... FILE`, FILE being OUTDIR/name.png; then the
# guest is told to go on. All that the guest says goes to OUTDIR/guest.txt, and to OUTDIR/steps.txt the name of each step.
# `PROGRAM` may also be `qmp:SOCKET`: then QEMU's monitor takes it, and it becomes a PNG by `picture png`.
# Environment: WALK_LIMIT, seconds without a new line after which it gives up (300); PICTURE, the tool `picture`; WALK_STAY, if set: do
# not end at `MODE done`, but go on noting what the guest says until killed.
# Exit status: 0 if the guest came to `MODE done`.
import os
import select
import socket
import stat
import subprocess
import sys
import time
import tty

from qmp import Monitor

LIMIT = float(os.environ.get("WALK_LIMIT", "300"))
PICTURE = os.environ.get("PICTURE", os.path.join(os.path.dirname(os.path.abspath(__file__)), "picture"))


def opened(path):
    if stat.S_ISSOCK(os.stat(path).st_mode):
        s = socket.socket(socket.AF_UNIX)
        s.connect(path)
        return s.detach()
    fd = os.open(path, os.O_RDWR | os.O_NOCTTY)
    tty.setraw(fd)
    return fd


done = False


def lines(fd):
    rest = b""
    while True:
        if not select.select([fd], [], [], None if done else LIMIT)[0]:
            sys.exit("walk.py: the guest said nothing for %g s" % LIMIT)
        data = os.read(fd, 4096)
        if not data:
            sys.exit("walk.py: the serial port was closed")
        rest += data
        *whole, rest = rest.split(b"\n")
        for line in whole:
            yield line.decode(errors="replace").strip("\r")


def same(a, b):
    return subprocess.run([PICTURE, "same", a, b], stdout=subprocess.DEVNULL).returncode == 0


def main():
    global done
    fd, out, program = opened(sys.argv[1]), sys.argv[2], sys.argv[3:]
    os.makedirs(out, exist_ok=True)
    monitor = Monitor(program[0][4:]) if program[0].startswith("qmp:") else None

    def take(file):
        if monitor:
            monitor.screendump(out + "/raw.ppm")
            subprocess.run([PICTURE, "png", out + "/raw.ppm", file], check=True)
            os.unlink(out + "/raw.ppm")
        else:
            subprocess.run([*program, file], check=True)

    def go():
        os.write(fd, b"g")              # once a step: one more would be taken for the next step's

    said, steps, before, start = open(out + "/guest.txt", "w"), open(out + "/steps.txt", "w"), None, time.monotonic()
    name = None
    for line in lines(fd):
        said.write("%.1f %s\n" % (time.monotonic() - start, line))
        said.flush()
        if line == "MODE done" and not done:
            go()
            done = True
            if "WALK_STAY" not in os.environ:
                return
        if not (line.startswith("MODE ") and line.endswith(" ready")) or line[5:-6] == name:
            continue                    # the guest repeats what it says until it is told to go on
        name = line[5:-6]
        file = out + "/" + name + ".png"
        for _ in range(20):
            take(file)
            # A blinking cursor: take another until it is seen.
            if not name.startswith("cursor-") or not before or not same(file, before):
                break
            time.sleep(0.21)
        else:
            said.write("# the picture of %s never differed from the one before\n" % name)
        if not name.startswith("cursor-"):
            before = file
        steps.write(name + "\n")
        steps.flush()
        go()


if __name__ == "__main__":
    main()
