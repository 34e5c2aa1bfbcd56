//! The wall clock jumps, for the program alone: a library loaded before all others stands between it and the kernel's.

use std::ffi::OsString;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::Command;

use flags_sync::{Snapshot, Trust};
use serde_json::json;

use crate::bad_days::check_log;
use crate::harness::{Client, Database, eventually};

const FLAGS: &str = "/api/v1/projects/shop/flags";
const CONFIG: &str = "/api/v1/projects/shop/environments/test/flags/a";
const HOUR: i64 = 3_600;

/// A clock that can be set, for programs that are started with it.
pub(crate) struct Clock {
    offset: File,
    environment: [(&'static str, PathBuf); 2],
    _folder: tempfile::TempDir,
}

impl Clock {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (library, path) = (folder.path().join("clock.so"), folder.path().join("offset"));
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/control/clock.c");
        let made =
            Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(source).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let clock = Self {
            offset: File::create(&path).unwrap(),
            environment: [("LD_PRELOAD", library), ("TEST_CLOCK", path)],
            _folder: folder,
        };
        clock.jump_to(0);
        clock
    }

    pub(crate) fn environment(&self) -> [(&str, OsString); 2] {
        self.environment.each_ref().map(|(name, path)| (*name, path.clone().into()))
    }

    /// Seconds ahead of the right time, or behind.
    #[expect(clippy::host_endian_bytes, reason = "the library that reads it runs on this machine")]
    pub(crate) fn jump_to(&self, seconds: i64) {
        self.offset.write_all_at(&seconds.to_ne_bytes(), 0).unwrap();
    }
}

fn now_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    i64::try_from(since.as_millis()).unwrap()
}

fn change(admin: &Client, by: &str) -> u64 {
    admin.patch(CONFIG, json!({"metadata": {"by": by}})).expect(200)["revision"].as_u64().unwrap()
}

#[test]
fn revisions_go_on_whatever_the_clock_does() {
    let (database, clock) = (Database::sqlite(), Clock::new());
    let server = database.serve_by(&clock);
    let admin = server.furnished();
    admin.post(FLAGS, json!({"key": "a"})).expect(201);
    eventually("hosts get it", || admin.get("/sync/v1/shop/test/snapshot").etag() == "\"1.2\"");
    let stream = admin.stream("shop/test", Some("1.2"));
    let offsets = [0, 48 * HOUR, -48 * HOUR, 20 * 365 * 24 * HOUR, 0];
    for (revision, offset) in (3..).zip(offsets) {
        clock.jump_to(offset);
        assert_eq!(change(&admin, &offset.to_string()), revision);
        assert_eq!(stream.next_change().id, format!("1.{revision}"));
        let text = admin.get("/sync/v1/shop/test/snapshot").text;
        let stamp = Snapshot::open(&text, "shop/test", &Trust::Transport).unwrap().stamp;
        assert_eq!(stamp.revision, revision);
        let off_ms = i64::try_from(stamp.time_ms).unwrap() - now_ms() - offset * 1_000;
        assert!(off_ms.abs() < 600_000, "the time is the program's, which is {off_ms} ms off");
    }
    check_log(&admin, 7);
    drop(server);
    // What is read anew is the same, with a clock that is right.
    check_log(&database.serve().admin(), 7);
}

#[test]
fn tokens_end_by_the_wall_clock_and_limits_do_not() {
    let (database, clock) = (Database::sqlite(), Clock::new());
    let server = database.serve_by(&clock);
    let admin = server.furnished();
    let new = json!({"name": "an hour", "scope": "read", "expiresMs": now_ms() + HOUR * 1_000});
    let made = admin.post("/api/v1/tokens", new).expect(201);
    let short = server.with_token(made["token"].as_str().unwrap());
    let status = || short.get("/api/v1/projects").status;
    assert_eq!(status(), 200);
    clock.jump_to(2 * HOUR);
    assert_eq!(status(), 401);
    assert_eq!(admin.get("/api/v1/projects").status, 200, "one without an end");
    clock.jump_to(-2 * HOUR);
    assert_eq!(status(), 200, "it has not ended yet by this clock");
    clock.jump_to(0);

    let server = database.serve_by_with(&clock, "[limits]\nrequests_per_second = 1\nburst = 3\n");
    let admin = server.admin();
    let exhausted = || (0..4).any(|_| admin.get("/api/v1/projects").status == 429);
    assert!(exhausted());
    clock.jump_to(1_000 * HOUR);
    assert!(exhausted(), "a clock that runs ahead gives nothing");
    clock.jump_to(-1_000 * HOUR);
    eventually("one that goes back locks nobody out", || admin.get("/api/v1/projects").status == 200);
}
