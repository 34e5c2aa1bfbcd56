//! A PostgreSQL server of the test's own: on a free port of loopback, in a temporary folder, ended by its pid.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::harness::{eventually, free_port};

pub(crate) struct Postgres {
    pub(crate) port: u16,
    programs: PathBuf,
    data: PathBuf,
    child: Option<Child>,
    _folder: tempfile::TempDir,
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Postgres {
    /// `None` where the programs are not there.
    pub(crate) fn start() -> Option<Self> {
        let programs = programs()?;
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        if is_root() {
            // The server refuses to be root.
            std::fs::set_permissions(folder.path(), Permissions::from_mode(0o777)).unwrap();
        }
        let mut server = Self { port: free_port(), programs, data, child: None, _folder: folder };
        let data = server.data.display().to_string();
        let made = server
            .command("initdb")
            .args(["--pgdata", &data, "--username", "flags", "--auth", "trust", "--no-sync", "--encoding", "UTF8"])
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        server.run();
        Some(server)
    }

    /// Starts it again, after `kill`.
    pub(crate) fn run(&mut self) {
        let (port, data) = (self.port.to_string(), self.data.display().to_string());
        let settings = ["-c", "listen_addresses=127.0.0.1", "-c", "max_connections=50", "-c", "shared_buffers=16MB"];
        let mut command = self.command("postgres");
        command.args(["-D", &data, "-p", &port, "-k", ""]).args(settings);
        self.child = Some(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
        eventually("PostgreSQL answers", || {
            let port = self.port.to_string();
            let mut ask = self.command("pg_isready");
            ask.args(["-q", "-h", "127.0.0.1", "-p", &port]).status().is_ok_and(|status| status.success())
        });
    }

    /// As a machine that loses its power: nothing is said to anybody.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
            // Its children end by themselves when it is gone; the next start waits for that.
            let _ = std::fs::remove_file(self.data.join("postmaster.pid"));
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("postgres://flags@127.0.0.1:{}/postgres", self.port)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.programs.join(program));
        command.current_dir("/");
        if is_root() {
            use std::os::unix::process::CommandExt;
            let user = nix::unistd::User::from_name("postgres").unwrap().expect("the user postgres");
            command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
        }
        command
    }
}

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// The newest version's folder of programs.
fn programs() -> Option<PathBuf> {
    let mut versions: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .map(|entries| entries.filter_map(|entry| Some(entry.ok()?.path().join("bin"))).collect())
        .unwrap_or_default();
    versions.sort();
    versions.push(Path::new("/usr/bin").to_owned());
    versions.into_iter().rev().find(|folder| folder.join("initdb").exists())
}
