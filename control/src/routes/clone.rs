//! `…/environments/ENVIRONMENT/clone` and `…/flags/FLAG/clone`

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

use super::place::writable;
use super::request::{Answer, Write};
use crate::app::App;
use crate::problem::Problem;
use crate::resource::clone::{self, Cloned};
use crate::resource::environment::{self, Environment};
use crate::resource::project::Project;
use crate::resource::token::Scope;
use crate::resource::{change, flag};
use crate::store::Transaction;

/// Whence.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct From {
    /// An environment of the same project.
    from: String,
}

/// Whence, and what beside the flags.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct FromAll {
    /// An environment of the same project.
    from: String,
    /// Whether its metadata comes along. Absent: where this one has none.
    metadata: Option<bool>,
}

pub(super) async fn all(
    State(app): State<Arc<App>>,
    Path((project, environment)): Path<(String, String)>,
    write: Write,
) -> Result<Answer, Problem> {
    let FromAll { from, metadata } = write.json()?;
    let from = From { from };
    write
        .run(&app, move |transaction, write| {
            let (_, source, target) = places(transaction, write, &project, &environment, &from)?;
            write.check_revision(change::integer(target.revision)?)?;
            let done = clone::all(transaction, &source, &target, metadata, &write.author)?;
            let Cloned { revision, changed, metadata } = done;
            let answer = json!({"revision": revision, "changed": changed, "metadata": metadata});
            Answer::new(StatusCode::OK, &answer)
        })
        .await
}

pub(super) async fn one(
    State(app): State<Arc<App>>,
    Path((project, environment, key)): Path<(String, String, String)>,
    write: Write,
) -> Result<Answer, Problem> {
    let from: From = write.json()?;
    write
        .run(&app, move |transaction, write| {
            let (project, source, target) = places(transaction, write, &project, &environment, &from)?;
            let flag = flag::find(transaction, &project, &key)?;
            if let Some((_, revision)) = change::config(transaction, target.id, flag.id)? {
                write.check_revision(revision)?;
            }
            let revision = clone::one(transaction, &source, &target, &flag, &write.author)?;
            Answer::new(StatusCode::OK, &json!({"revision": revision}))
        })
        .await
}

/// The project, where it is taken from, and where it goes, which is locked.
fn places(
    transaction: &mut dyn Transaction,
    write: &Write,
    project: &str,
    environment: &str,
    from: &From,
) -> Result<(Project, Environment, Environment), Problem> {
    let (project, target) = writable(transaction, &write.access, project, environment)?;
    let source = environment::find(transaction, &project, &from.from)
        .map_err(|problem| Problem::invalid("/from", problem.detail()))?;
    write.access.may_at(Scope::Read, &source)?;
    Ok((project, source, target))
}
