//! `flagsctl env set`

use clap::Args;
use serde_json::{Map, Value, json};

use crate::{
    control::{
        client::{ChangeArguments, Control, told},
        flag::literal,
        profile::Target,
    },
    failure::{Exit, Failure},
    output::Output,
    overrides::assignment,
};

/// Change what an environment is called, and what it says of all its flags: its metadata
#[derive(Args, Debug)]
#[command(after_help = "\
`flagSetId` and `version` mean to programs what they mean to flagd: with another flagSetId, those that ask for the old one lose the flags.

Examples:
  flagsctl env set --name 'Before production' --env staging
  flagsctl env set --metadata team=web --metadata version=7 --env production")]
pub(super) struct Set {
    /// Its name, for people
    #[arg(long)]
    name: Option<String>,
    /// What programs get with each answer, below what the flag itself says: JSON if it can be, else text; null takes it away
    #[arg(long, value_name = "NAME=VALUE", value_parser = assignment)]
    metadata: Vec<(String, String)>,
    #[command(flatten)]
    change: ChangeArguments,
    #[command(flatten)]
    target: Target,
}

pub(super) fn run(arguments: &Set, output: &mut Output) -> Result<Exit, Failure> {
    let mut patch = Map::new();
    if let Some(name) = &arguments.name {
        patch.insert("name".to_owned(), json!(name));
    }
    let metadata: Map<_, _> =
        arguments.metadata.iter().map(|(name, text)| (name.clone(), literal(text, false))).collect();
    if !metadata.is_empty() {
        patch.insert("metadata".to_owned(), metadata.into());
    }
    if patch.is_empty() {
        return Err(Failure::Usage("nothing is named that should change".to_owned()));
    }
    let control = Control::open(&arguments.target)?;
    let path = control.in_project(&["environments", control.environment_key()?])?;
    let (change, patch) = (&arguments.change, Value::Object(patch));
    let done = control.write("PATCH", &path, Some(&patch), &change.write, change.if_revision)?.body;
    let sentence = format!("{} is changed, at revision {}", control.place()?, done["revision"]);
    told(output, &done, &change.write, &sentence)
}
