//! A control plane on a SQLite file.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::certificates::Certificate;
use crate::{eventually, free_port, program};

/// A database with the environment `shop/production`, in which the flag `n` is a number.
pub(crate) struct Plane {
    folder: tempfile::TempDir,
    admin: String,
    /// What the environment's texts are signed with.
    pub(crate) key: String,
}

/// A process on it; dropped, it is killed.
pub(crate) struct Replica {
    child: Child,
    pub(crate) port: u16,
    management: u16,
    admin: String,
}

impl Drop for Replica {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Plane {
    pub(crate) fn new() -> Self {
        let mut plane = Self { folder: tempfile::tempdir().unwrap(), admin: String::new(), key: String::new() };
        let output = plane.command("init").output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        plane.admin = String::from_utf8(output.stdout).unwrap().trim().to_owned();
        let replica = plane.serve(free_port());
        replica.tell("POST", "/projects", &json!({"key": "shop"}));
        let made = replica.tell("POST", "/projects/shop/environments", &json!({"key": "production"}));
        made["publicKey"].as_str().unwrap().clone_into(&mut plane.key);
        let variants: serde_json::Map<String, Value> = (0..100).map(|n| (format!("v{n}"), json!(n))).collect();
        let flag = json!({"key": "n", "type": "number", "variants": variants});
        replica.tell("POST", "/projects/shop/flags", &flag);
        replica.set(1);
        let made = json!({"name": "hosts", "scope": "sync", "project": "shop", "environment": "production"});
        let token = replica.tell("POST", "/tokens", &made);
        std::fs::write(plane.token_file(), token["token"].as_str().unwrap()).unwrap();
        plane
    }

    pub(crate) fn token_file(&self) -> PathBuf {
        self.folder.path().join("token")
    }

    /// What flagsd is told to follow it at a port.
    pub(crate) fn source(&self, port: u16) -> String {
        self.source_by("http", port)
    }

    /// The same over `http` or `https`.
    pub(crate) fn source_by(&self, scheme: &str, port: u16) -> String {
        let (place, token_file) = (format!("127.0.0.1:{port}/shop/production"), self.token_file());
        format!("control+{scheme}://{place}?token-file={}&key={}", token_file.display(), self.key)
    }

    pub(crate) fn serve(&self, port: u16) -> Replica {
        self.serve_with(port, "")
    }

    /// One with TLS, that serves hosts with a certificate of `client_ca` alone.
    pub(crate) fn serve_certified(&self, port: u16, own: &Certificate, client_ca: &Path) -> Replica {
        let tls =
            format!("[tls]\ncertificate = {:?}\nkey = {:?}\nclient_ca = {client_ca:?}\n", own.certificate, own.key);
        self.serve_with(port, &tls)
    }

    /// A replica with this configuration file.
    fn serve_with(&self, port: u16, settings: &str) -> Replica {
        let config = self.folder.path().join(format!("control-{port}.toml"));
        std::fs::write(&config, settings).unwrap();
        let management = free_port();
        let mut command = self.command("serve");
        command.arg("--config").arg(config);
        command.arg("--listen").arg(format!("127.0.0.1:{port}")).arg("--log-level").arg("error");
        command.arg("--management").arg(format!("127.0.0.1:{management}"));
        let child = command.stdout(Stdio::null()).spawn().unwrap();
        let replica = Replica { child, port, management, admin: self.admin.clone() };
        eventually("the control plane is ready", || ask("GET", management, "/readyz", "", None).0 == 200);
        replica
    }

    /// A copy of its database.
    pub(crate) fn back_up(&self) -> PathBuf {
        let copy = self.folder.path().join("copy");
        let output = self.command("backup").arg(&copy).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        copy
    }

    /// Puts a copy in the place of its database, which nobody serves meanwhile.
    pub(crate) fn restore(&self, copy: &Path) {
        let output = self.command("restore").arg(copy).arg("--replace").output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    fn command(&self, what: &str) -> Command {
        let mut command = Command::new(program("flags-control").unwrap());
        let database = format!("sqlite:{}", self.folder.path().join("db").display());
        command.arg(what).env("FLAGS_CONTROL_DATABASE", database);
        command
    }
}

impl Replica {
    /// Gives the flag `n` a value below 100.
    pub(crate) fn set(&self, n: i64) {
        let path = "/projects/shop/environments/production/flags/n";
        self.tell("PATCH", path, &json!({"state": "ENABLED", "defaultVariant": format!("v{n}")}));
    }

