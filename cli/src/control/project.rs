//! `flagsctl project`: the projects of a control plane.

mod archive;
mod set;
mod show;

use clap::{Args, Subcommand};
use serde_json::json;

use super::{
    client::{ChangeArguments, Control, WriteArguments, listed, name_of, time_of, told},
    profile::Target,
};
use crate::{
    admin::encoded,
    failure::{Exit, Failure},
    output::{Cell, Output},
};

/// Look at, make, change and archive projects
#[derive(Args, Debug)]
pub(crate) struct Projects {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    List(List),
    Show(show::Show),
    Create(Create),
    Set(set::Set),
    Archive(archive::Archive),
    Restore(archive::Restore),
}

/// A project, and how it is changed everywhere.
#[derive(Args, Debug)]
struct OneProject {
    /// The project's key
    key: String,
    #[command(flatten)]
    change: ChangeArguments,
    #[command(flatten)]
    target: Target,
}

/// List the projects that the token is for
#[derive(Args, Debug)]
struct List {
    /// The archived projects instead
    #[arg(long)]
    archived: bool,
    #[command(flatten)]
    target: Target,
}

/// Make a project
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  flagsctl project create shop --name 'The shop'")]
struct Create {
    /// The project's key
    key: String,
    #[command(flatten)]
    about: About,
    #[command(flatten)]
    write: WriteArguments,
    #[command(flatten)]
    target: Target,
}

/// What people say about a project.
#[derive(Args, Debug)]
struct About {
    /// Its name, for people
    #[arg(long)]
    name: Option<String>,
    /// What it is for
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
}

impl About {
    /// Each with its name in the API, where something is said.
    fn members(&self) -> impl Iterator<Item = (&'static str, &String)> {
        let all = [("name", &self.name), ("description", &self.description)];
        all.into_iter().filter_map(|(name, text)| Some((name, text.as_ref()?)))
    }
}

pub(crate) fn run(projects: &Projects, output: &mut Output) -> Result<Exit, Failure> {
    match &projects.command {
        Command::List(arguments) => list(arguments, output),
        Command::Show(arguments) => show::run(arguments, output),
        Command::Create(arguments) => create(arguments, output),
        Command::Set(arguments) => set::run(arguments, output),
        Command::Archive(arguments) => archive::archive(arguments, output),
        Command::Restore(arguments) => archive::restore(arguments, output),
    }
}

fn path(key: &str) -> String {
    format!("/projects/{}", encoded(key))
}

fn list(arguments: &List, output: &mut Output) -> Result<Exit, Failure> {
    let projects = Control::open(&arguments.target)?.found("/projects", None, arguments.archived)?;
    listed(output, &projects, "no projects", &["KEY", "NAME", "MADE"], |item| {
        vec![Cell::new(item["key"].as_str().unwrap_or_default()), name_of(item), time_of(item, "createdMs")]
    })
}

fn create(arguments: &Create, output: &mut Output) -> Result<Exit, Failure> {
    let mut body = json!({"key": arguments.key});
    for (name, text) in arguments.about.members() {
        body[name] = json!(text);
    }
    let control = Control::open(&arguments.target)?;
    let made = control.write("POST", "/projects", Some(&body), &arguments.write, None)?.body;
    told(output, &made, &arguments.write, &format!("{} is made: a project without environments yet", arguments.key))
}
