#!/bin/bash
# mk.sh OUTDIR: makes the tools that scenarios use in dom0: `picture` (needs libpng-dev, linked statically: dom0 has no libpng)
# and the scripts, which run as they are.
set -euo pipefail
HERE=$(cd "$(dirname "$0")" && pwd)
[ $# = 1 ] || { echo "usage: mk.sh OUTDIR" >&2; exit 2; }
mkdir -p "$1"
gcc -std=gnu11 -O2 -Wall -Wextra -Werror -o "$1/picture" "$HERE/picture.c" -l:libpng16.a -lz -lm
install -m755 "$HERE"/*.py "$HERE"/screendump.sh "$1/"
