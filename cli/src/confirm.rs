//! `flagsctl confirm`: lets a change pass that the guard holds.

use clap::Args;

use crate::{
    admin::Admin,
    failure::{Exit, Failure},
    output::Output,
    source::StoreArguments,
};

/// Publish the change that flagsd holds because it removes or disables too much
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  flagsctl status      # shows what is held, and why
  flagsctl confirm")]
pub(crate) struct Confirm {
    #[command(flatten)]
    store: StoreArguments,
}

pub(crate) fn run(arguments: &Confirm, output: &mut Output) -> Result<Exit, Failure> {
    let answer = Admin::connect(&arguments.store)?.post("confirm", None)?;
    if output.json {
        output.document(&answer)?;
    } else {
        output.line(format!("published as generation {}", answer["generation"]))?;
    }
    Ok(Exit::Done)
}