    /// Makes an id list, which no state of the environment is whole without from now on.
    pub(crate) fn upload(&self, list: &str, ids: &str) {
        let path = "/projects/shop/environments/production/segments";
        self.tell("POST", path, &json!({"key": list, "kind": "list"}));
        let url = format!("http://127.0.0.1:{}/api/v1{path}/{list}/ids", self.port);
        let request = ureq::put(url).header("authorization", format!("Bearer {}", self.admin));
        let request = request.header("content-type", "text/plain").header("if-match", "*");
        assert_eq!(request.send(ids).unwrap().status(), 200);
    }

    /// What hosts have said they published.
    pub(crate) fn hosts(&self) -> Vec<Value> {
        let path = "/api/v1/projects/shop/environments/production/hosts";
        let (status, text) = ask("GET", self.port, path, &self.admin, None);
        assert_eq!(status, 200, "{text}");
        serde_json::from_str::<Value>(&text).unwrap()["items"].as_array().unwrap().clone()
    }

    /// Patches the metadata of the flag set.
    pub(crate) fn describe(&self, metadata: &Value) {
        self.tell("PATCH", "/projects/shop/environments/production", &json!({"metadata": metadata}));
    }

    /// The environment as a flagd file.
    pub(crate) fn export(&self) -> String {
        let path = "/api/v1/projects/shop/environments/production/export?compiled=true";
        let (status, text) = ask("GET", self.port, path, &self.admin, None);
        assert_eq!(status, 200, "{text}");
        text
    }

    /// The snapshot's text.
    pub(crate) fn snapshot(&self) -> String {
        ask("GET", self.port, "/sync/v1/shop/production/snapshot", &self.admin, None).1
    }

    /// A number of its metrics, 0 where it does not stand there.
    pub(crate) fn metric(&self, sample: &str) -> f64 {
        let text = ask("GET", self.management, "/metrics", "", None).1;
        let value = text.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
        value.map_or(0.0, |value| value.parse().unwrap())
    }

    /// The lines of its metrics that begin so.
    pub(crate) fn metrics(&self, beginning: &str) -> Vec<String> {
        let text = ask("GET", self.management, "/metrics", "", None).1;
        text.lines().filter(|line| line.starts_with(beginning)).map(str::to_owned).collect()
    }

    pub(crate) fn tell(&self, method: &str, path: &str, body: &Value) -> Value {
        let (status, text) = ask(method, self.port, &format!("/api/v1{path}"), &self.admin, Some(body.to_string()));
        assert!((200..300).contains(&status), "{method} {path}: {status} {text}");
        serde_json::from_str(&text).unwrap()
    }
}

/// Status and text of an answer; status 0 where there is none.
pub(crate) fn ask(method: &str, port: u16, path: &str, token: &str, body: Option<String>) -> (u16, String) {
    let agent: ureq::Agent =
        ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(crate::PATIENCE)).build().into();
    let mut request = ureq::http::Request::builder().method(method).uri(format!("http://127.0.0.1:{port}{path}"));
    if !token.is_empty() {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    let answer = match body {
        Some(body) => agent.run(request.body(body).unwrap()),
        None => agent.run(request.body(()).unwrap()),
    };
    match answer {
        Ok(mut answer) => (answer.status().as_u16(), answer.body_mut().read_to_string().unwrap_or_default()),
        Err(_) => (0, String::new()),
    }
}

/// Lays the snapshot where a file server finds it.
pub(crate) fn lay_out(snapshot: &str, root: &Path) {
    let folder = root.join("sync/v1/shop/production");
    std::fs::create_dir_all(&folder).unwrap();
    let fresh = folder.join("snapshot.new");
    std::fs::write(&fresh, snapshot).unwrap();
    std::fs::rename(fresh, folder.join("snapshot")).unwrap();
}
