#!/usr/bin/env bash
# density.sh STAGE GUESTS: what many guests at rest cost on this machine; and on real Xen, in the rig, what one costs with QEMU alone and with
# Demux. STAGE has the programs, in bin/. BENCH_RIG=no leaves the rig out.
set -euo pipefail
HERE=$(cd "$(dirname "$0")" && pwd)
[ $# = 2 ] || { echo "usage: density.sh STAGE GUESTS" >&2; exit 2; }
STAGE=$(cd "$1" && pwd)
RIG=$HERE/../XenRig
# A guest has four or five processes.
ulimit -u unlimited 2>/dev/null || true
WORK=$(mktemp -d -t demux-density.XXXXXX)
trap 'rm -rf "$WORK"' EXIT
"$STAGE/bin/demux-bench" --density "$STAGE/bin" "$2" | tee "$WORK/local.log"
if [ "${BENCH_RIG:-yes}" = no ]; then
  echo "bench-density: finished, without the rig; $(tail -n 1 "$WORK/local.log")"
  exit 0
fi
. "$HERE/rig.sh"
bench_in_rig "$WORK" "$STAGE" agent density.sh
LOG=$WORK/out/share/logs/density.txt
[ -s "$LOG" ] || rig_failed "$WORK"
echo; echo "One guest at rest on real Xen, in the rig (a software CPU): PSS without memfds, wake-ups a second over 30 s."
awk '$1 != "start" && $1 != "begun" { if (!h++) printf "%-22s %-16s %8s %10s %12s %8s\n", "", "", "PSS MiB", "wake-ups/s", "descriptors", "threads"
       printf "%-22s %-16s %8.1f %10.2f %12d %8d\n", $1, $2, $3 / 1024, $4, $5, $6 }' "$LOG"
awk '$1 == "start" { t[++n] = $3 * 10 } END { printf "From the start of demux-dm to that of QEMU, in %d starts: ", n; for (i = 1; i <= n; i++) printf "%s%d", (i > 1 ? ", " : ""), t[i]; print " ms (aim: 150; a QEMU alone is started at once)" }' "$LOG"
awk '$1 == "begun" { if (!($4 in n)) order[++k] = $4; n[$4]++; t[$4] += $3 * 10 }
     END { printf "Of which, on average, until the start of: "; for (i = 1; i <= k; i++) printf "%s%s %d", (i > 1 ? ", " : ""), order[i], t[order[i]] / n[order[i]]; print " ms" }' "$LOG"
awk '$1 == "demux" && $2 ~ /^demux-/ && $2 != "demux-watchdog" { s += $3; w += $4 } $1 == "demux-viewer" && $2 == "demux-display" { v = $4 } $1 == "demux-viewer" && $2 ~ /^demux-(dm|vnc|keeper|scratch)/ { o += $4 }
     $1 == "start" { if ($3 > worst) worst = $3 }
     END { printf "rig: our processes at rest: %.1f MiB (one guest: nothing to share with), %.2f wake-ups/s; with a viewer the display %.2f/s, the others %.2f/s; QEMU %d ms later at most\n", s / 1024, w, v, o, worst * 10 }' "$LOG" | tee "$WORK/rig.log"
echo "bench-density: finished; $(tail -n 1 "$WORK/local.log"); $(tail -n 1 "$WORK/rig.log")"
