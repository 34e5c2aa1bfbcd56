//! Other ways to read flags, on the same work and in turns with libflags.
//!
//! `cargo xtask bench` builds and runs this. By hand, in this folder: `cargo run --profile dist -- --only key`.

#[path = "../../src/definitions.rs"]
#[allow(dead_code, reason = "shared with libflags-benches, which uses all of it")]
mod definitions;
#[path = "../../src/measure.rs"]
#[allow(dead_code, reason = "shared with libflags-benches, which uses all of it")]
mod measure;

mod change;
mod contest;
mod load;
mod peer;
mod reads;
mod rules;
mod scaling;

use anyhow::{Result, bail, ensure};
use clap::Parser;
use serde_json::json;

use crate::contest::{Effort, Outcome};

#[derive(Parser)]
struct Arguments {
    /// Only the rows whose names begin so; may be given more than once.
    #[arg(long, value_name = "ROW")]
    only: Vec<String>,
    /// One JSON object a line instead of tables.
    #[arg(long)]
    json: bool,
    /// Hardly measures: shows that every peer works and answers right.
    #[arg(long)]
    check: bool,
}

/// Work that is done by libflags and by its peers. The names are those of libflags-benches.
struct Row {
    name: &'static str,
    about: &'static str,
    unit: &'static str,
    measure: fn(Effort) -> Result<Vec<Outcome>>,
    /// Who is not measured here, and why.
    absent: &'static [(&'static str, &'static str)],
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let effort = if arguments.check { Effort::CHECK } else { Effort::FULL };
    let chosen = |row: &&Row| {
        arguments.only.is_empty() || arguments.only.iter().any(|start| row.name.starts_with(start.as_str()))
    };
    let rows = [reads::ROWS, rules::ROWS, scaling::ROWS, load::ROWS, change::ROWS];
    let mut failed = 0;
    for row in rows.into_iter().flatten().filter(chosen) {
        match (row.measure)(effort) {
            Ok(outcomes) if arguments.json => println!("{}", as_json(row, &outcomes)?),
            Ok(outcomes) => print(row, &outcomes),
            Err(error) => {
                failed += 1;
                eprintln!("{}: {error:#}", row.name);
            }
        }
    }
    if failed > 0 {
        bail!("{failed} rows failed");
    }
    Ok(())
}

fn as_json(row: &Row, outcomes: &[Outcome]) -> Result<serde_json::Value> {
    let mut contenders = Vec::new();
    for Outcome { peer, figures } in outcomes {
        contenders.push(json!({
            "name": peer,
            "version": version(peer)?,
            "best": rounded(figures.best),
            "median": rounded(figures.median),
            "p99": rounded(figures.p99),
            "samples": figures.samples,
        }));
    }
    let absent: Vec<_> = row.absent.iter().map(|(name, why)| json!({"name": name, "why": why})).collect();
    Ok(json!({
        "row": row.name,
        "about": row.about,
        "unit": row.unit,
        "contenders": contenders,
        "not_measured": absent,
    }))
}

/// Four digits after the point are more than any clock here has.
fn rounded(number: f64) -> f64 {
    (number * 1e4).round() / 1e4
}

/// The version of a contender's crate, `std` for what is built of the standard library alone.
fn version(peer: &str) -> Result<&'static str> {
    const LOCKED: &str = include_str!("../Cargo.lock");
    let name = match peer {
        peer::RWLOCK => return Ok("std"),
        peer::ARC_SWAP => "arc-swap",
        peer::LMDB => "heed",
        name => name,
    };
    let found = LOCKED.split_once(&format!("name = \"{name}\"\nversion = \""));
    let version = found.and_then(|(_, rest)| rest.split('"').next()).unwrap_or_default();
    ensure!(!version.is_empty(), "{name} is not in Cargo.lock");
    Ok(version)
}

/// A folder in memory, as /run is.
fn folder() -> Result<tempfile::TempDir> {
    let memory = std::path::Path::new("/dev/shm");
    Ok(if memory.is_dir() { tempfile::TempDir::new_in(memory)? } else { tempfile::TempDir::new()? })
}

fn print(row: &Row, outcomes: &[Outcome]) {
    println!("{}: {} ({})", row.name, row.about, row.unit);
    for Outcome { peer, figures } in outcomes {
        println!("  {peer:<24}{:>12.2}{:>12.2}{:>12.2}", figures.best, figures.median, figures.p99);
    }
    for (name, why) in row.absent {
        println!("  {name:<24}not measured: {why}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_peer_works_and_has_a_version() {
        for row in [reads::ROWS, rules::ROWS, scaling::ROWS, load::ROWS, change::ROWS].into_iter().flatten() {
            if row.name.ends_with("-100k") {
                continue;
            }
            let outcomes = (row.measure)(Effort::CHECK).unwrap_or_else(|error| panic!("{}: {error:#}", row.name));
            assert!(outcomes.len() >= 2, "{}: nobody to compare with", row.name);
            as_json(row, &outcomes).unwrap();
        }
    }
}
