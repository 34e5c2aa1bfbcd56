//! `flagsctl segment list`

use clap::Args;

use super::path;
use crate::{
    control::{
        client::{Control, listed, name_of, time_of},
        profile::Target,
    },
    failure::{Exit, Failure},
    output::{Cell, Output, clip},
};

/// List the segments of an environment
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  flagsctl segment list --env production")]
pub(crate) struct List {
    /// Only segments in whose key, name or description these words are
    search: Option<String>,
    /// The archived segments instead
    #[arg(long)]
    archived: bool,
    #[command(flatten)]
    target: Target,
}

pub(crate) fn run(arguments: &List, output: &mut Output) -> Result<Exit, Failure> {
    const MOST: usize = 60;
    let control = Control::open(&arguments.target)?;
    let segments = control.found(&path(&control, &[])?, arguments.search.as_deref(), arguments.archived)?;
    listed(output, &segments, "no segments", &["KEY", "KIND", "WHO", "NAME", "REVISION", "CHANGED"], |item| {
        let who = match item["ids"].as_u64() {
            Some(ids) => super::ids::counted(ids),
            None => clip(&item["condition"].to_string(), MOST),
        };
        vec![
            Cell::new(item["key"].as_str().unwrap_or_default()),
            Cell::new(item["kind"].as_str().unwrap_or_default()),
            Cell::new(who),
            name_of(item),
            Cell::new(item["revision"].to_string()),
            time_of(item, "changedMs"),
        ]
    })
}
