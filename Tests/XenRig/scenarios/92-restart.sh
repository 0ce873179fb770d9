# 92-restart: an emulator that dies, hangs and is replaced while a guest counts on two vCPUs in its registers: every value is the
# right one, no write is lost or doubled, nothing hangs. And what the guest sees when no successor comes in time.
# needs: demux demux-dm demux-scratch
# limit: 1500
. /share/lib-spec.sh
KILLS=15; STOPS=3; SWAPS=4
[ "$FULL" != 1 ] || { KILLS=200; STOPS=20; SWAPS=100; }
RANDOM=9201                             # the same moments each time, as far as the machine's own pace lets them be

cat > restart.yaml <<EOS
demux: 1
emulators:
  - name: scratch
    program: $STAGE/bin/demux-scratch
    options: {pci: "no"}
    # The rig's processor is slow: what has to be shown is that nothing is lost, not how soon it is there again.
    successor-within: 60s
    ready-within: 60s
    restart-limit: 100000
    restart-delay: 0ms
EOS
mapfile -t lines < <(with_demux "$PWD/restart.yaml")
cfg=$(guest_cfg restart 2 counter "${lines[@]}")
if create "$cfg"; then ok "xl create starts restart"; else not_ok "xl create starts restart"; diag_file "$(LOG_OF restart)" 40; return; fi
check "the guest counts" wait_for_guest "$DOMID" 'COUNTER up' 90

# What serves now, as seen in dom0's processes; the program that is tried may be another one's copy.
serving() { pgrep -x 'demux-scratch|scratch-two'; }
another() { local p; p=$(serving) && [ "$(wc -l <<< "$p")" = 1 ] && [ "$p" != "$1" ]; }
next_of() { wait_until 60 another "$1" || return 1; serving; }
# Up to half a second: a successor needs about as long here until it serves, so that some die before.
pause_a_bit() { sleep "0.$(printf %03d $(( RANDOM % 500 )))"; }

pid=$(serving); killed=0
for ((i = 0; i < KILLS; i++)); do
  pause_a_bit
  kill -KILL "$pid" && killed=$((killed + 1))
  pid=$(next_of "$pid") || { not_ok "a successor comes after kill $i"; break; }
done
check "scratch was killed $KILLS times" equal "$killed" "$KILLS"
for ((i = 0; i < STOPS; i++)); do
  pause_a_bit
  kill -STOP "$pid"; pause_a_bit; kill -KILL "$pid"
  pid=$(next_of "$pid") || { not_ok "a successor comes after one that hung ($i)"; break; }
done
check "scratch serves after it hung $STOPS times" wait_until 60 status_has "$DOMID" 'scratch .* serving'

cp $STAGE/bin/demux-scratch scratch-two; programs=("$PWD/scratch-two" "$STAGE/bin/demux-scratch"); swapped=0; : > pauses
for ((i = 0; i < SWAPS; i++)); do
  demux replace "$DOMID" scratch --program "${programs[i % 2]}" > replaced 2>&1 && swapped=$((swapped + 1)) || { cat replaced >&2; diag "$(cat replaced)"; }
  sed -n 's/.*waited \([0-9]*\) µs.*/\1/p' replaced >> pauses
done
check "scratch was replaced $SWAPS times" equal "$swapped" "$SWAPS"
sort -n pauses | awk '{ p[NR] = $1 } END { if (NR) printf "# replacements: pauses of %d to %d µs, half of them within %d µs\n", p[1], p[NR], p[int((NR + 1) / 2)] }'
# One that exits at once leaves the old one where it is.
printf '#!/bin/bash\nexit 3\n' > exits.sh; chmod +x exits.sh
check_not "one that exits at once does not replace it" demux replace "$DOMID" scratch --program "$PWD/exits.sh"
check "the one that was there serves on" status_has "$DOMID" 'scratch .* serving'

# The end of the count: a second device, which the guest looks for.
check "a second device is attached" demux attach "$DOMID" --ready-within 60s --name end --program demux-scratch --option ports=0x520 --option mmio=0xfeda0000 --option pci=no
check "the guest comes to its end" wait_for_guest "$DOMID" 'COUNTER done' 120
counter_tap "$DOMID" "$KILLS"
demux status "$DOMID" | sed 's/^/# /'
check_not "nobody answered in its place" status_has "$DOMID" 'PARKED'

# One that has no successor in time.
printf '#!/bin/bash\nwhile [ ! -e %s/go ]; do sleep 0.2; done\nexec %s/bin/demux-scratch\n' "$PWD" $STAGE > late.sh; chmod +x late.sh; touch go
check "a program that can be made to wait takes its place" demux replace "$DOMID" scratch --program "$PWD/late.sh" --successor-within 5s
rm go
status_json_pid() { demux status --json "$DOMID" | python3 -c 'import json,sys; print([e["pid"] for e in json.load(sys.stdin)["emulators"] if e["name"] == "scratch"][0])'; }
kill -KILL "$(status_json_pid)"
check "without a successor in time the guest reads all-ones" wait_for_guest "$DOMID" 'SEES ffffffff' 60
check "status says so" status_has "$DOMID" ' parked: '
sed 's/^/# /' /run/scenario/status.txt
touch go
guest_sees_it_again() { [ "$(guest_lines "$DOMID" | grep -a '^SEES' | tail -n 1)" = "SEES 54524353" ]; }
check "and it is handed over to the one that comes" wait_until 60 guest_sees_it_again
demux logs "$DOMID" | tail -n 12 | sed 's/^/# log: /'

check "xl destroy succeeds" xl destroy restart
check "nothing of the guest is left" wait_until 30 nothing_left "$DOMID"
check "nothing of Demux is left" wait_until 30 nothing_of_demux
