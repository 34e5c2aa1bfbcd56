//! The way to a control plane: HTTP/1.1, blocking, with TLS where the URL says so.
//!
//! ```text
//! 429, 503 ──► wait as long as Retry-After says, ask again
//! the connection breaks, without an answer ──► ask again: a write has an Idempotency-Key, so it happens once
//! anything else but 2xx ──► a problem document, shown
//! ```

mod download;
mod early;
mod upload;

use std::{io, sync::Arc, thread, time::Duration};

use clap::Args;
use serde_json::Value;
use ureq::{
    Agent,
    http::{Request, Response, request::Builder},
    tls::{Certificate, RootCerts, TlsConfig},
};

pub(super) use upload::Streamed;

use self::early::HungUp;
use super::profile::{Settings, Target};
use crate::{
    admin::encoded,
    failure::{Exit, Failure},
    output::{Cell, Look, Output, Table, visible},
    value,
};

/// From connecting to the answer's end. The control plane gives up after 10 s.
const TIMEOUT: Duration = Duration::from_secs(30);
/// How often a request is sent again.
const RETRIES: u32 = 3;
/// Nobody waits longer than this before a terminal.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// The longest answer that is read: a page of a thousand entries of the log stays far below.
const LONGEST_ANSWER: u64 = 256 << 20;

/// How something is written.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Writing")]
pub(crate) struct WriteArguments {
    /// Why, for the log
    #[arg(long, value_name = "TEXT")]
    pub(crate) comment: Option<String>,
    /// Let the control plane check it all, and change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// However many flags this takes away shall go: hosts do not hold it
    #[arg(long)]
    pub(crate) deliberate: bool,
}

/// How something that is there already is written.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Writing")]
pub(crate) struct ChangeArguments {
    #[command(flatten)]
    pub(crate) write: WriteArguments,
    /// Only if it still is at this revision, as `show` tells it
    #[arg(long, value_name = "N")]
    pub(crate) if_revision: Option<i64>,
}

/// A control plane, and what is meant of it.
#[derive(Debug)]
pub(crate) struct Control {
    agent: Agent,
    hung_up: HungUp,
    settings: Settings,
}

/// What a request came to.
#[derive(Debug)]
pub(crate) struct Answer {
    /// Its ETag: the revision of what is shown.
    pub(crate) revision: Option<i64>,
    pub(crate) body: Value,
}

/// An answer as it came.
struct Raw {
    status: u16,
    etag: Option<String>,
    retry_after: Option<u64>,
    text: String,
}

impl Raw {
    fn read(mut response: Response<ureq::Body>) -> Result<Self, ureq::Error> {
        let header = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let (etag, retry_after) = (header("etag"), header("retry-after").and_then(|text| text.parse().ok()));
        let status = response.status().as_u16();
        let text = response.body_mut().with_config().limit(LONGEST_ANSWER).read_to_string()?;
        Ok(Self { status, etag, retry_after, text })
    }

    /// After which time to ask again, where the control plane is busy or away.
    fn wait(&self) -> Option<Duration> {
        matches!(self.status, 429 | 503).then(|| Duration::from_secs(self.retry_after.unwrap_or(1)))
    }
}

impl WriteArguments {
    /// `path` with what is said here behind it.
    fn with_query(&self, path: &str) -> String {
        let mut path = path.to_owned();
        let comment = self.comment.as_deref().map(|comment| format!("comment={}", encoded(comment)));
        let dry_run = self.dry_run.then(|| "dry_run=true".to_owned());
        let deliberate = self.deliberate.then(|| "deliberate=true".to_owned());
        for (at, parameter) in comment.into_iter().chain(dry_run).chain(deliberate).enumerate() {
            path.push(if at == 0 { '?' } else { '&' });
            path.push_str(&parameter);
        }
        path
    }
}

/// The header by which a write happens only at this revision.
fn if_match(revision: i64) -> (&'static str, String) {
    ("if-match", format!("\"{revision}\""))
}

impl Control {
    pub(crate) fn open(target: &Target) -> Result<Self, Failure> {
        let settings = target.settings()?;
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            // The token is for this server alone.
            .max_redirects(0)
            .timeout_global(Some(TIMEOUT))
            .user_agent(concat!("flagsctl/", env!("CARGO_PKG_VERSION")));
        match settings.url.split_once("://") {
            Some(("https", _)) => config = config.tls_config(tls()?),
            Some(("http", _)) => {}
            _ => return Err(Failure::Usage(format!("{:?} is no URL: https://… or http://…", settings.url))),
        }
        let hung_up = HungUp::default();
        Ok(Self { agent: hung_up.agent(config.build()), hung_up, settings })
    }

    /// The project's key.
    pub(crate) fn project_key(&self) -> Result<&str, Failure> {
        let hint = "give it with --project, $FLAGSCTL_PROJECT or `project` in the profile";
        self.settings.project.as_deref().ok_or_else(|| Failure::new("no project is named").hint(hint))
    }

