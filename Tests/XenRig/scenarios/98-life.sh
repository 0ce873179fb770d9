# 98-life: what befalls guests in the years of a host: reboots, checkpoints, starts that are broken off, names that nobody had thought of, a clock
# that is set, a file system that is full, processes that are killed together. After each, nothing may have grown; the table at the end says
# what was done, how often, and what was counted before and after. $STAGE/life.env may set OPERATIONS, to try some of them alone.
# needs: demux demux-dm demux-keeper demux-watchdog demux-display demux-vnc demux-scratch
# limit: 1500
# only: full
. /share/lib-spec.sh
. /share/lib-display.sh
REBOOTS=3 POINTS="0.4 2.0 3.6" KILL_POINTS="1.2 2.8" PAUSE=12 FLICKERS=6 GUESTS=2
if [ "$FULL" = 1 ]; then
  REBOOTS=10 POINTS=$(seq 0.2 0.2 8) KILL_POINTS=$POINTS PAUSE=60 FLICKERS=60 GUESTS=4
fi
OPERATIONS="together names reboot pause checkpoint save clock rename disks flicker trio stopped triggers keeper broken_off full"
# shellcheck disable=SC1091
[ ! -e $STAGE/life.env ] || . $STAGE/life.env
export LANG=C.UTF-8
# Names with spaces, quotes, an umlaut, and what shells and pages take for something.
A='Bär "Zwei" $HOME Ü' B="it's; \`b\` & <i>"

cat > life.yaml <<EOS
demux: 1
display: {ready-within: 60s, memory: 16MiB, restart-limit: 100000, restart-delay: 0ms, successor-within: 60s}
vnc: {ready-within: 60s, hung-after: 10s}
emulators:
  - {name: scratch, program: $STAGE/bin/demux-scratch, options: {pci: "no"}, ready-within: 60s, successor-within: 60s, hung-after: 5s, when-hung: restart}
EOS
cat > counted.yaml <<EOS
demux: 1
emulators:
  - {name: scratch, program: $STAGE/bin/demux-scratch, mode: isolated, options: {pci: "no"}, ready-within: 60s, successor-within: 60s, hung-after: 5s, when-hung: restart}
EOS
mapfile -t SEEN < <(echo 'vga="stdvga"'; echo 'videoram=16'; echo 'vnc=1'; echo 'vncunused=1'; echo 'on_reboot="restart"'; with_demux "$PWD/life.yaml")
mapfile -t COUNTED < <(with_demux "$PWD/counted.yaml")

# ------------------------------------------------ counting
# counts: what may not grow, on one line.
counts() {
  local name fds=""
  for name in keeper watchdog dm; do
    fds+=" $name-fds=$(for p in $(pgrep -x "demux-$name"); do ls "/proc/$p/fd" 2>/dev/null; done | wc -l)"
  done
  xenstore-ls -f > keys 2>/dev/null
  echo "processes=$(cat /proc/[0-9]*/comm 2>/dev/null | grep -cE '^(demux-|xen-qemu|xl$)')$fds sockets=$(find /run/demux /run/xen -type s 2>/dev/null | wc -l) files=$(find /run/demux 2>/dev/null | wc -l)" \
    "keys=$(wc -l < keys) demux-keys=$(grep -ci demux keys) zombies=$(grep -hc '^State:.Z' /proc/[0-9]*/status 2>/dev/null | grep -c 1)" \
    "domains=$(domain_ids | wc -l) memfds=$(find /proc/[0-9]*/fd -lname '/memfd:*' 2>/dev/null | wc -l) channels=$(/usr/lib/xen-4.17/bin/lsevtchn 0 | wc -l)"
}
: > table
# row OPERATION TIMES BEFORE AFTER: for the table.
row() { printf '%s|%s|%s|%s\n' "$@" >> table; }
# no_more_than COUNTS BEFORE: whether no number has grown.
no_more_than() {
  awk -v after="$1" -v before="$2" 'BEGIN { n = split(after, a, "[ =]"); split(before, b, "[ =]")
    for (i = 2; i <= n; i += 2) if (a[i] > b[i] + 0) { print b[i - 1], "was", b[i] ", is", a[i]; bad = 1 }; exit bad }'
}
has_not_grown() { no_more_than "$(counts)" "$1"; }
# no_growth OPERATION TIMES BEFORE: waits until everything is as it was before.
no_growth() {
  wait_until 20 has_not_grown "$3" > /dev/null
  local after; after=$(counts)
  row "$1" "$2" "$3" "$after"
  check "$1 ($2 ×): nothing has grown" no_more_than "$after" "$3"
}
# Prints the table: only what a row's operation has changed stands in its last column.
print_table() {
  diag "operation | how often | before | after, where it differs"
  awk -F'|' '{ n = split($3, b, " "); split($4, a, " "); d = ""
    for (i = 1; i <= n; i++) if (a[i] != b[i]) d = d " " a[i]
    printf "# %s | %s | %s |%s\n", $1, $2, $3, d == "" ? " the same" : d }' table
}

