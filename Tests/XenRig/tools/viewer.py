#!/usr/bin/python3
# viewer.py HOST PORT [SECONDS] [OUT.ppm]: a small VNC viewer (RFB 3.8, without a password, raw and CopyRect
# encodings): asks for update after update, for SECONDS (10) or until SIGTERM, throws the pixels away, and says
# `VIEWER width height: N updates, M bytes, S seconds`. With OUT.ppm it keeps them, asks for everything once, and writes that picture.
import signal
import socket
import struct
import sys
import time

RAW, COPY, SIZE = 0, 1, -223


class Viewer:
    def __init__(self, host, port):
        self.socket = socket.create_connection((host, port), 30)
        self.bytes = 0
        self.socket.sendall(self.read(12))
        kinds = self.read(self.read(1)[0])
        if 1 not in kinds:
            sys.exit("viewer.py: %s:%u offers no connection without a password: %s" % (host, port, list(kinds)))
        self.socket.sendall(b"\x01")
        if struct.unpack(">I", self.read(4))[0]:
            sys.exit("viewer.py: %s:%u refuses" % (host, port))
        self.socket.sendall(b"\x01")
        self.width, self.height = struct.unpack(">HH", self.read(4))
        self.read(16)
        self.name = self.read(struct.unpack(">I", self.read(4))[0]).decode(errors="replace")
        # 32 bits, little-endian x8r8g8b8
        self.socket.sendall(struct.pack(">B3xBBBBHHHBBB3x", 0, 32, 24, 0, 1, 255, 255, 255, 16, 8, 0))
        self.socket.sendall(struct.pack(">BxHiii", 2, 3, COPY, RAW, SIZE))
        self.resized()

    def read(self, count):
        parts, left = [], count
        while left:
            data = self.socket.recv(min(left, 1 << 20))
            if not data:
                sys.exit("viewer.py: the connection was closed")
            parts.append(data)
            left -= len(data)
        self.bytes += count
        return b"".join(parts)

    def resized(self):
        self.pixels = bytearray(4 * self.width * self.height)

    def ask(self, incremental):
        self.socket.sendall(struct.pack(">BBHHHH", 3, incremental, 0, 0, self.width, self.height))

    def update(self, keep):             # waits for one update; other messages are passed over
        while True:
            kind = self.read(1)[0]
            if kind == 0:
                break
            if kind == 1:
                self.read(struct.unpack(">xHH", self.read(5))[1] * 6)
            elif kind == 3:
                self.read(struct.unpack(">3xI", self.read(7))[0])
            elif kind != 2:
                sys.exit("viewer.py: message %u is not known" % kind)
        for _ in range(struct.unpack(">xH", self.read(3))[0]):
            x, y, width, height, encoding = struct.unpack(">HHHHi", self.read(12))
            if encoding == RAW:
                data = self.read(4 * width * height)
                if keep:
                    for line in range(height):
                        at = 4 * ((y + line) * self.width + x)
                        self.pixels[at:at + 4 * width] = data[4 * width * line:4 * width * (line + 1)]
            elif encoding == COPY:
                fromx, fromy = struct.unpack(">HH", self.read(4))
                if keep:
                    lines = [bytes(self.pixels[4 * ((fromy + n) * self.width + fromx):][:4 * width]) for n in range(height)]
                    for n, line in enumerate(lines):
                        at = 4 * ((y + n) * self.width + x)
                        self.pixels[at:at + 4 * width] = line
            elif encoding == SIZE:
                self.width, self.height = width, height
                self.resized()
                return True
            else:
                sys.exit("viewer.py: encoding %d was not asked for" % encoding)
        return False

    def picture(self, file):
        self.ask(0)
        while self.update(True):
            self.ask(0)
        rgb = bytearray(3 * self.width * self.height)
        rgb[0::3], rgb[1::3], rgb[2::3] = self.pixels[2::4], self.pixels[1::4], self.pixels[0::4]
        with open(file, "wb") as f:
            f.write(b"P6\n%u %u\n255\n" % (self.width, self.height) + rgb)


def main():
    viewer, start, updates = Viewer(sys.argv[1], int(sys.argv[2])), time.monotonic(), 0
    seconds = float(sys.argv[3]) if len(sys.argv) > 3 else 10
    if len(sys.argv) > 4:
        viewer.picture(sys.argv[4])
        updates = 1
    else:
        def over(*_):
            raise TimeoutError
        signal.signal(signal.SIGALRM, over)
        signal.signal(signal.SIGTERM, over)
        signal.setitimer(signal.ITIMER_REAL, seconds)
        # A picture that rests is not updated.
        viewer.socket.settimeout(None)
        try:
            viewer.ask(0)
            while True:
                resized = viewer.update(False)
                updates += 1
                viewer.ask(0 if resized else 1)
        except TimeoutError:
            pass
    print("VIEWER %u %u: %u updates, %u bytes, %.1f seconds" % (viewer.width, viewer.height, updates, viewer.bytes, time.monotonic() - start))


if __name__ == "__main__":
    main()
