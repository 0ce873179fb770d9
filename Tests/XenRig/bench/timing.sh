# timing: what a port read costs the guest, by who serves it: QEMU, Scratch (direct), the C device (isolated), nobody. Run by
# Tests/Benchmarks/rig-bench.sh only: ratios are printed, never checked.
# needs: demux demux-dm demux-scratch demux-debug demux-c-scratch
# limit: 600
. /share/lib-spec.sh

standard_spec spec.yaml
mapfile -t lines < <(with_demux "$PWD/spec.yaml")
cfg=$(guest_cfg timing 1 timing "${lines[@]}")
if create "$cfg"; then ok "xl create starts the guest with Demux"; else
  not_ok "xl create starts the guest with Demux"; diag_file "$(LOG_OF timing)" 40; return; fi
check "the guest comes to its end" wait_for_line guest.log 'TIMING done' 400 || diag_file "$(LOG_OF timing)"
check "every value that it read was right" contains guest.log 'TIMING done: 0 wrong'
diag "$(demux status "$DOMID")"

# A line for each server: the median of its rounds, and the quotient with QEMU's time in the same round: median and middle half.
grep -aE '^TIMING [a-z-]+ [0-9]+ [0-9]+' guest.log | awk '
  { time[$2, $3] = $4; if (!($2 in seen)) { seen[$2] = 1; names[++n] = $2 } if ($3 > rounds) rounds = $3 }
  function sort(list, count,   i, j, t) { for (i = 2; i <= count; i++) { t = list[i]; for (j = i - 1; j >= 1 && list[j] > t; j--) list[j + 1] = list[j]; list[j + 1] = t } }
  END {
    for (i = 1; i <= n; i++) {
      count = 0
      for (r = 1; r <= rounds; r++) if ((names[i], r) in time && time["qemu", r] > 0) { count++; t[count] = time[names[i], r]; q[count] = t[count] / time["qemu", r] }
      if (!count) continue
      sort(t, count); sort(q, count)
      printf "%s %d %.2f %.2f %.2f\n", names[i], t[int((count + 1) / 2)], q[int((count + 1) / 2)], q[int((count + 3) / 4)], q[int((3 * count + 3) / 4)]
    }
  }' > $LOGS/timing.txt
check "there is a time for each of the four" equal "$(wc -l < $LOGS/timing.txt)" 4
check "xl destroy succeeds" xl destroy timing
check "nothing of the guest is left" wait_until 30 nothing_left "$DOMID"