# ------------------------------------------------ guests
# config KEY NAME IMAGE LINE…: prints the path of a configuration for a guest of that name, whatever is in it.
config() {
  local key=$1 name=$2 image=$3 quote='"'; shift 3
  case $name in *\"*) quote="'";; esac
  guest_cfg "$key" 1 "$image" "$@" "name=$quote$name$quote"
}
# begin KEY NAME IMAGE LINE…: starts it.
begin() {
  local cfg; cfg=$(config "$@") || return 1
  timeout $((150 * PATIENCE)) xl -vvv create "$cfg" > "$LOGS/$1.xl.log" 2>&1 || { tail -n 5 "$LOGS/$1.xl.log"; diag_file "$(LOG_OF "$2")" 20; return 1; }
}
id() { xl domid "$1"; }
beats() { guest_lines "$1" | grep -aoE '^BEAT [0-9]+' | tail -n 1 | cut -d' ' -f2; }
further() { local n; n=$(beats "$1"); [ "${n:-0}" -gt "$2" ]; }
goes_on() { local n; n=$(beats "$1"); wait_until 60 further "$1" "${n:-0}"; }
right() { guest_lines "$1" | grep -aE '^BEAT [0-9]+,' | tail -n 1 | grep -q ' 0 wrong'; }
keeper_of() { xenstore-read "/local/domain/$1/image/device-model-pid"; }
coordinator_of() { pgrep -x demux-dm -P "$(keeper_of "$1")"; }
# pid_of DOMID EMULATOR
pid_of() { demux status --json "$1" | python3 -c 'import json,sys; print([e["pid"] for e in json.load(sys.stdin)["emulators"] if e["name"] == sys.argv[1]][0])' "$2"; }
qemu_of() { pgrep -f "xen-qemu-system.*-xen-domid $1( |\$)"; }
all_serve() { demux status "$1" > served.txt && [ "$(grep -cE '^(scratch|display|vnc) .* serving' served.txt)" = 3 ]; }
listed() { demux list | grep -E "^ *$1 " | grep -qF " $2 "; }
uptime_s() { cut -d. -f1 /proc/uptime; }
# As wait_until, by a clock that nobody sets.
wait_by_uptime() {
  local end=$(( $(uptime_s) + $1 * PATIENCE )); shift
  until "$@" > /dev/null 2>&1; do [ "$(uptime_s)" -lt $end ] || { echo "waited in vain for: $*"; return 1; }; sleep 0.3; done
}
look_on() { python3 $TOOLS/viewer.py 127.0.0.1 "$(xenstore-read "/local/domain/$1/console/vnc-port")" 3600 > viewer.out 2>&1 & VIEWER=$!; }
looked_at() { look_on "$1"; wait_until 30 sees "$1"; local seen=$?; kill $VIEWER; wait $VIEWER 2>/dev/null; return $seen; }
sees() { demux status "$1" | grep -q '127.0.0.1 '; }

