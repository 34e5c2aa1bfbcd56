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
    let projects = app.store.read(move |transaction| {
        let mut projects = project::list(transaction, &page.cursor, limit + 1)?;
        let more = i64::try_from(projects.len()).is_ok_and(|count| count > limit);
        let next = more.then(|| projects.get(projects.len() - 2).map(|project| project.key.clone())).flatten();
        if more {
            projects.pop();
        }
        projects.retain(|project| access.is_for(project.id));
        Ok::<_, Problem>(Items { items: projects, next })
    });
    Answer::ok(&projects.await?)
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
