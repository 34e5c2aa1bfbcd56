//! `flagsctl segment create`

use clap::Args;
use serde_json::json;

use super::path;
use crate::{
    control::{
        client::{Control, WriteArguments, told},
        flag::read_rule,
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
    /// A condition as in a flag's rule; @FILE reads a file, @- standard input
    #[arg(long, value_name = "RULE")]
    condition: Option<String>,
    /// Its name, for people
    #[arg(long, value_name = "TEXT")]
    name: Option<String>,
    /// Who is in it, and why
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    #[command(flatten)]
    write: WriteArguments,
    #[command(flatten)]
    target: Target,
}

pub(crate) fn run(arguments: &Create, output: &mut Output) -> Result<Exit, Failure> {
    let control = Control::open(&arguments.target)?;
    let mut body = json!({"key": arguments.key, "kind": "list"});
    if let Some(condition) = &arguments.condition {
        body["kind"] = json!("rule");
        body["condition"] = read_rule(condition)?;
    }
    for (name, text) in [("name", &arguments.name), ("description", &arguments.description)] {
        if let Some(text) = text {
            body[name] = json!(text);
        }
    }
    let made = control.write("POST", &path(&control, &[])?, Some(&body), &arguments.write, None)?.body;
    let what = if arguments.condition.is_some() { "a rule" } else { "a list without ids" };
    let sentence =
        format!("{} is made in {}: {what}, at revision {}", arguments.key, control.place()?, made["revision"]);
    told(output, &made, &arguments.write, &sentence)
}
