//! `/api/v1/projects/PROJECT/environments/ENVIRONMENT/hosts`

use std::sync::Arc;

use axum::extract::{Path, State};
use schemars::JsonSchema;
use serde::Deserialize;

use super::place::readable;
use super::request::{Answer, Asked, Items, page_limit};
use crate::app::App;
use crate::auth::Access;
use crate::problem::Problem;
use crate::sync::HostView;

/// Which hosts are asked for.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Which {
    /// Where the last page ended: its `next`.
    cursor: String,
    limit: Option<i64>,
    /// Those alone that were behind when they last reported.
    behind: bool,
}

/// Those that have reported to this replica; it keeps them in memory.
pub(super) async fn list(
    State(app): State<Arc<App>>,
    access: Access,
    Path((project, environment)): Path<(String, String)>,
    Asked(which): Asked<Which>,
) -> Result<Answer, Problem> {
    let limit = page_limit(which.limit)?;
    let found = app.store.read(move |transaction| {
        let (_, environment) = readable(transaction, &access, &project, &environment)?;
        Ok::<_, Problem>(environment.path)
    });
    let path = found.await?;
    let most = usize::try_from(limit).unwrap_or(0) + 1;
    // No flag set has a slash in its name.
    let after = which.cursor.rsplit_once('/');
    let hosts = app.hub.find(&path).map(|live| live.hosts.list(after, which.behind, most));
    let cursor = |host: &HostView| format!("{}/{}", host.host, host.set);
    Answer::ok(&Items::new(hosts.unwrap_or_default(), limit, cursor))
}
