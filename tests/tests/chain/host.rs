//! A host: flagsd, and a program that reads.

use std::process::{Child, Command, Stdio};

use libflags::{Client, Context};
use serde_json::Value;

use crate::{eventually, free_port, plane, program};

/// flagsd on a source; dropped, it is killed.
pub(crate) struct Host {
    folder: tempfile::TempDir,
    child: Child,
    management: u16,
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Host {
    /// One that asks for the snapshot each tenth of a second while it has no stream.
    pub(crate) fn follow(source: &str) -> Self {
        Self::start(source, 100, &[])
    }

    /// One that only knows streams.
    pub(crate) fn follow_stream(source: &str) -> Self {
        Self::start(source, 3_600_000, &[])
    }

    /// One of this name, that reports within 50 ms what it has published.
    pub(crate) fn reporting(source: &str, name: &str) -> Self {
        Self::start(source, 100, &[("FLAGSD_CONTROL__HOST", name), ("FLAGSD_CONTROL__REPORT_MS", "50")])
    }

    fn start(source: &str, poll_ms: u64, environment: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let management = free_port();
        let mut command = Command::new(program("flagsd").unwrap());
        command.env_clear().env("FLAGSD_CONTROL__POLL_MS", poll_ms.to_string()).args(["run", "--log-level", "error"]);
        command.envs(environment.iter().copied());
        command.arg("--store").arg(folder.path().join("store")).arg("--state-dir").arg(folder.path().join("state"));
        command.arg("--management").arg(format!("127.0.0.1:{management}")).arg("--source").arg(source);
        let child = command.stdout(Stdio::null()).spawn().unwrap();
        let host = Self { folder, child, management };
        eventually("flagsd answers", || plane::ask("GET", management, "/healthz", "", None).0 == 200);
        host
    }

    /// A program's view; waits until there is something to see.
    pub(crate) fn client(&self) -> Client {
        let store = self.folder.path().join("store");
        let mut client = None;
        eventually("a store to open", || {
            client = Client::open(Some(&store)).ok();
            client.is_some()
        });
        client.unwrap()
    }

    /// A number of its metrics, by the beginning of its line.
    pub(crate) fn metric(&self, beginning: &str) -> f64 {
        let text = plane::ask("GET", self.management, "/metrics", "", None).1;
        let line = text.lines().find(|line| line.starts_with(beginning)).unwrap_or_default();
        line.rsplit(' ').next().unwrap().parse().unwrap_or(f64::NAN)
    }

    /// What flagsd says of its source.
    pub(crate) fn link(&self) -> Value {
        use std::io::{Read, Write};
        let socket = self.folder.path().join("store/flagsd.sock");
        let mut stream = std::os::unix::net::UnixStream::connect(socket).unwrap();
        stream.write_all(b"GET /v1/status HTTP/1.1\r\nHost: flagsd\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        serde_json::from_str::<Value>(body).unwrap()["sets"][0]["sources"][0]["control"].take()
    }
}

/// What a program gets for the flag `n`.
pub(crate) fn n(client: &Client) -> i64 {
    client.int("n", &Context::anonymous(), -1)
}
