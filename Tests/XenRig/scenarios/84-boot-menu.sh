# 84-boot-menu: SeaBIOS's boot menu, seen on the display and steered by keys: with QEMU's VGA and its monitor (only if its
# pictures are taken anew), then with ours and a VNC viewer, the same pictures.
# On Xen SeaBIOS does not read QEMU's `-boot menu=`, and always offers the menu, for 2.5 seconds; what it shows it also
# says on port 0xe9.
# needs: nothing
# limit: 600
. /share/lib-spec.sh
. /share/lib-display.sh

# Two disks with different programs: the agent is what starts by itself, the exerciser what the menu's second entry starts.
# The cursor blinks, so pictures are taken until one is the same as QEMU's, or as the one that is checked in.
QEMUS=$(qemu_pictures boot-menu)
picture() {                             # WHOSE NAME
  sleep 2
  take "$1" "$DOMID" "$LOGS/boot-menu-$1/$2.png"
}
same_picture() { take "$1" "$DOMID" "$LOGS/boot-menu-$1/$2.png" && $TOOLS/picture same "$3/$2.png" "$LOGS/boot-menu-$1/$2.png"; }
pictured() {                            # WHOSE NAME WHAT
  check "$1: a picture of $3" picture "$1" "$2"
  local from=$QEMUS is="as QEMU's"
  if [ "$1" = qemu ]; then from=$CHECKED_IN/boot-menu is="that is checked in"; [ -d "$from" ] || return 0; fi
  check "$1: $3 is the same picture $is" eval "wait_until 20 same_picture $1 $2 $from || same_picture $1 $2 $from"
}
menu() {
  local whose=$1 cfg; shift
  mkdir -p "$LOGS/boot-menu-$whose"
  cp $GUEST/exerciser.img second.img
  printf '\0\0\0\0' | dd of=second.img bs=1 seek=$((0x1f8)) conv=notrunc status=none
  # The same UUID in both halves, because SeaBIOS shows it.
  cfg=$(guest_cfg "menu-$whose" 2 agent 'uuid="5e1ec7ed-b007-4e4d-8000-0000000000b5"' "$@" \
    "disk=[\"format=raw,vdev=hda,access=rw,backendtype=qdisk,target=$RUN/menu-$whose.img\",\"format=raw,vdev=hdb,access=rw,backendtype=qdisk,target=$PWD/second.img\"]")
  # On a busy machine the guest's 2.5 seconds can be over before the key arrives: then the guest is started again.
  local attempt
  for attempt in {1..8}; do
    if ! create "$cfg" -p; then not_ok "xl create starts menu-$whose"; diag_file "$(LOG_OF "menu-$whose")" 40; return 1; fi
    # What presses the key is connected before the guest starts.
    rm -f press pressed; keys "$whose" "$DOMID" "wait $PWD/press" 'key esc' && : > pressed &
    sleep 2
    xl unpause "menu-$whose"
    wait_for_guest "$DOMID" 'Press ESC for boot menu' 60 >&2; : > press
    wait_for_guest "$DOMID" 'Select boot device|AGENT up' 60 >&2; ! guest_said "$DOMID" 'Select boot device' >&2 || break
    [ $attempt = 8 ] || { diag "$whose: the key came too late"; xl destroy "menu-$whose"; wait_until 30 nothing_left "$DOMID"; }
  done
  check "$whose: SeaBIOS offers the menu" guest_said "$DOMID" 'Press ESC for boot menu'
  check "$whose: Escape is accepted" wait_until 20 [ -e pressed ]
  check "$whose: SeaBIOS shows the menu" wait_for_guest "$DOMID" 'Select boot device' 10
  check "$whose: it has the second disk" wait_for_guest "$DOMID" '^2\. ' 10
  pictured "$whose" menu "the menu"
  check "$whose: the guest waits in it" check_waits
  check "$whose: the key 2 is accepted" keys "$whose" "$DOMID" 'key 2'
  check "$whose: the second disk's program starts" wait_for_guest "$DOMID" 'EXERCISER|^ok - |HEARTBEAT' 60
  check "$whose: and not the first one's" eval "! guest_said $DOMID 'AGENT up'"
  pictured "$whose" booted "the boot"
  check "$whose: xl destroy succeeds" xl destroy "menu-$whose"
  check "$whose: nothing of the guest is left" wait_until 30 nothing_left "$DOMID"
}
check_waits() { sleep 4; ! guest_said "$DOMID" 'Booting from'; }
if takes_anew boot-menu; then menu qemu "${QEMU_DISPLAY[@]}" || return; fi
if ! has_our_display; then skip "our display shows the same menu: there is no demux-display"; return; fi
display_spec spec.yaml
menu demux "${OUR_DISPLAY[@]}" || return
check "nothing of Demux is left" wait_until 30 nothing_of_demux
