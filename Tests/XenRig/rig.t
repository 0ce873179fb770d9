#!/bin/bash
# rig.t: the scenarios, on real Xen, as TAP:  DEMUX_STAGE=DIR prove -v Tests/XenRig/rig.t [:: SCENARIO…]
#   DEMUX_STAGE       a directory whose bin/ has the programs under test; dom0 sees it at /extra. A lib/ beside it, if
#                     there is one, is searched for shared libraries
#   DEMUX_RIG_OUT     where to leave logs (default: a new directory under $TMPDIR or /tmp)
#   DEMUX_RIG_PATIENCE  what every time limit in the scenarios is multiplied by (3): they guard against hanging only, and
#                     a machine that does other things as well is slow
#   DEMUX_TEST_FULL   1: the counts that are too large for every day
#   DEMUX_RIG_FORWARD HOST:DOM0…, loopback ports here that reach ports of dom0 (run.sh -f), for viewers on this side
#   DEMUX_RIG_LIMIT   seconds for the whole boot (7200)
# With SCENARIOs (names in scenarios/ or, for benchmarks, in bench/, without .sh) only those run, and only what their
# `# needs:` lines name is needed.
HERE=$(cd "$(dirname "$0")" && pwd)
PROGRAMS="demux demux-dm demux-scratch demux-debug demux-c-scratch demux-conformance demux-display demux-vnc demux-nvme demux-watchdog demux-test-emulator"
bail() { echo "Bail out! $*"; exit 1; }
for tool in qemu-system-x86_64 gcc objcopy flock; do
  command -v $tool >/dev/null || bail "$tool is missing: see what Tests/XenRig/README.md needs"
done
if [ $# -gt 0 ]; then
  SCENARIOS=("$@")
  for s; do [ -e "$HERE/scenarios/$s.sh" ] || [ -e "$HERE/bench/$s.sh" ] || bail "there is no scenario $s in $HERE/scenarios or bench"; done
  PROGRAMS=$(for s; do cat "$HERE/scenarios/$s.sh" "$HERE/bench/$s.sh" 2>/dev/null | sed -n 's/^# needs: //p'; done | tr ' ' '\n' | grep -v '^nothing$' | sort -u)
else
  SCENARIOS=(); for f in "$HERE"/scenarios/*.sh; do SCENARIOS+=("$(basename "$f" .sh)"); done
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
echo "${DEMUX_RIG_PATIENCE:-3}" > "$KIT/patience"
echo "${DEMUX_TEST_FULL:-0}" > "$KIT/full"
echo "# output in $OUT/share"
RIG=$("$HERE/run.sh" -b) || bail "the rig could not be built"
"$HERE/guest/linux/mk.sh" "$KIT/linux" "$RIG" >> "$OUT/guest-build.log" 2>&1 ||
  { sed 's/^/# /' "$OUT/guest-build.log"; bail "the Linux guest could not be built"; }
FORWARDS=(); for f in $DEMUX_RIG_FORWARD; do FORWARDS+=(-f "$f"); done
"$HERE/run.sh" "${FORWARDS[@]}" -t "${DEMUX_RIG_LIMIT:-7200}" -o "$OUT" -s "$KIT" -S "$STAGE" "bash /share/in-dom0.sh ${SCENARIOS[*]}" \
  2> "$OUT/run.log"
STATUS=$?
sed 's/^/# /' "$OUT/run.log"
if ! grep -qE '^(1\.\.|Bail out)' "$OUT/share/out.log"; then
  N=$(grep -cE '^(not )?ok ' "$OUT/share/out.log")
  echo "not ok $((N+1)) - dom0 comes to the end of the scenarios"
  echo "# status $STATUS; the console ends:"; tail -n 15 "$OUT/console.log" | tr -d '\r' | sed 's/^/# /'
  echo "1..$((N+1))"
fi
