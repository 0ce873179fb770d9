#!/usr/bin/python3
# keys.py HOST PORT COMMAND...: a VNC viewer that types: `key`, `type`, `move`, `click` and `wait` as in qmp.py, but as a person at a viewer
# does it. It takes no pictures.
import os
import struct
import sys
import time

from viewer import Viewer

NAMES = {"ret": 0xff0d, "esc": 0xff1b, "spc": 0x20}


def keysym(name):
    return NAMES.get(name) or ord(name)


class Typist(Viewer):
    def key(self, name):
        for down in (1, 0):
            self.socket.sendall(struct.pack(">BBxxI", 4, down, keysym(name)))
            time.sleep(0.05)

    def type(self, text):
        for character in text:
            self.key("ret" if character == "\n" else character)

    def place(self, x, y, buttons=0):
        self.at = x * (self.width - 1) // 32767, y * (self.height - 1) // 32767
        self.socket.sendall(struct.pack(">BBHH", 5, buttons, *self.at))

    def click(self):
        for buttons in (1, 0):
            self.socket.sendall(struct.pack(">BBHH", 5, buttons, *self.at))
            time.sleep(0.05)


def main():
    typist = Typist(sys.argv[1], int(sys.argv[2]))
    for command in sys.argv[3:]:
        word, _, rest = command.partition(" ")
        if word == "key":
            typist.key(rest)
        elif word == "type":
            typist.type(rest.replace("\\n", "\n"))
        elif word == "move":
            typist.place(*map(int, rest.split()))
        elif word == "click":
            typist.click()
        elif word == "wait":
            while not os.path.exists(rest):
                time.sleep(0.02)
        else:
            sys.exit("keys.py: '%s' is no command of its" % command)
    # What was sent is on its way to the guest when the connection ends in order.
    typist.socket.shutdown(1)
    time.sleep(0.2)


if __name__ == "__main__":
    main()
