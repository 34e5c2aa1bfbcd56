//! TLS, to the program and from it to PostgreSQL.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, crypto};

use crate::harness::{Client, Database, PATIENCE, Server, eventually, free_port, program};
use crate::postgres::Postgres;

/// A certificate for 127.0.0.1 that vouches for itself, and its key.
pub(crate) struct Certificate {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

impl Certificate {
    /// `None` where openssl is not there.
    pub(crate) fn make(folder: &Path, name: &str) -> Option<Self> {
        Self::make_for(folder, name, 2)
    }

    /// One that is good for so many days.
    fn make_for(folder: &Path, name: &str, days: u32) -> Option<Self> {
        let made = Self { certificate: folder.join(format!("{name}.pem")), key: folder.join(format!("{name}.key")) };
        let mut command = Command::new("openssl");
        command.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]);
        command.args([
            "-days",
            &days.to_string(),
            "-subj",
            &format!("/CN={name}"),
            "-addext",
            "subjectAltName=IP:127.0.0.1",
        ]);
        // What is its own authority must not say that it is one, or it could not be a server's too.
        command.args(["-addext", "basicConstraints=critical,CA:FALSE"]);
        command.arg("-keyout").arg(&made.key).arg("-out").arg(&made.certificate);
        let is_made = command.output().is_ok_and(|output| output.status.success());
        if !is_made {
            println!("skipped: openssl makes no certificate");
        }
        is_made.then_some(made)
    }

    /// When it ends, seconds since 1970, as openssl and date say.
    fn end_s(&self) -> f64 {
        let said = Command::new("openssl").args(["x509", "-enddate", "-noout", "-in"]).arg(&self.certificate).output();
        let said = String::from_utf8(said.unwrap().stdout).unwrap();
        let date = said.trim().strip_prefix("notAfter=").unwrap();
        let said = Command::new("date").args(["-u", "+%s", "-d", date]).output().unwrap();
        String::from_utf8(said.stdout).unwrap().trim().parse().unwrap()
    }

    pub(crate) fn read(&self) -> CertificateDer<'static> {
        CertificateDer::from_pem_file(&self.certificate).unwrap()
    }
}

/// Status of a GET over TLS; who answers must show `server`, and is shown `own`.
fn get(
    at: &Server,
    server: &CertificateDer<'static>,
    own: Option<&Certificate>,
    path: &str,
) -> Result<u16, std::io::Error> {
    let mut roots = RootCertStore::empty();
    roots.add(server.clone()).unwrap();
    let builder = ClientConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().unwrap().with_root_certificates(roots);
    let config = match own {
        None => builder.with_no_client_auth(),
        Some(own) => {
            let key = PrivateKeyDer::from_pem_file(&own.key).unwrap();
            builder.with_client_auth_cert(vec![own.read()], key).unwrap()
        }
    };
    let name = ServerName::try_from("127.0.0.1").unwrap();
    let session = ClientConnection::new(Arc::new(config), name).unwrap();
    let stream = TcpStream::connect(at.url.trim_start_matches("http://"))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut stream = StreamOwned::new(session, stream);
    let token = at.admin().token().to_owned();
    write!(stream, "GET {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\nconnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    // The end may come without a goodbye.
    let ended = stream.read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer).into_owned();
    match answer.split(' ').nth(1).and_then(|status| status.parse().ok()) {
        Some(status) => {
            assert!(answer.contains("strict-transport-security: "), "{answer}");
            Ok(status)
        }
        None => Err(ended.err().unwrap_or_else(|| std::io::Error::other("no answer"))),
    }
}

