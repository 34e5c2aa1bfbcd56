//! `flagsctl project show`

use clap::Args;

use super::path;
use crate::{
    control::{client::Control, profile::Target},
    failure::{Exit, Failure},
    output::{Cell, Look, Output},
    value,
};

/// Show a project
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  flagsctl project show shop")]
pub(super) struct Show {
    /// The project's key
    key: String,
    #[command(flatten)]
    target: Target,
}

pub(super) fn run(arguments: &Show, output: &mut Output) -> Result<Exit, Failure> {
    let project = Control::open(&arguments.target)?.get(&path(&arguments.key))?.body;
    if output.json {
        output.document(&project)?;
        return Ok(Exit::Done);
    }
    let text = |name: &str| project[name].as_str().unwrap_or_default().to_owned();
    let time = |name: &str| project[name].as_i64().map(value::time_ms).unwrap_or_default();
    let mut facts = vec![("project", Cell::new(text("key")).look(Look::Bold))];
    for name in ["name", "description"] {
        if !text(name).is_empty() {
            facts.push((name, Cell::new(text(name))));
        }
    }
    if project["archived"] == true {
        facts.push(("archived", Cell::new("yes: nothing in it can be changed, and hosts go on").look(Look::Warn)));
    }
    facts.push(("made", Cell::new(time("createdMs"))));
    facts.push(("changed", Cell::new(time("changedMs"))));
    facts.push(("revision", Cell::new(project["version"].to_string())));
    output.facts(&facts)?;
    Ok(Exit::Done)
}
