#!/bin/bash
# mk.sh OUTDIR RIG: makes OUTDIR/vmlinuz and OUTDIR/initrd of the Linux guest, from the rig's own products (`run.sh -b` prints RIG):
# Debian's kernel, busybox, and the modules for the display (bochs-drm), for input (USB tablet, PS/2) for NVMe, and for PV and emulated disks and NICs.
set -euo pipefail
HERE=$(cd "$(dirname "$0")" && pwd)
[ $# = 2 ] || { echo "usage: mk.sh OUTDIR RIG" >&2; exit 2; }
mkdir -p "$1"; OUT=$(cd "$1" && pwd); RIG=$2
KERNEL=$(basename "$RIG"/rootfs/lib/modules/*)
W=$(mktemp -d); trap 'rm -rf "$W"' EXIT
mkdir -p "$W"/{bin,dev,proc,sys,m,tmp}
cp "$RIG"/rootfs/bin/busybox "$W"/bin/; ln -s busybox "$W"/bin/sh
install -m755 "$HERE"/init "$W"/init; install -m755 "$HERE"/card "$W"/bin/card; install -m755 "$HERE"/nvme "$W"/bin/nvme
install -m755 "$HERE"/unplug "$W"/bin/unplug
printf '#!/bin/sh\necho "SAID $*" > /dev/ttyS0\n' > "$W"/bin/say; chmod 755 "$W"/bin/say
gcc -static -O2 -Wall -Wextra -Werror -o "$W"/bin/events "$HERE"/events.c; strip "$W"/bin/events
modules() {                             # modules LIST NAME…: copies them and what they need, in order
  local list=$1 m f; shift
  for m; do
    for f in $(modprobe -d "$RIG"/rootfs -S "$KERNEL" --show-depends "$m" | awk '$1=="insmod"{print $2}'); do
      b=$(basename "$f"); grep -qxF "$b" "$W/m/$list" 2>/dev/null || { cp "$f" "$W/m/"; echo "$b" >> "$W/m/$list"; }
    done
  done
}
modules display bochs
modules nvme nvme
modules pv xen-blkfront xen-netfront
modules emulated ata_piix sd_mod e1000 nvme
modules input uhci-hcd usbhid hid-generic psmouse evdev
( cd "$W" && find . | LC_ALL=C sort | cpio -o -H newc --quiet | gzip -1 ) > "$OUT"/initrd
cp "$RIG"/vmlinuz "$OUT"/vmlinuz
