# 86-nvme: our NVMe controller. SeaBIOS boots from it; then Linux's own driver reads and writes it with checked data, while the
# emulator is killed once; afterwards the image holds what Linux wrote.
# needs: demux demux-dm demux-nvme
# limit: 900
. /share/lib-spec.sh
. /share/lib-display.sh

nvme_spec() {                           # IMAGE
  { echo "demux: 1"; echo "emulators:"; echo "  - name: disk"; echo "    program: $STAGE/bin/demux-nvme"; echo "    options: {image: $1, serial: RIG1}"; echo "    successor-within: 60s"; echo "    ready-within: 60s"; } > spec.yaml
  with_demux "$PWD/spec.yaml"
}
part() { dd if=linux.img bs=64k skip="$1" count="$2" status=none | md5sum; }
is_part() { equal "$(part "$1" "$2")" "$(eval "$3" | md5sum)"; }
# As in guest/linux/nvme.
first() { yes 'what dom0 has put there: 0123456789abcdefghi' | head -c 1048576; }
second() { yes 'what Linux has written there: 9876543210' | head -c 8388608; }

# The program is the agent's: what says `AGENT up` came by int 13h, because the guest has no other disk.
cp $GUEST/agent.img boot.img; truncate -s 16M boot.img
cfg=$(guest_cfg nvme-boot 1 agent 'disk=[]' "$(nvme_spec "$PWD/boot.img")")
if create "$cfg"; then ok "xl create starts nvme-boot"; else not_ok "xl create starts nvme-boot"; diag_file "$(LOG_OF nvme-boot)" 40; return; fi
check "SeaBIOS boots from the NVMe disk" wait_for_guest "$DOMID" 'AGENT up' 90
guest_lines "$DOMID" | grep -aiE 'nvme|boot' | head -n 12 | sed 's/^/# /'
check "demux status shows the disk" status_has "$DOMID" 'nvme'
check_not "nobody else can lock its image" python3 -c 'import fcntl; fcntl.lockf(open("boot.img", "r+"), fcntl.LOCK_EX | fcntl.LOCK_NB)'
check "xl destroy succeeds" xl destroy nvme-boot
check "nothing of the guest is left" wait_until 30 nothing_left "$DOMID"

# Then Linux, which has it as its only disk. A second Linux guest with such a disk is too long for every day: 90-unplug has one.
[ "$FULL" = 1 ] || { skip "Linux with the NVMe disk alone: only with DEMUX_TEST_FULL=1"; return; }
first > linux.img; truncate -s 64M linux.img
cfg=$(guest_cfg nvme-linux 2 agent 'memory=256' 'serial="pty"' 'kernel="/share/linux/vmlinuz"' 'ramdisk="/share/linux/initrd"' \
  'cmdline="console=ttyS0 mitigations=off panic=5 loglevel=4 test=nvme"' "$(nvme_spec "$PWD/linux.img")")
if create "$cfg"; then ok "xl create starts nvme-linux"; else not_ok "xl create starts nvme-linux"; diag_file "$(LOG_OF nvme-linux)" 40; return; fi
tty=$(serial_of "$DOMID"); out=$LOGS/nvme-guest.txt; : > "$out"
stty -F "$tty" raw -echo; cat "$tty" >> "$out" & reader=$!
check "Linux starts" wait_for_line "$out" 'MODE nvme ready' 240
printf g > "$tty"
check "it reads and writes" wait_for_line "$out" 'MODE killing ready' 240
sleep 2
killed=$(pgrep -x demux-nvme)
check "the emulator is killed while Linux writes" kill -KILL "$killed"
check "another one takes its place" wait_until 30 eval "pgrep -x demux-nvme | grep -vqx $killed"
check "Linux comes to its end" wait_for_line "$out" 'NVME done' 240
while IFS= read -r line; do
  case $line in
    "ok - "*) ok "Linux: ${line#ok - }";;
    "not ok - "*) not_ok "Linux: ${line#not ok - }";;
    "# "*) diag "Linux: ${line#\# }";;
  esac
done < "$out"
check "demux status shows the restart" status_has "$DOMID" 'disk'
sed 's/^/# /' /run/scenario/status.txt
check "the image begins as it did" is_part 0 16 first
for place in 16 256 384 512 640 768 896; do check "the image has what Linux wrote at $place × 64 KiB" is_part $place 128 second; done
check "and the 196 single blocks" equal "$(dd if=linux.img bs=512 skip=20001 count=196 status=none | md5sum)" "$(second | head -c 100352 | md5sum)"
demux logs "$DOMID" | tail -n 20 | sed 's/^/# log: /'
check "xl destroy succeeds" xl destroy nvme-linux
kill $reader 2>/dev/null
check "nothing of the guest is left" wait_until 30 nothing_left "$DOMID"
check "nothing of Demux is left" wait_until 30 nothing_of_demux
