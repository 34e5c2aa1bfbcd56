//! Runs the real binary, and publishes stores for it to read.

#![allow(dead_code, reason = "each test binary uses its own part")]

pub(crate) mod plane;

use std::{
    ffi::OsStr,
    io::Read,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use libflags::{
    compile::Compiler,
    definition::{Document, Format, Limits, Selector},
    snapshot::list_file,
    store::{PublishMeta, Publisher, PublisherOptions},
};
use tempfile::TempDir;

/// Ends tests that hang; nothing here takes more than a moment.
pub(crate) const WATCHDOG: Duration = Duration::from_secs(120);

/// What a run of flagsctl gave.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Run {
    /// Asserts the exit code, with everything there is to see where it is another.
    #[track_caller]
    pub(crate) fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, code, "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }

    /// Asserts all of stdout, and that stderr is empty.
    #[track_caller]
    pub(crate) fn prints(self, expected: &str) -> Self {
        assert_eq!(self.stdout, expected, "\n--- found:\n{}\n--- expected:\n{expected}", self.stdout);
        assert_eq!(self.stderr, "");
        self
    }

    /// Asserts that stderr is `expected` and stdout empty.
    #[track_caller]
    pub(crate) fn complains(self, expected: &str) -> Self {
        assert_eq!(self.stderr, expected);
        assert_eq!(self.stdout, "");
        self
    }

    /// Its output as JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {}", self.stdout))
    }
}

/// flagsctl, not run yet; no environment of the host's leads it to a store.
pub(crate) fn command(directory: &Path, arguments: &[impl AsRef<OsStr>]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_flagsctl"));
    command.current_dir(directory).args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.env("FLAGS_STORE", directory.join("no-store")).env("COLUMNS", "100");
    command
}

/// Runs flagsctl to its end.
pub(crate) fn flagsctl(directory: &Path, arguments: &[impl AsRef<OsStr>]) -> Run {
    finish(command(directory, arguments).spawn().expect("flagsctl starts"))
}

/// Waits for a run to end.
pub(crate) fn finish(mut child: Child) -> Run {
    fn reading(pipe: Option<impl Read + Send + 'static>) -> thread::JoinHandle<String> {
        thread::spawn(move || {
            let mut text = String::new();
            if let Some(mut pipe) = pipe {
                pipe.read_to_string(&mut text).expect("UTF-8");
            }
            text
        })
    }
    let (stdout, stderr) = (reading(child.stdout.take()), reading(child.stderr.take()));
    let status = wait(&mut child);
    Run {
        code: status.code().unwrap_or(-1),
        stdout: stdout.join().expect("read"),
        stderr: stderr.join().expect("read"),
    }
}

/// Waits for a process to end, but not for ever.
pub(crate) fn wait(child: &mut Child) -> std::process::ExitStatus {
    let deadline = Instant::now() + WATCHDOG;
    loop {
        if let Some(status) = child.try_wait().expect("a child") {
            return status;
        }
        if Instant::now() > deadline {
            let _ = child.kill();
            panic!("it hangs");
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// Waits until `condition` holds, but not for ever.
#[track_caller]
pub(crate) fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + WATCHDOG;
    while !condition() {
        assert!(Instant::now() < deadline, "{what} does not happen");
        thread::sleep(Duration::from_millis(20));
    }
}

/// A directory with files in it.
pub(crate) fn directory(files: &[(&str, &str)]) -> TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    for (name, text) in files {
        std::fs::write(directory.path().join(name), text).expect("a file");
    }
    directory
}

/// A store and its publisher.
#[derive(Debug)]
pub(crate) struct Store {
    pub(crate) directory: TempDir,
    pub(crate) publisher: Publisher,
    compiler: Compiler,
}

impl Store {
    pub(crate) fn new() -> Self {
        Self::within(tempfile::tempdir().expect("a directory"))
    }

    /// The store `set` in a directory.
    pub(crate) fn within(directory: TempDir) -> Self {
        let publisher = Publisher::open(&directory.path().join("set"), &PublisherOptions::default()).expect("opens");
        Self { directory, publisher, compiler: Compiler::new(Limits::default()) }
    }

    /// The set's directory.
    pub(crate) fn path(&self) -> PathBuf {
        self.directory.path().join("set")
    }

    /// The same as an argument.
    pub(crate) fn argument(&self) -> String {
        self.path().display().to_string()
    }

    /// Publishes a definition; id lists are found beside `set`.
    pub(crate) fn publish(&mut self, text: &str) -> u64 {
        let name = self.directory.path().join("flags.json").display().to_string();
        let document = Document::parse(&name, text, Format::Json, &Limits::default()).expect("a definition");
        let compilation = self.compiler.compile(&[document], &Selector::All).expect("compiles");
        for list in &compilation.lists {
            if let Some(built) = &list.built {
                let file = list_file(list.name);
                let hash = file.strip_prefix("list-").expect("the name of a list");
                self.publisher.publish_list(hash, |file| built.write_to(file)).expect("is put there");
            }
        }
        let meta = PublishMeta { revision: 7, ..PublishMeta::default() };
        self.publisher.publish(&compilation.snapshot, &meta).expect("publishes").0
    }
}

/// A set of flags of every kind.
pub(crate) const FLAGS: &str = r#"{
  "metadata": {"flagSetId": "shop"},
  "$evaluators": {"is-staff": {"ends_with": [{"var": "email"}, "@example.com"]}},
  "flags": {
    "new-cart": {
      "state": "ENABLED", "variants": {"on": true, "off": false}, "defaultVariant": "off",
      "targeting": {"if": [
        {"$ref": "is-staff"}, "on",
        {"and": [{"==": [{"var": "tier"}, "premium"]}, {"in": [{"var": "country"}, ["CH", "FR"]]}]}, "on",
        {"fractional": [["on", 10], ["off", 90]]}
      ]}
    },
    "max-items": {"state": "ENABLED", "variants": {"few": 10, "many": 50}, "defaultVariant": "few",
      "metadata": {"owner": "cart"}},
    "theme": {"state": "DISABLED", "variants": {"plain": {"dark": false}}, "defaultVariant": "plain"},
    "greeting": {"state": "ENABLED", "variants": {"hi": "hello", "none": ""}}
  }
}"#;

/// A definition with a flag that has three errors, and a good one.
pub(crate) const BAD: &str = r#"{
  "flags": {
    "typo": {
      "state": "ENABLE",
      "variants": {"on": true, "off": false},
      "defaultVariant": "onn",
      "targeting": {"iff": [true, "on"]}
    },
    "good": {"state": "ENABLED", "variants": {"a": "A"}, "defaultVariant": "a"}
  }
}"#;
