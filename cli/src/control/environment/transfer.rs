//! `flagsctl env export` and `flagsctl env import`

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
};

use clap::Args;
use libflags::{
    compile::Compiler,
    definition::{Document, Limits, Selector},
};
use serde_json::{Value, json};

use crate::{
    control::{
        client::{ChangeArguments, Control, WriteArguments, told},
        lists::{self, Segments},
        profile::Target,
    },
    failure::{Exit, Failure},
    output::{Output, count, visible},
};

/// How often an export is begun anew because somebody changes the environment meanwhile.
const TRIES: usize = 5;

/// Print what flags do in an environment, as a flagd file that `import` makes the same of
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  flagsctl env export --env production > production.json
  flagsctl env export --env production --to flags/    # flags/production.json, flags/production-ids/*.txt")]
pub(super) struct Export {
    /// What hosts get, for any flagd, instead of what people have said
    #[arg(long)]
    compiled: bool,
    /// Write DIR/ENVIRONMENT.json, and each id list into DIR/ENVIRONMENT-ids; else the flags alone are printed
    #[arg(long, value_name = "DIR")]
    to: Option<PathBuf>,
    #[command(flatten)]
    target: Target,
}

/// Make an environment's flags what a flagd file says, as one change
///
/// Flags that are new come, disabled in other environments; flags that the file does not have stay as they are. Lists whose ids lie in files
/// that its metadata names get these before, each by a change of its own.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  flagsctl env import flags.yaml --env production --dry-run")]
pub(super) struct Import {
    /// The file: JSON, or YAML where its name says so
    file: PathBuf,
    #[command(flatten)]
    change: ChangeArguments,
    #[command(flatten)]
    target: Target,
}

pub(super) fn export(arguments: &Export, output: &mut Output) -> Result<Exit, Failure> {
    let control = Control::open(&arguments.target)?;
    let environment = control.environment_key()?;
    let mut path = control.in_project(&["environments", environment, "export"])?;
    if arguments.compiled {
        path.push_str("?compiled=true");
    }
    let Some(folder) = &arguments.to else {
        output.document(&control.get(&path)?.body)?;
        return Ok(Exit::Done);
    };
    // What is asked for one after the other is to be of one revision.
    for _ in 0..TRIES {
        let file = control.get(&path)?;
        let written = write(&control, environment, file.body, folder, || {
            let now = control.get(&control.in_project(&["environments", environment])?)?.body;
            Ok(now["revision"].as_i64() == file.revision)
        })?;
        let Some((path, lists)) = written else { continue };
        let place = control.place()?;
        if output.json {
            output.document(&json!({"file": path, "lists": lists, "revision": file.revision}))?;
        } else {
            let revision = file.revision.unwrap_or_default();
            let with =
                if lists.is_empty() { String::new() } else { format!(", with {}", count(lists.len(), "id list")) };
            output.line(visible(&format!("{place} is in {} as of revision {revision}{with}", path.display())))?;
        }
        return Ok(Exit::Done);
    }
    Err(Failure::new("somebody changes the environment all the time").hint("run it again"))
}

/// Writes the definition and its lists; its path and the lists' keys. `None` where `is_still_so` says that they may not belong together.
fn write(
    control: &Control,
    environment: &str,
    mut file: Value,
    folder: &Path,
    is_still_so: impl Fn() -> Result<bool, Failure>,
) -> Result<Option<(PathBuf, Vec<String>)>, Failure> {
    let failed = |path: &Path, error: io::Error| Failure::new(format!("cannot write {}: {error}", path.display()));
    let segments = Segments::of(control, environment)?;
    let name = format!("{environment}-ids");
    let own = folder.join(&name);
    fs::create_dir_all(folder).map_err(|error| failed(folder, error))?;
    let (mut written, mut keys) = (Vec::new(), Vec::new());
    for (key, segment) in segments.lists() {
        fs::create_dir_all(&own).map_err(|error| failed(&own, error))?;
        match lists::fetch(control, environment, key, segment, &own) {
            Ok(path) => written.push(path),
            // It may be that it is another one meanwhile.
            Err(_) if !is_still_so()? => return Ok(None),
            Err(failure) => return Err(failure),
        }
        keys.push(key.to_owned());
    }
    if !is_still_so()? {
        return Ok(None);
    }
    if !keys.is_empty() {
        for other in fs::read_dir(&own).map_err(|error| failed(&own, error))? {
            let other = other.map_err(|error| failed(&own, error))?.path();
            if !written.contains(&other) {
                let message = format!("{} is not one of the lists, and would be taken for one", other.display());
                return Err(Failure::new(message).hint("move it away, and run it again"));
            }
        }
        file["metadata"]["lists"] = name.into();
    }
    // Last, so that it names nothing that is not there.
    let path = folder.join(format!("{environment}.json"));
    fs::write(&path, format!("{file:#}\n")).map_err(|error| failed(&path, error))?;
    Ok(Some((path, keys)))
}

