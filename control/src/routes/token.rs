//! `/api/v1/tokens`

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use schemars::JsonSchema;
use serde::Deserialize;

use super::audit::Audit;
use super::request::{Answer, Asked, Items, Page, Write};
use crate::app::App;
use crate::auth::Access;
use crate::clock::now_ms;
use crate::problem::Problem;
use crate::resource::token::{self, Scope, Secret, Token};
use crate::resource::{environment, project};

/// What a token is made from.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct NewToken {
    name: String,
    scope: Scope,
    /// For which project only.
    #[serde(default)]
    project: Option<String>,
    /// For which environment of it only.
    #[serde(default)]
    environment: Option<String>,
    #[serde(default)]
    expires_ms: Option<i64>,
}

/// How a token is replaced.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct Rotate {
    /// How long the old one goes on.
    overlap_seconds: u32,
}

pub(super) async fn list(
    State(app): State<Arc<App>>,
    access: Access,
    Asked(page): Asked<Page>,
) -> Result<Answer, Problem> {
    access.may(Scope::Admin)?;
    let limit = page.limit()?;
    let tokens = app.store.read(move |transaction| token::list(transaction, &page.cursor, limit + 1)).await?;
    Answer::ok(&Items::new(tokens, limit, |token| token.id.clone()))
}

pub(super) async fn create(State(app): State<Arc<App>>, write: Write) -> Result<Answer, Problem> {
    write.access.may(Scope::Admin)?;
    let new: NewToken = write.json()?;
    let audit = Audit::begin("token.create", "", &write);
    let done = write.run(&app, move |transaction, _| {
        let project = match &new.project {
            Some(key) => Some(project::find(transaction, key).map_err(|problem| named(&problem, "/project"))?),
            None => None,
        };
        let environment = match (&project, &new.environment) {
            (_, None) => None,
            (Some(project), Some(key)) => {
                let found = environment::find(transaction, project, key);
                Some(found.map_err(|problem| named(&problem, "/environment"))?.id)
            }
            (None, Some(_)) => return Err(Problem::invalid("/project", "an environment is one of a project")),
        };
        let project = project.map(|project| project.id);
        let made = token::create(transaction, &new.name, new.scope, project, environment, new.expires_ms)?;
        shown_once(&made)
    });
    audit.end(done.await)
}

fn named(problem: &Problem, pointer: &str) -> Problem {
    Problem::invalid(pointer, problem.detail())
}

fn shown_once((token, secret): &(Token, Secret)) -> Result<Answer, Problem> {
    Ok(Answer::new(StatusCode::CREATED, token)?.with_secret("token", secret.reveal().to_owned()))
}

pub(super) async fn revoke(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    write: Write,
) -> Result<Answer, Problem> {
    write.access.may(Scope::Admin)?;
    let audit = Audit::begin("token.revoke", &id, &write);
    audit.end(write.run(&app, move |transaction, _| Answer::ok(&token::revoke(transaction, &id, now_ms())?)).await)
}

pub(super) async fn rotate(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    write: Write,
) -> Result<Answer, Problem> {
    write.access.may(Scope::Admin)?;
    let Rotate { overlap_seconds } = write.json()?;
    let overlap_ms = i64::from(overlap_seconds) * 1_000;
    let audit = Audit::begin("token.rotate", &id, &write);
    audit.end(write.run(&app, move |transaction, _| shown_once(&token::rotate(transaction, &id, overlap_ms)?)).await)
}
