//! A control plane that asks hosts for certificates of their own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::host::{Host, n};
use crate::plane::Plane;
use crate::{are_built, eventually, free_port, program};

/// A certificate for 127.0.0.1 that vouches for itself, and its key.
pub(crate) struct Certificate {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

impl Certificate {
    fn at(folder: &Path, name: &str) -> Self {
        Self { certificate: folder.join(format!("{name}.pem")), key: folder.join(format!("{name}.key")) }
    }

    /// `None` where openssl is not there.
    fn make(folder: &Path, name: &str) -> Option<Self> {
        let made = Self::at(folder, name);
        let mut command = Command::new("openssl");
        command.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]);
        command.args(["-days", "2", "-subj", &format!("/CN={name}"), "-addext", "subjectAltName=IP:127.0.0.1"]);
        command.args(["-addext", "basicConstraints=critical,CA:FALSE", "-keyout"]);
        command.arg(&made.key).arg("-out").arg(&made.certificate);
        let is_made = command.output().is_ok_and(|output| output.status.success());
        if !is_made {
            println!("skipped: openssl makes no certificate");
        }
        is_made.then_some(made)
    }
}

#[test]
fn a_host_shows_its_certificate_and_takes_up_a_renewed_one() {
    if !are_built() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let make = |name| Certificate::make(folder.path(), name);
    let (Some(own), Some(first), Some(renewed)) = (make("server"), make("first"), make("renewed")) else { return };
    // What the control plane and the host are told of, by names that stay.
    let (live, vouched) = (Certificate::at(folder.path(), "live"), folder.path().join("vouched.pem"));
    fs::copy(&first.certificate, &live.certificate).unwrap();
    fs::copy(&first.key, &live.key).unwrap();
    fs::copy(&first.certificate, &vouched).unwrap();

    let plane = Plane::new();
    // Who changes flags has another way in, without TLS.
    let operator = plane.serve(free_port());
    let port = free_port();
    let certain = plane.serve_certified(port, &own, &vouched);
    let nobody = format!("{}&ca-file={}", plane.source_by("https", port), own.certificate.display());
    let known =
        format!("{nobody}&client-cert-file={}&client-key-file={}", live.certificate.display(), live.key.display());
    let mut host = Host::follow(&known);
    let client = host.client();
    eventually("the flag is there", || n(&client) == 1);

    // Renewed: from now on the control plane believes the new one alone.
    fs::copy(&renewed.certificate, &live.certificate).unwrap();
    fs::copy(&renewed.key, &live.key).unwrap();
    fs::copy(&renewed.certificate, &vouched).unwrap();
    drop(certain);
    let certain = plane.serve_certified(port, &own, &vouched);
    operator.set(2);
    eventually("the next connection shows the new one", || n(&client) == 2);

    // One of the two replaced by what does not fit, while flagsd runs: it goes on with what it had.
    fs::copy(&first.key, &live.key).unwrap();
    drop(certain);
    let _certain = plane.serve_certified(port, &own, &vouched);
    operator.set(3);
    eventually("it connects as before", || n(&client) == 3);

    // A start with such a pair: the last flags, and who is to blame.
    host.kill();
    host.restart();
    operator.set(4);
    let both = [live.key.display().to_string(), live.certificate.display().to_string()];
    let is_named = |text: &str| text.contains("is not the key") && both.iter().all(|path| text.contains(path));
    eventually("the status names both files", || is_named(&host.trouble()));
    assert_eq!(n(&client), 3, "last-known-good");
    let mut check = Command::new(program("flagsd").unwrap());
    let checked = check.env_clear().args(["check-config", "--source", &known]).output().unwrap();
    assert_eq!(checked.status.code(), Some(2));
    let told = String::from_utf8(checked.stderr).unwrap();
    assert!(is_named(&told) && !told.contains("PRIVATE"), "{told}");
    fs::copy(&renewed.key, &live.key).unwrap();
    eventually("mended, without a restart", || n(&client) == 4);

    // Without any, it is told why.
    host.kill();
    host.restart_on(&nobody);
    operator.set(5);
    eventually("the refusal", || host.trouble().contains("a host needs a certificate of its own here"));
    assert_eq!(n(&client), 4);
    assert_eq!(host.metric("flagsd_source_stream{"), 0.0);

    // And with one that nobody vouches for.
    host.kill();
    let stranger = format!("client-cert-file={}&client-key-file={}", first.certificate.display(), first.key.display());
    host.restart_on(&format!("{nobody}&{stranger}"));
    let blamed = format!("client-cert-file {}: is not taken there", first.certificate.display());
    eventually("the refusal", || host.trouble().contains(&blamed));
    assert_eq!(n(&client), 4);
    host.kill();
    host.restart_on(&known);
    eventually("all is well", || n(&client) == 5);
    assert_eq!(host.trouble(), "");
}
