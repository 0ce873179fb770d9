# lib-demux.sh: sourced in dom0 by every scenario (through in-dom0.sh), after lib-xen.sh. Bash.
#
# Standard output is TAP and nothing else: use ok, not_ok, check, skip and diag. Standard error goes to the scenario's
# log file, logs/NAME.log in the output directory, as does whatever else you put in $LOGS.

STAGE=/extra                            # DEMUX_STAGE: bin/ and, if there is one, lib/
GUEST=/share/guest                      # agent.img, exerciser.img
LOGS=/share/logs                        # kept on the machine that runs the rig
XEN_LOG=/var/log/xen/console/hypervisor.log     # what Xen has said in this scenario; xenconsoled writes it as it comes
TAP_COUNT=/run/tap.count                # the number of the last TAP line, over all scenarios
export PATH=$STAGE/bin:$PATH
[ ! -d $STAGE/lib ] || export LD_LIBRARY_PATH=$STAGE/lib

# ---------------------------------------------------------------- TAP
tap_count() { local n=0; [ ! -e $TAP_COUNT ] || read -r n < $TAP_COUNT; echo $n; }
# tap_line STATUS TEXT: without a process of its own, of which the rig's processor makes few a second.
tap_line() { local n=0; [ ! -e $TAP_COUNT ] || read -r n < $TAP_COUNT; echo $((n + 1)) > $TAP_COUNT; echo "$1 $((n + 1)) $2"; }
ok() { tap_line ok "- ${SCENARIO:+$SCENARIO: }$*"; }
not_ok() { tap_line "not ok" "- ${SCENARIO:+$SCENARIO: }$*"; }
skip() { tap_line ok "# SKIP ${SCENARIO:+$SCENARIO: }$*"; }
diag() { sed 's/^/# /' <<< "$*"; }
diag_file() { [ ! -e "$1" ] || { echo "# --- the last ${2:-30} lines of $1"; tail -n "${2:-30}" "$1" | sed 's/^/# /'; }; }
tap_plan() { echo "1..$(tap_count)"; }

# check "a sentence" command…: ok if the command succeeds; otherwise not ok, with the command and what it printed.
check() {
  local sentence=$1 output status; shift
  output=$("$@" 2>&1); status=$?
  if [ $status = 0 ]; then ok "$sentence"; return 0; fi
  not_ok "$sentence"
  diag "command: $*"; diag "status: $status"; [ -z "$output" ] || diag "$(tail -n 40 <<< "$output")"
  return 1
}
# check_not "a sentence" command…: the other way round.
check_not() { local sentence=$1; shift; check "$sentence" fails "$@"; }
fails() { ! "$@"; }
# equal GOT WANTED, for check.
equal() { [ "$1" = "$2" ] || { echo "got: $1"; echo "wanted: $2"; return 1; }; }
# contains FILE PATTERN (extended regular expression), for check.
contains() { grep -qaE -e "$2" "$1" || { echo "no line of $1 matches $2; it ends:"; tail -n 15 "$1"; return 1; }; }

# ---------------------------------------------------------------- waiting. The limits only guard against hanging: write
# what would be generous on an idle machine; DEMUX_RIG_PATIENCE (rig.t) multiplies every one of them.
PATIENCE=$(cat /share/patience 2>/dev/null || echo 1)
FULL=$(cat /share/full 2>/dev/null || echo 0)          # 1: the counts that are too large for every day
# No process is started in order to wait: each costs as much of the rig's one processor as the guest then lacks.
[ -p /run/nap ] || mkfifo /run/nap
nap() { read -rt "$1" <> /run/nap || :; }       # SECONDS; nobody ever writes there
# wait_until SECONDS command…: repeats the command until it succeeds.
wait_until() {
  local end=$(( SECONDS + $1 * PATIENCE )); shift
  until "$@" >/dev/null 2>&1; do
    [ $SECONDS -lt $end ] || { echo "waited in vain for: $*"; return 1; }
    nap 0.2
  done
}
# reads_until END FILE PREFIX PATTERN: until one of FILE's lines that begin with PREFIX matches PATTERN after it, or
# SECONDS has come to END. Now and then it begins again at FILE's head, which may be another file by then.
reads_until() {
  local end=$1 file=$2 prefix=$3 pattern=$4 line rest fd naps
  while :; do
    if [ -e "$file" ] && exec {fd}< "$file"; then
      rest="" naps=0
      while [ $naps -lt 25 ]; do
        IFS= read -r line <&$fd; local whole=$?
        rest+=$line line=${rest%$'\r'}
        if [[ $line == "$prefix"* && ${line#"$prefix"} =~ $pattern ]]; then exec {fd}<&-; return 0; fi
        if [ $whole = 0 ]; then rest=""; continue; fi
        [ $SECONDS -lt "$end" ] || break
        naps=$((naps + 1)); nap 0.2
      done
      exec {fd}<&-
    fi 2>/dev/null
    [ $SECONDS -lt "$end" ] || return 1
    nap 0.2
  done
}
# wait_for_line FILE PATTERN SECONDS
wait_for_line() {
  reads_until $(( SECONDS + $3 * PATIENCE )) "$1" "" "$2" ||
    { echo "no line of $1 matched $2 in $3 s; it ends:"; tail -n 15 "$1"; return 1; }
}

# ---------------------------------------------------------------- Xen's console, which has what guests print on port 0xe9
# A new log for the next scenario; that of NAME stays in $LOGS.
xen_log_of() {
  [ -e $XEN_LOG ] || return 0
  mv $XEN_LOG "$XEN_LOG.$1" && kill -HUP "$(cat /run/xenconsoled.pid)"
  cp "$XEN_LOG.$1" "$LOGS/$1.xen.log"
}
# guest_lines DOMID: what that guest has printed so far.
guest_lines() { sed -n "s/\r\$//; s/^(d$1) //p" $XEN_LOG; }
guest_said() { guest_lines "$1" | grep -aE -e "$2"; }
# wait_for_guest DOMID PATTERN SECONDS
wait_for_guest() {
  reads_until $(( SECONDS + $3 * PATIENCE )) $XEN_LOG "(d$1) " "$2" ||
    { echo "guest $1 did not print $2 in $3 s; it ended:"; guest_lines "$1" | tail -n 15; return 1; }
}
# exerciser_tap DOMID: passes each check of the exerciser on as one of ours. Call it when it has said `EXERCISER done`.
exerciser_tap() {
  local line
  while IFS= read -r line; do
    case $line in
      "ok - "*) ok "guest: ${line#ok - }";;
      "not ok - "*) not_ok "guest: ${line#not ok - }";;
      "# "*|EXCEPTION*|BOOT*) diag "guest: ${line#\# }";;
    esac
  done < <(guest_lines "$1")
}
# counter_tap DOMID ROUNDS [WHOSE: ]: what the guest program `counter` has found when it has said COUNTER done; it must have gone round more often than ROUNDS.
counter_tap() {
  local rounds wrong sum wanted
  guest_lines "$1" | grep -aE '^(COUNTER|#)' | sed 's/^/# guest: /'
  read -r rounds wrong sum wanted < <(guest_lines "$1" | sed -n 's/^COUNTER done: \([0-9]*\) rounds, \([0-9]*\) wrong, sum \([0-9]*\) wanted \([0-9]*\).*/\1 \2 \3 \4/p')
  check "${3:-}the guest did something ($rounds rounds)" [ "${rounds:-0}" -gt "$2" ]
  check "${3:-}every value was the right one" equal "$wrong" 0
  check "${3:-}no write was lost or doubled" equal "$sum" "$wanted"
}

