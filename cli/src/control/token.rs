//! `flagsctl token`: who may do what at the control plane.

use std::{
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{
    client::{ChangeArguments, Control, WriteArguments, listed, time_of, told},
    profile::Target,
};
use crate::{
    admin::encoded,
    failure::{Exit, Failure},
    output::{Cell, Look, Output},
    value,
};

/// Look at, make, replace and end tokens: of all, or of what the token at hand is for
#[derive(Args, Debug)]
pub(crate) struct Tokens {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List tokens, of which nothing secret is known
    List {
        #[command(flatten)]
        target: Target,
    },
    Show(Show),
    Create(Create),
    Revoke(Revoke),
    Rotate(Rotate),
}

/// Show a token, of which nothing secret is known
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  flagsctl token show 0123456789abcdef")]
struct Show {
    /// The token's id: the part between `flags_` and the next `_`
    id: String,
    #[command(flatten)]
    target: Target,
}

/// Make a token, which is shown this once
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  flagsctl token create 'hosts of production' --scope sync --only shop/production --to flagsd.token
  flagsctl token create ci --scope write --only shop --expires 2027-12-31")]
struct Create {
    /// What it is for; the log names it with each change
    name: String,
    /// What it may do: follow flags; read too; write too; make projects, environments and tokens too
    #[arg(long, value_parser = ["sync", "read", "write", "admin"])]
    scope: String,
    /// Where it may do so [default: everywhere]
    #[arg(long, value_name = "PROJECT[/ENVIRONMENT]")]
    only: Option<String>,
    /// When it ends [default: when it is revoked]
    #[arg(long, value_name = "YYYY-MM-DD", value_parser = value::day_ms)]
    expires: Option<i64>,
    #[command(flatten)]
    to: To,
    #[command(flatten)]
    write: WriteArguments,
    #[command(flatten)]
    target: Target,
}

/// Where a new token goes.
#[derive(Args, Debug)]
struct To {
    /// Write the token to this new file, for you alone, instead of showing it
    #[arg(long, value_name = "FILE")]
    to: Option<PathBuf>,
}

/// End a token
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  flagsctl token revoke 0123456789abcdef")]
struct Revoke {
    /// The token's id: the part between `flags_` and the next `_`
    id: String,
    #[command(flatten)]
    change: ChangeArguments,
    #[command(flatten)]
    target: Target,
}

/// Make a token like another, which ends, at once or after a while
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  flagsctl token rotate 0123456789abcdef --overlap 86400 --to flagsd.token")]
struct Rotate {
    /// The old token's id
    id: String,
    /// How long the old one still works
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    overlap: u32,
    /// When the new one ends [default: when the old one would have]
    #[arg(long, value_name = "YYYY-MM-DD", value_parser = value::day_ms)]
    expires: Option<i64>,
    #[command(flatten)]
    to: To,
    #[command(flatten)]
    change: ChangeArguments,
    #[command(flatten)]
    target: Target,
}

pub(crate) fn run(tokens: &Tokens, output: &mut Output) -> Result<Exit, Failure> {
    match &tokens.command {
        Command::List { target } => list(target, output),
        Command::Show(arguments) => show(arguments, output),
        Command::Create(arguments) => create(arguments, output),
        Command::Revoke(arguments) => revoke(arguments, output),
        Command::Rotate(arguments) => rotate(arguments, output),
    }
}

fn list(target: &Target, output: &mut Output) -> Result<Exit, Failure> {
    let tokens = Control::open(target)?.items("/tokens", &[], None)?;
    let row = |token: &Value| {
        let text = |name: &str| token[name].as_str().unwrap_or_default();
        vec![
            Cell::new(text("id")),
            Cell::new(text("name")),
            Cell::new(text("scope")),
            state(token),
            time_of(token, "expiresMs"),
            time_of(token, "usedMs"),
        ]
    };
    let header = ["ID", "NAME", "SCOPE", "STATE", "EXPIRES", "LAST USED"];
    listed(output, &tokens, "no tokens", &header, row)
}

/// Whether it can be used now.
fn state(token: &Value) -> Cell {
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    let time = |name: &str| token[name].as_i64();
    let past = |name: &str| time(name).is_some_and(|at| i128::from(at) <= now_ms.cast_signed());
    if past("revokedMs") {
        Cell::new("revoked").look(Look::Bad)
    } else if past("expiresMs") {
        Cell::new("expired").look(Look::Bad)
    } else if time("revokedMs").is_some() {
        Cell::new("ending").look(Look::Warn)
    } else {
        Cell::new("good").look(Look::Good)
    }
}

fn show(arguments: &Show, output: &mut Output) -> Result<Exit, Failure> {
    let token = Control::open(&arguments.target)?.get(&format!("/tokens/{}", encoded(&arguments.id)))?.body;
    if output.json {
        output.document(&token)?;
        return Ok(Exit::Done);
    }
    let text = |name: &str| token[name].as_str();
    let place = match (text("project"), text("environment")) {
        (Some(project), Some(environment)) => format!("{project}/{environment}"),
        (project, _) => project.unwrap_or("everything").to_owned(),
    };
    let mut facts = vec![
        ("token", Cell::new(text("id").unwrap_or_default()).look(Look::Bold)),
        ("name", Cell::new(text("name").unwrap_or_default())),
        ("scope", Cell::new(text("scope").unwrap_or_default())),
        ("for", Cell::new(place)),
        ("state", state(&token)),
    ];
    for (name, member) in
        [("made", "createdMs"), ("expires", "expiresMs"), ("revoked", "revokedMs"), ("last used", "usedMs")]
    {
        if token[member].is_i64() {
            facts.push((name, time_of(&token, member)));
        }
    }
    facts.push(("revision", Cell::new(token["version"].to_string())));
    output.facts(&facts)?;
    Ok(Exit::Done)
}

fn create(arguments: &Create, output: &mut Output) -> Result<Exit, Failure> {
    let control = Control::open(&arguments.target)?;
    let mut body = json!({"name": arguments.name, "scope": arguments.scope});
    if let Some(only) = &arguments.only {
        let (project, environment) = only.split_once('/').map_or((only.as_str(), None), |(p, e)| (p, Some(e)));
        body["project"] = json!(project);
        body["environment"] = json!(environment);
    }
    if let Some(at) = arguments.expires {
        body["expiresMs"] = json!(at);
    }
    make(&control, "/tokens", &body, &arguments.to, (&arguments.write, None), output)
}

fn rotate(arguments: &Rotate, output: &mut Output) -> Result<Exit, Failure> {
    let control = Control::open(&arguments.target)?;
    let path = format!("/tokens/{}/rotate", encoded(&arguments.id));
    let mut body = json!({"overlapSeconds": arguments.overlap});
    if let Some(expires) = arguments.expires {
        body["expiresMs"] = json!(expires);
    }
    let change = &arguments.change;
    make(&control, &path, &body, &arguments.to, (&change.write, change.if_revision), output)
}

fn make(
    control: &Control,
    path: &str,
    body: &Value,
    to: &To,
    (write, if_revision): (&WriteArguments, Option<i64>),
    output: &mut Output,
) -> Result<Exit, Failure> {
    // First the file, then the token: one that could not be kept would be lost.
    let file = to.to.as_deref().filter(|_| !write.dry_run).map(new_file).transpose()?;
    let answer = control.write("POST", path, Some(body), write, if_revision);
    let mut made = match (answer, &to.to) {
        (Ok(answer), _) => answer.body,
        (Err(failure), Some(path)) if file.is_some() => {
            let _ = std::fs::remove_file(path);
            return Err(failure);
        }
        (Err(failure), _) => return Err(failure),
    };
    if write.dry_run {
        // It would not work.
        if let Some(body) = made.as_object_mut() {
            body.remove("token");
        }
        let sentence = format!("a token of scope {} would be made", made["scope"].as_str().unwrap_or_default());
        return told(output, &made, write, &sentence);
    }
    let Some(token) = made["token"].as_str().map(str::to_owned) else {
        let id = made["id"].as_str().unwrap_or_default();
        return Err(Failure::new(format!("the token {id} was made, but the answer that had it was lost on its way"))
            .hint(format!("flagsctl token revoke {id}, and make another")));
    };
    if let (Some(mut file), Some(path)) = (file, &to.to) {
        let failed = |error| Failure::new(format!("cannot write {}: {error}", path.display()));
        file.write_all(format!("{token}\n").as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
        if let Some(body) = made.as_object_mut() {
            body.remove("token");
        }
        let id = made["id"].as_str().unwrap_or_default().to_owned();
        return told(output, &made, write, &format!("the token {id} is in {}", path.display()));
    }
    if output.json {
        output.document(&made)?;
        return Ok(Exit::Done);
    }
    output.line(&token)?;
    output.flush()?;
    eprintln!("It is not shown again.");
    Ok(Exit::Done)
}

fn new_file(path: &Path) -> Result<std::fs::File, Failure> {
    let file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    file.map_err(|error| Failure::new(format!("cannot make {}: {error}", path.display())))
}

fn revoke(arguments: &Revoke, output: &mut Output) -> Result<Exit, Failure> {
    let control = Control::open(&arguments.target)?;
    let path = format!("/tokens/{}/revoke", encoded(&arguments.id));
    let change = &arguments.change;
    let done = control.write("POST", &path, None, &change.write, change.if_revision)?.body;
    told(output, &done, &change.write, &format!("the token {} is revoked", arguments.id))
}
