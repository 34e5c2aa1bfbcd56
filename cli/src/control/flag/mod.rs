//! `flagsctl flag`: the flags of a project, and what they do in an environment.

mod about;
mod archive;
mod create;
mod list;
mod rollout;
mod set;
mod show;
mod switch;

use clap::{Args, Subcommand};
use serde_json::{Map, Value};

pub(super) use about::type_of;

use super::client::{Answer, ChangeArguments, Control};
use crate::{
    failure::{Exit, Failure},
    output::Output,
};

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

/// Gives a flag the configuration that `change` makes of its present one. It is replaced whole, as a merge patch would mix an old rule with
/// the new one; what somebody else changes meanwhile is not overwritten.
fn reconfigure(
    control: &Control,
    key: &str,
    arguments: &ChangeArguments,
    change: impl FnOnce(&mut Map<String, Value>) -> Result<(), Failure>,
) -> Result<Answer, Failure> {
    let path = config_path(control, key)?;
    let Answer { revision, body } = control.get(&path)?;
    let Value::Object(mut config) = body else { return Err(Failure::new("the flag's configuration is no object")) };
    config.remove("revision");
    change(&mut config)?;
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
