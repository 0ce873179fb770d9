# lib-spec.sh: sourced by the scenarios that run Demux: specifications, and what must be gone afterwards.
DM=$STAGE/bin/demux-dm
LOG_OF() { echo "/var/log/xen/qemu-dm-$1.log"; }

# standard_spec FILE: Scratch and Debug direct, the C device isolated. Here as in every scenario an emulator gets the
# longest time there is to start, because the machine under the rig may be busy.
standard_spec() {
  cat > "$1" <<EOS
demux: 1
emulators:
  - name: scratch
    program: $STAGE/bin/demux-scratch
    ready-within: 60s
  - name: debug
    program: $STAGE/bin/demux-debug
    ready-within: 60s
    options: {file: /run/scenario/guest.log}
  - name: cdev
    program: $STAGE/bin/demux-c-scratch
    mode: isolated
    ready-within: 60s
EOS
}
# with_demux SPEC: the configuration lines that make libxl start Demux with that specification.
with_demux() { echo "device_model_override=\"$DM\""; echo "device_model_args_hvm=[\"--demux-spec=$1\"]"; }
# what a guest's end must leave: no process, server folder, socket or xenstore key of ours.
nothing_of_demux() {
  local left=0
  ! pgrep -af 'demux-(dm|keeper|scratch|debug|c-scratch|display|vnc|nvme|watchdog)' || left=1
  ! ls -A /run/demux 2>/dev/null | grep . || left=1
  ! ls /run/xen /var/run/xen 2>/dev/null | grep -E 'qmp-libxl-[0-9]+$' || left=1
  ! xenstore-ls -f 2>/dev/null | grep -i demux || left=1
  return $left
}
status_has() { demux status "$1" > /run/scenario/status.txt; grep -qE -e "$2" /run/scenario/status.txt || { cat /run/scenario/status.txt; return 1; }; }
