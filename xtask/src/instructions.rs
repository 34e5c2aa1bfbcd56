//! `cargo xtask instructions`: how many instructions a flag check executes, beside what was accepted.
//!
//! Unlike times, these counts are the same in every run on every machine that has the same compilers and the same C library;
//! so they can be held to. A change of more than [`TOLERANCE`], for better or worse, fails until it is accepted, in a commit of its
//! own that says why. Where compilers or library are others than those the accepted counts are from, counts are shown and not judged.

mod parts;

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, anyhow, ensure};

use crate::languages::Build;
use crate::{doctor, process};

/// How much of the accepted count a count may differ by.
const TOLERANCE: f64 = 0.02;

/// How often the programs have each path counted: to warm up, some calls, and twice as many.
const TURNS: usize = 3;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Takes the counts as they are now for right, into benches/instructions.toml.
    #[arg(long)]
    accept: bool,
    /// Says which part of the library the instructions of each path belong to, and compares nothing.
    #[arg(long, conflicts_with = "accept")]
    parts: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    doctor::provide()?;
    if process::output_of("valgrind", ["--version"]).is_none() {
        ensure!(!arguments.accept, "valgrind is missing");
        println!("skipped: valgrind is missing\n0 passed, 0 failed, 1 skipped");
        return Ok(());
    }
    if arguments.parts {
        let paths = count(parts_of)?;
        parts::table(&paths).iter().for_each(|line| println!("{line}"));
        return Ok(());
    }
    let path = process::root().join("benches/instructions.toml");
    let accepted = match fs::read_to_string(&path) {
        Ok(text) => Counts::parse(&text).with_context(|| format!("{} is not as this writes it", path.display()))?,
        Err(_) if arguments.accept => Counts::default(),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    };
    let now = Counts { tools: tools()?, calls: count(difference)? };
    let findings = compare(&accepted, &now);
    println!("{:<16}{:>10}{:>10}{:>10}", "a call of", "accepted", "now", "change");
    for finding in &findings {
        println!("{finding}");
    }
    if arguments.accept {
        fs::write(&path, now.to_text()).with_context(|| format!("cannot write {}", path.display()))?;
        println!("accepted: {}", path.display());
        return Ok(());
    }
    let (closing, outcome) = conclude(&findings);
    println!("{closing}");
    outcome
}

/// What tells of a run: the counts, and the tools that they depend on.
#[derive(Clone, Debug, Default, PartialEq)]
struct Counts {
    tools: BTreeMap<String, String>,
    /// Instructions of one call, by path.
    calls: BTreeMap<String, f64>,
}

impl Counts {
    fn parse(text: &str) -> Result<Self> {
        let file: toml::Table = toml::from_str(text)?;
        let table = |name: &str| {
            let table = file.get(name).and_then(toml::Value::as_table);
            table.with_context(|| format!("it has no [{name}]"))
        };
        let tools = table("tools")?.iter().filter_map(|(tool, version)| Some((tool.clone(), version.as_str()?.into())));
        let calls = table("instructions")?.iter().filter_map(|(path, count)| Some((path.clone(), count.as_float()?)));
        Ok(Self { tools: tools.collect(), calls: calls.collect() })
    }

    fn to_text(&self) -> String {
        let mut text = String::from(
            "# Instructions of one call of each hot path. `cargo xtask instructions` compares, `--accept` writes this file.\n\n\
             # They hold for these only.\n[tools]\n",
        );
        for (tool, version) in &self.tools {
            let _ = writeln!(text, "{tool} = {version:?}");
        }
        text.push_str("\n[instructions]\n");
        for (path, count) in &self.calls {
            let _ = writeln!(text, "{path} = {count:.3}");
        }
        text
    }
}

/// What came of one path.
struct Finding<'a> {
    path: &'a str,
    accepted: Option<f64>,
    now: Option<f64>,
    verdict: Verdict,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Verdict {
    Same,
    Changed,
    /// The accepted count is from another tool than the one here.
    NotJudged(String),
}

