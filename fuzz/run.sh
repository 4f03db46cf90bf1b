#!/bin/bash
# Runs the fuzzers one after another and adds what came of it to docs/fuzzing.md. `make fuzz` calls it.
#
# TARGET: one or more of their names, all by default. SECONDS_EACH: how long each, 1800 by default. What they find beyond the
# committed inputs is kept in fuzz/grown (not committed); the fewest of all that reach the same code become fuzz/corpus.
# A finding ends its target, lies in fuzz/artifacts/TARGET, and the exit code is 1.
set -euo pipefail
cd "$(dirname "$0")/.."

each=${SECONDS_EACH:-1800}
read -r -a targets <<< "${TARGET:-$(sed -n 's/^name = "\([a-z]*\)"$/\1/p' fuzz/Cargo.toml | tr '\n' ' ')}"

# The fuzzers are instrumented by flags that a stable compiler takes as well when it is told so; they need no sanitizer, whose
# flags it does not take: what is fuzzed is safe Rust.
export RUSTC_BOOTSTRAP=1
# Finding the names of a stack takes longer than a finding may on a busy machine.
export RUST_BACKTRACE=0
cargo fuzz build --fuzz-dir fuzz --sanitizer none
built=fuzz/target/$(rustc -vV | sed -n 's/^host: //p')/release

failed=0
for target in "${targets[@]}"; do
    mkdir -p "fuzz/grown/$target" "fuzz/corpus/$target" "fuzz/artifacts/$target" target/fuzz
    log=target/fuzz/$target.log
    echo "fuzz: $target, $each s"
    code=0
    touch target/fuzz/begun
    # Processor time, not the clock's: on a machine that others use it is little of it.
    TIMEFORMAT='%U'
    { time nice -n 19 "$built/$target" "fuzz/grown/$target" "fuzz/corpus/$target" "fuzz/seeds/$target" \
        -max_total_time="$each" -max_len=8192 -timeout=30 -rss_limit_mb=2048 -print_final_stats=1 -close_fd_mask=3 \
        -artifact_prefix="fuzz/artifacts/$target/" 2> "$log" || code=$?; } 2> "target/fuzz/took"
    [ "$code" -eq 0 ] || failed=1
    # `#1234 DONE cov: 567 ft: ...`, and before a finding the last line of that form.
    covered=$(grep -oE 'cov: [0-9]+' "$log" | tail -n 1 | grep -oE '[0-9]+' || echo 0)
    executed=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
    took=$(grep -oE '^[0-9]+' target/fuzz/took)
    printf '%s\t%s\t%s\t%s\t%s\t%s\n' "$(date --utc +%Y-%m-%d)" "$target" "${took:-0}" "${executed:-0}" "$covered" \
        "$([ "$code" -eq 0 ] && echo 0 || echo 1)" >> fuzz/figures.tsv
    if [ "$code" -eq 0 ]; then
        fewest=target/fuzz/$target.fewest
        rm -rf "$fewest" && mkdir -p "$fewest"
        nice -n 19 "$built/$target" -set_cover_merge=1 -use_counters=0 -max_len=8192 -close_fd_mask=3 "$fewest" \
            "fuzz/seeds/$target" "fuzz/corpus/$target" "fuzz/grown/$target" 2>> "$log"
        # What is a seed already is not committed twice.
        for seed in fuzz/seeds/"$target"/*; do rm -f "$fewest/$(sha1sum "$seed" | cut -d ' ' -f 1)"; done
        rm -rf "fuzz/corpus/$target" && mv "$fewest" "fuzz/corpus/$target"
    else
        echo "fuzz: $target found something: the end of $log, and the input in fuzz/artifacts/$target" >&2
        # Once more, to be read.
        find "fuzz/artifacts/$target" -type f -newer "target/fuzz/begun" -exec "$built/$target" {} \; >&2 || true
    fi
done
fuzz/table.sh
exit "$failed"
