//! flagsd, started without root on a file and a store of its own.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::languages::Build;
use crate::process::{Program, Scratch};

/// How long anything may take before it counts as not happening at all.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A folder with a definition file, the store that flagsd publishes it in, and flagsd's own state.
pub(crate) struct Host {
    folder: Scratch,
}

impl Host {
    pub(crate) fn new(definition: &str) -> Result<Self> {
        let host = Self { folder: Scratch::new()? };
        fs::write(host.file(), definition).context("cannot write the definition file")?;
        Ok(host)
    }

    /// The flag definition file.
    pub(crate) fn file(&self) -> PathBuf {
        self.folder.path().join("flags.json")
    }

    /// What clients read: for `$FLAGS_STORE`.
    pub(crate) fn store(&self) -> PathBuf {
        self.folder.path().join("store")
    }

    /// What flagsd says.
    fn log(&self) -> PathBuf {
        self.folder.path().join("flagsd.log")
    }

    /// For whatever else belongs to this host.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Starts flagsd on the definition file and waits until it says that it is ready.
    pub(crate) fn start_daemon(&self) -> Result<Program> {
        self.start_daemon_on(&format!("file:{}", self.file().display()))
    }

    /// The same on another source.
    pub(crate) fn start_daemon_on(&self, source: &str) -> Result<Program> {
        let address = self.folder.path().join("ready");
        let _ = fs::remove_file(&address);
        let socket = UnixDatagram::bind(&address).context("cannot make a socket")?;
        socket.set_read_timeout(Some(Duration::from_millis(50)))?;
        let log = fs::OpenOptions::new().create(true).append(true).open(self.log())?;
        let mut command = Command::new(Build::DEBUG.file("flagsd"));
        command.arg("run").arg("--store").arg(self.store());
        command.arg("--source").arg(source);
        command.arg("--state-dir").arg(self.folder.path().join("state"));
        command.env("NOTIFY_SOCKET", &address).current_dir(self.folder.path());
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let mut daemon = Program::start("flagsd", &mut command)?;
        let deadline = Instant::now() + PATIENCE;
        let mut message = [0; 4096];
        loop {
            if let Ok(length) = socket.recv(&mut message)
                && message[..length].split(|byte| *byte == b'\n').any(|line| line == b"READY=1")
            {
                return Ok(daemon);
            }
            if let Some(status) = daemon.poll()? {
                bail!("flagsd ended at once ({status}):\n{}", self.said());
            }
            if Instant::now() > deadline {
                bail!("flagsd is not ready after {} s:\n{}", PATIENCE.as_secs(), self.said());
            }
        }
    }

    /// Waits until something is published.
    pub(crate) fn wait_for_flags(&self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        let is_segment = |entry: &fs::DirEntry| entry.file_name().to_string_lossy().starts_with("segment-");
        while !fs::read_dir(self.store().join("v1"))
            .is_ok_and(|entries| entries.flatten().any(|entry| is_segment(&entry)))
        {
            ensure!(Instant::now() < deadline, "nothing is published after {} s:\n{}", PATIENCE.as_secs(), self.said());
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    fn said(&self) -> String {
        fs::read_to_string(self.log()).unwrap_or_default()
    }
}

/// Asks a daemon to end (SIGTERM), and is an error unless it ends well.
pub(crate) fn stop(daemon: &mut Program) -> Result<()> {
    kill(Pid::from_raw(daemon.pid().cast_signed()), Signal::SIGTERM).context("cannot signal it")?;
    let status = daemon.wait(PATIENCE)?;
    ensure!(status.success(), "it ended with {status} on SIGTERM");
    Ok(())
}
