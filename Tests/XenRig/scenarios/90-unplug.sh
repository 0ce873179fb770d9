# 90-unplug: PV unplug across QEMU and our emulators. A Linux guest's own unplug sequence, the same guest without it, the order of the Windows
# drivers from a boot sector with blacklists, the ROM lock and garbage, save and restore, and each policy when somebody does not obey.
# needs: demux demux-dm demux-keeper demux-nvme demux-c-scratch demux-scratch demux-test-emulator
# limit: 1800
. /share/lib-spec.sh
. /share/lib-display.sh

net_bridge
VIF='vif=["model=e1000,mac=00:16:3e:00:00:01,bridge=xenbr0"]'
# spec IMAGE: an NVMe disk that goes with the disks, the C device, which is a NIC, and Scratch, which is neither (and not at 0x510,
# where QEMU has the kernel for SeaBIOS). Sets LINES.
spec() {
  cat > spec.yaml <<EOS
demux: 1
unplug: {deadline: 20s, blacklist: [linux/7]}
emulators:
  - {name: disk, program: $STAGE/bin/demux-nvme, options: {image: $1, serial: RIG1}, unplug-as: [nvme, ide-disk], ready-within: 60s}
  - {name: cdev, program: $STAGE/bin/demux-c-scratch, mode: isolated, ready-within: 60s}
  - {name: scratch, program: $STAGE/bin/demux-scratch, options: {pci: "no", ports: 0x600}, ready-within: 60s}
EOS
  mapfile -t LINES < <(with_demux "$PWD/spec.yaml")
}
started() { if create "$1"; then ok "xl create starts $2"; else not_ok "xl create starts $2"; diag_file "$(LOG_OF "$2")" 40; return 1; fi; }
ended() {                               # GUEST
  check "xl destroy succeeds ($1)" xl destroy "$1"
  check "nothing of the guest is left ($1)" wait_until 30 nothing_left "$DOMID"
  check "nothing of Demux is left ($1)" wait_until 30 nothing_of_demux
}
# The PCI functions in `demux status` that somebody has: QEMU's slots and our claims.
functions_of_status() {
  demux status "$DOMID" | awk '/^UNPLUGGED FROM/ { skip = 1 } /^$/ { skip = 0 } !skip' | grep -oE '\b00:[0-9a-f]{2}\.[0-7]\b' | sort -u | tr '\n' ' '
}
unplugged_from() { demux status "$DOMID" > status.txt; grep -qE "^$1 .*$2" status.txt || { cat status.txt; return 1; }; }
guest_results() {                       # FILE WHO
  local line
  while IFS= read -r line; do
    case $line in
      "ok - "*) ok "$2: ${line#ok - }";;
      "not ok - "*) not_ok "$2: ${line#not ok - }";;
      "# "*) diag "$2: ${line#\# }";;
    esac
  done < <(tr -d '\r' < "$1")
}
# As in guest/linux/unplug.
first() { yes 'what dom0 has put there: 0123456789abcdefghi' | head -c 1048576; }
second() { yes 'what Linux has written there: 9876543210' | head -c 4194304; }

# linux NAME WORDS: a Linux guest up to `UNPLUG seen`.
linux() {
  local name=$1 tty
  out=$LOGS/$name-guest.txt; : > "$out"
  first > nvme.img; truncate -s 32M nvme.img
  { head -c 1048576 $GUEST/agent.img; first; } > ide.img; truncate -s 32M ide.img
  spec "$PWD/nvme.img"
  cfg=$(guest_cfg "$name" 1 "$PWD/ide.img" 'memory=256' 'serial="pty"' 'kernel="/share/linux/vmlinuz"' 'ramdisk="/share/linux/initrd"' \
    "cmdline=\"console=ttyS0 mitigations=off panic=5 loglevel=4 test=unplug $2\"" "$VIF" "${LINES[@]}")
  started "$cfg" "$name" || return 1
  tty=$(serial_of "$DOMID"); TTY=$tty
  stty -F "$tty" raw -echo; cat "$tty" >> "$out" & reader=$!
  check "$name: Linux starts" wait_for_line "$out" 'MODE unplug ready' 240
  printf g > "$tty"
  check "$name: it looks around" wait_for_line "$out" 'UNPLUG seen' 180
  check "$name: its list of PCI functions is the one of demux status" \
    equal "$(tr -d '\r' < "$out" | awk '$1 == "PCI" { print $2 }' | sort -u | tr '\n' ' ')" "$(functions_of_status)"
}

