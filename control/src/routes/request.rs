//! What requests have in common: preconditions, dry runs, idempotency, pages.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{ConnectInfo, FromRequest, FromRequestParts, Query, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json_;
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use super::admission::may_begin;
use crate::app::App;
use crate::auth::Access;
use crate::clock::now_ms;
use crate::model::check_text;
use crate::parse::parse;
use crate::problem::Problem;
use crate::resource::change::Author;
use crate::store::{StoreError, Transaction, Value};

/// The longest `Idempotency-Key`.
const KEY_BYTES: usize = 255;

/// How many items a page has, unless asked otherwise, and at most.
const PAGE: (i64, i64) = (100, 1_000);

/// Who asks, admitted by token and rate.
impl FromRequestParts<Arc<App>> for Access {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Problem> {
        admitted(app, parts.extensions.get(), &parts.headers).await
    }
}

/// Who asks, if they may ask now. The address counts before the token is looked for.
///
/// # Errors
/// 429 where the address or the token has asked too often; 401 and 503 as [`Auth::authenticate`](crate::auth::Auth::authenticate).
async fn admitted(app: &App, peer: Option<&ConnectInfo<SocketAddr>>, headers: &HeaderMap) -> Result<Access, Problem> {
    if let Some(ConnectInfo(peer)) = peer {
        app.limits.address(peer.ip())?;
    }
    let access = app.auth.authenticate(headers).await?;
    app.limits.request(access.token_id())?;
    Ok(access)
}

/// A request that changes something.
#[derive(Clone, Debug)]
pub(crate) struct Write {
    pub(crate) access: Access,
    pub(crate) body: Bytes,
    pub(crate) author: Author,
    if_match: Option<String>,
    dry_run: bool,
    idempotency: Option<Idempotency>,
    until: Until,
    /// The body came after the token was looked at, maybe long after.
    is_long: bool,
}

/// When the database must have answered: a moment before the request has taken as long as it may. Whether a change happened is not known then.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Until(pub(crate) Instant);

