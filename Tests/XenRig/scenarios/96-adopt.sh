# 96-adopt: the coordinator is killed again and again while a guest counts on two vCPUs, in a direct emulator's registers and through a relay,
# and each time another takes the guest over: every value is the right one. Then QEMU is killed.
# needs: demux demux-dm demux-keeper demux-scratch demux-debug demux-c-scratch
# limit: 1500
. /share/lib-spec.sh
KILLS=5
[ "$FULL" != 1 ] || KILLS=20
RANDOM=9601                             # the same moments each time, as far as the machine's own pace lets them be

keeper_of() { xenstore-read "/local/domain/$1/image/device-model-pid"; }
coordinator_of() { pgrep -x demux-dm -P "$(keeper_of "$1")"; }
another() { local p; p=$(coordinator_of "$1") && [ "$p" != "$2" ]; }
# kill_coordinator DOMID TIMES: each at a random moment of up to 0.8 s after the last one's successor began, so that some die while they take over.
kill_coordinator() {
  local i p
  for ((i = 0; i < $2; i++)); do
    p=$(coordinator_of "$1") || return 1
    sleep "0.$(printf %03d $(( RANDOM % 800 )))"
    kill -KILL "$p" || return 1
    wait_until 60 another "$1" "$p" || return 1
  done
}
adopted() { status_has "$1" "adopted $2 times"; }

# ------------------------------------------------ counting
# count NAME MODE: a guest that counts in Scratch.
count() {
  local name=$1 mode=$2 lines cfg rounds wrong sum wanted
  printf 'demux: 1\nemulators:\n  - {name: scratch, program: %s, mode: %s, ready-within: 60s, options: {pci: "no"}}\n' $STAGE/bin/demux-scratch "$mode" > "$name.yaml"
  mapfile -t lines < <(with_demux "$PWD/$name.yaml")
  cfg=$(guest_cfg "$name" 2 counter "${lines[@]}")
  if create "$cfg"; then ok "$mode: xl create starts the guest"; else not_ok "$mode: xl create starts the guest"; diag_file "$(LOG_OF "$name")" 40; return; fi
  check "$mode: the guest counts" wait_for_guest "$DOMID" 'COUNTER up' 90
  check "$mode: the coordinator is killed $KILLS times, and another one begins each time" kill_coordinator "$DOMID" "$KILLS"
  check "$mode: status says how often" wait_until 30 adopted "$DOMID" "$KILLS"
  check "$mode: a second device is attached" demux attach "$DOMID" --ready-within 60s --name end --program demux-scratch --option ports=0x520 --option mmio=0xfeda0000 --option pci=no
  check "$mode: the guest comes to its end" wait_for_guest "$DOMID" 'COUNTER done' 180
  counter_tap "$DOMID" "$KILLS" "$mode: "
  demux status "$DOMID" | sed 's/^/# /'
  grep -a 'took over\|takes over\|could not\|lost' "$(LOG_OF "$name")" | head -n 12 | sed 's/^/# log: /'
  check "$mode: xl destroy succeeds" xl destroy "$name"
  check "$mode: nothing of the guest is left" wait_until 30 nothing_left "$DOMID"
  check "$mode: nothing of Demux is left" wait_until 30 nothing_of_demux
}
count direct direct
count relayed isolated

# ------------------------------------------------ a guest's whole life
standard_spec spec.yaml
mapfile -t lines < <(with_demux "$PWD/spec.yaml")
cfg=$(guest_cfg adopt 2 exerciser "${lines[@]}")
if create "$cfg"; then ok "xl create starts a guest with three emulators"; else not_ok "xl create starts a guest with three emulators"; diag_file "$(LOG_OF adopt)" 40; return; fi
D=$DOMID
grep -E 'Pss|Private' "/proc/$(keeper_of "$D")/smaps_rollup" | sed 's/^/# keeper: /'
check "its coordinator is killed $KILLS times" kill_coordinator "$D" "$KILLS"
check "status says so" wait_until 30 adopted "$D" "$KILLS"
check_not "demux adopt does nothing while one runs" demux adopt "$D"
check "demux adopt --force has another take over" demux adopt --force "$D"
check "a hung one is replaced by it, too" eval 'kill -STOP $(coordinator_of '"$D"') && demux adopt --force '"$D"
for name in scratch debug cdev; do check "$name serves" status_has "$D" "$name.*serving"; done
heartbeat() { grep -aoE 'HEARTBEAT [0-9]+' guest.log | tail -n 1 | cut -d' ' -f2; }
goes_on() { local was; was=$(heartbeat); wait_until 90 eval '[ "$(heartbeat)" -gt "'"${was:-0}"'" ]'; }
check "the guest comes to its end" wait_for_line guest.log 'EXERCISER done' 600
check "no check of the guest failed" contains guest.log 'EXERCISER done: [0-9]+ passed, 0 failed'
check "the guest lives on" goes_on
check "xl pause is accepted" xl pause adopt
check "the coordinator is killed meanwhile" kill_coordinator "$D" 1
check "xl unpause is accepted" xl unpause adopt
check "the guest goes on" goes_on
check "xl save succeeds" xl save adopt saved.img
check "nothing of Demux is left after the save" wait_until 30 nothing_of_demux
check "xl restore succeeds" timeout $((150 * PATIENCE)) xl restore saved.img
D=$(xl domid adopt)
check "the restored guest lives" goes_on
check "its coordinator is killed as well" kill_coordinator "$D" 2
check "it goes on all the same" goes_on

# ------------------------------------------------ QEMU
qemu=$(pgrep -f "xen-qemu-system.*-xen-domid $D( |\$)")
broken() { [ "$(xenstore-read "/local/domain/0/device-model/$D/state")" = broken ]; }
kill -KILL $qemu; began=$(date +%s%N)
check "QEMU killed: xenstore says that the guest is broken" wait_until 60 broken
diag "after $(( ($(date +%s%N) - began) / 1000000 )) ms at most"
check "and why" eval "xenstore-read /local/domain/0/device-model/$D/demux-broken | grep 'signal 9'"
check "demux status says so" status_has "$D" 'BROKEN: QEMU was killed by signal 9'
check "so does the log" contains "$(LOG_OF adopt)" 'the guest is broken'
check "its emulators serve on" goes_on
check "a coordinator that takes over knows" eval "kill -KILL \$(coordinator_of $D); sleep 1; wait_until 60 status_has $D BROKEN"
check "and the guest still goes on" goes_on
check "xl destroy cleans up" xl destroy adopt
check "nothing of the guest is left, no zombie either" wait_until 30 nothing_left "$D"
check "nothing of Demux is left" wait_until 30 nothing_of_demux
