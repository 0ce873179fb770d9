#!/usr/bin/env bash
# rig-bench.sh STAGE: on real Xen, in the rig, what a guest's port read costs by who serves it, as ratios to QEMU. Times of
# the rig's software CPU mean nothing by themselves. Its last line says it all in short.
set -euo pipefail
[ $# = 1 ] || { echo "usage: rig-bench.sh STAGE" >&2; exit 2; }
STAGE=$(cd "$1" && pwd)
RIG=$(cd "$(dirname "$0")/../XenRig" && pwd)
WORK=$(mktemp -d -t demux-bench-rig.XXXXXX)
trap 'rm -rf "$WORK"' EXIT
mkdir "$WORK/kit" "$WORK/kit/scenarios"
"$RIG/guest/mk.sh" "$WORK/kit/guest" timing
cp "$RIG/bench/timing.sh" "$WORK/kit/scenarios/"
cp "$RIG/lib-demux.sh" "$RIG/lib-spec.sh" "$RIG/in-dom0.sh" "$WORK/kit/"
"$RIG/run.sh" -t 900 -o "$WORK/out" -s "$WORK/kit" -S "$STAGE" "bash /share/in-dom0.sh timing" > "$WORK/tap" 2> "$WORK/run.log" || true
if grep -qE '^(not ok|Bail out)' "$WORK/tap" || ! grep -q '^1\.\.' "$WORK/tap" || [ ! -s "$WORK/out/share/logs/timing.txt" ]; then
  cat "$WORK/tap" "$WORK/run.log"; tail -n 20 "$WORK/out/console.log" || true
  echo "rig: FAILED: see above"; exit 1
fi
echo "A guest's port read on Xen, by who serves it: cycles of the guest's TSC, and the time over QEMU's in the same round: the median, and"
echo "the ends of the middle half of the rounds."
awk 'BEGIN { printf "%-12s %12s %8s %8s %8s\n", "", "cycles", "ratio", "from", "to" }
     { printf "%-12s %12d %8s %8s %8s\n", $1, $2, $3, $4, $5 }' "$WORK/out/share/logs/timing.txt"
awk '{ ratio[$1] = $3 } END { printf "rig: over QEMU: Scratch %s, the isolated C device %s, nobody %s\n", ratio["scratch"], ratio["c-device"], ratio["unclaimed"] }' \
  "$WORK/out/share/logs/timing.txt"
