//! `cargo xtask sanitize`: the tests that threads, processes and C have a part in, under what sees faults and races they don't show.
//!
//! The stable compiler can instrument code for AddressSanitizer and ThreadSanitizer, though it only admits it when
//! `RUSTC_BOOTSTRAP` is set. A kind whose tools are missing says "skipped: why". docs/design/proof.md tells what each cannot see.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::process;

const HOST: &str = "x86_64-unknown-linux-gnu";

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Kind {
    /// Bad accesses, in the library's tests.
    Address,
    /// Data races, in the store's tests.
    Thread,
    /// Undefined behaviour, in the C and C++ programs.
    Undefined,
    /// Bad accesses and leaks, in the C and C++ programs as they are.
    Valgrind,
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
    ] {
        if !arguments.kinds.is_empty() && !arguments.kinds.contains(&kind) {
            continue;
        }
        println!("--- {name}");
        let command = match kind {
            // Leaks are left to valgrind: a test that ends without joining its threads leaks nothing that matters.
            Kind::Address => Some(rust("address", &[], ("ASAN_OPTIONS", "detect_leaks=0"))),
            Kind::Thread if !has_std_source()? => {
                println!("skipped: the standard library's source is missing (rustup component add rust-src)");
                None
            }
            // A standard library that is not instrumented hides what it orders, and so looks like races.
            Kind::Thread => Some(rust("thread", &["-Zbuild-std"], ("TSAN_OPTIONS", "die_after_fork=0"))),
            Kind::Undefined => Some(c_programs("Sanitized")),
            Kind::Valgrind => Some(c_programs("Valgrind")),
        };
        if let Some(mut command) = command
            && let Err(error) = process::run(name, &mut command)
        {
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
    command.args([
        "test",
        "--quiet",
        "--package",
        "libflags-tests",
        "--test",
        "c_programs",
        "--",
        mode,
        "--show-output",
    ]);
    command
}

fn has_std_source() -> Result<bool> {
    let root = process::output_of("rustc", ["--print", "sysroot"]).context("rustc does not say where it lies")?;
    Ok(Path::new(&root).join("lib/rustlib/src/rust/library/Cargo.lock").is_file())
}
