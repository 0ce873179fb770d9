# 70-display: xl's screen settings through demux-dm: our display at the VGA's slot, our exporter behind xl's VNC keys, passwords, the
# variants in which QEMU keeps its card, save and restore.
# needs: demux demux-dm demux-display demux-vnc
# limit: 1800
. /share/lib-spec.sh

net_bridge
printf 'demux: 1\ndisplay: {ready-within: 60s}\nvnc: {ready-within: 60s}\n' > spec.yaml
printf 'demux: 1\ndisplay: {ready-within: 60s}\n' > blind.yaml
printf 'demux: 1\ndisplay: no\n' > qemu.yaml
mapfile -t lines < <(with_demux "$PWD/spec.yaml")
VIF='vif=["model=e1000,mac=00:16:3e:00:00:01,bridge=xenbr0"]'

key() { xenstore-read "/local/domain/$DOMID/console/$1" 2>/dev/null; }
# The names of the keys about VNC; a password is there only if the configuration has one.
vnc_keys() { xenstore-ls -f "/local/domain/$DOMID/console" | grep -o '/vnc-[a-z]* ' | grep -v pass | sort | tr -d '\n'; }
monitor() { xl qemu-monitor-command "$1" "$2" | tr -d '\r'; }
# greets HOST PORT: whether an RFB server answers there.
greets() { timeout 10 socat -u "TCP:$1:$2" - 2>/dev/null | head -c 12 | grep -qa '^RFB 003\.008'; }
# slot_of GUEST VENDOR:DEVICE, as QEMU tells it; empty when it has none.
slot_of() { monitor "$1" 'info pci' | awk -v id="$2" '/device +[0-9]+, function/ { slot = $4 + 0 } tolower($0) ~ "pci device " id { print slot; exit }'; }
# started CFG SENTENCE NAME [-p]: a guest whose own doings are not looked at is created paused, because dom0 needs the processor.
started() { if create "$1" ${4-}; then ok "$2"; else not_ok "$2"; diag_file "$(LOG_OF "$3")" 40; return 1; fi; }
ended() {                               # GUEST DOMID: destroys it, and nothing may be left
  check "xl destroy succeeds ($1)" xl destroy "$1"
  check "nothing of the guest is left, no zombie either ($1)" wait_until 30 nothing_left "$2"
  check "nothing of Demux is left ($1)" wait_until 30 nothing_of_demux
}

# What QEMU alone does, to compare with.
cfg=$(guest_cfg plain 1 agent 'vga="stdvga"' 'videoram=16' 'vnc=1' 'vncunused=1' "$VIF")
started "$cfg" "a guest with QEMU's own VGA and VNC starts" plain -p || return
QEMU_VGA=$(slot_of plain 1234:1111) QEMU_NIC=$(slot_of plain 8086:100e)
diag "QEMU alone: VGA in slot $QEMU_VGA, NIC in slot $QEMU_NIC, VNC at $(key vnc-listen):$(key vnc-port)"
QEMU_KEYS=$(vnc_keys)
check "xl save of it succeeds" xl save plain plain.img
PLAIN_SIZE=$(stat -c %s plain.img)
rm -f plain.img

# Ours in its place, with a password.
cfg=$(guest_cfg ours 1 agent 'vga="stdvga"' 'videoram=16' 'vnc=1' 'vncunused=1' 'vncpasswd="secret"' "$VIF" "${lines[@]}")
started "$cfg" "the same guest starts with our display and exporter" ours || return
D=$DOMID
check "the display has the slot that QEMU's VGA had" eval "demux status $D --json | tr '{' '\n' | grep -E '00:0$QEMU_VGA\.0' | grep -q display || demux status $D | grep -E '00:0$QEMU_VGA\.0.*display'"
check "QEMU has no VGA" equal "$(slot_of ours 1234:1111)" ""
check "the NIC keeps its slot" equal "$(slot_of ours 8086:100e)" "$QEMU_NIC"
check "xenstore has the same VNC keys as with QEMU" equal "$(vnc_keys)" "$QEMU_KEYS"
check "the port in xenstore, which xl vncviewer uses, is the exporter's" greets "$(key vnc-listen)" "$(key vnc-port)"
check "the password in xenstore is the one of the configuration" equal "$(key vnc-pass)" secret
check "info vnc tells that port" eval "monitor ours 'info vnc' | grep -qF ':$(key vnc-port) '"
check "info vnc tells that a password is needed" eval "monitor ours 'info vnc' | grep -q 'Auth: vnc'"
check "set_password is taken" equal "$(monitor ours 'set_password vnc other' | grep -v '^$')" ""
check "change vnc password is taken" equal "$(monitor ours 'change vnc password third' | grep -v '^$')" ""
check "expire_password is taken" equal "$(monitor ours 'expire_password vnc +60' | grep -v '^$')" ""
check "a wrong expiry is refused" eval "monitor ours 'expire_password vnc soon' | grep -q Error"
check "QEMU listens for nobody" eval "! ss -ltnp 2>/dev/null | grep -q qemu"
check "the rest of the monitor is QEMU's" eval "monitor ours 'info version' | grep -qE '^[0-9]+\.[0-9]+'"
diag "$(demux status "$D")"

