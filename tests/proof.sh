#!/bin/bash
# Everything that `make test` has and what is too slow for it, and the report: docs/proof.md. `make proof` calls it.
#
# As root. `tests/proof.sh PART...` runs these parts alone and prints their report instead of writing it; with WRITE=1 it
# writes the report, with what the other parts came to when they last ran: each says of which commit, and when.
set -uo pipefail
cd "$(dirname "$0")/.." || exit

make=${MAKE:-make}
cargo=${CARGO:-cargo}
logs=target/proof
all=(lint full doc explore mutants proof-tests proof-machine faults soak proof-packages test-257 bench)
parts=("${all[@]}")
only=("$@")
[ "$#" -gt 0 ] && parts=("$@")
mkdir -p "$logs"
[ "$#" -gt 0 ] || rm -f "$logs"/*.result

# Ruby and Java too: before the versions are asked for.
[ "$#" -gt 0 ] || tests/setup.sh proof || exit 1

first_line() { if command -v "$1" > /dev/null; then "$@" 2>&1 | head -n 1; else echo "not there"; fi; }

versions() {
    echo "| | |"
    echo "|---|---|"
    echo "| date | $(date --utc '+%Y-%m-%d %H:%M UTC') |"
    echo "| commit | $(git rev-parse --short HEAD 2> /dev/null || echo unknown)$(git diff --quiet HEAD 2> /dev/null || echo ', with changes') |"
    echo "| processors | $(nproc) |"
    echo "| kernel | $(uname -sr) |"
    echo "| systemd | $(first_line systemctl --version), and $(cat "$logs/systemd-257" 2> /dev/null || echo 'no second one') |"
    echo "| rustc | $(first_line rustc --version) |"
    echo "| node | $(first_line node --version) |"
    echo "| go | $(first_line go version) |"
    echo "| python | $(first_line /usr/bin/python3 --version) |"
    echo "| ruby | $(first_line /usr/bin/ruby --version) |"
    echo "| java | $(first_line java -version) |"
    echo "| qemu | $(first_line qemu-system-x86_64 --version) |"
    echo "| wrk | $(first_line wrk --version) |"
}

# Escape sequences out, and nothing of this machine's directories in.
plain() { sed -e 's/\x1b\[[0-9;]*m//g' -e "s|$PWD/||g"; }

# The line or lines that say what a part came to.
result() {
    case $1 in
        lint) echo "rustfmt and clippy, warnings denied" ;;
        doc) echo "cargo doc, warnings denied" ;;
        # The figures are a section of their own.
        bench) echo "see the figures below" ;;
        faults) echo "$(plain < "$logs/faults.log" | grep -E '^ *Summary' | sed 's/^ *//' | paste -sd ';' | sed 's/;/; /g'): [faults.md](faults.md)" ;;
        soak) echo "$(plain < "$logs/soak.log" | grep -E 'workers replaced under') (docs/soak.md)" ;;
        mutants) grep '^mutants:' "$logs/$1.log" ;;
        *) plain < "$logs/$1.log" | grep -E '^ *Summary|^test result:' | sed 's/^ *//' | paste -sd ';' | sed 's/;/; /g' ;;
    esac
}

# What tests of the product print when they pass, each under its name: figures, and what came of what was done to it.
seen() {
    plain < "$logs/$1.log" | awk '
        /^ +Summary/ { over = 1 }
        over && /^ +(PASS|SLOW) .*project-cluster::it / { name = $NF; told = 0; next }
        over && name && /^ +running 1 test$/ { on = 1; next }
        on && /^ +test .* \.\.\. ok$/ { on = 0; if (told) print "```"; name = ""; next }
        on && /has been running for over/ { next }
        on && NF { if (!told) { print "\n### `" name "`\n\n```"; told = 1 }; sub(/^    /, ""); print }'
}

commit() { echo "$(git rev-parse --short HEAD 2> /dev/null || echo unknown)$(git diff --quiet HEAD 2> /dev/null || echo '+changes')"; }

declare -A code took of
failed=0
for part in "${parts[@]}"; do
    echo "proof: $part" >&2
    begun=$SECONDS
    NEXTEST_SUCCESS_OUTPUT=final "$make" --no-print-directory "$part" CARGO="$cargo" > "$logs/$part.log" 2>&1
    code[$part]=$?
    took[$part]=$((SECONDS - begun))
    echo "${code[$part]} ${took[$part]} $(commit) $(date --utc '+%H:%M')" > "$logs/$part.result"
    if [ "${code[$part]}" -ne 0 ]; then
        failed=1
        echo "proof: $part failed, the end of $logs/$part.log:" >&2
        tail -n 40 "$logs/$part.log" >&2
    fi
    if [ "$part" = test-257 ] && root=$(tests/root-257.sh 2> /dev/null); then
        chroot "$root" systemctl --version | head -n 1 > "$logs/systemd-257"
    fi
done

# Those that ran earlier.
if [ -n "${WRITE-}" ]; then
    parts=()
    for part in "${all[@]}"; do [ -e "$logs/$part.result" ] && parts+=("$part"); done
fi
for part in "${parts[@]}"; do
    read -r "code[$part]" "took[$part]" "of[$part]" < <(sed 's/ \([^ ]*\)$/, \1/' "$logs/$part.result")
done

report() {
    echo "# Proof"
    echo
    echo "Made by \`make proof\`. [testing.md](testing.md) says what each part is."
    echo
    versions
    echo
    echo "## Parts"
    echo
    echo "| part | exit code | seconds | of commit, at (UTC) | result |"
    echo "|---|---|---|---|---|"
    for part in "${parts[@]}"; do
        echo "| \`make $part\` | ${code[$part]} | ${took[$part]} | ${of[$part]} | $(result "$part" | sed 's/|/\\|/g') |"
    done
    if [ -n "${code[proof-packages]-}" ]; then
        echo
        echo "## Packages"
        echo
        echo '```'
        plain < "$logs/proof-packages.log" | grep -E '^(program|linked to|files|lintian|reproducible|[0-9a-f]{64}) ?|packages and .* specfiles checked'
        echo '```'
    fi
    if [ -n "${code[proof-tests]-}${code[proof-machine]-}${code[proof-packages]-}${code[full]-}" ]; then
        echo
        echo "## What the tests saw"
        for part in proof-tests proof-machine proof-packages full; do [ -z "${code[$part]-}" ] || seen "$part"; done
    fi
    if [ -n "${code[bench]-}" ]; then
        echo
        echo "## Figures"
        echo
        # What cargo and make say of building is no figure.
        plain < "$logs/bench.log" | grep -vE '^ *(Compiling|Finished|Running|Downloaded|Downloading|Blocking|Locking|Updating) |^(cargo|tests/setup.sh)|^setup:' |
            awk '/^\|/ { if (!table) print ""; table = 1; print; next } { if (table) print ""; table = 0; if ($0 != "") print "- " $0 }'
    fi
}

if [ "${#only[@]}" -eq 0 ] || [ -n "${WRITE-}" ]; then
    report > docs/proof.md.new && mv docs/proof.md.new docs/proof.md
    echo "proof: docs/proof.md is written" >&2
else
    report
fi
exit "$failed"
