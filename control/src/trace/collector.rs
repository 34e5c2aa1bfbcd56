//! The way to a collector: one request on a connection of its own, at most one a second.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};

use axum::body::to_bytes;
use http_body_util::Full;
use hyper::client::conn::http1;
use hyper::header::{HOST, HeaderValue};
use hyper_util::rt::TokioIo;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::client_tls::{client_config, system_roots};

/// A collector says little.
const ANSWER_BYTES: usize = 64 << 10;

/// Sends to whatever collector it is told.
#[derive(Default)]
pub(super) struct Collector {
    /// Made at the first request that needs it: the system's certificates are read then.
    tls: OnceLock<Arc<ClientConfig>>,
}

impl HttpClient for Collector {
    fn send_bytes<'own, 'sent>(
        &'own self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'sent>>
    where
        'own: 'sent,
        Self: 'sent,
    {
        Box::pin(self.send(request))
    }
}

impl Collector {
    async fn send(&self, mut request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let uri = request.uri().clone();
        let authority = uri.authority().ok_or("the collector's URL names no host")?;
        let is_tls = uri.scheme_str() == Some("https");
        let port = authority.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        // Who asks a server itself names the path alone, and no password is sent that stands in a URL.
        let named = authority.as_str().rsplit_once('@').map_or(authority.as_str(), |(_, host)| host);
        request.headers_mut().insert(HOST, HeaderValue::from_str(named)?);
        *request.uri_mut() = uri.path_and_query().map_or("/", |path| path.as_str()).parse()?;
        let stream = TcpStream::connect((host.as_str(), port)).await?;
        if is_tls {
            let name = ServerName::try_from(host)?;
            exchange(TlsConnector::from(self.tls()?).connect(name, stream).await?, request).await
        } else {
            exchange(stream, request).await
        }
    }

    fn tls(&self) -> Result<Arc<ClientConfig>, HttpError> {
        if let Some(tls) = self.tls.get() {
            return Ok(Arc::clone(tls));
        }
        let tls = client_config(system_roots())?;
        Ok(Arc::clone(self.tls.get_or_init(|| tls)))
    }
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    request: Request<Bytes>,
) -> Result<Response<Bytes>, HttpError> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // Ends with the request, whether that is answered or given up.
    let connection = Aborted(tokio::spawn(connection));
    let answer = sender.send_request(request.map(Full::new)).await?;
    let (head, body) = answer.into_parts();
    let body = to_bytes(axum::body::Body::new(body), ANSWER_BYTES).await.map_err(io::Error::other)?;
    drop(connection);
    Ok(Response::from_parts(head, body))
}

/// A task that is not outlived by whom it works for.
struct Aborted<T>(tokio::task::JoinHandle<T>);

impl<T> Drop for Aborted<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl fmt::Debug for Collector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Collector").finish_non_exhaustive()
    }
}
