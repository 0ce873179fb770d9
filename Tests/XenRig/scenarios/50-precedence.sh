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
check "and nobody answers there again" reads 0x90 4 0xffffffff
check "xl destroy succeeds" xl destroy second
check "nothing of Demux is left" wait_until 30 nothing_of_demux
