//! `flagsctl project set`

use clap::Args;
use serde_json::{Map, Value, json};

use super::{About, OneProject, path};
use crate::{
    control::client::{Control, told},
    failure::{Exit, Failure},
    output::Output,
};

/// Change what a project is called, and about
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  flagsctl project set shop --name 'The shop' --description 'Web and apps'")]
pub(super) struct Set {
    #[command(flatten)]
    project: OneProject,
    #[command(flatten)]
    about: About,
}

pub(super) fn run(arguments: &Set, output: &mut Output) -> Result<Exit, Failure> {
    let OneProject { key, change, target } = &arguments.project;
    let patch: Map<String, Value> =
        arguments.about.members().map(|(name, text)| (name.to_owned(), json!(text))).collect();
    if patch.is_empty() {
        return Err(Failure::Usage("nothing is named that should change".to_owned()));
    }
    let control = Control::open(target)?;
    let done = control.write("PATCH", &path(key), Some(&patch.into()), &change.write, change.if_revision)?.body;
    told(output, &done, &change.write, &format!("{key} is changed, at revision {}", done["version"]))
}
