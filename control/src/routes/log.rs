//! `…/environments/ENVIRONMENT/diff` and `…/changes/export`

use std::io;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::{HeaderValue, header};
use axum::response::Response;
use futures_util::stream::unfold;
use schemars::JsonSchema;
use serde::Deserialize;

use super::place::readable;
use super::request::{Answer, Asked};
use crate::app::App;
use crate::auth::Access;
use crate::problem::Problem;
use crate::resource::environment::Environment;
use crate::resource::log;

/// Entries that are read at once.
const AT_ONCE: i64 = 200;

/// Which two revisions.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Between {
    from: u64,
    /// Absent: the current one.
    to: Option<u64>,
}

/// Which part of the log.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Part {
    /// Absent: the oldest that the log has.
    from: Option<u64>,
    /// Absent: the current one.
    to: Option<u64>,
}

pub(super) async fn diff(
    State(app): State<Arc<App>>,
    access: Access,
    Path((project, environment)): Path<(String, String)>,
    Asked(Between { from, to }): Asked<Between>,
) -> Result<Answer, Problem> {
    let found = app.store.read(move |transaction| {
        let (_, environment) = readable(transaction, &access, &project, &environment)?;
        let to = to.unwrap_or(environment.revision);
        log::diff(transaction, &environment, from, to)
    });
    Answer::ok(&found.await?)
}

/// The log as lines of JSON, the oldest first, for whoever keeps it elsewhere.
pub(super) async fn export(
    State(app): State<Arc<App>>,
    access: Access,
    Path((project, environment)): Path<(String, String)>,
    Asked(Part { from, to }): Asked<Part>,
) -> Result<Response, Problem> {
    let found = app.store.read(move |transaction| {
        let (_, environment) = readable(transaction, &access, &project, &environment)?;
        if let Some(from) = from {
            log::check_since(&environment, from.saturating_sub(1))?;
        }
        Ok::<_, Problem>(environment)
    });
    let environment = found.await?;
    let (next, to) = (from.unwrap_or(environment.log_begins), to.unwrap_or(environment.revision));
    let lines = Lines { app, next, to: to.min(environment.revision), environment };
    let body = Body::from_stream(unfold(lines, |mut lines| async move {
        let bytes = lines.next().await?;
        Some((bytes, lines))
    }));
    let mut response = Response::new(body);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
    Ok(response)
}

struct Lines {
    app: Arc<App>,
    environment: Environment,
    next: u64,
    to: u64,
}

impl Lines {
    /// The next lines; an error cuts the connection, so that nobody takes a part for the whole.
    async fn next(&mut self) -> Option<io::Result<Bytes>> {
        if self.next > self.to {
            return None;
        }
        let (id, revisions) = (self.environment.id, self.next..=self.to);
        let read = self.app.store.read(move |transaction| log::oldest(transaction, id, &revisions, AT_ONCE)).await;
        let entries = match read {
            Ok(entries) => entries,
            Err(problem) => return Some(Err(io::Error::other(problem.detail().to_owned()))),
        };
        let mut text = String::new();
        for entry in entries {
            if entry.revision != self.next {
                break;
            }
            self.next += 1;
            match serde_json::to_string(&entry) {
                Ok(line) => text.extend([line.as_str(), "\n"]),
                Err(error) => return Some(Err(error.into())),
            }
        }
        if text.is_empty() {
            return Some(Err(io::Error::other("the log was cut meanwhile")));
        }
        Some(Ok(text.into()))
    }
}
