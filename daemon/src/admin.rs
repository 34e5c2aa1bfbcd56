//! How flagsctl, probes and Prometheus talk to flagsd: HTTP/1.1 with JSON.
//!
//! On the Unix socket `<store>/flagsd.sock` (mode 0600: the daemon's user and root) all of it; on the management address,
//! where one is configured, only the reading half: `/healthz`, `/readyz`, `/metrics`.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Instant, SystemTime};

use axum::extract::rejection::JsonRejection;
use axum::extract::{DefaultBodyLimit, Path as UrlPath, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::UnixListener;
use tokio::sync::{mpsc, oneshot};

use crate::clock::unix_ms;
use crate::metrics;
use crate::source::SourceSpec;
use crate::status::{SetStatus, Status};

/// Everything that answers need.
#[derive(Debug)]
pub(crate) struct Admin {
    pub(crate) sets: BTreeMap<String, SetHandle>,
    pub(crate) state_dir: Option<PathBuf>,
    pub(crate) started: (Instant, SystemTime),
}

/// The way to one set's task.
#[derive(Clone, Debug)]
pub(crate) struct SetHandle {
    pub(crate) commands: mpsc::Sender<Request>,
    pub(crate) status: SharedStatus,
}

/// The status of a set as of its last change or heartbeat.
#[derive(Clone, Debug)]
pub(crate) struct SharedStatus(Arc<Mutex<Arc<SetStatus>>>);

/// A command on its way to a set's task, and where its answer goes.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) command: Command,
    pub(crate) reply: oneshot::Sender<Result<Value, Refusal>>,
}

/// What an operator can tell a set.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Command {
    /// Publish a kept generation's content again (the one before, where none is named) and freeze.
    Rollback {
        generation: Option<u64>,
    },
    Freeze,
    Unfreeze,
    /// Publish the held change.
    Confirm,
    /// Read every source anew; these ones, where they are others now.
    Reload {
        sources: Option<Vec<SourceSpec>>,
    },
    /// Answer, if you are alive.
    Ping,
    Override {
        key: String,
        value: Value,
    },
    ClearOverride {
        key: String,
    },
}

/// Why a command is not obeyed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) status: u16,
    pub(crate) detail: String,
}

/// Name of the socket in the set's store directory.
pub(crate) const SOCKET: &str = "flagsd.sock";

impl SharedStatus {
    pub(crate) fn new(status: SetStatus) -> Self {
        Self(Arc::new(Mutex::new(Arc::new(status))))
    }

    pub(crate) fn set(&self, status: SetStatus) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(status);
    }

    pub(crate) fn get(&self) -> Arc<SetStatus> {
        Arc::clone(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Refusal {
    pub(crate) fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self { status: status.as_u16(), detail: detail.into() }
    }
}

impl Admin {
    pub(crate) fn status(&self) -> Status {
        Status {
            version: env!("CARGO_PKG_VERSION"),
            pid: std::process::id(),
            started_ms: unix_ms(self.started.1),
            uptime_seconds: self.started.0.elapsed().as_secs(),
            state_dir: self.state_dir.clone(),
            sets: self.sets.values().map(|set| SetStatus::clone(&set.status.get())).collect(),
        }
    }

    /// Hands a command to a set's task and waits for its answer.
    pub(crate) async fn tell(&self, set: &str, command: Command) -> Result<Value, Refusal> {
        let handle = self.sets.get(set).ok_or_else(|| {
            let known: Vec<&str> = self.sets.keys().map(String::as_str).collect();
            Refusal::new(StatusCode::NOT_FOUND, format!("no set `{set}`; there is {}", known.join(", ")))
        })?;
        let (reply, answer) = oneshot::channel();
        let stopping = |_| Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "flagsd is stopping");
        handle.commands.send(Request { command, reply }).await.map_err(|_| stopping(()))?;
        answer.await.map_err(|_| stopping(()))?
    }
}

/// Listens on the socket at `path`, which nobody but the daemon's user can open.
///
/// # Errors
///
/// Where the socket cannot be made, such as for a path of more than 107 bytes.
pub(crate) fn listen(path: &Path) -> io::Result<UnixListener> {
    // The store is ours by its lock: a socket that lies there is a dead one's.
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    // Between bind and chmod anybody could connect; the mask closes that gap.
    let mask = nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o177));
    let listener = UnixListener::bind(path);
    nix::sys::stat::umask(mask);
    let listener = listener?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// All routes.