# Save and restore.
PORT=$(key vnc-port)
check "xl save succeeds" xl save ours saved.img
# Every frame below the guest's highest costs 8 bytes there, and time: a display's memory must not live far up.
SIZE=$(stat -c %s saved.img) MOST=$(( (PLAIN_SIZE + (16 << 20)) * 11 / 10 ))
check "the saved guest has $SIZE bytes, QEMU's $PLAIN_SIZE: at most the video memory and a tenth more" [ "$SIZE" -le "$MOST" ]
check "nothing of Demux is left after the save" wait_until 30 nothing_of_demux
if timeout $((150 * PATIENCE)) xl -vvv restore saved.img > restore.log 2>&1; then ok "xl restore succeeds"; else
  not_ok "xl restore succeeds"; diag_file restore.log; diag_file "$(LOG_OF ours)"; return; fi
DOMID=$(xl domid ours); D=$DOMID
check "the saved states were taken for the emulators" contains "$(LOG_OF ours)" 'saved records were taken'
check "the NIC has its slot again" equal "$(slot_of ours 8086:100e)" "$QEMU_NIC"
check "viewers come in at the port in xenstore again" greets "$(key vnc-listen)" "$(key vnc-port)"
diag "port before $PORT, after $(key vnc-port)"
check "xl save -c goes on afterwards" xl save -c ours checkpoint.img
check "viewers are served after that" greets "$(key vnc-listen)" "$(key vnc-port)"
ended ours "$D"

# vnc=0: a display without an exporter.
mapfile -t lines < <(with_demux "$PWD/blind.yaml")
cfg=$(guest_cfg blind 1 agent 'vga="stdvga"' 'videoram=16' 'vnc=0' "${lines[@]}")
if started "$cfg" "vnc=0 starts" blind -p; then
  check "vnc=0: there is no port in xenstore" equal "$(key vnc-port)" ""
  check "vnc=0: there is a display" status_has "$DOMID" 'display'
  check "vnc=0: and no exporter" eval "! pgrep -f demux-vnc"
  ended blind "$DOMID"
fi

# QEMU keeps its card: cirrus, no card at all, 'display: no'.
mapfile -t lines < <(with_demux "$PWD/spec.yaml")
for kind in cirrus none; do
  cfg=$(guest_cfg "$kind" 1 agent "vga=\"$kind\"" 'videoram=16' 'vnc=1' 'vncunused=1' "${lines[@]}")
  if started "$cfg" "vga=\"$kind\" starts" "$kind" -p; then
    check "vga=\"$kind\": QEMU's VNC answers at the port in xenstore" greets "$(key vnc-listen)" "$(key vnc-port)"
    check "vga=\"$kind\": no display of ours" eval "! pgrep -f 'demux-(display|vnc)'"
    [ $kind = none ] || check "vga=\"$kind\": QEMU has the card" eval "[ -n '$(slot_of $kind 1013:00b8)' ]"
    ended "$kind" "$DOMID"
  fi
done
mapfile -t lines < <(with_demux "$PWD/qemu.yaml")
cfg=$(guest_cfg theirs 1 agent 'vga="stdvga"' 'videoram=16' 'vnc=1' 'vncunused=1' "$VIF" "${lines[@]}")
if started "$cfg" "'display: no' starts" theirs -p; then
  check "'display: no': QEMU has its VGA, at its slot" equal "$(slot_of theirs 1234:1111)" "$QEMU_VGA"
  check "'display: no': QEMU's VNC answers at the port in xenstore" greets "$(key vnc-listen)" "$(key vnc-port)"
  ended theirs "$DOMID"
fi

# More memory than libxl has set aside is refused before anything is made.
printf 'demux: 1\ndisplay: {memory: 64M, ready-within: 60s}\n' > large.yaml
mapfile -t lines < <(with_demux "$PWD/large.yaml")
cfg=$(guest_cfg large 1 agent 'vga="stdvga"' 'videoram=16' 'vnc=0' "${lines[@]}")
check_not "a display larger than videoram does not start" create "$cfg"
check "the log names the setting" contains "$(LOG_OF large)" 'videoram=64'
check "nothing of Demux is left" wait_until 30 nothing_of_demux
cp restore.log $LOGS/ 2>/dev/null
