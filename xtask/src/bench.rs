//! `cargo xtask bench`: what a flag check costs on this machine, beside what the design asks for and what peers take.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::doctor;
use crate::figures::Document;
use crate::languages::Build;
use crate::peers::{self, Peers, Wish};
use crate::process::{self, Program};

/// A full run takes minutes; one that hangs ends here.
const LIMIT: Duration = Duration::from_secs(3600);

/// What is measured, each with a record of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
enum Group {
    /// Flag checks, and how they come to be: the library, its bindings and flagsd.
    #[default]
    Checks,
    /// The control plane, and the way from it to hosts.
    Control,
}

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// What is measured.
    #[arg(value_enum, default_value_t)]
    group: Group,
    /// Only the rows whose names begin so; may be given more than once. Nothing is recorded then.
    #[arg(long, value_name = "ROW")]
    only: Vec<String>,
    /// Prints the record instead of a table.
    #[arg(long)]
    json: bool,
    /// Hardly measures: shows that every row works and answers right, without the peers. Nothing is recorded.
    #[arg(long)]
    check: bool,
    /// The peers too, where `--check` would leave them out.
    #[arg(long, conflicts_with = "no_peers")]
    peers: bool,
    /// Leaves the peers out: nothing is fetched or compiled for them.
    #[arg(long)]
    no_peers: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    doctor::provide()?;
    match arguments.group {
        Group::Control => control(arguments),
        Group::Checks => checks(arguments),
    }
}

fn checks(arguments: &Arguments) -> Result<()> {
    let build = if arguments.check { Build::DEBUG } else { Build::DIST };
    build.packages(&["libflags-benches", "libflags-ffi", "libflags-python", "flagsd"])?;
    let c_program = process::scratch("bench")?.join("read");
    build.compile(&process::root().join("benches/c/read.c"), &c_program)?;
    let python_path = build.python_path()?;
    let peers = peers(build, arguments, &python_path)?;
    let mut taken = Taken::new(arguments)?;
    let is_python = |row: &str| row.starts_with(PYTHON) || PYTHON.starts_with(row);
    if arguments.only.is_empty() || !arguments.only.iter().all(|row| row.starts_with(PYTHON_IN_PROCESS)) {
        let mut command = Command::new(build.file("libflags-benches"));
        command.arg("--c-program").arg(&c_program).arg("--flagsd").arg(build.file("flagsd"));
        command.arg("--python-path").arg(&python_path);
        rows(command, &arguments.only, arguments.check, |row| taken.take(row, &peers))?;
    }
    if arguments.only.is_empty() || arguments.only.iter().any(|row| is_python(row)) {
        python(arguments, &python_path)?.into_iter().for_each(|row| taken.take(row, &peers));
    }
    if arguments.check && arguments.only.is_empty() {
        control_rows(build, arguments, |row| taken.take(row, &peers))?;
    }
    let record = record("cargo xtask bench", taken.finish(build)?, &peers)?;
    conclude(arguments, &record, "")
}

/// The control plane's rows, which have a record and a place in the documentation of their own.
fn control(arguments: &Arguments) -> Result<()> {
    let build = if arguments.check { Build::DEBUG } else { Build::DIST };
    let mut taken = Taken::new(arguments)?;
    let nobody = Peers { not_measured: vec!["no peer does the same".to_owned()], ..Peers::default() };
    control_rows(build, arguments, |row| taken.take(row, &nobody))?;
    let record = record("cargo xtask bench control", taken.finish(build)?, &nobody)?;
    conclude(arguments, &record, CONTROL)
}

fn control_rows(build: Build, arguments: &Arguments, take: impl FnMut(Value)) -> Result<()> {
    build.packages(&["libflags-benches", "libflags-ffi", "flagsd", "flags-control"])?;
    let c_program = process::scratch("bench")?.join("visible");
    build.compile(&process::root().join("benches/c/visible.c"), &c_program)?;
    let mut command = Command::new(build.file("libflags-benches"));
    command.arg("--control").arg(build.file("flags-control")).arg("--flagsd").arg(build.file("flagsd"));
    command.arg("--c-visible").arg(&c_program);
    let all = [CONTROL.to_owned()];
    rows(command, if arguments.only.is_empty() { &all } else { &arguments.only }, arguments.check, take)
}

/// The rows so far, with what limits those that miss their target.
struct Taken {
    rows: Vec<Value>,
    limits: BTreeMap<String, String>,
    are_all: bool,
    in_table: bool,
}

impl Taken {
    fn new(arguments: &Arguments) -> Result<Self> {
        let in_table = !arguments.json;
        if in_table {
            println!("{}", heading());
        }
        Ok(Self { rows: Vec::new(), limits: limits()?, are_all: arguments.only.is_empty(), in_table })
    }

    fn take(&mut self, mut row: Value, peers: &Peers) {
        let name = row["row"].as_str().unwrap_or_default().to_owned();
        if let Some(peer) = peers.best(&name) {
            row["best_peer"] = peer;
        }
        if let Some(limit) = self.limits.remove(&name).filter(|_| row["met"] == false) {
            row["limit"] = json!(limit);
        }
        if self.in_table {
            println!("{}", line(&row));
        }
        self.rows.push(row);
    }

