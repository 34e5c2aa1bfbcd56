//! `cargo xtask test`: every check there is, one line each, and at the end how many tests passed.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::count::{self, Count};
use crate::{doctor, process};

/// No step takes anywhere near so long; one that hangs is killed.
const STEP_LIMIT: Duration = Duration::from_secs(25 * 60);

/// How much of a failed step's output is shown.
const SHOWN_LINES: usize = 150;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Only this step; may be given more than once.
    #[arg(long, value_name = "STEP")]
    only: Vec<String>,
    /// Lists the steps.
    #[arg(long)]
    list: bool,
    /// Stops at the first step that fails.
    #[arg(long)]
    fail_fast: bool,
}

struct Step {
    name: &'static str,
    about: &'static str,
    run: Run,
    /// Whether the step itself is a test when it prints no count, as a check of a generated file is.
    is_test: bool,
}

enum Run {
    /// cargo with these arguments.
    Cargo(&'static [&'static str]),
    /// A script in the checkout.
    Script(&'static str),
    /// This program again with these arguments.
    Xtask(&'static [&'static str]),
}

const STEPS: &[Step] = &[
    Step { name: "fmt", about: "the code is formatted", run: Run::Cargo(&["fmt", "--all", "--check"]), is_test: false },
    Step {
        name: "clippy",
        about: "no lint fires, in any target",
        run: Run::Cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]),
        is_test: false,
    },
    Step {
        name: "build",
        about: "the workspace builds",
        run: Run::Cargo(&["build", "--workspace", "--all-targets"]),
        is_test: false,
    },
    Step {
        name: "test",
        about: "the Rust tests of all packages",
        // The skipped say so on stdout, hence `--show-output`.
        run: Run::Cargo(&["test", "--workspace", "--all-targets", "--no-fail-fast", "--", "--show-output"]),
        is_test: false,
    },
    Step {
        name: "doc",
        about: "the examples in the documentation",
        run: Run::Cargo(&["test", "--workspace", "--doc", "--no-fail-fast"]),
        is_test: false,
    },
    Step {
        name: "rustdoc",
        about: "the documentation builds, and its links lead somewhere",
        run: Run::Cargo(&["rustdoc", "--quiet", "--package", "libflags", "--lib", "--", "-D", "warnings"]),
        is_test: false,
    },
    Step {
        name: "bare",
        about: "the library builds without its optional features",
        run: Run::Cargo(&["check", "--quiet", "--package", "libflags", "--no-default-features"]),
        is_test: false,
    },
    Step {
        name: "loom",
        about: "every order of the store's memory accesses, and that each mutant is found",
        run: Run::Script("ci/loom.sh"),
        is_test: false,
    },
    Step {
        name: "previous",
        about: "today's library and the previous format's read each other's stores",
        run: Run::Script("ci/previous.sh"),
        is_test: false,
    },
    Step {
        name: "python",
        about: "the Python wheel: its types, and its tests as installed",
        run: Run::Script("ci/python.sh"),
        is_test: false,
    },
    Step { name: "readme", about: "the programs in the README", run: Run::Xtask(&["readme"]), is_test: false },
    Step { name: "demo", about: "cargo xtask demo, which checks itself", run: Run::Xtask(&["demo"]), is_test: true },
    Step {
        name: "soak",
        about: "half a minute of updates and kills, every answer checked",
        run: Run::Xtask(&["soak", "--seconds", "25"]),
        is_test: true,
    },
    Step {
        name: "fuzz",
        about: "a minute of random inputs for each fuzz target",
        // The same inputs each time: what a change is asked is to depend on the change. `cargo xtask fuzz` looks for new ones.
        run: Run::Xtask(&["fuzz", "--seconds", "60", "--seed", "1"]),
        is_test: false,
    },
    Step {
        name: "bench",
        about: "the benchmarks answer right (nothing is timed)",
        run: Run::Xtask(&["bench", "--check"]),
        is_test: false,
    },
    Step {
        name: "instructions",
        about: "a flag check executes as many instructions as was accepted",
        run: Run::Xtask(&["instructions"]),
        is_test: false,
    },
];

/// What came of a step.
struct Outcome {
    step: &'static Step,
    passed: bool,
    count: Count,
    skipped: Vec<String>,
    log: PathBuf,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    if arguments.list {
        for step in STEPS {
            println!("{:<14}{}", step.name, step.about);
        }
        return Ok(());
    }
    if let Some(unknown) = arguments.only.iter().find(|name| STEPS.iter().all(|step| step.name != **name)) {
        bail!("there is no step {unknown}; see cargo xtask test --list");
    }
    doctor::provide()?;
    let logs = process::scratch("log")?;
    // Asked before a step builds this program anew, which takes the name from the file that runs.
    let program = std::env::current_exe().context("this program has no path")?;
    let mut outcomes = Vec::new();
    for step in
        STEPS.iter().filter(|step| arguments.only.is_empty() || arguments.only.iter().any(|name| name == step.name))
    {
        let outcome = perform(step, &program, &logs)?;
        let passed = outcome.passed;
        outcomes.push(outcome);
        if arguments.fail_fast && !passed {
            break;
        }
    }
    conclude(&outcomes)
}

