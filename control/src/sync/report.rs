//! `POST /sync/v1/PROJECT/ENVIRONMENT/report`: a host says what it has published. No database is asked, and nothing waits for it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::body::to_bytes;
use axum::extract::{ConnectInfo, Path, Request, State};
use axum::http::StatusCode;
use metrics::histogram;
use tokio::time::timeout;

use super::hosts::Report;
use super::serve::followed;
use crate::app::App;
use crate::clock::now_ms;
use crate::parse::parse;
use crate::problem::Problem;
use crate::tls::ClientCertified;

/// Names and numbers take far less.
const BODY_BYTES: usize = 2 << 10;

/// How long the body may take.
const BODY_PATIENCE: Duration = Duration::from_secs(5);

/// A state that is younger than this nobody need have published and reported yet: the slowest report goes out a minute after its publication.
const GRACE_MS: i64 = 90_000;

/// The longest names: a host's in the DNS, a flag set's, a version.
const NAME_BYTES: [usize; 3] = [253, 64, 64];

pub(crate) async fn report(
    State(app): State<Arc<App>>,
    Path((project, environment)): Path<(String, String)>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    Extension(certified): Extension<ClientCertified>,
    request: Request,
) -> Result<StatusCode, Problem> {
    app.limits.address(peer.ip())?;
    let access = app.auth.authenticate(request.headers()).await?;
    // Not counted with its other requests: a stream is never turned away for what was reported.
    app.limits.report(access.token_id())?;
    let live = followed(&app, &project, &environment, certified, &access)?;
    let late = || Problem::new(StatusCode::REQUEST_TIMEOUT, "timeout", "the report did not come in time");
    let body = timeout(BODY_PATIENCE, to_bytes(request.into_body(), BODY_BYTES)).await.map_err(|_| late())?;
    let body = body.map_err(|_| {
        let detail = format!("a report has at most {BODY_BYTES} bytes");
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", detail)
    })?;
    let report: Report = parse(&body)?;
    for ((pointer, name), most) in
        [("/host", &report.host), ("/set", &report.set), ("/version", &report.version)].into_iter().zip(NAME_BYTES)
    {
        if name.is_empty() || name.len() > most || name.chars().any(char::is_control) {
            return Err(Problem::invalid(pointer, format!("1 to {most} bytes, no control characters")));
        }
    }
    if let Some(lag_ms) = report.lag_ms() {
        let path = format!("{project}/{environment}");
        histogram!("flags_control_propagation_seconds", "environment" => path).record(Duration::from_millis(lag_ms));
    }
    let now = now_ms();
    let due = live.as_of(u64::try_from(now - GRACE_MS).unwrap_or(0));
    live.hosts.take(report, due..=live.newest(), now);
    Ok(StatusCode::NO_CONTENT)
}
