//! `cargo xtask demo`: a control plane, one flagsd, and four programs in four languages that see flags change, and go on when everything
//! else is killed.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use crate::control::ControlPlane;
use crate::daemon::{self, Host, PATIENCE};
use crate::doctor;
use crate::languages::Build;
use crate::process::{self, Program};

/// How many checks each program must make to show that it goes on answering.
const STEADY_CHECKS: u64 = 300;

pub(crate) fn run() -> Result<()> {
    doctor::provide()?;
    let start = Instant::now();
    heading("Build the control plane, flagsd, the library for each language, and one small program in each");
    Build::DEBUG.packages(&["flags-control", "flagsd", "libflags-ffi", "libflags-python", "libflags-examples"])?;
    let examples = process::root().join("examples");
    let programs = process::scratch("demo")?;
    Build::DEBUG.compile(&examples.join("c/watch.c"), &programs.join("watch-c"))?;
    Build::DEBUG.compile(&examples.join("cpp/watch.cpp"), &programs.join("watch-cpp"))?;
    let python_path = Build::DEBUG.python_path()?;
    say(format_args!("{:.1} s; the sources are in examples/", start.elapsed().as_secs_f64()));

    let host = Host::new("{}")?;

    heading("Start the control plane on a SQLite file, and make two flags in the environment shop/production");
    let plane = ControlPlane::init(host.folder())?;
    let mut control = plane.serve()?;
    say(format_args!("flags-control (pid {}) serves at http://{}", control.pid(), plane.address()));
    plane.post("/api/v1/projects", &json!({"key": "shop"}))?;
    plane.post("/api/v1/projects/shop/environments", &json!({"key": "production"}))?;
    let definition: Value = serde_json::from_str(&fs::read_to_string(examples.join("flags.json"))?)?;
    for (key, kind) in [("new-checkout", "boolean"), ("greeting", "string")] {
        let flag = &definition["flags"][key];
        let config = json!({"production": {"state": flag["state"], "defaultVariant": flag["defaultVariant"]}});
        let body = json!({"key": key, "type": kind, "variants": flag["variants"], "environments": config});
        plane.post("/api/v1/projects/shop/flags", &body)?;
    }
    let change = |key: &str, patch: Value| {
        plane.patch(&format!("/api/v1/projects/shop/environments/production/flags/{key}"), &patch)
    };

    heading("Start flagsd, without root, with a token for this environment and the key that signs it");
    let source = plane.source("shop", "production")?;
    let start = Instant::now();
    let mut flagsd = host.start_daemon_on(&source)?;
    host.wait_for_flags()?;
    say(format_args!("flagsd (pid {}) follows shop/production", flagsd.pid()));
    say(format_args!("and had its flags in {} after {}", host.store().display(), ms(start.elapsed())));

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

    heading("Change it through the API: new-checkout is on for users in Germany");
    let start = Instant::now();
    change("new-checkout", json!({"targeting": {"if": [{"==": [{"var": "country"}, "DE"]}, "on", "off"]}}))?;
    all_see(&mut watchers, "new-checkout=true greeting=Hello", start)?;

    heading("Kill the control plane and flagsd with SIGKILL: nobody notices");
    control.kill();
    flagsd.kill();
    say(format_args!("flags-control (pid {}) and flagsd (pid {}) are gone", control.pid(), flagsd.pid()));
    all_go_on(&mut watchers, "new-checkout=true greeting=Hello")?;

    heading("Start flagsd again, alone: it has what it had");
    let start = Instant::now();
    let mut flagsd = host.start_daemon_on(&source)?;
    say(format_args!("flagsd (pid {}) was ready after {}", flagsd.pid(), ms(start.elapsed())));
    all_go_on(&mut watchers, "new-checkout=true greeting=Hello")?;

    heading("Start the control plane again, and change the greeting: flagsd has found it by itself");
    let mut control = plane.serve()?;
    let start = Instant::now();
    change("greeting", json!({"defaultVariant": "warm"}))?;
    all_see(&mut watchers, "new-checkout=true greeting=Welcome back", start)?;

    heading("Take it back: a rollback is a change like any other");
    let start = Instant::now();
    let rollback = "/api/v1/projects/shop/environments/production/rollback?comment=too+warm";
    let revision = plane.post(rollback, &json!({"revision": 4}))?["revision"].clone();
    all_see(&mut watchers, "new-checkout=true greeting=Hello", start)?;
    say(format_args!("the environment is at revision {revision}, which says what revision 4 said"));

    heading("Stop everything");
    daemon::stop(&mut flagsd)?;
    daemon::stop(&mut control)?;
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
