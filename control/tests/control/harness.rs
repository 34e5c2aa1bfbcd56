//! Starts the program on a database, and speaks HTTP with it.

use std::ffi::OsString;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::clock::Clock;
use crate::postgres::Postgres;

/// Nothing here takes so long unless it hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A database with its tables, and an admin token.
pub(crate) struct Database {
    pub(crate) url: String,
    pub(crate) admin: String,
    pub(crate) folder: tempfile::TempDir,
    pub(crate) postgres: Option<Postgres>,
}

impl Database {
    pub(crate) fn sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}", folder.path().join("db").display());
        Self::init(url, folder, None)
    }

    /// On a server of its own; `None` where PostgreSQL is not installed.
    pub(crate) fn postgres() -> Option<Self> {
        let postgres = Postgres::start()?;
        Some(Self::init(postgres.url(), tempfile::tempdir().unwrap(), Some(postgres)))
    }

    /// On a primary with a standby that has everything before it is acknowledged; the standby beside it.
    pub(crate) fn replicated() -> Option<(Self, Postgres)> {
        let (database, standby) = Self::with_standby()?;
        database.postgres.as_ref()?.wait_for_standby();
        Some((database, standby))
    }

    /// On a primary with a standby that gets everything soon.
    pub(crate) fn with_standby() -> Option<(Self, Postgres)> {
        let primary = Postgres::start()?;
        let standby = primary.standby();
        let hosts = format!("127.0.0.1:{},127.0.0.1:{}", primary.port, standby.port);
        let url = format!("postgres://flags@{hosts}/postgres?target_session_attrs=read-write");
        Some((Self::init(url, tempfile::tempdir().unwrap(), Some(primary)), standby))
    }

    pub(crate) fn init(url: String, folder: tempfile::TempDir, postgres: Option<Postgres>) -> Self {
        let output = program(&url).arg("init").output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let admin = String::from_utf8(output.stdout).unwrap().trim().to_owned();
        Self { url, admin, folder, postgres }
    }

    /// How many rows a table has.
    pub(crate) fn rows(&self, table: &str) -> i64 {
        let sql = format!("SELECT count(*) FROM {table}");
        match &self.postgres {
            Some(postgres) => postgres.number(&sql),
            None => rows(Path::new(self.url.strip_prefix("sqlite:").unwrap()), &sql),
        }
    }

    pub(crate) fn serve(&self) -> Server {
        self.serve_with("")
    }

    /// With a configuration file of this content.
    pub(crate) fn serve_with(&self, config: &str) -> Server {
        let path = self.folder.path().join("control.toml");
        std::fs::write(&path, config).unwrap();
        Server::start(&self.url, &self.admin, &path, &[])
    }

    /// The same on this port.
    pub(crate) fn serve_at(&self, port: u16, config: &str) -> Server {
        let path = self.folder.path().join("control.toml");
        std::fs::write(&path, config).unwrap();
        let server = Server::spawn_at(port, &self.url, &self.admin, &path, &[]);
        server.wait();
        server
    }

    /// The same with these variables.
    pub(crate) fn serve_in(&self, config: &str, environment: &[(&str, OsString)]) -> Server {
        let path = self.folder.path().join("control.toml");
        std::fs::write(&path, config).unwrap();
        Server::start(&self.url, &self.admin, &path, environment)
    }

    /// With TLS; whoever asks finds out when it is up.
    pub(crate) fn serve_tls(&self, config: &str) -> Server {
        let path = self.folder.path().join("control.toml");
        std::fs::write(&path, config).unwrap();
        Server::spawn(&self.url, &self.admin, &path, &[])
    }

    /// By a clock that can be set.
    pub(crate) fn serve_by(&self, clock: &Clock) -> Server {
        self.serve_by_with(clock, "")
    }

    pub(crate) fn serve_by_with(&self, clock: &Clock, config: &str) -> Server {
        let path = self.folder.path().join("control.toml");
        std::fs::write(&path, config).unwrap();
        Server::start(&self.url, &self.admin, &path, &clock.environment())
    }
}

/// Does the same with both databases.
pub(crate) fn on_both(test: impl Fn(&Database)) {
    test(&Database::sqlite());
    match Database::postgres() {
        Some(database) => test(&database),
        None => println!("skipped: on PostgreSQL: it is not installed"),
    }
}

/// What a query for one number finds in a SQLite file.
pub(crate) fn rows(path: &Path, sql: &str) -> i64 {
    let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
    let connection = rusqlite::Connection::open_with_flags(path, flags).unwrap();
    connection.query_row(sql, [], |row| row.get(0)).unwrap()
}

