//! `cargo xtask sanitize`: the tests that threads, processes and C have a part in, under what sees faults and races they don't show.
//!
//! The stable compiler can instrument code for AddressSanitizer and ThreadSanitizer, though it only admits it when
//! `RUSTC_BOOTSTRAP` is set; miri comes with a nightly one. A kind whose tools are missing says "skipped: why". docs/design/proof.md tells
//! what each cannot see.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::process;

const HOST: &str = "x86_64-unknown-linux-gnu";

/// The modules of the library whose tests miri runs.
const MIRI_TESTS: &[&str] = &["definition::", "compile::", "snapshot::", "evaluate::"];

/// What miri may take: most of an hour of a processor of its own.
const MIRI_LIMIT: Duration = Duration::from_secs(3 * 3600);

/// Tests that come to no end under miri in minutes: they read lines of hundreds of kilobytes, documents of thousands of values, hundreds
/// of published rules, or thousands of generated inputs.
const MIRI_SKIPPED: &[&str] = &[
    "definition::lists::tests::bad_lines_are_named",
    "definition::tests::a_broken_rule_is_said_where_it_is",
    "definition::tests::hostile_flags_break_only_themselves",
    "definition::tests::json_is_what_serde_json_takes_for_json",
    "definition::tests::published_rules_are_understood",
    "definition::tests::shared_evaluators_do_not_grow_without_bound",
    "definition::tests::testkit_flags_are_good_but_for_the_one_meant_to_be_broken",
    "definition::tests::yaml::aliases_do_not_grow_without_bound",
    "definition::tests::yaml::json_is_yaml",
    "evaluate::steps::tests::any_bytes_end",
    "evaluate::steps::tests::steps_and_tree_decide_alike",
    "snapshot::explain::tests::any_bytes_are_explained_or_not",
];

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Kind {
    /// Bad accesses, in the library's tests.
    Address,
    /// Data races, in the store's tests.
    Thread,
    /// Undefined behaviour, in the C and C++ programs.
    Undefined,
    /// Bad accesses and leaks, in the C and C++ programs as they are, and in the Python client.
    Valgrind,
    /// Undefined behaviour, in the library's tests that need no files.
    Miri,
}

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Which; all if none is named.
    kinds: Vec<Kind>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let mut failed = Vec::new();
    for (kind, name) in [
        (Kind::Address, "address"),
        (Kind::Thread, "thread"),
        (Kind::Undefined, "undefined"),
        (Kind::Valgrind, "valgrind"),
        (Kind::Miri, "miri"),
    ] {
        if !arguments.kinds.is_empty() && !arguments.kinds.contains(&kind) {
            continue;
        }
        println!("--- {name}");
        let outcome = match kind {
            // Leaks are left to valgrind: a test that ends without joining its threads leaks nothing that matters.
            Kind::Address => process::run(name, &mut rust("address", &[], ("ASAN_OPTIONS", "detect_leaks=0"))),
            Kind::Thread if !has_std_source()? => {
                println!("skipped: the standard library's source is missing (rustup component add rust-src)");
                Ok(())
            }
            // A standard library that is not instrumented hides what it orders, and so looks like races.
            Kind::Thread => {
                process::run(name, &mut rust("thread", &["-Zbuild-std"], ("TSAN_OPTIONS", "die_after_fork=0")))
            }
            Kind::Undefined => process::run(name, &mut c_programs("Sanitized")),
            Kind::Valgrind => process::run(name, &mut c_programs("Valgrind")).and_then(|()| python()),
            Kind::Miri => miri(),
        };
        if let Err(error) = outcome {
            println!("{error:#}");
            failed.push(name);
        }
    }
    if !failed.is_empty() {
        bail!("failed: {}", failed.join(", "));
    }
    Ok(())
}

/// The tests of the library, instrumented: among them those of the store, with many threads and with processes.
fn rust(sanitizer: &str, options: &[&str], environment: (&str, &str)) -> Command {
    let mut command = process::cargo();
    command.args(["test", "--quiet", "--target", HOST]).args(options).args(["--package", "libflags", "--lib"]);
    if sanitizer == "thread" {
        // Nothing may be called from a signal handler. That evaluations survive it nevertheless is a test that this one takes for
        // what it is: the handler allocates, and changes errno.
        command.args(["--", "store::", "--skip", "evaluations_in_signal_handlers_interrupt_evaluations"]);
    }
    command.env("RUSTC_BOOTSTRAP", "1").env("RUSTFLAGS", format!("-Zsanitizer={sanitizer}"));
    command.env("CARGO_TARGET_DIR", process::target().join("sanitize").join(sanitizer));
    command.env(environment.0, environment.1);
    command
}

/// The programs in `tests/c` and `tests/cpp` in one of the ways that tests/tests/c_programs.rs runs them.
fn c_programs(mode: &str) -> Command {
    let mut command = process::cargo();
    // As the other tests build it: one package alone would have other features, and so compile most crates again.
    command.args(["test", "--quiet", "--workspace", "--test", "c_programs", "--", mode, "--show-output"]);
    command
}

