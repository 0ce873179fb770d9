# 30-demux: xl create with one more line: QEMU, Scratch, Debug and the C device serve one guest, through its whole life.
# needs: demux demux-dm demux-scratch demux-debug demux-c-scratch
# limit: 1800
. /share/lib-spec.sh

standard_spec spec.yaml
check "demux check finds the specification good" demux check "$PWD/spec.yaml"
truncate -s 1M cd1.iso; truncate -s 2M cd2.iso
mapfile -t lines < <(with_demux "$PWD/spec.yaml")
cfg=$(guest_cfg demux 1 exerciser 'maxvcpus=2' 'vcpus=2' "${lines[@]}" \
  "disk=[\"format=raw,vdev=hda,access=rw,backendtype=qdisk,target=$RUN/demux.img\",\"format=raw,vdev=hdc,access=ro,devtype=cdrom,backendtype=qdisk,target=$PWD/cd1.iso\"]")
if create "$cfg"; then ok "xl create starts the guest with Demux"; else
  not_ok "xl create starts the guest with Demux"; diag_file "$(LOG_OF demux)" 40; return; fi
D=$DOMID
if wait_for_line guest.log 'EXERCISER done' 900 >&2; then ok "the guest's results come out through Debug"; else
  not_ok "the guest's results come out through Debug"; diag_file "$(LOG_OF demux)"; diag_file guest.log; fi
exerciser_tap "$D"
check "no check of the guest failed" contains guest.log 'EXERCISER done: [0-9]+ passed, 0 failed'
check "demux list shows the guest" eval "demux list | grep -E '^ *$D .*demux'"
for name in scratch debug cdev; do check "demux status shows $name serving" status_has "$D" "$name.*serving"; done
check "Scratch is direct and the C device is isolated" eval "demux status $D --json | tr ',' '\n' | grep -c '\"mode\":\"direct\"' | grep -qx 2"
check "demux status shows QEMU's slots, confirmed" eval "demux status $D --json | grep -q '\"confirmed\":true'"
check "demux status --json counts requests" eval "demux status $D --json | grep -oE '\"requests\":[0-9]+' | grep -vq ':0$'"
check "demux logs shows what the guest printed" eval "demux logs $D -n 500 | grep -q 'EXERCISER done'"
diag "$(demux status "$D")"
check "each emulator is a process of its own" eval '[ $(pgrep -c "demux-(scratch|debug|c-scratc)") = 3 ]'

heartbeat() { grep -aoE 'HEARTBEAT [0-9]+' guest.log | tail -n 1 | cut -d' ' -f2; }
goes_on() { local was; was=$(heartbeat); wait_until 90 eval '[ "$(heartbeat)" -gt "'"${was:-0}"'" ]'; }
check "the guest lives on" goes_on
check "xl pause is accepted" xl pause demux
check "xl unpause is accepted" xl unpause demux
check "the guest goes on after a pause" goes_on
check "xl vcpu-set takes a vCPU away" xl vcpu-set demux 1
check "xl vcpu-set gives it back" xl vcpu-set demux 2
check "the guest goes on after that" goes_on
check "xl cd-eject works through the QMP façade" xl cd-eject demux hdc
check "xl cd-insert works, with its descriptor" xl cd-insert demux hdc "$PWD/cd2.iso"
check "the guest goes on after that, too" goes_on

check "an emulator can be detached from the running guest" demux detach "$D" cdev
check "it is gone from the status" eval "! demux status $D | grep -q cdev"
cat > more.yaml <<EOS
demux: 1
emulators:
  - name: cdev2
    program: $STAGE/bin/demux-c-scratch
    mode: isolated
    ready-within: 60s
EOS
check "and another can be attached in its place" demux attach "$D" "$PWD/more.yaml"
check "the new one serves" status_has "$D" 'cdev2.*serving'
check "the guest goes on with it" goes_on

if xl save demux saved.img > save.log 2>&1; then ok "xl save succeeds"; else not_ok "xl save succeeds"; diag_file save.log; diag_file "$(LOG_OF demux)"; fi
check "nothing of Demux is left after the save" wait_until 30 nothing_of_demux
mv guest.log guest-before.log 2>/dev/null
if timeout $((150 * PATIENCE)) xl -vvv restore saved.img > restore.log 2>&1; then ok "xl restore succeeds"; else
  not_ok "xl restore succeeds"; diag_file restore.log; diag_file "$(LOG_OF demux)"; fi
D2=$(xl domid demux)
check "the restored guest lives: its heartbeat comes through the new Debug" goes_on
check "all three serve the restored guest" eval "[ \$(demux status $D2 | grep -c ' serving') -ge 3 ]"
check "no heartbeat was wrong" eval "! grep -a 'HEARTBEAT wrong' guest.log"
check "xl destroy succeeds" xl destroy demux
check "nothing of the guest is left, no zombie either" wait_until 30 nothing_left "$D2"
check "nothing of Demux is left" wait_until 30 nothing_of_demux
cp /run/scenario/guest*.log $LOGS/ 2>/dev/null
