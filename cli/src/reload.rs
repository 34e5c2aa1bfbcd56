//! `flagsctl reload`: has flagsd read its sources anew.

use clap::Args;

use crate::{
    admin::Admin,
    failure::{Exit, Failure},
    output::Output,
    source::StoreArguments,
};

/// Read every source anew, now
///
/// Not needed after a change: flagsd notices it by itself. For file systems that tell nobody of their changes.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  flagsctl reload")]
pub(crate) struct Reload {
    #[command(flatten)]
    store: StoreArguments,
}

pub(crate) fn run(arguments: &Reload, output: &mut Output) -> Result<Exit, Failure> {
    let answer = Admin::connect(&arguments.store)?.post("reload", None)?;
    if output.json {
        output.document(&answer)?;
    } else {
        output.line(format!("reloaded, at generation {}", answer["generation"]))?;
    }
    Ok(Exit::Done)
}