fn compare<'a>(accepted: &'a Counts, now: &'a Counts) -> Vec<Finding<'a>> {
    let mut paths: Vec<&String> = accepted.calls.keys().chain(now.calls.keys()).collect();
    paths.sort();
    paths.dedup();
    let compared = paths.into_iter().map(|path| {
        let (was, is) = (accepted.calls.get(path).copied(), now.calls.get(path).copied());
        let other = tools_of(path).iter().find(|tool| accepted.tools.get(**tool) != now.tools.get(**tool));
        let verdict = match (was, is, other) {
            (Some(_), Some(_), Some(tool)) => {
                let version = |of: &'a Counts| of.tools.get(*tool).map_or("none", String::as_str);
                Verdict::NotJudged(format!("{tool} is {}, not {}", version(now), version(accepted)))
            }
            (Some(was), Some(is), None) if (is - was).abs() <= was * TOLERANCE => Verdict::Same,
            _ => Verdict::Changed,
        };
        Finding { path, accepted: was, now: is, verdict }
    });
    compared.collect()
}

/// What the count of a path depends on.
fn tools_of(path: &str) -> &'static [&'static str] {
    if path.starts_with("c-") { &["rustc", "libc", "cpu", "cc"] } else { &["rustc", "libc", "cpu"] }
}

impl fmt::Display for Finding<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = |count: Option<f64>| count.map_or("none".to_owned(), |count| format!("{count:.1}"));
        write!(f, "{:<16}{:>10}{:>10}", self.path, number(self.accepted), number(self.now))?;
        match (self.accepted, self.now) {
            (Some(was), Some(now)) => write!(f, "{:>+9.2}%", (now / was - 1.0) * 100.0)?,
            _ => write!(f, "{:>10}", "")?,
        }
        match self.verdict {
            Verdict::Same => Ok(()),
            Verdict::Changed => f.write_str("  changed"),
            Verdict::NotJudged(_) => f.write_str("  not judged"),
        }
    }
}

