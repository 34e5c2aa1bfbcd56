//! One request on one connection of its own, which ends with the answer: there is never a second one.

use std::fmt;
use std::future::{Future, poll_fn};
use std::io::Read;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use flate2::read::GzDecoder;
use http_body_util::Full;
use hyper::body::{Body, Bytes, Incoming};
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

use super::ControlSpec;
use super::tls::Tls;
use crate::source::file;

/// How long the way to the head of an answer may take.
const HEAD_PATIENCE: Duration = Duration::from_secs(10);

/// A body comes at least this fast, in bytes a second, or is given up.
const SLOWEST: u64 = 16 << 10;

/// A token is no longer than this.
const TOKEN_BYTES: usize = 8 << 10;

/// Why there is no answer that is of use.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    /// A sentence without secrets.
    pub(super) message: String,
    /// The server asks not to come before.
    pub(super) retry_after: Option<Duration>,
    pub(super) reached: Reached,
    /// What somebody answered.
    pub(super) status: Option<StatusCode>,
}

/// How far a request came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reached {
    /// There was no connection, or nothing was sent.
    Nobody,
    /// Nobody answered.
    Silence,
    Answer,
}

/// Makes connections to one control plane.
pub(super) struct Http {
    spec: ControlSpec,
    tls: Tls,
}

/// The head of an answer, and its body as it comes.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    body: Incoming,
    /// What reads and writes; `None` once it has ended.
    connection: Option<Pin<Box<dyn Future<Output = hyper::Result<()>>>>>,
}

trait Stream: AsyncRead + AsyncWrite + Unpin {}

impl<S: AsyncRead + AsyncWrite + Unpin> Stream for S {}

impl Http {
    pub(super) fn new(spec: ControlSpec) -> Self {
        let tls = Tls::new(spec.tls_files.clone());
        Self { spec, tls }
    }

    /// Asks for `what` (`stream` or `snapshot`); any answer but `expected` is a failure.
    ///
    /// # Errors
    ///
    /// [`Failure`].
    pub(super) async fn get(
        &mut self,
        what: &str,
        headers: &[(HeaderName, String)],
        expected: &[StatusCode],
    ) -> Result<Answer, Failure> {
        let body = Full::default();
        self.ask(Method::GET, what, headers, body, expected).await
    }

    /// Sends `json` to `what`; it is taken, or a failure.
    ///
    /// # Errors
    ///
    /// [`Failure`].
    pub(super) async fn post(&mut self, what: &str, json: Vec<u8>) -> Result<(), Failure> {
        let headers = [(header::CONTENT_TYPE, "application/json".to_owned())];
        let taken = [StatusCode::OK, StatusCode::NO_CONTENT];
        self.ask(Method::POST, what, &headers, Full::from(json), &taken).await.map(drop)
    }

    async fn ask(
        &mut self,
        method: Method,
        what: &str,
        headers: &[(HeaderName, String)],
        body: Full<Bytes>,
        expected: &[StatusCode],
    ) -> Result<Answer, Failure> {
        let token = self.token()?;
        let request = self.request(method, what, headers, body, token.as_deref())?;
        let answer = timeout(HEAD_PATIENCE, async {
            let stream = self.connect().await?;
            exchange(stream, request).await.map_err(|error| Failure::silence(self.tls.blamed(&error)))
        });
        let late = || Failure::silence(format!("no answer within {HEAD_PATIENCE:?}"));
        let mut answer = answer.await.map_err(|_| late())??;
        if expected.contains(&answer.status) {
            return Ok(answer);
        }
        let mut message = format!("{what} answered {}", answer.status);
        if let Some(detail) = answer.detail().await {
            message = format!("{message}: {detail}");
        }
        if let Some(token) = token {
            message = message.replace(&token, "(token)");
        }
        let (retry_after, status) = (retry_after(&answer.headers), Some(answer.status));
        Err(Failure { message, retry_after, reached: Reached::Answer, status })
    }

