//! `soak --seconds N --seed N --flagsd PROGRAM --c PROGRAM --cpp PROGRAM --python-path FOLDER [--json FILE]`
//!
//! Readers in four languages follow a flagsd whose definition changes at random, while it and they are killed at random. Each answer is
//! compared with the naive evaluator's for the very version it is from; see [`libflags_tests::soak`]. `cargo xtask soak` builds everything
//! and runs this.
//!
//! The seed repeats the definitions and the order of what happens to whom; when exactly it happens is up to the machine.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use libflags::{Client, Context};
use libflags_tests::processes::{Memory, Worker, die_with_us, store_folder};
use libflags_tests::soak::{ROUND, Random, Rounds};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value as Json, json};
use tempfile::TempDir;

/// What takes longer never comes.
const PATIENCE: Duration = Duration::from_secs(60);
/// How many tables readers find: one that was stopped may come late.
const KEPT_TABLES: u64 = 2_000;
/// The store's files besides segments: the control page, its lock, and what the next segment is made of where the current one is large.
const OTHER_FILES: [&str; 3] = ["control", "lock", ".spare.tmp"];
/// What a process may have grown by from the start to the end: tables differ in size, and allocators keep what they had.
const GROWTH_KIB: u64 = 32 * 1024;

fn main() -> Result<()> {
    let options = Options::parse()?;
    let repeat = format!("--seconds {} --seed {}", options.seconds, options.seed);
    println!("seed {}, {} s", options.seed, options.seconds);
    let mut soak = Soak::start(options)?;
    let outcome = soak.run().and_then(|()| soak.finish());
    let report = soak.report();
    if let Some(path) = &soak.options.json {
        fs::write(path, format!("{report:#}\n")).with_context(|| format!("cannot write {}", path.display()))?;
    }
    println!("{report:#}");
    if outcome.is_err() {
        soak.end_all();
        println!("what lay there is kept in {}", soak.folder.keep());
        println!("to repeat: cargo xtask soak {repeat}");
    }
    outcome
}

struct Options {
    seconds: u64,
    seed: u64,
    flagsd: PathBuf,
    c: PathBuf,
    cpp: PathBuf,
    python_path: PathBuf,
    json: Option<PathBuf>,
}

impl Options {
    fn parse() -> Result<Self> {
        let (mut arguments, mut given) = (std::env::args().skip(1), std::collections::BTreeMap::new());
        while let Some(name) = arguments.next() {
            let value = arguments.next().with_context(|| format!("{name} needs a value"))?;
            given.insert(name, value);
        }
        let mut take = |name: &str| given.remove(name).with_context(|| format!("{name} is missing"));
        let options = Self {
            seconds: take("--seconds")?.parse()?,
            seed: take("--seed")?.parse()?,
            flagsd: take("--flagsd")?.into(),
            c: take("--c")?.into(),
            cpp: take("--cpp")?.into(),
            python_path: take("--python-path")?.into(),
            json: take("--json").ok().map(PathBuf::from),
        };
        ensure!(given.is_empty(), "unknown: {given:?}");
        Ok(options)
    }
}

/// The folder of a soak: kept where something was wrong.
struct Folder(Option<TempDir>);

impl Folder {
    fn path(&self, name: &str) -> PathBuf {
        self.0.as_ref().map_or_else(PathBuf::new, |folder| folder.path().join(name))
    }

    fn keep(&mut self) -> String {
        self.0.take().map_or_else(String::new, |folder| folder.keep().display().to_string())
    }
}

/// A program that reads.
struct Reader {
    /// Which language, and which of its readers.
    name: &'static str,
    /// Whether it is killed now and then; the others show what time does to a process.
    mortal: bool,
    worker: Option<Worker>,
    /// Evaluations of those that were killed in its place.
    evaluations: u64,
    /// The last round it told of; `None` before its first word.
    round: Option<u64>,
    /// It stands still until then.
    stopped_until: Option<Instant>,
    /// What it answers from may have been old for a reason of its own: it stood still.
    excused_before: u64,
}

