//! `flagsctl segment show`

use clap::Args;

use super::path;
use crate::{
    control::{client::Control, profile::Target},
    failure::{Exit, Failure},
    output::{Cell, Look, Output},
    value,
};

/// Show a segment: its condition, or how many ids it has
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  flagsctl segment show vip --env production --json | jq .ids")]
pub(crate) struct Show {
    /// The segment's key
    key: String,
    #[command(flatten)]
    target: Target,
}

pub(crate) fn run(arguments: &Show, output: &mut Output) -> Result<Exit, Failure> {
    let control = Control::open(&arguments.target)?;
    let segment = control.get(&path(&control, &[&arguments.key])?)?.body;
    if output.json {
        output.document(&segment)?;
        return Ok(Exit::Done);
    }
    let text = |name: &str| segment[name].as_str().unwrap_or_default();
    let mut facts = vec![("segment", Cell::new(text("key")).look(Look::Bold))];
    let mut fact = |name, text: String| {
        if !text.is_empty() {
            facts.push((name, Cell::new(text)));
        }
    };
    fact("name", text("name").to_owned());
    fact("description", text("description").to_owned());
    fact("kind", text("kind").to_owned());
    fact("condition", segment.get("condition").map(ToString::to_string).unwrap_or_default());
    fact("ids", segment.get("ids").map(ToString::to_string).unwrap_or_default());
    fact("content", text("content").to_owned());
    fact("archived", if segment["archived"] == true { "yes: no host has it".to_owned() } else { String::new() });
    fact("changed", segment["changedMs"].as_i64().map(value::time_ms).unwrap_or_default());
    fact("revision", segment["revision"].to_string());
    output.facts(&facts)?;
    Ok(Exit::Done)
}
