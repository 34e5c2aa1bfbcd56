//! `flagsctl project archive` and `flagsctl project restore`

use clap::Args;

use super::{OneProject, path};
use crate::{
    control::client::{Control, told},
    failure::{Exit, Failure},
    output::Output,
};

/// Let nothing in a project be changed any more; hosts go on with what they have, and its key stays taken
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  flagsctl project archive shop --comment 'moved to store'")]
pub(super) struct Archive {
    #[command(flatten)]
    project: OneProject,
}

/// Let an archived project be changed again
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  flagsctl project restore shop")]
pub(super) struct Restore {
    #[command(flatten)]
    project: OneProject,
}

pub(super) fn archive(arguments: &Archive, output: &mut Output) -> Result<Exit, Failure> {
    let outcome = "archived: nothing in it can be changed, and hosts go on with what they have";
    move_it(&arguments.project, "archive", outcome, output)
}

pub(super) fn restore(arguments: &Restore, output: &mut Output) -> Result<Exit, Failure> {
    move_it(&arguments.project, "restore", "back, and can be changed", output)
}

fn move_it(project: &OneProject, verb: &str, outcome: &str, output: &mut Output) -> Result<Exit, Failure> {
    let OneProject { key, change, target } = project;
    let control = Control::open(target)?;
    let path = format!("{}/{verb}", path(key));
    let done = control.write("POST", &path, None, &change.write, change.if_revision)?.body;
    told(output, &done, &change.write, &format!("{key} is {outcome}"))
}
