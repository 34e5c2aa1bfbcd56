//! `flagsctl segment archive` and `flagsctl segment restore`

use clap::Args;

use super::{OneSegment, path};
use crate::{
    control::client::{Control, told},
    failure::{Exit, Failure},
    output::Output,
};

/// Take a segment that nothing refers to from all hosts; its key stays taken
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  flagsctl segment archive vip --env production")]
pub(crate) struct Archive {
    #[command(flatten)]
    segment: OneSegment,
}

/// Bring an archived segment back as it was
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  flagsctl segment restore vip --env production")]
pub(crate) struct Restore {
    #[command(flatten)]
    segment: OneSegment,
}

pub(crate) fn archive(arguments: &Archive, output: &mut Output) -> Result<Exit, Failure> {
    move_it(&arguments.segment, "archive", "archived: no host has it any more", output)
}

pub(crate) fn restore(arguments: &Restore, output: &mut Output) -> Result<Exit, Failure> {
    move_it(&arguments.segment, "restore", "back as it was", output)
}

fn move_it(segment: &OneSegment, verb: &str, outcome: &str, output: &mut Output) -> Result<Exit, Failure> {
    let OneSegment { key, change, target } = segment;
    let control = Control::open(target)?;
    let done = control.write("POST", &path(&control, &[key, verb])?, None, &change.write, change.if_revision)?.body;
    told(output, &done, &change.write, &format!("{key} is {outcome}"))
}
