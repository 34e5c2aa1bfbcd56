//! Programs this one starts, and that never outlive it.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

/// The process groups of the programs that are running. Each program is started as the leader of its own group, so that what
/// it starts itself ends with it.
static RUNNING: Mutex<BTreeSet<i32>> = Mutex::new(BTreeSet::new());

/// Folders to remove when this program ends.
static FOLDERS: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

fn locked<T>(list: &Mutex<T>) -> MutexGuard<'_, T> {
    list.lock().unwrap_or_else(PoisonError::into_inner)
}

/// From now on Ctrl-C and SIGTERM end this program's children first.
pub(crate) fn end_children_on_signals() -> Result<()> {
    let mut signals = signal_hook::iterator::Signals::new([SIGHUP, SIGINT, SIGTERM]).context("cannot watch signals")?;
    thread::spawn(move || {
        if let Some(signal) = signals.forever().next() {
            // Both stay locked: nothing is started or made any more.
            let (groups, folders) = (locked(&RUNNING), locked(&FOLDERS));
            for group in &*groups {
                let _ = killpg(Pid::from_raw(*group), Signal::SIGKILL);
            }
            for folder in &*folders {
                let _ = std::fs::remove_dir_all(folder);
            }
            eprintln!("\nstopped by signal {signal}");
            std::process::exit(128 + signal);
        }
    });
    Ok(())
}

/// A running program with everything it started, killed when this is dropped.
pub(crate) struct Program {
    name: String,
    child: Child,
    ended: bool,
}

impl Program {
    /// Starts `command`. `name` is what messages call it.
    pub(crate) fn start(name: &str, command: &mut Command) -> Result<Self> {
        // The list is locked before the start, so that a signal in between finds the new program in it.
        let mut list = locked(&RUNNING);
        let child = command
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start {name} ({})", command.get_program().display()))?;
        list.insert(pid_of(&child));
        Ok(Self { name: name.to_owned(), child, ended: false })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What the program prints, where its stdout was piped and nobody has taken it yet.
    pub(crate) fn stdout(&mut self) -> Option<std::process::ChildStdout> {
        self.child.stdout.take()
    }

    /// How it ended, `None` while it runs.
    pub(crate) fn poll(&mut self) -> Result<Option<ExitStatus>> {
        let status = self.child.try_wait().with_context(|| format!("cannot wait for {}", self.name))?;
        if status.is_some() {
            self.forget();
        }
        Ok(status)
    }

    /// Waits until it ends; kills it after `limit`.
    pub(crate) fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.poll()? {
                return Ok(status);
            }
            if Instant::now() > deadline {
                self.kill();
                bail!("{} did not end within {} s and was killed", self.name, limit.as_secs());
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// SIGKILL: no chance to tidy up.
    pub(crate) fn kill(&mut self) {
        if !self.ended {
            let _ = killpg(Pid::from_raw(pid_of(&self.child)), Signal::SIGKILL);
            let _ = self.child.wait();
            self.forget();
        }
    }

    fn forget(&mut self) {
        self.ended = true;
        locked(&RUNNING).remove(&pid_of(&self.child));
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A folder of its own for a short time, removed when this is dropped or the program is stopped by a signal.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new() -> Result<Self> {
        let folder = std::env::temp_dir().join(format!("libflags-{}", std::process::id()));
        let mut list = locked(&FOLDERS);
        std::fs::create_dir(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        list.insert(folder.clone());
        Ok(Self(folder))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
        locked(&FOLDERS).remove(&self.0);
    }
}

fn pid_of(child: &Child) -> i32 {
    child.id().cast_signed()
}

/// Runs `command` to its end with everything it says in the file `log`, and kills it after `limit`.
pub(crate) fn run_logged(name: &str, command: &mut Command, log: &Path, limit: Duration) -> Result<ExitStatus> {
    let output = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
    let errors = output.try_clone().context("cannot duplicate a file descriptor")?;
    command.stdin(Stdio::null()).stdout(output).stderr(errors);
    Program::start(name, command)?.wait(limit)
}

/// Runs `command` to its end, its output where ours goes; an error when it fails.
pub(crate) fn run(name: &str, command: &mut Command) -> Result<()> {
    run_within(name, command, Duration::from_secs(3600))
}

/// The same; kills it after `limit`.
pub(crate) fn run_within(name: &str, command: &mut Command, limit: Duration) -> Result<()> {
    let status = Program::start(name, command.stdin(Stdio::null()))?.wait(limit)?;
    if !status.success() {
        bail!("{name} failed: {status}");
    }
    Ok(())
}

/// What `command` prints, `None` where it cannot be run or fails.
pub(crate) fn output_of<S: AsRef<OsStr>>(program: &str, arguments: impl IntoIterator<Item = S>) -> Option<String> {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    output.status.success().then_some(text)
}

/// The cargo that runs us.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}

/// The top of the checkout.
pub(crate) fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_path_buf()
}

/// Where cargo puts what it builds.
pub(crate) fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), |path| root().join(path))
}

/// A folder of our own under the target folder.
pub(crate) fn scratch(name: &str) -> Result<PathBuf> {
    let folder = target().join("xtask").join(name);
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    Ok(folder)
}
