//! `…/environments/ENVIRONMENT/changes` and `…/rollback`

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

use super::place::{readable, writable};
use super::request::{Answer, Asked, Items, Write, page_limit};
use crate::app::App;
use crate::auth::Access;
use crate::problem::Problem;
use crate::resource::{change, log, rollback};

/// Which changes.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Which {
    /// Where the last page ended: its `next`.
    cursor: String,
    limit: Option<i64>,
    /// Those of this flag alone.
    flag: Option<String>,
}

pub(super) async fn list(
    State(app): State<Arc<App>>,
    access: Access,
    Path((project, environment)): Path<(String, String)>,
    Asked(which): Asked<Which>,
) -> Result<Answer, Problem> {
    let limit = page_limit(which.limit)?;
    let before = match which.cursor.as_str() {
        "" => i64::MAX,
        cursor => cursor.parse().map_err(|_| Problem::invalid("", "the cursor is not one of ours"))?,
    };
    let entries = app.store.read(move |transaction| {
        let (_, environment) = readable(transaction, &access, &project, &environment)?;
        if before < i64::MAX {
            // A page that ended before the log was cut goes on nowhere.
            log::check_since(&environment, u64::try_from(before).unwrap_or(0).saturating_sub(2))?;
        }
        change::log(transaction, environment.id, which.flag.as_deref(), before, limit + 1)
    });
    Answer::ok(&Items::new(entries.await?, limit, |entry| entry.revision.to_string()))
}

/// To which revision.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RollBack {
    revision: u64,
}

pub(super) async fn roll_back(
    State(app): State<Arc<App>>,
    Path((project, environment)): Path<(String, String)>,
    write: Write,
) -> Result<Answer, Problem> {
    let RollBack { revision } = write.json()?;
    write
        .run(&app, move |transaction, write| {
            let (project, environment) = writable(transaction, &write.access, &project, &environment)?;
            write.check_revision(change::integer(environment.revision)?)?;
            let done = rollback::roll_back(transaction, &project, &environment, revision, &write.author)?;
            Answer::new(StatusCode::OK, &json!(done))
        })
        .await
}