# ------------------------------------------------ what is done to them
together() {
  NOTHING=$(counts)
  local pids=() p failed=0
  begin a "$A" beat "${SEEN[@]}" > begun-a & pids+=($!)
  [ $GUESTS = 1 ] || { begin b "$B" counter vcpus=2 "${COUNTED[@]}" > begun-b & pids+=($!); }
  if [ $GUESTS = 4 ]; then
    begin c "c" beat "${SEEN[@]}" > begun-c & pids+=($!)
    begin d "d" exerciser vcpus=2 "${COUNTED[@]}" > begun-d & pids+=($!)
  fi
  for p in "${pids[@]}"; do wait "$p" || failed=$((failed + 1)); done
  check "$GUESTS guests start at once" equal $failed 0 || { cat begun-*; return 1; }
  D=$(id "$A") E=$(id "$B")
  check "the first one goes on" wait_for_guest "$D" 'BEAT [0-9]' 90
  check "everything serves" wait_until 60 all_serve "$D"
  # The scan-out's memory is there from the first one on who looks at it.
  check "a viewer comes in" looked_at "$D"
  [ $GUESTS = 1 ] && return
  check "the second one counts" wait_for_guest "$E" 'COUNTER up' 90
  # From here on it is in the middle of an access, and takes no time from the others.
  xl pause "$B"; PAUSED=$(uptime_s)
  if [ $GUESTS = 4 ]; then
    check "the third goes on" goes_on "$(id c)"
    xl destroy c; xl destroy d
  fi
  wait_until 30 all_serve "$D"
  sleep 2
}
names() {
  check "demux list has the one name" listed "$D" "$A"
  check "and the other" listed "$E" "$B"
  check "demux status says the name" eval "demux status $D | grep -qF \"domain $D '\$A'\""
  check "demux logs shows something" eval "demux logs $D | grep -q ."
  check "demux list --json is JSON" eval "demux list --json | python3 -c 'import json,sys; json.load(sys.stdin)'"
  check "demux metrics names it" eval "demux metrics | grep -q 'B.r .*Zwei'"
  check "libxl's log is where its name says" test -e "$(LOG_OF "$A")"
  check "the folders are the numbers'" eval "! ls /run/demux | grep -vE '^([0-9]+|watchdog.(sock|lock))\$'"
}
reboot() {
  local before i was
  before=$(counts)
  for ((i = 0; i < REBOOTS; i++)); do
    was=$D
    python3 -c 'import ctypes,sys
x = ctypes.CDLL("libxenctrl.so.4.17"); x.xc_interface_open.restype = ctypes.c_void_p
sys.exit(x.xc_domain_shutdown(ctypes.c_void_p(x.xc_interface_open(None, None, 0)), int(sys.argv[1]), 1) & 1)' "$was" || { not_ok "the guest asks for its reboot"; return; }
    wait_until 60 eval '[ "$(id "$A")" != '"$was"' ] && [ -n "$(id "$A")" ]' || { not_ok "it is there again ($i)"; return; }
    D=$(id "$A")
    wait_until 90 guest_said "$D" 'BEAT [0-9]' || { not_ok "it boots again ($i)"; diag_file "$(LOG_OF "$A")"; return; }
    wait_until 60 all_serve "$D"
  done
  check "the rebooted guest goes on" goes_on "$D"
  check "demux list has it under its new number" listed "$D" "$A"
  no_growth "reboot with on_reboot=restart" $REBOOTS "$before"
}
pause() {
  local before log; before=$(counts)
  while [ $(( $(uptime_s) - PAUSED )) -lt $PAUSE ]; do sleep 1; done
  row "a guest paused in the middle of its accesses, $(( $(uptime_s) - PAUSED )) s, hung-after 5 s" 1 "$before" "$(counts)"
  log=$(LOG_OF "$B")
  check "nobody takes a paused guest's emulators for hung" eval "! grep -a 'hangs\|killed' '${log//\'/\'\\\'\'}'"
  check_not "nor does status" status_has "$E" 'hung|restart'
  xl unpause "$B"
  check "a second device is attached" demux attach "$E" --name end --program demux-scratch --option ports=0x520 --option mmio=0xfeda0000 --option pci=no
  check "the counting guest comes to its end" wait_for_guest "$E" 'COUNTER done' 180
  counter_tap "$E" 1
  # The same for one that rests most of the time.
  xl pause "$A"; sleep 5; xl unpause "$A"
  check "the other one goes on after a pause" goes_on "$D"
  check_not "and nobody was killed" status_has "$D" 'RESTARTS'
  xl destroy "$B"
  check "nothing is left of it" wait_until 30 nothing_left "$E"
}
checkpoint() {
  local before; before=$(counts)
  look_on "$D"; wait_until 30 sees "$D"
  check "xl save -c with a viewer" timeout 600 xl save -c "$A" checkpoint.img
  check "the guest goes on" goes_on "$D"
  check "the viewer is still there" eval "kill -0 $VIEWER && wait_until 20 sees $D"
  rm -f checkpoint.img
  kill $VIEWER; wait $VIEWER 2>/dev/null
  check "everything serves" all_serve "$D"
  no_growth "xl save -c with a viewer" 1 "$before"
}
save() {
  local before; before=$(counts)
  look_on "$D"; wait_until 30 sees "$D"
  check "xl save with a viewer" timeout 600 xl save "$A" saved.img
  check "the viewer has been told" wait_until 20 fails kill -0 $VIEWER
  check "nothing is left of it" wait_until 30 nothing_left "$D"
  check "xl restore" timeout 300 xl restore saved.img
  rm -f saved.img
  D=$(id "$A")
  check "the guest goes on" goes_on "$D"
  check "its name is there again" wait_until 20 listed "$D" "$A"
  wait_until 60 all_serve "$D"
  no_growth "xl save with a viewer, and restore" 1 "$before"
}
clock() {
  local before now up pid; before=$(counts)
  now=$(date +%s) up=$(uptime_s)
  for shift in 2592000 -5184000 0; do
    date -s "@$(( now + shift + $(uptime_s) - up ))" > /dev/null
    pid=$(pid_of "$D" scratch)
    kill -STOP "$pid"
    # Hung, killed, and there again, whatever the clock says.
    check "clock ${shift}s off: one that hangs is found, killed and replaced" wait_by_uptime 60 eval '! kill -0 '"$pid"' && all_serve '"$D"
    pid=$(pid_of "$D" scratch); kill -KILL "$pid"
    check "clock ${shift}s off: one that dies has a successor" wait_by_uptime 60 eval '! kill -0 '"$pid"' && all_serve '"$D"
    check "clock ${shift}s off: the guest goes on" goes_on_by_uptime "$D"
  done
  check "and lost nothing" right "$D"
  no_growth "dom0's clock a month forward, two back, and right again" 1 "$before"
}
goes_on_by_uptime() { local n; n=$(beats "$1"); wait_by_uptime 60 further "$1" "${n:-0}"; }
rename() {
  local before; before=$(counts)
  check "xl rename" xl rename "$A" "other name"
  check "demux list follows" wait_until 10 listed "$D" "other name"
  check "so does status" status_has "$D" "'other name'"
  kill -KILL "$(coordinator_of "$D")"
  check "and after a new coordinator" wait_until 60 listed "$D" "other name"
  check "xl rename back" xl rename "other name" "$A"
  check "demux list follows again" wait_until 10 listed "$D" "$A"
  wait_until 60 all_serve "$D"
  no_growth "xl rename there and back, a coordinator killed in between" 1 "$before"
}
disks() {
  local before i; before=$(counts)
  truncate -s 1M more.img
  for i in 1 2; do
    # A guest without PV drivers does not take it: what is asked is that nothing breaks.
    timeout 100 xl block-attach "$A" "format=raw,vdev=xvdb,access=rw,backendtype=qdisk,target=$PWD/more.img" > block.out 2>&1; diag "block-attach: status $? $(tail -n 1 block.out)"
    check "the guest goes on" goes_on "$D"
    timeout 100 xl block-detach "$A" xvdb --force > block.out 2>&1; diag "block-detach: status $? $(tail -n 1 block.out)"
  done
  check "the guest goes on afterwards" goes_on "$D"
  check "everything serves" all_serve "$D"
  no_growth "xl block-attach and block-detach --force" 2 "$before"
}
flicker() {
  local before i p; before=$(counts)
  look_on "$D"; wait_until 30 sees "$D"
  for ((i = 0; i < FLICKERS; i++)); do
    p=$(pgrep -x demux-display -P "$(coordinator_of "$D")") && kill -KILL "$p"
    sleep 0.5
  done
  check "the display serves after it was killed $FLICKERS times while the screen scrolled" wait_until 60 all_serve "$D"
  check "the guest goes on" goes_on "$D"
  check "and lost nothing" right "$D"
  check "the viewer is still there" eval "kill -0 $VIEWER && wait_until 20 sees $D"
  check "a screenshot is taken" demux screenshot "$D" shot.png
  kill $VIEWER; wait $VIEWER 2>/dev/null
  no_growth "display killed every half second" $FLICKERS "$before"
}
trio() {
  local before c; before=$(counts)
  look_on "$D"; wait_until 30 sees "$D"
  c=$(coordinator_of "$D")
  kill -KILL "$c" $(pgrep -x demux-display -P "$c") $(pgrep -x demux-vnc -P "$c")
  check "coordinator, display and VNC server, killed together, are there again" wait_until 90 all_serve "$D"
  check "the guest goes on" goes_on "$D"
  check "and lost nothing" right "$D"
  wait $VIEWER 2>/dev/null
  look_on "$D"
  check "a viewer comes in again" wait_until 30 sees "$D"
  kill $VIEWER; wait $VIEWER 2>/dev/null
  no_growth "SIGKILL of coordinator, display and VNC server together" 1 "$before"
}
stopped() {
  local before p; before=$(counts)
  look_on "$D"; wait_until 30 sees "$D"
  p=$(pid_of "$D" vnc); kill -STOP "$p"
  check "the guest goes on while its VNC server is stopped" goes_on "$D"
  check "status is answered" status_has "$D" "'"
  check "a screenshot is taken" timeout 60 demux screenshot "$D" shot.png
  # By default it is killed then, and another takes its place.
  check "it is found to hang" wait_until 60 fails kill -0 "$p"
  check "the log says so" contains "$(LOG_OF "$A")" "emulator 'vnc' hangs: a question of the coordinator"
  kill -CONT "$p" 2>/dev/null
  check "everything serves again" wait_until 60 all_serve "$D"
  kill $VIEWER 2>/dev/null; wait $VIEWER 2>/dev/null
  look_on "$D"
  check "a viewer comes in afterwards" wait_until 30 sees "$D"
  kill $VIEWER; wait $VIEWER 2>/dev/null
  no_growth "the VNC server stopped with a viewer" 1 "$before"
}
triggers() {
  local before kind; before=$(counts)
  for kind in power sleep s3resume reset init; do
    timeout 30 xl trigger "$A" $kind > trigger.out 2>&1; diag "trigger $kind: status $? $(tail -n 1 trigger.out)"
    check "the guest goes on after xl trigger $kind" goes_on "$D"
  done
  timeout 30 xl trigger "$A" nmi > trigger.out 2>&1; diag "trigger nmi: status $? $(tail -n 1 trigger.out)"
  check "everything serves" all_serve "$D"
  no_growth "xl trigger power, sleep, s3resume, reset, init, nmi" 1 "$before"
}
keeper() {
  local k c
  k=$(keeper_of "$D") c=$(coordinator_of "$D")
  kill -KILL "$k"
  check "the keeper's end is said in the log" wait_for_line "$(LOG_OF "$A")" 'the keeper is gone' 20
  check "everything serves without it" wait_until 20 all_serve "$D"
  demux status "$D" | head -n 3 | sed 's/^/# /'
  check "xl destroy succeeds" xl destroy "$A"
  check "nothing is left of the guest" wait_until 30 nothing_left "$D"
  check "nothing of Demux is left" wait_until 30 nothing_of_demux
  check "a guest starts" begin k keeperless beat "${SEEN[@]}"
  D=$(id keeperless)
  wait_until 60 all_serve "$D"
  k=$(keeper_of "$D") c=$(coordinator_of "$D")
  kill -KILL "$k" "$c"
  sleep 3
  diag "keeper and coordinator killed: $(pgrep -a 'demux|qemu' | cut -c1-80 | tr '\n' ';')"
  diag "state: $(xenstore-read "/local/domain/0/device-model/$D/state")"
  demux list 2>&1 | sed 's/^/# /'
  check "xl destroy succeeds after the death of keeper and coordinator" xl destroy keeperless
  # A known limit: nobody is left who could end QEMU and the emulators.
  row "SIGKILL of keeper and coordinator, then xl destroy (a known limit)" 1 "$NOTHING" "$(counts)"
  # shellcheck disable=SC2046
  kill -KILL $(qemu_of "$D") $(pgrep -x demux-display) $(pgrep -x demux-scratch) $(pgrep -x demux-vnc)
  rm -rf "/run/demux/$D"
  check "once they are ended by hand nothing is left of the guest" wait_until 60 nothing_left "$D"
  no_growth "SIGKILL of the keeper; of keeper and coordinator" 2 "$NOTHING"
}
exists() { xl domid "$1" > /dev/null 2>&1; }
# creating: xl create of a guest in the background, as XL, and its domain is there.
creating() {
  setsid xl create "$CFG" > broken-off.log 2>&1 & XL=$!
  wait_until 30 exists broken-off
}
destroy_it() { xl destroy "$1" > destroy.log 2>&1; wait $XL; }
kill_its_xl() { kill -KILL $XL; wait $XL 2>/dev/null; sleep 1; xl destroy "$1" > destroy.log 2>&1; }
# break_off HOW SENTENCE SECONDS…: as many starts, each broken off that long after its domain was there.
break_off() {
  local how=$1 sentence=$2 t d before; before=$(counts); shift 2
  for t; do
    creating; d=$(id broken-off); sleep "$t"
    $how "$d" || diag "xl destroy after $t s: $(tail -n 1 destroy.log)"
    wait_until 60 nothing_left "$d" || { not_ok "$sentence: nothing is left of the one after $t s"; diag "$(nothing_left "$d")"; xl destroy "$d"; }
  done
  no_growth "$sentence, after $* s" $# "$before"
}
broken_off() {
  local d before
  CFG=$(config x broken-off beat "${SEEN[@]}")
  # shellcheck disable=SC2086
  break_off destroy_it "xl destroy during a start" $POINTS
  # shellcheck disable=SC2086
  break_off kill_its_xl "SIGKILL of xl during a start, then xl destroy" $KILL_POINTS
  before=$(counts)
  creating; d=$(id broken-off)
  wait_until 60 qemu_of "$d" && kill -KILL $(qemu_of "$d")
  wait $XL; diag "xl create, QEMU killed at once: status $?"
  diag "$(tail -n 3 broken-off.log)"; diag_file "$(LOG_OF broken-off)" 6
  exists broken-off && xl destroy broken-off
  check "nothing is left when QEMU was killed while it started" wait_until 60 nothing_left "$d"
  creating; d=$(id broken-off); wait $XL
  check "xl create succeeds" exists broken-off
  kill -KILL $(qemu_of "$d")
  check "QEMU killed while the guest boots: the guest is reported as broken" wait_until 20 eval '[ "$(xenstore-read /local/domain/0/device-model/'"$d"'/state)" = broken ]'
  check "xl destroy cleans up" xl destroy broken-off
  no_growth "QEMU killed during its start, and during the guest's boot" 2 "$before"
}
full() {
  local status words before inodes; before=$(counts) inodes=$(df --output=itotal /run | tail -n 1)
  CFG=$(config x broken-off beat "${SEEN[@]}")
  findmnt -n /run > /dev/null || { skip "/run is no file system of its own"; return; }
  xen_log
  # Neither blocks nor, but for a few, inodes: sockets and folders need only those.
  mount -o "remount,size=$(( $(df --output=used -k /run | tail -n 1) + 4 ))k,nr_inodes=$(( $(df --output=iused /run | tail -n 1) + 3 ))" /run
  dd if=/dev/zero of=/run/filling bs=1k count=100000 2> /dev/null
  words=$(timeout 300 xl create "$CFG" 2>&1); status=$?
  rm -f /run/filling
  mount -o "remount,size=50%,nr_inodes=$inodes" /run
  diag "/run full: xl create's status is $status"; diag "$(tail -n 3 <<< "$words")"; diag_file "$(LOG_OF broken-off)" 8
  if [ $status = 0 ]; then xl destroy broken-off
  else check "/run full: the log says in words why it does not start" contains "$(LOG_OF broken-off)" 'No space left|no space'; fi
  check "/run full: nothing is left" wait_until 60 has_not_grown "$before"
  check "the next start succeeds" begin x broken-off beat "${SEEN[@]}"
  check "and its guest boots" wait_for_guest "$(id broken-off)" 'BEAT up' 90
  check "xl destroy succeeds" xl destroy broken-off
  no_growth "/run full during a start, then a start" 1 "$before"
}

NOTHING=$(counts)
for operation in $OPERATIONS; do
  began=$(up)
  $operation
  exists "$A" || [ "$operation" != together ] || break
  diag "$operation: $(awk -v a="$began" -v b="$(up)" 'BEGIN { printf "%.1f", b - a }') s"
done
for log in /var/log/xen/qemu-dm-*.log; do cp "$log" "$LOGS/" 2>/dev/null; done
print_table
