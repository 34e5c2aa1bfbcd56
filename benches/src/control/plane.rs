//! `flags-control` as a process of its own, on a database of its own, with an environment full of flags.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use super::http::{Connection, PATIENCE, request};
use super::postgres::Postgres;
use crate::definitions;
use crate::lab::Lab;

/// The environment that is measured.
pub(crate) const ENVIRONMENT: &str = "shop/production";

/// What keeps a measurement from being one of the limits: nobody is told to come back later.
const UNLIMITED: &str = "[limits]\nrequests_per_second = 1000000\nburst = 1000000\nsync_requests_per_second = 1000000\nsync_burst = 1000000\nreports_per_second = 1000000\naddress_requests_per_second = 1000000\n\
                         address_burst = 1000000\nstreams = 20000\naddress_connections = 20000\nbody_bytes = 67108864\nrequest_seconds = 300\n";

/// How many flags are made at once.
const MAKERS: usize = 32;

/// A database with an environment of flags, and an admin's token; nobody serves it.
#[derive(Clone)]
pub(crate) struct Database {
    folder: PathBuf,
    url: String,
    admin: String,
}

/// A server of a database.
pub(crate) struct Plane {
    child: Child,
    address: SocketAddr,
    pub(crate) database: Database,
}

impl Database {
    /// A SQLite file with `number` static flags, in a folder called `name` on the disk.
    pub(crate) fn with_flags(lab: &Lab, name: &str, number: usize) -> Result<Option<Self>> {
        let Some(program) = &lab.control else { return Ok(None) };
        let model = lab.database(number, |folder| {
            let database = Self::init(program, folder, &format!("sqlite:{}", folder.join("db").display()))?;
            database.serve(lab)?.fill(number)?;
            Ok(database)
        })?;
        model.copied(&lab.disk(name)?).map(Some)
    }

    /// A copy of a SQLite file that nobody has open.
    pub(crate) fn copied(&self, folder: &Path) -> Result<Self> {
        for part in ["db", "db-wal"] {
            // The whole of it is in these two.
            let from = self.folder.join(part);
            if from.exists() {
                fs::copy(&from, folder.join(part))?;
            }
        }
        Ok(Self {
            url: format!("sqlite:{}", folder.join("db").display()),
            folder: folder.to_owned(),
            admin: self.admin.clone(),
        })
    }

    /// The same in a PostgreSQL server; `None` also where that is not installed.
    pub(crate) fn on_postgres(lab: &Lab, postgres: &Postgres, number: usize) -> Result<Option<Self>> {
        let Some(program) = &lab.control else { return Ok(None) };
        let database = Self::init(program, &lab.disk("postgres-control")?, &postgres.url())?;
        database.serve(lab)?.fill(number)?;
        Ok(Some(database))
    }

    fn init(program: &Path, folder: &Path, url: &str) -> Result<Self> {
        let output = Command::new(program).arg("init").arg("--database").arg(url).current_dir(folder).output();
        let output = output.with_context(|| format!("cannot start {}", program.display()))?;
        ensure!(output.status.success(), "flags-control init: {}", String::from_utf8_lossy(&output.stderr));
        let admin = String::from_utf8(output.stdout)?.trim().to_owned();
        Ok(Self { folder: folder.to_owned(), url: url.to_owned(), admin })
    }

    /// Serves it, and returns when it is ready.
    pub(crate) fn serve(&self, lab: &Lab) -> Result<Plane> {
        self.serve_logging(lab, "warn")
    }

    /// The same with a log of that level in [`Plane::log`].
    pub(crate) fn serve_logging(&self, lab: &Lab, level: &str) -> Result<Plane> {
        let program = lab.control.as_ref().context("flags-control was not named")?;
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()?));
        let config = self.folder.join("control.toml");
        fs::write(&config, UNLIMITED)?;
        let log = fs::File::create(self.folder.join("control.log"))?;
        let child = Command::new(program)
            .args(["serve", "--database", &self.url, "--listen", &address.to_string(), "--log-level", level])
            .arg("--config")
            .arg(config)
            .current_dir(&self.folder)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        let mut plane = Plane { child, address, database: self.clone() };
        let start = Instant::now();
        while !plane.is_ready() {
            if let Some(status) = plane.child.try_wait()? {
                bail!("flags-control ended at once ({status}): {}", plane.log());
            }
            ensure!(start.elapsed() < PATIENCE, "flags-control is not ready: {}", plane.log());
            thread::sleep(Duration::from_millis(1));
        }
        Ok(plane)
    }
}

impl Plane {
    pub(crate) fn connect(&self) -> Result<Connection> {
        Connection::open(self.address)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn admin(&self) -> &str {
        &self.database.admin
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has said so far.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.database.folder.join("control.log")).unwrap_or_default()
    }

