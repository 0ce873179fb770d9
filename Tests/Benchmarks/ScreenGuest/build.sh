#!/usr/bin/env bash
# build.sh OUT: the firmware of the benchmark's guest, 64 KiB, with gcc and binutils; its first instructions are the demo guest's.
set -euo pipefail
HERE=$(cd "$(dirname "$0")" && pwd)
DEMO=$HERE/../../Demo/guest
[ $# = 1 ] || { echo "usage: build.sh OUT" >&2; exit 2; }
WORK=$(mktemp -d -t demux-guest.XXXXXX)
trap 'rm -rf "$WORK"' EXIT
flags=(-m16 -Wa,--fatal-warnings -march=i386 -mregparm=0 -Os -Wall -Wextra -Werror -ffreestanding -fno-pic -fno-pie -fno-stack-protector -fno-asynchronous-unwind-tables -fcf-protection=none)
gcc "${flags[@]}" -c -o "$WORK/start.o" "$DEMO/start.S"
gcc "${flags[@]}" -c -o "$WORK/guest.o" "$HERE/guest.c"
ld -m elf_i386 -z noexecstack --no-warn-rwx-segments -nostdlib --build-id=none -T "$DEMO/guest.ld" -o "$WORK/guest.elf" "$WORK/start.o" "$WORK/guest.o"
objcopy -O binary "$WORK/guest.elf" "$1"
[ "$(stat -c %s "$1")" = 65536 ] || { echo "build.sh: $1 is not 64 KiB" >&2; exit 1; }
