//! `flagsctl env key`: another key for what hosts get.

use clap::{Args, Subcommand};

use crate::{
    control::{
        client::{ChangeArguments, Control, told},
        profile::Target,
    },
    failure::{Exit, Failure},
    output::Output,
};

/// Replace the key that signs what hosts get
#[derive(Args, Debug)]
pub(super) struct Key {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make the key that is to sign next; nothing changes for hosts yet
    #[command(after_help = "Examples:\n  flagsctl env key next --env production")]
    Next(Arguments),
    /// Let the next key sign; hosts that were not told of it keep the flags that they have
    #[command(after_help = "Examples:\n  flagsctl env key rotate --env production --comment 'yearly'")]
    Rotate(Arguments),
    /// Take the next key back
    #[command(after_help = "Examples:\n  flagsctl env key cancel --env production")]
    Cancel(Arguments),
}

#[derive(Args, Debug)]
struct Arguments {
    #[command(flatten)]
    change: ChangeArguments,
    #[command(flatten)]
    target: Target,
}

pub(super) fn run(key: &Key, output: &mut Output) -> Result<Exit, Failure> {
    let (arguments, below) = match &key.command {
        Command::Next(arguments) => (arguments, &["signing-key"][..]),
        Command::Rotate(arguments) => (arguments, &["signing-key", "rotate"][..]),
        Command::Cancel(arguments) => (arguments, &["signing-key", "cancel"][..]),
    };
    let control = Control::open(&arguments.target)?;
    let path = control.in_project(&[&["environments", control.environment_key()?], below].concat())?;
    let change = &arguments.change;
    let done = control.write("POST", &path, None, &change.write, change.if_revision)?.body;
    let (place, text) = (control.place()?, |name: &str| done[name].as_str().unwrap_or_default());
    let sentence = match &key.command {
        Command::Next(_) => format!(
            "{place} has a next key, {next}: add `&key={next}` to flagsd's source on every host, beside key={}; then rotate",
            text("publicKey"),
            next = text("nextPublicKey"),
        ),
        Command::Rotate(_) => {
            format!("{place} is signed by {} from revision {} on", text("publicKey"), done["revision"])
        }
        Command::Cancel(_) => format!("{place} has no next key any more, and is signed by {}", text("publicKey")),
    };
    told(output, &done, &change.write, &sentence)
}
