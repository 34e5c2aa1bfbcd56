//! `flagsctl flag archive` and `flagsctl flag restore`

use clap::Args;

use super::OneFlag;
use crate::{
    control::client::{Control, told},
    failure::{Exit, Failure},
    output::Output,
};

/// Take a flag from all hosts of all environments; its key stays taken
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  flagsctl flag archive new-cart --comment 'everybody has it'")]
pub(crate) struct Archive {
    #[command(flatten)]
    flag: OneFlag,
}

/// Bring an archived flag back, configured as it was
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  flagsctl flag restore new-cart")]
pub(crate) struct Restore {
    #[command(flatten)]
    flag: OneFlag,
}

pub(crate) fn archive(arguments: &Archive, output: &mut Output) -> Result<Exit, Failure> {
    move_it(&arguments.flag, "archive", "archived: no host has it any more", output)
}

pub(crate) fn restore(arguments: &Restore, output: &mut Output) -> Result<Exit, Failure> {
    move_it(&arguments.flag, "restore", "back, configured as it was", output)
}

fn move_it(flag: &OneFlag, verb: &str, outcome: &str, output: &mut Output) -> Result<Exit, Failure> {
    let OneFlag { key, change, target } = flag;
    let control = Control::open(target)?;
    let path = control.in_project(&["flags", key, verb])?;
    let done = control.write("POST", &path, None, &change.write, change.if_revision)?.body;
    told(output, &done, &change.write, &format!("{key} is {outcome}"))
}
