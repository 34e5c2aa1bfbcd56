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

    /// A hot standby that follows this server.
    pub(crate) fn standby(&self) -> Self {
        let folder = tempfile::tempdir().unwrap();
        if is_root() {
            std::fs::set_permissions(folder.path(), Permissions::from_mode(0o777)).unwrap();
        }
        let data = folder.path().join("data");
        let (programs, port) = (self.programs.clone(), free_port());
        let mut standby = Self { port, programs, data, child: None, _folder: folder };
        let from = format!("host=127.0.0.1 port={} user=flags", self.port);
        let mut copy = standby.command("pg_basebackup");
        copy.args([
            "--dbname",
            &from,
            "--write-recovery-conf",
            "--wal-method=stream",
            "--checkpoint=fast",
            "--no-sync",
        ]);
        let made = copy.arg("--pgdata").arg(&standby.data).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        standby.run();
        standby
    }

    /// From now on nothing is acknowledged before a standby has it.
    pub(crate) fn wait_for_standby(&self) {
        self.tell("ALTER SYSTEM SET synchronous_standby_names = '*'");
        self.tell("SELECT pg_reload_conf()");
        let sql = "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'";
        eventually("the standby is synchronous", || self.client().query_one(sql, &[]).unwrap().get::<_, i64>(0) == 1);
    }

    /// Lets a standby hear nothing more of its primary.
    pub(crate) fn cut_off(&self) {
        self.tell("ALTER SYSTEM SET primary_conninfo = ''");
        self.tell("SELECT pg_reload_conf()");
        eventually("it follows nobody", || self.number("SELECT count(*) FROM pg_stat_wal_receiver") == 0);
    }

    /// Whether it has everything of a primary.
    pub(crate) fn has_all_of(&self, primary: &Self) -> bool {
        let written: String = primary.client().query_one("SELECT pg_current_wal_lsn()::text", &[]).unwrap().get(0);
        self.number(&format!("SELECT count(*) WHERE pg_last_wal_replay_lsn() >= '{written}'")) == 1
    }

    /// Makes a standby the primary, as an operator or a cluster manager does.
    pub(crate) fn promote(&self) {
        // What the copy brought along of the primary's settings: nobody follows this one yet.
        self.tell("ALTER SYSTEM RESET synchronous_standby_names");
        self.tell("SELECT pg_reload_conf()");
        self.tell("SELECT pg_promote()");
    }

    /// Starts it anew, with TLS for who wants it.
    pub(crate) fn encrypt(&mut self, certificate: &Path, key: &Path) {
        for (from, to, mode) in [(certificate, "server.crt", 0o644), (key, "server.key", 0o600)] {
            let to = self.data.join(to);
            std::fs::copy(from, &to).unwrap();
            std::fs::set_permissions(&to, Permissions::from_mode(mode)).unwrap();
            if is_root() {
                let user = nix::unistd::User::from_name("postgres").unwrap().expect("the user postgres");
                std::os::unix::fs::chown(&to, Some(user.uid.as_raw()), Some(user.gid.as_raw())).unwrap();
            }
        }
        self.tell("ALTER SYSTEM SET ssl = on");
        self.kill();
        self.run();
    }

    /// The program's connections that are encrypted.
    pub(crate) fn encrypted_connections(&self) -> i64 {
        self.connections("ssl")
    }

    /// The program's connections that are not.
    pub(crate) fn plain_connections(&self) -> i64 {
        self.connections("NOT ssl")
    }

    fn connections(&self, which: &str) -> i64 {
        let sql = format!(
            "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE application_name = 'flags-control' AND {which}"
        );
        self.client().query_one(&sql, &[]).unwrap().get(0)
    }

    /// What a query for one number finds.
    pub(crate) fn number(&self, sql: &str) -> i64 {
        self.client().query_one(sql, &[]).unwrap().get(0)
    }

    fn tell(&self, sql: &str) {
        self.client().batch_execute(sql).unwrap();
    }

    fn client(&self) -> ::postgres::Client {
        ::postgres::Client::connect(&self.url(), ::postgres::NoTls).unwrap()
    }

    /// Stops the server's processes where they are, or lets them go on: a machine that hangs.
    pub(crate) fn freeze(&self, frozen: bool) {
        use nix::sys::signal::Signal::{SIGCONT, SIGSTOP};
        let postmaster = self.child.as_ref().unwrap().id();
        for pid in children(postmaster).into_iter().chain([postmaster]) {
            signal(pid, if frozen { SIGSTOP } else { SIGCONT });
        }
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
        use nix::sys::signal::Signal::{SIGKILL, SIGSTOP};
        if let Some(mut child) = self.child.take() {
            // Stopped, it starts no others while these are killed.
            signal(child.id(), SIGSTOP);
            for pid in children(child.id()) {
                signal(pid, SIGKILL);
            }
            let _ = child.kill();
            let _ = child.wait();
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

/// The processes that a process started, by what the kernel says.
fn children(of: u32) -> Vec<u32> {
    let text = std::fs::read_to_string(format!("/proc/{of}/task/{of}/children")).unwrap_or_default();
    text.split_whitespace().map(|pid| pid.parse().unwrap()).collect()
}

fn signal(pid: u32, signal: nix::sys::signal::Signal) {
    // It may have ended by itself.
    let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(i32::try_from(pid).unwrap()), signal);
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
