//! flagsctl and the real flagsd, where that has been built beside it (`cargo xtask test` does so).

mod common;

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use common::{FLAGS, directory, flagsctl, until};
use serde_json::json;

struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// flagsd's binary, beside flagsctl's. Tells by a question it can answer that it is no placeholder.
fn flagsd() -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_BIN_EXE_flagsctl")).with_file_name("flagsd");
    let help = Command::new(&beside).args(["run", "--help"]).output().ok()?;
    (help.status.success() && String::from_utf8_lossy(&help.stdout).contains("--state-dir")).then_some(beside)
}

#[test]
fn steering_the_real_flagsd() {
    let Some(flagsd) = flagsd() else {
        println!("skipped: flagsd has not been built beside flagsctl; `cargo build -p flagsd` does so");
        return;
    };
    let files = directory(&[("flags.json", FLAGS)]);
    let (here, store) = (files.path(), files.path().join("set").display().to_string());
    let source = format!("file:{}", here.join("flags.json").display());
    let state = here.join("state").display().to_string();
    let child = Command::new(flagsd)
        .args(["run", "--store", &store, "--source", &source, "--state-dir", &state])
        .env_remove("FLAGSD_CONFIG")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("flagsd starts");
    let _daemon = Daemon(child);
    let run = |arguments: &[&str]| flagsctl(here, &[arguments, &["--store", &store]].concat());
    let value = |key: &str| run(&["eval", key, "--value"]).stdout;
    until("a publication", || run(&["status"]).code == 0);
    until("an answer of flagsd's", || run(&["status", "--json"]).json()["daemon"]["pid"].is_u64());

    let status = run(&["status", "--json", "--check"]).exits(0).json();
    assert_eq!(
        (&status["flags"], &status["state"], &status["daemonAlive"]),
        (&json!(4), &json!("fresh"), &json!(true))
    );
    assert_eq!(status["daemon"]["pid"], status["daemonPid"]);
    assert!(run(&["status"]).exits(0).stdout.contains(&format!("source      {source}")));

    // An override counts at once, is shown, and goes again.
    assert_eq!(value("max-items"), "10\n");
    run(&["override", "max-items=many"]).exits(0);
    assert_eq!(value("max-items"), "50\n");
    assert!(run(&["status"]).stdout.contains("override    max-items = \"many\""));
    let refused = run(&["override", "max-items=lots"]).exits(3);
    assert!(refused.stderr.contains("flagsd refuses (422)"), "{}", refused.stderr);
    run(&["override", "--clear", "max-items"]).exits(0);
    assert_eq!(value("max-items"), "10\n");
    assert!(run(&["override", "--clear", "max-items"]).exits(3).stderr.contains("(404)"));

    // Frozen, it does not follow its source; then it does.
    assert!(run(&["freeze"]).exits(0).stdout.starts_with("frozen at generation "));
    assert_eq!(run(&["status", "--json"]).json()["state"], "frozen");
    std::fs::write(here.join("flags.json"), FLAGS.replace("\"few\",", "\"many\",")).expect("a file");
    run(&["reload"]).exits(0);
    assert_eq!(value("max-items"), "10\n");
    run(&["unfreeze"]).exits(0);
    until("the change", || value("max-items") == "50\n");

    // Back, and forward again.
    let back = run(&["rollback"]).exits(0).stdout;
    assert!(back.contains("rolled back: generation "), "{back}");
    assert_eq!(value("max-items"), "10\n");
    run(&["unfreeze"]).exits(0);
    until("the change once more", || value("max-items") == "50\n");
    assert!(run(&["confirm"]).exits(3).stderr.contains("no change is held"));
    assert!(run(&["rollback", "999999"]).exits(3).stderr.contains("generation 999999 is not kept"));
}
