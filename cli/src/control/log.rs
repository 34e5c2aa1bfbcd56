//! `flagsctl log`: who changed what in an environment.

use clap::Args;
use serde_json::Value;

use super::{client::Control, profile::Target};
use crate::{
    failure::{Exit, Failure},
    output::{Cell, Output, Table, clip},
    value,
};

/// Show who changed what in an environment, and why, the newest first
#[derive(Args, Debug)]
#[command(after_help = "\
With --json each change has the flags as they were before and after.

Examples:
  flagsctl log --env production
  flagsctl log --flag new-cart --json | jq '.[0].flags[0].before.config'")]
pub(crate) struct Log {
    /// Only changes of this flag
    #[arg(long, value_name = "KEY")]
    flag: Option<String>,
    /// At most so many
    #[arg(long, short = 'n', value_name = "N", default_value_t = 50)]
    limit: usize,
    #[command(flatten)]
    target: Target,
}

pub(crate) fn run(arguments: &Log, output: &mut Output) -> Result<Exit, Failure> {
    if arguments.limit == 0 {
        return Err(Failure::Usage("--limit is at least 1".to_owned()));
    }
    let control = Control::open(&arguments.target)?;
    let path = control.in_project(&["environments", control.environment_key()?, "changes"])?;
    let query = [("flag", arguments.flag.as_deref().unwrap_or_default())];
    let entries = control.items(&path, &query, Some(arguments.limit))?;
    if output.json {
        output.document(&entries)?;
        return Ok(Exit::Done);
    }
    if entries.is_empty() {
        output.line("no changes")?;
        return Ok(Exit::Done);
    }
    let header = vec!["REVISION", "TIME", "WHO", "WHAT", "FLAGS", "COMMENT"];
    output.table(&Table { header, rows: entries.iter().map(row).collect() })?;
    Ok(Exit::Done)
}

fn row(entry: &Value) -> Vec<Cell> {
    const MOST: usize = 48;
    let text = |name: &str| entry[name].as_str().unwrap_or_default();
    let flags: Vec<&str> =
        entry["flags"].as_array().into_iter().flatten().filter_map(|flag| flag["key"].as_str()).collect();
    vec![
        Cell::new(entry["revision"].to_string()),
        Cell::new(entry["timeMs"].as_i64().map(value::time_ms).unwrap_or_default()),
        Cell::new(text("actor")),
        Cell::new(text("action")),
        Cell::new(if flags.is_empty() { "-".to_owned() } else { clip(&flags.join(", "), MOST) }),
        Cell::new(text("comment")),
    ]
}