/// The closing lines, and whether all is well. Not printed here: what a test prints of them would be counted as its runner's.
fn conclude(findings: &[Finding<'_>]) -> (String, Result<()>) {
    let mut reasons: Vec<&str> = Vec::new();
    let mut failed = 0;
    for finding in findings {
        match &finding.verdict {
            Verdict::Same => {}
            Verdict::Changed => failed += 1,
            Verdict::NotJudged(reason) => reasons.push(reason),
        }
    }
    let skipped = reasons.len();
    reasons.sort_unstable();
    reasons.dedup();
    let mut closing: String =
        reasons.iter().map(|reason| format!("skipped: counts are not judged: {reason}\n")).collect();
    closing += &format!("{} passed, {failed} failed, {skipped} skipped", findings.len() - failed - skipped);
    let outcome = match failed {
        0 => Ok(()),
        _ => Err(anyhow!(
            "{failed} counts changed by more than {} %; if that is meant: cargo xtask instructions --accept, in a commit of its own",
            TOLERANCE * 100.0
        )),
    };
    (closing, outcome)
}

/// The versions of what the counts depend on.
fn tools() -> Result<BTreeMap<String, String>> {
    let first_line = |program: &str, argument: &str| {
        let said = process::output_of(program, [argument]).with_context(|| format!("cannot run {program}"))?;
        Ok::<_, anyhow::Error>(said.lines().next().unwrap_or_default().to_owned())
    };
    let verbose = process::output_of("rustc", ["-vV"]).context("cannot run rustc")?;
    let host = verbose.lines().find_map(|line| line.strip_prefix("host: ")).unwrap_or("unknown host");
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    // The C library chooses its functions by what valgrind passes on of these.
    let vectors = if cpu.split_whitespace().any(|word| word == "avx2") { "with AVX2" } else { "without AVX2" };
    Ok(BTreeMap::from([
        ("rustc".to_owned(), format!("{} for {host}", first_line("rustc", "--version")?)),
        ("libc".to_owned(), first_line("ldd", "--version")?),
        ("cc".to_owned(), first_line(&std::env::var("CC").unwrap_or("cc".to_owned()), "--version")?),
        ("cpu".to_owned(), vectors.to_owned()),
    ]))
}

/// Builds what is shipped, since that is what is to stay fast, and counts.
fn count<T>(make: Make<T>) -> Result<BTreeMap<String, T>> {
    let build = Build::DIST;
    build.only(&["--package", "libflags-ffi", "--package", "libflags-benches", "--lib", "--bin", "instructions"])?;
    let folder = process::scratch("instructions")?;
    let program = folder.join("in-c");
    build.compile(&process::root().join("benches/c/instructions.c"), &program)?;
    let (rust, store) = (build.file("instructions"), folder.join("store"));
    process::run("instructions publish", Command::new(&rust).arg("publish").arg(&store))?;
    let mut calls = BTreeMap::new();
    calls.append(&mut counted("instructions::counted", &[&rust, Path::new("read"), &store], &folder, make)?);
    calls.append(&mut counted("counted", &[&program, &store], &folder, make)?);
    fs::remove_dir_all(store)?;
    Ok(calls)
}

/// What is made of two dumps, of which the second counted so many calls more.
type Make<T> = fn(&str, &str, f64) -> Result<T>;

fn difference(some: &str, more: &str, calls: f64) -> Result<f64> {
    let total = |dump| total(dump).context("callgrind said no total");
    Ok((f64::from(total(more)?) - f64::from(total(some)?)) / calls)
}

fn parts_of(some: &str, more: &str, calls: f64) -> Result<parts::Parts> {
    parts::between(some, more, calls)
}

/// Runs a program that has its paths counted in `function` and prints their names.
fn counted<T>(function: &str, command: &[&Path], folder: &Path, make: Make<T>) -> Result<BTreeMap<String, T>> {
    let dumps = folder.join("dumps");
    let _ = fs::remove_dir_all(&dumps);
    fs::create_dir(&dumps).with_context(|| format!("cannot make {}", dumps.display()))?;
    let mut valgrind = Command::new("valgrind");
    // Threads apart: while one is counted, another may just be on its way to wait for it.
    valgrind.args(["--quiet", "--tool=callgrind", "--separate-threads=yes", "--dump-instr=yes"]);
    valgrind.arg(format!("--zero-before={function}")).arg(format!("--dump-after={function}"));
    valgrind.arg(format!("--callgrind-out-file={}", dumps.join("dump").display())).args(command);
    // The environment lies on the stack, whose addresses C functions depend on.
    valgrind.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    let output = valgrind.stdin(Stdio::null()).stderr(Stdio::inherit()).output().context("cannot run valgrind")?;
    ensure!(output.status.success(), "{} under callgrind: {}", command[0].display(), output.status);
    let said = String::from_utf8(output.stdout)?;
    let paths: Vec<(&str, f64)> = said.lines().filter_map(path_line).collect();
    ensure!(!paths.is_empty(), "{} counted nothing", command[0].display());
    let counts = paths.iter().enumerate().map(|(place, (path, calls))| {
        // The last two of a path's turns differ by the calls alone.
        let last = (place + 1) * TURNS;
        Ok(((*path).to_owned(), make(&dump(&dumps, last - 1)?, &dump(&dumps, last)?, *calls)?))
    });
    counts.collect()
}

/// `path NAME CALLS`
fn path_line(line: &str) -> Option<(&str, f64)> {
    let (name, calls) = line.strip_prefix("path ")?.split_once(' ')?;
    Some((name, calls.parse().ok()?))
}

/// The dump of this number: a file for a thread, of which one did all the work.
fn dump(dumps: &Path, number: usize) -> Result<String> {
    let start = format!("dump.{number}-");
    let mut most: Option<(u32, String)> = None;
    for entry in fs::read_dir(dumps)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(&start) {
            let text = fs::read_to_string(entry.path())?;
            most = most.max(total(&text).map(|total| (total, text)));
        }
    }
    let (_, text) = most.with_context(|| format!("callgrind wrote no dump {number}: it did not meet the function"))?;
    Ok(text)
}

