#!/bin/bash
# The soak (examples/soak), and docs/soak.md of it where it is of full length. `make soak` calls it, as root.
set -uo pipefail
cd "$(dirname "$0")/.." || exit

cargo=${CARGO:-cargo}
text=$(mktemp)
trap 'rm -f "$text"' EXIT

"$cargo" build --release --quiet --example echo_axum || exit
"$cargo" run --release --quiet --example soak | tee "$text"
code=${PIPESTATUS[0]}

if [ "$code" -eq 0 ] && [ -z "${SOAK_SECONDS-}${REPLACEMENTS-}${REQUESTS-}" ]; then
    {
        echo "# Soak"
        echo
        echo "Made by \`make soak\`. Plain servers, none of which handles SIGTERM, four workers each, reloaded one app after the other without"
        echo "a pause, while 192 clients ask: a POST on a new connection each, handlers of 0 to 200 ms. Each answer must bear its request's"
        echo "number and its body's hash. It also bears its process and how many requests that has had: a gap there is a request that was"
        echo "executed without an answer, or twice. Every 30 s one fault happens that kills no worker."
        echo
        echo "| | |"
        echo "|---|---|"
        echo "| date | $(date --utc '+%Y-%m-%d %H:%M UTC') |"
        echo "| commit | $(git rev-parse --short HEAD 2> /dev/null || echo unknown)$(git diff --quiet HEAD 2> /dev/null || echo ', with changes') |"
        echo "| processors, kernel | $(nproc), $(uname -sr) |"
        echo "| systemd | $(systemctl --version | head -n 1) |"
        echo
        cat "$text"
    } > docs/soak.md.new && mv docs/soak.md.new docs/soak.md
    echo "soak: docs/soak.md is written" >&2
fi
exit "$code"
