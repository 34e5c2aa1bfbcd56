//! `flags-control import` and `flags-control export`

use std::io::Write as _;
use std::path::PathBuf;
use std::str::FromStr;

use anyhow::Context;
use clap::Args;
use libflags::definition::{Document, Limits};

use super::failed;
use crate::config::Flags;
use crate::file;
use crate::model::check_text;
use crate::problem::Problem;
use crate::resource::change::Author;
use crate::resource::environment::{self, NewEnvironment};
use crate::resource::project::{self, NewProject};
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
        let file = file::read(&document).map_err(failed).with_context(|| self.file.display().to_string())?;
        let dry_run = self.dry_run;
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
            let imported = transfer::import(transaction, &project, &environments, &target, &file, &author)?;
            if self.dry_run { Err(Stop::DryRun(imported)) } else { Ok(imported) }
        };
        let imported = match store.write(work).await {
            Ok(imported) | Err(Stop::DryRun(imported)) => imported,
            Err(Stop::Problem(problem)) => return Err(failed(problem)),
        };
        let Imported { revision, created, changed, unchanged, metadata } = imported;
        let (created, changed) = (created.len(), changed.len());
        let tried = if dry_run { "dry run, nothing was changed: " } else { "" };
        let metadata = if metadata { ", other metadata" } else { "" };
        println!(
            "{tried}{created} flags created, {changed} changed, {unchanged} as they were{metadata}, at revision {revision}"
        );
        Ok(())
    }
}

impl Place {
    fn create(&self, transaction: &mut dyn Transaction, author: &Author) -> Result<(), Problem> {
        let new = NewProject { key: self.project.clone(), name: String::new() };
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
        let written = store.read(move |transaction| {
            let project = project::find(transaction, &self.place.project)?;
            let environment = environment::find(transaction, &project, &self.place.environment)?;
            let write = if self.compiled { transfer::export_compiled } else { transfer::export };
            Ok::<_, Problem>(write(transaction, &environment)?)
        });
        let file = written.await.map_err(failed)?;
        writeln!(std::io::stdout(), "{}", serde_json::to_string_pretty(&file)?)?;
        Ok(())
    }
}
