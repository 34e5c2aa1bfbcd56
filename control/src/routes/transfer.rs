//! `…/environments/ENVIRONMENT/export` and `…/import`

use std::sync::Arc;

use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use libflags::definition::{Document, Format, Limits};
use schemars::JsonSchema;
use serde::Deserialize;

use super::place::{readable, writable_project};
use super::request::{Answer, Asked, Write};
use crate::app::App;
use crate::auth::Access;
use crate::file;
use crate::limit::Kind;
use crate::problem::Problem;
use crate::resource::token::Scope;
use crate::resource::{change, environment, segment, transfer};

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
    request: Request,
) -> Result<Answer, Problem> {
    let (mut parts, body) = request.into_parts();
    let write = Write::without_body(&mut parts, &app).await?;
    let place = Arc::new(app.limits.place(Kind::Import, write.access.token_id())?);
    let mut write = write.with_body(parts, body, &app).await?;
    // What is made of the body from here on is the body itself: nothing else refers to it.
    let text = String::from_utf8(std::mem::take(&mut write.body).into())
        .map_err(|error| Problem::invalid("", error.utf8_error().to_string()))?;
    let (access, project_key, key) = (write.access.clone(), project.clone(), environment.clone());
    let held = Arc::clone(&place);
    // A long file is read before anybody has to wait for this.
    let read = app.store.read(move |transaction| {
        // The place is taken for as long as the work goes on, also where nobody waits for it any more.
        let _held = held;
        let project = writable_project(transaction, &access, Scope::Write, &project_key)?;
        let environment = environment::find(transaction, &project, &key)?;
        environment.must_be_open()?;
        let document = Document::parse("the body", text, Format::Json, &Limits::default());
        let document = document.map_err(|error| Problem::invalid("", error.to_string()))?;
        let lists = segment::all(transaction, environment.id)?.lists.into_keys().collect();
        file::read(document, &lists)
    });
    let file = read.await?;
    write
        .run(&app, move |transaction, write| {
            let _place = place;
            let project = writable_project(transaction, &write.access, Scope::Write, &project)?;
            let environments = environment::lock_all(transaction, &project)?;
            let target = environment::find(transaction, &project, &environment)?;
            target.must_be_open()?;
            write.check_revision(change::integer(target.revision)?)?;
            let imported = transfer::import(transaction, &project, &environments, &target, &file, &write.author)?;
            Answer::new(StatusCode::OK, &imported)
        })
        .await
}
