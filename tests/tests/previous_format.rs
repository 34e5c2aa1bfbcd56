//! Today's library and the one of the previous format read each other's stores, or refuse them clearly.
//!
//! `ci/previous.sh` builds the earlier library's `store-peer` and names it in `FLAGS_PREVIOUS_PEER`.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use libflags_tests::golden;
use libflags_tests::processes::{Watchdog, store_folder};

/// A running `store-peer`.
struct Peer {
    child: Child,
    commands: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Peer {
    fn start(program: &Path, set: &Path) -> Self {
        let mut child = Command::new(program)
            .arg(set)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{} does not start: {error}", program.display()));
        let answers = BufReader::new(child.stdout.take().expect("it was asked for"));
        Self { commands: child.stdin.take(), child, answers }
    }

    fn ask(&mut self, command: &str) -> Result<String, String> {
        writeln!(self.commands.as_ref().expect("open until dropped"), "{command}").expect("it listens");
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("it answers");
        let line = line.trim_end();
        match line.split_once(' ').unwrap_or((line, "")) {
            ("ok", answer) => Ok(answer.to_owned()),
            ("error", reason) => Err(reason.to_owned()),
            _ => panic!("{command}: the peer ended or said {line:?}"),
        }
    }

    fn publish(&mut self, generation: u64) {
        let file = golden::folder("v1").join("definition.json");
        assert_eq!(self.ask(&format!("publish {}", file.display())), Ok(generation.to_string()));
    }

    fn answers(&mut self, generation: u64) -> Result<String, String> {
        self.ask(&format!("answers {generation}"))
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        drop(self.commands.take());
        let _ = self.child.wait();
    }
}

fn today() -> PathBuf {
    env!("CARGO_BIN_EXE_store-peer").into()
}

fn previous() -> Option<PathBuf> {
    let named = std::env::var_os("FLAGS_PREVIOUS_PEER").map(PathBuf::from);
    if named.is_none() {
        println!("skipped: the previous format's library is built by ci/previous.sh");
    }
    named
}

/// What the reader of another version than the publisher's says must be the same, or a refusal that names the formats.
fn assert_agreed_or_refused(told: Result<String, String>, by_own: &str) {
    match told {
        Ok(answers) => assert_eq!(answers, by_own, "the versions answer differently"),
        Err(reason) => assert!(
            ["format", "supports", "features"].iter().any(|word| reason.contains(word)),
            "refused, but not clearly: {reason}"
        ),
    }
}

/// One version publishes, both read; then the other takes over the same store while both readers go on.
fn a_store_changes_hands(first: &Path, second: &Path) {
    let _watchdog = Watchdog::start(Duration::from_secs(600));
    let folder = store_folder();
    let (mut one, mut other) = (Peer::start(first, folder.path()), Peer::start(second, folder.path()));
    one.publish(1);
    let own = one.answers(1).expect("its own store");
    assert!(own.contains("on/0: true yes STATIC -"), "{own}");
    assert_agreed_or_refused(other.answers(1), &own);

    assert_eq!(one.ask("leave"), Ok(String::new()));
    let same_format = other.answers(1).is_ok();
    other.publish(if same_format { 2 } else { 1 });
    if same_format {
        let own = other.answers(2).expect("its own store");
        assert_agreed_or_refused(one.answers(2), &own);
    }
}

#[test]
fn a_store_of_the_previous_format_is_taken_over_by_todays() {
    if let Some(previous) = previous() {
        a_store_changes_hands(&previous, &today());
    }
}

#[test]
fn a_store_of_todays_is_taken_over_by_the_previous_format() {
    if let Some(previous) = previous() {
        a_store_changes_hands(&today(), &previous);
    }
}
