//! Processes under test: workers that say how far they are, what the system says of them, and a watchdog over all.
//!
//! A worker (`store-reader`, `store-writer`, and their like in C and Python) works until its standard input ends, and says
//! `progress SLOWEST GENERATION TOTAL` on its standard output every few milliseconds: what its slowest thread has done so
//! far, the generation that thread is at, and what all of them have done.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::{Pid, getppid};
use tempfile::TempDir;

/// A process that works and reports. Dropping it kills it.
#[derive(Debug)]
pub struct Worker {
    name: String,
    child: Child,
    stdin: Option<ChildStdin>,
    progress: Arc<Mutex<Progress>>,
    listener: Option<JoinHandle<()>>,
}

/// How far a worker is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// What its slowest thread has done: evaluations, or publications.
    pub slowest: u64,
    /// The generation that thread is at.
    pub generation: u64,
    /// What all its threads have done.
    pub total: u64,
}

impl Worker {
    /// Starts a worker; what it has to complain of goes to our own standard error.
    ///
    /// # Panics
    /// Where it does not start.
    pub fn start(name: impl Into<String>, mut command: Command) -> Self {
        let name = name.into();
        let child = die_with_us(command.stdin(Stdio::piped()).stdout(Stdio::piped())).spawn();
        let mut child = child.unwrap_or_else(|error| panic!("{name} does not start: {error}"));
        locked(&RUNNING).insert(child.id());
        let stdout = child.stdout.take().expect("it was asked for");
        let progress = Arc::new(Mutex::new(Progress::default()));
        let heard = Arc::clone(&progress);
        let listener = thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if let Some(news) = Progress::parse(&line) {
                    *locked(&heard) = news;
                }
            }
        });
        Self { name, stdin: child.stdin.take(), child, progress, listener: Some(listener) }
    }

    /// What it is called in messages.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How far it was when it last said so.
    #[must_use]
    pub fn progress(&self) -> Progress {
        *locked(&self.progress)
    }

    /// Whether it still runs.
    ///
    /// # Panics
    /// Where the system does not tell.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("a child can be waited for").is_none()
    }

    /// Ends it in order, and gives how far it came.
    ///
    /// # Panics
    /// Where it reports a failure by its exit status.
    pub fn finish(mut self) -> Progress {
        drop(self.stdin.take());
        let status = self.wait();
        assert!(status.success(), "{}: {status}", self.name);
        self.progress()
    }

    /// Waits for its own end.
    ///
    /// # Panics
    /// Where the system does not tell.
    pub fn wait(&mut self) -> ExitStatus {
        let status = self.child.wait().expect("a child can be waited for");
        locked(&RUNNING).remove(&self.child.id());
        if let Some(listener) = self.listener.take() {
            listener.join().expect("the listener ends");
        }
        status
    }

    /// Ends it with SIGKILL.
    ///
    /// # Panics
    /// Where it had already ended otherwise.
    pub fn kill(mut self) {
        self.signal(Signal::SIGKILL);
        let status = self.wait();
        assert_eq!(status.signal(), Some(Signal::SIGKILL as i32), "{} had ended by itself: {status}", self.name);
    }

    /// The same for one that may have ended otherwise: how it did.
    #[must_use]
    pub fn killed(mut self) -> ExitStatus {
        // It may be gone already.
        let _ = kill(self.pid(), Signal::SIGKILL);
        self.wait()
    }

    /// Stops all its threads, and returns when they stand.
    ///
    /// # Panics
    /// Where it has ended.
    pub fn stop(&self) {
        self.signal(Signal::SIGSTOP);
        // Its end is left to be waited for by `wait`.
        let flags = WaitPidFlag::WSTOPPED | WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
        let status = waitid(Id::Pid(self.pid()), flags);
        assert!(matches!(status, Ok(WaitStatus::Stopped(..))), "{} does not stop: {status:?}", self.name);
        let consumed = waitid(Id::Pid(self.pid()), WaitPidFlag::WSTOPPED);
        assert!(consumed.is_ok(), "{}: {consumed:?}", self.name);
    }

    /// Lets it go on.
    pub fn go_on(&self) {
        self.signal(Signal::SIGCONT);
    }

    /// Its memory at one instant, for which it is stopped.
    #[must_use]
    pub fn memory(&self) -> Memory {
        self.stop();
        let memory = Memory::of(self.child.id());
        self.go_on();
        memory
    }

    /// Sends it a signal.
    ///
    /// # Panics
    /// Where it has been waited for.
    pub fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).unwrap_or_else(|error| panic!("{} cannot be sent {signal}: {error}", self.name));
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if locked(&RUNNING).remove(&self.child.id()) {
            // It may have ended by itself.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

impl Progress {
    fn parse(line: &str) -> Option<Self> {
        let mut numbers = line.strip_prefix("progress ")?.split(' ').map(str::parse);
        let mut next = || numbers.next()?.ok();
        Some(Self { slowest: next()?, generation: next()?, total: next()? })
    }
}

/// Waits until each of these workers has gone on from where it is now, and answers from `generation`.
///
/// # Panics
/// Where one ends, or stops at another.
pub fn all_go_on(workers: &mut [Worker], generation: u64) {
    let before: Vec<_> = workers.iter().map(Worker::progress).collect();
    for (worker, before) in workers.iter_mut().zip(before) {
        let name = worker.name().to_owned();
        eventually(&format!("{name} going on at generation {generation}"), || {
            assert!(worker.is_running(), "{name} has ended");
            let now = worker.progress();
            now.slowest > before.slowest && now.generation == generation
        });
    }
}

/// What a process holds of memory and files.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    /// The generations it has mapped.
    pub generations: BTreeSet<u64>,
    /// How many mappings it has in all.
    pub mappings: usize,
    /// What it has of its own in memory.
    pub anonymous_kib: u64,
    /// What it has in memory at all, shared or not.
    pub resident_kib: u64,
    /// How many files it has open.
    pub files: usize,
}