    fn request(
        &self,
        method: Method,
        what: &str,
        headers: &[(HeaderName, String)],
        body: Full<Bytes>,
        token: Option<&str>,
    ) -> Result<Request<Full<Bytes>>, Failure> {
        let mut request = Request::builder()
            .method(method)
            .uri(self.spec.path(what))
            .header(header::HOST, &self.spec.authority)
            .header(header::USER_AGENT, concat!("flagsd/", env!("CARGO_PKG_VERSION")));
        for (name, value) in headers {
            request = request.header(name, value);
        }
        if let Some(token) = token {
            let value = HeaderValue::from_str(&format!("Bearer {token}"));
            let mut value = value.map_err(|_| Failure::local("the token holds characters that no token has"))?;
            value.set_sensitive(true);
            request = request.header(header::AUTHORIZATION, value);
        }
        request.body(body).map_err(|error| Failure::local(format!("cannot be asked: {error}")))
    }

    fn token(&self) -> Result<Option<String>, Failure> {
        let Some(path) = &self.spec.token_file else { return Ok(None) };
        let failed = |what: String| Failure::local(format!("token file {}: {what}", path.display()));
        let text = file::read_text(path, TOKEN_BYTES).map_err(&failed)?;
        match text.trim() {
            "" => Err(failed("is empty".to_owned())),
            token => Ok(Some(token.to_owned())),
        }
    }

    async fn connect(&mut self) -> Result<Box<dyn Stream>, Failure> {
        let (host, port) = (self.spec.host.clone(), self.spec.port);
        let unreachable = |error: std::io::Error| Failure::unreachable(format!("{host}:{port}: {error}"));
        let stream = TcpStream::connect((host.as_str(), port)).await.map_err(unreachable)?;
        // Only requests go out, each in one piece.
        let _ = stream.set_nodelay(true);
        if !self.spec.tls {
            return Ok(Box::new(stream));
        }
        let name = ServerName::try_from(host.clone()).map_err(|error| Failure::local(error.to_string()))?;
        let connector = TlsConnector::from(self.tls.config().map_err(Failure::local)?);
        let stream = connector.connect(name, stream).await;
        Ok(Box::new(stream.map_err(|error| Failure::unreachable(format!("TLS to {host}:{port}: {error}")))?))
    }
}

async fn exchange(stream: Box<dyn Stream>, request: Request<Full<Bytes>>) -> hyper::Result<Answer> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let mut connection: Pin<Box<dyn Future<Output = hyper::Result<()>>>> = Box::pin(connection);
    let mut ended = false;
    let answer = {
        let mut response = std::pin::pin!(sender.send_request(request));
        poll_fn(|context| {
            ended = ended || connection.as_mut().poll(context).is_ready();
            response.as_mut().poll(context)
        })
        .await
    };
    let (head, body) = answer?.into_parts();
    Ok(Answer { status: head.status, headers: head.headers, body, connection: (!ended).then_some(connection) })
}

