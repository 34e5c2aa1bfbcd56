//! A PostgreSQL server for a measurement: on a free port of loopback, in a folder on the disk, as durable as it comes out of the box.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, User, geteuid};

use super::http::PATIENCE;
use super::plane::free_port;

pub(crate) struct Postgres {
    port: u16,
    child: Child,
}

impl Postgres {
    /// `None` where it is not installed.
    pub(crate) fn start(folder: &Path) -> Result<Option<Self>> {
        let Some(programs) = programs() else { return Ok(None) };
        if geteuid().is_root() {
            // The server refuses to be root, and its user has to get in.
            let mut above = Some(folder);
            while let Some(folder) =
                above.filter(|folder| folder.metadata().is_ok_and(|is| is.permissions().mode() & 1 == 0))
            {
                fs::set_permissions(folder, Permissions::from_mode(0o711))?;
                above = folder.parent();
            }
            fs::set_permissions(folder, Permissions::from_mode(0o777))?;
        }
        let data = folder.join("data");
        let made = command(&programs, "initdb")?
            .arg("--pgdata")
            .arg(&data)
            .args(["--username", "flags", "--auth", "trust", "--encoding", "UTF8"])
            .output()
            .context("cannot run initdb")?;
        ensure!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
        let port = free_port()?;
        let log = fs::File::create(folder.join("postgres.log"))?;
        let mut serve = command(&programs, "postgres")?;
        serve.arg("-D").arg(&data).args(["-k", "", "-c", "listen_addresses=127.0.0.1", "-p"]).arg(port.to_string());
        let child = serve.stdout(log.try_clone()?).stderr(log).spawn().context("cannot start postgres")?;
        let server = Self { port, child };
        let start = Instant::now();
        loop {
            let mut ask = command(&programs, "pg_isready")?;
            ask.args(["-q", "-h", "127.0.0.1", "-p", &port.to_string()]);
            if ask.status().context("cannot run pg_isready")?.success() {
                return Ok(Some(server));
            }
            ensure!(start.elapsed() < PATIENCE, "PostgreSQL does not answer");
            thread::sleep(Duration::from_millis(20));
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("postgres://flags@127.0.0.1:{}/postgres", self.port)
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // SIGQUIT: the whole server ends at once, with all that it started.
        let _ = kill(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGQUIT);
        let _ = self.child.wait();
    }
}

fn command(programs: &Path, program: &str) -> Result<Command> {
    let mut command = Command::new(programs.join(program));
    command.current_dir("/").stdin(Stdio::null());
    if geteuid().is_root() {
        let user =
            User::from_name("postgres")?.context("PostgreSQL is installed, and its user `postgres` is not there")?;
        command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
    }
    Ok(command)
}

/// The newest version's folder of programs.
fn programs() -> Option<PathBuf> {
    let mut folders: Vec<PathBuf> = fs::read_dir("/usr/lib/postgresql")
        .map(|entries| entries.filter_map(|entry| Some(entry.ok()?.path().join("bin"))).collect())
        .unwrap_or_default();
    folders.sort();
    folders.insert(0, PathBuf::from("/usr/bin"));
    folders.into_iter().rev().find(|folder| folder.join("initdb").exists())
}
