//! `flagsctl segment set`

use clap::Args;

use super::{About, OneSegment, path};
use crate::{
    control::client::{Control, told},
    failure::{Exit, Failure},
    output::Output,
};

/// Change a rule's condition, or what a segment is called
#[derive(Args, Debug)]
#[command(after_help = "\
A condition is replaced whole, for all flags that mean the segment, in one revision.

Examples:
  flagsctl segment set staff --condition @staff.json --comment 'the new domain'
  flagsctl segment set vip --description 'Who bought for more than 1000'")]
pub(crate) struct Set {
    #[command(flatten)]
    segment: OneSegment,
    #[command(flatten)]
    about: About,
}

pub(crate) fn run(arguments: &Set, output: &mut Output) -> Result<Exit, Failure> {
    let OneSegment { key, change, target } = &arguments.segment;
    let patch = arguments.about.members()?;
    if patch.is_empty() {
        return Err(Failure::Usage("nothing is named that should change".to_owned()));
    }
    let control = Control::open(target)?;
    let path = path(&control, &[key])?;
    let done = control.write("PATCH", &path, Some(&patch.into()), &change.write, change.if_revision)?.body;
    let sentence = format!("{key} is changed in {}, at revision {}", control.place()?, done["revision"]);
    told(output, &done, &change.write, &sentence)
}
