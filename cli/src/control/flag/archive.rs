//! `flagsctl flag archive` and `flagsctl flag restore`

use clap::Args;

use crate::{
    control::{
        client::{ChangeArguments, Control, told},
        profile::Target,
    },
    failure::{Exit, Failure},
    output::Output,
};

/// Take a flag from all hosts of all environments; its key stays taken
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  flagsctl flag archive new-cart --comment 'everybody has it'")]
pub(crate) struct Archive {
    /// The flag's key
    key: String,
    #[command(flatten)]
    change: ChangeArguments,
    #[command(flatten)]
    target: Target,
}

/// Bring an archived flag back, configured as it was
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  flagsctl flag restore new-cart")]
pub(crate) struct Restore {
    /// The flag's key
    key: String,
    #[command(flatten)]
    change: ChangeArguments,
    #[command(flatten)]
    target: Target,
}

pub(crate) fn archive(arguments: &Archive, output: &mut Output) -> Result<Exit, Failure> {
    let Archive { key, change, target } = arguments;
    move_it(key, "archive", "archived: no host has it any more", change, target, output)
}

pub(crate) fn restore(arguments: &Restore, output: &mut Output) -> Result<Exit, Failure> {
    let Restore { key, change, target } = arguments;
    move_it(key, "restore", "back, configured as it was", change, target, output)
}

fn move_it(
    key: &str,
    verb: &str,
    outcome: &str,
    change: &ChangeArguments,
    target: &Target,
    output: &mut Output,
) -> Result<Exit, Failure> {
    let control = Control::open(target)?;
    let path = control.in_project(&["flags", key, verb])?;
    let done = control.write("POST", &path, None, &change.write, change.if_revision)?.body;
    told(output, &done, &change.write, &format!("{key} is {outcome}"))
}
