//! Snapshots and streams over HTTP: docs/design/sync.md.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::body::Body;
use axum::extract::{ConnectInfo, Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use flags_sync::{Event, EventId};
use futures_util::stream::unfold;
use metrics::{Counter, counter};
use tokio::sync::watch;
use tokio::time::{Instant, Sleep, sleep, timeout_at};

use super::Live;
use super::live::{Next, Sealed};
use crate::app::App;
use crate::auth::Access;
use crate::limit::Kind;
use crate::places::Place;
use crate::problem::Problem;
use crate::tls::ClientCertified;
use crate::trace;

/// How long a stream waits for this replica to come to where another one has brought it. Nobody is behind for so long; it is a database that
/// lost what it had acknowledged then, and the host hears what is there.
const AHEAD: Duration = Duration::from_secs(5);

/// What caches may do: serve it for a second, for a minute while they fetch another, and for a day while we can't be reached.
const CACHE_CONTROL: &str = "public, max-age=1, stale-while-revalidate=60, stale-if-error=86400";

/// What an answer depends on, for caches: they hand it to nobody who does not bring the token that it was given for.
pub(super) const VARY: &str = "accept-encoding, authorization";

/// `GET /sync/v1/PROJECT/ENVIRONMENT/snapshot`
pub(crate) async fn snapshot(
    State(app): State<Arc<App>>,
    Path((project, environment)): Path<(String, String)>,
    peer: ConnectInfo<SocketAddr>,
    Extension(certified): Extension<ClientCertified>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let (live, _) = admit(&app, &project, &environment, certified, &peer, &headers).await?;
    let as_gzip = takes_gzip(&headers);
    let newest = etag(live.newest(), as_gzip);
    let known = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    // A cache that compresses makes the tag a weak one.
    let is_known = known.flat_map(|list| list.split(',')).any(|tag| tag.trim().trim_start_matches("W/") == newest);
    let (mut response, etag) = if is_known {
        (StatusCode::NOT_MODIFIED.into_response(), newest)
    } else {
        let sealed = sealed(&live).await;
        let mut response = if as_gzip {
            let mut response = Response::new(Body::from(compressed(&sealed).await));
            response.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            response
        } else {
            Response::new(Body::from(sealed.text.clone()))
        };
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        (response, etag(sealed.id, as_gzip))
    };
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(CACHE_CONTROL));
    headers.insert(header::VARY, HeaderValue::from_static(VARY));
    insert(headers, header::ETAG, &etag);
    Ok(response)
}

/// `GET /sync/v1/PROJECT/ENVIRONMENT/stream`
pub(crate) async fn stream(
    State(app): State<Arc<App>>,
    Path((project, environment)): Path<(String, String)>,
    peer: ConnectInfo<SocketAddr>,
    Extension(certified): Extension<ClientCertified>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    // Before the token is looked at: a change of tokens meanwhile is one that the stream has to look at.
    let tokens = app.auth.changes();
    let (live, access) = admit(&app, &project, &environment, certified, &peer, &headers).await?;
    let place = app.limits.place(Kind::Stream, access.token_id())?;
    let at = headers.get("last-event-id").and_then(|id| id.to_str().ok()).and_then(|id| id.parse().ok());
    let stream = Stream {
        news: live.subscribe(),
        silence: Box::pin(sleep(heartbeat(&app))),
        changes: counter!("flags_control_stream_events_total", "kind" => "change"),
        app,
        live,
        access,
        tokens,
        is_sure: true,
        at,
        ahead_until: None,
        waiting: Vec::new(),
        spoke: None,
        _place: place,
    };
    let body = Body::from_stream(unfold(stream, |mut stream| async move {
        let bytes = stream.next().await?;
        Some((Ok::<_, Infallible>(bytes), stream))
    }));
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // nginx would keep events back otherwise.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(response)
}

/// Each event goes to all streams, so what a stream does for one is little: it waits in one queue, whatever it is woken for, and its
/// timer is not touched.
struct Stream {
    app: Arc<App>,
    live: Arc<Live>,
    access: Access,
    /// Tells of states, and of everything else that streams have to look at: [`Hub::ring`](super::Hub::ring).
    news: watch::Receiver<EventId>,
    /// The changes of tokens that `access` was looked at after.
    tokens: u64,
    /// Whether the database had its say then.
    is_sure: bool,
    /// Ends when nothing may have been said for the time of a heartbeat.
    silence: Pin<Box<Sleep>>,
    /// Counts the changes that were sent.
    changes: Counter,
    at: Option<EventId>,
    /// How long the stream waits for this replica, where it began ahead of it.
    ahead_until: Option<Instant>,
    /// Events to send, the next one last.
    waiting: Vec<Bytes>,
    /// When something was last said.
    spoke: Option<Instant>,
    _place: Place,
}

impl Stream {
    /// The next bytes; `None` ends the stream.
    async fn next(&mut self) -> Option<Bytes> {
        let bytes = self.find().await?;
        self.spoke = Some(Instant::now());
        Some(bytes)
    }