/// Runs a step and prints its line.
fn perform(step: &'static Step, program: &Path, logs: &Path) -> Result<Outcome> {
    print!("{:<14}", step.name);
    io::stdout().flush()?;
    let log = logs.join(step.name).with_extension("log");
    let start = Instant::now();
    let status = process::run_logged(step.name, &mut command(step, program), &log, STEP_LIMIT);
    let seconds = start.elapsed().as_secs_f64();
    // A log that is not UTF-8 throughout is still to be read.
    let output = String::from_utf8_lossy(&fs::read(&log).unwrap_or_default()).into_owned();
    let told = Count::read(&output);
    let mut skipped: Vec<String> = count::skip_reasons(&output).map(str::to_owned).collect();
    let mut count = told.unwrap_or_default();
    // `cargo test` knows no skipping at run time: it counts a test that says it was skipped as passed.
    if matches!(step.run, Run::Cargo(_)) {
        let number = (skipped.len() as u64).min(count.passed);
        count.passed -= number;
        count.skipped += number;
    }
    skipped.sort();
    skipped.dedup();
    let passed = matches!(&status, Ok(status) if status.success()) && count.failed == 0;
    match (passed, told) {
        (true, None) if step.is_test => count.passed = 1,
        // Such as a program that dies of a signal: no line tells of it.
        (false, _) if count.failed == 0 => count.failed = 1,
        _ => {}
    }
    let verdict = if passed { "ok" } else { "FAILED" };
    let counts = if count.total() > 0 { count.to_string() } else { String::new() };
    println!("{}", format!("{verdict:<8}{seconds:>7.1} s   {counts}").trim_end());
    if let Err(error) = status {
        println!("{:14}{error:#}", "");
    }
    Ok(Outcome { step, passed, count, skipped, log })
}

/// `program` is where this program lies.
fn command(step: &Step, program: &Path) -> Command {
    let mut command = match step.run {
        Run::Cargo(arguments) => {
            let mut command = process::cargo();
            command.args(arguments);
            command
        }
        Run::Script(path) => {
            let mut command = Command::new("bash");
            command.arg(path);
            command
        }
        Run::Xtask(arguments) => {
            // Built for itself by cargo, it would have other features than in the workspace, and so compile much again.
            let mut command = Command::new(program);
            command.args(arguments);
            command
        }
    };
    command.current_dir(process::root()).env("CARGO_TERM_COLOR", "never");
    command
}

/// Prints what failed and why, what was skipped, and the closing line.
fn conclude(outcomes: &[Outcome]) -> Result<()> {
    for outcome in outcomes.iter().filter(|outcome| !outcome.passed) {
        println!("\n--- {}: {}", outcome.step.name, outcome.log.display());
        let output = String::from_utf8_lossy(&fs::read(&outcome.log).unwrap_or_default()).into_owned();
        let lines: Vec<&str> = output.lines().collect();
        for line in &lines[lines.len().saturating_sub(SHOWN_LINES)..] {
            println!("{line}");
        }
    }
    let skipped: Vec<_> = outcomes.iter().filter(|outcome| !outcome.skipped.is_empty()).collect();
    if !skipped.is_empty() {
        println!();
    }
    for outcome in skipped {
        for reason in &outcome.skipped {
            println!("{}: {reason}", outcome.step.name);
        }
    }
    let mut sum = Count::default();
    for outcome in outcomes {
        sum += outcome.count;
    }
    let failed: Vec<&str> =
        outcomes.iter().filter(|outcome| !outcome.passed).map(|outcome| outcome.step.name).collect();
    if !failed.is_empty() {
        println!("\nfailed: {}", failed.join(", "));
    }
    println!("\n{sum}");
    if !failed.is_empty() {
        std::process::exit(1);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_check_in_ci_is_a_step() {
        let scripts = |step: &Step| if let Run::Script(path) = step.run { Some(path) } else { None };
        let steps: Vec<&str> = STEPS.iter().filter_map(scripts).collect();
        for path in &steps {
            assert!(process::root().join(path).is_file(), "{path} is a step but does not exist");
        }
        for entry in fs::read_dir(process::root().join("ci")).expect("the folder ci/") {
            let path = format!("ci/{}", entry.expect("an entry of ci/").file_name().to_string_lossy());
            assert!(!path.ends_with(".sh") || steps.contains(&path.as_str()), "{path} is no step of cargo xtask test");
        }
    }

    #[test]
    fn step_names_are_unique() {
        for (index, step) in STEPS.iter().enumerate() {
            assert!(STEPS[..index].iter().all(|other| other.name != step.name), "{} twice", step.name);
        }
    }
}
