//! An older state comes back, and hosts take it.

use std::path::Path;

use serde_json::json;

use crate::harness::{Database, eventually, program};

const FLAGS: &str = "/api/v1/projects/shop/flags";
const CONFIG: &str = "/api/v1/projects/shop/environments/test/flags/a";

fn run(database: &str, arguments: &[&str]) -> (bool, String) {
    let output = program(database).args(arguments).output().unwrap();
    (output.status.success(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}

#[test]
fn hosts_follow_a_database_that_was_restored() {
    let database = Database::sqlite();
    let copy = database.folder.path().join("copy");
    let copy = copy.to_str().unwrap();
    let server = database.serve();
    let admin = server.furnished();
    admin.post(FLAGS, json!({"key": "a"})).expect(201);
    admin.patch(CONFIG, json!({"metadata": {"n": 1}})).expect(200);
    let schedules = "/api/v1/projects/shop/environments/test/schedules";
    let later = json!({"flag": "a", "patch": {"state": "ENABLED"}, "atMs": 9_000_000_000_000_i64});
    admin.post(schedules, later).expect(201);
    assert!(run(&database.url, &["backup", copy]).0);
    for at in 2..9 {
        admin.patch(CONFIG, json!({"metadata": {"n": at}})).expect(200);
    }
    eventually("hosts have it", || admin.get("/sync/v1/shop/test/snapshot").etag() == "\"1.10\"");

    let (done, said) = run(&database.url, &["restore", copy]);
    assert!(!done && said.contains("--replace"), "{said}");
    let (done, said) = run(&database.url, &["restore", copy, "--replace"]);
    assert!(!done && said.contains("in use"), "{said}");
    admin.patch(CONFIG, json!({"metadata": {"n": 9}})).expect(200);
    drop(server);
    for bad in ["/nonexistent", database.folder.path().join("control.toml").to_str().unwrap()] {
        assert!(!run(&database.url, &["restore", bad, "--replace"]).0, "{bad}");
    }
    let (done, said) = run(&database.url, &["restore", copy, "--replace"]);
    assert_eq!((done, said.as_str()), (true, "shop/test: epoch 2, revision 4\nshop/live: epoch 2, revision 3\n"));
    assert!(!Path::new(&format!("{}.restoring", database.url.trim_start_matches("sqlite:"))).exists());

    let server = database.serve();
    let admin = server.admin();
    eventually("hosts get it", || admin.get("/sync/v1/shop/test/snapshot").etag() == "\"2.4\"");
    // Who was at a revision that is no more gets the whole, of a later epoch.
    let stream = admin.stream("shop/test", Some("1.11"));
    let event = stream.next();
    assert_eq!((event.kind.as_str(), event.id.as_str()), ("snapshot", "2.4"));
    assert!(event.data.contains(r#""metadata":{"n":1}"#), "{}", event.data);
    let log = admin.get("/api/v1/projects/shop/environments/test/changes").expect(200);
    assert_eq!((&log["items"][0]["action"], &log["items"][0]["epoch"]), (&json!("backup.restore"), &json!(2)));
    let scheduled = admin.get(schedules).expect(200);
    assert_eq!(scheduled["items"][0]["state"], "cancelled", "whether it happened nobody knows");
    admin.patch(CONFIG, json!({"metadata": {"n": 10}})).expect(200);
    let event = stream.next();
    assert_eq!((event.kind.as_str(), event.id.as_str()), ("change", "2.5"));
    drop((stream, server));

    // Once more: the epoch is above what the replaced one had, not what the backup had.
    let (done, said) = run(&database.url, &["restore", copy, "--replace"]);
    assert!(done && said.starts_with("shop/test: epoch 3, revision 4\n"), "{said}");
    // And where what it replaces is lost, above whatever it may have been.
    let elsewhere = format!("sqlite:{}", database.folder.path().join("elsewhere").display());
    let (done, said) = run(&elsewhere, &["restore", copy]);
    let epoch: u64 = said.split_once("epoch ").unwrap().1.split_once(',').unwrap().0.parse().unwrap();
    assert!(done && epoch > 1_700_000_000, "{said}");
}

#[test]
fn postgresql_is_restored_by_its_own_tools() {
    let Some(database) = Database::postgres() else {
        println!("skipped: PostgreSQL is not installed");
        return;
    };
    let server = database.serve();
    let admin = server.furnished();
    let stream = admin.stream("shop/test", None);
    assert_eq!(stream.next().id, "1.1");
    assert!(!run(&database.url, &["restore", "/some/file"]).0);
    let (done, said) = run(&database.url, &["restore"]);
    assert!(done && said.starts_with("shop/test: epoch "), "{said}");
    // Replicas that run go on with it.
    let event = stream.next();
    let event = if event.kind == "current" { stream.next() } else { event };
    let (epoch, revision) = event.id.split_once('.').unwrap();
    assert_eq!((event.kind.as_str(), revision), ("snapshot", "2"));
    assert!(epoch.parse::<u64>().unwrap() > 1_700_000_000);
}
