# saving: what `xl save` takes, in seconds and bytes, and where a display's memory lives while it does: plain QEMU with its VGA, Demux without a
# display, Demux with ours; then plain QEMU and ours with 64 MiB of video memory. Figures are printed, never checked; the size alone is, in 70-display.
# needs: demux demux-dm demux-keeper demux-display demux-watchdog
# limit: 1800
. /share/lib-spec.sh

printf 'demux: 1\ndisplay: {ready-within: 30s}\n' > ours.yaml
printf 'demux: 1\ndisplay: {memory: 64M, ready-within: 30s}\n' > large.yaml
printf 'demux: 1\ndisplay: no\n' > without.yaml

# measure NAME LINE…: starts a guest, saves it, and leaves `NAME seconds bytes` in $LOGS/saving.txt.
measure() {
  local name=$1 cfg start end; shift
  cfg=$(guest_cfg "$name" 1 agent 'vga="stdvga"' 'vnc=0' "$@")
  if create "$cfg"; then ok "$name starts"; else not_ok "$name starts"; diag_file "$(LOG_OF "$name")" 40; return 1; fi
  # The firmware has shown the screen, so a display's memory is where the guest wants it.
  check "$name: the guest runs" wait_for_guest "$DOMID" 'AGENT up' 120
  start=$(date +%s%N)
  check "$name: xl save succeeds" xl save "$name" "$name.saved"
  end=$(date +%s%N)
  echo "$name $(( (end - start) / 1000000 )) $(stat -c %s "$name.saved")" | tee -a $LOGS/saving.txt |
    awk '{ printf "# %s: %.1f s, %.1f MB\n", $1, $2 / 1000, $3 / 1e6 }'
  rm -f "$name.saved"
}

measure plain 'videoram=16'
mapfile -t lines < <(with_demux "$PWD/without.yaml")
measure without-display 'videoram=16' "${lines[@]}"
mapfile -t lines < <(with_demux "$PWD/ours.yaml")
measure display 'videoram=16' "${lines[@]}"
measure plain-64 'memory=128' 'videoram=64'
mapfile -t lines < <(with_demux "$PWD/large.yaml")
measure display-64 'memory=128' 'videoram=64' "${lines[@]}"
