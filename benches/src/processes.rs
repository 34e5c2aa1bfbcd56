//! What a process pays to read, and how long a change takes through flagsd.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use libflags::{Client, Context};

use crate::Row;
use crate::lab::{Lab, Target};
use crate::measure::Figures;
use crate::{definitions, scaling};

pub(crate) const ROWS: &[Row] = &[
    Row {
        name: "memory-10k",
        about: "private memory that a reader process adds, 10 000 flags all read, 8 processes",
        unit: "KiB",
        target: Target::AtMost(200.0),
        measure: |lab| memory(lab, 10_000).map(Some),
    },
    Row {
        name: "memory-100k",
        about: "private memory that a reader process adds, 100 000 flags all read, 8 processes",
        unit: "KiB",
        target: Target::AtMost(200.0),
        measure: |lab| memory(lab, 100_000).map(Some),
    },
    Row {
        name: "open-10k",
        about: "open a store of 10 000 flags in a new process to the first right answer",
        unit: "µs",
        target: Target::AtMost(300.0),
        measure: |lab| open(lab).map(Some),
    },
    Row {
        name: "py-open-10k",
        about: "import, open a store of 10 000 flags, first right answer: over a bare start of Python",
        unit: "ms",
        target: Target::AtMost(10.0),
        measure: python_open,
    },
    Row {
        name: "edit-visible",
        about: "a file of 1 000 flags replaced to a reader's answer, through flagsd; median and p99",
        unit: "ms",
        target: Target::MedianAndP99AtMost(3.0, 10.0),
        measure: |lab| edit_visible(lab, 1_000),
    },
    Row {
        name: "edit-visible-100k",
        about: "a file of 100 000 flags replaced, one changed, to a reader's answer, through flagsd",
        unit: "ms",
        target: Target::None,
        measure: |lab| edit_visible(lab, 100_000),
    },
    Row {
        name: "flagsd-rss",
        about: "flagsd's resident memory, 1 000 flags, idle",
        unit: "MiB",
        target: Target::AtMost(12.0),
        measure: daemon_memory,
    },
];