pub(super) fn import(arguments: &Import, output: &mut Output) -> Result<Exit, Failure> {
    let control = Control::open(&arguments.target)?;
    let document = Document::load(&arguments.file, &Limits::default());
    let document = document.map_err(|error| Failure::new(error.to_problem().to_string()))?;
    let file: Value = serde_json::from_str(document.json())
        .map_err(|error| Failure::new(format!("{}: {error}", arguments.file.display())))?;
    let environment = control.environment_key()?;
    let path = control.in_project(&["environments", environment, "import"])?;
    let ChangeArguments { write, if_revision } = &arguments.change;
    let mut if_revision = *if_revision;
    let mut lists = Vec::new();
    if !document.lists().is_empty() {
        let files = lists::read(&document, arguments.file.parent().unwrap_or(Path::new("")))?;
        let segments = Segments::of(&control, environment)?;
        let changes = lists::changes(&control, environment, &files, &segments)?;
        lists.extend(changes.iter().map(|change| change.key().to_owned()));
        let are_there = changes.iter().all(|change| !change.is_new() && !change.is_archived());
        check(document, &file, &segments, &files)?;
        for change in &changes {
            change.check(&control, environment, write)?;
        }
        if are_there && !changes.is_empty() {
            let dry = WriteArguments { dry_run: true, ..write.clone() };
            control.write("POST", &path, Some(&file), &dry, if_revision)?;
        }
        if write.dry_run && !are_there {
            // What the control plane could say of flags that mean them it can say only then.
            let done = json!({"lists": lists});
            let sentence = format!(
                "{}: other ids in {}; the flags are good, and not compared yet",
                control.place()?,
                lists.join(", ")
            );
            return told(output, &done, write, &sentence);
        }
        if !write.dry_run && !changes.is_empty() {
            if let Some(revision) = if_revision {
                let now = control.get(&control.in_project(&["environments", environment])?)?.body;
                if now["revision"].as_i64() != Some(revision) {
                    return Err(Failure::new(format!(
                        "it has changed meanwhile: its revision is {} now",
                        now["revision"]
                    )));
                }
                // The lists' own changes move it.
                if_revision = None;
            }
            for change in &changes {
                change.make(&control, environment, write)?;
            }
        }
    }
    let mut done = control.write("POST", &path, Some(&file), write, if_revision)?.body;
    if !lists.is_empty() {
        done["lists"] = json!(lists);
    }
    let number = |name: &str| done[name].as_array().map_or(0, Vec::len);
    let (created, changed, unchanged) = (number("created"), number("changed"), &done["unchanged"]);
    let metadata = if done["metadata"] == true { ", other metadata" } else { "" };
    let lists = if lists.is_empty() { String::new() } else { format!(", other ids in {}", lists.join(", ")) };
    let (place, revision) = (control.place()?, &done["revision"]);
    let sentence = format!(
        "{place}: {created} created, {changed} changed, {unchanged} as they were{metadata}{lists}, at revision {revision}"
    );
    told(output, &done, write, &sentence)
}

/// What a host would say to it, before lists are changed for a file that is refused then.
fn check(
    document: Document,
    file: &Value,
    segments: &Segments,
    files: &BTreeMap<String, lists::Local>,
) -> Result<(), Failure> {
    let mut named = BTreeSet::new();
    lists::named_in(file, &mut named);
    segments.check_named(document.name(), &named, files)?;
    let document = document.with_lists(lists::names_only(named));
    let compiled = Compiler::new(Limits::default()).compile(std::slice::from_ref(&document), &Selector::All);
    let problems = compiled.map_err(|error| Failure::new(format!("{}: {error}", document.name())))?.problems;
    let errors: Vec<String> = problems.iter().filter(|problem| problem.is_error()).map(ToString::to_string).collect();
    if errors.is_empty() { Ok(()) } else { Err(Failure::new(errors.join("\n"))) }
}
