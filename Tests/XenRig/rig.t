#!/bin/bash
# rig.t: the scenarios, on real Xen, in machines side by side, as one TAP stream:
#   DEMUX_STAGE=DIR prove -v Tests/XenRig/rig.t [:: SCENARIO…]
#   DEMUX_STAGE       a directory whose bin/ has the programs under test; dom0 sees it at /extra. A lib/ beside it, if
#                     there is one, is searched for shared libraries
#   DEMUX_RIG_OUT     where to leave logs (default: a new directory under $TMPDIR or /tmp)
#   DEMUX_RIG_PATIENCE  what every time limit in the scenarios is multiplied by (6): they guard against hanging only,
#                     and a machine that does other things as well is slow
#   DEMUX_TEST_FULL   1: the counts that are too large for every day
#   DEMUX_RIG_FORWARD HOST:DOM0…, loopback ports here that reach ports of dom0 (run.sh -f), for viewers on this side
#   DEMUX_RIG_LIMIT   seconds for the whole boot (7200)
#   DEMUX_RIG_MACHINES  how many machines share the scenarios (2); one scenario, and benchmarks, have one
#   DEMUX_RIG_PICTURES  take: QEMU's pictures are taken anew, and not compared with those checked in
#   QEMU              the program that is the machine (qemu-system-x86_64)
# With SCENARIOs (names in scenarios/ or, for benchmarks, in bench/, without .sh) only those run, and only what their
# `# needs:` lines name is needed.
HERE=$(cd "$(dirname "$0")" && pwd)
. "$HERE/pictures.sh"
PROGRAMS="demux demux-dm demux-scratch demux-debug demux-c-scratch demux-conformance demux-display demux-vnc demux-nvme demux-watchdog demux-keeper demux-test-emulator"
bail() { echo "Bail out! $*"; exit 1; }
export QEMU=${QEMU:-qemu-system-x86_64}
for tool in "$QEMU" gcc objcopy flock; do
  command -v $tool >/dev/null || bail "$tool is missing: see what Tests/XenRig/README.md needs"
