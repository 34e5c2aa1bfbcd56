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
use serde_json::{Map, Value, json};

use super::{
    client::{ChangeArguments, Control},
    flag::read_rule,
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

/// What a segment is, in the caller's words.
#[derive(Args, Debug)]
struct About {
    /// A condition as in a flag's rule; @FILE reads a file, @- standard input
    #[arg(long, value_name = "RULE")]
    condition: Option<String>,
    /// Its name, for people
    #[arg(long, value_name = "TEXT")]
    name: Option<String>,
    /// Who is in it, and why
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
}

impl About {
    /// What is said of it, as the API calls it.
    fn members(&self) -> Result<Map<String, Value>, Failure> {
        let condition = self.condition.as_deref().map(read_rule).transpose()?;
        let texts = [("name", &self.name), ("description", &self.description)];
        let texts = texts.into_iter().filter_map(|(name, text)| Some((name, json!(text.as_ref()?))));
        let members = condition.map(|rule| ("condition", rule)).into_iter().chain(texts);
        Ok(members.map(|(name, value)| (name.to_owned(), value)).collect())
    }
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
