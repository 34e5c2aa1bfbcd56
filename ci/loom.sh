#!/bin/bash
# Runs the loom models of the store (latch, reclaim, lock, publish to refresh), then each mutant of them, which must fail.
#
# A mutant (cfg flags_mutant="name"; here all are in one build, and FLAGS_MUTANT chooses) leaves out one fence or weakens one ordering in core/src/store/*.rs; one
# that passes every model means that a model is too small or a fence not needed. LOOM_MAX_PREEMPTIONS (3) bounds the search.
#
# A mutant is shown to the models of its own kind first, then to the others, the quick ones first; the first that fails will do.
set -euo pipefail
cd "$(dirname "$0")/.."

export LOOM_MAX_PREEMPTIONS="${LOOM_MAX_PREEMPTIONS:-3}"
target="${CARGO_TARGET_DIR:-target}/loom"
logs="$target/models"

# The models, a line each: milliseconds it takes, name.
models() { sort -n "$logs"/*.time; }

model() {
    local name=$1 start
    start=$(date +%s%N)
    if "$PROGRAM" --exact "$name" >"$logs/$name.log" 2>&1 && grep -q '^test .* ok$' "$logs/$name.log"; then
        echo "test $name ... ok"
        echo "$((($(date +%s%N) - start) / 1000000)) $name" >"$logs/$name.time"
    else
        cat "$logs/$name.log" >&2
        echo "loom: $name fails" >&2
        return 255
    fi
}

mutant() {
    local mutant=$1 log="$logs/mutant-$1.log" kind=${1%%_*} all own others name
    all=$(models | cut -d' ' -f2)
    own=$(grep "::loom_$kind" <<<"$all" || true)
    others=$(grep -v "::loom_$kind" <<<"$all" || true)
    for name in $own $others; do
        if FLAGS_MUTANT="$mutant" timeout 300 "$PROGRAM" --exact "$name" >"$log" 2>&1; then
            continue
        elif grep -q '^test .* FAILED$' "$log" || grep -q 'panicked at' "$log"; then
            echo "mutant $mutant: found by ${name##*::}"
            return
        fi
        cat "$log" >&2
        echo "loom: mutant $mutant did not fail as a model fails" >&2
        return 255
    done
    echo "mutant $mutant: SURVIVED"
}

if [ $# -eq 2 ]; then
    "$1" "$2"
    exit
fi
rm -rf "$logs"
mkdir -p "$logs"
# The names of the mutants are known to this crate alone: they are not in RUSTFLAGS.
RUSTFLAGS="--cfg loom" CARGO_PROFILE_TEST_OPT_LEVEL=2 CARGO_PROFILE_TEST_DEBUG=false CARGO_TARGET_DIR="$target" \
    cargo rustc --quiet --package libflags --lib --profile test --message-format json -- \
    --cap-lints allow --cfg 'flags_mutant="chosen"' >"$logs/build.json" || { cat "$logs/build.json" >&2; exit 1; }
PROGRAM=$(sed -n 's/.*"executable":"\([^"]*libflags-[^"]*\)".*/\1/p' "$logs/build.json" | tail -n 1)
export PROGRAM

# Each is one thread.
at_once() { xargs --max-args 1 --max-procs "$(nproc)" bash ci/loom.sh "$1"; }

"$PROGRAM" --list loom_ | sed -n 's/: test$//p' | at_once model
count=$(models | wc -l)
[ "$count" -ge 13 ] || { echo "loom: fewer models ran than there are" >&2; exit 1; }

mutants=$(sed -n 's/.*\(ordering!(\|mutant!(\)"\([a-z_]*\)".*/\2/p' core/src/store/*.rs | sort -u)
[ -n "$mutants" ] || { echo "loom: no mutants found" >&2; exit 1; }
at_once mutant <<<"$mutants" | tee "$logs/mutants"
found=$(grep -c ': found by' "$logs/mutants" || true)
survivors=$(sed -n 's/^mutant \(.*\): SURVIVED$/\1/p' "$logs/mutants")
[ -z "$survivors" ] || { echo "loom: no model notices:" $survivors >&2; exit 1; }
[ "$found" -eq "$(wc -l <<<"$mutants")" ] || { echo "loom: a mutant was lost" >&2; exit 1; }
echo "$((count + found)) passed, 0 failed"
