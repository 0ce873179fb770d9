#!/bin/bash
# screendump.sh SOCKET FILE.png: a picture of QEMU's display, by its monitor at SOCKET.
HERE=$(cd "$(dirname "$0")" && pwd)
RAW=$(mktemp -d) && trap 'rm -rf "$RAW"' EXIT
chmod 777 "$RAW"                        # QEMU writes it, maybe as another user
python3 "$HERE/qmp.py" "$1" "screendump $RAW/raw.ppm" && "$HERE/picture" png "$RAW/raw.ppm" "$2"
