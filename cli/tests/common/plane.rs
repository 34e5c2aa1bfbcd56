//! A real flags-control, on SQLite.

use std::{
    io::{BufRead, BufReader},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::OnceLock,
    time::SystemTime,
};

use tempfile::TempDir;

use super::{Run, command, directory, finish, until};

/// flags-control's binary, built if it is not there or older than what it is made from.
fn flags_control() -> Result<PathBuf, String> {
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    BUILT.get_or_init(build_flags_control).clone()
}

fn build_flags_control() -> Result<PathBuf, String> {
    let beside = Path::new(env!("CARGO_BIN_EXE_flagsctl")).with_file_name("flags-control");
    let built = std::fs::metadata(&beside).and_then(|metadata| metadata.modified());
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("");
    let sources =
        ["Cargo.lock", "control/src", "control/migrations", "core/src", "sync/src"].map(|path| newest(&top.join(path)));
    if built.is_ok_and(|built| sources.iter().all(|source| *source < built)) {
        return Ok(beside);
    }
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    build.args(["build", "--quiet", "--locked", "-p", "flags-control"]).current_dir(env!("CARGO_MANIFEST_DIR"));
    if let Some(target) = beside.ancestors().nth(2) {
        build.arg("--target-dir").arg(target);
    }
    let built = build.output().map_err(|error| error.to_string())?;
    if built.status.success() && beside.exists() {
        Ok(beside)
    } else {
        Err(String::from_utf8_lossy(&built.stderr).into_owned())
    }
}

/// When a file, or the newest in a folder, was last changed.
fn newest(path: &Path) -> SystemTime {
    let inside = std::fs::read_dir(path).into_iter().flatten().flatten().map(|entry| newest(&entry.path()));
    let own = std::fs::metadata(path).and_then(|metadata| metadata.modified()).expect("a file of the sources");
    inside.fold(own, SystemTime::max)
}

/// A control plane with a project `shop` and an environment `production`.
pub(crate) struct Plane {
    pub(crate) files: TempDir,
    child: Child,
    pub(crate) url: String,
    pub(crate) admin: String,
}

impl Drop for Plane {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Plane {
    pub(crate) fn start() -> Option<Self> {
        Self::start_with("")
    }

    /// With a configuration file of this content.
    pub(crate) fn start_with(config: &str) -> Option<Self> {
        let binary = match flags_control() {
            Ok(binary) => binary,
            Err(why) => {
                println!("skipped: flags-control cannot be built: {why}");
                return None;
            }
        };
        let files = directory(&[("control.toml", config)]);
        let database = format!("sqlite:{}", files.path().join("db").display());
        let init = Command::new(&binary).args(["init", "--database", &database]).output().expect("it runs");
        let admin = BufReader::new(init.stdout.as_slice()).lines().next().expect("a token").expect("UTF-8");
        // Somebody else may take the port before flags-control does; then it ends, and the next is tried.
        let mut started = None;
        until("a start", || {
            let free = TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a free port");
            let mut child = Command::new(&binary)
                .args(["serve", "--database", &database, "--listen", &free.to_string(), "--config"])
                .arg(files.path().join("control.toml"))
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .expect("flags-control starts");
            until("an end, or an answer", || {
                child.try_wait().expect("a child").is_some() || std::net::TcpStream::connect(free).is_ok()
            });
            let is_up = child.try_wait().expect("a child").is_none();
            if is_up {
                started = Some((child, format!("http://{free}")));
            }
            is_up
        });
        let (child, url) = started?;
        let plane = Self { files, child, url, admin };
        plane.run(&["project", "create", "shop", "--name", "The shop"]).exits(0);
        plane.run(&["env", "create", "production"]).exits(0);
        Some(plane)
    }

    /// flagsctl with a token; nothing of the host's leads it elsewhere.
    pub(crate) fn command(&self, token: Option<&str>, arguments: &[&str]) -> Command {
        let mut command = command(self.files.path(), arguments);
        for name in [
            "FLAGSCTL_PROFILE",
            "FLAGSCTL_CONFIG",
            "FLAGSCTL_TOKEN",
            "http_proxy",
            "HTTP_PROXY",
            "all_proxy",
            "ALL_PROXY",
        ] {
            command.env_remove(name);
        }
        command.env("FLAGSCTL_URL", &self.url).env("XDG_CONFIG_HOME", self.files.path());
        command.env("FLAGSCTL_PROJECT", "shop").env("FLAGSCTL_ENVIRONMENT", "production");
        if let Some(token) = token {
            command.env("FLAGSCTL_TOKEN", token);
        }
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Run {
        self.run_as(Some(&self.admin), arguments)
    }

    pub(crate) fn run_as(&self, token: Option<&str>, arguments: &[&str]) -> Run {
        finish(self.command(token, arguments).spawn().expect("flagsctl starts"))
    }

    /// What a flag does in production.
    pub(crate) fn config(&self, key: &str) -> serde_json::Value {
        self.run(&["flag", "show", key, "--json"]).exits(0).json()["environments"]["production"].take()
    }
}