const READERS: &[(&str, bool)] = &[
    ("rust 1", false),
    ("c 1", false),
    ("c++ 1", false),
    ("python 1", false),
    ("rust 2", true),
    ("c 2", true),
    ("c++ 2", true),
    ("python 2", true),
];

/// When something happens next.
struct Plan {
    update: Instant,
    kill_flagsd: Option<Instant>,
    start_flagsd: Option<Instant>,
    kill_reader: Instant,
    stop_reader: Instant,
    tell: Instant,
}

#[derive(Default)]
struct Counts {
    updates: u64,
    bursts: u64,
    broken_files: u64,
    flagsd_kills: u64,
    reader_kills: u64,
    stops: u64,
    wrong: u64,
    crashes: u64,
}

struct Soak {
    options: Options,
    folder: Folder,
    random: Random,
    rounds: Rounds,
    /// When each of the last rounds was written: the first is round `written_from`.
    written: VecDeque<Instant>,
    written_from: u64,
    flagsd: Option<Child>,
    /// When flagsd last began to run without an end so far.
    running_since: Instant,
    readers: Vec<Reader>,
    client: Option<Client>,
    counts: Counts,
    /// How old the oldest flags were that a reader answered from before it came to newer ones, in ms.
    staleness_ms: Vec<f64>,
    started: Instant,
    memory: [Json; 2],
    most_mapped: usize,
    /// The store's files at rest, where there were some that are not to be there.
    untidy: Option<Vec<String>>,
}

impl Soak {
    /// Publishes the first round, and starts the readers.
    fn start(options: Options) -> Result<Self> {
        let folder = Folder(Some(store_folder()));
        let (random, rounds) = (Random::new(options.seed), Rounds::new(options.seed)?);
        let now = Instant::now();
        let readers = READERS.iter().map(|&(name, mortal)| Reader {
            name,
            mortal,
            worker: None,
            evaluations: 0,
            round: None,
            stopped_until: None,
            excused_before: 0,
        });
        let mut soak = Self {
            options,
            folder,
            random,
            rounds,
            written: VecDeque::new(),
            written_from: 1,
            flagsd: None,
            running_since: now,
            readers: readers.collect(),
            client: None,
            counts: Counts::default(),
            staleness_ms: Vec::new(),
            started: now,
            memory: [Json::Null, Json::Null],
            most_mapped: 0,
            untidy: None,
        };
        fs::create_dir(soak.folder.path("answers"))?;
        soak.update(false)?;
        soak.start_flagsd()?;
        let store = soak.folder.path("store");
        let deadline = Instant::now() + PATIENCE;
        let client = loop {
            match Client::open(Some(&store)) {
                Ok(client) => break client,
                Err(error) if Instant::now() > deadline => return Err(error).context("nothing is published"),
                Err(_) => thread::sleep(Duration::from_millis(2)),
            }
        };
        soak.client = Some(client);
        for index in 0..soak.readers.len() {
            soak.start_reader(index);
        }
        Ok(soak)
    }

