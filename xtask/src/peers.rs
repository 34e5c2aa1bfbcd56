//! Others' ways to do the same work: built apart in `benches/compare`, measured in the same run.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::doctor;
use crate::languages::Build;
use crate::process::{self, Program};

/// Measuring takes minutes; what hangs ends here.
const LIMIT: Duration = Duration::from_secs(1800);

/// The name of ours among the contenders.
const OURS: &str = "libflags";

/// What to measure.
pub(crate) struct Wish<'a> {
    /// The beginnings of row names; all rows where there is none.
    pub(crate) only: &'a [String],
    /// Hardly measures: shows that every peer works and answers right.
    pub(crate) check: bool,
    /// Ours, for the rows in which a process opens its store.
    pub(crate) flagsd: &'a Path,
    /// Where Python finds our package.
    pub(crate) python_path: &'a Path,
}

/// What came of measuring peers.
#[derive(Default)]
pub(crate) struct Peers {
    /// The rows, each with all who took part.
    pub(crate) rows: Vec<Value>,
    /// Why some or all are missing.
    pub(crate) not_measured: Vec<String>,
}

impl Peers {
    /// Builds the peers and measures them, handing each row over as it comes. Those in one language do without the others, as on a
    /// machine that has no network.
    pub(crate) fn measure(wish: &Wish<'_>, mut take: impl FnMut(&Value)) -> Self {
        let mut peers = Self::default();
        let names: Vec<&str> = wish.only.iter().map(|name| counterpart(name)).collect();
        let mut measure = |name: &str, program: Result<Command>| {
            let mut keep = |row: Value| {
                take(&row);
                peers.rows.push(row);
            };
            let measured = program.and_then(|mut command| rows_of(name, &mut command, &names, wish.check, &mut keep));
            if let Err(error) = measured {
                peers.not_measured.push(format!("{name}: {error:#}"));
            }
        };
        // Both are built before either is measured.
        let (rust, python) = (build_rust(), python_environment());
        measure("libflags-compare", rust.map(Command::new));
        let python = python.map(|python| {
            let mut command = Command::new(python);
            command.arg(folder().join("peers.py")).env("PYTHONPATH", wish.python_path).env("FLAGSD", wish.flagsd);
            command
        });
        measure("peers.py", python);
        peers
    }

    /// The best peer at the work of one of our rows, and what libflags took in turns with it.
    pub(crate) fn best(&self, row: &str) -> Option<Value> {
        let found = self.rows.iter().find(|peers| peers["row"].as_str() == Some(counterpart(row)))?;
        let contenders = found["contenders"].as_array()?;
        let median = |contender: &Value| contender["median"].as_f64().unwrap_or(f64::NAN);
        // Times and sizes are good when small, what is told in multiples when large.
        let sign = if found["unit"] == "×" { -1.0 } else { 1.0 };
        let others = contenders.iter().filter(|contender| contender["name"] != OURS);
        let best = others.min_by(|left, right| (sign * median(left)).total_cmp(&(sign * median(right))))?;
        let mut best = best.clone();
        let ours = contenders.iter().find(|contender| contender["name"] == OURS);
        best["libflags_in_turns"] = ours.map_or(Value::Null, |ours| json!(median(ours)));
        Some(best)
    }
}

/// The same bad days for libflags and its peers, and whether `docs/comparison.md` says what happened.
pub(crate) fn bad_days() -> Result<()> {
    doctor::provide()?;
    Build::DEBUG.packages(&["flagsd", "libflags-python"])?;
    let mut rust = process::cargo();
    // Without the peers that only the benchmark needs.
    rust.current_dir(folder()).args(["test", "--quiet", "--locked", "--no-default-features", "--test", "bad_days"]);
    process::run("the bad days of stores", rust.arg("--target-dir").arg(target()))?;
    let mut python = Command::new(python_environment()?);
    python.arg(folder().join("bad_days.py")).env("PYTHONPATH", Build::DEBUG.python_path()?);
    process::run("the bad days of clients in Python", python.env("FLAGSD", Build::DEBUG.file("flagsd")))
}

/// The name under which peers do the work of our row: what C does is compared with what programs in Rust do.
fn counterpart(row: &str) -> &str {
    row.strip_prefix("c-").unwrap_or(row)
}

