#!/bin/bash
# The root of a Debian 13 with systemd 257 for `make test-257`.
exec "$(dirname "$0")/root.sh" trixie
