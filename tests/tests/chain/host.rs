//! A host: flagsd, and a program that reads.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use libflags::{Client, Context};
use serde_json::Value;

use crate::{eventually, free_port, plane, program};

/// flagsd on a source; dropped, it is killed.
pub(crate) struct Host {
    folder: tempfile::TempDir,
    child: Child,
    setup: Setup,
}

/// How it is started.
struct Setup {
    source: String,
    environment: Vec<(String, String)>,
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
        Self::start(source, &[])
    }

    /// One of this name, that reports within 50 ms what it has published.
    pub(crate) fn reporting(source: &str, name: &str) -> Self {
        Self::start(source, &[("FLAGSD_CONTROL__HOST", name), ("FLAGSD_CONTROL__REPORT_MS", "50")])
    }

    fn start(source: &str, environment: &[(&str, &str)]) -> Self {
        let (folder, management) = (tempfile::tempdir().unwrap(), free_port());
        let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let setup = Setup { source: source.to_owned(), environment: environment.collect(), management };
        Self { child: setup.run(folder.path()), folder, setup }
    }

    /// Ends flagsd without a word to it.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it again, with all that it left behind.
    pub(crate) fn restart(&mut self) {
        self.child = self.setup.run(self.folder.path());
    }

    /// The same, told to follow another source.
    pub(crate) fn restart_on(&mut self, source: &str) {
        source.clone_into(&mut self.setup.source);
        self.restart();
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
        let text = plane::ask("GET", self.setup.management, "/metrics", "", None).1;
        let line = text.lines().find(|line| line.starts_with(beginning)).unwrap_or_default();
        line.rsplit(' ').next().unwrap().parse().unwrap_or(f64::NAN)
    }

    /// What flagsd says of its source.
    pub(crate) fn link(&self) -> Value {
        self.source()["control"].take()
    }

    /// What is wrong with its source, as flagsd says; empty where nothing is.
    pub(crate) fn trouble(&self) -> String {
        self.source()["error"].as_str().unwrap_or_default().to_owned()
    }

    fn source(&self) -> Value {
        use std::io::{Read, Write};
        let socket = self.folder.path().join("store/flagsd.sock");
        let mut stream = std::os::unix::net::UnixStream::connect(socket).unwrap();
        stream.write_all(b"GET /v1/status HTTP/1.1\r\nHost: flagsd\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        serde_json::from_str::<Value>(body).unwrap()["sets"][0]["sources"][0].take()
    }
}

impl Setup {
    /// Starts flagsd with its store and state in a folder, and waits until it answers.
    fn run(&self, folder: &Path) -> Child {
        let mut command = Command::new(program("flagsd").unwrap());
        command.env_clear().env("FLAGSD_CONTROL__POLL_MS", "100").args(["run", "--log-level", "error"]);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.arg("--store").arg(folder.join("store")).arg("--state-dir").arg(folder.join("state"));
        command.arg("--management").arg(format!("127.0.0.1:{}", self.management)).arg("--source").arg(&self.source);
        let child = command.stdout(Stdio::null()).spawn().unwrap();
        eventually("flagsd answers", || plane::ask("GET", self.management, "/healthz", "", None).0 == 200);
        child
    }
}

/// What a program gets for the flag `n`.
pub(crate) fn n(client: &Client) -> i64 {
    client.int("n", &Context::anonymous(), -1)
}
