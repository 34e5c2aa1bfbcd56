#!/bin/sh
# Runs the loom models of the store (latch, reclaim, lock, publish to refresh), then each mutant of them, which must fail.
#
# A mutant (cfg flags_mutant="name"; here all are in one build, and FLAGS_MUTANT chooses) leaves out one fence or weakens one ordering in core/src/store/*.rs; one
# that passes every model means that a model is too small or a fence not needed. LOOM_MAX_PREEMPTIONS (3) bounds the search.
set -eu
cd "$(dirname "$0")/.."

export LOOM_MAX_PREEMPTIONS="${LOOM_MAX_PREEMPTIONS:-3}"
export RUSTFLAGS="--cfg loom"
export CARGO_PROFILE_TEST_OPT_LEVEL=2
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-target}/loom"
log="$CARGO_TARGET_DIR/models.log"
mkdir -p "$CARGO_TARGET_DIR"

# Only this crate is built again for the mutants: the flag is not in RUSTFLAGS.
build() {
    cargo rustc --quiet --package libflags --lib --profile test --message-format json -- --cap-lints allow "$@" >"$log.build" ||
        { cat "$log.build" >&2; exit 1; }
    program=$(sed -n 's/.*"executable":"\([^"]*libflags-[^"]*\)".*/\1/p' "$log.build" | tail -n 1)
}

build
"$program" loom_ >"$log" 2>&1 || { cat "$log" >&2; echo "loom: a model fails" >&2; exit 1; }
grep '^test ' "$log"
models=$(grep -c '^test .* ok$' "$log")
[ "$models" -ge 13 ] || { echo "loom: fewer models ran than there are" >&2; exit 1; }

mutants=$(sed -n 's/.*\(ordering!(\|mutant!(\)"\([a-z_]*\)".*/\2/p' core/src/store/*.rs | sort -u)
[ -n "$mutants" ] || { echo "loom: no mutants found" >&2; exit 1; }
survivors=""
found=0
build --cfg 'flags_mutant="chosen"'
for mutant in $mutants; do
    if FLAGS_MUTANT="$mutant" timeout 300 "$program" loom_ >"$log" 2>&1; then
        survivors="$survivors $mutant"
        echo "mutant $mutant: SURVIVED"
    elif grep -q '^test .* FAILED$' "$log" || grep -q 'panicked at' "$log"; then
        found=$((found + 1))
        echo "mutant $mutant: found by $(sed -n 's/^test .*::\(loom_[a-z_]*\) .*FAILED$/\1/p' "$log" | tr '\n' ' ')"
    else
        cat "$log" >&2
        echo "loom: mutant $mutant did not fail as a model fails" >&2
        exit 1
    fi
done
[ -z "$survivors" ] || { echo "loom: no model notices:$survivors" >&2; exit 1; }
echo "$((models + found)) passed, 0 failed"
