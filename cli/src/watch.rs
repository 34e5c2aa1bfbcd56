//! `flagsctl watch`: follows a store and tells what each new generation changes.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, SystemTime},
};

use clap::Args;
use libflags::{Client, OpenOptions, Pinned, State, Status};
use serde_json::{Value, json};

use crate::{
    changes,
    failure::{Exit, Failure},
    output::{Look, Output, count},
    source::StoreArguments,
    value,
};

/// Follow a store: which flags each new generation adds, removes and changes
///
/// Ends with Ctrl-C. Generations that follow each other within 10 ms may be told as one change.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  flagsctl watch
  flagsctl watch --json | jq -c '.changes[]?'
  flagsctl watch --count 1      # wait for the next change")]
pub(crate) struct Watch {
    #[command(flatten)]
    store: StoreArguments,
    /// End after this many new generations
    #[arg(long, short = 'n', value_name = "N")]
    count: Option<u64>,
    /// Wait for the store where there is none yet
    #[arg(long)]
    wait: bool,
}

const INTERVAL: Duration = Duration::from_millis(10);

pub(crate) fn run(arguments: &Watch, output: &mut Output) -> Result<Exit, Failure> {
    let ended = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&ended))
            .map_err(|error| Failure::new(format!("cannot handle signals: {error}")))?;
    }
    let client = match &arguments.store.store {
        store if arguments.wait => {
            let options = OpenOptions::new().wait(false);
            Client::open_with(&match store {
                Some(store) => options.store(store),
                None => options,
            })?
        }
        _ => arguments.store.client()?,
    };
    let mut seen = client.snapshot();
    let mut condition = Condition::of(&client.status());
    start(&client, &seen, output)?;
    let mut left = arguments.count.unwrap_or(u64::MAX);
    // ORDERING: Relaxed; the flag stands for itself.
    while left > 0 && !ended.load(Ordering::Relaxed) {
        thread::sleep(INTERVAL);
        let status = client.status();
        let now = client.snapshot();
        if now.generation() != seen.generation() {
            generation(&seen, &now, output)?;
            seen = now;
            left -= 1;
        }
        let new = Condition::of(&status);
        if new != condition {
            told(&new, output)?;
            condition = new;
        }
    }
    Ok(Exit::Done)
}

/// What is told of a store besides its flags.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Condition {
    state: State,
    daemon_alive: bool,
    error: Option<String>,
}

impl Condition {
    fn of(status: &Status) -> Self {
        Self { state: status.state, daemon_alive: status.daemon_alive, error: status.last_error.clone() }
    }
}

fn start(client: &Client, seen: &Pinned, output: &mut Output) -> Result<(), Failure> {
    let flags = seen.flags().map_or(0, libflags::Snapshot::len);
    let status = client.status();
    if output.json {
        output.json_line(&json!({
            "event": "start", "at": value::time(SystemTime::now()), "store": status.path,
            "generation": seen.generation(), "revision": seen.revision(), "flags": flags,
            "state": status.state.as_str(), "daemonAlive": status.daemon_alive,
        }))?;
    } else {
        let path = status.path.map_or_else(|| "no store yet".to_owned(), |path| path.display().to_string());
        let state = status.state.as_str();
        output.line(format!("watching {path}: generation {}, {}, {state}", seen.generation(), count(flags, "flag")))?;
    }
    Ok(output.flush()?)
}

fn generation(seen: &Pinned, now: &Pinned, output: &mut Output) -> Result<(), Failure> {
    let changes = match (seen.flags(), now.flags()) {
        (Some(before), Some(after)) => changes::between(before, after),
        // The first flags of a store that was waited for: all of them would be new.
        _ => Vec::new(),
    };
    let flags = now.flags().map_or(0, libflags::Snapshot::len);
    let (added, removed, changed) = changes::counts(&changes);
    let at = value::time(SystemTime::now());
    if output.json {
        let list: Vec<Value> = changes.iter().map(changes::Changed::json).collect();
        output.json_line(&json!({
            "event": "generation", "at": at, "from": seen.generation(), "generation": now.generation(),
            "revision": now.revision(), "flags": flags, "added": added, "removed": removed, "changed": changed,
            "changes": list,
        }))?;
    } else {
        let title = format!("{at}  generation {} → {}", seen.generation(), now.generation());
        let summary = format!("{}, {added} added, {removed} removed, {changed} changed", count(flags, "flag"));
        output.line(format!("{}: {summary}", output.paint(Look::Bold, &title)))?;
        for change in &changes {
            let line = change.line(output);
            output.line(format!("  {line}"))?;
        }
    }
    Ok(output.flush()?)
}

fn told(condition: &Condition, output: &mut Output) -> Result<(), Failure> {
    let at = value::time(SystemTime::now());
    let state = condition.state.as_str();
    if output.json {
        output.json_line(&json!({
            "event": "state", "at": at, "state": state, "daemonAlive": condition.daemon_alive, "error": condition.error,
        }))?;
    } else {
        let daemon = if condition.daemon_alive { "flagsd is alive" } else { "flagsd gives no sign of life" };
        let error = condition.error.as_ref().map(|error| format!(", {error}")).unwrap_or_default();
        let look = if condition.state == State::Fresh { Look::Good } else { Look::Warn };
        output.line(format!("{at}  {}, {daemon}{error}", output.paint(look, state)))?;
    }
    Ok(output.flush()?)
}
