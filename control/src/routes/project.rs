//! `/api/v1/projects`

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::StatusCode;

use super::audit::Audit;
use super::place::known_project;
use super::request::{Answer, Asked, Items, Page, Write};
use crate::app::App;
use crate::auth::Access;
use crate::problem::Problem;
use crate::resource::project;
use crate::resource::token::Scope;

pub(super) async fn list(
    State(app): State<Arc<App>>,
    access: Access,
    Asked(page): Asked<Page>,
) -> Result<Answer, Problem> {
    let limit = page.limit()?;
    // The cursor too is a key that the token may know.
    let projects =
        app.store.read(move |transaction| project::list(transaction, access.project_id(), &page.cursor, limit + 1));
    Answer::ok(&Items::new(projects.await?, limit, |project| project.key.clone()))
}

pub(super) async fn create(State(app): State<Arc<App>>, write: Write) -> Result<Answer, Problem> {
    write.access.may(Scope::Admin)?;
    let new = write.json::<project::NewProject>()?;
    let audit = Audit::begin("project.create", &new.key, &write);
    let done = write.run(&app, move |transaction, _| {
        let project = project::create(transaction, &new)?;
        Answer::new(StatusCode::CREATED, &project)
    });
    audit.end(done.await)
}

pub(super) async fn show(
    State(app): State<Arc<App>>,
    access: Access,
    Path(key): Path<String>,
) -> Result<Answer, Problem> {
    let found = app.store.read(move |transaction| {
        let project = known_project(transaction, &access, &key)?;
        access.may_read_of(&project)?;
        Ok::<_, Problem>(project)
    });
    Answer::ok(&found.await?)
}
