#!/bin/bash
# run.sh [options] COMMAND...: boots Xen 4.17 and a Debian dom0 in a software-CPU QEMU, runs `bash -c COMMAND` there
# (in /share, after sourcing lib-xen.sh), shows its output as it comes, powers off.
#   -t SECS       time limit of the whole run (600)
#   -o OUTDIR     where to leave everything: share/ (dom0's /share, read-write), share/out.log, console.log (a new
#                 directory in $TMPDIR or /tmp)
#   -s DIR        copy DIR's contents to /share first (repeatable)
#   -S DIR        show DIR, read-only and live, at /extra
#   -f HOST:DOM0  a loopback port here reaches a TCP port of dom0, once dom0 has called net_up (repeatable)
#   -m MIB, -p N, -c MODEL   the machine's memory (3072), virtual CPUs (1), CPU model
#   -q            do not show the output
#   -b            only make sure that the rig is built, and print where its products are
# Exit status: the command's; 123: the machine froze; 125: dom0 gave none (see console.log; the time limit is the usual reason); 126: usage.
# Environment: DOM0_VCPUS (1), DOM0_MEM (1024M), XENARGS and DOM0ARGS (more command-line words), ACCEL, QEMU,
# DEMUX_RIG_CACHE, DEMUX_RIG_FROZEN (180: seconds without a sign of life from dom0 after which it counts as frozen).
HERE=$(cd "$(dirname "$0")" && pwd)
LIMIT=600 OUT="" MEM=3072 SMP=1 QUIET="" ONLYBUILD="" SHARES=() EXTRA="" FORWARDS=()
# The features taken away each break something under the software CPU: see README.md.
CPU=EPYC,-smap,-smep,-monitor,-rdtscp,-xsave,-avx,-avx2,-fma,-f16c
usage() { sed -n '2,/^HERE=/{/^HERE=/d;s/^# \{0,1\}//p}' "$0" >&2; exit 126; }
while getopts "t:o:s:S:f:m:p:c:qb" o; do case $o in
  t) LIMIT=$OPTARG;; o) OUT=$OPTARG;; s) SHARES+=("$OPTARG");; S) EXTRA=$OPTARG;; f) FORWARDS+=("$OPTARG");;
  m) MEM=$OPTARG;; p) SMP=$OPTARG;; c) CPU=$OPTARG;; q) QUIET=1;; b) ONLYBUILD=1;; *) usage;;
