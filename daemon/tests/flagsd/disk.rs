//! Disks that are full or may not be written.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::{Host, many, number, read};

/// A small file system in memory.
pub(crate) struct Tmpfs(PathBuf);

impl Tmpfs {
    /// `None`, and a word why, where mounting is not allowed.
    pub(crate) fn mount(path: &Path, size: &str) -> Option<Self> {
        fs::create_dir_all(path).expect("made");
        let options = format!("size={size},mode=755");
        let output = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(path).output();
        match output {
            Ok(output) if output.status.success() => Some(Self(path.to_owned())),
            Ok(output) => {
                println!("skipped: cannot mount a tmpfs: {}", String::from_utf8_lossy(&output.stderr).trim());
                None
            }
            Err(error) => {
                println!("skipped: cannot mount a tmpfs: {error}");
                None
            }
        }
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

#[test]
fn a_full_store_keeps_what_is_published_and_is_tried_again() {
    let host = Host::with_file("flags.json", &number(1));
    let Some(_tmpfs) = Tmpfs::mount(&host.store(), "256k") else { return };
    let daemon = host.start();
    let client = host.client();
    assert_eq!(read(&client, "n"), 1);
    fs::write(host.store().join("filler"), vec![1; 200 << 10]).expect("fits");
    let big = many(1_000, 0).replace(
        r#"{"flags": {"#,
        r#"{"flags": {"n": {"state": "ENABLED", "variants": {"v": 2}, "defaultVariant": "v"}, "#,
    );
    host.write("flags.json", &big);
    let status = daemon.wait_for_status("the failure", |status| !status["publish_error"].is_null());
    let reason = status["publish_error"]["reason"].as_str().unwrap_or_default();
    assert!(reason.contains("No space left"), "{status}");
    assert_eq!(read(&client, "n"), 1);
    let left: Vec<_> = fs::read_dir(host.store().join("v1")).expect("is there").collect();
    assert!(left.len() <= 3, "nothing of the attempt is left: {left:?}");
    fs::remove_file(host.store().join("filler")).expect("removed");
    daemon.wait_for("the next try", || read(&client, "n") == 2);
    assert!(daemon.status()["publish_error"].is_null());
}

#[test]
fn a_full_state_directory_is_said_and_nothing_else() {
    let mut host = Host::with_file("flags.json", &number(1));
    host.env("FLAGSD_GUARD__MAX_LOSS_PERCENT", "100");
    let Some(_tmpfs) = Tmpfs::mount(&host.path("state"), "64k") else { return };
    let daemon = host.start();
    let client = host.client();
    assert!(daemon.status()["keep_error"].is_null());
    host.write("flags.json", &many(1_000, 0));
    let status = daemon.wait_for_status("the failure", |status| !status["keep_error"].is_null());
    assert_eq!((&status["flags"], &status["state"]), (&1_000.into(), &"fresh".into()));
    assert_eq!(status["kept"].as_array().map(Vec::len), Some(1), "what was kept is kept still");
    host.write("flags.json", &number(2));
    daemon.wait_for("the change", || read(&client, "n") == 2);
    daemon.wait_for_status("no failure", |status| status["keep_error"].is_null());
}

/// Each part that is not in the state directory is told of and tried again, whatever became of the others.
#[test]
fn what_could_not_be_kept_is_kept_later() {
    let host = Host::with_file("flags.json", &number(1));
    let daemon = host.start();
    let state = host.path("state/default");
    let names = fs::read_dir(&state).expect("is there").map(|entry| entry.expect("an entry").path());
    let text = names.into_iter().find(|path| path.to_string_lossy().contains("/source-")).expect("a text");
    let old = fs::read(&text).expect("can be read");
    // Where it wants to write a file stands a directory, which stops root too.
    let text_name = text.file_name().expect("a name").to_string_lossy();
    let in_the_way = [state.join(format!(".{text_name}.new")), state.join("segment-2.tmp")];
    for path in &in_the_way {
        fs::create_dir(path).expect("made");
    }
    let failures = || {
        let (_, metrics) = daemon.try_get("/metrics").expect("metrics");
        let line = metrics.lines().find(|line| line.starts_with("flagsd_keep_failures_total{")).expect("a counter");
        line.rsplit(' ').next().and_then(|count| count.parse::<u64>().ok()).expect("a number")
    };
    host.write("flags.json", &number(2));
    daemon.wait_for("the change", || read(&host.client(), "n") == 2);
    daemon.wait_for("each to fail twice", || failures() >= 4);
    assert!(state.join("unsettled").exists() && fs::read(&text).expect("is there") == old);
    assert_eq!(daemon.status()["kept"].as_array().map(Vec::len), Some(1));
    for what in ["segment-2", "the text of"] {
        let told = daemon.log().lines().filter(|line| line.contains("survive a reboot") && line.contains(what)).count();
        assert_eq!(told, 1, "{what}: {}", daemon.log());
    }

    fs::remove_dir(&in_the_way[0]).expect("removed");
    daemon.wait_for("the text", || fs::read(&text).is_ok_and(|now| now != old) && !state.join("unsettled").exists());
    let reason = daemon.status()["keep_error"]["reason"].to_string();
    assert!(reason.contains("segment-2"), "the other is not forgotten: {reason}");
    fs::remove_dir(&in_the_way[1]).expect("removed");
    let status = daemon.wait_for_status("no failure", |status| status["keep_error"].is_null());
    assert_eq!(status["kept"].as_array().map(Vec::len), Some(2), "{status}");
    assert!(daemon.log().contains("in the state directory again"), "{}", daemon.log());
    daemon.kill();
    fs::remove_dir_all(host.store()).expect("removed");
    fs::remove_file(host.path("flags.json")).expect("removed");
    let daemon = host.start();
    assert_eq!(read(&host.client(), "n"), 2, "{}", daemon.log());
}

#[test]
fn without_a_state_directory_it_works_and_warns() {
    let mut host = Host::with_file("flags.json", &number(1));
    // A file where the directory should be, which stops root too.
    fs::write(host.path("state"), "").expect("written");
    let daemon = host.start();
    let status = daemon.status();
    assert!(status["keep_error"]["reason"].as_str().is_some_and(|reason| reason.contains("state/default")), "{status}");
    assert_eq!((read(&host.client(), "n"), &status["state"]), (1, &"fresh".into()));
    assert_eq!(daemon.tell("POST", "/rollback", "").0, 409);
    assert_eq!(daemon.tell("PUT", "/overrides/n", r#"{"value": 4}"#).0, 200);
    daemon.kill();
    fs::remove_file(host.path("state")).expect("removed");

    // The same for a directory that may not be written, by a user that has to ask.
    fs::create_dir(host.path("state")).expect("made");
    fs::remove_dir_all(host.store()).expect("removed");
    host.without_rights();
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(host.path("state"), fs::Permissions::from_mode(0o555)).expect("ours");
    let daemon = host.start();
    assert_eq!(read(&host.client(), "n"), 1);
    assert!(!daemon.status()["keep_error"].is_null());
}

#[test]
fn a_store_that_cannot_be_written_is_an_error_that_names_it() {
    let host = Host::with_file("flags.json", &number(1));
    fs::write(host.store(), "a file").expect("written");
    let (code, log) = host.run_to_end();
    assert_eq!(code, Some(1), "{log}");
    assert!(log.contains(&host.store().display().to_string()), "{log}");
}
