#!/bin/bash
# mk.sh OUTDIR [PROGRAM...]: makes OUTDIR/PROGRAM.img, a bootable disk image, of each guest program (agent, beat,
# counter, exerciser, modes, scroll, timing, unplug), or of those named.
set -euo pipefail
HERE=$(cd "$(dirname "$0")" && pwd)
[ $# -ge 1 ] || { echo "usage: mk.sh OUTDIR [PROGRAM...]" >&2; exit 2; }
OUT=$1; shift; mkdir -p "$OUT"
[ $# -gt 0 ] || set -- agent beat counter exerciser modes scroll timing unplug
W=$(mktemp -d); trap 'rm -rf "$W"' EXIT
# No SSE and no MMX for the compiler itself: an 8-byte access is to happen only where the source says so.
FLAGS=(-m32 -march=i686 -mno-sse -mno-mmx -std=gnu11 -ffreestanding -nostdlib -fno-pic -fno-pie -fno-stack-protector
  -fno-asynchronous-unwind-tables -fcf-protection=none -O2 -Wall -Wextra -Werror)
for f in start.S lib.c; do gcc "${FLAGS[@]}" -c -o "$W/${f%.*}.o" "$HERE/$f"; done
for f in bios.S screen.c; do gcc "${FLAGS[@]}" -c -o "$W/${f%.*}.o" "$HERE/$f"; done
ar rc "$W/screen.a" "$W/bios.o" "$W/screen.o"       # only in the programs that call it
for p; do
  OBJECTS=()
  for f in "$HERE/$p.c" "$HERE/$p"-*.c; do            # a large program has further files, PROGRAM-part.c
    [ -e "$f" ] || continue
    o=$W/$(basename "$f" .c).o; OBJECTS+=("$o"); gcc "${FLAGS[@]}" -c -o "$o" "$f"
  done
  ld -m elf_i386 --build-id=none -z noexecstack --no-warn-rwx-segments -T "$HERE/guest.ld" -o "$W/$p.elf" "$W/start.o" "$W/lib.o" "${OBJECTS[@]}" "$W/screen.a"
  objcopy -O binary -j .image "$W/$p.elf" "$OUT/$p.img"
  truncate -s 1M "$OUT/$p.img"; chmod 644 "$OUT/$p.img"
done
