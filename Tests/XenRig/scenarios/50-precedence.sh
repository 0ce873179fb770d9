# 50-precedence: a declared interposition outranks QEMU, whether QEMU came last (specification) or first (demux attach).
# needs: demux demux-dm demux-scratch demux-conformance
# limit: 1800
. /share/lib-spec.sh

# Scratch over the DMA page registers of QEMU, of which 0x90 on are nobody's: its ID is at 0x90.
emulator() { echo "  - {name: over, program: $STAGE/bin/demux-scratch, options: {ports: 0x80, mmio: 0xfed80000, pci: \"no\"}, interpose: [\"ports 0x80-0x9f\"]}"; }
{ echo "demux: 1"; echo "emulators:"; emulator; } > over.yaml
{ echo "demux: 1"; echo "emulators: []"; } > none.yaml
{ echo "demux: 1"; echo "emulators:"; emulator | sed "s/, interpose.*/}/; s/name: over/name: undeclared/"; } > undeclared.yaml
reads() { equal "$(demux-conformance --read "$DOMID" "$1" "$2")" "$3"; }

mapfile -t lines < <(with_demux "$PWD/over.yaml")
cfg=$(guest_cfg first 1 agent "${lines[@]}")
create "$cfg" || { not_ok "a guest with an interposition is created"; diag_file "$(LOG_OF first)"; return; }
check "the agent is up" wait_for_guest "$DOMID" 'AGENT up' 60
check "QEMU last: the guest reads the emulator's register over QEMU's" reads 0x90 4 0x54524353
check "the interposition is shown, with what of QEMU's lies under it" eval "demux status $DOMID | grep -E '0x80-0x9f' | grep -q 'DMA pages'"
check "xl destroy succeeds" xl destroy first
check "nothing of Demux is left" wait_until 30 nothing_of_demux

mapfile -t lines < <(with_demux "$PWD/none.yaml")
cfg=$(guest_cfg second 1 agent "${lines[@]}")
create "$cfg" || { not_ok "a guest with QEMU alone is created"; diag_file "$(LOG_OF second)"; return; }
check "the agent is up" wait_for_guest "$DOMID" 'AGENT up' 60
check "before, nobody answers there" reads 0x90 4 0xffffffff
cat over.yaml > late.yaml
check "the emulator is attached while QEMU runs" demux attach "$DOMID" "$PWD/late.yaml"
check "QEMU first: the guest reads the emulator's register over QEMU's" reads 0x90 4 0x54524353
check "its server has a higher id than QEMU's" eval "demux status $DOMID --json | grep -oE '\"server\":[0-9]+' | grep -qv ':0$'"
check "an undeclared overlap is refused" fails demux attach "$DOMID" "$PWD/undeclared.yaml"
check "it is detached" demux detach "$DOMID" over
cat > populate.py <<'EOP'
#!/usr/bin/python3
# An emulator written from Protocols/emulator-protocol.md: it has memory populated beyond the guest's, and notes the answers.
import json, os, socket
control = socket.socket(fileno=int(os.environ["DEMUX_SOCKET"]))
def ask(number, **message):
    control.send(json.dumps(dict(message, id=number)).encode())
    answer = json.loads(control.recvmsg(65536, socket.CMSG_SPACE(64))[0])
    assert answer["re"] == number, answer
    # A place that the coordinator chooses does not make saving the guest slower: it lies below Xen's own pages.
    if message["type"] == "populate" and "gfn" not in message: return "low" if int(answer.get("gfn", "0x0"), 16) in range(0xf0000, 0xff000) else "far"
    return answer["type"] + " " + answer.get("code", "")
notes = [ask(1, type="hello", versions=[1], name="populate", modes=["isolated"], capabilities=[]),
         ask(2, type="populate", gfn="0x110000", count=512), ask(3, type="populate", gfn="0x110000", count=512),
         ask(4, type="depopulate", gfn="0x110000", count=256), ask(5, type="depopulate", gfn="0x110000", count=512),
         ask(6, type="populate", count=16), ask(7, type="ready")]
open("/run/scenario/populate.txt", "w").write(",".join(note.strip() for note in notes))
while True:
    message = json.loads(control.recv(65536))
    control.send(json.dumps({"type": "ok", "re": message["id"]}).encode())
    if message["type"] == "quit": break
EOP
chmod +x populate.py
{ echo "demux: 1"; echo "emulators:"; echo "  - {name: populate, program: $PWD/populate.py, mode: isolated, ready-within: 60s}"; } > populate.yaml
pages() { demux-conformance --pages "$DOMID"; }
before=$(pages)
check "a Python emulator that wants memory populated is attached" demux attach "$DOMID" "$PWD/populate.yaml"
check "it got the memory, could not have it twice, gave back what it had and nothing else, and had a place chosen" \
  equal "$(cat populate.txt)" "attach,ok,error invalid,error invalid,ok,low,ok"
check "the guest has the 16 pages more" equal "$(($(pages) - before))" 16
check "it is detached, too" demux detach "$DOMID" populate
check "and what it left was taken back" equal "$(pages)" "$before"
check "and nobody answers there again" reads 0x90 4 0xffffffff
check "xl destroy succeeds" xl destroy second
check "nothing of Demux is left" wait_until 30 nothing_of_demux