#[test]
fn a_certificate_is_read_anew_when_it_changes_and_a_bad_one_is_not_taken() {
    let database = Database::sqlite();
    let folder = tempfile::tempdir().unwrap();
    // The second one's end is written with four digits of the year.
    let (first, second) = (Certificate::make(folder.path(), "a"), Certificate::make_for(folder.path(), "b", 20_000));
    let (Some(first), Some(second)) = (first, second) else { return };
    let live = Certificate { certificate: folder.path().join("live.pem"), key: folder.path().join("live.key") };
    let put = |certificate: &Path, key: &Path| {
        fs::copy(certificate, &live.certificate).unwrap();
        fs::copy(key, &live.key).unwrap();
    };
    put(&first.certificate, &first.key);
    let management = format!("127.0.0.1:{}", free_port());
    let tls = format!(
        "management = {management:?}\n[tls]\ncertificate = {:?}\nkey = {:?}\nclient_ca = {:?}\n",
        live.certificate, live.key, second.certificate
    );
    let server = database.serve_tls(&tls);
    let operator = Client::new(&format!("http://{management}"), "");
    let shown = |which: &str| {
        let name = format!("flags_control_certificate_expiry_timestamp_seconds{{certificate=\"{which}\"}} ");
        let page = operator.get("/metrics").text;
        page.lines().find_map(|line| line.strip_prefix(&name)?.parse::<f64>().ok())
    };
    let is_answered = |by: &Certificate| get(&server, &by.read(), None, "/healthz").is_ok_and(|status| status == 200);
    eventually("it is served by the first", || is_answered(&first));
    assert_eq!((shown("server"), shown("client_ca")), (Some(first.end_s()), Some(second.end_s())));
    assert!(operator.get("/metrics").text.contains("# HELP flags_control_certificate_expiry_timestamp_seconds "));
    assert!(!is_answered(&second), "nobody else's");
    put(&second.certificate, &second.key);
    eventually("the second is taken", || is_answered(&second));
    eventually("its end is shown", || shown("server") == Some(second.end_s()));
    // A key that belongs to another certificate, as while both are replaced.
    put(&first.certificate, &second.key);
    std::thread::sleep(std::time::Duration::from_millis(2_500));
    assert!(is_answered(&second), "it goes on with what it has");
    assert_eq!(shown("server"), Some(second.end_s()));
    put(&first.certificate, &first.key);
    eventually("and takes the first again", || is_answered(&first));
    eventually("and shows its end", || shown("server") == Some(first.end_s()));
    // Who speaks no TLS gets nothing.
    assert_eq!(server.admin().get("/healthz").status, 0);
}

#[test]
fn hosts_need_a_certificate_where_one_is_asked_for() {
    let database = Database::sqlite();
    let folder = tempfile::tempdir().unwrap();
    let make = |name| Certificate::make(folder.path(), name);
    let (Some(own), Some(host), Some(stranger)) = (make("server"), make("host"), make("stranger")) else { return };
    let tls = format!(
        "[tls]\ncertificate = {:?}\nkey = {:?}\nclient_ca = {:?}\n",
        own.certificate, own.key, host.certificate
    );
    {
        database.serve().furnished();
    }
    let server = database.serve_tls(&tls);
    let status = |client: Option<&Certificate>, path| get(&server, &own.read(), client, path);
    let snapshot = "/sync/v1/shop/test/snapshot";
    eventually("the environments are read", || status(Some(&host), snapshot).is_ok_and(|status| status == 200));
    assert_eq!(status(None, snapshot).unwrap(), 403);
    assert_eq!(status(None, "/api/v1/projects").unwrap(), 200, "people have tokens");
    assert!(status(Some(&stranger), snapshot).is_err(), "one of nobody we know");
}

#[test]
fn the_way_to_postgresql_is_encrypted_and_the_server_known() {
    let folder = tempfile::tempdir().unwrap();
    let make = |name| Certificate::make(folder.path(), name);
    let (Some(own), Some(other)) = (make("postgres"), make("other")) else { return };
    let Some(mut postgres) = Postgres::start() else {
        println!("skipped: PostgreSQL is not installed");
        return;
    };
    postgres.encrypt(&own.certificate, &own.key);
    let url = |root: &Certificate, mode| {
        format!("{}?sslmode={mode}&sslrootcert={}", postgres.url(), root.certificate.display())
    };
    let refused = program(&url(&other, "verify-full")).arg("init").output().unwrap();
    assert!(!refused.status.success(), "a server that shows another certificate");
    let url = url(&own, "verify-full");
    let encrypted = postgres.encrypted_connections();
    assert_eq!(encrypted, 0);
    let database = Database::init(url, tempfile::tempdir().unwrap(), Some(postgres));
    let server = database.serve();
    server.furnished();
    let postgres = database.postgres.as_ref().unwrap();
    assert!(postgres.encrypted_connections() >= 2, "requests', and the one for news");
    assert_eq!(postgres.plain_connections(), 0);
}