# ---------------------------------------------------------------- Linux with its PV drivers
linux unplug-linux '' || return
check "demux status: Linux has unplugged its classes" status_has "$DOMID" 'unplugged ide-disk, scsi-disk, nic, aux-disk; the guest.s driver is linux build 1; 1 requests, 0 not obeyed'
sed 's/^/# /' /run/scenario/status.txt
check "demux status: QEMU's IDE disk and NIC are gone" unplugged_from QEMU 'ide0-hd0.*|.*nic'
check "demux status: our NVMe disk is gone" unplugged_from "emulator 'disk'" 'NVMe disk RIG1'
check "demux status: the C device is gone" unplugged_from "emulator 'cdev'" 'c-scratch'
check "demux status: Scratch is not" fails unplugged_from "emulator 'scratch'" '.'
check "others can lock the NVMe disk's image now" python3 -c 'import fcntl; fcntl.lockf(open("nvme.img", "r+"), fcntl.LOCK_EX | fcntl.LOCK_NB)'
killed=$(pgrep -x demux-nvme)
check "the NVMe emulator is killed" kill -KILL "$killed"
check "another one takes its place" wait_until 30 eval "pgrep -x demux-nvme | grep -vqx $killed"
check "and serves, without a claim" wait_until 30 status_has "$DOMID" "disk .*serving"
check "it has not brought back what was unplugged" fails eval "demux status $DOMID | grep -E '^(PCI|pci) .*disk'"
printf g > "$TTY"
check "Linux comes to its end" wait_for_line "$out" 'UNPLUG done' 60
guest_results "$out" "Linux with PV drivers"
check "the disk has what Linux wrote to xvda" equal "$(dd if=$RUN/unplug-linux.img bs=64k skip=32 count=64 status=none | md5sum)" "$(second | md5sum)"
demux logs "$DOMID" | grep -iE 'unplug|removed|driver' | head -n 12 | sed 's/^/# log: /'
kill $reader 2>/dev/null
ended unplug-linux

# ---------------------------------------------------------------- the same without unplugging
linux unplug-never 'xen_emul_unplug=never' || return
check "demux status says nothing of unplugging" fails status_has "$DOMID" 'unplugged'
printf g > "$TTY"
check "Linux comes to its end" wait_for_line "$out" 'UNPLUG done' 60
guest_results "$out" "Linux without unplugging"
check "the image has what Linux wrote to the NVMe disk" equal "$(dd if=nvme.img bs=64k skip=16 count=64 status=none | md5sum)" "$(second | md5sum)"
kill $reader 2>/dev/null
ended unplug-never

