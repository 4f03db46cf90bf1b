#!/bin/bash
# The packages as a packager sees them: built in two folders and compared bit by bit, how large, what the program is linked
# to, which files, and what lintian and rpmlint say. Prints what it finds; fails on the first that is not as it should be.
set -euo pipefail
cd "$(dirname "$0")/.."

fail() {
    echo "lint-packages: $*" >&2
    exit 1
}

rm -rf target/debian target/generate-rpm
make --no-print-directory deb rpm > /dev/null
deb=$(echo target/debian/*.deb) rpm=$(echo target/generate-rpm/*.rpm)
program=target/package/deb/usr/bin/project-cluster

size=$(stat --format %s "$program")
echo "program: $size bytes; .deb: $(stat --format %s "$deb"); .rpm: $(stat --format %s "$rpm")"
[ "$size" -lt 8000000 ] || fail "the program has 8 MB or more"

dynamic=$(readelf --dynamic --wide "$program")
echo "linked to: $(echo "$dynamic" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' | paste -sd ' ')"
# The loader is the C library's own.
echo "$dynamic" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' | grep -vE '^(libc\.so\.6|ld-linux.*)$' && fail "it is linked to more than the C library"
for flag in BIND_NOW PIE; do
    echo "$dynamic" | grep -q "$flag" || fail "the program has no $flag"
done
readelf --program-headers --wide "$program" | grep -q GNU_RELRO || fail "its relocations are not read-only"
if ld --help | grep -q pack-relative-relocs; then
    echo "$dynamic" | grep -q '(RELR)' || fail "its relative relocations are not packed"
fi
if grep -qF -e "$PWD" -e "${CARGO_HOME:-$HOME/.cargo}" "$program"; then fail "the program holds a path of this machine"; fi

# The packages are their trees, whole: names, modes, owners, contents.
listed() { (cd "$1" && find . -type f ! -path ./usr/share/doc/project-cluster/copyright -printf '%m %P\n' | sort -k 2); }
unpacked=$(mktemp --directory)
trap 'rm -rf "$unpacked"' EXIT
chmod 0755 "$unpacked"
dpkg-deb --extract "$deb" "$unpacked/deb"
mkdir "$unpacked/rpm"
# It fails where a package does not say how long its archive is, as those of cargo-generate-rpm; what is in it is compared below.
rpm --checksig "$rpm" > /dev/null || fail "the .rpm is damaged"
{ rpm2cpio "$rpm" || :; } | (cd "$unpacked/rpm" && cpio --quiet --extract --make-directories --preserve-modification-time)
for kind in deb rpm; do
    diff <(listed "target/package/$kind") <(listed "$unpacked/$kind") || fail "the .$kind is not target/package/$kind"
    diff --recursive --exclude copyright "target/package/$kind" "$unpacked/$kind" || fail "the .$kind has other contents"
    cmp packaging/copyright "$unpacked/$kind/usr/share/doc/project-cluster/copyright"
done
echo "files: $(listed "$unpacked/deb" | wc -l) in the .deb, $(listed "$unpacked/rpm" | wc -l) in the .rpm, as make install has them"
dpkg-deb --contents "$deb" | awk '$2 != "root/root" && $2 != "0/0"' | grep . && fail "not all of it is root's"

lintian --fail-on error,warning --tag-display-limit 0 "$deb" || fail "lintian"
echo "lintian: no error, no warning"
rpmlint --config packaging/rpm/rpmlint.toml "$rpm" || fail "rpmlint"

# From nothing, in another folder, under another umask, time zone and locale.
elsewhere=$unpacked/another/folder
mkdir -p "$elsewhere/target"
git ls-files -z --cached --others --exclude-standard | tar --create --null --files-from=- | tar --extract --directory "$elsewhere"
ln -s "$PWD/target/tools" "$elsewhere/target/tools"
(umask 077 && TZ=Asia/Tokyo LC_ALL=C make --directory "$elsewhere" --no-print-directory deb rpm > /dev/null)
cmp "$deb" "$elsewhere/$deb" || fail "the .deb is another one when it is built elsewhere"
cmp "$rpm" "$elsewhere/$rpm" || fail "the .rpm is another one when it is built elsewhere"
sha256sum "$deb" "$rpm"
echo "reproducible: two builds in different folders are the same, bit by bit"

# The tarball, where the toolchain can make it; else what it says is missing.
sysroot=$(rustc --print sysroot)
musl=$(uname -m)-unknown-linux-musl
if [ -d "$sysroot/lib/rustlib/$musl" ] && command -v musl-gcc > /dev/null; then
    rm -rf target/tarball "$elsewhere/target/tarball"
    make --no-print-directory tarball > /dev/null
    (umask 077 && TZ=Asia/Tokyo LC_ALL=C make --directory "$elsewhere" --no-print-directory tarball > /dev/null)
    tarball=$(echo target/tarball/*.tar.gz)
    cmp "$tarball" "$elsewhere/$tarball" || fail "the tarball is another one when it is built elsewhere"
    mkdir "$unpacked/tarball"
    tar --extract --file "$tarball" --directory "$unpacked/tarball"
    program=$unpacked/tarball/usr/local/bin/project-cluster
    readelf --dynamic --wide "$program" | grep '(NEEDED)' && fail "the tarball's program needs a library"
    readelf --program-headers --wide "$program" | grep INTERP && fail "the tarball's program needs a loader"
    sha256sum "$tarball"
    echo "tarball: needs no library and no loader, and two builds are the same, bit by bit"
else
    said=$(make --no-print-directory tarball 2>&1 > /dev/null) && fail "make tarball ends well without $musl or musl-gcc"
    if [ -d "$sysroot/lib/rustlib/$musl" ]; then missing="musl-gcc compiles SQLite"; else missing="the toolchain has no $musl: 'rustup target add $musl'"; fi
    [[ $said == *"make tarball: $missing"* ]] || fail "make tarball does not say what is missing: $said"
    echo "tarball: not made here: $(echo "$said" | head -n 1)"
fi
