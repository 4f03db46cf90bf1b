#!/bin/bash
# Writes the table of docs/fuzzing.md from fuzz/figures.tsv, in which each run of a fuzzer is a line: day, target, seconds of a processor,
# executions, edges of code reached, findings.
set -euo pipefail
cd "$(dirname "$0")/.."

table() {
    echo "| target | processor minutes without a finding | executions | edges of code reached | committed inputs | findings, all mended | last run |"
    echo "|---|---|---|---|---|---|---|"
    for target in $(sed -n 's/^name = "\([a-z]*\)"$/\1/p' fuzz/Cargo.toml); do
        inputs=$(find "fuzz/seeds/$target" "fuzz/corpus/$target" -type f 2> /dev/null | wc -l)
        # A finding begins the count anew.
        awk -F '\t' -v target="$target" -v inputs="$inputs" '
            $2 == target { day = $1; edges = $5; found += $6; seconds = $6 ? 0 : seconds + $3; executed = $6 ? 0 : executed + $4 }
            END {
                left = seconds < 1800 ? sprintf(" (%d to go)", (1800 - seconds + 59) / 60) : ""
                printf "| `%s` | %.1f%s | %.1f million | %d | %d | %d | %s |\n",
                    target, seconds / 60, left, executed / 1e6, edges, inputs, found, day ? day : "never"
            }' fuzz/figures.tsv
    done
}

table > target/fuzz/table
awk -v table=target/fuzz/table '
    /^<!-- figures: / { print; while ((getline line < table) > 0) print line; skip = 1; next }
    /^<!-- end of figures -->/ { skip = 0 }
    !skip' docs/fuzzing.md > target/fuzz/fuzzing.md
cp target/fuzz/fuzzing.md docs/fuzzing.md