    fn run(&mut self) -> Result<()> {
        self.all_at_work("the start")?;
        self.memory[0] = self.memory_now();
        let mut plan = Plan {
            update: Instant::now(),
            kill_flagsd: None,
            start_flagsd: None,
            kill_reader: self.within(3_000),
            stop_reader: self.within(3_000),
            tell: Instant::now() + Duration::from_secs(60),
        };
        self.started = Instant::now();
        let end = self.started + Duration::from_secs(self.options.seconds);
        while Instant::now() < end {
            self.look_after_flagsd(&mut plan)?;
            self.look_after_readers(&mut plan)?;
            if Instant::now() >= plan.update && self.is_visible() {
                self.act(&mut plan)?;
            }
            let late = self.written.back().is_some_and(|at| at.max(&self.running_since).elapsed() > PATIENCE);
            ensure!(
                self.is_visible() || self.flagsd.is_none() || !late,
                "round {} is not published after {} s",
                self.rounds.number(),
                PATIENCE.as_secs()
            );
            if Instant::now() >= plan.tell {
                plan.tell += Duration::from_secs(60);
                let (updates, evaluations) = (self.counts.updates, self.evaluations());
                println!("{} s: {updates} updates, {evaluations} evaluations", self.started.elapsed().as_secs());
            }
            thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// One update or several, or something that is none; perhaps flagsd is to be killed while it is at it.
    fn act(&mut self, plan: &mut Plan) -> Result<()> {
        match self.random.below(16) {
            // Several at once, which flagsd may pass over but for the last.
            0 => {
                self.counts.bursts += 1;
                for _ in 0..3 + self.random.below(3) {
                    self.update(false)?;
                }
            }
            // Half a file; or none. Nothing is to come of either.
            1 => {
                self.counts.broken_files += 1;
                let file = self.folder.path("flags.json");
                if self.random.one_in(3) {
                    fs::remove_file(&file)?;
                } else {
                    let text = fs::read(&file)?;
                    replace(&file, &text[..text.len() / 2])?;
                }
                thread::sleep(Duration::from_millis(self.random.below(30)));
                self.update(true)?;
            }
            _ => self.update(true)?,
        }
        if plan.kill_flagsd.is_none() && self.random.one_in(12) {
            plan.kill_flagsd = Some(self.within(40));
        }
        let pause = if self.random.one_in(3) { 0 } else { 100 };
        plan.update = self.within(pause);
        Ok(())
    }

    /// Writes the next round, its answers first.
    fn update(&mut self, may_break: bool) -> Result<()> {
        let (definition, table) = self.rounds.advance(may_break)?;
        let number = self.rounds.number();
        let answers = self.folder.path("answers");
        fs::write(answers.join(number.to_string()), table.to_text())?;
        if let Some(old) = number.checked_sub(KEPT_TABLES) {
            let _ = fs::remove_file(answers.join(old.to_string()));
        }
        self.written.push_back(Instant::now());
        if self.written.len() > 10_000 {
            self.written.pop_front();
            self.written_from += 1;
        }
        self.counts.updates += 1;
        replace(&self.folder.path("flags.json"), definition.as_bytes())
    }

    /// Whether the last round is what a client reads.
    fn is_visible(&self) -> bool {
        let shown = self.client.as_ref().map(|client| client.int(ROUND, &Context::anonymous(), 0));
        shown.and_then(|round| u64::try_from(round).ok()) == Some(self.rounds.number())
    }

    fn start_flagsd(&mut self) -> Result<()> {
        let log = File::options().create(true).append(true).open(self.folder.path("flagsd.log"))?;
        let mut command = Command::new(&self.options.flagsd);
        command.env_clear().arg("run").arg("--store").arg(self.folder.path("store"));
        command.arg("--source").arg(format!("file:{}", self.folder.path("flags.json").display()));
        command.arg("--state-dir").arg(self.folder.path("state"));
        // Whatever a random definition takes away is meant so.
        command.env("FLAGSD_GUARD__MAX_LOSS_PERCENT", "100");
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child = die_with_us(&mut command).spawn();
        self.flagsd = Some(child.with_context(|| format!("cannot start {}", self.options.flagsd.display()))?);
        self.running_since = Instant::now();
        Ok(())
    }

    /// Kills flagsd when its time has come, and starts it again a moment later, as systemd does.
    fn look_after_flagsd(&mut self, plan: &mut Plan) -> Result<()> {
        let now = Instant::now();
        match &mut self.flagsd {
            Some(flagsd) => {
                if let Some(status) = flagsd.try_wait()? {
                    self.flagsd = None;
                    self.counts.crashes += 1;
                    bail!("flagsd ended by itself: {status}; see flagsd.log");
                }
                if plan.kill_flagsd.is_some_and(|at| now >= at) {
                    flagsd.kill()?;
                    flagsd.wait()?;
                    self.flagsd = None;
                    self.counts.flagsd_kills += 1;
                    plan.kill_flagsd = None;
                    plan.start_flagsd = Some(self.within(150));
                }
            }
            None if plan.start_flagsd.is_none_or(|at| now >= at) => {
                plan.start_flagsd = None;
                self.start_flagsd()?;
                // Now and then it does not even come to read its files.
                if self.random.one_in(6) {
                    plan.kill_flagsd = Some(self.within(15));
                }
            }
            None => {}
        }
        Ok(())
    }

    fn start_reader(&mut self, index: usize) {
        let (store, answers) = (self.folder.path("store"), self.folder.path("answers"));
        let reader = &mut self.readers[index];
        // They take all the time there is; flagsd and this program are to have theirs first.
        let mut command = Command::new("nice");
        command.args(["-n", "10"]);
        match reader.name.split(' ').next() {
            Some("rust") => command.arg(sibling("soak-reader")),
            Some("c") => command.arg(&self.options.c),
            Some("c++") => command.arg(&self.options.cpp),
            _ => {
                command.env("PYTHONPATH", &self.options.python_path);
                command.arg(std::env::var_os("PYTHON").unwrap_or_else(|| "python3".into()));
                command.args(["-W", "error", "-B"]).arg(python_program())
            }
        };
        command.arg(store).arg(answers);
        if reader.name.starts_with("rust") || reader.name.starts_with("c ") {
            command.arg("2"); // threads
        }
        reader.worker = Some(Worker::start(reader.name, command));
        reader.round = None;
    }

    /// Hears how far they are, and kills, stops and starts them when that is due.
    fn look_after_readers(&mut self, plan: &mut Plan) -> Result<()> {
        let now = Instant::now();
        self.hear()?;
        if now >= plan.kill_reader {
            plan.kill_reader = self.within(2_000);
            let mortal: Vec<usize> = (0..self.readers.len()).filter(|&index| self.readers[index].mortal).collect();
            let index = mortal[self.below(mortal.len())];
            let reader = &mut self.readers[index];
            if let Some(worker) = reader.worker.take() {
                reader.evaluations += worker.progress().total;
                reader.stopped_until = None;
                let status = worker.killed();
                self.counts.reader_kills += 1;
                self.judge(index, status, Some(Signal::SIGKILL))?;
                self.start_reader(index);
            }
        }
        if now >= plan.stop_reader {
            plan.stop_reader = self.within(1_500);
            let index = self.below(self.readers.len());
            let until = self.within(2_000);
            let reader = &mut self.readers[index];
            if let (Some(worker), None) = (&reader.worker, reader.stopped_until) {
                worker.signal(Signal::SIGSTOP);
                reader.stopped_until = Some(until);
                self.counts.stops += 1;
            }
        }
        let newest = self.rounds.number();
        for reader in &mut self.readers {
            if let (Some(worker), Some(until)) = (&reader.worker, reader.stopped_until)
                && now >= until
            {
                worker.go_on();
                reader.stopped_until = None;
                reader.excused_before = newest;
            }
        }
        Ok(())
    }

    /// Takes in what the readers told since the last time.
    fn hear(&mut self) -> Result<()> {
        for index in 0..self.readers.len() {
            let Some(worker) = &mut self.readers[index].worker else { continue };
            if !worker.is_running() {
                let status = worker.wait();
                self.readers[index].worker = None;
                self.judge(index, status, None)?;
            }
            let Some(worker) = &self.readers[index].worker else { continue };
            let round = worker.progress().generation;
            let reader = &mut self.readers[index];
            if round == 0 || reader.round == Some(round) {
                continue;
            }
            // It answered from the round before until now, though this one had been written.
            if let Some(before) = reader.round.replace(round)
                && before >= reader.excused_before
                && let Some(at) = (before + 1).checked_sub(self.written_from)
                && let Some(written) = usize::try_from(at).ok().and_then(|at| self.written.get(at))
            {
                self.staleness_ms.push(written.elapsed().as_secs_f64() * 1e3);
            }
        }
        Ok(())
    }

    /// What the end of a reader means.
    fn judge(&mut self, index: usize, status: ExitStatus, expected: Option<Signal>) -> Result<()> {
        let name = self.readers[index].name;
        match (status.code(), status.signal()) {
            (_, Some(signal)) if expected.is_some_and(|expected| expected as i32 == signal) => Ok(()),
            (Some(1), _) => {
                self.counts.wrong += 1;
                bail!("{name} was given a wrong answer, as it says above")
            }
            _ => {
                self.counts.crashes += 1;
                bail!("{name} ended by itself: {status}")
            }
        }
    }

    /// Lets everything come to rest at a last round, and looks at what is left.
    fn finish(&mut self) -> Result<()> {
        for reader in &mut self.readers {
            if let (Some(worker), Some(_)) = (&reader.worker, reader.stopped_until.take()) {
                worker.go_on();
                reader.excused_before = u64::MAX;
            }
        }
        if self.flagsd.is_none() {
            self.start_flagsd()?;
        }
        self.update(true)?;
        self.all_at_work("the last round")?;
        self.memory[1] = self.memory_now();
        for reader in &mut self.readers {
            if let Some(worker) = reader.worker.take() {
                reader.evaluations += worker.finish().total;
            }
        }
        let flagsd = self.flagsd.take().context("flagsd runs")?;
        let status = ended_in_order(flagsd)?;
        ensure!(status.success(), "flagsd ended with {status} on SIGTERM");
        self.judge_memory()
    }

    /// Waits until every reader has answered from the last round.
    fn all_at_work(&mut self, what: &str) -> Result<()> {
        let (last, deadline) = (self.rounds.number(), Instant::now() + 2 * PATIENCE);
        loop {
            self.hear()?;
            let at = |reader: &Reader| reader.worker.as_ref().map_or(0, |worker| worker.progress().generation);
            match self.readers.iter().find(|reader| at(reader) < last) {
                None => return Ok(()),
                Some(late) => ensure!(Instant::now() < deadline, "{}: {} does not come to it", what, late.name),
            }
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// What each process holds, and the store.
    fn memory_now(&mut self) -> Json {
        let of = |memory: &Memory| {
            json!({"resident_kib": memory.resident_kib, "anonymous_kib": memory.anonymous_kib,
                "generations_mapped": memory.generations.len(), "files_open": memory.files})
        };
        let mut processes = serde_json::Map::new();
        for reader in &self.readers {
            if let Some(worker) = &reader.worker {
                let memory = worker.memory();
                self.most_mapped = self.most_mapped.max(memory.generations.len());
                processes.insert(reader.name.to_owned(), of(&memory));
            }
        }
        if let Some(flagsd) = &self.flagsd {
            processes.insert("flagsd".to_owned(), of(&Memory::of(flagsd.id())));
        }
        let files = self.files_in_store();
        let number = files.len();
        if !is_tidy(&files) {
            self.untidy = Some(files);
        }
        json!({"processes": processes, "files_in_store": number})
    }

    /// The files of the store, once flagsd has unlinked what the last switch left over: readers see the new generation before that.
    fn files_in_store(&self) -> Vec<String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let entries = fs::read_dir(self.folder.path("store").join("v1")).into_iter().flatten().flatten();
            let files = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect::<Vec<_>>();
            if is_tidy(&files) || Instant::now() > deadline {
                return files;
            }
            thread::sleep(Duration::from_millis(2));
        }
    }

    fn judge_memory(&self) -> Result<()> {
        let [start, end] = &self.memory;
        for reader in self.readers.iter().filter(|reader| !reader.mortal) {
            let anonymous = |of: &Json| of["processes"][reader.name]["anonymous_kib"].as_u64().unwrap_or_default();
            let (before, after) = (anonymous(start), anonymous(end));
            ensure!(after < before + GROWTH_KIB, "{} grew from {before} to {after} KiB", reader.name);
        }
        // A version each thread may hold, the newest, and one that waits to be given back.
        ensure!(self.most_mapped <= 4, "{} generations are mapped by one process", self.most_mapped);
        if let Some(files) = &self.untidy {
            bail!("more is in the store than is to be there: {files:?}");
        }
        Ok(())
    }

    fn evaluations(&self) -> u64 {
        let now = |reader: &Reader| reader.worker.as_ref().map_or(0, |worker| worker.progress().total);
        self.readers.iter().map(|reader| reader.evaluations + now(reader)).sum()
    }

    fn report(&mut self) -> Json {
        self.staleness_ms.sort_by(f64::total_cmp);
        let at = |thousandths: usize| {
            let last = self.staleness_ms.len().saturating_sub(1);
            self.staleness_ms.get(last * thousandths / 1000).map(|ms| (ms * 10.0).round() / 10.0)
        };
        let by_reader = |reader: &Reader| {
            let now = reader.worker.as_ref().map_or(0, |worker| worker.progress().total);
            (reader.name.to_owned(), Json::from(reader.evaluations + now))
        };
        let counts = &self.counts;
        json!({
            "seed": self.options.seed,
            "seconds": self.started.elapsed().as_secs(),
            "evaluations": self.evaluations(),
            "evaluations_by_reader": self.readers.iter().map(by_reader).collect::<serde_json::Map<_, _>>(),
            "updates": counts.updates,
            "bursts": counts.bursts,
            "broken_or_missing_files": counts.broken_files,
            "flagsd_kills": counts.flagsd_kills,
            "reader_kills": counts.reader_kills,
            "reader_stops": counts.stops,
            "wrong_answers": counts.wrong,
            "crashes": counts.crashes,
            "staleness_ms": {"median": at(500), "p99": at(990), "max": at(1000)},
            "memory_at_start": self.memory[0],
            "memory_at_end": self.memory[1],
        })
    }

    fn end_all(&mut self) {
        self.readers.clear();
        if let Some(mut flagsd) = self.flagsd.take() {
            let _ = flagsd.kill();
            let _ = flagsd.wait();
        }
    }

    /// Some time within so many milliseconds.
    fn within(&mut self, milliseconds: u64) -> Instant {
        Instant::now() + Duration::from_millis(self.random.below(milliseconds + 1))
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.random.below(end as u64)).unwrap_or_default()
    }
}

impl Drop for Soak {
    fn drop(&mut self) {
        self.end_all();
    }
}

/// Whether a store has nothing but the segments of the current and the previous generation, and what is always there.
fn is_tidy(files: &[String]) -> bool {
    let (segments, others): (Vec<_>, Vec<_>) = files.iter().partition(|name| name.starts_with("segment-"));
    segments.len() <= 2 && others.iter().all(|name| OTHER_FILES.contains(&name.as_str()))
}

/// Replaces a file as editors and deployments do: written beside it, then renamed.
fn replace(file: &Path, text: &[u8]) -> Result<()> {
    let next = file.with_extension("next");
    fs::write(&next, text)?;
    fs::rename(&next, file).with_context(|| format!("cannot replace {}", file.display()))
}

fn ended_in_order(mut flagsd: Child) -> Result<ExitStatus> {
    kill(Pid::from_raw(flagsd.id().cast_signed()), Signal::SIGTERM)?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(status) = flagsd.try_wait()? {
            return Ok(status);
        }
        if Instant::now() > deadline {
            let _ = flagsd.kill();
            bail!("flagsd does not end on SIGTERM");
        }
        thread::sleep(Duration::from_millis(2));
    }
}

/// A program built beside this one.
fn sibling(name: &str) -> PathBuf {
    std::env::current_exe().map_or_else(|_| name.into(), |path| path.with_file_name(name))
}

fn python_program() -> PathBuf {
    libflags_tests::languages::root().join("tests/python/soak.py")
}
