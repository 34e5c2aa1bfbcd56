//! The HTTP API, a file for each resource.

mod admission;
pub(crate) mod audit;
pub(crate) mod change;
pub(crate) mod clone;
mod described;
mod download;
pub(crate) mod environment;
pub(crate) mod flag;
mod health;
pub(crate) mod host;
mod linger;
pub(crate) mod log;
mod place;
pub(crate) mod project;
pub(crate) mod request;
pub(crate) mod schedule;
pub(crate) mod segment;
mod signing_key;
pub(crate) mod token;
pub(crate) mod transfer;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use tokio::time::Instant;

use crate::app::App;
use crate::limit::{self, Class};
use crate::problem::Problem;
use crate::{observe, sync};
use described::{Routes, get, post};

/// How many times as long as others a request with all of an environment may take.
const BULK_PATIENCE: u32 = 12;

/// Everything that this program answers to.
pub(crate) fn router(app: Arc<App>) -> Router {
    let api = api()
        .into_router()
        .layer(DefaultBodyLimit::max(app.config.limits.body_bytes))
        .layer(middleware::from_fn_with_state((Arc::clone(&app), 1), bounded));
    let bulk = bulk()
        .into_router()
        .layer(DefaultBodyLimit::max(app.config.limits.import_bytes))
        .layer(middleware::from_fn_with_state((Arc::clone(&app), BULK_PATIENCE), bounded));
    let uploads = uploads()
        .into_router()
        .layer(DefaultBodyLimit::disable())
        .layer(middleware::from_fn_with_state(Arc::clone(&app), bounded_upload));
    let linger = middleware::from_fn_with_state(Arc::clone(&app), linger::linger);
    Router::new()
        .nest("/api/v1", api.merge(bulk).merge(uploads).layer(linger))
        .nest("/sync/v1", hosts().into_router())
        .merge(health())
        .fallback(|| async { Problem::not_found("there is nothing at this path") })
        .method_not_allowed_fallback(|| async {
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", "this path does not take this method")
        })
        .layer(middleware::from_fn(limit::tell))
        .layer(middleware::from_fn_with_state(Arc::clone(&app), hardened))
        .layer(middleware::from_fn(observe::request))
        .with_state(app)
}

/// Each path with each of its methods.
pub(crate) fn known() -> Vec<(String, &'static str)> {
    let api = api().known("/api/v1").chain(bulk().known("/api/v1")).chain(uploads().known("/api/v1"));
    api.chain(hosts().known("/sync/v1")).chain(process().known("")).collect()
}

fn api() -> Routes {
    Routes::default()
        .route("/projects", get(project::list).post(project::create))
        .route("/projects/{project}", get(project::show).put(project::put).patch(project::patch))
        .route("/projects/{project}/archive", post(project::archive))
        .route("/projects/{project}/restore", post(project::restore))
        .route("/projects/{project}/environments", get(environment::list).post(environment::create))
        .route(
            "/projects/{project}/environments/{environment}",
            get(environment::show).put(environment::put).patch(environment::patch),
        )
        .route("/projects/{project}/environments/{environment}/archive", post(environment::archive))
        .route("/projects/{project}/environments/{environment}/restore", post(environment::restore))
        .route("/projects/{project}/environments/{environment}/clone", post(clone::all))
        .route("/projects/{project}/environments/{environment}/rollback", post(change::roll_back))
        .route("/projects/{project}/environments/{environment}/changes", get(change::list))
        .route("/projects/{project}/environments/{environment}/changes/export", get(log::export))
        .route("/projects/{project}/environments/{environment}/diff", get(log::diff))
        .route("/projects/{project}/environments/{environment}/flags", get(flag::list_configs))
        .route("/projects/{project}/environments/{environment}/flags/{flag}/clone", post(clone::one))
        .route(
            "/projects/{project}/environments/{environment}/flags/{flag}",
            get(flag::show_config).put(flag::put_config).patch(flag::patch_config),
        )
        .route("/projects/{project}/environments/{environment}/hosts", get(host::list))
        .route("/projects/{project}/environments/{environment}/schedules", get(schedule::list).post(schedule::create))
        .route("/projects/{project}/environments/{environment}/schedules/{schedule}", get(schedule::show))
        .route("/projects/{project}/environments/{environment}/schedules/{schedule}/cancel", post(schedule::cancel))
        .route("/projects/{project}/environments/{environment}/segments", get(segment::list).post(segment::create))
        .route(
            "/projects/{project}/environments/{environment}/segments/{segment}",
            get(segment::show).put(segment::put).patch(segment::patch),
        )
        .route("/projects/{project}/environments/{environment}/segments/{segment}/archive", post(segment::archive))
        .route("/projects/{project}/environments/{environment}/segments/{segment}/restore", post(segment::restore))
        .route("/projects/{project}/environments/{environment}/signing-key", post(signing_key::make_next))
        .route("/projects/{project}/environments/{environment}/signing-key/rotate", post(signing_key::rotate))
        .route("/projects/{project}/environments/{environment}/signing-key/cancel", post(signing_key::cancel))
        .route("/projects/{project}/flags", get(flag::list).post(flag::create))
        .route("/projects/{project}/flags/{flag}", get(flag::show).put(flag::put).patch(flag::patch))
        .route("/projects/{project}/flags/{flag}/archive", post(flag::archive))
        .route("/projects/{project}/flags/{flag}/restore", post(flag::restore))
        .route("/tokens", get(token::list).post(token::create))
        .route("/tokens/{token}", get(token::show))
        .route("/tokens/{token}/revoke", post(token::revoke))
        .route("/tokens/{token}/rotate", post(token::rotate))
        .route("/projects/{project}/environments/{environment}/export", get(transfer::export))
}

