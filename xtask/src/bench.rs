//! `cargo xtask bench`: what a flag check costs on this machine, beside what the design asks for.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::languages::Build;
use crate::process::{self, Program};
use crate::{doctor, readme};

/// A full run takes minutes; one that hangs ends here.
const LIMIT: Duration = Duration::from_secs(3600);

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Only the rows whose names begin so; may be given more than once. Nothing is recorded then.
    #[arg(long, value_name = "ROW")]
    only: Vec<String>,
    /// Prints the record instead of a table.
    #[arg(long)]
    json: bool,
    /// Hardly measures: shows that every row works and answers right. Nothing is recorded.
    #[arg(long)]
    check: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    doctor::provide()?;
    let build = if arguments.check { Build::DEBUG } else { Build::DIST };
    build.packages(&["libflags-benches", "libflags-ffi", "libflags-python", "flagsd"])?;
    let c_program = process::scratch("bench")?.join("read");
    build.compile(&process::root().join("benches/c/read.c"), &c_program)?;
    if !arguments.json {
        println!("{}", heading());
    }
    let mut rows = Vec::new();
    for mut command in [rust_and_c(build, arguments, &c_program), python(build, arguments)?] {
        measure(&mut command, |row| {
            if !arguments.json {
                println!("{}", line(&row));
            }
            rows.push(row);
        })?;
    }
    ensure!(!rows.is_empty(), "no row has such a name");
    let record = record(rows)?;
    if arguments.json {
        println!("{record:#}");
    }
    if arguments.only.is_empty() && !arguments.check {
        let path = keep(&record)?;
        readme::put_figures(&record, &path)?;
        println!("\nkept in {}, and shown in README.md", path.display());
    }
    if arguments.check {
        println!("{} passed, 0 failed", record["rows"].as_array().map_or(0, Vec::len));
    }
    Ok(())
}

fn rust_and_c(build: Build, arguments: &Arguments, c_program: &Path) -> Command {
    let mut command = Command::new(build.file("libflags-benches"));
    command.arg("--json").arg("--c-program").arg(c_program).arg("--flagsd").arg(build.file("flagsd"));
    pass_on(&mut command, arguments);
    command
}

fn python(build: Build, arguments: &Arguments) -> Result<Command> {
    let mut command = Command::new("python3");
    command.arg(process::root().join("bindings/python/bench.py")).arg("--json").env("PYTHONPATH", build.python_path()?);
    pass_on(&mut command, arguments);
    Ok(command)
}

fn pass_on(command: &mut Command, arguments: &Arguments) {
    for row in &arguments.only {
        command.arg("--only").arg(row);
    }
    if arguments.check {
        command.arg("--check");
    }
}

/// Runs a program that prints a row a line, and hands over each as it comes.
fn measure(command: &mut Command, mut take: impl FnMut(Value)) -> Result<()> {
    let name = command.get_program().display().to_string();
    let mut program = Program::start(&name, command.stdin(Stdio::null()).stdout(Stdio::piped()))?;
    let output = program.stdout().context("its stdout is piped")?;
    for row in BufReader::new(output).lines() {
        take(serde_json::from_str(&row?).with_context(|| format!("{name} prints rows as JSON"))?);
    }
    let status = program.wait(LIMIT)?;
    ensure!(status.success(), "{name} failed: {status}");
    Ok(())
}

fn heading() -> String {
    format!("{:<18}{:>10}{:>11}{:>11} {:>11}  {:<6}what", "row", "target", "best", "median", "p99", "unit")
}

fn line(row: &Value) -> String {
    let text = |name: &str| row[name].as_str().unwrap_or_default();
    let number = |name: &str| row[name].as_f64().unwrap_or(f64::NAN);
    let mark = if row["met"] == json!(false) { '!' } else { ' ' };
    format!(
        "{:<18}{:>10}{:>11.2}{:>11.2}{mark}{:>11.2}  {:<6}{}",
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
fn record(rows: Vec<Value>) -> Result<Value> {
    let commit = process::output_of("git", ["-C", &process::root().to_string_lossy(), "rev-parse", "HEAD"]);
    let changed =
        process::output_of("git", ["-C", &process::root().to_string_lossy(), "status", "--porcelain", "-uno"]);
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let load = fs::read_to_string("/proc/loadavg").ok();
    Ok(json!({
        "command": "cargo xtask bench",
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
    }))
}

fn cpu_model() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let fields: BTreeMap<&str, &str> =
        text.lines().filter_map(|line| line.split_once(':')).map(|(name, value)| (name.trim(), value.trim())).collect();
    fields.get("model name").map_or_else(|| std::env::consts::ARCH.to_owned(), |&model| model.to_owned())
}

/// Writes the record to `benches/record/<machine>/<date>.json` and gives its place in the checkout.
fn keep(record: &Value) -> Result<PathBuf> {
    let machine = record["machine"]["cpu"].as_str().unwrap_or_default();
    let words: Vec<String> = machine
        .split(|letter: char| !letter.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
        .collect();
    let folder = format!("{}-x{}", words.join("-"), record["machine"]["processors"]);
    let place =
        Path::new("benches/record").join(folder).join(format!("{}.json", record["date"].as_str().unwrap_or_default()));
    let path = process::root().join(&place);
    fs::create_dir_all(path.parent().context("a folder")?)?;
    fs::write(&path, format!("{record:#}\n")).with_context(|| format!("cannot write {}", place.display()))?;
    Ok(place)
}