done
if [ $# -gt 0 ]; then
  SCENARIOS=("$@") ALONE=""
  for s; do [ -e "$HERE/scenarios/$s.sh" ] || [ -e "$HERE/bench/$s.sh" ] || bail "there is no scenario $s in $HERE/scenarios or bench"; done
  for s; do [ ! -e "$HERE/bench/$s.sh" ] || ALONE=$s; done
  PROGRAMS=$(for s; do cat "$HERE/scenarios/$s.sh" "$HERE/bench/$s.sh" 2>/dev/null | sed -n 's/^# needs: //p'; done | tr ' ' '\n' | grep -v '^nothing$' | sort -u)
else
  SCENARIOS=()
  for f in "$HERE"/scenarios/*.sh; do
    # Some are too long for every day: `# only: full`.
    if [ "$DEMUX_TEST_FULL" = 1 ] || ! grep -q '^# only: full' "$f"; then SCENARIOS+=("$(basename "$f" .sh)"); fi
  done
fi
MISSING=""
for p in $PROGRAMS; do [ -x "${DEMUX_STAGE:-/nonexistent}/bin/$p" ] || MISSING+=" $p"; done
if [ -n "$MISSING" ]; then
  [ -n "$DEMUX_STAGE" ] || bail "DEMUX_STAGE is not set: put$MISSING into some DIR/bin and set DEMUX_STAGE=DIR"
  bail "$DEMUX_STAGE/bin lacks$MISSING: build them and copy them there"
fi
STAGE=${DEMUX_STAGE:-$(mktemp -d)}
OUT=${DEMUX_RIG_OUT:-$(mktemp -d -t demux-xenrig.XXXXXX)}
mkdir -p "$OUT" || bail "$OUT cannot be made"
KIT=$(mktemp -d); trap 'rm -rf "$KIT"; [ -n "$DEMUX_STAGE" ] || rmdir "$STAGE"' EXIT
"$HERE/guest/mk.sh" "$KIT/guest" > "$OUT/guest-build.log" 2>&1 ||
  { sed 's/^/# /' "$OUT/guest-build.log"; bail "the guest programs did not build (gcc-multilib is needed)"; }
"$HERE/tools/mk.sh" "$KIT/tools" > "$OUT/tools-build.log" 2>&1 ||
  { sed 's/^/# /' "$OUT/tools-build.log"; bail "the tools did not build (libpng-dev is needed)"; }
cp -r "$HERE/scenarios" "$HERE/lib-demux.sh" "$HERE/lib-spec.sh" "$HERE/lib-display.sh" "$HERE/in-dom0.sh" "$KIT/"
cp "$HERE"/bench/*.sh "$KIT/scenarios/"
echo "${DEMUX_RIG_PATIENCE:-6}" > "$KIT/patience"
echo "${DEMUX_TEST_FULL:-0}" > "$KIT/full"
RIG=$("$HERE/run.sh" -b) || bail "the rig could not be built"
"$HERE/guest/linux/mk.sh" "$KIT/linux" "$RIG" >> "$OUT/guest-build.log" 2>&1 ||
  { sed 's/^/# /' "$OUT/guest-build.log"; bail "the Linux guest could not be built"; }

for set in $PICTURE_SETS; do
  if [ "$DEMUX_RIG_PICTURES" = take ]; then break; fi
  if why=$(stale "$set" "$RIG"); then
    echo "# $why. So QEMU's half is taken anew; 'Tests/XenRig/renew.sh pictures' makes it what is checked in"
  else mkdir -p "$KIT/pictures"; cp -r "$HERE/pictures/$set" "$KIT/pictures/"; fi
done

# --- who runs what: one machine after another gets the longest scenario that is left, if it has the least to do
MACHINES=${DEMUX_RIG_MACHINES:-2}
# Benchmarks are not to disturb each other, and a port here can be forwarded only once.
[ -z "$ALONE$DEMUX_RIG_FORWARD" ] || MACHINES=1
[ "$MACHINES" -le ${#SCENARIOS[@]} ] || MACHINES=${#SCENARIOS[@]}
shares() {
  for s in "${SCENARIOS[@]}"; do echo "$s $(awk -v s="$s" '$1 == s { print $3 }' "$HERE/seconds.txt")"; done |
    awk '{ print (NF > 1 ? $2 : 90), $1 }' | sort -k 1,1nr -k 2 |
    awk -v n="$MACHINES" '{
      least = 1; for (i = 2; i <= n; i++) if (sum[i] < sum[least]) least = i
      sum[least] += $1; print least, $2 }' | sort
}
SHARES=$(shares)
FORWARDS=(); for f in $DEMUX_RIG_FORWARD; do FORWARDS+=(-f "$f"); done
echo "# $("$QEMU" --version | head -n 1); output in $OUT, a directory for each machine"
boot() {                                # N SCENARIO…: lines for merge.sh; the machine's status
  local n=$1 line; shift
  mkdir -p "$OUT/$n"
  echo "$n # gets $*"
  "$HERE/run.sh" "${FORWARDS[@]}" -t "${DEMUX_RIG_LIMIT:-7200}" -o "$OUT/$n" -s "$KIT" -S "$STAGE" \
    "bash /share/in-dom0.sh $*" 2> "$OUT/$n/run.log" |
    while IFS= read -r line; do printf '%s %s\n' "$n" "${line:0:1000}"; done      # what a pipe takes in one piece
  local status=${PIPESTATUS[0]}
  sed "s/^/$n # /" "$OUT/$n/run.log"
  return "$status"
}
# The emulated machine as a whole has been seen to freeze (README.md). Once, another goes on with what it had not ended.
machine() {                             # N
  local n=$1 names left status heir=$(($1 + MACHINES))
  names=$(awk -v n="$n" '$1 == n { print $2 }' <<< "$SHARES")
  boot "$n" $names; status=$?
  if [ $status = 123 ]; then
    left=$(grep -vxF -f <(sed -n 's/^# scenario \(.*\) ends with .*/\1/p' "$OUT/$n/share/out.log"; echo .) <<< "$names")
    echo "$n ! $heir"
    n=$heir
    boot "$n" $left; status=$?
  fi
  echo "$n = $status"
}
# What runs in the background is deaf to the keyboard's interrupt, so the machines are ended here; the rest ends with them.
trap 'for n in $(seq $((2 * MACHINES))); do kill "$(cat "$OUT/$n/qemu.pid")" 2> /dev/null; done' INT TERM
{ for n in $(seq "$MACHINES"); do machine "$n" & done; wait; } | "$HERE/merge.sh" "$OUT" $(seq "$MACHINES") &
wait $!; wait
