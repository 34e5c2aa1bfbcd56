//! `flagsctl project`: the projects of a control plane.

use clap::{Args, Subcommand};
use serde_json::json;

use super::{
    client::{Control, WriteArguments, listed, name_of, time_of, told},
    profile::Target,
};
use crate::{
    failure::{Exit, Failure},
    output::{Cell, Output},
};

/// Look at and make projects
#[derive(Args, Debug)]
pub(crate) struct Projects {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List the projects that the token is for
    List {
        #[command(flatten)]
        target: Target,
    },
    Create(Create),
}

/// Make a project
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  flagsctl project create shop --name 'The shop'")]
struct Create {
    /// The project's key
    key: String,
    /// Its name, for people
    #[arg(long)]
    name: Option<String>,
    #[command(flatten)]
    write: WriteArguments,
    #[command(flatten)]
    target: Target,
}

pub(crate) fn run(projects: &Projects, output: &mut Output) -> Result<Exit, Failure> {
    match &projects.command {
        Command::List { target } => list(target, output),
        Command::Create(arguments) => create(arguments, output),
    }
}

fn list(target: &Target, output: &mut Output) -> Result<Exit, Failure> {
    let projects = Control::open(target)?.items("/projects", &[], None)?;
    listed(output, &projects, "no projects", &["KEY", "NAME", "MADE"], |item| {
        vec![Cell::new(item["key"].as_str().unwrap_or_default()), name_of(item), time_of(item, "createdMs")]
    })
}

fn create(arguments: &Create, output: &mut Output) -> Result<Exit, Failure> {
    let mut body = json!({"key": arguments.key});
    if let Some(name) = &arguments.name {
        body["name"] = json!(name);
    }
    let control = Control::open(&arguments.target)?;
    let made = control.write("POST", "/projects", Some(&body), &arguments.write, None)?.body;
    told(output, &made, &arguments.write, &format!("{} is made: a project without environments yet", arguments.key))
}
