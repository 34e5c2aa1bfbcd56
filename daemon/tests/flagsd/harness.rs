//! Starts flagsd, talks to it, and ends it.

use std::ffi::OsString;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use libflags::{Client, Context};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

/// Nothing here takes this long, however busy the machine: it only ends a test that hangs.
const WATCHDOG: Duration = Duration::from_secs(60);

/// A place for one flagsd: its files, its store, its state.
pub(crate) struct Host {
    dir: TempDir,
    arguments: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    uid: Option<u32>,
}

/// A running flagsd; dropped, it is killed.
pub(crate) struct Daemon {
    child: Child,
    store: PathBuf,
    log: PathBuf,
}

impl Host {
    pub(crate) fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("flagsd").tempdir().expect("a directory");
        Self { dir, arguments: Vec::new(), environment: Vec::new(), uid: None }
    }

    /// A place whose flagsd reads this file.
    pub(crate) fn with_file(name: &str, text: &str) -> Self {
        let mut host = Self::new();
        host.write(name, text);
        host.source(&format!("file:{}", host.path(name).display()));
        host
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn store(&self) -> PathBuf {
        self.path("store")
    }

    pub(crate) fn source(&mut self, source: &str) -> &mut Self {
        self.argument("--source").argument(source)
    }

    pub(crate) fn argument(&mut self, argument: impl Into<OsString>) -> &mut Self {
        self.arguments.push(argument.into());
        self
    }

    pub(crate) fn env(&mut self, name: &str, value: impl Into<OsString>) -> &mut Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// Runs flagsd as a user without any rights, where the test itself is root.
    pub(crate) fn without_rights(&mut self) -> &mut Self {
        if nix::unistd::getuid().is_root() {
            const NOBODY: u32 = 65_534;
            std::os::unix::fs::chown(self.dir.path(), Some(NOBODY), Some(NOBODY)).expect("root may");
            self.uid = Some(NOBODY);
        }
        self
    }

    /// Replaces a file as careful programs do.
    pub(crate) fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        let temporary = path.with_extension("tmp");
        fs::write(&temporary, text).expect("written");
        fs::rename(&temporary, &path).expect("renamed");
    }

    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_flagsd"));
        command.env_clear();
        if self.uid.is_some() {
            // The build's directory may not be open to everybody.
            let copy = self.path("flagsd");
            if !copy.exists() {
                // By another process: a program that another test starts meanwhile would have it open for writing until it is itself,
                // and nobody could start it (ETXTBSY).
                let copied = Command::new("cp").arg(env!("CARGO_BIN_EXE_flagsd")).arg(&copy).status().expect("cp runs");
                assert!(copied.success(), "{copied}");
            }
            command = Command::new(copy);
            command.env_clear();
        }
        if let Some(uid) = self.uid {
            command.uid(uid).gid(uid);
        }
        command.arg("run").args(["--log-format", "json", "--store"]).arg(self.store());
        command.arg("--state-dir").arg(self.path("state")).args(&self.arguments);
        // Nothing but what a test is about: connections are counted there.
        command.env("FLAGSD_CONTROL__REPORT_MS", "0");
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Starts flagsd and waits until its socket answers.
    pub(crate) fn start(&self) -> Daemon {
        let daemon = self.spawn();
        daemon.wait_for("an answer", || daemon.try_get("/v1/status").is_some());
        daemon
    }

    pub(crate) fn spawn(&self) -> Daemon {
        let log = self.path("log");
        let file = fs::OpenOptions::new().create(true).append(true).open(&log).expect("a log");
        let child = self.command().stdin(Stdio::null()).stdout(Stdio::null()).stderr(file).spawn().expect("starts");
        Daemon { child, store: self.store(), log }
    }

    /// Runs flagsd until it ends by itself: exit code and log.
    pub(crate) fn run_to_end(&self) -> (Option<i32>, String) {
        let mut daemon = self.spawn();
        let status = daemon.wait();
        (status.code(), daemon.log())
    }

    pub(crate) fn client(&self) -> Client {
        Client::open(Some(&self.store())).expect("a store")
    }
}