pub(crate) fn program(database: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_flags-control"));
    command.env("FLAGS_CONTROL_DATABASE", database);
    command
}

/// A number of the metrics at a management address.
pub(crate) fn metric(port: u16, sample: &str) -> f64 {
    let text = Client::new(&format!("http://127.0.0.1:{port}"), "").get("/metrics").text;
    let value = text.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
    value.unwrap_or_else(|| panic!("no {sample} in {text}")).parse().unwrap()
}

/// The same of a number of things.
pub(crate) fn counted(port: u16, sample: &str) -> u64 {
    format!("{:.0}", metric(port, sample)).parse().unwrap()
}

/// The program, serving.
pub(crate) struct Server {
    pub(crate) url: String,
    pub(crate) child: Child,
    admin: String,
    log: PathBuf,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        // Most tests make it refuse things; what it says of that is for who looks into a failure.
        if thread::panicking() {
            eprintln!("{}: {}", self.url, std::fs::read_to_string(&self.log).unwrap_or_default());
        }
    }
}

impl Server {
    fn start(database: &str, admin: &str, config: &Path, environment: &[(&str, OsString)]) -> Self {
        let server = Self::spawn(database, admin, config, environment);
        server.wait();
        server
    }

    fn wait(&self) {
        eventually("the program is up", || Client::new(&self.url, "").get("/healthz").status == 200);
    }

    fn spawn(database: &str, admin: &str, config: &Path, environment: &[(&str, OsString)]) -> Self {
        Self::spawn_at(free_port(), database, admin, config, environment)
    }

    fn spawn_at(port: u16, database: &str, admin: &str, config: &Path, environment: &[(&str, OsString)]) -> Self {
        let listen = format!("127.0.0.1:{port}");
        let mut command = program(database);
        command.arg("serve").arg("--config").arg(config).args(["--listen", &listen, "--log-level", "warn"]);
        command.envs(environment.iter().map(|(name, value)| (name, value)));
        let log = config.with_file_name(format!("server-{port}.log"));
        let child = command.stdout(Stdio::null()).stderr(File::create(&log).unwrap()).spawn().unwrap();
        Self { url: format!("http://{listen}"), child, admin: admin.to_owned(), log }
    }

    /// One that was started otherwise, with an admin's token; `log` is where its stderr goes.
    pub(crate) fn of(child: Child, url: String, admin: &str, log: PathBuf) -> Self {
        Self { url, child, admin: admin.to_owned(), log }
    }

    /// What it has written to its log so far.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    pub(crate) fn admin(&self) -> Client {
        Client::new(&self.url, &self.admin)
    }

    pub(crate) fn with_token(&self, token: &str) -> Client {
        Client::new(&self.url, token)
    }

    /// An admin, once the database was read, with the project `shop` and its environments `test` and `live`.
    pub(crate) fn furnished(&self) -> Client {
        let admin = self.admin();
        admin.post("/api/v1/projects", json!({"key": "shop"})).expect(201);
        for key in ["test", "live"] {
            admin.post("/api/v1/projects/shop/environments", json!({"key": key})).expect(201);
            let snapshot = format!("/sync/v1/shop/{key}/snapshot");
            eventually("hosts can follow it", || admin.get(&snapshot).status == 200);
        }
        admin
    }
}

pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Waits for something to become so.
pub(crate) fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < PATIENCE, "not in time: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Speaks with a server as the holder of a token.
#[derive(Clone)]
pub(crate) struct Client {
    agent: ureq::Agent,
    url: String,
    token: String,
    headers: Vec<(String, String)>,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: ureq::http::HeaderMap,
    pub(crate) text: String,
}

impl Reply {
    /// The body, if the status is the expected one.
    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.text);
        serde_json::from_str(&self.text).unwrap_or(Value::Null)
    }

    pub(crate) fn header(&self, name: &str) -> String {
        self.headers.get(name).map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default()
    }

    pub(crate) fn etag(&self) -> String {
        self.header("etag")
    }
}

impl Client {
    pub(crate) fn new(url: &str, token: &str) -> Self {
        let config = ureq::Agent::config_builder().http_status_as_error(false).timeout_connect(Some(PATIENCE));
        Self { agent: config.build().into(), url: url.to_owned(), token: token.to_owned(), headers: Vec::new() }
    }

    pub(crate) fn token(&self) -> &str {
        &self.token
    }

