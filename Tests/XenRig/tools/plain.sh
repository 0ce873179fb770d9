#!/bin/bash
# plain.sh OUTDIR [QEMU-ARGUMENT...]: guest/modes.c on this machine, under plain QEMU's software CPU with its VGA, in a few seconds:
# OUTDIR/name.png for each step, OUTDIR/guest.txt, OUTDIR/steps.txt. The pictures are the same as on Xen.
set -euo pipefail
HERE=$(cd "$(dirname "$0")" && pwd)
[ $# -ge 1 ] || { sed -n '2,3s/^# //p' "$0" >&2; exit 2; }
mkdir -p "$1"; OUT=$(cd "$1" && pwd); shift
W=$(mktemp -d); Q=""
trap '[ -z "$Q" ] || kill "$Q" 2>/dev/null || true; rm -rf "$W"' EXIT
"$HERE/../guest/mk.sh" "$W/guest" modes
"$HERE/mk.sh" "$W/tools"
qemu-system-x86_64 -accel tcg -m 64 -nodefaults -display none -vga std -drive "file=$W/guest/modes.img,format=raw,if=ide,snapshot=on" \
  -serial "unix:$W/serial,server=on,wait=off" -qmp "unix:$W/qmp,server=on,wait=off" "$@" 2> "$OUT/qemu.log" & Q=$!
for _ in $(seq 100); do [ ! -S "$W/qmp" ] || break; sleep 0.1; done
WALK_LIMIT=60 "$W/tools/walk.py" "$W/serial" "$OUT" "qmp:$W/qmp"
echo "$(wc -l < "$OUT/steps.txt") pictures in $OUT"