    /// The environment's key.
    pub(crate) fn environment_key(&self) -> Result<&str, Failure> {
        let hint = "give it with --env, $FLAGSCTL_ENVIRONMENT or `environment` in the profile";
        self.environment_if_any().ok_or_else(|| Failure::new("no environment is named").hint(hint))
    }

    pub(crate) fn environment_if_any(&self) -> Option<&str> {
        self.settings.environment.as_deref()
    }

    /// `project/environment`, as people are told.
    pub(crate) fn place(&self) -> Result<String, Failure> {
        Ok(format!("{}/{}", self.project_key()?, self.environment_key()?))
    }

    /// The path of something in the project.
    pub(crate) fn in_project(&self, segments: &[&str]) -> Result<String, Failure> {
        let mut path = format!("/projects/{}", encoded(self.project_key()?));
        for segment in segments {
            path.push('/');
            path.push_str(&encoded(segment));
        }
        Ok(path)
    }

    pub(crate) fn get(&self, path: &str) -> Result<Answer, Failure> {
        self.exchange(|| self.send("GET", path, &[], None))
    }

    /// All items of a list, page by page; at most `most`, where that is given.
    pub(crate) fn items(&self, path: &str, query: &[(&str, &str)], most: Option<usize>) -> Result<Vec<Value>, Failure> {
        let mut items = Vec::new();
        let mut cursor = String::new();
        loop {
            let missing = most.map_or(1000, |most| (most - items.len()).min(1000));
            let mut page = format!("{path}?limit={missing}");
            for (name, value) in query.iter().chain([("cursor", cursor.as_str())].iter()) {
                if !value.is_empty() {
                    page.push_str(&format!("&{name}={}", encoded(value)));
                }
            }
            let Answer { mut body, .. } = self.get(&page)?;
            if let Value::Array(more) = body["items"].take() {
                items.extend(more);
            }
            match body["next"].as_str() {
                Some(next) if most.is_none_or(|most| items.len() < most) => cursor = next.to_owned(),
                _ => return Ok(items),
            }
        }
    }

    /// What `search` finds in a list; the archived ones instead where these are asked for.
    pub(crate) fn found(&self, path: &str, search: Option<&str>, archived: bool) -> Result<Vec<Value>, Failure> {
        let archived = if archived { "true" } else { "" };
        self.items(path, &[("search", search.unwrap_or_default()), ("archived", archived)], None)
    }

    /// Changes something, once, however often it has to be sent.
    pub(crate) fn write(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
        arguments: &WriteArguments,
        if_revision: Option<i64>,
    ) -> Result<Answer, Failure> {
        let mut random = [0; 16];
        getrandom::fill(&mut random).map_err(|error| Failure::new(format!("no random bytes: {error}")))?;
        let key: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        let mut headers = vec![("idempotency-key", key)];
        headers.extend(if_revision.map(if_match));
        let path = arguments.with_query(path);
        let body = body.map_or_else(String::new, Value::to_string);
        self.exchange(|| self.send(method, &path, &headers, Some(&body)))
    }

    /// Sends until there is an answer to stay with.
    fn exchange(&self, send: impl Fn() -> Result<Raw, ureq::Error>) -> Result<Answer, Failure> {
        let mut tried = 0;
        loop {
            let outcome = send();
            let wait = match &outcome {
                Ok(raw) => raw.wait(),
                Err(error) => is_worth_another_try(error).then(|| Duration::from_millis(200 << tried)),
            };
            if let Some(wait) = wait
                && tried < RETRIES
                && wait <= LONGEST_WAIT
            {
                tried += 1;
                thread::sleep(wait);
                continue;
            }
            return match outcome {
                Ok(raw) => self.answer(raw),
                Err(error) => Err(Failure::new(format!("no answer from {}: {error}", self.settings.url))
                    .hint("is the URL right, and the control plane up?")),
            };
        }
    }

    fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, String)],
        body: Option<&str>,
    ) -> Result<Raw, ureq::Error> {
        let request = self.request(method, path, headers);
        let response = match body {
            Some(body) => self.agent.run(request.header("content-type", "application/json").body(body.to_owned())?)?,
            None => self.agent.run(request.body(())?)?,
        };
        Raw::read(response)
    }

    /// A request without its body.
    fn request(&self, method: &str, path: &str, headers: &[(&str, String)]) -> Builder {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}/api/v1{path}", self.settings.url))
            .header("authorization", format!("Bearer {}", self.settings.token.reveal()))
            .header("accept", "application/json");
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        request
    }

    fn answer(&self, raw: Raw) -> Result<Answer, Failure> {
        let body: Option<Value> = serde_json::from_str(&raw.text).ok();
        match (raw.status, body) {
            (200..300, Some(body)) => {
                let revision = raw.etag.and_then(|etag| etag.trim_matches('"').parse().ok());
                Ok(Answer { revision, body })
            }
            (status, Some(problem)) if status >= 400 && problem["detail"].is_string() => Err(refused(status, &problem)),
            (status, _) => {
                let url = &self.settings.url;
                Err(Failure::new(format!("the answer of {url} ({status}) is not a control plane's"))
                    .hint("is the URL the control plane's, without a path behind it?"))
            }
        }
    }
}

