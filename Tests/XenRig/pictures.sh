# pictures.sh: sourced by rig.t and renew.sh. QEMU's half of the picture comparisons is in pictures/SET, with what it was
# made of in made-of.txt there. It is compared with only as long as that is what it would be made of today.
PICTURE_SETS="modes linux boot-menu"

# made_of SET RIG: what QEMU's pictures of SET are made of: the guest's sources, and the versions of what runs it.
made_of() {
  local files packages="qemu-system-xen qemu-system-data seabios"
  case $1 in
    modes) files=$(cd "$HERE/guest" && echo modes*.[ch] screen.[ch] bios.S start.S lib.c guest.h guest.ld mk.sh);;
    linux) files="linux/init linux/card linux/mk.sh" packages+=" linux-image-[0-9]+[.][^[:space:]]+ busybox-static";;
    boot-menu) files="";;
  esac
  [ -z "$files" ] || (cd "$HERE/guest" && sha256sum $files)
  for package in $packages; do grep -xE "$package .*" "$2/packages.txt"; done
}
# stale SET RIG: says why the pictures of SET are not to be compared with, and succeeds, if so.
stale() {
  [ -e "$HERE/pictures/$1/made-of.txt" ] || { echo "there are no pictures of '$1'"; return; }
  local changed
  changed=$(diff <(made_of "$1" "$2") "$HERE/pictures/$1/made-of.txt" |
    sed -nE 's/^[<>] ([0-9a-f]{64} +)?//p' | sort -u | paste -sd ';')
  [ -z "$changed" ] || echo "the pictures of '$1' were made of something else: $changed"
  [ -n "$changed" ]
}
