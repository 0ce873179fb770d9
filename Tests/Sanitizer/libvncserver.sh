#!/bin/sh
# libvncserver.sh FOLDER: builds libvncserver as Debian has it, but with the address sanitiser in it, and prints the folder to put into
# LD_LIBRARY_PATH. Built once for each version, compiler and text of this script.
#
# Debian's source package gives the code with Debian's patches; what it was configured with is in the installed header rfbconfig.h, which the
# exporter is compiled with, too: so the two agree about every structure.
set -eu

mkdir -p "$1"
folder=$(readlink -f "$1")
package=libvncserver1
clang=$(dirname "$(readlink -f "$(command -v "${SWIFT:-swift}")")")/clang
version=$(dpkg-query -W -f '${Version}' $package)
name=$({ echo "$version"; "$clang" --version; cat /usr/include/rfb/rfbconfig.h "$0"; } | sha256sum | cut -c 1-16)
built=$folder/libvncserver-$name
if [ -e "$built/libvncserver.so.1" ]; then
  echo "$built"
  exit
fi

work=$(mktemp -d "$folder/libvncserver.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM
cd "$work"
mkdir -p lists/partial cache/partial

# The sources are where the packages come from; the machine's own list is left as it is.
apt-get indextargets --format '$(SITE) $(RELEASE) $(COMPONENT)' 'Identifier: Packages' | sort -u | while read -r site release component; do
  echo "deb-src [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $site $release $component"
done > sources.list
apt() {
  apt-get -qq -o Dir::Etc::SourceList="$work/sources.list" -o Dir::Etc::SourceParts=/dev/null -o Dir::State::Lists="$work/lists" \
    -o Dir::Cache="$work/cache" -o APT::Sandbox::User=root "$@" >&2
}
apt update
apt source "libvncserver=$version"
cd libvncserver-*/

# The package's own list of files (CMakeLists.txt). `-w`: the warnings are its authors' affair.
sources="common/vncauth.c common/sockets.c common/crypto_libgcrypt.c common/turbojpeg.c common/base64.c"
for name in main rfbserver rfbregion auth sockets stats corre hextile rre translate cutpaste httpd cursor font draw selbox cargs ultra scale \
  rfbssl_gnutls zlib zrle zrleoutstream zrlepalettehelper tight websockets ws_decode; do
  sources="$sources libvncserver/$name.c"
done
for name in rfbtightserver handlefiletransferrequest filetransfermsg filelistinfo; do
  sources="$sources libvncserver/tightvnc-filetransfer/$name.c"
done
mkdir "$work/built"
"$clang" -shared -fPIC -O1 -g -w -fsanitize=address -fno-omit-frame-pointer -I. -Icommon -Ilibvncserver \
  -Wl,-soname,libvncserver.so.1 -o "$work/built/libvncserver.so.1" $sources -lz -llzo2 -ljpeg -lgcrypt -lgnutls -lpthread >&2
mv "$work/built" "$built"
echo "$built"
