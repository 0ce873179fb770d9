#!/usr/bin/env bash
# bench.sh BIN STAGE: the benchmarks. On this machine, a guest's round trip to a Swift emulator against one to a bare C
# loop, and what a request costs in allocations, locks and reference counts; the exporter beside QEMU's VNC server and, where it is installed,
# TigerVNC's (package tigervnc-standalone-server); then, in the rig, what the kinds of servers and the screen cost on Xen. BIN has the release build, not stripped; STAGE is what the rig gets as DEMUX_STAGE.
# BENCH_RIG=no leaves the rig out, BENCH_SCREEN=no the screen on this machine; DEMUX_BENCH_PAIRS is how many pairs of batches a line is made of (21).
set -euo pipefail
HERE=$(cd "$(dirname "$0")" && pwd)
[ $# = 2 ] || { echo "usage: bench.sh BIN STAGE" >&2; exit 2; }
BIN=$(cd "$1" && pwd); STAGE=$(cd "$2" && pwd)
WORK=$(mktemp -d -t demux-bench.XXXXXX)
trap 'rm -rf "$WORK"' EXIT
gcc -O2 -Wall -Wextra -Werror -shared -fPIC -o "$WORK/counter.so" "$HERE/AllocationCounter/counter.c"
"$BIN/demux-bench" "$BIN" "$WORK/counter.so" "$WORK" | tee "$WORK/local.log"
CLOSING=$(tail -n 1 "$WORK/local.log")
if [ "${BENCH_SCREEN:-yes}" != no ]; then
  "$HERE/ScreenGuest/build.sh" "$WORK/screen.rom"
  echo; "$BIN/demux-bench" --screen "$BIN" "$WORK/screen.rom" 2> "$WORK/screen.err" | tee "$WORK/screen.log" || { cat "$WORK/screen.err" >&2; exit 1; }
  CLOSING="$CLOSING; $(tail -n 1 "$WORK/screen.log")"
fi
if [ "${BENCH_RIG:-yes}" = no ]; then
  echo "bench: finished, without the rig; $CLOSING"
  exit 0
fi
echo; "$HERE/rig-bench.sh" "$STAGE" | tee "$WORK/rig.log"
echo "bench: finished; $CLOSING; $(tail -n 1 "$WORK/rig.log")"
