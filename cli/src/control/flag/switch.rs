//! `flagsctl flag enable` and `flagsctl flag disable`

use clap::Args;
use serde_json::json;

use super::config_path;
use crate::{
    control::{
        client::{ChangeArguments, Control, told},
        profile::Target,
    },
    failure::{Exit, Failure},
    output::Output,
};

/// Let a flag be evaluated in an environment
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  flagsctl flag enable new-cart --env production --comment 'launch'")]
pub(crate) struct Enable {
    /// The flag's key
    key: String,
    #[command(flatten)]
    change: ChangeArguments,
    #[command(flatten)]
    target: Target,
}

/// Let programs get their own default of a flag in an environment
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  flagsctl flag disable new-cart --env production --comment 'too slow'")]
pub(crate) struct Disable {
    /// The flag's key
    key: String,
    #[command(flatten)]
    change: ChangeArguments,
    #[command(flatten)]
    target: Target,
}

pub(crate) fn enable(arguments: &Enable, output: &mut Output) -> Result<Exit, Failure> {
    switch(&arguments.key, "enabled", &arguments.change, &arguments.target, output)
}

pub(crate) fn disable(arguments: &Disable, output: &mut Output) -> Result<Exit, Failure> {
    switch(&arguments.key, "disabled", &arguments.change, &arguments.target, output)
}

fn switch(
    key: &str,
    state: &str,
    change: &ChangeArguments,
    target: &Target,
    output: &mut Output,
) -> Result<Exit, Failure> {
    let control = Control::open(target)?;
    let patch = json!({"state": state.to_uppercase()});
    let done = control.write("PATCH", &config_path(&control, key)?, Some(&patch), &change.write, change.if_revision)?;
    let sentence = format!("{key} is {state} in {}, at revision {}", control.place()?, done.body["revision"]);
    told(output, &done.body, &change.write, &sentence)
}
