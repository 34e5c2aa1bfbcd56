//! `cargo xtask fuzz`: builds the fuzz targets with the stable compiler and runs them side by side.
//!
//! Nothing needs to be installed: `libfuzzer-sys` brings libFuzzer's source, and what is asked of the compiler (instrumented code,
//! AddressSanitizer) every stable one can do, though it only admits it when `RUSTC_BOOTSTRAP` is set.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::process::{self, Program};

/// The programs in `fuzz/targets`, and how long an input may be.
const TARGETS: &[(&str, usize)] = &[("definition", 4096), ("store", 12_288), ("c_api", 1024)];

/// What makes a program die of a bad access.
const FLAGS: &str = "--cfg=fuzzing -Zsanitizer=address";

/// What makes code tell the fuzzer where it has been and what it compared.
const TOLD: &[&str] = &[
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
];

/// The packages that tell. What generates inputs and answers, and what other people wrote, would only take longer to build and to run, and
/// drown what is new in ours.
const TELLING: &[&str] = &["libflags", "flags-fuzzed"];

/// Code for the compiler's own machine is built apart from ours only where this is named.
const HOST: &str = "x86_64-unknown-linux-gnu";

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// For how long each target runs.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// What the random numbers begin with; another one each time if none is named.
    #[arg(long)]
    seed: Option<u32>,
    /// Which targets (definition, store, c_api); all if none is named.
    targets: Vec<String>,
}

/// A target that runs.
struct Running {
    name: &'static str,
    log: PathBuf,
    program: Program,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    for name in &arguments.targets {
        ensure!(TARGETS.iter().any(|(target, _)| target == name), "there is no target {name}");
    }
    let wanted = |name: &str| arguments.targets.is_empty() || arguments.targets.iter().any(|target| target == name);
    let seeds = process::scratch("fuzz/seeds")?;
    make_seeds(&seeds)?;
    build()?;
    let mut running = Vec::new();
    for &(name, most_bytes) in TARGETS.iter().filter(|(name, _)| wanted(name)) {
        running.push(start(name, most_bytes, &seeds, arguments)?);
    }
    // The seeds are all tried, however long that takes; a machine that does other things too may need minutes.
    let deadline = Instant::now() + Duration::from_secs(arguments.seconds + 900);
    let mut found = Vec::new();
    let all = running.len();
    for mut target in running {
        let status =
            target.program.wait(deadline.saturating_duration_since(Instant::now()).max(Duration::from_secs(1)));
        let log = String::from_utf8_lossy(&fs::read(&target.log)?).into_owned();
        println!("{:<12}{}", target.name, told(&log));
        if !status.is_ok_and(|status| status.success()) {
            println!("{}", last_lines(&log, 80));
            found.push(format!("{} ({})", target.name, kept(&log).unwrap_or("it was killed, and kept no input")));
        }
    }
    println!("{} passed, {} failed", all - found.len(), found.len());
    if !found.is_empty() {
        bail!(
            "found something: {}; keep the input in fuzz/regressions/TARGET, and fix what it shows",
            found.join(", ")
        );
    }
    Ok(())
}

fn make_seeds(folder: &Path) -> Result<()> {
    let mut command = process::cargo();
    // As the other tests build it: one package alone would have other features, and so compile most crates again.
    command.args(["build", "--quiet", "--workspace", "--bins"]);
    process::run("cargo build", &mut command)?;
    process::run("fuzz-seeds", Command::new(process::target().join("debug/fuzz-seeds")).arg(folder))
}

fn build() -> Result<()> {
    let mut command = process::cargo();
    command.current_dir(process::root().join("fuzz")).args([
        "build",
        "--quiet",
        "--release",
        "--bins",
        "--target",
        HOST,
    ]);
    command.arg("-Zprofile-rustflags");
    for package in TELLING {
        command.arg("--config").arg(format!("profile.release.package.{package}.rustflags={TOLD:?}"));
    }
    command.env("RUSTC_BOOTSTRAP", "1").env("RUSTFLAGS", FLAGS).env("CARGO_TARGET_DIR", target_folder());
    process::run("cargo build (instrumented)", &mut command)
}

fn target_folder() -> PathBuf {
    process::target().join("fuzz")
}

/// Starts a target on what it found interesting before, on the seeds, and on what once went wrong.
fn start(name: &'static str, most_bytes: usize, seeds: &Path, arguments: &Arguments) -> Result<Running> {
    let folder = process::root().join("fuzz");
    let (corpus, regressions) = (folder.join("corpus").join(name), folder.join("regressions").join(name));
    let artifacts = process::scratch(&format!("fuzz/{name}"))?;
    fs::create_dir_all(&corpus).with_context(|| format!("cannot make {}", corpus.display()))?;
    let log = process::scratch("log")?.join(format!("fuzz-{name}.log"));
    let output = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
    let mut command = Command::new(target_folder().join(HOST).join("release").join(name));
    command.arg(corpus).arg(seeds.join(name));
    if regressions.is_dir() {
        command.arg(regressions);
    }
    let options = BTreeMap::from([
        ("artifact_prefix", format!("{}/", artifacts.display())),
        // It needs ptrace, which containers refuse; valgrind looks for leaks.
        ("detect_leaks", "0".to_owned()),
        ("max_len", most_bytes.to_string()),
        ("max_total_time", arguments.seconds.to_string()),
        ("print_final_stats", "1".to_owned()),
        ("rss_limit_mb", "2048".to_owned()),
        // 0 is none to libFuzzer.
        ("seed", arguments.seed.unwrap_or(0).to_string()),
        // By the clock, and so far beyond what an input takes on a machine that is busy.
        ("timeout", "60".to_owned()),
    ]);
    command.args(options.iter().map(|(option, value)| format!("-{option}={value}")));
    command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
    Ok(Running { name, log, program: Program::start(name, &mut command)? })
}

/// What a target says of its run: how many inputs it tried, and how many of the places in the code they came to.
fn told(log: &str) -> String {
    let stat = |name: &str| log.lines().find_map(|line| line.strip_prefix(&format!("stat::{name}:"))).map(str::trim);
    let places = log.lines().find_map(|line| line.split_once("inline 8-bit counters)")?.0.split('(').next_back());
    let reached = log.lines().rev().find_map(|line| line.split_once(" cov: ")?.1.split(' ').next());
    format!(
        "{} inputs tried, {} of {} places reached",
        stat("number_of_executed_units").unwrap_or("?"),
        reached.unwrap_or("?"),
        places.map_or("?", str::trim),
    )
}

/// Where a target left the input that it died of.
fn kept(log: &str) -> Option<&str> {
    log.lines().rev().find_map(|line| Some(line.split_once("Test unit written to ")?.1.trim()))
}

fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}
