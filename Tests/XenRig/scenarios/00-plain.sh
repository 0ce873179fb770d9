# 00-plain: no Demux at all. Proves the rig: Xen, libxl, QEMU and the guest programs work, and nothing is left behind.
# needs: nothing

cp $GUEST/exerciser.img none.img
printf '\0\0\0\0' | dd of=none.img bs=1 seek=$((0x1f8)) conv=notrunc status=none    # expect none of our devices
cfg=$(guest_cfg plain 2 "$PWD/none.img")
if create "$cfg"; then ok "xl create starts a guest with plain QEMU"; else not_ok "xl create starts a guest with plain QEMU"; return; fi
check "the guest program comes to its end" wait_for_guest "$DOMID" 'EXERCISER done' 120
exerciser_tap "$DOMID"
check "the guest lives on" wait_for_guest "$DOMID" 'HEARTBEAT 8$' 60
check "xl pause is accepted" xl pause plain
check "xl list shows it paused" eval 'xl list plain | tail -n 1 | grep -E " [-rb]*p[-]* "'
check "xl unpause is accepted" xl unpause plain
check "the guest goes on after the pause" wait_for_guest "$DOMID" 'HEARTBEAT 16$' 60
check "xl destroy succeeds" xl destroy plain
check "nothing of the guest is left" wait_until 30 nothing_left "$DOMID"
