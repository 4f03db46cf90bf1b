#!/bin/bash
# Makes, once, the root of a Debian release with systemd in the cache of the user and outside the repository, and prints its
# path. `tests/root.sh bookworm`: systemd 252; `tests/root.sh trixie`: systemd 257. Needs root and the network.
set -euo pipefail

suite=$1
# Bare, but for what the tests' apps and clients are, and rpm, for the tests of that package.
packages=systemd,systemd-sysv,dbus,polkitd,libnss-systemd,nodejs,python3,procps,iproute2,curl,strace,rpm
cache=${XDG_CACHE_HOME:-$HOME/.cache}/project-cluster
# The list is part of the name: another list is another root.
root=$cache/$suite-$(echo "$packages" | cksum | cut -d' ' -f1)

if [ ! -d "$root" ]; then
    mkdir -p "$cache"
    exec 9> "$cache/lock"
    flock 9
fi
if [ ! -d "$root" ]; then
    if ! command -v mmdebstrap > /dev/null; then
        echo "root: missing: mmdebstrap; installing it with apt-get" >&2
        { apt-get install -y --no-install-recommends mmdebstrap || { apt-get update && apt-get install -y --no-install-recommends mmdebstrap; }; } >&2
    fi
    echo "root: making $root" >&2
    rm -rf "$root.new"
    mmdebstrap --quiet --variant=minbase --include="$packages" "$suite" "$root.new" >&2
    mv -T "$root.new" "$root"
fi
echo "$root"
