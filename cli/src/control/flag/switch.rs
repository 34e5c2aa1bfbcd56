//! `flagsctl flag enable` and `flagsctl flag disable`

use clap::Args;
use serde_json::json;

use super::{OneFlag, config_path, told_later};
use crate::{
    control::{
        client::{Control, told},
        schedule::{When, schedule},
    },
    failure::{Exit, Failure},
    output::Output,
};

/// Let a flag be evaluated in an environment
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  flagsctl flag enable new-cart --env production --comment 'launch'\n  flagsctl flag enable new-cart --env production --at 2027-03-01T09:00Z"
)]
pub(crate) struct Enable {
    #[command(flatten)]
    flag: OneFlag,
    #[command(flatten)]
    when: When,
}

/// Let programs get their own default of a flag in an environment
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  flagsctl flag disable new-cart --env production --comment 'too slow'")]
pub(crate) struct Disable {
    #[command(flatten)]
    flag: OneFlag,
    #[command(flatten)]
    when: When,
}

pub(crate) fn enable(arguments: &Enable, output: &mut Output) -> Result<Exit, Failure> {
    switch(&arguments.flag, "enabled", &arguments.when, output)
}

pub(crate) fn disable(arguments: &Disable, output: &mut Output) -> Result<Exit, Failure> {
    switch(&arguments.flag, "disabled", &arguments.when, output)
}

fn switch(flag: &OneFlag, state: &str, when: &When, output: &mut Output) -> Result<Exit, Failure> {
    let OneFlag { key, change, target } = flag;
    let control = Control::open(target)?;
    let patch = json!({"state": state.to_uppercase()});
    if let Some(at_ms) = when.at {
        let done = schedule(&control, key, at_ms, &patch, change, change.if_revision)?;
        let sentence = told_later(key, &done, when).unwrap_or_default();
        return told(output, &done.body, &change.write, &sentence);
    }
    let done = control.write("PATCH", &config_path(&control, key)?, Some(&patch), &change.write, change.if_revision)?;
    let sentence = format!("{key} is {state} in {}, at revision {}", control.place()?, done.body["revision"]);
    told(output, &done.body, &change.write, &sentence)
}