esac; done
shift $((OPTIND-1))
[ -n "$ONLYBUILD" ] || [ $# -gt 0 ] || usage

# --- the products: built once for each content of build.sh and dom0-init
CACHE=${DEMUX_RIG_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/demux-xenrig}
HASH=$(cat "$HERE/build.sh" "$HERE/dom0-init" | sha256sum | cut -c1-16)
RIG=$CACHE/$HASH
mkdir -p "$CACHE" || exit 125
if [ ! -d "$RIG" ]; then
  exec 9> "$CACHE/lock"; flock 9
  if [ ! -d "$RIG" ]; then
    echo "run.sh: building the rig in $RIG (once)" >&2
    NEW=$(mktemp -d "$CACHE/building.XXXXXX")
    if ! "$HERE/build.sh" "$NEW" >&2 9>&-; then rm -rf "$NEW"; echo "run.sh: the rig could not be built" >&2; exit 125; fi
    mv -T "$NEW" "$RIG" || exit 125
  fi
  exec 9>&-
fi
if [ -n "$ONLYBUILD" ]; then echo "$RIG"; exit 0; fi

# --- the share
[ -n "$OUT" ] || OUT=$(mktemp -d -t demux-xenrig.XXXXXX) || exit 125
mkdir -p "$OUT/share" && OUT=$(cd "$OUT" && pwd) || exit 125
rm -f "$OUT/share/rc.status" "$OUT/console.log" "$OUT/qemu.pid"; : > "$OUT/share/out.log"
for s in "${SHARES[@]}"; do cp -a "$s"/. "$OUT/share/" || exit 125; done
cp "$HERE/lib-xen.sh" "$OUT/share/"
rm -f "$OUT/share/alive"
{
  echo '#!/bin/bash'; echo 'cd /share; . /share/lib-xen.sh'
  echo '( cd /; while sleep 5; do up > /share/alive; done & ) 2>/dev/null'      # for the watch below
  printf '%s\n' "$*"
} > "$OUT/share/rc"; chmod +x "$OUT/share/rc"

# --- the machine
MORE=()
if [ -n "$EXTRA" ]; then
  EXTRA=$(cd "$EXTRA" && pwd) || exit 125
  MORE+=(-fsdev "local,id=fs1,path=$EXTRA,security_model=none,readonly=on" -device virtio-9p-pci,fsdev=fs1,mount_tag=extra)
fi
if [ ${#FORWARDS[@]} -gt 0 ]; then
  n=user,id=n0,restrict=on; for f in "${FORWARDS[@]}"; do n+=",hostfwd=tcp:127.0.0.1:${f%%:*}-:${f##*:}"; done
  MORE+=(-netdev "$n" -device virtio-net-pci,netdev=n0,romfile=)
fi
# One CPU: with two, the machine froze or went astray when this one was busy (README.md).
# eager-fpu, and no xsave: a domain else finds the floating point and vector registers of another (README.md).
START=$(date +%s.%N)
TAIL=""
if [ -z "$QUIET" ]; then tail -n +1 -s 0.5 -f "$OUT/share/out.log" & TAIL=$!; fi
# dom0 says every 5 seconds that it lives. The whole machine has been seen to freeze (README.md); then there is no point
# in waiting for the time limit.
FROZEN=${DEMUX_RIG_FROZEN:-180}
timeout --foreground -k 5 "$LIMIT" "${QEMU:-qemu-system-x86_64}" -pidfile "$OUT/qemu.pid" -machine q35 -accel "${ACCEL:-tcg,thread=multi,tb-size=512}" \
  -cpu "$CPU" -smp "$SMP" -m "$MEM" -nodefaults -display none -no-reboot -serial stdio -kernel "$RIG/xen" \
  -append "com1=115200,8n1 console=com1 loglvl=all guest_loglvl=all conring_size=1024k dom0_mem=${DOM0_MEM:-1024M},max:${DOM0_MEM:-1024M} dom0_max_vcpus=${DOM0_VCPUS:-1} sched=credit sched_ratelimit_us=0 sched_credit_tslice_ms=5 spec-ctrl=eager-fpu $XENARGS" \
  -initrd "$RIG/vmlinuz console=hvc0 loglevel=6 panic=1 mitigations=off $DOM0ARGS,$RIG/initrd.cpio" \
  -drive if=none,id=d0,file="$RIG/rootfs.img",format=raw,snapshot=on -device virtio-blk-pci,drive=d0 \
  -fsdev local,id=fs0,path="$OUT/share",security_model=none -device virtio-9p-pci,fsdev=fs0,mount_tag=share "${MORE[@]}" \
  < /dev/null > "$OUT/console.log" 2>&1 &
MACHINE=$!
trap 'kill $MACHINE $TAIL 2>/dev/null' INT TERM
FROZE=""
while kill -0 $MACHINE 2>/dev/null; do
  if [ -e "$OUT/share/alive" ] && [ $(( $(date +%s) - $(stat -c %Y "$OUT/share/alive" 2>/dev/null || date +%s) )) -gt "$FROZEN" ]; then
    FROZE=1; kill $MACHINE
  fi
  sleep 0.3
done
wait $MACHINE; QEMURC=$?
if [ -n "$TAIL" ]; then sleep 0.7; kill $TAIL; wait $TAIL 2>/dev/null; fi
RC=$(cat "$OUT/share/rc.status" 2>/dev/null); RC=${RC:-125}
awk -v a="$START" -v b="$(date +%s.%N)" -v q=$QEMURC -v r="$RC" -v o="$OUT" \
  'BEGIN{printf "run.sh: %.1f s, QEMU status %d, command status %s, output in %s\n", b-a, q, r, o}' >&2
if [ -n "$FROZE" ]; then RC=123; echo "run.sh: dom0 gave no sign of life for $FROZEN s, so the machine was ended" >&2; fi
[ "$QEMURC" != 124 ] || echo "run.sh: the time limit of $LIMIT s was reached" >&2
exit "$RC"
