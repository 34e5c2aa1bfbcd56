//! `/api/v1/projects`

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::StatusCode;

use super::request::{Answer, Items, Page, Write};
use crate::app::App;
use crate::auth::Access;
use crate::problem::Problem;
use crate::resource::project;
use crate::resource::token::Scope;

pub(super) async fn list(State(app): State<Arc<App>>, access: Access, page: Page) -> Result<Answer, Problem> {
    let limit = page.limit()?;
    let projects = app.store.read(move |transaction| project::list(transaction, &page.cursor, limit + 1));
    let mut page = Items::new(projects.await?, limit, |project| project.key.clone());
    page.items.retain(|project| access.is_for(project.id));
    Answer::ok(&page)
}

pub(super) async fn create(State(app): State<Arc<App>>, write: Write) -> Result<Answer, Problem> {
    write.access.may(Scope::Admin)?;
    let new = write.json::<project::NewProject>()?;
    write
        .run(&app, move |transaction, _| {
            let project = project::create(transaction, &new)?;
            Answer::new(StatusCode::CREATED, &project)
        })
        .await
}

pub(super) async fn show(
    State(app): State<Arc<App>>,
    access: Access,
    Path(key): Path<String>,
) -> Result<Answer, Problem> {
    let found = app.store.read(move |transaction| {
        let project = project::find(transaction, &key)?;
        access.may_read_of(&project)?;
        Ok::<_, Problem>(project)
    });
    Answer::ok(&found.await?)
}
