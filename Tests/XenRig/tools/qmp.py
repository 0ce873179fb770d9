#!/usr/bin/python3
# qmp.py SOCKET COMMAND...: speaks QMP to an emulator, one COMMAND after another. Each is one of
#   {...}             a QMP command as JSON; its answer is printed as JSON
#   screendump FILE   a PPM of the display, complete when this returns
#   key NAME          a key (QEMU's name for it, as in `ret`, `esc`, `a`) goes down and up
#   type TEXT         types lower-case letters, digits, spaces, `-`, `.`, `/`, `=`, `;` and line ends (\n)
#   move X Y          the pointer goes to X, Y (0 to 32767 each)
#   click             its left button goes down and up
#   wait FILE         until FILE is there
#   anything else     for the human monitor; its answer is printed
# Also a module: Monitor(path).
import json
import os
import socket
import sys
import time

NAMES = {" ": "spc", "-": "minus", ".": "dot", "/": "slash", "=": "equal", ";": "semicolon", "\n": "ret"}


class Monitor:
    def __init__(self, path, patience=60):
        self.socket = socket.socket(socket.AF_UNIX)
        end = time.monotonic() + patience
        while True:                     # QEMU serves one connection at a time on each socket, and libxl connects now and then
            try:
                self.socket.connect(path)
                break
            except OSError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.2)
        self.file = self.socket.makefile("rw")
        self.file.readline()
        self.run({"execute": "qmp_capabilities"})

    def run(self, command):
        self.file.write(json.dumps(command) + "\n")
        self.file.flush()
        while True:
            line = self.file.readline()
            if not line:
                raise EOFError("the monitor closed the connection at " + json.dumps(command))
            answer = json.loads(line)
            if "event" not in answer:
                return answer

    def good(self, execute, **arguments):
        answer = self.run({"execute": execute, "arguments": arguments})
        if "return" not in answer:
            raise RuntimeError(execute + ": " + json.dumps(answer))
        return answer["return"]

    def screendump(self, file):
        self.good("screendump", filename=file)

    def events(self, *events):
        self.good("input-send-event", events=list(events))

    def key(self, name):
        for down in (True, False):
            self.events({"type": "key", "data": {"down": down, "key": {"type": "qcode", "data": name}}})
            time.sleep(0.05)

    def type(self, text):
        for character in text:
            self.key(NAMES.get(character, character))

    def move(self, x, y):
        self.events({"type": "abs", "data": {"axis": "x", "value": x}}, {"type": "abs", "data": {"axis": "y", "value": y}})

    def click(self, button="left"):
        for down in (True, False):
            self.events({"type": "btn", "data": {"down": down, "button": button}})
            time.sleep(0.05)


def main():
    monitor = Monitor(sys.argv[1])
    for command in sys.argv[2:]:
        word, _, rest = command.partition(" ")
        if command.startswith("{"):
            print(json.dumps(monitor.run(json.loads(command))))
        elif word == "screendump":
            monitor.screendump(rest)
        elif word == "key":
            monitor.key(rest)
        elif word == "type":
            monitor.type(rest.replace("\\n", "\n"))
        elif word == "move":
            monitor.move(*map(int, rest.split()))
        elif word == "wait":
            while not os.path.exists(rest):
                time.sleep(0.02)
        elif word == "click":
            monitor.click()
        else:
            print(monitor.good("human-monitor-command", **{"command-line": command}))


if __name__ == "__main__":
    main()
