# hold: a guest to look at with viewers from this side of the rig: guest/modes.c, past its last step, draws a moving square. Runs only
# when named:  DEMUX_RIG_FORWARD=15900:5999 DEMUX_STAGE=DIR prove -v Tests/XenRig/rig.t :: hold
# The guest's VNC port, whichever it is, is then 127.0.0.1:15900 here. With demux-display and demux-vnc staged it is our exporter,
# otherwise QEMU's VNC server. HOLD_GUEST in DIR/hold.env may name another image of guest/, or `linux`. It ends when the file
# share/release appears in the output directory (rig.t prints its name), or at its limit.
# needs: nothing
# limit: 1200
. /share/lib-spec.sh
. /share/lib-display.sh

# shellcheck disable=SC1091
[ ! -e $STAGE/hold.env ] || . $STAGE/hold.env
lines=('vnc=1' 'vnclisten="127.0.0.1"' 'serial="pty"' 'usb=1' 'usbdevice=["tablet"]')
image=${HOLD_GUEST:-modes}
if [ "$image" = linux ]; then
  image=agent
  lines+=('memory=256' 'kernel="/share/linux/vmlinuz"' 'ramdisk="/share/linux/initrd"' 'cmdline="console=ttyS0 console=tty0 mitigations=off loglevel=4"')
fi
if has_our_display && [ -x $STAGE/bin/demux-vnc ]; then
  display_spec spec.yaml
  lines+=("${OUR_DISPLAY[@]}")
else
  lines+=("${QEMU_DISPLAY[@]}")
fi
cfg=$(guest_cfg hold 1 "$image" "${lines[@]}")
if create "$cfg"; then ok "xl create starts the guest"; else not_ok "xl create starts the guest"; diag_file "$(LOG_OF hold)" 40; return; fi
port=$(xenstore-read "/local/domain/$DOMID/console/vnc-port")
net_up
# What listens in dom0 stays on loopback; the NIC's side of the forward is socat's.
socat TCP-LISTEN:5999,bind=10.0.2.15,reuseaddr,fork TCP:127.0.0.1:"$port" & forward=$!
walk=""
case ${HOLD_GUEST:-modes} in
  modes | linux)                        # their steps go by until the guest draws on
    mkdir -p $LOGS/hold; : > $LOGS/hold/guest.txt
    WALK_STAY=1 python3 $TOOLS/walk.py "$(serial_of "$DOMID")" $LOGS/hold true & walk=$!
    check "the guest is past its steps" wait_for_line $LOGS/hold/guest.txt 'MODE done' 240;;
esac
diag "viewers may connect: port $port of dom0"
: > /share/held
until [ -e /share/release ]; do sleep 1; done
# shellcheck disable=SC2086
kill $walk $forward
check "the guest lived on" xl domid hold
check "xl destroy succeeds" xl destroy hold
check "nothing of the guest is left" wait_until 30 nothing_left "$DOMID"
