//! `cargo xtask demo`: one flag file, one flagsd, and four programs in four languages that see it change, and go on when flagsd
//! is killed.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use crate::daemon::{self, Host, PATIENCE};
use crate::doctor;
use crate::languages::Build;
use crate::process::{self, Program};

/// How many checks each program must make to show that it goes on answering.
const STEADY_CHECKS: u64 = 300;

pub(crate) fn run() -> Result<()> {
    doctor::provide()?;
    let start = Instant::now();
    heading("Build flagsd, the library for each language, and one small program in each");
    Build::DEBUG.packages(&["flagsd", "libflags-ffi", "libflags-python", "libflags-examples"])?;
    let examples = process::root().join("examples");
    let programs = process::scratch("demo")?;
    Build::DEBUG.compile(&examples.join("c/watch.c"), &programs.join("watch-c"))?;
    Build::DEBUG.compile(&examples.join("cpp/watch.cpp"), &programs.join("watch-cpp"))?;
    let python_path = Build::DEBUG.python_path()?;
    say(format_args!("{:.1} s; the sources are in examples/", start.elapsed().as_secs_f64()));

    let mut definition: Value = serde_json::from_str(&fs::read_to_string(examples.join("flags.json"))?)?;
    let host = Host::new(&definition.to_string())?;

    heading("Start flagsd, without root, on a flag file");
    let start = Instant::now();
    let mut flagsd = host.start_daemon()?;
    say(format_args!("flagsd (pid {}) reads {}", flagsd.pid(), host.file().display()));
    say(format_args!("and was ready, its flags in {}, after {}", host.store().display(), ms(start.elapsed())));

    heading("Start a program in each language; each checks two flags a thousand times a second");
    let start = Instant::now();
    let mut python = Command::new("python3");
    python.arg(examples.join("python/watch.py")).env("PYTHONPATH", python_path);
    let mut watchers = [
        Watcher::start("Rust", Command::new(Build::DEBUG.file("watch")), &host.store())?,
        Watcher::start("C", Command::new(programs.join("watch-c")), &host.store())?,
        Watcher::start("C++", Command::new(programs.join("watch-cpp")), &host.store())?,
        Watcher::start("Python", python, &host.store())?,
    ];
    all_see(&mut watchers, "new-checkout=false greeting=Hello", start)?;

    heading("Edit the file: new-checkout is on for users in Germany");
    definition["flags"]["new-checkout"]["targeting"] = json!({"if": [{"==": [{"var": "country"}, "DE"]}, "on", "off"]});
    let start = Instant::now();
    daemon::replace(&host.file(), &definition.to_string())?;
    all_see(&mut watchers, "new-checkout=true greeting=Hello", start)?;

    heading("Kill flagsd with SIGKILL: nobody notices");
    flagsd.kill();
    say(format_args!("flagsd (pid {}) is gone", flagsd.pid()));
    all_go_on(&mut watchers, "new-checkout=true greeting=Hello")?;

    heading("Start flagsd again");
    let start = Instant::now();
    let mut flagsd = host.start_daemon()?;
    say(format_args!("flagsd (pid {}) was ready after {}", flagsd.pid(), ms(start.elapsed())));
    all_go_on(&mut watchers, "new-checkout=true greeting=Hello")?;

    heading("Edit the file again: a warmer greeting");
    definition["flags"]["greeting"]["defaultVariant"] = json!("warm");
    let start = Instant::now();
    daemon::replace(&host.file(), &definition.to_string())?;
    all_see(&mut watchers, "new-checkout=true greeting=Welcome back", start)?;

    heading("Stop flagsd and the programs");
    daemon::stop(&mut flagsd)?;
    drop(watchers);
    say(format_args!("everything happened as it should"));
    Ok(())
}

fn heading(text: &str) {
    println!("\n{text}");
}

fn say(text: std::fmt::Arguments<'_>) {
    println!("  {text}");
}

fn ms(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1e3)
}

/// A program that prints its answers when they change, and now and then how often it has checked.
struct Watcher {
    language: &'static str,
    program: Program,
    lines: Receiver<(Instant, String)>,
    /// What it answered last, and when we heard of it.
    answers: (Instant, String),
    checks: u64,
}

impl Watcher {
    fn start(language: &'static str, mut command: Command, store: &Path) -> Result<Self> {
        command.env("FLAGS_STORE", store).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut program = Program::start(language, &mut command)?;
        let output = program.stdout().context("its stdout is piped")?;
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if sender.send((Instant::now(), line)).is_err() {
                    break;
                }
            }
        });
        Ok(Self { language, program, lines, answers: (Instant::now(), String::new()), checks: 0 })
    }

    /// Takes in the next line; an error where none comes before `deadline`, or the program has ended.
    fn hear(&mut self, deadline: Instant) -> Result<()> {
        match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok((time, line)) => self.take_in(time, line),
            Err(RecvTimeoutError::Timeout) => bail!("the program in {} has said nothing for too long", self.language),
            Err(RecvTimeoutError::Disconnected) => {
                let status = self.program.wait(PATIENCE)?;
                bail!("the program in {} ended ({status})", self.language);
            }
        }
    }

    fn take_in(&mut self, time: Instant, line: String) -> Result<()> {
        match line.strip_prefix("checks ") {
            Some(checks) => self.checks = checks.parse().context("a number of checks")?,
            None => self.answers = (time, line),
        }
        Ok(())
    }
}

/// Waits until every program answers `wanted`, and says how long after `start` each did.
fn all_see(watchers: &mut [Watcher], wanted: &str, start: Instant) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    for watcher in watchers {
        while watcher.answers.1 != wanted {
            let answers = watcher.answers.1.clone();
            watcher.hear(deadline).with_context(|| format!("waiting for {wanted:?} after {answers:?}"))?;
            ensure!(Instant::now() < deadline, "{} still answers {answers:?}, not {wanted:?}", watcher.language);
        }
        let (time, answers) = &watcher.answers;
        say(format_args!("{:<8}{answers:<42}{:>10}", watcher.language, ms(time.saturating_duration_since(start))));
    }
    Ok(())
}

/// Waits until every program has checked many times more, all with the answers it has.
fn all_go_on(watchers: &mut [Watcher], wanted: &str) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    for watcher in watchers {
        // Counts it printed before now prove nothing.
        while let Ok((time, line)) = watcher.lines.try_recv() {
            watcher.take_in(time, line)?;
        }
        let before = watcher.checks;
        while watcher.checks < before + STEADY_CHECKS {
            watcher.hear(deadline)?;
            ensure!(
                watcher.answers.1 == wanted,
                "{} now answers {:?}, not {wanted:?}",
                watcher.language,
                watcher.answers.1
            );
        }
        say(format_args!("{:<8}{wanted:<42}{:>6} more checks", watcher.language, watcher.checks - before));
    }
    Ok(())
}
