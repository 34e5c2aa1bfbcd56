//! `flagsctl log`: who changed what in an environment.

use std::collections::BTreeSet;

use clap::{Args, Subcommand};
use serde_json::Value;

use super::{
    client::{Control, listed},
    profile::Target,
};
use crate::{
    failure::{Exit, Failure},
    output::{Cell, Output, clip, visible},
    value,
};

/// Show who changed what in an environment, and why, the newest first
#[derive(Args, Debug)]
#[command(after_help = "\
With --json each change has the flags as they were before and after.

Examples:
  flagsctl log --env production
  flagsctl log --flag new-cart --json | jq '.[0].flags[0].before.config'")]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Log {
    #[command(subcommand)]
    command: Option<Command>,
    /// Only changes of this flag
    #[arg(long, value_name = "KEY")]
    flag: Option<String>,
    /// At most so many
    #[arg(long, short = 'n', value_name = "N", default_value_t = 50)]
    limit: usize,
    #[command(flatten)]
    target: Target,
}

#[derive(Debug, Subcommand)]
enum Command {
    Diff(Diff),
    Export(Export),
}

/// Print the log as lines of JSON, the oldest first, for whoever keeps it elsewhere
#[derive(Args, Debug)]
#[command(after_help = "\
What breaks off ends in an error: no part is taken for the whole.

Examples:
  flagsctl log export --env production > production.jsonl
  flagsctl log export --env production --from 1201 >> production.jsonl")]
struct Export {
    /// The first revision [default: the first that the log still has]
    #[arg(long, value_name = "REVISION")]
    from: Option<u64>,
    /// The last one [default: the current one]
    #[arg(long, value_name = "REVISION")]
    to: Option<u64>,
    #[command(flatten)]
    target: Target,
}

/// Compare two revisions of an environment, flag by flag and segment by segment; with --json each as it was before and after
#[derive(Args, Debug)]
#[command(
    after_help = "Exit codes: 0 nothing differs, 1 something does.\n\nExamples:\n  flagsctl log diff 41 --env production"
)]
struct Diff {
    /// The one revision
    from: u64,
    /// The other [default: the current one]
    to: Option<u64>,
    #[command(flatten)]
    target: Target,
}

pub(crate) fn run(arguments: &Log, output: &mut Output) -> Result<Exit, Failure> {
    match &arguments.command {
        Some(Command::Diff(diff)) => return compare(diff, output),
        Some(Command::Export(export)) => return print(export, output),
        None => {}
    }
    if arguments.limit == 0 {
        return Err(Failure::Usage("--limit is at least 1".to_owned()));
    }
    let control = Control::open(&arguments.target)?;
    let path = control.in_project(&["environments", control.environment_key()?, "changes"])?;
    let query = [("flag", arguments.flag.as_deref().unwrap_or_default())];
    let entries = control.items(&path, &query, Some(arguments.limit))?;
    listed(output, &entries, "no changes", &["REVISION", "TIME", "WHO", "ACTION", "WHAT", "COMMENT"], row)
}

fn print(export: &Export, output: &mut Output) -> Result<Exit, Failure> {
    let control = Control::open(&export.target)?;
    let mut path = control.in_project(&["environments", control.environment_key()?, "changes", "export"])?;
    let bounds = [("from", export.from), ("to", export.to)];
    let bounds: Vec<String> = bounds.iter().filter_map(|(name, bound)| Some(format!("{name}={}", (*bound)?))).collect();
    path.push_str(&format!("?{}", bounds.join("&")));
    control.print(&path, "changes", output)?;
    Ok(Exit::Done)
}

fn compare(diff: &Diff, output: &mut Output) -> Result<Exit, Failure> {
    let control = Control::open(&diff.target)?;
    let mut path = control.in_project(&["environments", control.environment_key()?, "diff"])?;
    path.push_str(&format!("?from={}", diff.from));
    if let Some(to) = diff.to {
        path.push_str(&format!("&to={to}"));
    }
    let found = control.get(&path)?.body;
    let all = |name: &str| found[name].as_array().map(Vec::as_slice).unwrap_or_default();
    let (flags, segments) = (all("flags"), all("segments"));
    let metadata = (&found["metadata"]["before"], &found["metadata"]["after"]);
    let is_same = flags.is_empty() && segments.is_empty() && metadata.0 == metadata.1;
    if output.json {
        output.document(&found)?;
    } else {
        if is_same {
            output.line("nothing differs")?;
        }
        if metadata.0 != metadata.1 {
            output.line(visible(&format!("metadata  {} → {}", shown(metadata.0), shown(metadata.1))))?;
        }
        for flag in flags {
            output.line(Cell::new(flag["key"].as_str().unwrap_or_default()).plain())?;
            print_members(members(&flag["before"], &flag["after"]), output)?;
        }
        for segment in segments {
            output.line(visible(&format!("segment {}", segment["key"].as_str().unwrap_or_default())))?;
            print_members(differing(&segment["before"], &segment["after"]), output)?;
        }
    }
    Ok(if is_same { Exit::Done } else { Exit::No })
}

fn print_members(members: Vec<(&str, &Value, &Value)>, output: &mut Output) -> Result<(), Failure> {
    for (name, before, after) in members {
        output.line(visible(&format!("  {name}  {} → {}", shown(before), shown(after))))?;
    }
    Ok(())
}

/// What differs between two states of a flag, by member of what it is and what it does.
fn members<'v>(before: &'v Value, after: &'v Value) -> Vec<(&'v str, &'v Value, &'v Value)> {
    let parts = ["flag", "config"];
    let mut members: Vec<_> = parts.into_iter().flat_map(|part| differing(&before[part], &after[part])).collect();
    if before["archived"] != after["archived"] {
        members.push(("archived", &before["archived"], &after["archived"]));
    }
    members
}

/// Members that are not the same in both.
fn differing<'v>(before: &'v Value, after: &'v Value) -> Vec<(&'v str, &'v Value, &'v Value)> {
    let names = [before, after].into_iter().flat_map(|state| state.as_object().into_iter().flatten());
    let names: BTreeSet<&str> = names.map(|(name, _)| name.as_str()).collect();
    let pairs = names.into_iter().map(|name| (name, &before[name], &after[name]));
    pairs.filter(|(_, before, after)| before != after).collect()
}

fn shown(value: &Value) -> String {
    const MOST: usize = 60;
    match value {
        Value::Null => "none".to_owned(),
        value => clip(&value.to_string(), MOST),
    }
}

fn row(entry: &Value) -> Vec<Cell> {
    const MOST: usize = 48;
    let text = |name: &str| entry[name].as_str().unwrap_or_default();
    let keys = |name: &str| entry[name].as_array().into_iter().flatten().filter_map(|item| item["key"].as_str());
    let other = ["name", "metadata"].into_iter().filter(|name| entry[*name].is_object());
    let what: Vec<&str> = keys("flags").chain(keys("segments")).chain(other).collect();
    vec![
        Cell::new(entry["revision"].to_string()),
        Cell::new(entry["timeMs"].as_i64().map(value::time_ms).unwrap_or_default()),
        Cell::new(text("actor")),
        Cell::new(text("action")),
        Cell::new(if what.is_empty() { "-".to_owned() } else { clip(&what.join(", "), MOST) }),
        Cell::new(text("comment")),
    ]
}