    fn is_ready(&self) -> bool {
        let ask = || -> Result<bool> {
            let mut connection = self.connect()?;
            connection.send(request("GET", "/readyz", "", "", "").as_bytes())?;
            Ok(connection.receive()?.status == 200)
        };
        ask().unwrap_or(false)
    }

    /// One request as the admin.
    pub(crate) fn ask(&self, method: &str, path: &str, body: &Value) -> Result<Value> {
        let mut connection = self.connect()?;
        let body = if body.is_null() { String::new() } else { body.to_string() };
        connection.send(request(method, path, self.admin(), "", &body).as_bytes())?;
        connection.receive()?.json().with_context(|| format!("{method} {path}"))
    }

    /// The environment's revision in the database.
    pub(crate) fn revision(&self, environment: &str) -> Result<u64> {
        let (project, environment) = environment.split_once('/').context("PROJECT/ENVIRONMENT")?;
        let shown = self.ask("GET", &format!("/api/v1/projects/{project}/environments/{environment}"), &Value::Null)?;
        shown["revision"].as_u64().context("a revision")
    }

    /// What flagsd is told to follow the environment, and a token for it.
    pub(crate) fn source(&self) -> Result<String> {
        let token = self.ask("POST", "/api/v1/tokens", &json!({"name": "a host", "scope": "sync"}))?;
        let path = self.database.folder.join("token");
        fs::write(&path, token["token"].as_str().context("a token")?)?;
        let shown = self.ask("GET", "/api/v1/projects/shop/environments/production", &Value::Null)?;
        let key = shown["publicKey"].as_str().context("a key")?.replace('+', "%2B").replace('/', "%2F");
        Ok(format!("control+http://{}/{ENVIRONMENT}?token-file={}&key={key}", self.address, path.display()))
    }

    /// Makes the project, `number` flags and then the environment, where each flag answers as `definitions` says.
    fn fill(&self, number: usize) -> Result<()> {
        self.ask("POST", "/api/v1/projects", &json!({"key": "shop"}))?;
        let body = |index: usize| json!({"key": definitions::key(index)}).to_string();
        self.many(number, |index| ("POST", "/api/v1/projects/shop/flags".to_owned(), body(index)))?;
        self.ask("POST", "/api/v1/projects/shop/environments", &json!({"key": "production"}))?;
        // All are disabled and off in a new environment. Only those that are read have to be on: enabling each is a change of its own.
        self.many(number.min(1_000), |index| {
            ("PATCH", config_path(ENVIRONMENT, index), config(definitions::answer(index)))
        })
    }

    /// Sends `number` requests over some connections; each must succeed.
    pub(super) fn many(&self, number: usize, what: impl Fn(usize) -> (&'static str, String, String)) -> Result<()> {
        let mut connections = (0..MAKERS.min(number)).map(|_| self.connect()).collect::<Result<Vec<_>>>()?;
        let count = connections.len();
        for index in 0..number + count {
            let connection = &mut connections[index % count];
            if index >= count {
                connection.receive()?.json()?;
            }
            if index < number {
                let (method, path, body) = what(index);
                connection.send(request(method, &path, self.admin(), "", &body).as_bytes())?;
            }
        }
        Ok(())
    }
}

impl Drop for Plane {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Where the configuration of the flag `number` is changed.
pub(crate) fn config_path(environment: &str, number: usize) -> String {
    let (project, environment) = environment.split_once('/').unwrap_or((environment, ""));
    format!("/api/v1/projects/{project}/environments/{environment}/flags/{}", definitions::key(number))
}

/// What makes it answer `on`: JSON.
pub(crate) fn config(on: bool) -> String {
    format!(r#"{{"state":"ENABLED","defaultVariant":"{}"}}"#, if on { "on" } else { "off" })
}

pub(crate) fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// Processor seconds of a process, over all its threads so far.
pub(crate) fn processor_seconds(pid: u32) -> Result<f64> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).context("a process that runs")?;
    let (_, numbers) = text.rsplit_once(')').context("a name in parentheses")?;
    let mut numbers = numbers.split_whitespace().skip(11);
    let mut next = || -> Result<f64> { Ok(numbers.next().context("utime and stime")?.parse()?) };
    // In hundredths on every Linux that has not been built otherwise (USER_HZ).
    Ok((next()? + next()?) / 100.0)
}

/// Resident memory of a process, in bytes.
pub(crate) fn resident_bytes(pid: u32) -> Result<f64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status"))?;
    Ok(crate::processes::kib_of(&text, &["VmRSS:"])? * 1024.0)
}