impl Memory {
    /// What the system says of a process.
    ///
    /// # Panics
    /// Where there is no such process.
    #[must_use]
    pub fn of(pid: u32) -> Self {
        let read = |name: &str| fs::read_to_string(format!("/proc/{pid}/{name}")).expect("a process tells of itself");
        let (maps, status) = (read("maps"), read("status"));
        Self {
            generations: maps.lines().filter_map(mapped_generation).collect(),
            mappings: maps.lines().count(),
            anonymous_kib: kib(&status, "RssAnon:").unwrap_or_default(),
            resident_kib: kib(&status, "VmRSS:").unwrap_or_default(),
            files: fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count),
        }
    }
}

/// The generation whose segment a line of `maps` names.
fn mapped_generation(line: &str) -> Option<u64> {
    let (_, name) = line.rsplit_once("/segment-")?;
    name.trim_end_matches(" (deleted)").parse().ok()
}

/// The kibibytes after a name in a file such as `/proc/PID/status`.
#[must_use]
pub fn kib(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

/// Has a program killed when the thread that starts it ends, however that comes about: also where nobody could tidy up any
/// more.
pub fn die_with_us(command: &mut Command) -> &mut Command {
    let parent = std::process::id();
    let follow = move || {
        set_pdeathsig(Signal::SIGKILL)?;
        // Nobody tells of a parent that died before.
        if getppid().as_raw().cast_unsigned() == parent { Ok(()) } else { Err(std::io::ErrorKind::NotFound.into()) }
    };
    // SAFETY: it makes two system calls, which a child of a fork may, and touches no memory of others.
    unsafe { command.pre_exec(follow) }
}

/// Ends a test that hangs, and all its workers.
#[derive(Debug)]
pub struct Watchdog {
    _disarm: Sender<()>,
}

impl Watchdog {
    /// Aborts this process unless the watchdog is dropped within `limit`.
    #[must_use]
    pub fn start(limit: Duration) -> Self {
        let (disarm, disarmed) = channel::<()>();
        let test = thread::current().name().unwrap_or("a test").to_owned();
        thread::spawn(move || {
            if disarmed.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) {
                // Past the test harness, which keeps what is printed to itself.
                let _ = writeln!(std::io::stderr(), "watchdog: {test} hangs after {limit:?}");
                for pid in locked(&RUNNING).iter() {
                    let _ = kill(Pid::from_raw(pid.cast_signed()), Signal::SIGKILL);
                }
                std::process::abort();
            }
        });
        Self { _disarm: disarm }
    }
}

