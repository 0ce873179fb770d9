# density: what a guest at rest costs dom0 on real Xen: QEMU's own process, with and without its VGA, and ours beside it; and how much later QEMU is
# started when Demux starts it. Run by Tests/Benchmarks/density.sh only: figures are printed, never checked.
# needs: demux demux-dm demux-display demux-vnc demux-scratch
# limit: 1200
. /share/lib-spec.sh
. /share/lib-display.sh
REST=30
: > $LOGS/density.txt

# QEMU's process of a guest: itself without Demux, otherwise the coordinator's child.
qemu_of() { pgrep -f "qemu-system-i386.* -xen-domid $1 " | head -n 1; }
# family PID: it and all that it has started.
family() { local child; echo "$1"; for child in $(cat "/proc/$1/task/$1/children"); do family "$child"; done; }
# The time, in seconds since dom0's start, and each thread's wake-ups so far, as THREAD:COUNT: looking at one process takes so long here that the
# ones looked at last have rested for longer, and a thread that ends takes its count with it.
switches() {
  awk 'BEGIN { getline t < "/proc/uptime"; sub(/ .*/, "", t); printf "%s", t }
       /^voluntary_ctxt_switches/ { split(FILENAME, part, "/"); printf " %s:%s", part[5], $2 }' /proc/"$1"/task/*/status 2>/dev/null
}
# Kilobytes, memfds aside.
pss() { awk '/^Pss:/ { p = $2 } /^Pss_Shmem:/ { s = $2 } END { print p - s }' "/proc/$1/smaps_rollup"; }
# Hundredths of a second since dom0's start at which a process was forked.
born() { sed 's/.*) //' "/proc/$1/stat" | awk '{ print $20 }'; }

# start_of NAME ROOT QEMU: how much later each of the guest's processes was started than the first: `start` lines for QEMU, `begun` lines for the others.
start_of() {
  local pid
  for pid in $(family "$2"); do
    [ "$pid" = "$2" ] || echo "$([ "$pid" = "$3" ] && echo start || echo "begun") $1 $(($(born "$pid") - $(born "$2"))) $(cat "/proc/$pid/comm")" >> $LOGS/density.txt
  done
}
# rest WHAT PID…: a line for each process: WHAT name PSS(KiB) wake-ups/s descriptors threads.
rest() {
  local what=$1 pid before=(); shift
  for pid in "$@"; do before+=("$(switches "$pid")"); done
  sleep $REST
  for pid in "$@"; do
    awk -v what="$what" -v name="$(cat "/proc/$pid/comm")" -v kib="$(pss "$pid")" -v first="${before[0]}" -v last="$(switches "$pid")" \
      -v fds="$(ls "/proc/$pid/fd" | wc -l)" -v tasks="$(ls "/proc/$pid/task" | wc -l)" \
      'BEGIN { split(first, a); for (i in a) if (split(a[i], t, ":") == 2) was[t[1]] = t[2]
               split(last, b); for (i in b) if (split(b[i], t, ":") == 2) n += t[2] - was[t[1]]
               printf "%s %s %d %.2f %d %d\n", what, name, kib, n / (b[1] - a[1]), fds, tasks }' >> $LOGS/density.txt
    before=("${before[@]:1}")
  done
}
measure() {                             # NAME WHAT [viewer] -- LINE…
  local name=$1 what=$2 viewer= watching=; shift 2
  [ "$1" != viewer ] || { viewer=yes; shift; }
  shift
  local cfg; cfg=$(guest_cfg "$name" 1 agent "$@")
  if create "$cfg"; then ok "xl create starts $name"; else not_ok "xl create starts $name"; diag_file "$(LOG_OF "$name")" 40; return 1; fi
  local qemu; qemu=$(qemu_of "$DOMID")
  check "$name has a QEMU" test -n "$qemu"
  local root; root=$(xenstore-read "/local/domain/$DOMID/image/device-model-pid")
  [ "$root" = "$qemu" ] || start_of "$name" "$root" "$qemu"
  sleep 10
  # shellcheck disable=SC2046
  rest "$what" $(family "$root")
  if [ -n "$viewer" ]; then
    python3 $TOOLS/viewer.py 127.0.0.1 "$(xenstore-read "/local/domain/$DOMID/console/vnc-port")" 3600 > /dev/null & watching=$!
    sleep 15
    # shellcheck disable=SC2046
    rest "$what-viewer" $(family "$root")
    check "$name: the viewer looked on to the end" kill -0 $watching
    kill $watching; wait $watching
  fi
  check "$name: xl destroy succeeds" xl destroy "$name"
  check "$name: nothing of the guest is left" wait_until 30 nothing_left "$DOMID"
}
measure plain qemu-without-vga -- || return
measure vga qemu-with-vga viewer -- 'vga="stdvga"' 'videoram=16' 'vnc=1' 'vncunused=1' || return
{ echo "demux: 1"; echo "emulators: [{name: scratch, program: $STAGE/bin/demux-scratch}]"; echo "vnc: {ready-within: 30s}"
  echo "display: {program: $STAGE/bin/demux-display, memory: 16MiB, ready-within: 30s}"; } > spec.yaml
mapfile -t ours < <(echo 'vga="stdvga"'; echo 'videoram=16'; echo 'vnc=1'; echo 'vncunused=1'; with_demux "$PWD/spec.yaml")
for round in 1 2 3; do
  # The start is measured three times, the rest once.
  if [ $round = 1 ]; then measure demux1 demux viewer -- "${ours[@]}" || return; else
    cfg=$(guest_cfg demux$round 1 agent "${ours[@]}")
    create "$cfg" || { not_ok "xl create starts demux$round"; return; }
    start_of demux$round "$(xenstore-read "/local/domain/$DOMID/image/device-model-pid")" "$(qemu_of "$DOMID")"
    xl destroy demux$round; wait_until 30 nothing_left "$DOMID"
  fi
done
diag_file $LOGS/density.txt 60
