//! `…/environments/ENVIRONMENT/export` and `…/import`

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use libflags::definition::{Document, Format, Limits};
use schemars::JsonSchema;
use serde::Deserialize;

use super::place::readable;
use super::request::{Answer, Asked, Write};
use crate::app::App;
use crate::auth::Access;
use crate::file;
use crate::problem::Problem;
use crate::resource::token::Scope;
use crate::resource::{change, environment, project, segment, transfer};

/// Which file is wanted.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Form {
    /// What hosts get, instead of what people have said.
    compiled: bool,
}

pub(super) async fn export(
    State(app): State<Arc<App>>,
    access: Access,
    Path((project, environment)): Path<(String, String)>,
    Asked(form): Asked<Form>,
) -> Result<Answer, Problem> {
    let written = app.store.read(move |transaction| {
        let (_, environment) = readable(transaction, &access, &project, &environment)?;
        let write = if form.compiled { transfer::export_compiled } else { transfer::export };
        Ok::<_, Problem>((write(transaction, &environment)?, change::integer(environment.revision)?))
    });
    let (file, revision) = written.await?;
    Ok(Answer::ok(&file)?.with_revision(revision))
}

pub(super) async fn import(
    State(app): State<Arc<App>>,
    Path((project, environment)): Path<(String, String)>,
    write: Write,
) -> Result<Answer, Problem> {
    let text = String::from_utf8(write.body.to_vec()).map_err(|error| Problem::invalid("", error.to_string()))?;
    let (access, project_key, key) = (write.access.clone(), project.clone(), environment.clone());
    // A long file is read before anybody has to wait for this.
    let read = app.store.read(move |transaction| {
        let project = project::find(transaction, &project_key)?;
        let environment = environment::find(transaction, &project, &key)?;
        access.may_at(Scope::Write, &environment)?;
        // Flags may come, and become others in all environments.
        access.may_in(Scope::Write, &project)?;
        let document = Document::parse("the body", text, Format::Json, &Limits::default());
        let document = document.map_err(|error| Problem::invalid("", error.to_string()))?;
        let lists = segment::all(transaction, environment.id)?.lists.into_keys().collect();
        file::read(document, &lists)
    });
    let file = read.await?;
    write
        .run(&app, move |transaction, write| {
            let project = project::find(transaction, &project)?;
            let environments = environment::lock_all(transaction, &project)?;
            let target = environment::find(transaction, &project, &environment)?;
            write.check_revision(change::integer(target.revision)?)?;
            let imported = transfer::import(transaction, &project, &environments, &target, &file, &write.author)?;
            Answer::new(StatusCode::OK, &imported)
        })
        .await
}
