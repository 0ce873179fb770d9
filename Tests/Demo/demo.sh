#!/usr/bin/env bash
# demo.sh BIN: a guest without Xen, with a display that VNC viewers and browsers see, served by six real processes (demo.yaml), with a table of
# who serves what. Ends by itself after DEMO_SECONDS (20). Exit status 0 only if every value that the guest read was right, every request
# was served by one of the emulators, the guest drew its picture, VNC and the page answered, and nothing is left behind. BIN is the folder
# of the built programs.
set -euo pipefail
HERE=$(cd "$(dirname "$0")" && pwd)
[ $# = 1 ] || { echo "usage: demo.sh BIN" >&2; exit 2; }
BIN=$(cd "$1" && pwd)
SECONDS_TO_RUN=${DEMO_SECONDS:-20}
[[ $SECONDS_TO_RUN =~ ^[1-9][0-9]{0,4}$ ]] || { echo "demo: DEMO_SECONDS is '$SECONDS_TO_RUN', not a number of seconds from 1 to 99999" >&2; exit 2; }
for program in demux demux-dm demux-display demux-vnc demux-web demux-keyboard demux-scratch demux-debug demux-c-scratch; do
  [ -x "$BIN/$program" ] || { echo "demo: $BIN has no $program: build it with 'make demo'" >&2; exit 2; }
done

WORK=$(mktemp -d -t demux-demo.XXXXXX)
export DEMUX_RUN_DIR=$WORK/run
COORDINATOR=""
WEB=""
demux() { "$BIN/demux" "$@"; }
failed() {
  echo "demo: FAILED: $*"
  [ ! -s "$WORK/coordinator.log" ] || { echo "--- the coordinator's last words:"; tail -n 20 "$WORK/coordinator.log"; }
  exit 1
}
# Reached with a coordinator that still runs only when something went wrong, or by Ctrl-C.
clean_up() {
  if [ -n "$COORDINATOR" ] && kill -0 "$COORDINATOR" 2>/dev/null; then
    demux stop 1 >/dev/null 2>&1 || kill -TERM "$COORDINATOR" 2>/dev/null || true
    wait "$COORDINATOR" 2>/dev/null || true
  fi
  stop_web
  rm -rf "$WORK"
}
stop_web() {
  [ -z "$WEB" ] || { kill -TERM "$WEB" 2>/dev/null || true; wait "$WEB" 2>/dev/null || true; }
  WEB=""
}
# What a server says first, or after one request: talk HOST:PORT BYTES [REQUEST].
talk() (
  exec 3<>"/dev/tcp/${1%:*}/${1##*:}" || exit 1
  [ -z "${3:-}" ] || printf '%b' "$3" >&3
  timeout 10 head -c "$2" <&3
)
trap clean_up EXIT
trap 'exit 130' INT TERM

serving() { demux status 1 --json 2>/dev/null > "$WORK/status" && [ "$(grep -o '"state":"serving"' "$WORK/status" | wc -l)" = 6 ]; }

"$HERE/guest/build.sh" "$WORK/guest.rom" || failed "the guest's firmware could not be built"
sed "s|@FIRMWARE@|$WORK/guest.rom|" "$HERE/demo.yaml" > "$WORK/demo.yaml"
echo "demo: a guest without Xen: 2 vCPUs, and six processes that serve it: its display, the VNC exporter, its keyboard and three more"
demux run "$WORK/demo.yaml" --domid 1 > "$WORK/coordinator.log" 2>&1 &
COORDINATOR=$!
for ((waited = 0; waited < 300; waited++)); do             # half a minute, in case the machine is very busy
  ! serving || break
  kill -0 "$COORDINATOR" 2>/dev/null || failed "the coordinator ended at its start"
  sleep 0.1
done
serving || failed "the emulators did not get ready"
demux status 1 > "$WORK/table"
VNC=$(sed -nE 's/^VNC at (127\.0\.0\.1:[0-9]+).*/\1/p' "$WORK/table" | head -n 1)
[ -n "$VNC" ] || failed "the VNC exporter listens nowhere"
"$BIN/demux" web --listen 127.0.0.1:0 > "$WORK/web.log" 2>&1 & WEB=$!
for ((waited = 0; waited < 100; waited++)); do
  PAGE=$(grep -oE 'http://127\.0\.0\.1:[0-9]+/' "$WORK/web.log" || true)
  [ -z "$PAGE" ] || break
  sleep 0.1
done
[ -n "${PAGE:-}" ] || failed "'demux web' does not say where it listens: $(cat "$WORK/web.log")"
grep -oE "(the guest's first vCPU runs its own code on KVM|a script plays the guest's first vCPU.*)" "$WORK/coordinator.log" | sed 's/^/demo: /' || true
echo "demo: VNC at $VNC (display :$((${VNC##*:} - 5900))); in a browser: $PAGE"
PIDS="$(grep -oE '"(pid|coordinatorPID)":[0-9]+' "$WORK/status" | cut -d: -f2) $WEB"

# On a terminal the table is redrawn in place until the guest ends; elsewhere it is printed three times.
WATCH=""
if [ -t 1 ]; then
  demux status 1 --watch 2>/dev/null & WATCH=$!
  sleep "$SECONDS_TO_RUN"
else
  for part in 1 2 3; do
    sleep "$(((SECONDS_TO_RUN * part) / 3 - (SECONDS_TO_RUN * (part - 1)) / 3))"
    echo; demux status 1 || failed "'demux status' failed"
  done
fi
[[ $(talk "$VNC" 12) == "RFB 003."* ]] || failed "no VNC server answers at $VNC"
PLACE=${PAGE#http://}
[[ $(talk "${PLACE%/}" 12 "GET / HTTP/1.1\r\nHost: ${PLACE%/}\r\nConnection: close\r\n\r\n") == "HTTP/1.1 200" ]] || failed "the page at $PAGE does not answer"
for ((waited = 0; waited < 600; waited++)); do             # a short demo, or a busy machine
  ! grep -q "guest: the picture is drawn" "$WORK/coordinator.log" || break
  kill -0 "$COORDINATOR" 2>/dev/null || failed "the coordinator ended"
  sleep 0.1
done
grep -q "guest: the picture is drawn" "$WORK/coordinator.log" || failed "the guest did not draw its picture"
demux screenshot 1 "$WORK/picture.png" || failed "'demux screenshot' failed"
stop_web
demux logs 1 --lines 12 > "$WORK/guest.log" || failed "'demux logs' failed"
demux stop 1 > "$WORK/stop.log" 2>&1 || failed "'demux stop' failed: $(cat "$WORK/stop.log")"
[ -z "$WATCH" ] || wait "$WATCH" || true
status=0; wait "$COORDINATOR" || status=$?
echo; echo "demo: the last lines of 'demux logs':"; cat "$WORK/guest.log"; echo

[ "$status" = 0 ] || failed "the coordinator ended with status $status"
END=$(grep -oE '[0-9]+ emulators served [0-9]+ of [0-9]+ requests on [0-9]+ vCPUs, [0-9]+ values checked, every one right' "$WORK/coordinator.log") ||
  failed "the guest did not say that every value was right"
read -r EMULATORS _ _ SERVED _ MADE _ _ VCPUS _ <<< "$END"
[ "$SERVED" = "$MADE" ] && [ "$SERVED" -gt 0 ] || failed "the guest made $MADE requests, and the emulators served $SERVED"
grep -q "guest: vCPU 0 is up" "$WORK/coordinator.log" || failed "nothing that vCPU 0 printed came out through Debug"
for pid in $PIDS; do [ ! -e "/proc/$pid" ] || failed "process $pid is left behind: $(tr '\0' ' ' < "/proc/$pid/cmdline")"; done
LEFT=$(find "$DEMUX_RUN_DIR" -mindepth 1 2>/dev/null || true)
[ -z "$LEFT" ] || failed "files are left behind: $LEFT"
echo "demo: finished: $EMULATORS emulators served $SERVED requests on $VCPUS vCPUs, every value right"
