#!/usr/bin/env bash
# rig-bench.sh STAGE: on real Xen, in the rig, what a guest's port read costs by who serves it, as ratios to QEMU; and what the
# screen costs it, QEMU's VGA against our display. Times of the rig's software CPU mean nothing by themselves. Its last line says it
# all in short.
set -euo pipefail
[ $# = 1 ] || { echo "usage: rig-bench.sh STAGE" >&2; exit 2; }
STAGE=$(cd "$1" && pwd)
. "$(dirname "$0")/rig.sh"
WORK=$(mktemp -d -t demux-bench-rig.XXXXXX)
trap 'rm -rf "$WORK"' EXIT
bench_in_rig "$WORK" "$STAGE" "timing scroll" timing.sh display.sh
[ -s "$WORK/out/share/logs/timing.txt" ] || rig_failed "$WORK"
echo "A guest's port read on Xen, by who serves it: cycles of the guest's TSC, and the time over QEMU's in the same round: the median, and"
echo "the ends of the middle half of the rounds."
awk 'BEGIN { printf "%-12s %12s %8s %8s %8s\n", "", "cycles", "ratio", "from", "to" }
     { printf "%-12s %12d %8s %8s %8s\n", $1, $2, $3, $4, $5 }' "$WORK/out/share/logs/timing.txt"
LOGS=$WORK/out/share/logs
echo "The screen, in 1024 cycles of the guest's TSC, the median: the BIOS scrolls by a line, prints 80 characters, clears the text screen; rep stosl over it;"
echo "rep stosl over 1024x768x32 without a viewer, with one, and without one again."
OURS=$LOGS/display-demux.txt
[ -e "$OURS" ] || { echo "(QEMU's VGA only: demux-display and demux-vnc are not staged)"; : > "$OURS"; }
awk 'BEGIN { printf "%-18s %14s %14s %12s\n", "", "QEMU", "ours", "QEMU/ours" }
     FILENAME ~ /display-demux/ { ours[$1] = $2; next }
     { printf "%-18s %14d %14s %12s\n", $1, $2, $1 in ours ? ours[$1] : "-", ours[$1] ? sprintf("%.2f", $2 / ours[$1]) : "-" }' "$OURS" "$LOGS/display-qemu.txt"
grep -h -o 'VIEWER.*' "$LOGS"/display-*-viewer.txt | sed "s/^/  a viewer's own count: /"
awk 'FILENAME ~ /timing.txt$/ { ratio[$1] = $3 } FILENAME ~ /display-qemu/ { qemu[$1] = $2 } FILENAME ~ /display-demux/ { ours[$1] = $2 }
     END { printf "rig: over QEMU: Scratch %s, the isolated C device %s, nobody %s", ratio["scratch"], ratio["c-device"], ratio["unclaimed"]
           if (ours["scroll"]) printf "; a BIOS scroll %.1f x as fast, a clear %.1f x; a fill with a viewer has %.2f of its speed (with QEMU %.2f)",
             qemu["scroll"] / ours["scroll"], qemu["clear"] / ours["clear"], ours["fill-quiet"] / ours["fill-viewer"], qemu["fill-quiet"] / qemu["fill-viewer"]
           print "" }' "$LOGS/timing.txt" "$LOGS/display-qemu.txt" "$OURS"
