# 80-modes: every mode of a standard VGA, picture by picture: QEMU's VGA against ours, drawn by the same guest program
# (guest/modes.c). QEMU's pictures are checked in, or stay in logs/modes-qemu; ours stay in logs/modes-demux.
# Without DEMUX_TEST_FULL=1 one mode stands for those that differ from it in depth or size alone.
# needs: nothing
# limit: 1500
. /share/lib-spec.sh
. /share/lib-display.sh

cp $GUEST/modes.img modes.img
[ "$FULL" = 1 ] || printf '\7\2' | dd of=modes.img bs=1 seek=$((0x1f8)) conv=notrunc status=none    # CONFIG_SAMPLE

# walk NAME OUTDIR LINE…: starts the guest, and goes through its steps; its checks become ours.
walk() {
  local name=$1 out=$2 program cfg; shift 2
  cfg=$(guest_cfg "$name" 1 "$PWD/modes.img" 'serial="pty"' "$@")
  if create "$cfg"; then ok "xl create starts $name"; else not_ok "xl create starts $name"; diag_file "$(LOG_OF "$name")" 40; return 1; fi
  program=(qmp:"$(qmp_socket "$DOMID")"); [ "$name" = qemu ] || program=(demux screenshot "$DOMID")
  mkdir -p "$out"
  check "$name: the guest goes through all its modes" env WALK_LIMIT=$((60 * PATIENCE)) python3 $TOOLS/walk.py "$(serial_of "$DOMID")" "$out" "${program[@]}"
  guest_checks "$name" "$out/guest.txt"
  check "$name: every cursor was seen" eval "! grep 'never differed' $out/guest.txt"
}
if takes_anew modes; then
  walk qemu $LOGS/modes-qemu "${QEMU_DISPLAY[@]}" || return
  check "there is a picture of each step" equal "$(ls $LOGS/modes-qemu/*.png | wc -l)" "$(wc -l < $LOGS/modes-qemu/steps.txt)"
  same_as_checked_in modes
  check "the guest draws on" wait_for_guest "$DOMID" 'FRAME 64' 60
  check "xl destroy succeeds" xl destroy qemu
  check "nothing of the guest is left" wait_until 30 nothing_left "$DOMID"
fi
QEMUS=$(qemu_pictures modes); known=$(steps_of "$QEMUS")

if ! has_our_display; then for step in $known; do skip "$step: there is no demux-display"; done; return; fi
display_spec spec.yaml
walk demux $LOGS/modes-demux "${OUR_DISPLAY[@]}" || return
check "the guest went through the same steps" equal "$(sort $LOGS/modes-demux/steps.txt)" "$(sort <<< "$known")"
for step in $known; do
  case $step in
    look-*) skip "$step is not compared, only kept for looking at";;
    *) check "$step: the same picture" $TOOLS/picture same $QEMUS/$step.png $LOGS/modes-demux/$step.png;;
  esac
done
check "the guest draws on" wait_for_guest "$DOMID" 'FRAME 64' 60

# Save and restore, paused so that nothing moves: the same picture, and then it moves on.
check "xl pause succeeds" xl pause demux
check "a picture before the save" take demux "$DOMID" $LOGS/modes-demux/saved.png
check "xl save succeeds" xl save demux saved.img
if timeout $((60 * PATIENCE)) xl -vvv restore -p saved.img > restore.log 2>&1; then ok "xl restore succeeds"; else
  not_ok "xl restore succeeds"; diag_file restore.log; diag_file "$(LOG_OF demux)"; return; fi
DOMID=$(xl domid demux)
check "a picture after the restore" take demux "$DOMID" $LOGS/modes-demux/restored.png
check "it is the same" $TOOLS/picture same $LOGS/modes-demux/saved.png $LOGS/modes-demux/restored.png
frames() { guest_lines "$DOMID" | grep -c FRAME; }

# The display is killed: a successor finds the registers in the state region and the picture in video memory.
display_pid() { pgrep -f "$STAGE/bin/demux-display" | tail -n 1; }
OLD=$(display_pid)
check "the display can be killed" kill -KILL "$OLD"
check "a successor serves" wait_until 30 eval "[ -n \"\$(display_pid)\" ] && [ \"\$(display_pid)\" != $OLD ] && status_has $DOMID '^display .* serving'"
check "a picture of the successor" take demux "$DOMID" $LOGS/modes-demux/succeeded.png
check "it is the same, too" $TOOLS/picture same $LOGS/modes-demux/restored.png $LOGS/modes-demux/succeeded.png
was=$(frames)
check "xl unpause succeeds" xl unpause demux
check "the restored guest draws on" wait_until 60 eval "[ \$(frames) -gt $((was + 4)) ]"
sleep 1
check "a picture of it" take demux "$DOMID" $LOGS/modes-demux/went-on.png
check "what it draws is seen" fails $TOOLS/picture same $LOGS/modes-demux/restored.png $LOGS/modes-demux/went-on.png
check "xl destroy succeeds" xl destroy demux
check "nothing of the guest is left" wait_until 30 nothing_left "$DOMID"
check "nothing of Demux is left" wait_until 30 nothing_of_demux