/// A row with its contenders, as lines.
pub(crate) fn lines(row: &Value) -> Vec<String> {
    let text = |value: &Value, name: &str| value[name].as_str().unwrap_or_default().to_owned();
    let mut lines = vec![format!("{}: {}, {}", text(row, "row"), text(row, "about"), text(row, "unit"))];
    for contender in row["contenders"].as_array().into_iter().flatten() {
        let number = |name: &str| contender[name].as_f64().unwrap_or(f64::NAN);
        let who = format!("{} {}", text(contender, "name"), text(contender, "version"));
        lines.push(format!("  {who:<38}{:>13.2}{:>13.2}{:>13.2}", number("best"), number("median"), number("p99")));
    }
    for absent in row["not_measured"].as_array().into_iter().flatten() {
        lines.push(format!("  {:<38}  not measured: {}", text(absent, "name"), text(absent, "why")));
    }
    lines
}

/// Runs a program that prints a row a line.
fn rows_of(name: &str, command: &mut Command, only: &[&str], check: bool, keep: &mut impl FnMut(Value)) -> Result<()> {
    for start in only {
        command.arg("--only").arg(start);
    }
    if check {
        command.arg("--check");
    }
    let mut program = Program::start(name, command.arg("--json").stdin(Stdio::null()).stdout(Stdio::piped()))?;
    let output = program.stdout().context("its stdout is piped")?;
    for row in BufReader::new(output).lines() {
        keep(serde_json::from_str(&row?).with_context(|| format!("{name} prints rows as JSON"))?);
    }
    let status = program.wait(LIMIT)?;
    ensure!(status.success(), "{name} failed: {status}");
    Ok(())
}

/// The workspace of the peers.
fn folder() -> PathBuf {
    process::root().join("benches/compare")
}

/// Where its build goes: not among ours, whose dependencies have other features.
fn target() -> PathBuf {
    folder().join("target")
}

/// Builds the benchmark program of the peers in Rust.
fn build_rust() -> Result<PathBuf> {
    let mut command = process::cargo();
    command.current_dir(folder()).args(["build", "--quiet", "--locked", "--profile", "dist", "--target-dir"]);
    process::run("building the peers", command.arg(target()))?;
    Ok(target().join("dist/libflags-compare"))
}

/// The Python of an environment with the peers of `benches/compare/requirements.txt`, made from PyPI where it is not there yet.
fn python_environment() -> Result<PathBuf> {
    let version = process::output_of("python3", ["-c", "import sys; print('%d.%d' % sys.version_info[:2])"])
        .context("cannot run python3")?;
    let environment = process::scratch("compare")?.join(format!("venv-{version}"));
    let python = environment.join("bin/python");
    let (wanted, installed) = (folder().join("requirements.txt"), environment.join("requirements.txt"));
    let wanted = fs::read(&wanted).with_context(|| format!("cannot read {}", wanted.display()))?;
    if fs::read(&installed).is_ok_and(|installed| installed == wanted) {
        return Ok(python);
    }
    let log = process::scratch("log")?.join("peers-in-python.log");
    let quietly = |command: &mut Command| -> Result<()> {
        let status = process::run_logged("setting up the peers in Python", command, &log, LIMIT)?;
        ensure!(status.success(), "setting up the peers in Python failed, see {}", log.display());
        Ok(())
    };
    quietly(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&environment))?;
    let mut install = Command::new(&python);
    install.args(["-m", "pip", "install", "--disable-pip-version-check", "--requirement"]);
    quietly(install.arg(folder().join("requirements.txt")))?;
    fs::write(&installed, wanted).with_context(|| format!("cannot write {}", installed.display()))?;
    Ok(python)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peers(unit: &str) -> Peers {
        let contender = |name: &str, median: f64| json!({"name": name, "median": median});
        let contenders = [contender(OURS, 1.0), contender("quick", 2.0), contender("slow", 3.0)];
        let row = json!({"row": "key", "unit": unit, "contenders": contenders});
        Peers { rows: vec![row], ..Peers::default() }
    }

    #[test]
    fn the_best_peer_is_never_libflags() {
        for (unit, expected) in [("ns", "quick"), ("×", "slow")] {
            let best = peers(unit).best("key").unwrap();
            assert_eq!(best["name"], expected);
            assert_eq!(best["libflags_in_turns"], 1.0);
        }
        assert_eq!(peers("ns").best("c-key").unwrap()["name"], "quick");
        assert!(peers("ns").best("handle").is_none());
    }
}
