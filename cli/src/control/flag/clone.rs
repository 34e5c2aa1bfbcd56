//! `flagsctl flag clone`

use clap::Args;
use serde_json::json;

use super::{OneFlag, config_path};
use crate::{
    control::client::{Control, told},
    failure::{Exit, Failure},
    output::Output,
};

/// Let a flag do what it does in another environment of the project
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  flagsctl flag clone new-cart --from staging --env production")]
pub(crate) struct CloneFrom {
    #[command(flatten)]
    flag: OneFlag,
    /// The other environment's key
    #[arg(long, value_name = "KEY")]
    from: String,
}

pub(crate) fn run(arguments: &CloneFrom, output: &mut Output) -> Result<Exit, Failure> {
    let OneFlag { key, change, target } = &arguments.flag;
    let control = Control::open(target)?;
    let (path, body) = (format!("{}/clone", config_path(&control, key)?), json!({"from": arguments.from}));
    let done = control.write("POST", &path, Some(&body), &change.write, change.if_revision)?.body;
    let (place, from, revision) = (control.place()?, &arguments.from, &done["revision"]);
    told(output, &done, &change.write, &format!("{key} is configured in {place} as in {from}, at revision {revision}"))
}