impl Answer {
    /// The next bytes of the body; `None` at its end.
    ///
    /// # Errors
    ///
    /// Where it is cut off, or nothing comes until `until`.
    pub(super) async fn next(&mut self, until: Instant) -> Result<Option<Bytes>, Failure> {
        let frame = poll_fn(|context| {
            loop {
                if let Some(connection) = &mut self.connection
                    && connection.as_mut().poll(context).is_ready()
                {
                    self.connection = None;
                }
                match Pin::new(&mut self.body).poll_frame(context) {
                    Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                        Ok(data) => return Poll::Ready(Ok(Some(data))),
                        // Trailers.
                        Err(_) => continue,
                    },
                    Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(error)),
                    Poll::Ready(None) => return Poll::Ready(Ok(None)),
                    Poll::Pending => return Poll::Pending,
                }
            }
        });
        match timeout_at(until, frame).await {
            Ok(Ok(bytes)) => Ok(bytes),
            Ok(Err(error)) => Err(Failure::new(format!("the answer was cut off: {error}"))),
            Err(_) => Err(Failure::new("nothing came for too long")),
        }
    }

    /// The whole body as text, unpacked, if it is not longer than `limit` bytes.
    ///
    /// # Errors
    ///
    /// [`Failure`]; nothing longer than the limit is ever held.
    pub(super) async fn text(&mut self, limit: usize, patience: Duration) -> Result<String, Failure> {
        let too_long = || Failure::new(format!("the answer is longer than {limit} bytes, the limit"));
        let gzip = match self.header(&header::CONTENT_ENCODING) {
            None | Some("identity") => false,
            Some("gzip") => true,
            Some(other) => {
                return Err(Failure::new(format!("the answer is encoded as {other:?}, which was not asked for")));
            }
        };
        let started = Instant::now();
        let mut bytes = Vec::new();
        while let Some(more) = self.next(started + patience + worth(bytes.len())).await? {
            if bytes.len() + more.len() > limit {
                return Err(too_long());
            }
            bytes.extend_from_slice(&more);
        }
        if gzip {
            let mut unpacked = Vec::new();
            let read = GzDecoder::new(bytes.as_slice()).take(limit as u64 + 1).read_to_end(&mut unpacked);
            read.map_err(|error| Failure::new(format!("the answer cannot be unpacked: {error}")))?;
            if unpacked.len() > limit {
                return Err(too_long());
            }
            bytes = unpacked;
        }
        String::from_utf8(bytes).map_err(|_| Failure::new("the answer is not UTF-8"))
    }

    pub(super) fn header(&self, name: &HeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// How long ago the origin said so, where a cache answers (RFC 9111). Forever, where a cache says that what it has is stale (RFC 9211)
    /// and not for how long.
    pub(super) fn age(&self) -> Duration {
        let mut statuses = self.headers.get_all("cache-status").iter().filter_map(|value| value.to_str().ok());
        let is_stale = |parameter: &str| parameter.trim().strip_prefix("ttl=").is_some_and(|ttl| ttl.starts_with('-'));
        if self.header(&header::AGE).is_none() && statuses.any(|status| status.split([';', ',']).any(is_stale)) {
            return Duration::MAX;
        }
        Duration::from_secs(self.header(&header::AGE).and_then(|age| age.trim().parse().ok()).unwrap_or(0))
    }

    /// What a problem document (RFC 9457) says.
    async fn detail(&mut self) -> Option<String> {
        const MOST: usize = 4_096;
        const SHOWN: usize = 200;
        if !self.header(&header::CONTENT_TYPE)?.starts_with("application/problem+json") {
            return None;
        }
        let text = self.text(MOST, Duration::from_secs(2)).await.ok()?;
        let problem: serde_json::Value = serde_json::from_str(&text).ok()?;
        let detail = problem["detail"].as_str()?;
        Some(detail.chars().filter(|c| !c.is_control()).take(SHOWN).collect())
    }
}

/// The time that so many bytes may take.
pub(super) fn worth(bytes: usize) -> Duration {
    Duration::from_millis(bytes as u64 * 1_000 / SLOWEST)
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    /// Nobody is sent away for longer.
    const MOST: u64 = 3_600;
    let seconds = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim().parse::<u64>().ok()?;
    Some(Duration::from_secs(seconds.min(MOST)))
}

impl Failure {
    pub(super) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), retry_after: None, reached: Reached::Answer, status: None }
    }

    /// The same, of something.
    pub(super) fn about(self, what: &str) -> Self {
        Self { message: format!("{what}: {}", self.message), ..self }
    }

    fn silence(message: impl Into<String>) -> Self {
        Self { reached: Reached::Silence, ..Self::new(message) }
    }

    fn unreachable(message: impl Into<String>) -> Self {
        Self { reached: Reached::Nobody, ..Self::new(message) }
    }

    /// Nothing was sent at all.
    fn local(message: impl Into<String>) -> Self {
        Self::unreachable(message)
    }
}

impl fmt::Debug for Http {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http").field("spec", &self.spec).finish_non_exhaustive()
    }
}