    /// The same, with a header.
    pub(crate) fn with(&self, name: &str, value: &str) -> Self {
        let mut client = self.clone();
        client.headers.push((name.to_owned(), value.to_owned()));
        client
    }

    pub(crate) fn get(&self, path: &str) -> Reply {
        self.send("GET", path, None)
    }

    /// The body as it comes.
    pub(crate) fn bytes(&self, path: &str) -> Vec<u8> {
        let mut response = self.try_send("GET", path, None, Some(PATIENCE)).unwrap();
        response.body_mut().read_to_vec().unwrap()
    }

    pub(crate) fn post(&self, path: &str, body: Value) -> Reply {
        self.send("POST", path, Some(body.to_string()))
    }

    pub(crate) fn put(&self, path: &str, body: Value) -> Reply {
        self.send("PUT", path, Some(body.to_string()))
    }

    pub(crate) fn patch(&self, path: &str, body: Value) -> Reply {
        self.send("PATCH", path, Some(body.to_string()))
    }

    pub(crate) fn send(&self, method: &str, path: &str, body: Option<String>) -> Reply {
        let timeout = Some(PATIENCE);
        match self.try_send(method, path, body, timeout) {
            Ok(mut response) => {
                let text = response.body_mut().with_config().limit(64 << 20).read_to_string().unwrap_or_default();
                Reply { status: response.status().as_u16(), headers: response.headers().clone(), text }
            }
            Err(error) => Reply { status: 0, headers: ureq::http::HeaderMap::new(), text: error.to_string() },
        }
    }

    fn try_send(
        &self,
        method: &str,
        path: &str,
        body: Option<String>,
        timeout: Option<Duration>,
    ) -> Result<ureq::http::Response<ureq::Body>, ureq::Error> {
        let mut request = ureq::http::Request::builder().method(method).uri(format!("{}{path}", self.url));
        if !self.token.is_empty() {
            request = request.header("authorization", format!("Bearer {}", self.token));
        }
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        match body {
            Some(body) => {
                let request = self.agent.configure_request(request.body(body)?).timeout_global(timeout).build();
                self.agent.run(request)
            }
            None => {
                let request = self.agent.configure_request(request.body(())?).timeout_global(timeout).build();
                self.agent.run(request)
            }
        }
    }

    /// The events of an environment's stream, after `last` where there is one.
    pub(crate) fn stream(&self, environment: &str, last: Option<&str>) -> Stream {
        let client = match last {
            Some(last) => self.with("last-event-id", last),
            None => self.clone(),
        };
        let response = client.try_send("GET", &format!("/sync/v1/{environment}/stream"), None, None).unwrap();
        assert_eq!(response.status(), 200);
        let (send, events) = channel();
        thread::spawn(move || {
            let mut event = Event::default();
            for line in BufReader::new(response.into_body().into_reader()).lines().map_while(Result::ok) {
                match line.split_once(": ") {
                    Some(("event", kind)) => event.kind = kind.to_owned(),
                    Some(("id", id)) => event.id = id.to_owned(),
                    Some(("data", data)) => event.data = data.to_owned(),
                    _ => {
                        if send.send(std::mem::take(&mut event)).is_err() {
                            return;
                        }
                    }
                }
            }
        });
        Stream { events }
    }
}

/// An event of a stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) kind: String,
    pub(crate) id: String,
    pub(crate) data: String,
}

/// A stream that somebody reads all the time.
pub(crate) struct Stream {
    events: Receiver<Event>,
}

impl Stream {
    /// The next change, whatever is said before it of nothing having happened.
    #[track_caller]
    pub(crate) fn next_change(&self) -> Event {
        loop {
            let event = self.next();
            if event.kind != "current" {
                return event;
            }
        }
    }

    /// The changes that came by now.
    pub(crate) fn changes(&self) -> Vec<Event> {
        self.events.try_iter().filter(|event| event.kind != "current").collect()
    }

    #[track_caller]
    pub(crate) fn next(&self) -> Event {
        self.events.recv_timeout(PATIENCE).expect("an event")
    }

    /// The next event; an error where the stream has ended.
    pub(crate) fn try_next(&self) -> Result<Event, std::sync::mpsc::RecvTimeoutError> {
        self.events.recv_timeout(PATIENCE)
    }

    /// Whether the server ends the stream, whatever comes before.
    pub(crate) fn ends(&self) -> bool {
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            match self.events.recv_timeout(Duration::from_millis(100)) {
                Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => return true,
                _ => continue,
            }
        }
        false
    }
}
