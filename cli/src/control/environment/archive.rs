//! `flagsctl env archive` and `flagsctl env restore`

use clap::Args;

use crate::{
    control::{
        client::{ChangeArguments, Control, told},
        profile::Target,
    },
    failure::{Exit, Failure},
    output::Output,
};

/// Let nothing in an environment be changed any more; hosts go on with what they have, and its key stays taken
///
/// What is changed of flags in all environments reaches it all the same.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  flagsctl env archive --env staging --comment 'nobody looks at it'")]
pub(super) struct Archive {
    #[command(flatten)]
    change: ChangeArguments,
    #[command(flatten)]
    target: Target,
}

/// Let an archived environment be changed again
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  flagsctl env restore --env staging")]
pub(super) struct Restore {
    #[command(flatten)]
    change: ChangeArguments,
    #[command(flatten)]
    target: Target,
}

pub(super) fn archive(arguments: &Archive, output: &mut Output) -> Result<Exit, Failure> {
    let outcome = "archived: nothing in it can be changed, and hosts go on with what they have";
    move_it((&arguments.change, &arguments.target), "archive", outcome, output)
}

pub(super) fn restore(arguments: &Restore, output: &mut Output) -> Result<Exit, Failure> {
    move_it((&arguments.change, &arguments.target), "restore", "back, and can be changed", output)
}

fn move_it(
    (change, target): (&ChangeArguments, &Target),
    verb: &str,
    outcome: &str,
    output: &mut Output,
) -> Result<Exit, Failure> {
    let control = Control::open(target)?;
    let path = control.in_project(&["environments", control.environment_key()?, verb])?;
    let done = control.write("POST", &path, None, &change.write, change.if_revision)?.body;
    told(output, &done, &change.write, &format!("{} is {outcome}, at revision {}", control.place()?, done["revision"]))
}
