//! `/api/v1/projects`

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde_json::Value as Json;

use super::audit::Audit;
use super::place::known_project;
use super::request::{Answer, Asked, Items, Shelf, Write, page_limit};
use crate::app::App;
use crate::auth::Access;
use crate::model::patched;
use crate::problem::Problem;
use crate::resource::Filter;
use crate::resource::change::Author;
use crate::resource::project::{self, Project, ProjectBody};
use crate::resource::token::Scope;
use crate::store::Transaction;

pub(super) async fn list(
    State(app): State<Arc<App>>,
    access: Access,
    Asked(which): Asked<Shelf>,
) -> Result<Answer, Problem> {
    let limit = page_limit(which.limit)?;
    let Shelf { cursor: after, archived, .. } = which;
    // The cursor too is a key that the token may know.
    let filter = Filter { only: access.project_id(), after, archived, limit: limit + 1 };
    let projects = app.store.read(move |transaction| project::list(transaction, &filter));
    let Items { items, next } = Items::new(projects.await?, limit, |project: &Project| project.key.clone());
    Answer::ok(&Items { items: items.iter().map(Project::view).collect(), next })
}

pub(super) async fn create(State(app): State<Arc<App>>, write: Write) -> Result<Answer, Problem> {
    write.access.may(Scope::Admin)?;
    let new = write.json::<project::NewProject>()?;
    let audit = Audit::begin("project.create", &new.key, &write);
    let done = write.run(&app, move |transaction, _| {
        let project = project::create(transaction, &new)?;
        answer(StatusCode::CREATED, &project)
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
    answer(StatusCode::OK, &found.await?)
}

fn answer(status: StatusCode, project: &Project) -> Result<Answer, Problem> {
    Ok(Answer::new(status, &project.view())?.with_revision(project.version))
}

pub(super) async fn put(State(app): State<Arc<App>>, Path(key): Path<String>, write: Write) -> Result<Answer, Problem> {
    let body: ProjectBody = write.json()?;
    change(&app, key, write, "project.update", move |transaction, old, write| {
        write.require_revision(old.version)?;
        project::update(transaction, old, body)
    })
    .await
}

pub(super) async fn patch(
    State(app): State<Arc<App>>,
    Path(key): Path<String>,
    write: Write,
) -> Result<Answer, Problem> {
    let patch: Json = write.json()?;
    change(&app, key, write, "project.update", move |transaction, old, write| {
        write.check_revision(old.version)?;
        project::update(transaction, old, patched(&old.body, patch)?)
    })
    .await
}

pub(super) async fn archive(
    State(app): State<Arc<App>>,
    Path(key): Path<String>,
    write: Write,
) -> Result<Answer, Problem> {
    come_or_go(&app, key, write, "project.archive", project::archive).await
}

pub(super) async fn restore(
    State(app): State<Arc<App>>,
    Path(key): Path<String>,
    write: Write,
) -> Result<Answer, Problem> {
    come_or_go(&app, key, write, "project.restore", project::restore).await
}

type ComeOrGo = fn(&mut dyn Transaction, &Project, &Author) -> Result<Project, Problem>;

async fn come_or_go(
    app: &App,
    key: String,
    write: Write,
    action: &'static str,
    how: ComeOrGo,
) -> Result<Answer, Problem> {
    change(app, key, write, action, move |transaction, old, write| {
        write.check_revision(old.version)?;
        how(transaction, old, &write.author)
    })
    .await
}

/// Does `how` with a project, which is locked, in one transaction.
async fn change<H>(app: &App, key: String, write: Write, action: &'static str, how: H) -> Result<Answer, Problem>
where
    H: FnOnce(&mut dyn Transaction, &Project, &Write) -> Result<Project, Problem> + Send + 'static,
{
    let audit = Audit::begin(action, &key, &write);
    let done = write.run(app, move |transaction, write| {
        let known = known_project(transaction, &write.access, &key)?;
        write.access.may_in(Scope::Admin, &known)?;
        let old = project::lock(transaction, &key)?;
        let new = how(transaction, &old, write)?;
        Ok(answer(StatusCode::OK, &new)?.idle_if(new.version == old.version))
    });
    audit.end(done.await)
}
