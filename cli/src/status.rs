//! `flagsctl status`: how current the flags are, and how their flagsd fares.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Args;
use libflags::{Client, State, Status};
use serde_json::{Value, json};

use crate::{
    admin::{Admin, AdminError},
    failure::{Exit, Failure},
    output::{Cell, Look, Output, clip},
    source::StoreArguments,
    value,
};

/// Show how current the flags are, and how flagsd fares
///
/// Read from the store itself, as any program that evaluates flags reads it; flagsd is asked too where it can be reached.
#[derive(Args, Debug)]
#[command(after_help = "\
Exit codes: 0; with --check 1 unless the flags are fresh (or frozen on purpose) and flagsd is alive.

Examples:
  flagsctl status
  flagsctl status --check --json     # for a probe")]
pub(crate) struct StatusCommand {
    #[command(flatten)]
    store: StoreArguments,
    /// Exit with 1 where something is wrong
    #[arg(long)]
    check: bool,
}

pub(crate) fn run(arguments: &StatusCommand, output: &mut Output) -> Result<Exit, Failure> {
    let client = arguments.store.client()?;
    let status = client.status();
    let path = status.path.clone().unwrap_or_default();
    let daemon = Admin::at(&path);
    let pid = libflags::store::inspect_control(&path).ok().map(|control| control.pid).filter(|pid| *pid != 0);
    if output.json {
        output.document(&as_json(&client, &status, pid, &daemon))?;
    } else {
        people(&client, &status, pid, &daemon, output)?;
    }
    let good = matches!(status.state, State::Fresh | State::Frozen) && status.daemon_alive;
    Ok(if arguments.check && !good { Exit::No } else { Exit::Done })
}

fn as_json(client: &Client, status: &Status, pid: Option<u64>, daemon: &Result<Admin, AdminError>) -> Value {
    json!({
        "store": status.path,
        "generation": status.generation,
        "revision": status.revision,
        "flags": client.snapshot().flags().map_or(0, libflags::Snapshot::len),
        "state": status.state.as_str(),
        "publishedAt": status.published_at.map(value::time),
        "confirmedAt": status.upstream_confirmed_at.map(value::time),
        "ageSeconds": status.age.map(|age| age.as_secs_f64()),
        "maxAgeSeconds": status.max_age.map(|age| age.as_secs_f64()),
        "error": status.last_error,
        "daemonAlive": status.daemon_alive,
        "daemonPid": pid,
        "daemon": daemon.as_ref().ok().map(|admin| &admin.status),
        "daemonError": daemon.as_ref().err().map(ToString::to_string),
    })
}

fn people(
    client: &Client,
    status: &Status,
    pid: Option<u64>,
    daemon: &Result<Admin, AdminError>,
    output: &mut Output,
) -> Result<(), Failure> {
    let path = status.path.as_ref().map(|path| path.display().to_string()).unwrap_or_default();
    let snapshot = client.snapshot();
    let broken = snapshot.flags().map_or(0, |flags| flags.flags().filter(|flag| flag.broken()).count());
    let flags = snapshot.flags().map_or(0, libflags::Snapshot::len);
    let mut facts = vec![
        ("store", Cell::new(path)),
        ("state", state(status)),
        ("generation", Cell::new(status.generation.to_string())),
    ];
    if status.revision != 0 {
        facts.push(("revision", Cell::new(status.revision.to_string())));
    }
    facts.push(match broken {
        0 => ("flags", Cell::new(flags.to_string())),
        _ => ("flags", Cell::new(format!("{flags}, {broken} of them broken")).look(Look::Bad)),
    });
    if let Some(at) = status.published_at {
        let age = SystemTime::now().duration_since(at).unwrap_or_default();
        facts.push(("published", Cell::new(format!("{}, {} ago", value::time(at), value::duration(age)))));
    }
    if let Some(at) = status.upstream_confirmed_at {
        facts.push(("confirmed", Cell::new(format!("{}{}", value::time(at), aged(status)))));
    }
    if let Some(error) = &status.last_error {
        facts.push(("error", Cell::new(error).look(Look::Bad)));
    }
    let pid = pid.map(|pid| format!(", pid {pid}")).unwrap_or_default();
    facts.push(if status.daemon_alive {
        ("flagsd", Cell::new(format!("alive{pid}")).look(Look::Good))
    } else {
        ("flagsd", Cell::new(format!("no sign of life{pid}")).look(Look::Bad))
    });
    match daemon {
        Ok(admin) => {
            let version = admin.status["version"].as_str().unwrap_or("?");
            let uptime = match admin.status["uptime_seconds"].as_u64().unwrap_or(0) {
                seconds @ 0..60 => format!("{seconds} s"),
                seconds => value::duration(Duration::from_secs(seconds)),
            };
            let about = format!("version {version}, up {uptime}, {}", admin.socket().display());
            facts.push(("admin", Cell::new(about)));
            facts.extend(of_set(admin.set_status()));
        }
        Err(error) => facts.push(("admin", Cell::new(error.to_string()).look(Look::Warn))),
    }
    Ok(output.facts(&facts)?)
}

