#!/bin/bash
# qemu.sh OUTDIR: QEMU of Debian's bookworm-backports as OUTDIR/qemu, a program that finds its firmware in OUTDIR, and
# its libraries there or, those that this machine has, where they are: for measuring the rig with it, `QEMU=OUTDIR/qemu`
# (README.md says why it is not the rig's own). The packages come from where this machine's apt gets bookworm; nothing is
# installed, and apt's own lists stay as they are.
set -euo pipefail
[ $# = 1 ] || { echo "usage: qemu.sh OUTDIR" >&2; exit 2; }
mkdir -p "$1"; OUT=$(cd "$1" && pwd); cd "$OUT"
KEYS=/usr/share/keyrings/debian-archive-keyring.gpg
SITE=$(apt-get indextargets --format '$(SITE) $(RELEASE) $(COMPONENT)' 'Identifier: Packages' |
  awk '$2 == "bookworm" && $3 == "main" { print $1; exit }')
[ -n "$SITE" ] || { echo "qemu.sh: apt is not configured to look for bookworm's packages anywhere" >&2; exit 1; }
mkdir -p apt/lists/partial apt/archives/partial
for suite in bookworm bookworm-backports; do echo "deb [signed-by=$KEYS] $SITE $suite main"; done > apt/sources.list
# apt as if it had these sources alone; what this machine has installed counts.
get() {
  apt-get -o Dir::Etc::SourceList="$OUT/apt/sources.list" -o Dir::Etc::SourceParts=/dev/null \
    -o Dir::State::Lists="$OUT/apt/lists" -o Dir::Cache="$OUT/apt" -o Debug::NoLocking=1 -o APT::Sandbox::User=root \
    -o Acquire::http::Timeout=20 -o Acquire::Retries=1 -o APT::Install-Recommends=false "$@" >> apt/log 2>&1 ||
    { tail -n 10 apt/log >&2; return 1; }
}
{ get update -o APT::Update::Error-Mode=any &&
  get -y --download-only -t bookworm-backports install qemu-system-x86; } ||
  { echo "qemu.sh: bookworm-backports could not be reached, or has no qemu-system-x86" >&2; exit 1; }
for deb in apt/archives/*.deb; do dpkg-deb --extract "$deb" root; done
[ -x root/usr/bin/qemu-system-x86_64 ] || { echo "qemu.sh: this machine's QEMU is that of backports already" >&2; exit 1; }
rm -rf apt
cat > qemu <<'END'
#!/bin/bash
R=$(dirname "$(readlink -f "$0")")/root
export LD_LIBRARY_PATH=$R/usr/lib/x86_64-linux-gnu:$R/lib/x86_64-linux-gnu
exec "$R/usr/bin/qemu-system-x86_64" -L "$R/usr/share/qemu" -L "$R/usr/share/seabios" "$@"
END
chmod 755 qemu
./qemu --version | head -n 1 >&2
