//! TLS to PostgreSQL, by rustls: what the URL says of it, and the connections.
//!
//! `sslmode=require`, `verify-ca` and `verify-full` all mean that the server's certificate and name are verified, against the authorities in
//! `sslrootcert=FILE` or the system's: encryption to nobody knows whom is no protection. `prefer` and `disable` use none.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use ::postgres::config::SslMode;
use ::postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream};
use ::postgres::{Client, Config, NoTls};
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::TlsConnector;

use crate::client_tls::{client_config, system_roots};
use crate::store::StoreError;

/// How servers are reached.
#[derive(Clone)]
pub(super) struct Way {
    pub(super) config: Config,
    tls: Option<Verified>,
}

impl Way {
    /// # Errors
    /// Where the URL is not understood, or the authorities can't be read. The URL may hold a password, and is not told.
    pub(super) fn parse(url: &str) -> Result<Self, StoreError> {
        let (url, mode, roots) = split(url);
        let mut config: Config =
            url.parse().map_err(|_| StoreError::Broken("the URL of the database is not understood".to_owned()))?;
        let tls = match mode.as_deref() {
            None | Some("disable" | "allow" | "prefer") => {
                config.ssl_mode(SslMode::Disable);
                None
            }
            Some("require" | "verify-ca" | "verify-full") => {
                config.ssl_mode(SslMode::Require);
                Some(Verified::new(roots.as_deref())?)
            }
            Some(other) => return Err(StoreError::Broken(format!("sslmode={other} is not known"))),
        };
        Ok(Self { config, tls })
    }

    pub(super) fn connect(&self) -> Result<Client, ::postgres::Error> {
        match &self.tls {
            None => self.config.connect(NoTls),
            Some(tls) => self.config.connect(tls.clone()),
        }
    }
}

/// The URL without `sslmode` and `sslrootcert`, and these.
fn split(url: &str) -> (String, Option<String>, Option<String>) {
    let Some((base, query)) = url.split_once('?') else { return (url.to_owned(), None, None) };
    let (mut mode, mut roots, mut others) = (None, None, Vec::new());
    for parameter in query.split('&') {
        match parameter.split_once('=') {
            Some(("sslmode", value)) => mode = Some(value.to_owned()),
            Some(("sslrootcert", value)) => roots = Some(value.replace("%2F", "/").replace("%2f", "/")),
            _ => others.push(parameter),
        }
    }
    let url = if others.is_empty() { base.to_owned() } else { format!("{base}?{}", others.join("&")) };
    (url, mode, roots)
}

/// Connects only to servers whose certificate is good for their name.
#[derive(Clone)]
struct Verified(TlsConnector);

impl Verified {
    fn new(roots_file: Option<&str>) -> Result<Self, StoreError> {
        let broken = |what: String| StoreError::Broken(format!("TLS to the database: {what}"));
        let roots = match roots_file {
            Some(path) => {
                let mut roots = RootCertStore::empty();
                let failed = |error: String| broken(format!("sslrootcert={path}: {error}"));
                for certificate in CertificateDer::pem_file_iter(path).map_err(|error| failed(error.to_string()))? {
                    let certificate = certificate.map_err(|error| failed(error.to_string()))?;
                    roots.add(certificate).map_err(|error| failed(error.to_string()))?;
                }
                roots
            }
            None => system_roots(),
        };
        if roots.is_empty() {
            return Err(broken("no certificate of an authority is found; name a file with sslrootcert".to_owned()));
        }
        let config = client_config(roots).map_err(|error| broken(error.to_string()))?;
        Ok(Self(TlsConnector::from(config)))
    }
}

/// To one server.
struct ToServer {
    connector: TlsConnector,
    name: ServerName<'static>,
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> MakeTlsConnect<S> for Verified {
    type Stream = Stream<S>;
    type TlsConnect = ToServer;
    type Error = rustls::pki_types::InvalidDnsNameError;

    fn make_tls_connect(&mut self, host: &str) -> Result<ToServer, Self::Error> {
        Ok(ToServer { connector: self.0.clone(), name: ServerName::try_from(host.to_owned())? })
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> TlsConnect<S> for ToServer {
    type Stream = Stream<S>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Stream<S>>> + Send>>;

    fn connect(self, stream: S) -> Self::Future {
        Box::pin(async move { self.connector.connect(self.name, stream).await.map(Stream) })
    }
}

/// A connection; what it is made of does the work.
struct Stream<S>(tokio_rustls::client::TlsStream<S>);

impl<S: AsyncRead + AsyncWrite + Unpin> TlsStream for Stream<S> {
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Stream<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, out)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Stream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_of_tls_is_taken_out_of_the_url() {
        let url =
            "postgres://u:p@a:1,b:2/db?target_session_attrs=read-write&sslmode=verify-full&sslrootcert=%2Fetc%2Fca.pem";
        let (rest, mode, roots) = split(url);
        assert_eq!(rest, "postgres://u:p@a:1,b:2/db?target_session_attrs=read-write");
        assert_eq!((mode.as_deref(), roots.as_deref()), (Some("verify-full"), Some("/etc/ca.pem")));
        assert_eq!(split("postgres://a/db?sslmode=require").0, "postgres://a/db");
    }

    #[test]
    fn a_mode_that_is_not_known_is_refused() {
        assert!(Way::parse("postgres://a/db?sslmode=verifyfull").is_err());
        assert!(Way::parse("postgres://a/db?sslmode=require&sslrootcert=/nowhere/ca.pem").is_err());
        assert!(Way::parse("postgres://a/db").is_ok_and(|way| way.tls.is_none()));
    }
}
