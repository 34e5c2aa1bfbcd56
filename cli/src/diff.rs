//! `flagsctl diff`: what differs between two sets of flags.

use std::path::PathBuf;

use clap::Args;
use libflags::Snapshot;
use serde_json::{Value, json};

use crate::{
    changes,
    failure::{Exit, Failure},
    output::Output,
    source::Flags,
};

/// Compare two stores, segment files or definition files, in any combination
#[derive(Args, Debug)]
#[command(after_help = "\
Exit codes: 0 no difference, 1 differences.

Examples:
  flagsctl diff flags.json flags.new.json
  flagsctl diff /run/flags/default flags.json       # what publishing this file would change
  flagsctl diff /var/lib/flags/default/segment-7 /run/flags/default")]
pub(crate) struct Diff {
    /// The older: a store, a segment file or a definition file
    a: PathBuf,
    /// The newer
    b: PathBuf,
    /// Print nothing; the exit code tells
    #[arg(long, short)]
    quiet: bool,
}

pub(crate) fn run(arguments: &Diff, output: &mut Output) -> Result<Exit, Failure> {
    let (a, b) = (Flags::at(&arguments.a)?, Flags::at(&arguments.b)?);
    let nothing = || Failure::new("the store has no flags");
    let (before, after): (&Snapshot, &Snapshot) =
        (a.snapshot().ok_or_else(nothing)?, b.snapshot().ok_or_else(nothing)?);
    let changes = changes::between(before, after);
    let (added, removed, changed) = changes::counts(&changes);
    let exit = if changes.is_empty() { Exit::Done } else { Exit::No };
    if arguments.quiet {
        return Ok(exit);
    }
    if output.json {
        let list: Vec<Value> = changes.iter().map(changes::Changed::json).collect();
        output.document(&json!({"added": added, "removed": removed, "changed": changed, "changes": list}))?;
        return Ok(exit);
    }
    for change in &changes {
        let line = change.line(output);
        output.line(line)?;
    }
    if changes.is_empty() {
        output.line("no difference")?;
    } else {
        output.line(format!("{added} added, {removed} removed, {changed} changed"))?;
    }
    Ok(exit)
}
