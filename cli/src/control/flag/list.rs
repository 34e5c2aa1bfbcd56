//! `flagsctl flag list`

use clap::Args;
use serde_json::Value;

use crate::{
    control::{
        client::{Control, listed},
        profile::Target,
    },
    failure::{Exit, Failure},
    output::{Cell, Output, clip},
    value,
};

/// List the flags of a project
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  flagsctl flag list --project shop
  flagsctl flag list cart --json | jq -r '.[].key'")]
pub(crate) struct List {
    /// Only flags in whose key, description, owner or tags these words are
    search: Option<String>,
    /// The archived flags instead
    #[arg(long)]
    archived: bool,
    /// Print keys alone
    #[arg(long, conflicts_with = "json")]
    keys: bool,
    #[command(flatten)]
    target: Target,
}

pub(crate) fn run(arguments: &List, output: &mut Output) -> Result<Exit, Failure> {
    const MOST: usize = 60;
    let control = Control::open(&arguments.target)?;
    let flags = control.found(&control.in_project(&["flags"])?, arguments.search.as_deref(), arguments.archived)?;
    let text = |flag: &Value, name: &str| flag[name].as_str().unwrap_or_default().to_owned();
    if arguments.keys {
        flags.iter().try_for_each(|flag| output.line(Cell::new(text(flag, "key")).plain()))?;
        return Ok(Exit::Done);
    }
    let or_dash = |text: String| Cell::new(if text.is_empty() { "-".to_owned() } else { clip(&text, MOST) });
    let header = ["KEY", "TYPE", "KIND", "OWNER", "TAGS", "EXPIRES", "DESCRIPTION"];
    listed(output, &flags, "no flags", &header, |flag| {
        let tags: Vec<&str> = flag["tags"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let expires = flag["expiresMs"].as_i64().map_or_else(|| "-".to_owned(), value::day);
        vec![
            Cell::new(text(flag, "key")),
            Cell::new(text(flag, "type")),
            Cell::new(text(flag, "kind")),
            or_dash(text(flag, "owner")),
            or_dash(tags.join(", ")),
            Cell::new(expires),
            or_dash(text(flag, "description")),
        ]
    })
}
