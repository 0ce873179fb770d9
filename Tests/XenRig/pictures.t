#!/bin/bash
# pictures.t: pictures that were made of something else than today's sources and packages are not compared with, in words.
set -u
TOP=$(cd "$(dirname "$0")" && pwd)
HERE=$(mktemp -d); trap 'rm -rf "$HERE"' EXIT
. "$TOP/pictures.sh"
N=0
is() {                                  # SENTENCE GOT WANTED
  N=$((N + 1))
  if [ "$2" = "$3" ]; then echo "ok $N - $1"; else echo "not ok $N - $1"; echo "# got '$2', wanted '$3'"; fi
}
cp -r "$TOP/guest" "$HERE/"; mkdir -p "$HERE/rig" "$HERE/pictures/modes"
versions() { printf '%s\n' "qemu-system-xen $1" "qemu-system-data 7.2" "seabios 1.16" "bash 5.2" > "$HERE/rig/packages.txt"; }
versions 7.2
is "pictures that are not there are missed" "$(rm -rf "$HERE/pictures/linux"; stale linux "$HERE/rig")" \
  "there are no pictures of 'linux'"
made_of modes "$HERE/rig" > "$HERE/pictures/modes/made-of.txt"
is "pictures of today's sources and packages are good" "$(stale modes "$HERE/rig" || echo good)" good
versions 7.3
is "another version is named" "$(stale modes "$HERE/rig")" \
  "the pictures of 'modes' were made of something else: qemu-system-xen 7.2;qemu-system-xen 7.3"
versions 7.2; echo "// changed" >> "$HERE/guest/modes.c"
is "a changed source is named" "$(stale modes "$HERE/rig")" "the pictures of 'modes' were made of something else: modes.c"
for set in $PICTURE_SETS; do
  is "there are pictures of '$set', small and with what they are made of" \
    "$([ -s "$TOP/pictures/$set/made-of.txt" ] && find "$TOP/pictures/$set" -name '*.png' -size +0 -size -64k | head -n 1 | grep -c .)" 1
done
echo "1..$N"
