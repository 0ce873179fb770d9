# 94-trace: SeaBIOS booting, traced at the display: as text, and as a file for chrome://tracing, both kept in logs/94-trace; what it probed can be read. Then the
# host's watchdog on Xen's own pages: a display that is stopped while firmware draws is found, named with its request, killed and replaced.
# needs: demux demux-dm demux-display demux-vnc demux-watchdog
# limit: 600
. /share/lib-spec.sh
. /share/lib-display.sh
OUT=$LOGS/94-trace; mkdir -p "$OUT"

display_spec spec.yaml
cfg=$(guest_cfg traced 1 agent "${OUR_DISPLAY[@]}")
if ! create "$cfg" -p; then not_ok "a guest with our display is created, paused"; diag_file "$(LOG_OF traced)" 40; return; fi
D=$DOMID
SLOT=$(demux status "$D" | awk '$1 == "PCI" && $3 == "display" { print substr($2, 6); exit }')
demux trace "$D" --emulator display > "$OUT/boot.txt" 2> "$OUT/boot.err" & TEXT=$!
demux trace "$D" --emulator display --chrome "$OUT/boot.json" 2> "$OUT/chrome.err" & CHROME=$!
demux trace "$D" --json --range "pci $SLOT" > "$OUT/pci.jsonl" 2> /dev/null & PCI=$!
check "both traces are under way" wait_until 20 eval "demux status $D >/dev/null && [ -s '$OUT/boot.json' ]"
sleep 2
demux top "$D" --once --interval 8000 > "$OUT/top.txt" & TOP=$!
xl unpause traced
check "SeaBIOS comes to its disk" wait_for_guest "$D" 'Booting from Hard Disk' 180
sleep 2
wait $TOP
demux metrics > "$OUT/metrics.txt"
kill -INT $TEXT $CHROME $PCI; wait $TEXT $CHROME $PCI

diag "$(tail -n 1 "$OUT/boot.err"), $(wc -l < "$OUT/boot.txt") lines of text"
diag "$(cat "$OUT/top.txt")"
says() { contains "$OUT/boot.txt" "$1"; }
check "it read what the card is" says 'config read [24] .*PCI '"$SLOT"' 0x0 vendor'
check "it sized a BAR" says 'config write 4 .*← 0xffffffff|config write 4 .*← 0xfffffff0'
check "it switched the card on" says 'config write 2 .*PCI '"$SLOT"' 0x4 command'
check "the video BIOS looked for DISPI" says 'DISPI data \[ID\]'
check "it set the CRTC up" says 'VGA CRTC index \[horizontal total\]|VGA CRTC data \[horizontal total\]'
check "it loaded the palette" says 'VGA DAC data'
check "it wrote its greeting into the text screen" says 'VGA text memory'
check "the file for chrome://tracing is an array of events" eval "python3 -c 'import json,sys; e=json.load(open(\"$OUT/boot.json\")); assert sum(x[\"ph\"]==\"X\" for x in e) > 100' || head -c 300 '$OUT/boot.json'"
check "--range chose the configuration space alone" eval "[ -s '$OUT/pci.jsonl' ] && ! grep -v '\"kind\":\"config\"' '$OUT/pci.jsonl'"
check "top says how fast the display is" contains "$OUT/top.txt" 'display +serving'
check "and that QEMU's requests are not known" contains "$OUT/top.txt" 'QEMU .*not known: its requests pass us by'
check "metrics has its latencies" contains "$OUT/metrics.txt" 'demux_request_duration_seconds_count\{domain="'"$D"'",guest="traced",emulator="display"'

# The watchdog: the firmware of the next boot draws, and nobody answers.
check "there is one watchdog" equal "$(pgrep -c demux-watchdog)" 1
xl destroy traced; wait_until 30 nothing_left "$D"
check "it ends with the last guest" wait_until 20 eval '! pgrep demux-watchdog'
if ! create "$cfg" -p; then not_ok "the guest is created again"; return; fi
D=$DOMID
before=$(pgrep -f "$STAGE/bin/demux-display" | tail -n 1)
kill -STOP "$before"
xl unpause traced
check "the display that is stopped is found, with what waits" wait_until 60 eval "demux logs $D | grep -E \"emulator 'display' hangs: an? (port|MMIO|PCI configuration) (read|write) of [0-9] bytes at .* on slot 0\""
check "it is killed and another takes its place" wait_until 60 eval "demux logs $D | grep \"emulator 'display' is back (restart 1)\""
diag "$(demux logs "$D" | grep -E 'hangs|killed|back' | tail -n 4)"
check "the guest boots on" wait_for_guest "$D" 'Booting from Hard Disk' 180
check "xl destroy succeeds" xl destroy traced
check "nothing of the guest is left, no zombie either" wait_until 30 nothing_left "$D"
check "nothing of Demux is left" wait_until 30 nothing_of_demux
