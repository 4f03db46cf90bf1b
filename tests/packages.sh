#!/bin/bash
# Makes what the tests of packages install (tests/it/packages.rs), below target/test-packages, and prints that directory:
#
#   this.deb    what `make deb` and `make rpm` give, `this.rpm` too
#   next.deb    the version behind it, which keeps the same: made of a copy of this tree with a higher version and nothing
#               else, compiled without optimization; `next.rpm` too
#   newer.deb   one that keeps what this one cannot read: the number of all formats is raised as well
#
# With BINARY=PROGRAM `this` has that program and nothing is optimized: for who works on the tests themselves.
set -euo pipefail
cd "$(dirname "$0")/.."

out=$PWD/target/test-packages
version=$(sed -n 's/^version = "\(.*\)"/\1/p;T;q' Cargo.toml)
IFS=. read -r major minor patch <<< "$version"
mkdir -p "$out"

packages() { # DIRECTORY NAME MAKE-ARGUMENT...: of the tree in that directory
    rm -rf "$1/target/debian" "$1/target/generate-rpm"
    make --directory "$1" --no-print-directory deb rpm "${@:3}" >&2
    cp "$1"/target/debian/*.deb "$out/$2.deb"
    cp "$1"/target/generate-rpm/*.rpm "$out/$2.rpm"
}

copy() { # NAME VERSION FORMATS
    local tree=$out/$1
    rm -rf "$tree"
    mkdir -p "$tree/target"
    git ls-files -z --cached --others --exclude-standard | tar --create --null --files-from=- | tar --extract --directory "$tree"
    ln -sfnT "$PWD/target/tools" "$tree/target/tools"
    sed -i "0,/^version = .*/s//version = \"$2\"/" "$tree/Cargo.toml"
    sed -i "/^name = \"project-cluster\"/{n;s/.*/version = \"$2\"/}" "$tree/Cargo.lock"
    sed -i "1s/(.*)/($2)/" "$tree/packaging/changelog"
    sed -i "s/^pub const FORMAT: u32 = .*/pub const FORMAT: u32 = $3;/" "$tree/src/units/install/disk.rs"
    sed -i "s/^reads=.*/reads=$3/" "$tree/packaging/debian/preinst"
    cargo build --quiet --locked --manifest-path "$tree/Cargo.toml" --target-dir "$out/build" --bin project-cluster >&2
    strip -o "$tree/target/program" "$out/build/debug/project-cluster"
    packages "$tree" "$1" BINARY=target/program
}

formats=$(sed -n 's/^pub const FORMAT: u32 = \(.*\);/\1/p' src/units/install/disk.rs)
packages . this ${BINARY:+BINARY="$BINARY"}
copy next "$major.$minor.$((patch + 1))" "$formats"
copy newer "$major.$((minor + 1)).0" $((formats + 1))
echo "$out"