# ---------------------------------------------------------------- guests
net_bridge() {                          # xenbr0, once
  [ ! -e /sys/class/net/xenbr0 ] || return 0
  modprobe -a bridge tun xen-netback 2>/dev/null
  ip link add xenbr0 type bridge && ip link set xenbr0 up
}
# guest_cfg NAME VCPUS IMAGE [LINE…]: writes $RUN/NAME.cfg and prints its path. IMAGE is the name of a guest program
# (agent, exerciser) or a path; the guest gets a copy of it as its first disk. Each LINE is added to the
# configuration; one that sets what is set already wins. No display and no NIC unless a LINE asks for them.
RUN=/run/guests; mkdir -p $RUN
guest_cfg() {
  local name=$1 vcpus=$2 image=$3; shift 3
  [ -e "$image" ] || image=$GUEST/$image.img
  cp "$image" "$RUN/$name.img" || return 1
  {
    echo "name=\"$name\""; echo 'type="hvm"'; echo 'memory=64'; echo "vcpus=$vcpus"
    echo 'vga="none"'; echo 'vnc=0'; echo 'boot="c"'
    echo "disk=[\"format=raw,vdev=hda,access=rw,backendtype=qdisk,target=$RUN/$name.img\"]"
    echo 'on_poweroff="preserve"'; echo 'on_reboot="preserve"'; echo 'on_crash="preserve"'
    printf '%s\n' "$@"
  } > "$RUN/$name.cfg"
  echo "$RUN/$name.cfg"
}
# create CFG [xl create options]: sets DOMID. Not in a subshell: use it as `create … || …`, then `check`s.
# xl's output is in $LOGS/NAME.xl.log.
create() {
  local cfg=$1 name; shift
  name=$(sed -n 's/^name="\(.*\)"/\1/p' "$cfg")
  timeout $((150 * PATIENCE)) xl -vvv create "$@" "$cfg" > "$LOGS/$name.xl.log" 2>&1 ||
    { echo "# xl create $cfg failed:"; grep -aE 'error|fail' "$LOGS/$name.xl.log" | tail -n 15 | sed 's/^/# /'; DOMID=; return 1; }
  DOMID=$(xl domid "$name")
}
# All but dom0's, zombies too; a name may have spaces, so it is the fifth word from the end.
domain_ids() { xl list | awk 'NR > 1 && $(NF - 4) != 0 { print $(NF - 4) }'; }
no_domains() { local d; d=$(domain_ids); [ -z "$d" ] || { xl list; return 1; }; }
no_device_models() { ! pgrep -a 'qemu-system|demux' || return 1; }
# Nothing of the guest DOMID is left: no domain, no device model, no xenstore entries.
nothing_left() {
  local d=$1 left=0
  ! domain_ids | grep -x "$d" || left=1
  ! pgrep -af -- "-xen-domid $d( |\$)" || left=1
  ! xenstore-exists "/local/domain/$d" 2>/dev/null || { echo "xenstore has /local/domain/$d"; left=1; }
  ! xenstore-exists "/local/domain/0/device-model/$d" 2>/dev/null || { echo "xenstore has device-model/$d"; left=1; }
  return $left
}
# Destroys whatever guests are left and ends the process group GROUP, for the next scenario; says so.
clean_up() {
  local d
  for d in $(domain_ids); do diag "clean-up: destroys domain $d"; timeout $((60 * PATIENCE)) xl destroy "$d" >&2; done
  # A process that maps a dead guest's memory keeps it as a zombie, so this comes before the wait.
  ! kill -TERM -- -"$1" 2>/dev/null || diag "clean-up: ended what the scenario left running"
  wait_until 20 no_domains >&2 || diag "clean-up: domains stay: $(xl list | tail -n +3)"
}
