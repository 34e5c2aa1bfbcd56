//! A control plane on a SQLite file, started without root, and the little HTTP that speaks with it.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use crate::daemon::PATIENCE;
use crate::languages::Build;
use crate::process::Program;

/// A control plane with a database, and the address that it always serves at.
pub(crate) struct ControlPlane {
    folder: PathBuf,
    address: SocketAddr,
    admin: String,
}

impl ControlPlane {
    /// Makes the database in `folder`. Nothing serves yet.
    pub(crate) fn init(folder: &Path) -> Result<Self> {
        let address = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr())?;
        let mut plane = Self { folder: folder.to_owned(), address, admin: String::new() };
        let output = plane.command("init").output().context("cannot start flags-control")?;
        ensure!(output.status.success(), "flags-control init: {}", String::from_utf8_lossy(&output.stderr));
        plane.admin = String::from_utf8(output.stdout)?.trim().to_owned();
        Ok(plane)
    }

    /// Serves, and waits until it does.
    pub(crate) fn serve(&self) -> Result<Program> {
        let log = fs::OpenOptions::new().create(true).append(true).open(self.folder.join("flags-control.log"))?;
        let mut command = self.command("serve");
        command.arg("--listen").arg(self.address.to_string());
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let mut program = Program::start("flags-control", &mut command)?;
        let deadline = Instant::now() + PATIENCE;
        while self.ask("GET", "/readyz", None).is_err() {
            if let Some(status) = program.poll()? {
                let said = fs::read_to_string(self.folder.join("flags-control.log")).unwrap_or_default();
                bail!("flags-control ended at once ({status}):\n{said}");
            }
            ensure!(Instant::now() < deadline, "flags-control is not ready after {} s", PATIENCE.as_secs());
            thread::sleep(Duration::from_millis(5));
        }
        Ok(program)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// What flagsd is given to follow an environment, signed by its key, with a token that is good for this only.
    pub(crate) fn source(&self, project: &str, environment: &str) -> Result<String> {
        let made = self.post(
            "/api/v1/tokens",
            &json!({"name": "this host", "scope": "sync", "project": project, "environment": environment}),
        )?;
        let path = self.folder.join("token");
        let mut file = fs::OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(&path)?;
        file.write_all(made["token"].as_str().context("a token")?.as_bytes())?;
        let shown = self.ask("GET", &format!("/api/v1/projects/{project}/environments/{environment}"), None)?;
        let key = shown["publicKey"].as_str().context("a key")?.replace('+', "%2B").replace('/', "%2F");
        let (address, path) = (self.address, path.display());
        Ok(format!("control+http://{address}/{project}/{environment}?token-file={path}&key={key}"))
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> Result<Value> {
        self.ask("POST", path, Some(body))
    }

    pub(crate) fn patch(&self, path: &str, body: &Value) -> Result<Value> {
        self.ask("PATCH", path, Some(body))
    }

    /// One request; an error unless it is answered with success.
    fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value> {
        let body = body.map(Value::to_string).unwrap_or_default();
        let (address, admin, length) = (self.address, &self.admin, body.len());
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {admin}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
        );
        let mut connection = TcpStream::connect_timeout(&address, PATIENCE)?;
        connection.set_read_timeout(Some(PATIENCE))?;
        connection.write_all(request.as_bytes())?;
        let mut answer = String::new();
        connection.read_to_string(&mut answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").context("an answer in HTTP")?;
        let status = head.split(' ').nth(1).unwrap_or_default();
        ensure!(status.starts_with('2'), "{method} {path}: {status}: {body}");
        // What is no JSON, as of /readyz, says nothing.
        Ok(serde_json::from_str(body).unwrap_or_default())
    }

    fn command(&self, what: &str) -> Command {
        let mut command = Command::new(Build::DEBUG.file("flags-control"));
        command.arg(what).arg("--database").arg(format!("sqlite:{}", self.folder.join("control.db").display()));
        command.current_dir(&self.folder);
        command
    }
}
