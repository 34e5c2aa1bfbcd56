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

    /// Starts flagsd and waits until it says that it is ready.
    pub(crate) fn start_daemon(&self) -> Result<Program> {
        let address = self.folder.path().join("ready");
        let _ = fs::remove_file(&address);
        let socket = UnixDatagram::bind(&address).context("cannot make a socket")?;
        socket.set_read_timeout(Some(Duration::from_millis(50)))?;
        let log = fs::OpenOptions::new().create(true).append(true).open(self.log())?;
        let mut command = Command::new(Build::DEBUG.file("flagsd"));
        command.arg("run").arg("--store").arg(self.store());
        command.arg("--source").arg(format!("file:{}", self.file().display()));
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

    fn said(&self) -> String {
        fs::read_to_string(self.log()).unwrap_or_default()
    }
}

/// Asks flagsd to end (SIGTERM), and is an error unless it ends well.
pub(crate) fn stop(daemon: &mut Program) -> Result<()> {
    kill(Pid::from_raw(daemon.pid().cast_signed()), Signal::SIGTERM).context("cannot signal flagsd")?;
    let status = daemon.wait(PATIENCE)?;
    ensure!(status.success(), "flagsd ended with {status} on SIGTERM");
    Ok(())
}

/// Replaces a file as editors and deployments do: written beside it, then renamed.
pub(crate) fn replace(file: &Path, text: &str) -> Result<()> {
    let next = file.with_extension("next");
    fs::write(&next, text)
        .and_then(|()| fs::rename(&next, file))
        .with_context(|| format!("cannot replace {}", file.display()))
}
