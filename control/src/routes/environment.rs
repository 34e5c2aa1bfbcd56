//! `/api/v1/projects/PROJECT/environments`

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde_json::Value as Json;

use super::place::{known_project, readable, writable};
use super::request::{Answer, Items, Write};
use crate::app::App;
use crate::auth::Access;
use crate::model::patched;
use crate::problem::Problem;
use crate::resource::environment::Environment;
use crate::resource::token::Scope;
use crate::resource::{change, environment};

pub(super) async fn list(
    State(app): State<Arc<App>>,
    access: Access,
    Path(project): Path<String>,
) -> Result<Answer, Problem> {
    let items = app.store.read(move |transaction| {
        let project = known_project(transaction, &access, &project)?;
        access.may_read_of(&project)?;
        let environments = environment::list(transaction, &project)?;
        let views = environments.iter().filter(|environment| access.is_for_environment(environment));
        Ok::<_, Problem>(views.map(environment::Environment::view).collect())
    });
    Answer::ok(&Items { items: items.await?, next: None })
}

pub(super) async fn create(
    State(app): State<Arc<App>>,
    Path(project): Path<String>,
    write: Write,
) -> Result<Answer, Problem> {
    let new = write.json::<environment::NewEnvironment>()?;
    write
        .run(&app, move |transaction, write| {
            let project = known_project(transaction, &write.access, &project)?;
            write.access.may_in(Scope::Admin, &project)?;
            let environment = environment::create(transaction, &project, &new, &write.author)?;
            Answer::new(StatusCode::CREATED, &environment.view())
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
    answer(&found.await?)
}

pub(super) async fn patch(
    State(app): State<Arc<App>>,
    Path((project, environment)): Path<(String, String)>,
    write: Write,
) -> Result<Answer, Problem> {
    let patch: Json = write.json()?;
    let path = format!("{project}/{environment}");
    write
        .run_at(&app, &path, move |transaction, write| {
            let (project, environment) = writable(transaction, &write.access, &project, &environment)?;
            write.check_revision(change::integer(environment.revision)?)?;
            let body = patched(&environment.body(), patch)?;
            answer(&environment::update(transaction, &project, &environment, body, &write.author)?)
        })
        .await
}

fn answer(environment: &Environment) -> Result<Answer, Problem> {
    Ok(Answer::ok(&environment.view())?.with_revision(change::integer(environment.revision)?))
}