/// What callgrind counted before it wrote the dump.
fn total(dump: &str) -> Option<u32> {
    dump.lines().find_map(|line| line.strip_prefix("totals: ")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(calls: &[(&str, f64)], rustc: &str) -> Counts {
        let tools = [("rustc", rustc), ("cc", "12"), ("libc", "2.36"), ("cpu", "with AVX2")];
        Counts {
            tools: tools.iter().map(|(tool, version)| ((*tool).to_owned(), (*version).to_owned())).collect(),
            calls: calls.iter().map(|(path, count)| ((*path).to_owned(), *count)).collect(),
        }
    }

    fn verdict(accepted: f64, now: f64) -> Verdict {
        compare(&counts(&[("key", accepted)], "1"), &counts(&[("key", now)], "1")).remove(0).verdict
    }

    #[test]
    fn three_percent_fail_and_one_passes_either_way() {
        assert_eq!(verdict(100.0, 100.0), Verdict::Same);
        assert_eq!(verdict(100.0, 101.0), Verdict::Same);
        assert_eq!(verdict(100.0, 99.0), Verdict::Same);
        assert_eq!(verdict(100.0, 103.0), Verdict::Changed);
        assert_eq!(verdict(100.0, 97.0), Verdict::Changed);
        assert_eq!(verdict(8.0, 9.0), Verdict::Changed);
    }

    #[test]
    fn a_path_that_comes_or_goes_is_a_change() {
        let (one, two) = (counts(&[("key", 1.0)], "1"), counts(&[("key", 1.0), ("new", 1.0)], "1"));
        for (accepted, now) in [(&one, &two), (&two, &one)] {
            let findings = compare(accepted, now);
            assert_eq!(findings[0].verdict, Verdict::Same);
            assert_eq!(findings[1].verdict, Verdict::Changed);
            assert!(conclude(&findings).1.is_err());
        }
    }

    #[test]
    fn counts_of_another_compiler_are_shown_and_not_judged() {
        let (old, mut new) =
            (counts(&[("c-key", 1.0), ("key", 1.0)], "1"), counts(&[("c-key", 2.0), ("key", 2.0)], "2"));
        let findings = compare(&old, &new);
        for finding in &findings {
            assert_eq!(finding.verdict, Verdict::NotJudged("rustc is 2, not 1".to_owned()));
        }
        assert!(conclude(&findings).1.is_ok());
        // The C compiler concerns the paths in C alone.
        new.tools.extend([("rustc".to_owned(), "1".to_owned()), ("cc".to_owned(), "13".to_owned())]);
        let findings = compare(&old, &new);
        assert_eq!(findings[0].verdict, Verdict::NotJudged("cc is 13, not 12".to_owned()));
        assert_eq!(findings[1].verdict, Verdict::Changed);
    }

    #[test]
    fn the_file_is_read_as_it_is_written() {
        let counts = counts(&[("c-key", 60.5), ("key", 52.0)], "1.2.3 (\"x\")");
        assert_eq!(Counts::parse(&counts.to_text()).expect("it is TOML"), counts);
        assert!(Counts::parse("[tools]\n").is_err());
    }

    #[test]
    fn the_committed_file_is_one() {
        let text = fs::read_to_string(process::root().join("benches/instructions.toml")).expect("it is committed");
        let counts = Counts::parse(&text).expect("it is as --accept writes it");
        assert!(counts.calls.len() >= 10 && counts.calls.values().all(|count| *count > 0.0), "{counts:?}");
    }
}