/// The system's certificates, which `$SSL_CERT_FILE` and `$SSL_CERT_DIR` replace.
fn tls() -> Result<TlsConfig, Failure> {
    let found = rustls_native_certs::load_native_certs();
    if found.certs.is_empty() {
        let why = found.errors.first().map_or_else(String::new, |error| format!(": {error}"));
        return Err(Failure::new(format!("no certificate authorities were found{why}"))
            .hint("install the system's (ca-certificates), or name them with $SSL_CERT_FILE"));
    }
    let roots: Vec<_> = found.certs.iter().map(|der| Certificate::from_der(der).to_owned()).collect();
    Ok(TlsConfig::builder()
        .root_certs(RootCerts::new_with_certs(&roots))
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .build())
}

/// Whether the request may have been lost on its way; not where nobody was there to take it.
fn is_worth_another_try(error: &ureq::Error) -> bool {
    match error {
        ureq::Error::Io(error) => error.kind() != io::ErrorKind::ConnectionRefused,
        ureq::Error::Timeout(_) => true,
        _ => false,
    }
}

/// A problem document (RFC 9457) for people.
fn refused(status: u16, problem: &Value) -> Failure {
    let detail = problem["detail"].as_str().unwrap_or_default();
    let mut message = format!("the control plane refuses ({status}): {}", visible(detail));
    let errors = problem["errors"].as_array().map(Vec::as_slice).unwrap_or_default();
    // Of one alone the detail has said it.
    for error in errors.iter().filter(|_| errors.len() > 1) {
        let text = |name: &str| visible(error[name].as_str().unwrap_or_default()).into_owned();
        let (pointer, detail) = (text("pointer"), text("detail"));
        let pointer = if pointer.is_empty() { "the whole".to_owned() } else { pointer };
        message.push_str(&format!("\n  {pointer}: {detail}"));
    }
    let failure = Failure::new(message);
    match (status, problem["revision"].as_i64()) {
        (401, _) => failure.hint("the token is wrong, has expired or was revoked"),
        (412, Some(revision)) => {
            failure.hint(format!("look at what it is now, then say --if-revision {revision}, or do without"))
        }
        _ => failure,
    }
}

/// Shows a list: as JSON, as a sentence where it is empty, or as a table.
pub(crate) fn listed(
    output: &mut Output,
    items: &[Value],
    nothing: &str,
    header: &[&'static str],
    row: impl Fn(&Value) -> Vec<Cell>,
) -> Result<Exit, Failure> {
    if output.json {
        output.document(&items)?;
    } else if items.is_empty() {
        output.line(nothing)?;
    } else {
        output.table(&Table { header: header.to_vec(), rows: items.iter().map(row).collect() })?;
    }
    Ok(Exit::Done)
}

/// Shows one thing: its key, and what is known of it besides.
pub(crate) fn shown(
    output: &mut Output,
    kind: &'static str,
    item: &Value,
    known: Vec<(&'static str, String)>,
    revision: &Value,
) -> Result<(), Failure> {
    let archived = if item["archived"] == true { "yes: no host has it" } else { "" };
    let changed = item["changedMs"].as_i64().map(value::time_ms).unwrap_or_default();
    let of_all = [("archived", archived.to_owned()), ("changed", changed), ("revision", revision.to_string())];
    let known = known.into_iter().chain(of_all);
    let key = Cell::new(item["key"].as_str().unwrap_or_default()).look(Look::Bold);
    let known = known.filter(|(_, text)| !text.is_empty()).map(|(name, text)| (name, Cell::new(text)));
    Ok(output.facts(&[(kind, key)].into_iter().chain(known).collect::<Vec<_>>())?)
}

/// A name for people, of what need not have one.
pub(crate) fn name_of(item: &Value) -> Cell {
    Cell::new(item["name"].as_str().filter(|name| !name.is_empty()).unwrap_or("-"))
}

/// A time of something as the API tells it, in milliseconds.
pub(crate) fn time_of(item: &Value, member: &str) -> Cell {
    Cell::new(item[member].as_i64().map_or_else(|| "-".to_owned(), value::time_ms))
}

/// Says what was done: the answer for machines, a sentence for people.
pub(crate) fn told(output: &mut Output, body: &Value, write: &WriteArguments, sentence: &str) -> Result<Exit, Failure> {
    if output.json {
        output.document(body)?;
    } else if write.dry_run {
        output.line(format!("dry run, nothing was changed: {}", visible(sentence)))?;
    } else {
        output.line(visible(sentence))?;
    }
    Ok(Exit::Done)
}