# ---------------------------------------------------------------- the order of Windows, blacklists, the ROM lock, garbage
# program FILE CONFIG
program() { cp $GUEST/unplug.img "$1"; printf "\\x$2\\0\\0\\0" | dd of="$1" bs=1 seek=$((0x1f8)) conv=notrunc status=none; }
program windows.img 01
cp windows.img nvme.img; truncate -s 32M nvme.img     # whichever of the two disks SeaBIOS takes
spec "$PWD/nvme.img"
xenstore-write /mh/driver-blacklist/xensource-windows/99 '' || not_ok "xenstore takes a blacklist"
cfg=$(guest_cfg unplug-windows 1 "$PWD/windows.img" "$VIF" "${LINES[@]}")
started "$cfg" unplug-windows || return
check "the guest program comes to its end" wait_for_guest "$DOMID" 'UNPLUG done' 300
guest_lines "$DOMID" > windows.txt; cp windows.txt $LOGS/unplug-windows.txt
guest_results windows.txt "the order of Windows"
xenstore-rm /mh/driver-blacklist
check "demux status: the driver is named" status_has "$DOMID" 'unplugged .*; the guest.s driver is linux build 8'
sed 's/^/# /' /run/scenario/status.txt
check "nobody refused, and nothing waits" status_has "$DOMID" ' requests, 0 not obeyed'
check "the driver's words are in demux logs, escaped" eval "demux logs $DOMID -n 2000 | grep -F 'words of a driver' | grep -qvF $'\\x1b'"
check "the log is bounded" [ "$(stat -c %s "$(LOG_OF unplug-windows)")" -lt 300000 ]
diag "$(wc -lc < "$(LOG_OF unplug-windows)") lines and bytes of log"
check "all emulators serve" eval "[ \$(demux status $DOMID | grep -c ' serving') = 3 ]"
# What the guest finds of the platform device, told once more.
platform_is_whole() {
  local from; from=$(guest_lines "$DOMID" | grep -c PLATFORM)
  check "$1: the guest finds the platform device whole" wait_until 60 eval "[ \$(guest_lines $DOMID | grep -c 'PLATFORM .* is whole') -gt $from ]"
  check "$1: and never otherwise" fails guest_said "$DOMID" 'PLATFORM .* is (missing|not|without)'
}
platform_is_whole "at the end"
check "demux status: the coordinator stands in its place" status_has "$DOMID" 'PCI 0000:00:[0-9a-f]*\.0.*\(coordinator\)|\(coordinator\).*PCI 0000:00:'
check "the coordinator is killed" kill -KILL "$(pgrep -x demux-dm)"
check "another one takes over" wait_until 30 status_has "$DOMID" "adopted 1 time"
platform_is_whole "after a coordinator was killed"
if xl save unplug-windows saved.img > save.log 2>&1; then ok "xl save succeeds"; else not_ok "xl save succeeds"; diag_file save.log; fi
check "nothing of Demux is left after the save" wait_until 30 nothing_of_demux
before=$(guest_said "$DOMID" STILL | tail -n 1)
if timeout $((60 * PATIENCE)) xl -vvv restore saved.img > restore.log 2>&1; then ok "xl restore succeeds"; else
  not_ok "xl restore succeeds"; diag_file restore.log; diag_file "$(LOG_OF unplug-windows)" 40; fi
cp restore.log $LOGS/unplug-restore.log
DOMID=$(xl domid unplug-windows)
diag "before the save: $before"
check "the restored guest goes on" wait_for_guest "$DOMID" 'STILL' 60
check "no disk that it had unplugged comes back" fails guest_said "$DOMID" 'STILL .*disks [1-9]'
check "QEMU's NIC goes when the guest says so again, as drivers do when they resume" wait_for_guest "$DOMID" 'STILL .*disks 0, NICs 0' 60
guest_lines "$DOMID" | head -n 8 | sed 's/^/# /'
check "demux status shows what is unplugged" status_has "$DOMID" 'unplugged ide-disk, scsi-disk, .*nic'
platform_is_whole "restored"
sed 's/^/# /' /run/scenario/status.txt
ended unplug-windows

# ---------------------------------------------------------------- the platform device's own ports, as SUSE's old drivers use them
program old.img 04
cp old.img nvme.img; truncate -s 32M nvme.img
spec "$PWD/nvme.img"
cfg=$(guest_cfg unplug-old 1 "$PWD/old.img" "$VIF" "${LINES[@]}")
started "$cfg" unplug-old || return
check "the guest program comes to its end" wait_for_guest "$DOMID" 'UNPLUG done' 120
guest_lines "$DOMID" > old.txt; cp old.txt $LOGS/unplug-old.txt
guest_results old.txt "old ports"
check "demux status: QEMU's IDE disk and NIC are gone" unplugged_from QEMU 'ide0-hd0.*|.*nic'
check "demux status: our NVMe disk is gone" unplugged_from "emulator 'disk'" 'NVMe disk RIG1'
check "demux status: the C device is gone" unplugged_from "emulator 'cdev'" 'c-scratch'
check "the driver's words are in demux logs" eval "demux logs $DOMID -n 2000 | grep -qF 'words through BAR0'"
ended unplug-old

