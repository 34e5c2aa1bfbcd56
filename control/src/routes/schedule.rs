//! `…/environments/ENVIRONMENT/schedules`

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use schemars::JsonSchema;
use serde::Deserialize;

use super::place::{readable, writable};
use super::request::{Answer, Asked, Items, Write, page_limit};
use crate::app::App;
use crate::auth::Access;
use crate::clock::now_ms;
use crate::problem::Problem;
use crate::resource::schedule::{self, NewSchedule, Schedule};

/// Which scheduled changes.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Which {
    cursor: Option<i64>,
    limit: Option<i64>,
    state: Option<schedule::State>,
    flag: Option<String>,
}

pub(super) async fn list(
    State(app): State<Arc<App>>,
    access: Access,
    Path((project, environment)): Path<(String, String)>,
    Asked(which): Asked<Which>,
) -> Result<Answer, Problem> {
    let limit = page_limit(which.limit)?;
    let found = app.store.read(move |transaction| {
        let (_, environment) = readable(transaction, &access, &project, &environment)?;
        let after = which.cursor.unwrap_or(0);
        let (state, flag) = (which.state, which.flag.as_deref());
        Ok::<_, Problem>(schedule::list(transaction, &environment, state, flag, after, limit + 1)?)
    });
    Answer::ok(&Items::new(found.await?, limit, |schedule| schedule.id.clone()))
}

pub(super) async fn create(
    State(app): State<Arc<App>>,
    Path((project, environment)): Path<(String, String)>,
    write: Write,
) -> Result<Answer, Problem> {
    let new: NewSchedule = write.json()?;
    write
        .run(&app, move |transaction, write| {
            let (project, environment) = writable(transaction, &write.access, &project, &environment)?;
            let made = schedule::create(transaction, &project, &environment, &new, &write.author, now_ms())?;
            answer(StatusCode::CREATED, &made)
        })
        .await
}

pub(super) async fn show(
    State(app): State<Arc<App>>,
    access: Access,
    Path((project, environment, id)): Path<(String, String, String)>,
) -> Result<Answer, Problem> {
    let found = app.store.read(move |transaction| {
        let (_, environment) = readable(transaction, &access, &project, &environment)?;
        schedule::find(transaction, &environment, &id)
    });
    answer(StatusCode::OK, &found.await?)
}

fn answer(status: StatusCode, schedule: &Schedule) -> Result<Answer, Problem> {
    Ok(Answer::new(status, schedule)?.with_revision(schedule.version))
}

pub(super) async fn cancel(
    State(app): State<Arc<App>>,
    Path((project, environment, id)): Path<(String, String, String)>,
    write: Write,
) -> Result<Answer, Problem> {
    write
        .run(&app, move |transaction, write| {
            let (_, environment) = writable(transaction, &write.access, &project, &environment)?;
            let found = schedule::lock(transaction, &environment, &id)?;
            write.check_revision(found.version)?;
            answer(StatusCode::OK, &schedule::cancel(transaction, &environment, &found, now_ms())?)
        })
        .await
}
