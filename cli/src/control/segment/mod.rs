//! `flagsctl segment`: groups of users of an environment that several flags speak of.

mod archive;
mod create;
mod ids;
mod list;
mod print;
mod progress;
mod set;
mod show;
mod source;

pub(super) use source::Ids;

use clap::{Args, Subcommand};

use super::{
    client::{ChangeArguments, Control},
    profile::Target,
};
use crate::{
    failure::{Exit, Failure},
    output::Output,
};

/// A segment, and how it is changed.
#[derive(Args, Debug)]
struct OneSegment {
    /// The segment's key
    key: String,
    #[command(flatten)]
    change: ChangeArguments,
    #[command(flatten)]
    target: Target,
}

/// Look at and change segments: rules that the flags of an environment share, and lists of ids
#[derive(Args, Debug)]
pub(crate) struct Segments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    List(list::List),
    Show(show::Show),
    Create(create::Create),
    Set(set::Set),
    #[command(name = "ids")]
    Print(print::Print),
    Upload(ids::Upload),
    Add(ids::Add),
    Remove(ids::Remove),
    Archive(archive::Archive),
    Restore(archive::Restore),
}

pub(crate) fn run(segments: &Segments, output: &mut Output) -> Result<Exit, Failure> {
    match &segments.command {
        Command::List(arguments) => list::run(arguments, output),
        Command::Show(arguments) => show::run(arguments, output),
        Command::Create(arguments) => create::run(arguments, output),
        Command::Set(arguments) => set::run(arguments, output),
        Command::Print(arguments) => print::run(arguments, output),
        Command::Upload(arguments) => ids::upload(arguments, output),
        Command::Add(arguments) => ids::add(arguments, output),
        Command::Remove(arguments) => ids::remove(arguments, output),
        Command::Archive(arguments) => archive::archive(arguments, output),
        Command::Restore(arguments) => archive::restore(arguments, output),
    }
}

/// The path of an environment's segments, and of what is below it.
fn path(control: &Control, below: &[&str]) -> Result<String, Failure> {
    control.in_project(&[&["environments", control.environment_key()?, "segments"], below].concat())
}
