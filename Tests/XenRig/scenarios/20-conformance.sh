# 20-conformance: the host conformance suite on XenHost, and what only Xen has, against a guest of the agent with two vCPUs.
# needs: demux-conformance
# limit: 1200

cfg=$(guest_cfg conform 2 agent)
create "$cfg" || { not_ok "the guest is created"; return; }
check "the agent is up on both vCPUs" wait_for_guest "$DOMID" 'AGENT up on vCPU 1' 60
# relay_tap FILE: passes its lines on as ours.
relay_tap() {
  local line
  while IFS= read -r line; do
    case $line in
      "ok "*) ok "${line#ok * - }";;
      "not ok "*) not_ok "${line#not ok * - }";;
      "# "*) echo "$line";;
    esac
  done < "$1"
}
demux-conformance "$DOMID" > "$LOGS/conformance.tap" 2> "$LOGS/conformance.err"
status=$?
relay_tap "$LOGS/conformance.tap"
check "the suite comes to its end with status 0" equal $status 0 || diag_file "$LOGS/conformance.err"
check "it printed a plan" contains "$LOGS/conformance.tap" '^1\.\.[0-9]+$'

# A bad transition: Xen ends the guest, which stays because of on_crash="preserve".
demux-conformance --destructive "$DOMID" > "$LOGS/destructive.tap" 2>> "$LOGS/conformance.err"
status=$?
relay_tap "$LOGS/destructive.tap"
check "the cases that end the guest come to their end with status 0" equal $status 0
check "Xen says that it has crashed the guest" wait_for_line "$XEN_LOG" "^\(XEN\) Domain $DOMID .*crashed" 30

# The guest's end, as its coordinator sees it.
demux-conformance --death "$DOMID" > "$LOGS/death.tap" 2>> "$LOGS/conformance.err" &
watcher=$!
check "a coordinator watches the guest" wait_for_line "$LOGS/death.tap" WATCHING 30
check "xl destroy succeeds" xl destroy conform
wait $watcher; status=$?
relay_tap "$LOGS/death.tap"
check "the watcher comes to its end with status 0" equal $status 0 || diag_file "$LOGS/conformance.err"
check "nothing of the guest is left" wait_until 30 nothing_left "$DOMID"
