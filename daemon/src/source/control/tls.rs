//! Whom connections believe, and who they say they are: files that are read anew for each connection, and taken up where they have changed.

use std::error::Error as _;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ClientConfig, Error, RootCertStore, crypto};
use tracing::warn;

use crate::source::file;

/// None of these files is longer than this: all authorities of a system have a quarter of it.
const FILE_BYTES: usize = 1 << 20;

/// Where the files are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TlsFiles {
    /// Certificates of authorities, in the place of the system's.
    pub(super) ca: Option<PathBuf>,
    pub(super) own: Option<OwnFiles>,
}

/// Files of a certificate with those between it and its authority, and of its key. Both are PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct OwnFiles {
    pub(super) certificate: PathBuf,
    pub(super) key: PathBuf,
}

/// Makes what connections are made with.
pub(super) struct Tls {
    files: TlsFiles,
    made: Option<Made>,
    /// The system's authorities, read once: they take more memory than a thousand flags.
    system: Option<Arc<RootCertStore>>,
    /// Why the files are not taken up, as it was logged.
    told: Option<String>,
}

struct Made {
    from: Contents,
    config: Arc<ClientConfig>,
}

#[derive(PartialEq, Eq)]
struct Contents {
    ca: Option<String>,
    /// Certificate and key.
    own: Option<(String, String)>,
}

impl TlsFiles {
    /// Whether the files are such that connections can be made with them.
    ///
    /// # Errors
    ///
    /// A sentence that names a file, and nothing of what is in it.
    pub(super) fn check(&self) -> Result<(), String> {
        Tls::new(self.clone()).make(&self.read()?).map(drop)
    }

    fn read(&self) -> Result<Contents, String> {
        let read = |name: &str, path: &Path| file::read_text(path, FILE_BYTES).map_err(about(name, path));
        let ca = self.ca.as_deref().map(|path| read("ca-file", path)).transpose()?;
        let own = self.own.as_ref().map(|own| {
            Ok::<_, String>((read("client-cert-file", &own.certificate)?, read("client-key-file", &own.key)?))
        });
        Ok(Contents { ca, own: own.transpose()? })
    }
}

impl Tls {
    pub(super) fn new(files: TlsFiles) -> Self {
        Self { files, made: None, system: None, told: None }
    }

    /// What the next connection is made with. Files that are no good, as while two of them are being replaced, leave what was made of them before.
    ///
    /// # Errors
    ///
    /// A sentence that names a file, where nothing was made yet.
    pub(super) fn config(&mut self) -> Result<Arc<ClientConfig>, String> {
        let fresh = self.files.read().and_then(|contents| match &self.made {
            Some(made) if made.from == contents => Ok(None),
            _ => self.make(&contents).map(|config| Some(Made { from: contents, config })),
        });
        match (fresh, &self.made) {
            (Ok(fresh), _) => {
                self.told = None;
                self.made = fresh.or(self.made.take());
            }
            (Err(error), Some(_)) => {
                if self.told.as_ref() != Some(&error) {
                    warn!("TLS goes on with the files as they were: {error}");
                }
                self.told = Some(error);
            }
            (Err(error), None) => return Err(error),
        }
        self.made.as_ref().map(|made| Arc::clone(&made.config)).ok_or_else(|| "nothing was made".to_owned())
    }

    /// Why there was no answer over a connection. The certificate that is shown is judged by the other end after a handshake that went well here.
    pub(super) fn blamed(&self, error: &hyper::Error) -> String {
        let cause = error.source().and_then(|cause| cause.downcast_ref::<io::Error>());
        let alert = cause.and_then(io::Error::get_ref).and_then(|cause| cause.downcast_ref::<Error>());
        match (alert, &self.files.own, cause) {
            (Some(alert @ Error::AlertReceived(_)), Some(own), _) => {
                about("client-cert-file", &own.certificate)(format!("is not taken there: {alert}"))
            }
            (_, _, Some(cause)) => format!("no HTTP answer: {error}: {cause}"),
            (_, _, None) => format!("no HTTP answer: {error}"),
        }
    }

    fn make(&mut self, contents: &Contents) -> Result<Arc<ClientConfig>, String> {
        let roots = match (&self.files.ca, &contents.ca) {
            (Some(path), Some(pem)) => authorities(pem).map_err(about("ca-file", path))?,
            _ => self.system()?,
        };
        let builder = ClientConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()));
        let builder = builder.with_safe_default_protocol_versions().map_err(|error| error.to_string())?;
        let builder = builder.with_root_certificates(roots);
        let (Some(files), Some((certificate, key))) = (&self.files.own, &contents.own) else {
            return Ok(Arc::new(builder.with_no_client_auth()));
        };
        let chain = certificates(certificate).map_err(about("client-cert-file", &files.certificate))?;
        // What the parser says may repeat a line of the file.
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|_| "holds no private key in PEM".to_owned());
        let key = key.map_err(about("client-key-file", &files.key))?;
        let config = builder.with_client_auth_cert(chain, key).map_err(|error| match error {
            Error::InconsistentKeys(_) => {
                let certificate = files.certificate.display();
                let why = format!("is not the key of the certificate in client-cert-file {certificate}");
                about("client-key-file", &files.key)(why)
            }
            Error::InvalidCertificate(error) => about("client-cert-file", &files.certificate)(error.to_string()),
            error => about("client-key-file", &files.key)(format!("is of no use: {error}")),
        });
        Ok(Arc::new(config?))
    }

    fn system(&mut self) -> Result<Arc<RootCertStore>, String> {
        if let Some(roots) = &self.system {
            return Ok(Arc::clone(roots));
        }
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if roots.is_empty() {
            return Err("no certificate of an authority is found; name a file with ca-file".to_owned());
        }
        let roots = Arc::new(roots);
        self.system = Some(Arc::clone(&roots));
        Ok(roots)
    }
}

/// `what PATH: why`
fn about(what: &str, path: &Path) -> impl Fn(String) -> String {
    move |why| format!("{what} {}: {why}", path.display())
}

fn authorities(pem: &str) -> Result<Arc<RootCertStore>, String> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(pem)? {
        roots.add(certificate).map_err(|error| error.to_string())?;
    }
    Ok(Arc::new(roots))
}

/// At least one.
fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    all.ok().filter(|all| !all.is_empty()).ok_or_else(|| "holds no certificate in PEM, or a broken one".to_owned())
}