    fn finish(self, build: Build) -> Result<Vec<Value>> {
        ensure!(!self.rows.is_empty(), "no row has such a name");
        if self.are_all {
            // Some rows are of another run, or can't be measured everywhere; those are listed.
            let listed = process::output_of(&build.file("libflags-benches").to_string_lossy(), ["--list"]);
            let listed = listed.context("libflags-benches does not list its rows")?;
            // Python's rows are named by what measures them, which is asked in another run than the control plane's.
            let is_pythons = |name: &String| name.starts_with("py-call-");
            let is_row =
                |name: &String| is_pythons(name) || listed.lines().any(|line| line.split(' ').next() == Some(name));
            let unknown: Vec<&String> = self.limits.keys().filter(|name| !is_row(name)).collect();
            ensure!(unknown.is_empty(), "{LIMITS} names rows that there are not: {unknown:?}");
        }
        Ok(self.rows)
    }
}

/// Keeps a whole record, and shows it; `kind` is how its file and its rows begin.
fn conclude(arguments: &Arguments, record: &Value, kind: &str) -> Result<()> {
    if arguments.json {
        println!("{record:#}");
    }
    if arguments.only.is_empty() && !arguments.check {
        let path = keep(record, kind)?;
        let document = Document::of(kind);
        document.put_figures(record, &path)?;
        println!("\nkept in {}, and shown in {}", path.display(), document.path());
    }
    if arguments.check {
        println!("{} passed, 0 failed", record["rows"].as_array().map_or(0, Vec::len));
    }
    Ok(())
}

/// What peers take, printed as it comes.
fn peers(build: Build, arguments: &Arguments, python_path: &Path) -> Result<Peers> {
    if arguments.no_peers || (arguments.check && !arguments.peers) {
        return Ok(Peers { not_measured: vec!["left out".to_owned()], ..Peers::default() });
    }
    let wish = Wish { only: &arguments.only, check: arguments.check, flagsd: &build.file("flagsd"), python_path };
    if !arguments.json {
        println!("peers, each in turns with libflags\n{:40}{:>13}{:>13}{:>13}", "", "best", "median", "p99");
    }
    let peers = Peers::measure(&wish, |row| {
        if !arguments.json {
            println!("{}", peers::lines(row).join("\n"));
        }
    });
    for why in &peers.not_measured {
        eprintln!("not measured: {why}");
    }
    ensure!(!arguments.check || peers.not_measured.is_empty(), "not all peers answer right");
    if !arguments.json {
        println!();
    }
    Ok(peers)
}

/// What keeps a row from its target, in a sentence that names the evidence: copied into the record where the target is missed.
const LIMITS: &str = "benches/limits.toml";

fn limits() -> Result<BTreeMap<String, String>> {
    let text = fs::read_to_string(process::root().join(LIMITS)).with_context(|| format!("cannot read {LIMITS}"))?;
    toml::from_str(&text).with_context(|| format!("{LIMITS} is rows with sentences"))
}

/// Runs the benchmark program, which prints a row a line, and hands over each as it comes.
fn rows(mut command: Command, only: &[String], check: bool, mut take: impl FnMut(Value)) -> Result<()> {
    command.arg("--json");
    for row in only {
        command.arg("--only").arg(row);
    }
    if check {
        command.arg("--check");
    }
    let mut program = Program::start("libflags-benches", command.stdin(Stdio::null()).stdout(Stdio::piped()))?;
    let output = program.stdout().context("its stdout is piped")?;
    for row in BufReader::new(output).lines() {
        take(serde_json::from_str(&row?).context("libflags-benches prints rows as JSON")?);
    }
    let status = program.wait(LIMIT)?;
    ensure!(status.success(), "libflags-benches failed: {status}");
    Ok(())
}

/// What the Python package's own benchmark measured, as rows like the others.
fn python(arguments: &Arguments, python_path: &Path) -> Result<Vec<Value>> {
    let batches = if arguments.check { "2" } else { "300" };
    let mut command = Command::new("python3");
    command.arg(process::root().join("bindings/python/bench.py")).args(["--json", "--batches", batches]);
    command.env("PYTHONPATH", python_path).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut program = Program::start("bench.py", &mut command)?;
    let mut said = String::new();
    program.stdout().context("its stdout is piped")?.read_to_string(&mut said)?;
    let status = program.wait(LIMIT)?;
    ensure!(status.success(), "bench.py failed: {status}");
    let said: Value = serde_json::from_str(&said).context("bench.py prints JSON")?;
    let rows = said["rows"].as_array().context("bench.py prints rows")?.iter().map(|row| python_row(row, batches));
    let wanted = |row: &Value| {
        let name = row["row"].as_str().unwrap_or_default();
        arguments.only.is_empty() || arguments.only.iter().any(|start| name.starts_with(start.as_str()))
    };
    Ok(rows.filter(wanted).collect())
}