pub(crate) fn router(admin: Arc<Admin>) -> Router {
    let commands = Router::new()
        .route("/v1/status", get(status))
        .route("/v1/sets/{set}/rollback", post(rollback))
        .route("/v1/sets/{set}/freeze", post(freeze))
        .route("/v1/sets/{set}/unfreeze", post(unfreeze))
        .route("/v1/sets/{set}/confirm", post(confirm))
        .route("/v1/sets/{set}/reload", post(reload))
        .route("/v1/sets/{set}/overrides/{key}", put(set_override).delete(clear_override));
    finish(commands.merge(probes()), admin)
}

/// The reading half.
pub(crate) fn management_router(admin: Arc<Admin>) -> Router {
    finish(probes(), admin)
}

fn probes() -> Router<Arc<Admin>> {
    Router::new().route("/healthz", get(healthz)).route("/readyz", get(readyz)).route("/metrics", get(metrics_page))
}

fn finish(router: Router<Arc<Admin>>, admin: Arc<Admin>) -> Router {
    let not_found = || async { Refusal::new(StatusCode::NOT_FOUND, "no such path") };
    let not_allowed = || async { Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "another method is expected here") };
    router
        .fallback(not_found)
        .method_not_allowed_fallback(not_allowed)
        .layer(DefaultBodyLimit::max(1 << 20))
        .with_state(admin)
}

async fn status(State(admin): State<Arc<Admin>>) -> Json<Status> {
    Json(admin.status())
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RollbackBody {
    generation: Option<u64>,
}

async fn rollback(
    State(admin): State<Arc<Admin>>,
    UrlPath(set): UrlPath<String>,
    body: axum::body::Bytes,
) -> Result<Json<Value>, Refusal> {
    // No body at all means the generation before.
    let body: RollbackBody = match body.as_ref() {
        [] => RollbackBody::default(),
        bytes => serde_json::from_slice(bytes)
            .map_err(|error| Refusal::new(StatusCode::BAD_REQUEST, format!("body: {error}")))?,
    };
    admin.tell(&set, Command::Rollback { generation: body.generation }).await.map(Json)
}

async fn freeze(State(admin): State<Arc<Admin>>, UrlPath(set): UrlPath<String>) -> Result<Json<Value>, Refusal> {
    admin.tell(&set, Command::Freeze).await.map(Json)
}

async fn unfreeze(State(admin): State<Arc<Admin>>, UrlPath(set): UrlPath<String>) -> Result<Json<Value>, Refusal> {
    admin.tell(&set, Command::Unfreeze).await.map(Json)
}

async fn confirm(State(admin): State<Arc<Admin>>, UrlPath(set): UrlPath<String>) -> Result<Json<Value>, Refusal> {
    admin.tell(&set, Command::Confirm).await.map(Json)
}

async fn reload(State(admin): State<Arc<Admin>>, UrlPath(set): UrlPath<String>) -> Result<Json<Value>, Refusal> {
    admin.tell(&set, Command::Reload { sources: None }).await.map(Json)
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct OverrideBody {
    value: Value,
}

async fn set_override(
    State(admin): State<Arc<Admin>>,
    UrlPath((set, key)): UrlPath<(String, String)>,
    body: Result<Json<OverrideBody>, JsonRejection>,
) -> Result<Json<Value>, Refusal> {
    let Json(body) = body.map_err(|error| Refusal::new(error.status(), error.body_text()))?;
    admin.tell(&set, Command::Override { key, value: body.value }).await.map(Json)
}

async fn clear_override(
    State(admin): State<Arc<Admin>>,
    UrlPath((set, key)): UrlPath<(String, String)>,
) -> Result<Json<Value>, Refusal> {
    admin.tell(&set, Command::ClearOverride { key }).await.map(Json)
}

async fn healthz() -> &'static str {
    // All work is done on the thread that answers: an answer is the proof.
    "ok\n"
}

async fn readyz(State(admin): State<Arc<Admin>>) -> Response {
    let waiting: Vec<String> =
        admin.sets.iter().filter(|(_, set)| !set.status.get().ready).map(|(name, _)| name.clone()).collect();
    if waiting.is_empty() {
        return "ok\n".into_response();
    }
    let names = waiting.join(", ");
    Refusal::new(StatusCode::SERVICE_UNAVAILABLE, format!("nothing is published yet for {names}")).into_response()
}

async fn metrics_page(State(admin): State<Arc<Admin>>) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], metrics::render(&admin.status()))
        .into_response()
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        // RFC 9457
        let title = status.canonical_reason().unwrap_or("error");
        let problem = json!({"title": title, "status": self.status, "detail": self.detail});
        (status, [(header::CONTENT_TYPE, "application/problem+json")], problem.to_string()).into_response()
    }
}