/// Requests with all of an environment in them.
fn bulk() -> Routes {
    Routes::default().route("/projects/{project}/environments/{environment}/import", post(transfer::import))
}

/// Bodies of any length, that are read as they come.
fn uploads() -> Routes {
    let ids = "/projects/{project}/environments/{environment}/segments/{segment}/ids";
    Routes::default()
        .route(ids, get(download::show_ids).put(segment::put_ids))
        .route(&format!("{ids}/add"), post(segment::add_ids))
        .route(&format!("{ids}/remove"), post(segment::remove_ids))
}

fn hosts() -> Routes {
    Routes::default()
        .route("/{project}/{environment}/snapshot", get(sync::snapshot))
        .route("/{project}/{environment}/parts/{part}", get(sync::parts))
        .route("/{project}/{environment}/stream", get(sync::stream))
        .route("/{project}/{environment}/report", post(sync::report))
}

/// How the process is.
pub(crate) fn health() -> Router<Arc<App>> {
    process().into_router()
}

fn process() -> Routes {
    Routes::default().route("/healthz", get(health::live)).route("/readyz", get(health::ready))
}

/// Not too many requests at once, and none takes longer than it may, slow bodies included; or so many times as long.
async fn bounded(State((app, times)): State<(Arc<App>, u32)>, request: Request, next: Next) -> Response {
    within(&app, Duration::from_secs(app.config.limits.request_seconds) * times, request, next).await
}

/// The same for uploads, which may take longer.
async fn bounded_upload(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    within(&app, Duration::from_secs(app.config.limits.upload_seconds), request, next).await
}

async fn within(app: &App, limit: Duration, mut request: Request, next: Next) -> Response {
    let _place = match app.limits.management(Class::of(request.method())) {
        Ok(place) => place,
        Err(problem) => return problem.into_response(),
    };
    request.extensions_mut().insert(request::Until(Instant::now() + limit * 9 / 10));
    match tokio::time::timeout(limit, next.run(request)).await {
        Ok(response) => response,
        Err(_) => {
            let detail = "the request was not there, or not done, in time";
            Problem::new(StatusCode::REQUEST_TIMEOUT, "timeout", detail).into_response()
        }
    }
}

/// Whether a path is UTF-8 once it is decoded. What is no code is taken as it stands, as the router does.
fn is_text(path: &str) -> bool {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let [first, after @ ..] = rest {
        let code = after.get(..2).and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok());
        let code = code.filter(|_| *first == b'%');
        bytes.push(code.unwrap_or(*first));
        rest = if code.is_some() { &after[2..] } else { after };
    }
    std::str::from_utf8(&bytes).is_ok()
}

/// The headers that every answer has. And nothing has a name that is no UTF-8, or has a NUL in it, which PostgreSQL could not even look for.
async fn hardened(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let mut response = if request.uri().to_string().contains("%00") || !is_text(request.uri().path()) {
        Problem::not_found("there is nothing at this path").into_response()
    } else {
        next.run(request).await
    };
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'"),
    );
    if app.config.tls.is_some() {
        headers.insert(header::STRICT_TRANSPORT_SECURITY, HeaderValue::from_static("max-age=31536000"));
    }
    if !headers.contains_key(header::CACHE_CONTROL) {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    response
}
