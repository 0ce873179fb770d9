#!/bin/bash
# renew.sh pictures     takes QEMU's half of the picture comparisons anew and puts it, small, into pictures/
# renew.sh seconds OUT  from now on scenarios are shared out by the table of the whole run that left OUT (DEMUX_RIG_OUT)
set -euo pipefail
HERE=$(cd "$(dirname "$0")" && pwd)
. "$HERE/pictures.sh"
case ${1-} in
  seconds)
    [ -s "${2-}/seconds.txt" ] || { echo "renew.sh: '${2-}' has no seconds.txt of a run" >&2; exit 1; }
    cp "$2/seconds.txt" "$HERE/seconds.txt";;
  pictures)
    W=$(mktemp -d); trap 'rm -rf "$W"' EXIT
    RIG=$("$HERE/run.sh" -b)
    "$HERE/tools/mk.sh" "$W/tools"
    # Without a stage there is QEMU's half only.
    env -u DEMUX_STAGE -u DEMUX_TEST_FULL DEMUX_RIG_PICTURES=take DEMUX_RIG_OUT="$W/out" \
      prove --verbose --formatter TAP::Formatter::Console "$HERE/rig.t" :: 80-modes 82-linux 84-boot-menu
    for set in $PICTURE_SETS; do
      rm -rf "$HERE/pictures/$set"; mkdir -p "$HERE/pictures/$set"
      for picture in "$W"/out/*/share/logs/"$set"-qemu/*.png; do
        "$W/tools/picture" small "$picture" "$HERE/pictures/$set/$(basename "$picture")"
      done
      made_of "$set" "$RIG" > "$HERE/pictures/$set/made-of.txt"
    done
    du -sk "$HERE/pictures";;
  *) sed -n '2,3s/^# //p' "$0" >&2; exit 2;;
esac