impl Daemon {
    pub(crate) fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().try_into().expect("a pid"))
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).expect("is there");
    }

    /// Ends it as the system does that has no time to ask.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("is there");
        self.child.wait().expect("was there");
    }

    pub(crate) fn wait(&mut self) -> ExitStatus {
        let until = Instant::now() + WATCHDOG;
        loop {
            if let Some(status) = self.child.try_wait().expect("is ours") {
                return status;
            }
            assert!(Instant::now() < until, "flagsd does not end\n{}", self.log());
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Waits until something holds.
    pub(crate) fn wait_for(&self, what: &str, mut holds: impl FnMut() -> bool) {
        let until = Instant::now() + WATCHDOG;
        while !holds() {
            let status = self.try_get("/v1/status").map_or_else(|| "no answer".to_owned(), |(_, body)| body);
            assert!(Instant::now() < until, "waited in vain for {what}\n{status}\n{}", self.log());
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// The status of its only set.
    pub(crate) fn status(&self) -> Value {
        self.get("/v1/status")["sets"][0].clone()
    }

    pub(crate) fn wait_for_status(&self, what: &str, mut holds: impl FnMut(&Value) -> bool) -> Value {
        let mut last = Value::Null;
        self.wait_for(what, || {
            last = self.status();
            holds(&last)
        });
        last
    }

    pub(crate) fn get(&self, path: &str) -> Value {
        let (code, body) = self.try_get(path).expect("an answer");
        assert_eq!(code, 200, "{body}");
        serde_json::from_str(&body).expect("JSON")
    }

    pub(crate) fn try_get(&self, path: &str) -> Option<(u16, String)> {
        request(&self.store.join("flagsd.sock"), "GET", path, "")
    }

    /// Sends a command; status code and answer.
    pub(crate) fn tell(&self, method: &str, path: &str, body: &str) -> (u16, Value) {
        let answer = request(&self.store.join("flagsd.sock"), method, &format!("/v1/sets/default{path}"), body);
        let (code, body) = answer.expect("an answer");
        (code, serde_json::from_str(&body).expect("JSON"))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn request(socket: &Path, method: &str, path: &str, body: &str) -> Option<(u16, String)> {
    let mut stream = UnixStream::connect(socket).ok()?;
    stream.set_read_timeout(Some(WATCHDOG)).expect("a timeout");
    let length = body.len();
    let head = "Host: flagsd\r\nConnection: close\r\nContent-Type: application/json";
    write!(stream, "{method} {path} HTTP/1.1\r\n{head}\r\nContent-Length: {length}\r\n\r\n{body}").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
}

/// A definition with one number flag `n`.
pub(crate) fn number(n: i64) -> String {
    numbers(&[("n", n)])
}

/// A definition with number flags.
pub(crate) fn numbers(flags: &[(&str, i64)]) -> String {
    let flag = |(key, value): &(&str, i64)| {
        format!(r#""{key}": {{"state": "ENABLED", "variants": {{"v": {value}}}, "defaultVariant": "v"}}"#)
    };
    format!(r#"{{"flags": {{{}}}}}"#, flags.iter().map(flag).collect::<Vec<_>>().join(", "))
}

/// A definition with `count` boolean flags `f0` .. that are on, of which the first `disabled` are disabled.
pub(crate) fn many(count: usize, disabled: usize) -> String {
    let flag = |number: usize| {
        let state = if number < disabled { "DISABLED" } else { "ENABLED" };
        format!(
            r#""f{number}": {{"state": "{state}", "variants": {{"on": true, "off": false}}, "defaultVariant": "on"}}"#
        )
    };
    format!(r#"{{"flags": {{{}}}}}"#, (0..count).map(flag).collect::<Vec<_>>().join(", "))
}

/// What the number flag `key` is now, -1 where there is none.
pub(crate) fn read(client: &Client, key: &str) -> i64 {
    client.int(key, &Context::anonymous(), -1)
}
