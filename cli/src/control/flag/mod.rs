//! `flagsctl flag`: the flags of a project, and what they do in an environment.

mod about;
mod archive;
mod clone;
mod create;
mod list;
mod rollout;
mod set;
mod show;
mod switch;

use clap::{Args, Subcommand};
use serde_json::{Map, Value};

pub(super) use about::{literal, type_of};
pub(super) use set::read_rule;

use super::{
    client::{Answer, ChangeArguments, Control},
    profile::Target,
    schedule::{When, patch_between, schedule},
};
use crate::{
    failure::{Exit, Failure},
    output::Output,
    value,
};

/// A flag, and how it is changed everywhere.
#[derive(Args, Debug)]
pub(super) struct OneFlag {
    /// The flag's key
    key: String,
    #[command(flatten)]
    change: ChangeArguments,
    #[command(flatten)]
    target: Target,
}

/// What a scheduled change is told as; `None` of one that has happened.
fn told_later(key: &str, done: &Answer, when: &When) -> Option<String> {
    let at = value::time_ms(when.at?);
    let id = done.body["id"].as_str().unwrap_or_default();
    Some(format!("{key} is changed at {at}; `flagsctl schedule cancel {id}` cancels it"))
}

/// Look at and change the flags that a control plane holds
#[derive(Args, Debug)]
pub(crate) struct Flags {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    List(list::List),
    Show(show::Show),
    Create(create::Create),
    Set(Box<set::Set>),
    Rollout(rollout::Rollout),
    Clone(clone::CloneFrom),
    Enable(switch::Enable),
    Disable(switch::Disable),
    Archive(archive::Archive),
    Restore(archive::Restore),
}

pub(crate) fn run(flags: &Flags, output: &mut Output) -> Result<Exit, Failure> {
    match &flags.command {
        Command::List(arguments) => list::run(arguments, output),
        Command::Show(arguments) => show::run(arguments, output),
        Command::Create(arguments) => create::run(arguments, output),
        Command::Set(arguments) => set::run(arguments, output),
        Command::Rollout(arguments) => rollout::run(arguments, output),
        Command::Clone(arguments) => clone::run(arguments, output),
        Command::Enable(arguments) => switch::enable(arguments, output),
        Command::Disable(arguments) => switch::disable(arguments, output),
        Command::Archive(arguments) => archive::archive(arguments, output),
        Command::Restore(arguments) => archive::restore(arguments, output),
    }
}

/// The path of a flag's configuration.
fn config_path(control: &Control, key: &str) -> Result<String, Failure> {
    control.in_project(&["environments", control.environment_key()?, "flags", key])
}

/// Gives a flag the configuration that `change` makes of its present one. It is replaced whole, so that what somebody else changes meanwhile is
/// not overwritten. What is to happen later is what differs, as a merge patch; if that is of a rule, only if the flag is configured as it is now.
fn reconfigure(
    control: &Control,
    key: &str,
    arguments: &ChangeArguments,
    when: &When,
    change: impl FnOnce(&mut Map<String, Value>) -> Result<(), Failure>,
) -> Result<Answer, Failure> {
    let path = config_path(control, key)?;
    let Answer { revision, body } = control.get(&path)?;
    let Value::Object(mut config) = body else { return Err(Failure::new("the flag's configuration is no object")) };
    config.remove("revision");
    let old = config.clone();
    change(&mut config)?;
    if let Some(at_ms) = when.at {
        let (patch, is_of_a_rule) = patch_between(&old, &config);
        let if_revision = arguments.if_revision.or(revision.filter(|_| is_of_a_rule));
        return schedule(control, key, at_ms, &patch, arguments, if_revision);
    }
    control.write("PUT", &path, Some(&Value::Object(config)), &arguments.write, arguments.if_revision.or(revision))
}

/// A rollout for people.
pub(super) fn rollout_shown(config: &Value) -> String {
    let Some(shares) = config["rollout"]["variants"].as_object() else { return "-".to_owned() };
    let shares: Vec<String> = shares.iter().map(|(name, weight)| format!("{name} {weight}")).collect();
    let by = config["rollout"]["by"].as_str().filter(|by| *by != "targetingKey");
    shares.join(", ") + &by.map_or_else(String::new, |by| format!(" by {by}"))
}

/// `ENABLED` as this program writes it elsewhere.
pub(super) fn state_shown(config: &Value) -> &'static str {
    if config["state"] == "ENABLED" { "enabled" } else { "disabled" }
}