fn state(status: &Status) -> Cell {
    let look = match status.state {
        State::Fresh => Look::Good,
        State::Frozen => Look::Warn,
        _ => Look::Bad,
    };
    Cell::new(status.state.as_str()).look(look)
}

fn aged(status: &Status) -> String {
    match (status.age, status.max_age) {
        (Some(age), Some(max)) => {
            format!(", {} ago; stale after {}", value::duration(age), value::duration(max))
        }
        (Some(age), None) => format!(", {} ago", value::duration(age)),
        _ => String::new(),
    }
}

/// What flagsd says of its set, beyond what the store says.
fn of_set(set: &Value) -> Vec<(&'static str, Cell)> {
    const MOST: usize = 160;
    let list = |name: &str| set[name].as_array().map(Vec::as_slice).unwrap_or_default();
    let since = |of: &Value| {
        let at = of["since_ms"].as_u64().map(|ms| value::time(UNIX_EPOCH + Duration::from_millis(ms)));
        at.map(|at| format!(" since {at}")).unwrap_or_default()
    };
    let text = |of: &Value| of.as_str().map_or_else(|| of.to_string(), str::to_owned);
    let mut facts = Vec::new();
    for source in list("sources") {
        let state = text(&source["state"]);
        let error = source["error"].as_str().map(|error| format!(": {error}")).unwrap_or_default();
        let look = if error.is_empty() { Look::Plain } else { Look::Bad };
        let link = &source["control"];
        let link = match (link["connection"].as_str(), link["position"].as_str()) {
            (Some(connection), Some(position)) => format!(", {connection}, at revision {position}"),
            (Some(connection), None) => format!(", {connection}"),
            _ => String::new(),
        };
        facts.push(("source", Cell::new(format!("{}, {state}{link}{error}", text(&source["source"]))).look(look)));
    }
    if let Some(by) = set["frozen"]["by"].as_str() {
        let waiting = if set["changes_waiting"] == true { "; changes wait" } else { "" };
        facts.push(("frozen", Cell::new(format!("by {by}{}{waiting}", since(&set["frozen"]))).look(Look::Warn)));
    }
    for stopped in ["held", "refused", "publish_error", "keep_error"] {
        if let Some(reason) = set[stopped]["reason"].as_str() {
            let name = match stopped {
                "publish_error" => "publishing",
                "keep_error" => "keeping",
                other => other,
            };
            facts.push((name, Cell::new(format!("{}{}", clip(reason, MOST), since(&set[stopped]))).look(Look::Bad)));
        }
    }
    for over in list("overrides") {
        let error = over["error"].as_str().map(|error| format!("; not in force: {error}")).unwrap_or_default();
        let about = format!("{} = {}{}{error}", text(&over["key"]), over["value"], since(over));
        facts.push(("override", Cell::new(about).look(Look::Warn)));
    }
    for broken in list("broken") {
        let served =
            if broken["served"] == "last-good" { "served in its last good form" } else { "answers PARSE_ERROR" };
        facts.push(("broken", Cell::new(format!("{}, {served}", text(&broken["key"]))).look(Look::Bad)));
    }
    for problem in list("problems") {
        let severity = text(&problem["severity"]);
        let place = format!("{}:{}:{}", text(&problem["file"]), problem["line"], problem["column"]);
        let message = clip(&text(&problem["message"]), MOST);
        let look = if severity == "error" { Look::Bad } else { Look::Warn };
        facts.push(("problem", Cell::new(format!("{place}: {severity}: {message}")).look(look)));
    }
    let kept: Vec<String> = list("kept").iter().map(|kept| kept["generation"].to_string()).collect();
    if !kept.is_empty() {
        facts.push(("kept", Cell::new(format!("generations {}", kept.join(", ")))));
    }
    facts
}