#[derive(Clone, Debug)]
struct Idempotency {
    key: String,
    request: Vec<u8>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct WriteQuery {
    dry_run: bool,
    comment: String,
    deliberate: bool,
}

impl FromRequest<Arc<App>> for Write {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, Problem> {
        let (mut parts, body) = request.into_parts();
        Self::head(&mut parts, app).await?.with_body(parts, body, app).await
    }
}

fn deadline(parts: &Parts) -> Result<Until, Problem> {
    Ok(parts.extensions.get().copied().ok_or_else(|| StoreError::Broken("no deadline".to_owned()))?)
}

fn unreadable(rejection: BytesRejection) -> Problem {
    let kind = if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE { "too-large" } else { "unreadable" };
    Problem::new(rejection.status(), kind, rejection.body_text())
}

fn text(headers: &HeaderMap, name: &str) -> Result<Option<String>, Problem> {
    let Some(value) = headers.get(name) else { return Ok(None) };
    let text = value.to_str().map_err(|_| Problem::invalid("", format!("the header {name} is not ASCII")))?;
    Ok(Some(text.to_owned()))
}

/// What makes two requests the same one.
fn fingerprint(method: &Method, target: &str, if_match: Option<&str>, body: &[u8]) -> Vec<u8> {
    let mut hash = Sha256::new();
    for part in [method.as_str().as_bytes(), target.as_bytes(), if_match.unwrap_or_default().as_bytes(), body] {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hash.finalize().to_vec()
}

/// What a request is answered with.
#[derive(Debug)]
pub(crate) struct Answer {
    status: StatusCode,
    etag: Option<String>,
    body: Json_,
    /// A member of the body that is told once and never stored.
    secret: Option<(&'static str, String)>,
    replayed: bool,
    /// Nothing had to be done for it.
    idle: bool,
}

impl Answer {
    pub(crate) fn new(status: StatusCode, body: &impl Serialize) -> Result<Self, Problem> {
        let body = serde_json::to_value(body).map_err(|error| StoreError::Broken(error.to_string()))?;
        Ok(Self { status, etag: None, body, secret: None, replayed: false, idle: false })
    }

    pub(crate) fn ok(body: &impl Serialize) -> Result<Self, Problem> {
        Self::new(StatusCode::OK, body)
    }

    /// With a member that is not remembered for an `Idempotency-Key`: who asks again gets the answer without it.
    pub(crate) fn with_secret(mut self, name: &'static str, secret: String) -> Self {
        self.secret = Some((name, secret));
        self
    }

    /// What was asked for is so already, where `idle`.
    pub(crate) fn idle_if(self, idle: bool) -> Self {
        Self { idle, ..self }
    }

    /// Whether something has happened for it, and now: it was not given before, either.
    pub(crate) fn is_of_a_change(&self) -> bool {
        !self.replayed && !self.idle
    }

    /// What is shown, but for what is told once.
    pub(crate) fn body(&self) -> &Json_ {
        &self.body
    }

    pub(crate) fn with_revision(mut self, revision: i64) -> Self {
        self.etag = Some(format!("\"{revision}\""));
        self
    }
}

impl IntoResponse for Answer {
    fn into_response(mut self) -> Response {
        if let (Some((name, secret)), Some(body)) = (self.secret, self.body.as_object_mut()) {
            body.insert(name.to_owned(), secret.into());
        }
        let mut response = (self.status, Json(self.body)).into_response();
        if let Some(etag) = self.etag.and_then(|etag| HeaderValue::from_str(&etag).ok()) {
            response.headers_mut().insert(header::ETAG, etag);
        }
        if self.replayed {
            response.headers_mut().insert("idempotency-replayed", HeaderValue::from_static("true"));
        }
        response
    }
}

/// How a transaction ends without being committed.
enum Stop {
    Problem(Problem),
    DryRun(Answer),
    /// The same request, sent before, was committed while this one waited: its answer is there now.
    Overtaken,
}

impl From<Problem> for Stop {
    fn from(problem: Problem) -> Self {
        Self::Problem(problem)
    }
}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Self {
        Self::Problem(error.into())
    }
}

impl Write {
    /// Of a request whose body is read as it comes, or [later](Self::with_body). Without that there is no `Idempotency-Key`: what a body does that
    /// is read as it comes is the same the second time. The token is looked at again when something is changed.
    ///
    /// # Errors
    /// As [`head`](Self::head).
    pub(crate) async fn without_body(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Problem> {
        Ok(Self { is_long: true, ..Self::head(parts, app).await? })
    }

    /// # Errors
    /// As of any request; 403 and 404 where the token may not change what the path names.
    async fn head(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Problem> {
        let access = Access::from_request_parts(parts, app).await?;
        let Asked(query) = Asked::<WriteQuery>::of(&parts.uri)?;
        check_text(&query.comment, "")?;
        let if_match = text(&parts.headers, header::IF_MATCH.as_str())?;
        let until = deadline(parts)?;
        in_time(until, may_begin(parts, app, &access)).await??;
        let author = Author { actor: access.actor(), comment: query.comment, deliberate: query.deliberate };
        Ok(Self {
            access,
            body: Bytes::new(),
            author,
            if_match,
            dry_run: query.dry_run,
            idempotency: None,
            until,
            is_long: false,
        })
    }

    /// The same with its body, and the `Idempotency-Key` if there is one.
    ///
    /// # Errors
    /// Where the body is too long, or breaks off.
    pub(crate) async fn with_body(mut self, parts: Parts, body: Body, app: &Arc<App>) -> Result<Self, Problem> {
        let key = text(&parts.headers, "idempotency-key")?;
        if key.as_ref().is_some_and(|key| key.is_empty() || key.len() > KEY_BYTES) {
            return Err(Problem::invalid("", "an Idempotency-Key has 1 to 255 characters"));
        }
        let (method, target) = (parts.method.clone(), parts.uri.to_string());
        self.body = Bytes::from_request(Request::from_parts(parts, body), app).await.map_err(unreadable)?;
        self.idempotency = key.map(|key| {
            let request = fingerprint(&method, &target, self.if_match.as_deref(), &self.body);
            Idempotency { key, request }
        });
        Ok(self)
    }

    /// Whether nothing is to be changed.
    pub(crate) fn is_dry_run(&self) -> bool {
        self.dry_run
    }

    /// The body.
    ///
    /// # Errors
    /// Where it is no such JSON.
    pub(crate) fn json<T: DeserializeOwned>(&self) -> Result<T, Problem> {
        parse(&self.body)
    }

    /// # Errors
    /// 412 where `If-Match` names another revision than the current one.
    pub(crate) fn check_revision(&self, current: i64) -> Result<(), Problem> {
        let Some(tags) = &self.if_match else { return Ok(()) };
        let current_tag = format!("\"{current}\"");
        let matches = tags.split(',').map(str::trim).any(|tag| tag == "*" || tag == current_tag);
        if matches { Ok(()) } else { Err(Problem::outdated(current)) }
    }

    /// The same, where it has to be named: what is replaced whole must have been seen.
    ///
    /// # Errors
    /// 428 where it is not named.
    pub(crate) fn require_revision(&self, current: i64) -> Result<(), Problem> {
        if self.if_match.is_none() {
            let detail = "what is replaced whole needs If-Match with the ETag of what was seen (or *)";
            return Err(Problem::new(StatusCode::PRECONDITION_REQUIRED, "precondition-required", detail));
        }
        self.check_revision(current)
    }

    /// Does `work` in one transaction; not at all where it was done before with the same `Idempotency-Key`, and without effect for a dry run.
    ///
    /// # Errors
    /// `work`'s, and the store's.
    pub(crate) async fn run<W>(self, app: &App, work: W) -> Result<Answer, Problem>
    where
        W: FnOnce(&mut dyn Transaction, &Self) -> Result<Answer, Problem> + Send + 'static,
    {
        let write = Arc::new(self);
        let own = Arc::clone(&write);
        let done = in_time(write.until, app.store.write(move |transaction| own.perform(transaction, work))).await?;
        write.answered(app, done).await
    }

    /// The same, where `work` locks nothing but the environment at this path: as [`write_at`](crate::store::Store::write_at).
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub(crate) async fn run_at<W>(self, app: &App, path: &str, work: W) -> Result<Answer, Problem>
    where
        W: FnOnce(&mut dyn Transaction, &Self) -> Result<Answer, Problem> + Send + 'static,
    {
        let write = Arc::new(self);
        let own = Arc::clone(&write);
        let done =
            in_time(write.until, app.store.write_at(path, move |transaction| own.perform(transaction, work))).await?;
        write.answered(app, done).await
    }

    fn perform<W>(&self, transaction: &mut dyn Transaction, work: W) -> Result<Answer, Stop>
    where
        W: FnOnce(&mut dyn Transaction, &Self) -> Result<Answer, Problem>,
    {
        if self.is_long {
            self.access.look_again(transaction)?;
        }
        if let Some(answer) = self.replay(transaction)? {
            return Ok(answer);
        }
        let answer = work(transaction, self)?;
        if self.dry_run {
            return Err(Stop::DryRun(answer));
        }
        match self.remember(transaction, &answer) {
            Ok(()) => Ok(answer),
            Err(StoreError::Taken) => Err(Stop::Overtaken),
            Err(error) => Err(error.into()),
        }
    }

    async fn answered(self: Arc<Self>, app: &App, done: Result<Answer, Stop>) -> Result<Answer, Problem> {
        match done {
            Ok(answer) | Err(Stop::DryRun(answer)) => Ok(answer),
            Err(Stop::Problem(problem)) => Err(problem),
            Err(Stop::Overtaken) => {
                let until = self.until;
                let replayed = app.store.read(move |transaction| self.replay(transaction));
                in_time(until, replayed).await??.ok_or_else(|| Problem::conflict("the Idempotency-Key is in use"))
            }
        }
    }

    fn replay(&self, transaction: &mut dyn Transaction) -> Result<Option<Answer>, Problem> {
        let Some(Idempotency { key, request }) = &self.idempotency else { return Ok(None) };
        let sql = "SELECT request, status, etag, body FROM idempotency WHERE token_id = $1 AND key = $2";
        let values = [self.access.token_id().into(), key.as_str().into()];
        let Some(mut row) = transaction.row(sql, &values)? else { return Ok(None) };
        if row.bytes(0)? != *request {
            let detail = "the Idempotency-Key was used for another request";
            return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "key-reused", detail));
        }
        let broken = |what: String| StoreError::Broken(format!("a remembered answer: {what}"));
        let status = u16::try_from(row.integer(1)?).ok().and_then(|status| StatusCode::from_u16(status).ok());
        let etag = row.text(2)?;
        Ok(Some(Answer {
            status: status.ok_or_else(|| broken("no status".to_owned()))?,
            etag: Some(etag).filter(|etag| !etag.is_empty()),
            body: serde_json::from_str(&row.text(3)?).map_err(|error| broken(error.to_string()))?,
            secret: None,
            replayed: true,
            idle: false,
        }))
    }

    fn remember(&self, transaction: &mut dyn Transaction, answer: &Answer) -> Result<(), StoreError> {
        let Some(Idempotency { key, request }) = &self.idempotency else { return Ok(()) };
        let sql = "INSERT INTO idempotency (token_id, key, request, status, etag, body, created_ms) \
                   VALUES ($1, $2, $3, $4, $5, $6, $7)";
        let values: [Value; 7] = [
            self.access.token_id().into(),
            key.as_str().into(),
            request.as_slice().into(),
            i64::from(answer.status.as_u16()).into(),
            answer.etag.clone().unwrap_or_default().into(),
            answer.body.to_string().into(),
            now_ms().into(),
        ];
        transaction.execute(sql, &values).map(drop)
    }
}

/// What the database says, unless it takes too long. It goes on with what it was told then.
async fn in_time<T>(until: Until, asked: impl Future<Output = T>) -> Result<T, Problem> {
    tokio::time::timeout_at(until.0, asked).await.map_err(|_| {
        let why = "it has not answered in time".to_owned();
        StoreError::Unavailable(why).into()
    })
}

/// Which part of a list is asked for, where nothing else can be.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Page {
    /// Where the last page ended: its `next`.
    pub(crate) cursor: String,
    limit: Option<i64>,
}

/// The same of what can be archived.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Shelf {
    /// Where the last page ended: its `next`.
    pub(crate) cursor: String,
    pub(crate) limit: Option<i64>,
    /// The archived ones instead.
    pub(crate) archived: bool,
}

