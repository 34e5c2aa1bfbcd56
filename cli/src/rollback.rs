//! `flagsctl rollback`: back to what an earlier generation said.

use clap::Args;
use serde_json::json;

use crate::{
    admin::Admin,
    failure::{Exit, Failure},
    output::Output,
    source::StoreArguments,
};

/// Publish the content of an earlier generation again, and freeze
///
/// The content gets a new generation number. Until `flagsctl unfreeze` what the sources say waits.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  flagsctl rollback        # to the generation before this one
  flagsctl rollback 41     # to generation 41; `flagsctl status` lists those that are kept")]
pub(crate) struct Rollback {
    /// The generation; the one before the current where none is named
    generation: Option<u64>,
    #[command(flatten)]
    store: StoreArguments,
}

pub(crate) fn run(arguments: &Rollback, output: &mut Output) -> Result<Exit, Failure> {
    let admin = Admin::connect(&arguments.store)?;
    let answer = admin.post("rollback", Some(&json!({"generation": arguments.generation})))?;
    if output.json {
        output.document(&answer)?;
    } else {
        let (generation, content) = (&answer["generation"], &answer["content_of"]);
        output.line(format!("rolled back: generation {generation} has the content of generation {content}"))?;
        output.line("frozen there until `flagsctl unfreeze`")?;
    }
    Ok(Exit::Done)
}