/// This program as a child of itself: it says when it is ready, and then answers each line with a number.
pub(crate) struct Worker {
    child: Child,
    questions: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Worker {
    pub(crate) fn start(role: &str, store: &Path, number: usize) -> Result<Self> {
        let mut child = Command::new(program()?)
            .arg("--child")
            .arg(role)
            .arg(store)
            .arg(number.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start a child to {role}"))?;
        let questions = child.stdin.take().context("the child's stdin is piped")?;
        let answers = BufReader::new(child.stdout.take().context("the child's stdout is piped")?);
        let mut worker = Self { child, questions, answers };
        let ready = worker.answer()?;
        ensure!(ready == 0.0, "the child is not ready");
        Ok(worker)
    }

    /// Asks for work of so long.
    pub(crate) fn ask(&mut self, duration: Duration) -> Result<()> {
        writeln!(self.questions, "{}", duration.as_micros()).context("cannot ask a child")
    }

    /// What it gives back.
    pub(crate) fn answer(&mut self) -> Result<f64> {
        let mut line = String::new();
        self.answers.read_line(&mut line).context("cannot hear a child")?;
        line.trim().parse().with_context(|| format!("a child ended or said {line:?}"))
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The benchmark program itself, also from within a test of it.
fn program() -> Result<PathBuf> {
    std::env::current_exe().context("cannot find this program")
}

/// The other side of [`Worker`].
pub(crate) fn child(role: &str, store: &str, number: usize) -> Result<()> {
    let store = Path::new(store);
    let mut client = None;
    let before = private_kib()?;
    if role == "read" || role == "memory" {
        client = Some(Client::open(Some(store))?);
    }
    println!("0");
    for line in std::io::stdin().lock().lines() {
        let duration = Duration::from_micros(line?.parse()?);
        let answer = match (role, &client) {
            ("read", Some(client)) => scaling::reading_rate(client, duration)?,
            ("compute", _) => scaling::computing_rate(duration),
            ("memory", Some(client)) => {
                for index in 0..number {
                    let right = definitions::answer(index);
                    ensure!(
                        client.bool(definitions::key(index), &Context::anonymous(), !right) == right,
                        "a wrong answer"
                    );
                }
                private_kib()? - before
            }
            ("open", _) => {
                let right = definitions::answer(number - 1);
                let key = definitions::key(number - 1);
                let start = Instant::now();
                let client = Client::open(Some(store))?;
                let answer = client.bool(&key, &Context::anonymous(), !right);
                let time = start.elapsed();
                ensure!(answer == right, "a wrong answer");
                time.as_secs_f64() * 1e6
            }
            _ => bail!("no such role: {role}"),
        };
        println!("{answer}");
    }
    Ok(())
}

/// The memory of this process that no other shares, in KiB.
fn private_kib() -> Result<f64> {
    let text = fs::read_to_string("/proc/self/smaps_rollup").context("cannot read smaps_rollup")?;
    kib_of(&text, &["Private_Clean:", "Private_Dirty:"])
}

/// The sum of the lines of `/proc/…` that begin with one of `names`.
pub(crate) fn kib_of(text: &str, names: &[&str]) -> Result<f64> {
    let mut sum = 0.0;
    for name in names {
        let line = text.lines().find(|line| line.starts_with(name)).with_context(|| format!("no line {name}"))?;
        let number = line.split_whitespace().nth(1).context("a number")?;
        sum += number.parse::<f64>()?;
    }
    Ok(sum)
}

fn memory(lab: &Lab, number: usize) -> Result<Figures> {
    let store = lab.store(&format!("static-{number}"), || definitions::static_flags(number))?;
    let mut workers = (0..8).map(|_| Worker::start("memory", &store, number)).collect::<Result<Vec<_>>>()?;
    // Twice: pages that only the first reader has touched count as its own until another has touched them too.
    let mut samples = Vec::new();
    for _ in 0..2 {
        samples.clear();
        for worker in &mut workers {
            worker.ask(Duration::ZERO)?;
            samples.push(worker.answer()?);
        }
    }
    Figures::of(samples)
}

fn open(lab: &Lab) -> Result<Figures> {
    let store = lab.store("static-10000", || definitions::static_flags(10_000))?;
    let mut samples = Vec::new();
    for _ in 0..lab.effort.repeats {
        let mut worker = Worker::start("open", &store, 10_000)?;
        worker.ask(Duration::ZERO)?;
        samples.push(worker.answer()?);
    }
    Figures::of(samples)
}

fn python_open(lab: &Lab) -> Result<Option<Figures>> {
    let Some(python_path) = &lab.python_path else { return Ok(None) };
    let store = lab.store("static-10000", || definitions::static_flags(10_000))?;
    let right = if definitions::answer(1) { "True" } else { "False" };
    let wrong = if definitions::answer(1) { "False" } else { "True" };
    let key = definitions::key(1);
    let first_answer = format!(
        "import sys, libflags; sys.exit(libflags.Client(sys.argv[1]).get_boolean_value('{key}', {wrong}) is not {right})"
    );
    let time = |program: &str| -> Result<f64> {
        let mut command = Command::new("python3");
        command.arg("-c").arg(program).arg(&store).env("PYTHONPATH", python_path).stdin(Stdio::null());
        let start = Instant::now();
        let status = command.status().context("cannot run python3")?;
        let time = start.elapsed();
        ensure!(status.success(), "Python's first answer is wrong");
        Ok(time.as_secs_f64() * 1e3)
    };
    let (mut bare, mut whole) = (Vec::new(), Vec::new());
    for _ in 0..lab.effort.repeats {
        // In turns, so that what disturbs one disturbs the other.
        bare.push(time("import sys; sys.exit(0)")?);
        whole.push(time(&first_answer)?);
    }
    // Less than nothing where the machine was quieter for one than for the other.
    let (bare, whole) = (Figures::of(bare)?, Figures::of(whole)?);
    let over = |figure: fn(Figures) -> f64| figure(whole) - figure(bare);
    let (best, median, p99) = (over(|all| all.best), over(|all| all.median), over(|all| all.p99));
    Ok(Some(Figures { best, median, p99, ..whole }))
}

/// flagsd on a file of flags.
struct Daemon {
    child: Child,
    store: PathBuf,
    file: PathBuf,
}

impl Daemon {
    fn start(lab: &Lab, name: &str, number: usize) -> Result<Option<Self>> {
        let Some(program) = &lab.flagsd else { return Ok(None) };
        let folder = lab.folder(name)?;
        let (store, file, state) = (folder.join("store"), folder.join("flags.json"), folder.join("state"));
        fs::write(&file, definitions::static_flags(number))?;
        let log = fs::File::create(folder.join("log"))?;
        let child = Command::new(program)
            .arg("run")
            .arg("--store")
            .arg(&store)
            .arg("--source")
            .arg(format!("file:{}", file.display()))
            .arg("--state-dir")
            .arg(&state)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        Ok(Some(Self { child, store, file }))
    }

    /// A client that has attached.
    fn client(&self) -> Result<Client> {
        let end = Instant::now() + Duration::from_secs(20);
        loop {
            match Client::open(Some(&self.store)) {
                Ok(client) => return Ok(client),
                Err(error) if Instant::now() > end => bail!("flagsd has published nothing for 20 s: {error}"),
                Err(_) => thread::sleep(Duration::from_millis(10)),
            }
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn edit_visible(lab: &Lab, number: usize) -> Result<Option<Figures>> {
    let Some(daemon) = Daemon::start(lab, &format!("edit-{number}"), number)? else { return Ok(None) };
    let client = daemon.client()?;
    let changed = number / 2;
    let text = definitions::static_flags(number);
    let texts = [definitions::with_one_turned(&text, changed), text];
    let key = definitions::key(changed);
    let next = daemon.file.with_extension("next");
    let mut samples = Vec::new();
    for turn in 0..(lab.effort.repeats * 4_000 / number).max(8) {
        fs::write(&next, &texts[turn % 2])?;
        let wanted = definitions::answer(changed) != (turn % 2 == 0);
        let start = Instant::now();
        fs::rename(&next, &daemon.file)?;
        while client.bool(&key, &Context::anonymous(), !wanted) != wanted {
            ensure!(start.elapsed() < Duration::from_secs(20), "edit {turn} has not arrived for 20 s");
            // A reader that spins would take a processor from the daemon where there are few.
            thread::sleep(Duration::from_micros(50));
        }
        samples.push(start.elapsed().as_secs_f64() * 1e3);
        // Until the daemon has kept it, and is ready for the next.
        thread::sleep(Duration::from_millis(20) + Duration::from_micros(3) * u32::try_from(number)?);
    }
    Figures::of(samples).map(Some)
}

fn daemon_memory(lab: &Lab) -> Result<Option<Figures>> {
    let Some(daemon) = Daemon::start(lab, "rss", 1_000)? else { return Ok(None) };
    let client = daemon.client()?;
    let right = definitions::answer(1);
    ensure!(client.bool(definitions::key(1), &Context::anonymous(), !right) == right, "a wrong answer");
    thread::sleep(lab.effort.duration);
    let status = fs::read_to_string(format!("/proc/{}/status", daemon.child.id()))?;
    Ok(Some(Figures::exact(kib_of(&status, &["VmRSS:"])? / 1024.0)))
}