    async fn find(&mut self) -> Option<Bytes> {
        loop {
            if let Some(bytes) = self.waiting.pop() {
                return Some(bytes);
            }
            // What comes after this ends the wait below, so nothing is overlooked in between.
            self.news.mark_unchanged();
            if *self.app.stopping.borrow() || !self.is_admitted().await {
                return None;
            }
            match self.live.next(self.at) {
                Next::Events(mut events, at) => {
                    self.changes.increment(events.len() as u64);
                    self.at = Some(at);
                    events.reverse();
                    self.waiting = events;
                }
                Next::Whole => {
                    let sealed = sealed(&self.live).await;
                    self.at = Some(sealed.id);
                    counter!("flags_control_stream_events_total", "kind" => "snapshot").increment(1);
                    return Some(sealed.wire.clone());
                }
                Next::Ahead => {
                    // One deadline, whatever else happens meanwhile.
                    let until = *self.ahead_until.get_or_insert_with(|| Instant::now() + AHEAD);
                    if until <= Instant::now() {
                        self.at = None;
                        continue;
                    }
                    if let Ok(Err(_)) = timeout_at(until, self.news.changed()).await {
                        return None;
                    }
                }
                Next::Nothing => {
                    // Who resumes and missed nothing hears that at once.
                    let Some(spoke) = self.spoke else { return Some(self.current()) };
                    tokio::select! {
                        changed = self.news.changed() => changed.ok()?,
                        () = self.silence.as_mut() => {
                            let due = spoke + heartbeat(&self.app);
                            if due <= Instant::now() {
                                return self.is_still_good().await.then(|| self.current());
                            }
                            self.silence.as_mut().reset(due);
                        }
                    }
                }
            }
        }
    }

    /// Whether the token is good after all changes of tokens, as far as the database tells.
    async fn is_admitted(&mut self) -> bool {
        if !self.access.is_alive() {
            // Its time has come; no database is needed to see that.
            return false;
        }
        let changes = self.app.auth.changes();
        if changes == self.tokens {
            return true;
        }
        let before = std::mem::replace(&mut self.tokens, changes);
        let is_good = self.is_still_good().await;
        if !self.is_sure {
            // Looked at again with the next event; who asks the database, and how often, is seen to there.
            self.tokens = before;
        }
        is_good
    }

    async fn is_still_good(&mut self) -> bool {
        let Some((access, is_sure)) = self.app.auth.again(&self.access).await else { return false };
        (self.access, self.is_sure) = (access, is_sure);
        true
    }

    fn current(&self) -> Bytes {
        counter!("flags_control_stream_events_total", "kind" => "current").increment(1);
        let at = self.at.unwrap_or_else(|| self.live.newest());
        Bytes::from(Event::Current.to_wire(at))
    }
}

fn heartbeat(app: &App) -> Duration {
    Duration::from_millis(app.config.sync.heartbeat_ms)
}

/// The environment, and who asks, if they may.
pub(super) async fn admit(
    app: &App,
    project: &str,
    environment: &str,
    certified: ClientCertified,
    peer: &ConnectInfo<SocketAddr>,
    headers: &HeaderMap,
) -> Result<(Arc<Live>, Access), Problem> {
    app.limits.address(peer.0.ip())?;
    let access = app.auth.authenticate(headers).await?;
    app.limits.sync(access.token_id())?;
    Ok((followed(app, project, environment, certified, &access)?, access))
}

/// The environment, for who may follow it.
pub(super) fn followed(
    app: &App,
    project: &str,
    environment: &str,
    certified: ClientCertified,
    access: &Access,
) -> Result<Arc<Live>, Problem> {
    if !certified.0 && app.config.tls.as_ref().is_some_and(|tls| tls.client_ca.is_some()) {
        let detail = "a host needs a certificate of its own here";
        return Err(Problem::new(StatusCode::FORBIDDEN, "client-certificate", detail));
    }
    let path = format!("{project}/{environment}");
    let not_found = || Problem::not_found(format!("there is no environment {path:?}"));
    let Some(live) = app.hub.find(&path) else {
        if app.hub.is_filled() {
            return Err(not_found());
        }
        let detail = "the environments are not read yet";
        return Err(Problem::come_back(StatusCode::SERVICE_UNAVAILABLE, "starting", detail, 1));
    };
    if !access.may_sync(live.project_id, live.id) {
        return Err(not_found());
    }
    Ok(live)
}

async fn sealed(live: &Arc<Live>) -> Arc<Sealed> {
    if let Some(sealed) = live.if_sealed() {
        return sealed;
    }
    let _part = trace::part("seal");
    let own = Arc::clone(live);
    // Signing many flags takes a while; others are served meanwhile.
    tokio::task::spawn_blocking(move || own.sealed()).await.unwrap_or_else(|_| live.sealed())
}

async fn compressed(sealed: &Arc<Sealed>) -> Bytes {
    if sealed.is_compressed() {
        return sealed.gzip();
    }
    let _part = trace::part("compress");
    let own = Arc::clone(sealed);
    tokio::task::spawn_blocking(move || own.gzip()).await.unwrap_or_else(|_| sealed.gzip())
}

/// Two codings of one text are two things to a cache: each has its own tag.
fn etag(id: EventId, as_gzip: bool) -> String {
    if as_gzip { format!("\"{id}-gzip\"") } else { format!("\"{id}\"") }
}

/// Whether the client names gzip among what it takes, and not with a weight of 0.
pub(super) fn takes_gzip(headers: &HeaderMap) -> bool {
    let values = headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|list| list.split(',')).any(|coding| {
        let (name, weight) = coding.split_once(';').unwrap_or((coding, "q=1"));
        let weight = weight.trim().trim_start_matches("q=").parse().unwrap_or(1.0);
        name.trim().eq_ignore_ascii_case("gzip") && weight > 0.0
    })
}

pub(super) fn insert(headers: &mut HeaderMap, name: header::HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}