impl Page {
    pub(crate) fn limit(&self) -> Result<i64, Problem> {
        page_limit(self.limit)
    }
}

/// How many items a page has.
///
/// # Errors
/// Where more are asked for than there can be, or none.
pub(crate) fn page_limit(asked: Option<i64>) -> Result<i64, Problem> {
    match asked {
        None => Ok(PAGE.0),
        Some(limit) if (1..=PAGE.1).contains(&limit) => Ok(limit),
        Some(_) => Err(Problem::invalid("", format!("limit is 1 to {}", PAGE.1))),
    }
}

/// What is asked behind the path: `?name=value`.
pub(crate) struct Asked<T>(pub(crate) T);

impl<T: DeserializeOwned> Asked<T> {
    fn of(uri: &Uri) -> Result<Self, Problem> {
        let query: Result<Query<T>, QueryRejection> = Query::try_from_uri(uri);
        query.map(|Query(asked)| Self(asked)).map_err(|error| Problem::invalid("", error.body_text()))
    }
}

impl<T: DeserializeOwned> FromRequestParts<Arc<App>> for Asked<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<App>) -> Result<Self, Problem> {
        Self::of(&parts.uri)
    }
}

/// A part of a list.
#[derive(Debug, Serialize)]
pub(crate) struct Items<T> {
    pub(crate) items: Vec<T>,
    /// The cursor of the next part; absent at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) next: Option<String>,
}

impl<T> Items<T> {
    /// Of items that were asked for with `limit` and one more.
    pub(crate) fn new(mut items: Vec<T>, limit: i64, cursor: impl Fn(&T) -> String) -> Self {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let more = items.len() > limit;
        items.truncate(limit);
        let next = items.last().filter(|_| more).map(cursor);
        Self { items, next }
    }
}
