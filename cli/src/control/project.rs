//! `flagsctl project`: the projects of a control plane.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{
    client::{Control, WriteArguments, told},
    profile::Target,
};
use crate::{
    failure::{Exit, Failure},
    output::{Cell, Output, Table},
    value,
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
    if output.json {
        output.document(&projects)?;
    } else if projects.is_empty() {
        output.line("no projects")?;
    } else {
        let row = |item: &Value| {
            let name = item["name"].as_str().filter(|name| !name.is_empty()).unwrap_or("-");
            let made = item["createdMs"].as_i64().map(value::time_ms).unwrap_or_default();
            vec![Cell::new(item["key"].as_str().unwrap_or_default()), Cell::new(name), Cell::new(made)]
        };
        let header = vec!["KEY", "NAME", "MADE"];
        output.table(&Table { header, rows: projects.iter().map(row).collect() })?;
    }
    Ok(Exit::Done)
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
