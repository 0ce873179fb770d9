# 40-failures: each way in which a configuration can be wrong fails xl create, with the reason where libxl keeps it.
# needs: demux demux-dm demux-scratch demux-debug demux-c-scratch
# limit: 1800
. /share/lib-spec.sh

printf '#!/bin/bash\nexit 3\n' > exits.sh; chmod +x exits.sh
printf '#!/bin/bash\nexec sleep 60\n' > silent.sh; chmod +x silent.sh

# refused NAME SENTENCE PATTERN: spec NAME.yaml must fail xl create, with PATTERN in the log and from demux check.
# The seconds, which are shown, are those of Demux: from libxl's opening of its log to the last word in it.
refused() {
  local name=$1 sentence=$2 pattern=$3 lines cfg took
  mapfile -t lines < <(with_demux "$PWD/$name.yaml")
  cfg=$(guest_cfg "$name" 1 agent "${lines[@]}")
  if create "$cfg" >&2; then not_ok "$sentence fails xl create"; xl destroy "$name" >&2; return; fi
  took=$(( $(stat -c %Y "$(LOG_OF "$name")") - $(stat -c %W "$(LOG_OF "$name")") ))
  ok "$sentence fails xl create"
  diag "$sentence: Demux took $took s"
  check "$sentence: libxl's log says why" contains "$(LOG_OF "$name")" "$pattern"
  demux check "$PWD/$name.yaml" > "$name.check" 2>&1
  check "$sentence: demux check fails, too" [ $? != 0 ]
  check "$sentence: demux check says why" contains "$name.check" "$pattern"
  check "$sentence: nothing is left" wait_until 20 nothing_of_demux
}

cat > clash.yaml <<EOS
demux: 1
emulators:
  - {name: first, program: $STAGE/bin/demux-scratch, options: {pci: "no"}, ready-within: 60s}
  - {name: second, program: $STAGE/bin/demux-c-scratch, mode: isolated, options: {ports: 0x510}, ready-within: 60s}
EOS
refused clash "a claim clash" "0x5[0-9a-f]{2}-0x5[0-9a-f]{2}.*(first|second).*0x5[0-9a-f]{2}-0x5[0-9a-f]{2}"
cat > missing.yaml <<EOS
demux: 1
emulators:
  - {name: ghost, program: $PWD/ghost}
EOS
refused missing "a missing emulator program" "missing.yaml:3:.*ghost"
cat > exits.yaml <<EOS
demux: 1
emulators:
  - {name: exits, program: $PWD/exits.sh, ready-within: 60s}
EOS
refused exits "an emulator that exits at start" "exits.*status 3"
cat > silent.yaml <<EOS
demux: 1
emulators:
  - {name: silent, program: $PWD/silent.sh, ready-within: 2s}
EOS
refused silent "an emulator that never says ready" "silent.*hello.*ready-within"
cat > malformed.yaml <<EOS
demux: 1
emulators:
  - name: scratch
    programme: $STAGE/bin/demux-scratch
EOS
refused malformed "a malformed specification" "malformed.yaml:4:.*programme.*program"
cat > slot.yaml <<EOS
demux: 1
emulators:
  - {name: scratch, program: $STAGE/bin/demux-scratch, pci-slot: "00:02.0", ready-within: 60s}
EOS
refused slot "a PCI slot that QEMU has" "00:02.0.*QEMU"
