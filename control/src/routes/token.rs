//! `/api/v1/tokens`

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use schemars::JsonSchema;
use serde::Deserialize;

use super::audit::Audit;
use super::place::known_project;
use super::request::{Answer, Asked, Items, Page, Write};
use crate::app::App;
use crate::auth::Access;
use crate::clock::now_ms;
use crate::problem::Problem;
use crate::resource::environment;
use crate::resource::token::{self, Place, Scope, Secret, Token};
use crate::store::Transaction;

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
    /// When the new one ends; absent: when the old one would have.
    expires_ms: Option<i64>,
}

pub(super) async fn list(
    State(app): State<Arc<App>>,
    access: Access,
    Asked(page): Asked<Page>,
) -> Result<Answer, Problem> {
    access.has(Scope::Admin)?;
    let limit = page.limit()?;
    let place = access.place();
    let tokens = app.store.read(move |transaction| token::list(transaction, place, &page.cursor, limit + 1)).await?;
    Answer::ok(&Items::new(tokens, limit, |token| token.id.clone()))
}

pub(super) async fn show(
    State(app): State<Arc<App>>,
    access: Access,
    Path(id): Path<String>,
) -> Result<Answer, Problem> {
    access.has(Scope::Admin)?;
    let found = app.store.read(move |transaction| token::find_in(transaction, access.place(), &id));
    answer(&found.await?)
}

fn answer(token: &Token) -> Result<Answer, Problem> {
    Ok(Answer::ok(token)?.with_revision(token.version))
}

pub(super) async fn create(State(app): State<Arc<App>>, write: Write) -> Result<Answer, Problem> {
    write.access.has(Scope::Admin)?;
    let new: NewToken = write.json()?;
    let audit = Audit::begin("token.create", "", &write);
    let done = write.run(&app, move |transaction, write| {
        let place = new.place(transaction, &write.access)?;
        // Of scopes there is none beyond the one that is needed here.
        write.access.covers(place)?;
        shown_once(&token::create(transaction, &new.name, new.scope, place, new.expires_ms)?)
    });
    audit.end(done.await)
}

impl NewToken {
    /// What it is for, as far as who asks may know of it.
    fn place(&self, transaction: &mut dyn Transaction, access: &Access) -> Result<Place, Problem> {
        let project = match &self.project {
            Some(key) => Some(known_project(transaction, access, key).map_err(|problem| named(&problem, "/project"))?),
            None => None,
        };
        let environment_id = match (&project, &self.environment) {
            (_, None) => None,
            (Some(project), Some(key)) => {
                let found = environment::find(transaction, project, key);
                let found = found.and_then(|environment| match access.may_at(Scope::Admin, &environment) {
                    Ok(()) => Ok(environment.id),
                    Err(_) => Err(environment::not_found(project, key)),
                });
                Some(found.map_err(|problem| named(&problem, "/environment"))?)
            }
            (None, Some(_)) => return Err(Problem::invalid("/project", "an environment is one of a project")),
        };
        Ok(Place { project_id: project.map(|project| project.id), environment_id })
    }
}

fn named(problem: &Problem, pointer: &str) -> Problem {
    Problem::invalid(pointer, problem.detail())
}

fn shown_once((token, secret): &(Token, Secret)) -> Result<Answer, Problem> {
    let answer = Answer::new(StatusCode::CREATED, token)?.with_revision(token.version);
    Ok(answer.with_secret("token", secret.reveal().to_owned()))
}

pub(super) async fn revoke(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    write: Write,
) -> Result<Answer, Problem> {
    write.access.has(Scope::Admin)?;
    let audit = Audit::begin("token.revoke", &id, &write);
    let done = write.run(&app, move |transaction, write| {
        let old = seen(transaction, write, &id)?;
        let now = token::revoke(transaction, &old, now_ms())?;
        Ok(answer(&now)?.idle_if(now.version == old.version))
    });
    audit.end(done.await)
}

/// A token to be changed, which is locked, as whoever asks has seen it.
fn seen(transaction: &mut dyn Transaction, write: &Write, id: &str) -> Result<Token, Problem> {
    let token = token::lock_in(transaction, write.access.place(), id)?;
    write.check_revision(token.version)?;
    Ok(token)
}

pub(super) async fn rotate(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    write: Write,
) -> Result<Answer, Problem> {
    write.access.has(Scope::Admin)?;
    let Rotate { overlap_seconds, expires_ms } = write.json()?;
    let overlap_ms = i64::from(overlap_seconds) * 1_000;
    let audit = Audit::begin("token.rotate", &id, &write);
    let done = write.run(&app, move |transaction, write| {
        let old = seen(transaction, write, &id)?;
        shown_once(&token::rotate(transaction, &old, overlap_ms, expires_ms)?)
    });
    audit.end(done.await)
}
