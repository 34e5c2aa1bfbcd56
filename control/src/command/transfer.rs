//! `flags-control import` and `flags-control export`

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, bail};
use axum::http::StatusCode;
use clap::Args;
use libflags::definition::lists::{self, ListFile};
use libflags::definition::{Document, Limits};

use super::failed;
use crate::config::{Config, Flags};
use crate::file;
use crate::ids::Most;
use crate::model::{check_key, check_text};
use crate::problem::Problem;
use crate::resource::change::Author;
use crate::resource::environment::{self, NewEnvironment};
use crate::resource::project::{self, NewProject};
use crate::resource::segment;
use crate::resource::transfer::{self, Imported};
use crate::store::{Store, StoreError, Transaction};

/// `PROJECT/ENVIRONMENT`
#[derive(Clone, Debug)]
struct Place {
    project: String,
    environment: String,
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (project, environment) = text.split_once('/').ok_or("an environment is named PROJECT/ENVIRONMENT")?;
        Ok(Self { project: project.to_owned(), environment: environment.to_owned() })
    }
}

#[derive(Args, Debug)]
pub(crate) struct Import {
    /// The environment
    #[arg(value_name = "PROJECT/ENVIRONMENT")]
    place: Place,
    /// The file: JSON, or YAML where its name says so
    file: PathBuf,
    /// Why, for the log
    #[arg(long, value_name = "TEXT", default_value = "")]
    comment: String,
    /// However many flags this takes away shall go: hosts do not hold it
    #[arg(long)]
    deliberate: bool,
    /// Make the project and the environment where they are not there
    #[arg(long)]
    create: bool,
    /// Check it all, and change nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    pub(crate) flags: Flags,
}

#[derive(Args, Debug)]
pub(crate) struct Export {
    /// The environment
    #[arg(value_name = "PROJECT/ENVIRONMENT")]
    place: Place,
    /// What hosts get, for any flagd, instead of what people have said
    #[arg(long)]
    compiled: bool,
    /// Write FOLDER/ENVIRONMENT.json, and each id list into FOLDER/ENVIRONMENT-ids; else the flags alone are printed
    #[arg(long, value_name = "FOLDER")]
    to: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) flags: Flags,
}

/// How the transaction ends without being committed.
enum Stop {
    Problem(Problem),
    DryRun(Imported),
}

impl From<Problem> for Stop {
    fn from(problem: Problem) -> Self {
        Self::Problem(problem)
    }
}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Self {
        Self::Problem(error.into())
    }
}

impl Import {
    pub(crate) async fn run(self, store: &Store) -> anyhow::Result<()> {
        let document = Document::load(&self.file, &Limits::default()).map_err(|error| anyhow::anyhow!("{error}"))?;
        let why = || self.file.display().to_string();
        let dry_run = self.dry_run;
        let (files, problems) = lists::resolve(&document, self.file.parent().unwrap_or(Path::new("")));
        if let Some(problem) = problems.iter().find(|problem| problem.is_error()) {
            bail!("{problem}");
        }
        let mut names = self.place.lists(store).await.map_err(failed)?;
        for ListFile { name, path } in &files {
            check_key(name, "").map_err(failed).with_context(|| path.display().to_string())?;
            names.insert(name.clone());
        }
        let mut file = file::read(document, &names).map_err(failed).with_context(why)?;
        let limits = Config::load(&self.flags)?.limits;
        let most = Most { bytes: limits.upload_bytes, ids: limits.segment_ids };
        let own_store = store.clone();
        let read = move || super::lists::read(&own_store, &files, most, dry_run);
        file.lists = tokio::task::spawn_blocking(read).await??;
        let work = move |transaction: &mut dyn Transaction| -> Result<Imported, Stop> {
            check_text(&self.comment, "")?;
            let author = Author {
                actor: "flags-control import".to_owned(),
                comment: self.comment.clone(),
                deliberate: self.deliberate,
            };
            if self.create {
                self.place.create(transaction, &author)?;
            }
            let project = project::find(transaction, &self.place.project)?;
            let environments = environment::lock_all(transaction, &project)?;
            let target = environment::find(transaction, &project, &self.place.environment)?;
            target.must_be_open()?;
            let imported = transfer::import(transaction, &project, &environments, &target, &file, &author)?;
            if self.dry_run { Err(Stop::DryRun(imported)) } else { Ok(imported) }
        };
        let imported = match store.write(work).await {
            Ok(imported) | Err(Stop::DryRun(imported)) => imported,
            Err(Stop::Problem(problem)) => return Err(failed(problem)),
        };
        let Imported { revision, created, changed, unchanged, metadata, lists, segments } = imported;
        let (created, changed) = (created.len(), changed.len());
        let tried = if dry_run { "dry run, nothing was changed: " } else { "" };
        let metadata = if metadata { ", other metadata" } else { "" };
        let lists = if lists.is_empty() { String::new() } else { format!(", other ids in {}", lists.join(", ")) };
        let segments = if segments.is_empty() { String::new() } else { format!(", segments {}", segments.join(", ")) };
        println!(
            "{tried}{created} flags created, {changed} changed, {unchanged} as they were{metadata}{lists}{segments}, at revision {revision}"
        );
        Ok(())
    }
}

impl Place {
    /// The id lists that there are; none where there is no such environment yet.
    async fn lists(&self, store: &Store) -> Result<BTreeSet<String>, Problem> {
        let place = self.clone();
        let found = store.read(move |transaction| {
            let project = project::find(transaction, &place.project)?;
            let environment = environment::find(transaction, &project, &place.environment)?;
            Ok::<_, Problem>(segment::all(transaction, environment.id)?.lists.into_keys().collect())
        });
        match found.await {
            Err(problem) if problem.status() == StatusCode::NOT_FOUND => Ok(BTreeSet::new()),
            found => found,
        }
    }

    fn create(&self, transaction: &mut dyn Transaction, author: &Author) -> Result<(), Problem> {
        let new = NewProject::named(&self.project);
        let project = match project::find(transaction, &self.project) {
            Ok(project) => project,
            Err(_) => project::create(transaction, &new)?,
        };
        if environment::find(transaction, &project, &self.environment).is_err() {
            let new = NewEnvironment { key: self.environment.clone(), name: String::new(), clone_of: None };
            environment::create(transaction, &project, &new, author)?;
        }
        Ok(())
    }
}

impl Export {
    pub(crate) async fn run(self, store: &Store) -> anyhow::Result<()> {
        let place = self.place.clone();
        let written = store.read(move |transaction| {
            let project = project::find(transaction, &self.place.project)?;
            let environment = environment::find(transaction, &project, &self.place.environment)?;
            let write = if self.compiled { transfer::export_compiled } else { transfer::export };
            Ok::<_, Problem>((write(transaction, &environment)?, segment::lists(transaction, environment.id)?))
        });
        let (mut file, lists) = written.await.map_err(failed)?;
        let Some(folder) = self.to else {
            writeln!(std::io::stdout(), "{}", serde_json::to_string_pretty(&file)?)?;
            return Ok(());
        };
        std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        if !lists.is_empty() {
            let name = format!("{}-ids", place.environment);
            file["metadata"]["lists"] = name.clone().into();
            let (store, folder) = (store.clone(), folder.join(name));
            tokio::task::spawn_blocking(move || super::lists::write(&store, &lists, &folder)).await??;
        }
        // Last, so that it names nothing that is not there.
        let path = folder.join(format!("{}.json", place.environment));
        std::fs::write(&path, serde_json::to_string_pretty(&file)? + "\n").with_context(|| path.display().to_string())
    }
}
