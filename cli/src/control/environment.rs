//! `flagsctl env`: the environments of a project.

mod archive;
mod key;
mod rollback;
mod set;
mod transfer;

use clap::{Args, Subcommand};
use serde_json::json;

use super::{
    client::{ChangeArguments, Control, WriteArguments, listed, name_of, time_of, told},
    profile::Target,
};
use crate::{
    failure::{Exit, Failure},
    output::{Cell, Look, Output, count},
    value,
};

/// Look at, make, change and archive environments, and take them back to earlier revisions
#[derive(Args, Debug)]
pub(crate) struct Environments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    List(List),
    /// Show an environment, with the public key that flagsd checks its flags with
    Show {
        #[command(flatten)]
        target: Target,
    },
    Create(Create),
    Set(set::Set),
    Rollback(rollback::Rollback),
    Export(transfer::Export),
    Import(transfer::Import),
    Clone(CloneFrom),
    Hosts(Hosts),
    Key(key::Key),
    Archive(archive::Archive),
    Restore(archive::Restore),
}

/// List the environments of a project
#[derive(Args, Debug)]
struct List {
    /// The archived environments instead
    #[arg(long)]
    archived: bool,
    #[command(flatten)]
    target: Target,
}

/// Make an environment
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  flagsctl env create staging --clone-of production")]
struct Create {
    /// The environment's key
    key: String,
    /// Its name, for people
    #[arg(long)]
    name: Option<String>,
    /// Begin with what flags do in this environment; else each is disabled
    #[arg(long, value_name = "KEY")]
    clone_of: Option<String>,
    #[command(flatten)]
    write: WriteArguments,
    #[command(flatten)]
    target: Target,
}

/// Let all flags do what they do in another environment of the project, as one change
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  flagsctl env clone --from staging --env production --comment 'release 12'")]
struct CloneFrom {
    /// The other environment's key
    #[arg(long, value_name = "KEY")]
    from: String,
    /// Take over its metadata too, in place of what is there; else it comes only where there is none
    #[arg(long, conflicts_with = "no_metadata")]
    metadata: bool,
    /// Leave the metadata as it is
    #[arg(long)]
    no_metadata: bool,
    #[command(flatten)]
    change: ChangeArguments,
    #[command(flatten)]
    target: Target,
}

/// List the hosts of an environment, and which revision each has published
///
/// Hosts report that themselves, seconds after they did it, and again every five minutes. What is listed is what the replica was told that
/// answers; others may know of other hosts.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  flagsctl env hosts --env production --behind")]
struct Hosts {
    /// Those alone that had an old revision when they last reported
    #[arg(long)]
    behind: bool,
    #[command(flatten)]
    target: Target,
}

pub(crate) fn run(environments: &Environments, output: &mut Output) -> Result<Exit, Failure> {
    match &environments.command {
        Command::List(arguments) => list(arguments, output),
        Command::Show { target } => show(target, output),
        Command::Create(arguments) => create(arguments, output),
        Command::Set(arguments) => set::run(arguments, output),
        Command::Rollback(arguments) => rollback::run(arguments, output),
        Command::Export(arguments) => transfer::export(arguments, output),
        Command::Import(arguments) => transfer::import(arguments, output),
        Command::Clone(arguments) => clone(arguments, output),
        Command::Hosts(arguments) => hosts(arguments, output),
        Command::Key(arguments) => key::run(arguments, output),
        Command::Archive(arguments) => archive::archive(arguments, output),
        Command::Restore(arguments) => archive::restore(arguments, output),
    }
}

fn list(arguments: &List, output: &mut Output) -> Result<Exit, Failure> {
    let control = Control::open(&arguments.target)?;
    let environments = control.found(&control.in_project(&["environments"])?, None, arguments.archived)?;
    listed(output, &environments, "no environments", &["KEY", "NAME", "REVISION", "MADE"], |item| {
        let key = Cell::new(item["key"].as_str().unwrap_or_default());
        vec![key, name_of(item), Cell::new(item["revision"].to_string()), time_of(item, "createdMs")]
    })
}

