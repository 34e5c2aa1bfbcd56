//! What memory of its own a reader process needs, and that it needs no more for a hundred times the flags.

use std::fmt::Write;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use libflags::compile::Compiler;
use libflags::definition::{Document, Format, Limits, Selector};
use libflags::store::{PublishMeta, Publisher, PublisherOptions};
use libflags_tests::processes::{Watchdog, store_folder};

#[test]
fn a_reader_needs_as_little_memory_for_many_flags_as_for_few() {
    let _watchdog = Watchdog::start(Duration::from_secs(900));
    if !Path::new("/proc/self/smaps_rollup").exists() {
        println!("skipped: this system has no /proc/PID/smaps_rollup");
        return;
    }
    let (few, many) = (extra_kib(1_000), extra_kib(100_000));
    println!("private memory of a reader: {few} KiB for 1 000 flags, {many} KiB for 100 000");
    // Ten times what it was when this was written; pages come as the system likes.
    assert!(few <= 200 && many <= 200, "{few} KiB, {many} KiB");
    assert!(many <= few + 64, "{few} KiB, {many} KiB");
}

/// What opening a store of so many flags and reading each adds to a process, in KiB.
fn extra_kib(flags: u64) -> u64 {
    let folder = store_folder();
    let mut publisher = Publisher::open(folder.path(), &PublisherOptions::default()).expect("a publisher");
    publisher.publish(&snapshot(flags), &PublishMeta::default()).expect("published");
    // What a single process maps counts as its own, code and flags alike: here, as on a host, there is another.
    let first = Probe::start(folder.path(), flags);
    let second = Probe::start(folder.path(), flags);
    first.finish();
    second.finish()
}

/// A process that opens the store, reads all flags, and stays.
struct Probe {
    child: Child,
    flags: u64,
    said: String,
}

impl Probe {
    fn start(set: &Path, flags: u64) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_private-memory"));
        command.arg(set).arg(flags.to_string()).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("private-memory starts");
        let mut said = String::new();
        BufReader::new(child.stdout.take().expect("it was asked for")).read_line(&mut said).expect("its report");
        Self { child, flags, said }
    }

    /// Ends it, and gives what it needed in KiB.
    fn finish(mut self) -> u64 {
        drop(self.child.stdin.take());
        let status = self.child.wait().expect("a child can be waited for");
        assert!(status.success(), "{status}: {}", self.said);
        let words = self.said.split_whitespace().skip(1);
        let numbers: Vec<u64> = words.map(|word| word.parse().expect("a number")).collect();
        let &[before, after, evaluations] = numbers.as_slice() else { panic!("{}", self.said) };
        assert_eq!(evaluations, self.flags);
        assert!(before > 0 && after > before, "{}", self.said);
        after - before
    }
}

/// Flags `flag-0` and so on, every second with a rule, all on for premium users.
fn snapshot(flags: u64) -> Vec<u8> {
    let mut text = String::from(r#"{"flags": {"#);
    for number in 0..flags {
        let separator = if number == 0 { "" } else { ",\n" };
        let rest = if number % 2 == 0 {
            r#""defaultVariant": "on""#
        } else {
            r#""defaultVariant": "off", "targeting": {"if": [{"==": [{"var": "tier"}, "premium"]}, "on"]}"#
        };
        // Writing to a text cannot fail.
        let _ = write!(
            text,
            r#"{separator}"flag-{number}": {{"state": "ENABLED", "variants": {{"on": true, "off": false}}, {rest}}}"#
        );
    }
    text.push_str("}}");
    let limits = Limits::default();
    let document = Document::parse("many", &text, Format::Json, &limits).expect("JSON");
    let compilation = Compiler::new(limits).compile(&[document], &Selector::All).expect("a snapshot");
    assert_eq!((compilation.flags as u64, compilation.problems.len()), (flags, 0));
    compilation.snapshot.to_vec()
}
