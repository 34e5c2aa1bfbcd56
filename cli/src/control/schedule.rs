//! `flagsctl schedule`, and what other commands do with `--at`.

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use super::{
    client::{Answer, ChangeArguments, Control, listed, time_of, told},
    profile::Target,
};
use crate::{
    failure::{Exit, Failure},
    output::{Cell, Look, Output, clip},
    value,
};

/// Look at and cancel the changes that are to happen at a time; `--at` of `flag set` and its like makes them
#[derive(Args, Debug)]
pub(crate) struct Schedules {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List them, those to come first
    List {
        /// Only those to come
        #[arg(long)]
        pending: bool,
        #[command(flatten)]
        target: Target,
    },
    /// Cancel one that is to come
    Cancel {
        /// Its id
        id: String,
        #[command(flatten)]
        change: ChangeArguments,
        #[command(flatten)]
        target: Target,
    },
}

/// When a change is to happen.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Writing")]
pub(super) struct When {
    /// Change it then, not now: 2027-03-01, 2027-03-01T09:00:00Z (UTC), or after a while: 90m, 12h, 7d
    #[arg(long, value_name = "TIME", value_parser = value::moment_ms)]
    pub(super) at: Option<i64>,
}

pub(crate) fn run(schedules: &Schedules, output: &mut Output) -> Result<Exit, Failure> {
    match &schedules.command {
        Command::List { pending, target } => list(*pending, target, output),
        Command::Cancel { id, change, target } => cancel(id, change, target, output),
    }
}

fn list(pending: bool, target: &Target, output: &mut Output) -> Result<Exit, Failure> {
    const MOST: usize = 48;
    let control = Control::open(target)?;
    let path = control.in_project(&["environments", control.environment_key()?, "schedules"])?;
    let mut items = control.items(&path, &[("state", if pending { "pending" } else { "" })], None)?;
    items.sort_by_key(|item| (item["state"] != "pending", item["atMs"].as_i64()));
    let header = ["ID", "TIME", "FLAG", "STATE", "CHANGE", "WHO", "COMMENT"];
    listed(output, &items, "nothing is scheduled", &header, |item| {
        let text = |name: &str| item[name].as_str().unwrap_or_default();
        let look = match text("state") {
            "failed" => Look::Bad,
            "pending" => Look::Warn,
            _ => Look::Good,
        };
        vec![
            Cell::new(text("id")),
            time_of(item, "atMs"),
            Cell::new(text("flag")),
            Cell::new(text("state")).look(look),
            Cell::new(clip(&item["patch"].to_string(), MOST)),
            Cell::new(text("actor")),
            Cell::new(item["problem"]["detail"].as_str().unwrap_or_else(|| text("comment"))),
        ]
    })
}

fn cancel(id: &str, change: &ChangeArguments, target: &Target, output: &mut Output) -> Result<Exit, Failure> {
    let control = Control::open(target)?;
    let path = control.in_project(&["environments", control.environment_key()?, "schedules", id, "cancel"])?;
    let done = control.write("POST", &path, None, &change.write, change.if_revision)?.body;
    let flag = done["flag"].as_str().unwrap_or_default();
    told(output, &done, &change.write, &format!("{flag} stays as it is: the scheduled change {id} is cancelled"))
}

/// Schedules a change of a flag's configuration.
pub(super) fn schedule(
    control: &Control,
    flag: &str,
    at_ms: i64,
    patch: &Value,
    change: &ChangeArguments,
    if_revision: Option<i64>,
) -> Result<Answer, Failure> {
    let path = control.in_project(&["environments", control.environment_key()?, "schedules"])?;
    let mut body = json!({"flag": flag, "atMs": at_ms, "patch": patch});
    if let Some(revision) = if_revision {
        body["ifRevision"] = json!(revision);
    }
    control.write("POST", &path, Some(&body), &change.write, None)
}

/// The JSON merge patch (RFC 7396) that makes `new` of `old`, as the control plane takes it: of a rule it is the whole rule. And whether it
/// changes who gets what, which was thought of for the flag as it is now.
pub(super) fn patch_between(old: &Map<String, Value>, new: &Map<String, Value>) -> (Value, bool) {
    let patch = difference(old, new, &|name| match name {
        "targeting" => Inside::Whole,
        "evaluators" => Inside::Members,
        _ => Inside::Merged,
    });
    let is_of_a_rule = ["targeting", "evaluators", "rollout"].iter().any(|name| patch.contains_key(*name));
    (Value::Object(patch), is_of_a_rule)
}

/// What a patch has of an object inside of another, where that is another object.
#[derive(Clone, Copy)]
enum Inside {
    /// What differs, at any depth.
    Merged,
    /// Those of its members that differ, whole.
    Members,
    Whole,
}

fn difference(old: &Map<String, Value>, new: &Map<String, Value>, of: &dyn Fn(&str) -> Inside) -> Map<String, Value> {
    let mut patch = Map::new();
    for (name, after) in new.iter().filter(|(name, after)| old.get(*name) != Some(after)) {
        let inside = match (of(name), old.get(name), after) {
            (Inside::Merged, Some(Value::Object(before)), Value::Object(after)) => {
                Value::Object(difference(before, after, &|_| Inside::Merged))
            }
            (Inside::Members, Some(Value::Object(before)), Value::Object(after)) => {
                Value::Object(difference(before, after, &|_| Inside::Whole))
            }
            _ => after.clone(),
        };
        patch.insert(name.clone(), inside);
    }
    for name in old.keys().filter(|name| !new.contains_key(*name)) {
        patch.insert(name.clone(), Value::Null);
    }
    patch
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_patch_is_what_differs() {
        let map = |value: Value| value.as_object().cloned().unwrap_or_default();
        let old = map(json!({"state": "DISABLED", "metadata": {"a": 1, "b": 2}, "offVariant": "off", "same": [1]}));
        let new = map(json!({"state": "ENABLED", "metadata": {"a": 1, "c": 3}, "same": [1]}));
        let expected = json!({"state": "ENABLED", "metadata": {"b": null, "c": 3}, "offVariant": null});
        assert_eq!(patch_between(&old, &new), (expected, false));
        let ruled = map(json!({"targeting": {"if": [true, "on"]}}));
        assert_eq!(patch_between(&ruled, &Map::new()), (json!({"targeting": null}), true));
        // Of a rule all of it, as the control plane replaces all of it.
        let old =
            map(json!({"targeting": {"==": [1, 2]}, "evaluators": {"x": {"var": "x"}, "y": true, "same": false}}));
        let new = map(json!({"targeting": {"in": [1, [2]]}, "evaluators": {"x": {"!": [1]}, "same": false}}));
        let expected = json!({"targeting": {"in": [1, [2]]}, "evaluators": {"x": {"!": [1]}, "y": null}});
        assert_eq!(patch_between(&old, &new), (expected, true));
    }
}