fn show(target: &Target, output: &mut Output) -> Result<Exit, Failure> {
    let control = Control::open(target)?;
    let path = control.in_project(&["environments", control.environment_key()?])?;
    let environment = control.get(&path)?.body;
    if output.json {
        output.document(&environment)?;
        return Ok(Exit::Done);
    }
    let text = |name: &str| environment[name].as_str().unwrap_or_default().to_owned();
    let made = environment["createdMs"].as_i64().map(value::time_ms).unwrap_or_default();
    let mut facts = vec![("environment", Cell::new(control.place()?).look(Look::Bold))];
    if !text("name").is_empty() {
        facts.push(("name", Cell::new(text("name"))));
    }
    if environment["archived"] == true {
        facts.push(("archived", Cell::new("yes: nothing in it can be changed, and hosts go on").look(Look::Warn)));
    }
    facts.push(("revision", Cell::new(environment["revision"].to_string())));
    facts.push(("epoch", Cell::new(environment["epoch"].to_string())));
    for (name, value) in environment["metadata"].as_object().into_iter().flatten() {
        facts.push(("metadata", Cell::new(format!("{name} = {value}"))));
    }
    facts.push(("public key", Cell::new(text("publicKey"))));
    if !text("nextPublicKey").is_empty() {
        facts.push(("next public key", Cell::new(text("nextPublicKey"))));
    }
    facts.push(("made", Cell::new(made)));
    output.facts(&facts)?;
    Ok(Exit::Done)
}

fn create(arguments: &Create, output: &mut Output) -> Result<Exit, Failure> {
    let control = Control::open(&arguments.target)?;
    let mut body = json!({"key": arguments.key});
    for (name, text) in [("name", &arguments.name), ("cloneOf", &arguments.clone_of)] {
        if let Some(text) = text {
            body[name] = json!(text);
        }
    }
    let path = control.in_project(&["environments"])?;
    let made = control.write("POST", &path, Some(&body), &arguments.write, None)?.body;
    let like = match &arguments.clone_of {
        Some(model) => format!("flags do there what they do in {model}"),
        None => "every flag is disabled there".to_owned(),
    };
    let sentence = format!("{}/{} is made: {like}", control.project_key()?, arguments.key);
    told(output, &made, &arguments.write, &sentence)
}

fn clone(arguments: &CloneFrom, output: &mut Output) -> Result<Exit, Failure> {
    let control = Control::open(&arguments.target)?;
    let path = control.in_project(&["environments", control.environment_key()?, "clone"])?;
    let (change, mut body) = (&arguments.change, json!({"from": arguments.from}));
    if arguments.metadata || arguments.no_metadata {
        body["metadata"] = json!(arguments.metadata);
    }
    let done = control.write("POST", &path, Some(&body), &change.write, change.if_revision)?.body;
    let changed = done["changed"].as_array().map_or(0, Vec::len);
    let (place, from) = (control.place()?, &arguments.from);
    let metadata = if done["metadata"] == true { ", and its metadata" } else { "" };
    let (flags, revision) = (count(changed, "flag"), &done["revision"]);
    let sentence = format!("{place}: {flags} configured as in {from}{metadata}, at revision {revision}");
    told(output, &done, &change.write, &sentence)
}

fn hosts(arguments: &Hosts, output: &mut Output) -> Result<Exit, Failure> {
    let control = Control::open(&arguments.target)?;
    let path = control.in_project(&["environments", control.environment_key()?, "hosts"])?;
    let query: &[(&str, &str)] = if arguments.behind { &[("behind", "true")] } else { &[] };
    let hosts = control.items(&path, query, None)?;
    let nothing = if arguments.behind { "no host is behind" } else { "no host has reported to this replica" };
    let header = ["HOST", "SET", "REVISION", "STATE", "PUBLISHED", "LAG", "REPORTED", "VERSION"];
    listed(output, &hosts, nothing, &header, |host| {
        let text = |name: &str| Cell::new(host[name].as_str().unwrap_or_default());
        let odd = ["behind", "ahead"].into_iter().find(|name| host[*name] == true);
        let state = match odd {
            Some(odd) => Cell::new(format!("{}, {odd}", host["state"].as_str().unwrap_or_default())).look(Look::Bad),
            None => text("state"),
        };
        let lag = host["lagMs"].as_u64().map_or_else(|| "-".to_owned(), |lag_ms| format!("{lag_ms} ms"));
        vec![
            text("host").look(Look::Bold),
            text("set"),
            Cell::new(host["revision"].to_string()),
            state,
            time_of(host, "publishedMs"),
            Cell::new(lag),
            time_of(host, "reportedMs"),
            text("version"),
        ]
    })
}
