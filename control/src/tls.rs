//! TLS of our own server: a certificate that is read anew when its files change, and hosts' certificates where they are asked for.

use std::fs;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use anyhow::{Context, ensure};
use metrics::{counter, gauge};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, crypto};
use tokio_rustls::TlsAcceptor;

use crate::config::TlsSettings;
use crate::expiry::expiry_s;

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(2);

/// Whether a connection's client has shown a certificate that was found good.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ClientCertified(pub(crate) bool);

/// What connections are accepted with.
#[derive(Clone)]
pub(crate) struct Tls(Arc<RwLock<TlsAcceptor>>);

/// The files' content.
#[derive(PartialEq, Eq)]
struct Files {
    certificate: Vec<u8>,
    key: Vec<u8>,
    client_ca: Option<Vec<u8>>,
}

impl Tls {
    /// Reads the files, and from then on looks whether they have changed.
    ///
    /// # Errors
    /// Where they are no certificate and its key.
    pub(crate) fn start(settings: TlsSettings) -> anyhow::Result<Self> {
        let mut current = Files::read(&settings)?;
        let tls = Self(Arc::new(RwLock::new(current.acceptor()?)));
        current.tell_expiry();
        let own = tls.clone();
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(LOOK).await;
                // What is half written is not taken, and looked at again.
                let changed = Files::read(&settings).and_then(|files| {
                    let acceptor = if files == current { None } else { Some(files.acceptor()?) };
                    Ok(acceptor.map(|acceptor| (files, acceptor)))
                });
                match changed {
                    Ok(None) => {}
                    Ok(Some((files, acceptor))) => {
                        current = files;
                        current.tell_expiry();
                        *own.0.write().unwrap_or_else(PoisonError::into_inner) = acceptor;
                        counter!("flags_control_tls_reloads_total", "result" => "taken").increment(1);
                        tracing::info!("the certificate was read anew");
                    }
                    Err(error) => {
                        counter!("flags_control_tls_reloads_total", "result" => "refused").increment(1);
                        tracing::error!("the certificate stays as it is: {error:#}");
                    }
                }
            }
        });
        Ok(tls)
    }

    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Files {
    fn read(settings: &TlsSettings) -> anyhow::Result<Self> {
        let read = |path: &Path| fs::read(path).with_context(|| format!("cannot read {}", path.display()));
        Ok(Self {
            certificate: read(&settings.certificate)?,
            key: read(&settings.key)?,
            client_ca: settings.client_ca.as_deref().map(read).transpose()?,
        })
    }

    fn acceptor(&self) -> anyhow::Result<TlsAcceptor> {
        let certificates = certificates(&self.certificate).context("tls.certificate")?;
        let key = PrivateKeyDer::from_pem_slice(&self.key).context("tls.key")?;
        let provider = Arc::new(crypto::ring::default_provider());
        let builder =
            ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions()?;
        let builder = match &self.client_ca {
            None => builder.with_no_client_auth(),
            Some(authorities) => {
                let mut roots = RootCertStore::empty();
                for authority in self::certificates(authorities).context("tls.client_ca")? {
                    roots.add(authority).context("tls.client_ca")?;
                }
                // Who has none is refused later, and only where one is needed.
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                builder.with_client_cert_verifier(verifier.allow_unauthenticated().build()?)
            }
        };
        let mut config = builder.with_single_cert(certificates, key).context("the certificate and the key")?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(TlsAcceptor::from(Arc::new(config)))
    }

    /// Says when the certificates end, of several the first that does.
    fn tell_expiry(&self) {
        for (name, pem) in [("server", Some(&self.certificate)), ("client_ca", self.client_ca.as_ref())] {
            let Some(certificates) = pem.and_then(|pem| certificates(pem).ok()) else { continue };
            let ends: Option<Vec<i64>> = certificates.iter().map(|certificate| expiry_s(certificate)).collect();
            let first = ends.and_then(|ends| ends.into_iter().min());
            if first.is_none() {
                tracing::warn!("when the certificates of {name} end is not understood, and nobody is warned of it");
            }
            #[expect(clippy::cast_precision_loss, reason = "a gauge is a double")]
            let seconds = first.map_or(f64::NAN, |seconds| seconds as f64);
            gauge!("flags_control_certificate_expiry_timestamp_seconds", "certificate" => name).set(seconds);
        }
    }
}

fn certificates(pem: &[u8]) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let all = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>()?;
    ensure!(!all.is_empty(), "there is no certificate in it");
    Ok(all)
}
