# 96-first: a coordinator is killed under load.
# needs: demux demux-dm demux-keeper demux-scratch demux-debug demux-c-scratch
# limit: 900
. /share/lib-spec.sh
standard_spec spec.yaml
mapfile -t lines < <(with_demux "$PWD/spec.yaml")
cfg=$(guest_cfg adopt 2 exerciser "${lines[@]}")
if create "$cfg"; then ok "xl create starts the guest"; else not_ok "xl create starts the guest"; diag_file "$(LOG_OF adopt)" 40; return; fi
D=$DOMID
ps -ef | grep demux >&2
pidof_coordinator() { demux status "$D" --json | grep -oE '"coordinatorPID":[0-9]+' | cut -d: -f2; }
heartbeat() { grep -aoE 'HEARTBEAT [0-9]+' guest.log | tail -n 1 | cut -d' ' -f2; }
goes_on() { local was; was=$(heartbeat); wait_until 60 eval '[ "$(heartbeat)" -gt "'"${was:-0}"'" ]'; }
for k in 1 2 3 4 5; do
  sleep 2
  p=$(pidof_coordinator); kill -9 "$p"
  check "kill $k of $p: another coordinator answers" wait_until 30 eval '[ -n "$(pidof_coordinator)" ] && [ "$(pidof_coordinator)" != '"$p"' ]'
done
diag "$(demux status $D)"
if wait_for_line guest.log 'EXERCISER done' 500 >&2; then ok "the guest's results come out"; else not_ok "results"; diag_file "$(LOG_OF adopt)" 60; fi
exerciser_tap "$D"
check "goes on" goes_on
for f in /proc/$(xenstore-read /local/domain/$D/image/device-model-pid); do cat $f/cmdline | tr '\0' ' '; grep -E 'Pss|Rss|Private' $f/smaps_rollup; done >&2
check "xl pause" xl pause adopt; check "xl unpause" xl unpause adopt; check "goes on" goes_on
check "xl destroy" xl destroy adopt
check "nothing left" wait_until 30 nothing_left "$D"
check "nothing of demux left" wait_until 30 nothing_of_demux
cp /var/log/xen/qemu-dm-adopt.log $LOGS/
