# 60-restrict: dm_restrict=1: QEMU and our direct emulators become the guest's own user, and the guest is served all the same.
# needs: demux demux-dm demux-scratch demux-debug demux-c-scratch
# limit: 1800
. /share/lib-spec.sh

standard_spec spec.yaml
chmod 711 /run/scenario; touch guest.log; chmod 666 guest.log
cp $GUEST/exerciser.img short.img
printf '\1\0\0\0' | dd of=short.img bs=1 seek=$((0x1f8)) conv=notrunc status=none    # Scratch's ports and memory only
mapfile -t lines < <(with_demux "$PWD/spec.yaml")
cfg=$(guest_cfg restricted 2 "$PWD/short.img" 'dm_restrict=1' "${lines[@]}")
if create "$cfg"; then ok "xl create starts a restricted guest with Demux"; else
  not_ok "xl create starts a restricted guest with Demux"; diag_file "$(LOG_OF restricted)" 40; return; fi
uid_of() { awk '/^Uid:/ { print $2, $3, $4 }' "/proc/$1/status"; }
expected=$((0x30000 + DOMID))
for name in demux-scratch demux-debug qemu-system; do
  check "$name runs as the guest's own user" equal "$(uid_of "$(pgrep -f "$name" | head -n 1)")" "$expected $expected $expected"
done
check "the coordinator stays root" equal "$(uid_of "$(pgrep -f 'demux-dm.*xen-domid' | head -n 1)")" "0 0 0"
if wait_for_line guest.log 'EXERCISER done' 900 >&2; then ok "the guest comes to its end"; else
  not_ok "the guest comes to its end"; diag_file "$(LOG_OF restricted)"; diag_file guest.log; fi
check "no check of the guest failed" contains guest.log 'EXERCISER done: [0-9]+ passed, 0 failed'
check "xl destroy succeeds" xl destroy restricted
check "nothing of the guest is left" wait_until 30 nothing_left "$DOMID"
check "nothing of Demux is left" wait_until 30 nothing_of_demux
