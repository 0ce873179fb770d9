# 82-linux: a Linux guest (guest/linux) with vgacon, then bochs-drm and its console on the display; keys and the pointer
# of the USB tablet reach it. With QEMU's VGA and monitor (only if its pictures are taken anew), then with ours and a VNC
# viewer; the pictures are to be the same.
# needs: nothing
# limit: 1200
. /share/lib-spec.sh
. /share/lib-display.sh

# linux NAME OUTDIR LINE…
linux() {
  local name=$1 out=$2 whose=${1#linux-} program cfg tty walk; shift 2
  cfg=$(guest_cfg "$name" 1 agent 'memory=256' 'serial="pty"' 'usb=1' 'usbdevice=["tablet"]' 'kernel="/share/linux/vmlinuz"' \
    'ramdisk="/share/linux/initrd"' 'cmdline="console=ttyS0 console=tty0 mitigations=off panic=5 loglevel=4"' "$@")
  if create "$cfg"; then ok "xl create starts $name"; else not_ok "xl create starts $name"; diag_file "$(LOG_OF "$name")" 40; return 1; fi
  mkdir -p "$out"; : > "$out/guest.txt"
  tty=$(serial_of "$DOMID")
  # Not `qmp:`: the walk would keep its connection to the monitor, and ours out.
  if [ "$name" = linux-qemu ]; then program=(bash $TOOLS/screendump.sh "$(qmp_socket "$DOMID")"); else program=(demux screenshot "$DOMID"); fi
  WALK_STAY=1 WALK_LIMIT=$((120 * PATIENCE)) python3 $TOOLS/walk.py "$tty" "$out" "${program[@]}" & walk=$!
  check "$name: Linux goes through all its steps" wait_for_line "$out/guest.txt" 'MODE done' 240
  check "$name: bochs-drm has the display" contains "$out/guest.txt" 'ok - bochs-drm has a frame buffer'
  check "$name: the input devices are there" wait_for_line "$out/guest.txt" 'INPUT [0-9]+ devices' 60
  check "$name: one of them is the tablet" contains "$out/guest.txt" 'INPUT .*Tablet'
  grep -aE ' # ' "$out/guest.txt" | sed 's/^[0-9.]* //'
  sleep 2
  check "$name: keys are accepted" keys "$whose" "$DOMID" 'type say typed keys arrive\n'
  check "$name: and reach the shell on the display" wait_for_line "$out/guest.txt" 'SAID typed keys arrive' 60
  check "$name: the pointer goes to a place" keys "$whose" "$DOMID" 'move 8000 24000' click
  check "$name: the guest's tablet says x" wait_for_line "$out/guest.txt" 'EVENT .*Tablet: abs 0 (79[5-9]|80[0-4])[0-9]' 60
  check "$name: and y" wait_for_line "$out/guest.txt" 'EVENT .*Tablet: abs 1 (239[5-9]|240[0-4])[0-9]' 60
  check "$name: and the button" wait_for_line "$out/guest.txt" 'EVENT .*Tablet: key 272 1' 60
  check "$name: what is typed shows the test card" keys "$whose" "$DOMID" 'type card typed; say done\n'
  check "$name: it is there" wait_for_line "$out/guest.txt" 'SAID done' 60
  sleep 2
  check "$name: a picture of what was typed" take "${name#linux-}" "$DOMID" "$out/linux-typed.png"
  check "$name: it differs from the empty screen" fails $TOOLS/picture same "$out/linux-typed.png" "$out/linux-bochs-touched.png"
  echo linux-typed >> "$out/steps.txt"
  kill $walk; wait $walk 2>/dev/null
  check "$name: xl destroy succeeds" xl destroy "$name"
  check "$name: nothing of the guest is left" wait_until 30 nothing_left "$DOMID"
}
if takes_anew linux; then
  linux linux-qemu $LOGS/linux-qemu "${QEMU_DISPLAY[@]}" || return
  same_as_checked_in linux
fi
QEMUS=$(qemu_pictures linux); steps=$(steps_of "$QEMUS")
if ! has_our_display; then for step in $steps; do skip "$step: there is no demux-display"; done; return; fi
display_spec spec.yaml
linux linux-demux $LOGS/linux-demux "${OUR_DISPLAY[@]}" || return
check "Linux went through the same steps" equal "$(sort $LOGS/linux-demux/steps.txt)" "$(sort <<< "$steps")"
for step in $steps; do
  check "$step: the same picture" $TOOLS/picture same $QEMUS/$step.png $LOGS/linux-demux/$step.png
done
check "nothing of Demux is left" wait_until 30 nothing_of_demux
