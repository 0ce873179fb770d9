#!/bin/bash
# build.sh OUTDIR: makes the rig's products from Debian bookworm packages only, in OUTDIR, which must be empty or absent:
#   xen          the Xen 4.17 hypervisor            initrd.cpio  busybox and the modules that reach the root file system
#   vmlinuz      Debian's kernel, for dom0          rootfs.img   dom0's root file system (ext4)
#   rootfs/      the same as a directory, for making Linux guests from it (modules, busybox)
#   packages.txt what it is made of
# Called by run.sh, which caches the result. Packages are downloaded by apt-get, from wherever this machine's apt is
# already configured to look; nothing is installed on this machine. Without root it maps itself to root in a user name space.
set -euo pipefail
[ $# = 1 ] || { echo "usage: build.sh OUTDIR" >&2; exit 2; }
HERE=$(cd "$(dirname "$0")" && pwd)
if [ "$(id -u)" != 0 ]; then exec unshare --map-root-user "$HERE/build.sh" "$@"; fi
for tool in apt-get dpkg-deb tar cpio mke2fs depmod; do
  command -v $tool >/dev/null || { echo "build.sh: $tool is needed: install apt, dpkg, tar, cpio, e2fsprogs and kmod" >&2; exit 1; }
done
mkdir -p "$1"; OUT=$(cd "$1" && pwd); cd "$OUT"
T0=$SECONDS
ROOT=$OUT/rootfs

# What dom0 runs. libvncserver1, libpixman-1-0, libpng16-16 and libstdc++6 are for the programs under test.
PACKAGES="xen-hypervisor-4.17-amd64 xen-utils-4.17 xen-utils-common xenstore-utils qemu-system-xen seabios ipxe-qemu
 linux-image-amd64 bash coreutils sed grep findutils hostname mount util-linux kmod procps iproute2 socat strace
 busybox-static ncurses-bin libc-bin python3-minimal libpython3-stdlib libvncserver1 libpixman-1-0 libpng16-16
 libstdc++6"

# Resolve and download the closure as if nothing were installed.
mkdir -p debs/partial; : > dpkg-status
# shellcheck disable=SC2086
apt-get -o Dir::State::status="$OUT/dpkg-status" -o Dir::Cache::archives="$OUT/debs" -o APT::Install-Recommends=false \
  -o Debug::NoLocking=1 -o APT::Sandbox::User=root -y --download-only install $PACKAGES > download.log 2>&1 ||
  { tail -n 20 download.log >&2; echo "build.sh: apt-get could not download the packages above; run apt-get update and try again" >&2; exit 1; }

for deb in debs/*.deb; do dpkg-deb --show --showformat '${Package} ${Version}\n' "$deb"; done > packages.txt

mkdir -p "$ROOT"/usr/{bin,sbin,lib,lib64}
for d in bin sbin lib lib64; do ln -s usr/$d "$ROOT/$d"; done
# Documentation, and the kernel modules that neither dom0 nor a small Linux guest has a use for. Kept on purpose for
# guests: ata and bochs (libata, a display), e1000.
EXCLUDE=(./usr/share/{doc,man,locale,info,zoneinfo,i18n}/'*' './usr/lib/debug/*' './lib/firmware/*'
  '*/drivers/'{media,net/wireless,infiniband,staging,iio}/'*' '*/kernel/sound/*'
  '*/drivers/gpu/drm/'{amd,i915,nouveau,radeon,vmwgfx,gma500,ast,mgag200,qxl}/'*')
for deb in debs/*.deb; do
  dpkg-deb --fsys-tarfile "$deb" | tar -x --no-same-owner --keep-directory-symlink -C "$ROOT" "${EXCLUDE[@]/#/--exclude=}"
done
find "$ROOT"/lib/modules/*/kernel/drivers/net/ethernet -name '*.ko*' ! -path '*/e1000/*' -delete
KERNEL=$(basename "$ROOT"/boot/vmlinuz-*); KERNEL=${KERNEL#vmlinuz-}
zcat "$ROOT"/boot/xen-4.17-amd64.gz > xen; cp "$ROOT/boot/vmlinuz-$KERNEL" vmlinuz
rm -rf "$ROOT"/boot/*
depmod -b "$ROOT" "$KERNEL"
chroot "$ROOT" ldconfig

mkdir -p "$ROOT"/{proc,sys,dev,run,tmp,share,mnt,extra,etc,root} "$ROOT"/var/{log/xen,lib/xen,lib/xenstored}
rm -rf "$ROOT"/var/run; ln -s /run "$ROOT"/var/run
# The range base is what libxl's dm_restrict=1 looks for: QEMU of domain N then runs as uid 0x30000 + N. The uid of
# the base entry itself (domain 0's) is its reaper. demux is for our own programs' privilege drop.
cat > "$ROOT"/etc/passwd <<'END'
root:x:0:0:root:/root:/bin/bash
demux:x:990:990::/:/bin/false
nobody:x:65534:65534::/:/bin/false
xen-qemuuser-range-base:x:196608:196608::/:/bin/false
END
cat > "$ROOT"/etc/group <<'END'
root:x:0:
tty:x:5:
demux:x:990:
nogroup:x:65534:
xen-qemuuser-range-base:x:196608:
END
printf 'passwd: files\ngroup: files\nhosts: files\n' > "$ROOT"/etc/nsswitch.conf
echo dom0 > "$ROOT"/etc/hostname; printf '127.0.0.1 localhost dom0\n' > "$ROOT"/etc/hosts
ln -sf /proc/mounts "$ROOT"/etc/mtab
for a in awk which vi ifconfig nc hexdump xxd less; do [ -e "$ROOT/usr/bin/$a" ] || ln -s /bin/busybox "$ROOT/usr/bin/$a"; done
install -m755 "$HERE"/dom0-init "$ROOT"/sbin/dom0-init

# The initramfs only mounts the root file system and goes on to dom0-init.
I=$OUT/initrd.d; mkdir -p "$I"/{bin,proc,sys,dev,newroot,modules}
cp "$ROOT"/bin/busybox "$I"/bin/busybox; ln -s busybox "$I"/bin/sh
ORDER=""
for m in virtio_pci virtio_blk ext4; do
  for f in $(modprobe -d "$ROOT" -S "$KERNEL" --show-depends $m | awk '$1=="insmod"{print $2}'); do
    b=$(basename "$f"); [ -e "$I/modules/$b" ] || { cp "$f" "$I/modules/"; ORDER="$ORDER $b"; }
  done
done
cat > "$I"/init <<END
#!/bin/sh
/bin/busybox --install -s /bin
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev
for m in$ORDER; do insmod /modules/\$m || echo "RIG: insmod \$m failed"; done
i=0; while [ ! -b /dev/vda ] && [ \$i -lt 100 ]; do sleep 0.1; i=\$((i+1)); done
mount -t ext4 /dev/vda /newroot || { echo "RIG: no root file system"; poweroff -f; }
mount --move /proc /newroot/proc; mount --move /sys /newroot/sys; mount --move /dev /newroot/dev
exec switch_root /newroot /sbin/dom0-init
END
chmod 755 "$I"/init
( cd "$I" && find . | cpio -o -H newc --quiet ) > initrd.cpio
SIZE=$(du -sm "$ROOT" | cut -f1)
mke2fs -q -F -t ext4 -O ^has_journal -m0 -d "$ROOT" rootfs.img $((SIZE*12/10+200))M
DEBS=$(du -sm debs | cut -f1)
rm -rf debs initrd.d dpkg-status
echo "build.sh: $((SECONDS-T0)) s, $DEBS MiB downloaded, root file system $SIZE MiB, kernel $KERNEL" >&2