/// The tests of the Python package in valgrind's memcheck. The interpreter and its libraries are not ours to judge: what counts is each
/// report, in any process of the tests, that has a function of the library among its callers.
fn python() -> Result<()> {
    if process::output_of("valgrind", ["--version"]).is_none() {
        println!("skipped: valgrind is missing");
        return Ok(());
    }
    let folder = process::scratch("memcheck")?;
    fs::remove_dir_all(&folder)?;
    fs::create_dir(&folder)?;
    let mut command = Command::new("bash");
    // gunicorn's processes come from another program, which valgrind does not follow. It runs one thread at a time, and so does not come to
    // an end where threads are to give way to each other every 50 µs.
    command
        .args(["ci/python.sh", "-k", "not gunicorn and not test_threads_read_while_flags_change"])
        .current_dir(process::root())
        .env("FLAGS_MEMCHECK", &folder);
    process::run("Python's tests", &mut command)?;
    let (mut processes, mut others, mut ours) = (0, 0, Vec::new());
    for entry in fs::read_dir(&folder)? {
        let log = String::from_utf8_lossy(&fs::read(entry?.path())?).into_owned();
        processes += 1;
        for report in reports(&log) {
            if concerns_us(&report) { ours.push(report) } else { others += 1 }
        }
    }
    ensure!(processes > 0, "valgrind wrote nothing");
    for report in &ours {
        println!("{report}\n");
    }
    println!("{processes} processes, {} reports of the library, {others} of others", ours.len());
    ensure!(ours.is_empty(), "valgrind has something to say of the library");
    Ok(())
}

/// The paragraphs of a log of valgrind's, without the number of the process before each line.
fn reports(log: &str) -> Vec<String> {
    let lines: Vec<&str> = log.lines().map(|line| line.splitn(3, "==").nth(2).unwrap_or(line).trim_end()).collect();
    let paragraphs = lines.split(|line| line.is_empty()).map(|lines| lines.join("\n"));
    paragraphs.filter(|paragraph| paragraph.contains("0x")).collect()
}

/// Whether a function of the library or of its Python package is among the callers. A path does not count: the checkout may be called so.
/// Nor does what PyO3 hands the interpreter for good when it makes a class.
fn concerns_us(report: &str) -> bool {
    let ours = report.lines().any(|line| line.contains("libflags::") || line.contains("_libflags"));
    ours && !report.contains("pyo3::pyclass::create_type_object")
}

/// What miri can run: it knows no mapped files, so all but the store.
fn miri() -> Result<()> {
    if process::output_of("rustup", ["run", "nightly", "cargo", "miri", "--version"]).is_none() {
        println!("skipped: miri is missing (rustup component add --toolchain nightly miri rust-src)");
        return Ok(());
    }
    let mut command = Command::new("rustup");
    command.args(["run", "nightly", "cargo", "miri", "test", "--package", "libflags", "--lib", "--"]);
    // A test takes minutes: each is said when it ends, and how long it took.
    command.args(["-Zunstable-options", "--report-time"]);
    command.args(MIRI_TESTS).args(MIRI_SKIPPED.iter().flat_map(|test| ["--skip", test])).current_dir(process::root());
    // Tests read the clock and the files they are given. rkyv's relative pointers lead out of the value that a reference covers, which
    // Stacked Borrows take for an error, and Tree Borrows do not.
    command.env("MIRIFLAGS", "-Zmiri-disable-isolation -Zmiri-tree-borrows");
    command.env("CARGO_TARGET_DIR", process::target().join("sanitize/miri"));
    // What this cargo told us of itself is not true of that one.
    for name in ["CARGO", "RUSTC", "RUSTDOC", "RUSTUP_TOOLCHAIN", "RUSTFLAGS"] {
        command.env_remove(name);
    }
    process::run_within("miri", &mut command, MIRI_LIMIT)
}

fn has_std_source() -> Result<bool> {
    let root = process::output_of("rustc", ["--print", "sysroot"]).context("rustc does not say where it lies")?;
    Ok(Path::new(&root).join("lib/rustlib/src/rust/library/Cargo.lock").is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_are_told_apart_by_their_callers() {
        let log = "==12== Invalid read of size 8\n\
            ==12==    at 0x4E1: libflags::client::Client::key (client.rs:5)\n\
            ==12==    by 0x4F2: PyObject_Call (in /usr/bin/python3.11)\n\
            ==12==  Address 0x5 is 8 bytes after a block of size 16 alloc'd\n\
            ==12== \n\
            ==12== 56 bytes in 1 blocks are definitely lost in loss record 2 of 9\n\
            ==12==    at 0x484: malloc (in /usr/lib/vgpreload_memcheck.so)\n\
            ==12==    by 0x5A1: PyList_New (in /home/user/libflags/target/python/bin/python3.11)\n\
            ==12== \n\
            ==12== 200 bytes in 1 blocks are definitely lost in loss record 3 of 9\n\
            ==12==    by 0x6F1: pyo3::pyclass::create_type_object::PyTypeBuilder::build (create_type_object.rs:407)\n\
            ==12==    by 0x6D2: _libflags::_libflags::__pyo3_pymodule (lib.rs:18)\n\
            ==12== \n";
        let reports = reports(log);
        assert_eq!(reports.iter().map(|report| concerns_us(report)).collect::<Vec<_>>(), [true, false, false]);
        assert!(reports[0].starts_with(" Invalid read"), "{}", reports[0]);
        assert_eq!(super::reports("").len(), 0);
    }
}
