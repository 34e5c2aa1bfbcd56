//! `/api/v1/projects/PROJECT/environments`

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde_json::Value as Json;

use super::place::{known_project, locked, readable, writable, writable_project};
use super::request::{Answer, Asked, Items, Shelf, Write, page_limit};
use crate::app::App;
use crate::auth::Access;
use crate::model::patched;
use crate::problem::Problem;
use crate::resource::Filter;
use crate::resource::change::Author;
use crate::resource::environment::{Environment, EnvironmentBody};
use crate::resource::project::Project;
use crate::resource::token::Scope;
use crate::resource::{change, environment};
use crate::store::Transaction;

pub(super) async fn list(
    State(app): State<Arc<App>>,
    access: Access,
    Path(project): Path<String>,
    Asked(which): Asked<Shelf>,
) -> Result<Answer, Problem> {
    let limit = page_limit(which.limit)?;
    let found = app.store.read(move |transaction| {
        let project = known_project(transaction, &access, &project)?;
        access.may_read_of(&project)?;
        let Shelf { cursor: after, archived, .. } = which;
        let filter = Filter { only: access.environment_id(), after, archived, limit: limit + 1 };
        environment::list(transaction, &project, &filter)
    });
    let Items { items, next } = Items::new(found.await?, limit, |found: &Environment| found.key.clone());
    Answer::ok(&Items { items: items.iter().map(Environment::view).collect(), next })
}

pub(super) async fn create(
    State(app): State<Arc<App>>,
    Path(project): Path<String>,
    write: Write,
) -> Result<Answer, Problem> {
    let new = write.json::<environment::NewEnvironment>()?;
    write
        .run(&app, move |transaction, write| {
            let project = writable_project(transaction, &write.access, Scope::Admin, &project)?;
            let environment = environment::create(transaction, &project, &new, &write.author)?;
            answer(StatusCode::CREATED, &environment)
        })
        .await
}

pub(super) async fn show(
    State(app): State<Arc<App>>,
    access: Access,
    Path((project, environment)): Path<(String, String)>,
) -> Result<Answer, Problem> {
    let found = app.store.read(move |transaction| {
        let (_, environment) = readable(transaction, &access, &project, &environment)?;
        Ok::<_, Problem>(environment)
    });
    answer(StatusCode::OK, &found.await?)
}

pub(super) async fn put(
    State(app): State<Arc<App>>,
    Path(place): Path<(String, String)>,
    write: Write,
) -> Result<Answer, Problem> {
    let body: EnvironmentBody = write.json()?;
    update(&app, place, write, move |write, old| {
        write.require_revision(change::integer(old.revision)?)?;
        Ok(body)
    })
    .await
}

pub(super) async fn patch(
    State(app): State<Arc<App>>,
    Path(place): Path<(String, String)>,
    write: Write,
) -> Result<Answer, Problem> {
    let patch: Json = write.json()?;
    update(&app, place, write, move |write, old| {
        write.check_revision(change::integer(old.revision)?)?;
        patched(&old.body(), patch)
    })
    .await
}

/// Gives an environment the body that `new` makes of what is there.
async fn update<N>(app: &App, place: (String, String), write: Write, new: N) -> Result<Answer, Problem>
where
    N: FnOnce(&Write, &Environment) -> Result<EnvironmentBody, Problem> + Send + 'static,
{
    let path = format!("{}/{}", place.0, place.1);
    write
        .run_at(app, &path, move |transaction, write| {
            let (project, old) = writable(transaction, &write.access, &place.0, &place.1)?;
            let body = new(write, &old)?;
            answer(StatusCode::OK, &environment::update(transaction, &project, &old, body, &write.author)?)
        })
        .await
}

pub(super) async fn archive(
    State(app): State<Arc<App>>,
    Path(place): Path<(String, String)>,
    write: Write,
) -> Result<Answer, Problem> {
    come_or_go(&app, place, write, environment::archive).await
}

pub(super) async fn restore(
    State(app): State<Arc<App>>,
    Path(place): Path<(String, String)>,
    write: Write,
) -> Result<Answer, Problem> {
    come_or_go(&app, place, write, environment::restore).await
}

type ComeOrGo = fn(&mut dyn Transaction, &Project, &Environment, &Author) -> Result<Environment, Problem>;

async fn come_or_go(app: &App, place: (String, String), write: Write, how: ComeOrGo) -> Result<Answer, Problem> {
    let path = format!("{}/{}", place.0, place.1);
    write
        .run_at(app, &path, move |transaction, write| {
            let (project, old) = locked(transaction, &write.access, Scope::Admin, &place.0, &place.1)?;
            old.project_must_be_open()?;
            write.check_revision(change::integer(old.revision)?)?;
            answer(StatusCode::OK, &how(transaction, &project, &old, &write.author)?)
        })
        .await
}

fn answer(status: StatusCode, environment: &Environment) -> Result<Answer, Problem> {
    Ok(Answer::new(status, &environment.view())?.with_revision(change::integer(environment.revision)?))
}
