//! `flagsctl segment ids`

use clap::Args;

use super::path;
use crate::{
    control::{client::Control, profile::Target},
    failure::{Exit, Failure},
    output::Output,
};

/// Print the ids of a list, in order, one a line
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  flagsctl segment ids vip --env production > vip.txt")]
pub(crate) struct Print {
    /// The segment's key
    key: String,
    #[command(flatten)]
    target: Target,
}

pub(crate) fn run(arguments: &Print, output: &mut Output) -> Result<Exit, Failure> {
    let control = Control::open(&arguments.target)?;
    control.print(&path(&control, &[&arguments.key, "ids"])?, "ids", output)?;
    Ok(Exit::Done)
}
