#!/usr/bin/env bash
# The Python package: builds the wheel, installs it in an environment of its own, checks its types and tests it as installed.
# Further arguments are pytest's: ci/python.sh -k fork
# FLAGS_MEMCHECK names a folder: the tests then run under valgrind, each process of theirs with a log there. `cargo xtask sanitize valgrind`
# reads those.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
work=${CARGO_TARGET_DIR:-$root/target}/python
package=$root/bindings/python
mkdir -p "$work"

# Quiet unless it fails.
quietly() {
    "$@" >"$work/log" 2>&1 || { cat "$work/log"; exit 1; }
}

python=${PYTHON:-python3}
environment=$work/venv-$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
requirements=$package/requirements-test.txt
if ! cmp -s "$requirements" "$environment/requirements.txt"; then
    rm -rf "$environment"
    quietly "$python" -m venv "$environment"
    quietly "$environment/bin/python" -m pip install --disable-pip-version-check --requirement "$requirements"
    cp "$requirements" "$environment/requirements.txt"
fi
bin=$environment/bin

# Without its names, nobody could tell whose a report of valgrind's is.
[ -z "${FLAGS_MEMCHECK:-}" ] || export MATURIN_STRIP=false
# The profile that the other tests use, so that nothing is compiled twice; no test looks at the clock.
rm -f "$work"/wheels/*.whl
quietly "$bin/maturin" build --profile dev --manifest-path "$package/Cargo.toml" --interpreter "$bin/python" \
    --auditwheel skip --out "$work/wheels"
quietly "$bin/python" -m pip install --disable-pip-version-check --no-deps --force-reinstall "$work"/wheels/*.whl

if [ -z "${FLAGS_PUBLISH:-}" ]; then
    # As the other tests build it: one package alone would have other features, and so compile most crates again.
    quietly cargo build --quiet --workspace --all-targets
    FLAGS_PUBLISH=$(dirname "$work")/debug/flags-publish
fi
export FLAGS_PUBLISH

# Outside of the sources, so that only the installed package can be found.
cd "$work"
quietly "$bin/python" -m mypy.stubtest libflags --mypy-config-file "$package/pyproject.toml"
quietly "$bin/python" -m mypy --config-file "$package/pyproject.toml" --package libflags
watched=()
if [ -n "${FLAGS_MEMCHECK:-}" ]; then
    # With its own allocator, Python would hide from valgrind what belongs together.
    export PYTHONMALLOC=malloc
    watched=(valgrind --quiet --leak-check=full --show-leak-kinds=definite --num-callers=40 --fair-sched=try --log-file="$FLAGS_MEMCHECK/%p")
fi
exec "${watched[@]}" "$bin/python" -W error -m pytest --quiet --config-file "$package/pyproject.toml" --rootdir "$package" "$package/tests" "$@"
