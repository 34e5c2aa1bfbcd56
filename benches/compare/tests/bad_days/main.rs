//! The same bad days for libflags, mmap-sync and LMDB: what happens is looked at, put into words, and compared with the table in
//! `docs/comparison.md`, which says the same or is wrong.
//!
//! `cargo xtask compare` runs this. By hand: `cargo test --no-default-features --test bad_days`.
//!
//! Whoever has to die, stop or fork is a process of its own: this program again, in a role (see `roles.rs`). Everybody keeps a list of
//! numbers that are all the same, so that a mixture of two versions shows.

mod days;
mod libflags_store;
mod lmdb;
mod mmap_sync;
mod roles;
mod system;

use std::path::Path;
use std::process::ExitCode;
use std::{env, fs};

use anyhow::{Context as _, Result, bail, ensure};

use crate::libflags_store::Libflags;
use crate::lmdb::Lmdb;
use crate::mmap_sync::MmapSync;
use crate::system::System;

/// A bad day, and how each system is put through it: the tests give what came of it, in words.
struct Day {
    name: &'static str,
    tests: [fn() -> Result<String>; 3],
}

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let result = match arguments.split_first() {
        Some((first, rest)) if first == "--role" => play(rest),
        _ => live(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// This program as a child of itself.
fn play(arguments: &[String]) -> Result<()> {
    let [system, rest @ ..] = arguments else { bail!("--role SYSTEM ROLE FOLDER …") };
    match system.as_str() {
        Libflags::NAME => roles::play::<Libflags>(rest),
        MmapSync::NAME => roles::play::<MmapSync>(rest),
        Lmdb::NAME => roles::play::<Lmdb>(rest),
        _ => bail!("there is no system {system}"),
    }
}

const DAYS: [Day; 6] = [
    Day {
        name: "the writer is killed while it writes",
        tests: [days::writer_killed::<Libflags>, days::writer_killed::<MmapSync>, days::writer_killed::<Lmdb>],
    },
    Day {
        name: "a reader is killed while it reads",
        tests: [days::reader_killed::<Libflags>, days::reader_killed::<MmapSync>, days::reader_killed::<Lmdb>],
    },
    Day {
        name: "a reader is stopped while it reads, and goes on later",
        tests: [days::reader_stopped::<Libflags>, days::reader_stopped::<MmapSync>, days::reader_stopped::<Lmdb>],
    },
    Day { name: "a reader forks", tests: [days::fork::<Libflags>, days::fork::<MmapSync>, days::fork::<Lmdb>] },
    Day {
        name: "the files are of another format",
        tests: [libflags_store::foreign_format, mmap_sync::foreign_format, lmdb::foreign_format],
    },
    Day {
        name: "the disk is full",
        tests: [days::full_disk::<Libflags>, days::full_disk::<MmapSync>, days::full_disk::<Lmdb>],
    },
];

fn live() -> Result<()> {
    let mut table: Vec<(&str, [String; 3])> = Vec::new();
    let mut skipped = 0;
    for Day { name: day, tests } in DAYS {
        let mut outcomes = Vec::new();
        for (name, test) in [Libflags::NAME, MmapSync::NAME, Lmdb::NAME].into_iter().zip(tests) {
            let outcome = test().with_context(|| format!("{day}, {name}"))?;
            println!("{day}, {name}: {outcome}");
            outcomes.push(outcome);
        }
        if outcomes.iter().any(|outcome| outcome.starts_with("skipped: ")) {
            skipped += 3;
            continue;
        }
        let Ok(outcomes) = outcomes.try_into() else { bail!("three systems") };
        table.push((day, outcomes));
    }
    let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/comparison.md");
    let text = fs::read_to_string(&document).context("cannot read docs/comparison.md")?;
    let rows = table.iter().map(|(day, [ours, mmap_sync, lmdb])| format!("| {day} | {ours} | {mmap_sync} | {lmdb} |"));
    let missing: Vec<String> = rows.filter(|row| !text.contains(row.as_str())).collect();
    ensure!(missing.is_empty(), "docs/comparison.md does not say what happened:\n{}", missing.join("\n"));
    println!("{} passed, 0 failed, {skipped} skipped", table.len() * 3);
    Ok(())
}
