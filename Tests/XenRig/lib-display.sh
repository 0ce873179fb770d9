# lib-display.sh: sourced by the scenarios that look at a display, after lib-spec.sh: QEMU's VGA or ours, pictures, keys.
TOOLS=/share/tools

# The configuration lines of a guest with QEMU's own VGA and without Demux; and those of one with our display: after display_spec.
# shellcheck disable=SC2034
QEMU_DISPLAY=('vga="stdvga"' 'videoram=16')
has_our_display() { [ -x $STAGE/bin/demux-display ] && [ -x $STAGE/bin/demux-dm ] && [ -x $STAGE/bin/demux ]; }
# display_spec FILE [LINE…]: writes a specification with our display and exporter, without what QEMU's VGA does not do, and LINEs; sets OUR_DISPLAY.
display_spec() {
  local file=$PWD/$1; shift
  { echo "demux: 1"; echo "emulators: []"; echo "vnc: {ready-within: 60s}"; echo "display: {program: $STAGE/bin/demux-display, ready-within: 60s, successor-within: 60s, memory: 16MiB, mode: 1024x768, options: {like-qemu: yes}}"; printf '%s\n' "$@"; } > "$file"
  mapfile -t OUR_DISPLAY < <(echo 'vga="stdvga"'; echo 'videoram=16'; echo 'vnc=1'; echo 'vncunused=1'; with_demux "$file")
}

# QEMU's monitor that libxl does not use (its own is kept free for it): with Demux, the façade or QEMU, as Demux has arranged it.
qmp_socket() { echo "/run/xen/qmp-libxenstat-$1"; }
qmp() { local d=$1; shift; timeout $((30 * PATIENCE)) python3 $TOOLS/qmp.py "$(qmp_socket "$d")" "$@"; }
# keys WHOSE DOMID COMMAND…: keys and the pointer, by QEMU's monitor (qemu), or as a viewer of our exporter sends them (demux).
keys() {
  local whose=$1 d=$2; shift 2
  if [ "$whose" = qemu ]; then qmp "$d" "$@"; return; fi
  timeout $((60 * PATIENCE)) python3 $TOOLS/keys.py 127.0.0.1 "$(xenstore-read "/local/domain/$d/console/vnc-port")" "$@"
}
serial_of() { wait_until 20 xenstore-exists "/local/domain/$1/serial/0/tty"; xenstore-read "/local/domain/$1/serial/0/tty"; }

# take WHOSE DOMID FILE.png: a picture of the guest's display; WHOSE is qemu or demux.
take() {
  if [ "$1" = demux ]; then demux screenshot "$2" "$3"; return; fi
  bash $TOOLS/screendump.sh "$(qmp_socket "$2")" "$3"
}
# QEMU's half of a comparison, the pictures of a SET, is taken anew only if none are checked in (rig.t leaves out what is
# not to be compared with) or everything is tested; then they are to be the ones that are checked in.
CHECKED_IN=/share/pictures
takes_anew() { [ "$FULL" = 1 ] || [ ! -d "$CHECKED_IN/$1" ]; }
qemu_pictures() { if takes_anew "$1"; then echo "$LOGS/$1-qemu"; else echo "$CHECKED_IN/$1"; fi; }
steps_of() { local p; for p in "$1"/*.png; do p=${p##*/}; echo "${p%.png}"; done; }
# same_as_checked_in SET: for what was taken anew.
same_as_checked_in() {
  local step
  [ -d "$CHECKED_IN/$1" ] || return 0
  for step in $(steps_of "$CHECKED_IN/$1"); do
    case $step in look-*) continue;; esac
    check "$step: QEMU's picture is the one that is checked in" \
      $TOOLS/picture same "$CHECKED_IN/$1/$step.png" "$LOGS/$1-qemu/$step.png"
  done
}
# guest_checks WHOSE FILE: what the guest has checked itself, as ours; a line of the same name is counted, not repeated.
guest_checks() {
  local line count
  while read -r count line; do
    case $line in
      "ok - "*) ok "$1: guest: ${line#ok - } ($count ×)";;
      "not ok - "*) not_ok "$1: guest: ${line#not ok - }";;
      "# "*) diag "guest: ${line#\# }";;
    esac
  done < <(sed -nE 's/^[0-9.]+ ((ok|not ok) - .*|# .*)/\1/p' "$2" | awk '!n[$0]++ { order[++k] = $0 } END { for (i = 1; i <= k; i++) print n[order[i]], order[i] }')
}