# ---------------------------------------------------------------- who does not obey
# policy POLICY EMULATOR…: a guest whose NICs do what their names say when they are told. One that dies without a successor is `gone`.
policy() {
  local policy=$1 deadline=3s port=0x640 name; shift
  # Long enough for who obeys and for a successor on a busy machine, where their absence would be taken for disobedience.
  [ $policy != complete ] || deadline=20s
  { echo "demux: 1"; echo "unplug: {deadline: $deadline, on-failure: $policy}"; echo "emulators:"; } > policy.yaml
  for name; do
    echo "  - {name: $name, program: $STAGE/bin/demux-test-emulator, arguments: [plug, nic], ready-within: 60s, options: {ports: $port, unplug: ${name/gone/die}}$([ "$name" != gone ] || echo ', restart: never')}" >> policy.yaml
    port=$(printf '0x%x' $((port + 16)))
  done
  mapfile -t LINES < <(with_demux "$PWD/policy.yaml")
  program policy.img 02
  cfg=$(guest_cfg "unplug-$policy" 2 "$PWD/policy.img" 'on_crash="preserve"' "${LINES[@]}")
  started "$cfg" "unplug-$policy" || return 1
  check "$policy: the guest writes its mask" wait_for_guest "$DOMID" 'UNPLUG writes' 60
}

policy complete obey refuse silent die || return
check "complete: the guest goes on" wait_for_guest "$DOMID" 'UNPLUG done' 60
check "complete: the other vCPU reads from the ports meanwhile" guest_said "$DOMID" 'OTHER [0-9]+ reads 49d2'
check "complete: who obeyed is gone" unplugged_from "emulator 'obey'" 'obey +-'
check "complete: the refusal is shown" unplugged_from "emulator 'refuse'" 'its cache cannot be written out'
check "complete: the silence is shown" unplugged_from "emulator 'silent'" 'no answer within 20000 ms'
check "complete: who died has a successor, which left its device out" unplugged_from "emulator 'die'" 'die +-'
check "complete: and serves" status_has "$DOMID" '^die .*serving'
sed 's/^/# /' /run/scenario/status.txt
check "complete: the guest finds the two that stayed" wait_for_guest "$DOMID" 'STILL .*NICs 2$' 60
ended unplug-complete

policy crash-guest obey silent || return
check "crash-guest: the guest is crashed" wait_until 60 eval "xl list unplug-crash-guest | tail -n 1 | grep -E ' [-rbps]*c[-d]* '"
check "crash-guest: it never went on" fails guest_said "$DOMID" 'UNPLUG went on'
check "crash-guest: the reason is in the log" contains "$(LOG_OF unplug-crash-guest)" "the guest is crashed.*emulator 'silent': no answer within 3000 ms"
ended unplug-crash-guest

policy hold refuse silent gone || return
check "hold: the write is held" wait_until 60 status_has "$DOMID" "the guest's write is held until these obey: emulator 'gone', emulator 'refuse', emulator 'silent'"
check "hold: the guest has not gone on" fails guest_said "$DOMID" 'UNPLUG went on'
check "hold: the other vCPU lives" guest_said "$DOMID" 'OTHER [0-9]+ reads 49d2'
for name in refuse silent gone; do check "hold: $name is taken away" demux detach "$DOMID" $name; done
check "hold: then the write completes" wait_for_guest "$DOMID" 'UNPLUG went on' 30
check "hold: and the guest comes to its end" wait_for_guest "$DOMID" 'UNPLUG done' 30
ended unplug-hold
