#!/bin/bash
# Runs the faults of tests/it/faults, and those of tests/it/machine.rs in the virtual machine, and writes docs/faults.md of what
# they saw. `make faults` calls it, as root. `tests/faults.sh sandbox` leaves the machine out and prints instead of writing.
set -uo pipefail
cd "$(dirname "$0")/.." || exit

cargo=${CARGO:-cargo}
target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
rows=$target/faults
only=${1-}

failed=0
# One row a test; what fails leaves none.
if [ "$only" != report ]; then
    rm -rf "$rows"
    "$cargo" nextest run --profile faults --no-fail-fast -E 'test(/^faults::.*::/)' || failed=1
fi
if [ -z "$only" ]; then
    machine=$(tests/machine.sh) || exit
    binary=${PROJECT_CLUSTER_BIN:-$target/release/project-cluster}
    PROJECT_CLUSTER_TEST_MACHINE=$machine PROJECT_CLUSTER_BIN=$binary "$cargo" nextest run --profile proof --no-fail-fast -E '
        test(=machine::a_worker_that_eats_memory_is_killed_at_its_limit_and_nobody_else)
        or test(=machine::a_worker_that_forks_without_end_stops_at_its_limit_and_can_be_replaced)
        or test(=machine::the_clock_an_hour_back_and_forth)' || failed=1
fi

table() { # TITLE, then the prefixes of the tests' names
    echo
    echo "## $1"
    echo
    echo "| what happens in the middle of a reload | requests sent | failed (whose) | end | who waits hears | test |"
    echo "|---|---|---|---|---|---|"
    shift
    for prefix in "$@"; do find "$rows" -name "$prefix*" | sort | xargs -r cat; done
}

report() {
    echo "# What may happen in the middle of a reload"
    echo
    echo "Made by \`make faults\`: a test each, on a real systemd, under load: each request on a new connection, counted as answered or"
    echo "failed. The app has three plain Go workers, which SIGTERM ends at once, where the row says nothing else; the reload is to another"
    echo "release. Every test asserts its end, that no other request failed than the row says and explains, that the listening socket"
    echo "is the same, that nobody is doubled, that what waits ends with that code, and that another app does not notice."
    echo
    echo "| | |"
    echo "|---|---|"
    echo "| date | $(date --utc '+%Y-%m-%d %H:%M UTC') |"
    echo "| commit | $(git rev-parse --short HEAD 2> /dev/null || echo unknown)$(git diff --quiet HEAD 2> /dev/null || echo ', with changes') |"
    echo "| processors, kernel | $(nproc), $(uname -sr) |"
    echo "| systemd | $(systemctl --version | head -n 1) |"
    find "$rows" -type f -print0 | xargs -0 cat | awk -F'|' '
        { sent += $3; failed += $4; rows++ }
        END { printf "| faults | %d |\n| requests | %d, failed %d, all of them explained |\n", rows, sent, failed }'
    table "The master" faults.master
    [ -z "$(find "$rows" -name 'faults.drain*')" ] || table "The drain helper" faults.drain
    table "Workers" faults.workers machine.
    table "Rolls that wait for a person, for canaries, for a hook" faults.steered
    table "systemd, its buses, operators" faults.systemd
    table "The host, files and configuration" faults.host
    table "Clients of the API" faults.api
}

if [ "$failed" -eq 0 ]; then
    report > docs/faults.md.new && mv docs/faults.md.new docs/faults.md
    echo "faults: docs/faults.md is written" >&2
fi
exit "$failed"
