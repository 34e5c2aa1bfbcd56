//! `flagsctl segment show`

use clap::Args;

use super::path;
use crate::{
    control::{
        client::{Control, shown},
        profile::Target,
    },
    failure::{Exit, Failure},
    output::Output,
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
    let text = |name: &str| segment[name].as_str().unwrap_or_default().to_owned();
    let as_json = |name: &str| segment.get(name).map(ToString::to_string).unwrap_or_default();
    let known = vec![
        ("name", text("name")),
        ("description", text("description")),
        ("kind", text("kind")),
        ("condition", as_json("condition")),
        ("ids", as_json("ids")),
        ("content", text("content")),
    ];
    shown(output, "segment", &segment, known, &segment["revision"])?;
    Ok(Exit::Done)
}
