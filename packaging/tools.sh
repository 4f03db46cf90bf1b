#!/bin/sh
# What makes packages beside make and gzip, compiled by cargo below target/tools where it is not there in this version.
set -eu
cd "$(dirname "$0")/.."

tool() { # NAME VERSION
    if [ "$(cat "target/tools/$1.version" 2> /dev/null)" != "$2" ] || [ ! -x "target/tools/bin/$1" ]; then
        echo "packaging: missing: $1 $2; building it with cargo, which takes some minutes" >&2
        cargo install --locked --force --root target/tools --version "$2" "$1"
        echo "$2" > "target/tools/$1.version"
    fi
}

tool cargo-deb 3.8.0
tool cargo-generate-rpm 0.21.1
