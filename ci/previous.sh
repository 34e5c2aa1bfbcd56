#!/bin/sh
# Builds store-peer (tests/src/bin/store-peer.rs) over the library as it was at an earlier commit, and has it and today's read
# each other's stores: whoever upgrades first, clients and publishers of both go on, or say clearly why not.
#
# The commit is the last one of the previous format; until there is a second format, the first that was complete.
set -eu
cd "$(dirname "$0")/.."

commit=50a4159cb8731592009672a7ad16c469cbac41d4
target="${CARGO_TARGET_DIR:-target}"
program=previous-store-peer
case "$target" in /*) ;; *) target="$PWD/$target" ;; esac
folder="$target/previous"

if ! git cat-file -e "$commit^{tree}" 2>/dev/null; then
    echo "skipped: commit $commit is not in this clone (no history, or a shallow one)"
    exit 0
fi
mkdir -p "$folder/store-peer/src"
# The files get the commit's time, so that cargo builds them once.
git archive "$commit" Cargo.lock Cargo.toml core | tar -x -C "$folder"
sed -e 's/^members = .*/members = ["core", "store-peer"]/' -e '/^exclude = /d' -e '/^default-members = /d' \
    "$folder/Cargo.toml" >"$folder/Cargo.toml.new"
touch -r "$folder/Cargo.toml" "$folder/Cargo.toml.new"
mv "$folder/Cargo.toml.new" "$folder/Cargo.toml"
cp -p tests/src/bin/store-peer.rs "$folder/store-peer/src/main.rs"
cat >"$folder/store-peer/Cargo.toml" <<END
[package]
name = "$program"
version = "0.0.0"
edition = "2024"

[dependencies]
libflags = { workspace = true, features = ["yaml"] }
END
# Among our own files, where most of what it depends on is built already.
CARGO_TARGET_DIR="$target" cargo build --quiet --manifest-path "$folder/Cargo.toml" --package "$program"
# As the other tests build it: one package alone would have other features, and so compile most crates again.
FLAGS_PREVIOUS_PEER="$target/debug/$program" \
    cargo test --quiet --workspace --test previous_format -- --show-output
