# 84-boot-menu: SeaBIOS's boot menu, seen on the display and steered by keys: with QEMU's VGA, then with ours, the same pictures.
# On Xen SeaBIOS does not read QEMU's `-boot menu=`, and always offers the menu, for 2.5 seconds; what it shows it also
# says on port 0xe9.
# needs: nothing
# limit: 600
. /share/lib-spec.sh
. /share/lib-display.sh

# Two disks with different programs: the agent is what starts by itself, the exerciser what the menu's second entry starts.
# picture WHOSE FILE: takes pictures until two after one another are the same: the screen has come to rest.
picture() {
  local n
  take "$1" "$DOMID" before.png || return 1
  for n in $(seq 20); do
    sleep 0.5
    take "$1" "$DOMID" "$2" || return 1
    ! $TOOLS/picture same before.png "$2" > /dev/null || return 0
    cp "$2" before.png
  done
  echo "the screen does not come to rest"; return 1
}
menu() {
  local whose=$1 out=$LOGS/boot-menu-$1 cfg; shift
  mkdir -p "$out"
  cp $GUEST/exerciser.img second.img
  printf '\0\0\0\0' | dd of=second.img bs=1 seek=$((0x1f8)) conv=notrunc status=none
  # The same UUID in both halves, because SeaBIOS shows it.
  cfg=$(guest_cfg "menu-$whose" 2 agent 'uuid="5e1ec7ed-b007-4e4d-8000-0000000000b5"' "$@" \
    "disk=[\"format=raw,vdev=hda,access=rw,backendtype=qdisk,target=$RUN/menu-$whose.img\",\"format=raw,vdev=hdb,access=rw,backendtype=qdisk,target=$PWD/second.img\"]")
  if create "$cfg"; then ok "xl create starts menu-$whose"; else not_ok "xl create starts menu-$whose"; diag_file "$(LOG_OF "menu-$whose")" 40; return 1; fi
  check "$whose: SeaBIOS offers the menu" wait_for_guest "$DOMID" 'Press ESC for boot menu' 60
  check "$whose: Escape is accepted" qmp "$DOMID" 'key esc'
  check "$whose: SeaBIOS shows the menu" wait_for_guest "$DOMID" 'Select boot device' 10
  check "$whose: it has the second disk" wait_for_guest "$DOMID" '^2\. ' 10
  check "$whose: a picture of the menu" picture "$whose" "$out/menu.png"
  check "$whose: the guest waits in it" check_waits
  check "$whose: the key 2 is accepted" qmp "$DOMID" 'key 2'
  check "$whose: the second disk's program starts" wait_for_guest "$DOMID" 'EXERCISER|^ok - |HEARTBEAT' 60
  check "$whose: and not the first one's" eval "! guest_said $DOMID 'AGENT up'"
  check "$whose: a picture of the boot" picture "$whose" "$out/booted.png"
  check "$whose: xl destroy succeeds" xl destroy "menu-$whose"
  check "$whose: nothing of the guest is left" wait_until 30 nothing_left "$DOMID"
}
check_waits() { sleep 4; ! guest_said "$DOMID" 'Booting from'; }
menu qemu "${QEMU_DISPLAY[@]}" || return
if ! has_our_display; then skip "our display shows the same menu: there is no demux-display"; return; fi
display_spec spec.yaml
menu demux "${OUR_DISPLAY[@]}" || return
for name in menu booted; do
  check "$name: the same picture" $TOOLS/picture same $LOGS/boot-menu-qemu/$name.png $LOGS/boot-menu-demux/$name.png
done
check "nothing of Demux is left" wait_until 30 nothing_of_demux
