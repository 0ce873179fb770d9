# display: what the screen costs the guest: QEMU's VGA against ours, in the same run: scrolling and clearing the text screen by the BIOS,
# and filling a linear frame buffer without a viewer, with one, and without one again. Run by Tests/Benchmarks/rig-bench.sh or by
# hand; ratios are printed, never checked. Without demux-display only QEMU's half runs.
# needs: nothing
# limit: 1800
. /share/lib-spec.sh
. /share/lib-display.sh

go() { qmp "$DOMID" 'key spc' >&2; }
# measure WHOSE LINE…: leaves logs/display-WHOSE.txt: `name units rounds`, the median of each, in 1024 cycles of the TSC.
measure() {
  local whose=$1 cfg port viewer; shift
  cfg=$(guest_cfg "bench-$whose" 1 scroll 'vnc=1' 'vnclisten="127.0.0.1"' "$@")
  if create "$cfg"; then ok "xl create starts bench-$whose"; else not_ok "xl create starts bench-$whose"; diag_file "$(LOG_OF "bench-$whose")" 40; return 1; fi
  check "$whose: the text screen is timed" wait_for_guest "$DOMID" 'MODE quiet ready' 300
  go
  check "$whose: the fill without a viewer is timed" wait_for_guest "$DOMID" 'MODE viewer ready' 300
  port=$(xenstore-read "/local/domain/$DOMID/console/vnc-port")
  python3 $TOOLS/viewer.py 127.0.0.1 "$port" 3600 > $LOGS/display-$whose-viewer.txt & viewer=$!
  sleep 3
  go
  check "$whose: the fill with a viewer is timed" wait_for_guest "$DOMID" 'MODE quiet-again ready' 600
  kill $viewer; wait $viewer
  check "$whose: the viewer got updates" contains $LOGS/display-$whose-viewer.txt '^VIEWER 1024 768: [1-9][0-9]* updates'
  diag "$(cat $LOGS/display-$whose-viewer.txt)"
  sleep 3
  go
  check "$whose: the guest comes to its end" wait_for_guest "$DOMID" 'TIMING done' 300
  guest_lines "$DOMID" | grep -aE '^TIMING [a-z-]+ [0-9]+ [0-9]+' | sort -k2,2 -k4,4n | awk '
    function say() { if (n) printf "%s %d %d\n", name, value[int((n + 1) / 2)], n }
    $2 != name { say(); name = $2; n = 0 } { value[++n] = $4 } END { say() }' > $LOGS/display-$whose.txt
  check "$whose: there is a time for each" equal "$(wc -l < $LOGS/display-$whose.txt)" 7
  check "$whose: xl destroy succeeds" xl destroy "bench-$whose"
  check "$whose: nothing of the guest is left" wait_until 30 nothing_left "$DOMID"
}
measure qemu "${QEMU_DISPLAY[@]}" || return
if has_our_display && [ -x $STAGE/bin/demux-vnc ]; then
  display_spec spec.yaml
  measure demux "${OUR_DISPLAY[@]}" || return
else
  skip "our display is timed: there is no demux-display or demux-vnc"
fi
for whose in qemu demux; do
  [ ! -s $LOGS/display-$whose.txt ] || diag "$whose: $(awk '{ t[$1] = $2; printf "%s %d  ", $1, $2 }
    END { if (t["fill-viewer"]) printf "speed with a viewer %.3f, afterwards %.3f", t["fill-quiet"] / t["fill-viewer"], t["fill-quiet"] / t["fill-quiet-again"] }' $LOGS/display-$whose.txt)"
done
[ ! -s $LOGS/display-demux.txt ] || diag "QEMU over ours: $(awk 'NR == FNR { t[$1] = $2; next } $2 { printf "%s %.2f  ", $1, t[$1] / $2 }' $LOGS/display-qemu.txt $LOGS/display-demux.txt)"