/// Waits for something that comes by itself.
///
/// # Panics
/// Where it does not come within minutes: it never will.
pub fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(120);
    while !is_so() {
        assert!(Instant::now() < deadline, "still waiting for {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// A folder for a store, in memory where the system has such a place; it goes when dropped.
///
/// # Panics
/// Where none can be made.
#[must_use]
pub fn store_folder() -> TempDir {
    let shared = Path::new("/dev/shm");
    let folder = if shared.is_dir() { TempDir::with_prefix_in("flags-test-", shared) } else { TempDir::new() };
    folder.expect("a temporary folder")
}

/// What lies in a store, but for the control page, its lock and segments: nothing, if all is well.
///
/// # Panics
/// Where the store cannot be listed, or has more than the two segments that are kept.
#[must_use]
pub fn leftovers(set: &Path) -> Vec<String> {
    let entries = fs::read_dir(set.join("v1")).expect("the store can be listed");
    let names = entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned());
    let (segments, others): (Vec<_>, Vec<_>) = names.partition(|name| name.starts_with("segment-"));
    assert!(segments.len() <= 2, "{segments:?}");
    others.into_iter().filter(|name| !["control", "lock"].contains(&name.as_str())).collect()
}

/// Worker processes of this one.
static RUNNING: Mutex<BTreeSet<u32>> = Mutex::new(BTreeSet::new());

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_as_they_are_written() {
        assert_eq!(Progress::parse("progress 1 2 3"), Some(Progress { slowest: 1, generation: 2, total: 3 }));
        assert_eq!(Progress::parse("progress 1 2"), None);
        assert_eq!(Progress::parse("other 1 2 3"), None);
        let line = "7f00-7f01 r--s 00000000 00:1a 77 /dev/shm/x/v1/segment-12";
        assert_eq!(mapped_generation(line), Some(12));
        assert_eq!(mapped_generation(&format!("{line} (deleted)")), Some(12));
        assert_eq!(mapped_generation("7f00-7f01 r--s 00000000 00:1a 77 /dev/shm/x/v1/control"), None);
        assert_eq!(kib("RssAnon:\t     120 kB\nRssFile:\t 9 kB\n", "RssFile:"), Some(9));
    }

    #[test]
    fn a_program_dies_with_the_thread_that_started_it() {
        let start = || die_with_us(Command::new("sleep").arg("1000")).spawn().expect("sleep starts");
        let mut orphan = thread::spawn(start).join().expect("the thread ends");
        assert_eq!(orphan.wait().expect("it can be waited for").signal(), Some(Signal::SIGKILL as i32));
    }

    #[test]
    fn a_worker_is_stopped_looked_at_and_killed() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo progress 1 2 3; exec cat"]);
        let worker = Worker::start("cat", command);
        eventually("the report", || worker.progress().total == 3);
        for _ in 0..3 {
            assert!(worker.memory().mappings > 0);
        }
        worker.kill();
        let mut command = Command::new("sh");
        command.args(["-c", "echo progress 4 5 6; exec cat"]);
        assert_eq!(Worker::start("cat", command).finish(), Progress { slowest: 4, generation: 5, total: 6 });
    }
}
