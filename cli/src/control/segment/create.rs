//! `flagsctl segment create`

use clap::Args;
use serde_json::json;

use super::{About, path};
use crate::{
    control::{
        client::{Control, WriteArguments, told},
        profile::Target,
    },
    failure::{Exit, Failure},
    output::Output,
};

/// Make a segment: an empty list of ids, or with --condition a rule
#[derive(Args, Debug)]
#[command(after_help = "\
Rules of flags say {\"$ref\": KEY} of a rule and {\"in\": [{\"var\": \"targetingKey\"}, {\"var\": \"$lists.KEY\"}]} of a list. Keys are never used again.

Examples:
  flagsctl segment create vip --name 'Who bought much'
  flagsctl segment create staff --condition '{\"ends_with\": [{\"var\": \"email\"}, \"@shop.example\"]}'")]
pub(crate) struct Create {
    /// The segment's key
    key: String,
    #[command(flatten)]
    about: About,
    #[command(flatten)]
    write: WriteArguments,
    #[command(flatten)]
    target: Target,
}

pub(crate) fn run(arguments: &Create, output: &mut Output) -> Result<Exit, Failure> {
    let control = Control::open(&arguments.target)?;
    let mut body = arguments.about.members()?;
    let is_rule = body.contains_key("condition");
    body.insert("key".to_owned(), json!(arguments.key));
    body.insert("kind".to_owned(), json!(if is_rule { "rule" } else { "list" }));
    let made = control.write("POST", &path(&control, &[])?, Some(&body.into()), &arguments.write, None)?.body;
    let what = if is_rule { "a rule" } else { "a list without ids" };
    let sentence =
        format!("{} is made in {}: {what}, at revision {}", arguments.key, control.place()?, made["revision"]);
    told(output, &made, &arguments.write, &sentence)
}