/// The design's targets for rows of the Python package's benchmark, in nanoseconds.
const PYTHON_TARGETS: &[(&str, f64)] =
    &[("static bool, context dict of 5", 65.0), ("one rule, context dict of 5", 110.0)];

/// How the names of the control plane's rows begin, and of its records.
const CONTROL: &str = "control-";

/// How the names of rows begin that have to do with Python, and of those that its own benchmark measures.
const PYTHON: &str = "py-";
const PYTHON_IN_PROCESS: &str = "py-call-";

fn python_row(row: &Value, batches: &str) -> Value {
    let name = row["name"].as_str().unwrap_or_default();
    let target = PYTHON_TARGETS.iter().find(|(of, _)| *of == name).map(|(_, target)| *target);
    let words: Vec<_> =
        name.split(|letter: char| !letter.is_ascii_alphanumeric()).filter(|word| !word.is_empty()).collect();
    json!({
        "row": format!("{PYTHON_IN_PROCESS}{}", words.join("-")),
        "about": format!("{name}, Python"),
        "unit": "ns",
        "target": target.map_or_else(String::new, |target| format!("≤ {target}")),
        "met": target.map(|target| row["median_ns"].as_f64().is_some_and(|median| median <= target)),
        "best": row["min_ns"],
        "median": row["median_ns"],
        "p99": row["p99_ns"],
        "samples": batches.parse::<u64>().ok(),
    })
}

fn heading() -> String {
    format!(
        "{:<22}{:>10}{:>11}{:>11} {:>11}  {:<6}{:<34}what",
        "row", "target", "best", "median", "p99", "unit", "median of the best peer"
    )
}

fn line(row: &Value) -> String {
    let text = |name: &str| row[name].as_str().unwrap_or_default();
    let number = |name: &str| row[name].as_f64().unwrap_or(f64::NAN);
    let mark = if row["met"] == json!(false) { '!' } else { ' ' };
    let peer = row.get("best_peer").map_or_else(String::new, |peer| {
        let median = peer["median"].as_f64().unwrap_or(f64::NAN);
        format!("{median:.2} {}", peer["name"].as_str().unwrap_or_default())
    });
    let note = row.get("note").and_then(Value::as_str).map_or_else(String::new, |note| format!(" ({note})"));
    format!(
        "{:<22}{:>10}{:>11.2}{:>11.2}{mark}{:>11.2}  {:<6}{peer:<34}{}{note}",
        text("row"),
        text("target"),
        number("best"),
        number("median"),
        number("p99"),
        text("unit"),
        text("about"),
    )
}

/// The rows with all that is needed to judge them: which machine, which commit, which command.
fn record(command: &str, rows: Vec<Value>, peers: &Peers) -> Result<Value> {
    let commit = process::output_of("git", ["-C", &process::root().to_string_lossy(), "rev-parse", "HEAD"]);
    let changed =
        process::output_of("git", ["-C", &process::root().to_string_lossy(), "status", "--porcelain", "-uno"]);
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let load = fs::read_to_string("/proc/loadavg").ok();
    Ok(json!({
        "command": command,
        "date": process::output_of("date", ["-u", "+%Y-%m-%d"]).context("cannot ask for the date")?,
        "time": process::output_of("date", ["-u", "+%H:%M:%S"]).context("cannot ask for the time")?,
        "commit": commit,
        "uncommitted_changes": changed.is_some_and(|files| !files.is_empty()),
        "machine": {
            "cpu": cpu_model(),
            "processors": processors,
            "kernel": process::output_of("uname", ["-rm"]),
            "load_after": load.map(|load| load.split(' ').take(3).collect::<Vec<_>>().join(" ")),
        },
        "compilers": {
            "rustc": process::output_of("rustc", ["--version"]),
            "cc": process::output_of("cc", ["--version"]).map(|text| text.lines().next().unwrap_or_default().to_owned()),
            "python": process::output_of("python3", ["--version"]),
        },
        "profile": "dist",
        "rows": rows,
        "peers": peers.rows,
        "peers_not_measured": peers.not_measured,
    }))
}

fn cpu_model() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let fields: BTreeMap<&str, &str> =
        text.lines().filter_map(|line| line.split_once(':')).map(|(name, value)| (name.trim(), value.trim())).collect();
    fields.get("model name").map_or_else(|| std::env::consts::ARCH.to_owned(), |&model| model.to_owned())
}

/// Writes the record to `benches/record/<machine>/<kind><date>.json` and gives its place in the checkout.
fn keep(record: &Value, kind: &str) -> Result<PathBuf> {
    let machine = record["machine"]["cpu"].as_str().unwrap_or_default();
    let words: Vec<String> = machine
        .split(|letter: char| !letter.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
        .collect();
    let folder = format!("{}-x{}", words.join("-"), record["machine"]["processors"]);
    let file = format!("{kind}{}.json", record["date"].as_str().unwrap_or_default());
    let place = Path::new("benches/record").join(folder).join(file);
    let path = process::root().join(&place);
    fs::create_dir_all(path.parent().context("a folder")?)?;
    fs::write(&path, format!("{record:#}\n")).with_context(|| format!("cannot write {}", place.display()))?;
    Ok(place)
}
