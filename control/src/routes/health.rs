//! `/healthz`: the process works. `/readyz`: it can do all that it is for.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;

use crate::app::App;
use crate::problem::Problem;

pub(super) async fn live() -> &'static str {
    "ok\n"
}

/// Without the database hosts are served, but nothing can be changed.
pub(super) async fn ready(State(app): State<Arc<App>>) -> Result<&'static str, Problem> {
    if *app.stopping.borrow() {
        return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "stopping", "the process is about to end"));
    }
    match app.hub.trouble() {
        None => Ok("ready\n"),
        Some(trouble) => Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "not-ready", trouble)),
    }
}
