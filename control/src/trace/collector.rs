//! The way to a collector: one request on a connection of its own, at most one a second.

use std::env;
use std::fmt;
use std::future::Future;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use axum::body::to_bytes;
use http_body_util::Full;
use hyper::client::conn::http1;
use hyper::header::{HOST, HeaderValue};
use hyper_util::rt::TokioIo;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::client_tls::{client_config, system_roots};

/// Any of these names a file with the authorities that are trusted instead of the system's.
const CERTIFICATES: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE", "OTEL_EXPORTER_OTLP_CERTIFICATE"];

/// A collector says little.
const ANSWER_BYTES: usize = 64 << 10;

/// Why the last request got no answer: the exporter says no more than that the network failed.
#[derive(Clone, Debug, Default)]
pub(super) struct Failure(Arc<Mutex<Option<String>>>);

impl Failure {
    pub(super) fn take(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn set(&self, why: String) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(why);
    }
}

/// Sends to whatever collector it is told.
#[derive(Default)]
pub(super) struct Collector {
    failure: Failure,
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
        Box::pin(async {
            let answer = self.send(request).await;
            answer.inspect_err(|why| self.failure.set(why.to_string()))
        })
    }
}

impl Collector {
    pub(super) fn new(failure: Failure) -> Self {
        Self { failure, ..Self::default() }
    }

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
        let roots = match CERTIFICATES.into_iter().find_map(|name| env::var_os(name).filter(|path| !path.is_empty())) {
            Some(path) => roots_of(Path::new(&path))?,
            None => system_roots(),
        };
        let tls = client_config(roots)?;
        Ok(Arc::clone(self.tls.get_or_init(|| tls)))
    }
}

fn roots_of(path: &Path) -> Result<RootCertStore, HttpError> {
    let why = |error: &dyn fmt::Display| format!("{}: {error}", path.display());
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(|error| why(&error))? {
        roots.add(certificate.map_err(|error| why(&error))?).map_err(|error| why(&error))?;
    }
    if roots.is_empty() { Err(why(&"there is no certificate in it").into()) } else { Ok(roots) }
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
