# rig.sh: sourced by the benchmarks that have a half on real Xen.

# bench_in_rig WORK STAGE "GUEST PROGRAMS" SCENARIO.sh…: runs bench/SCENARIOs in one boot; leaves WORK/out/share/logs.
bench_in_rig() {
  local work=$1 stage=$2 programs=$3 rig names; shift 3
  rig=$(cd "$(dirname "${BASH_SOURCE[0]}")/../XenRig" && pwd)
  mkdir "$work/kit" "$work/kit/scenarios"
  # shellcheck disable=SC2086
  "$rig/guest/mk.sh" "$work/kit/guest" $programs
  "$rig/tools/mk.sh" "$work/kit/tools"
  cp "${@/#/$rig/bench/}" "$work/kit/scenarios/"
  cp "$rig/lib-demux.sh" "$rig/lib-spec.sh" "$rig/lib-display.sh" "$rig/in-dom0.sh" "$work/kit/"
  names="${*%.sh}"
  "$rig/run.sh" -t 1800 -o "$work/out" -s "$work/kit" -S "$stage" "bash /share/in-dom0.sh $names" > "$work/tap" 2> "$work/run.log" || true
  if grep -qE '^(not ok|Bail out)' "$work/tap" || ! grep -q '^1\.\.' "$work/tap"; then rig_failed "$work"; fi
}
# Says what is known, and ends.
rig_failed() { cat "$1/tap" "$1/run.log"; tail -n 20 "$1/out/console.log" || true; echo "rig: FAILED: see above"; exit 1; }
