//! Killed programs and dead databases.

use std::io::Read;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use flags_sync::{Snapshot, Trust};
use serde_json::json;

use crate::harness::{Client, Database, PATIENCE, eventually, free_port, on_both};
use crate::segments::{as_a_host, snapshot};

const FLAGS: &str = "/api/v1/projects/shop/flags";
const SEGMENTS: &str = "/api/v1/projects/shop/environments/test/segments";
const CONFIG: &str = "/api/v1/projects/shop/environments/test/flags/a";

#[test]
fn what_was_acknowledged_outlives_a_kill_at_any_moment() {
    on_both(|database| {
        let mut server = database.serve();
        server.furnished().post(FLAGS, json!({"key": "a"})).expect(201);
        let mut acknowledged = 0;
        for round in 0..6 {
            let stop = AtomicBool::new(false);
            let newest = AtomicU64::new(acknowledged);
            thread::scope(|scope| {
                for writer in 0..3 {
                    let (admin, stop, newest) = (server.admin(), &stop, &newest);
                    scope.spawn(move || {
                        let mut at = 0;
                        while !stop.load(Ordering::Relaxed) {
                            at += 1;
                            let reply =
                                admin.patch(CONFIG, json!({"metadata": {"by": format!("{round}.{writer}.{at}")}}));
                            if reply.status == 200 {
                                newest.fetch_max(reply.expect(200)["revision"].as_u64().unwrap(), Ordering::Relaxed);
                            }
                        }
                    });
                }
                let start = Instant::now();
                let before = newest.load(Ordering::Relaxed);
                while newest.load(Ordering::Relaxed) < before + 5 + 3 * round && start.elapsed() < PATIENCE {
                    thread::sleep(Duration::from_millis(1));
                }
                server.child.kill().unwrap();
                server.child.wait().unwrap();
                stop.store(true, Ordering::Relaxed);
            });
            assert!(newest.load(Ordering::Relaxed) > acknowledged, "something was written");
            acknowledged = newest.load(Ordering::Relaxed);
            server = database.serve();
            check_log(&server.admin(), acknowledged);
        }
    });
}

/// Flags come to all environments at once, and a file's all together.
#[test]
fn what_is_of_several_environments_is_in_all_of_them_after_a_kill() {
    on_both(|database| {
        let mut server = database.serve();
        server.furnished();
        let mut whole_files = 0;
        for round in 0..5 {
            let stop = AtomicBool::new(false);
            let done = AtomicU64::new(0);
            let client = server.admin();
            let work = |name: &'static str, write: &(dyn Fn(&Client, u64) -> u16 + Sync)| {
                let (admin, mut at) = (client.clone(), 0);
                while !stop.load(Ordering::Relaxed) {
                    at += 1;
                    if [200, 201].contains(&write(&admin, at)) {
                        done.fetch_add(1, Ordering::Relaxed);
                    }
                    assert!(at < 100_000, "{name} goes on for ever");
                }
            };
            thread::scope(|scope| {
                scope.spawn(|| {
                    work("making", &|admin, at| admin.post(FLAGS, json!({"key": format!("one-{round}-{at}")})).status);
                });
                scope.spawn(|| {
                    work("importing", &|admin, at| {
                        let flag = json!({"state": "ENABLED", "variants": {"on": true, "off": false}});
                        let keys = (0..10).map(|flag| format!("file-{round}-{at}-{flag}"));
                        let flags: serde_json::Map<_, _> = keys.map(|key| (key, flag.clone())).collect();
                        admin.post("/api/v1/projects/shop/environments/test/import", json!({"flags": flags})).status
                    });
                });
                scope.spawn(|| {
                    work("archiving", &|admin, at| {
                        admin.post(&format!("{FLAGS}/one-{round}-{at}/archive"), json!({})).status
                    });
                });
                eventually("something is written", || done.load(Ordering::Relaxed) > 5 + 4 * round);
                server.child.kill().unwrap();
                server.child.wait().unwrap();
                stop.store(true, Ordering::Relaxed);
            });
            server = database.serve();
            let admin = server.admin();
            let keys = |path: &str| -> Vec<String> {
                let mut keys = Vec::new();
                for archived in ["false", "true"] {
                    let page = admin.get(&format!("{path}?limit=1000&archived={archived}")).expect(200);
                    assert!(page["next"].is_null(), "all are on a page");
                    let key = |item: &serde_json::Value| format!("{} {archived}", item["key"].as_str().unwrap());
                    keys.extend(page["items"].as_array().unwrap().iter().map(key));
                }
                keys
            };
            let flags = keys(FLAGS);
            for environment in ["test", "live"] {
                let path = format!("/api/v1/projects/shop/environments/{environment}");
                assert_eq!(keys(&format!("{path}/flags")), flags, "{environment}");
                let log = admin.get(&format!("{path}/changes?limit=1000")).expect(200);
                let revisions: Vec<_> =
                    log["items"].as_array().unwrap().iter().map(|entry| entry["revision"].as_u64().unwrap()).collect();
                assert_eq!(revisions, (1..=revisions[0]).rev().collect::<Vec<_>>(), "no gap, nothing twice");
                eventually("hosts get it", || {
                    admin.get(&format!("/sync/v1/shop/{environment}/snapshot")).etag()
                        == format!("\"1.{}\"", revisions[0])
                });
                let text = admin.get(&format!("/sync/v1/shop/{environment}/snapshot")).text;
                let snapshot = Snapshot::open(&text, &format!("shop/{environment}"), &Trust::Transport).unwrap();
                let live = flags.iter().filter_map(|key| key.strip_suffix(" false"));
                assert!(live.eq(snapshot.flags.keys()), "{environment}");
            }
            let of_files = flags.iter().filter(|key| key.starts_with("file-")).count();
            assert_eq!(of_files % 10, 0, "half of a file is in: {flags:?}");
            whole_files = of_files / 10;
        }
        assert!(whole_files > 0, "no file was imported");
    });
}

/// The log has every revision once, up to at least `acknowledged`, and what it says last is so.
pub(crate) fn check_log(admin: &Client, acknowledged: u64) {
    let path = "/api/v1/projects/shop/environments/test";
    let mut revisions = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = admin.get(&format!("{path}/changes?limit=1000&cursor={cursor}")).expect(200);
        revisions.extend(page["items"].as_array().unwrap().iter().map(|entry| entry["revision"].as_u64().unwrap()));
        match page["next"].as_str() {
            Some(next) => next.clone_into(&mut cursor),
            None => break,
        }
    }
    let newest = *revisions.first().unwrap();
    assert!(newest >= acknowledged, "revision {acknowledged} was acknowledged, and the log ends at {newest}");
    assert_eq!(revisions, (1..=newest).rev().collect::<Vec<_>>(), "no gap, nothing twice");
    let environment = admin.get(path).expect(200);
    assert_eq!(environment["revision"], newest);
    let tag = format!("\"{}.{newest}\"", environment["epoch"]);
    eventually("hosts get the newest", || admin.get("/sync/v1/shop/test/snapshot").etag() == tag);
    let text = admin.get("/sync/v1/shop/test/snapshot").text;
    let snapshot = Snapshot::open(&text, "shop/test", &Trust::Transport).unwrap();
    let config = admin.get(CONFIG).expect(200);
    let definition: serde_json::Value = serde_json::from_str(snapshot.flags["a"].get()).unwrap();
    assert_eq!(definition["metadata"], config["metadata"]);
}

#[test]
fn hosts_are_served_while_the_database_is_away() {
    let Some(mut database) = Database::postgres() else {
        println!("skipped: PostgreSQL is not installed");
        return;
    };
    let server = database.serve();
    let admin = server.furnished();
    admin.post(FLAGS, json!({"key": "a"})).expect(201);
    eventually("hosts get it", || admin.get("/sync/v1/shop/test/snapshot").etag() == "\"1.2\"");
    let before = admin.get("/sync/v1/shop/test/snapshot");
    let stream = admin.stream("shop/test", Some("1.2"));
    assert_eq!(stream.next().kind, "current");

    database.postgres.as_mut().unwrap().kill();
    eventually("the program notices", || admin.get("/readyz").status == 503);
    let during = admin.get("/sync/v1/shop/test/snapshot");
    assert_eq!((during.status, &during.text), (200, &before.text));
    admin.get("/healthz").expect(200);
    let refused = admin.with("idempotency-key", "k").patch(CONFIG, json!({"state": "ENABLED"}));
    assert_eq!((refused.status, refused.header("retry-after")), (503, "1".to_owned()));
    assert_eq!(admin.stream("shop/test", None).next().kind, "snapshot", "new streams too");

    database.postgres.as_mut().unwrap().run();
    let again = admin.with("idempotency-key", "k");
    eventually("writes go on by themselves", || again.patch(CONFIG, json!({"state": "ENABLED"})).status == 200);
    let event = stream.next();
    let event = if event.kind == "current" { stream.next() } else { event };
    assert_eq!((event.kind.as_str(), event.id.as_str()), ("change", "1.3"), "the stream was never cut");
    eventually("ready again", || admin.get("/readyz").status == 200);
    check_log(&admin, 3);
}

#[test]
fn hosts_that_come_up_get_lists_while_the_database_is_away() {
    let Some(mut database) = Database::postgres() else {
        println!("skipped: PostgreSQL is not installed");
        return;
    };
    let port = free_port();
    let server = database.serve_with(&format!("management = \"127.0.0.1:{port}\"\n"));
    let small = database.serve_with("[sync]\npart_cache_bytes = 1000\n");
    let admin = server.furnished();
    let ids = |prefix: &str| -> String { (0..100_000).map(|n| format!("{prefix}-{:x}\n", n * 7_919)).collect() };
    let upload = |key: &str, ids: String| {
        let revision = admin.get(&format!("{SEGMENTS}/{key}")).etag();
        let client = admin.with("if-match", &revision).with("content-type", "text/plain");
        client.send("PUT", &format!("{SEGMENTS}/{key}/ids"), Some(ids)).expect(200);
    };
    for key in ["vip", "cold"] {
        admin.post(SEGMENTS, json!({"key": key, "kind": "list"})).expect(201);
        upload(key, ids(key));
    }
    let old = snapshot(&admin).lists["vip"].clone();
    assert_eq!(as_a_host(&admin, &old).len(), 100_000);
    upload("vip", ids("new"));
    let lists = snapshot(&admin).lists;
    let whole = as_a_host(&admin, &lists["vip"]);
    eventually("the other replica has it", || {
        small.admin().get("/sync/v1/shop/test/snapshot").etag() == admin.get("/sync/v1/shop/test/snapshot").etag()
    });
    assert_eq!(as_a_host(&small.admin(), &lists["vip"]), whole);
    let metric = |sample: &str| {
        let text = Client::new(&format!("http://127.0.0.1:{port}"), "").get("/metrics").text;
        let value = text.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
        value.map_or(0.0, |value| value.parse::<f64>().unwrap())
    };
    let read = metric("flags_control_part_chunks_total{from=\"database\"}");

    database.postgres.as_mut().unwrap().kill();
    for replica in [&server, &small] {
        eventually("the program notices", || replica.admin().get("/readyz").status == 503);
    }
    assert_eq!(snapshot_text(&admin), snapshot_text(&small.admin()));
    assert_eq!(as_a_host(&admin, &lists["vip"]), whole);
    let packed = admin.with("accept-encoding", "gzip");
    let mut text = String::new();
    for part in &lists["vip"].parts {
        let bytes = packed.bytes(&format!("/sync/v1/shop/test/parts/{}", part.sha256));
        flate2::read::GzDecoder::new(bytes.as_slice()).read_to_string(&mut text).unwrap();
    }
    assert!(text.lines().eq(whole.iter()));
    assert_eq!(metric("flags_control_part_chunks_total{from=\"database\"}"), read);
    let kept = metric("flags_control_part_cache_bytes");
    assert!(kept > 100_000.0 && kept < 64e6, "{kept}");
    // What nobody asked for before, what has no room, and what no list is made of any more.
    let ask = |client: &Client, list: &flags_sync::List| {
        client.get(&format!("/sync/v1/shop/test/parts/{}", list.parts[0].sha256))
    };
    for (client, list) in [(&admin, &lists["cold"]), (&small.admin(), &lists["vip"]), (&admin, &old)] {
        let refused = ask(client, list);
        assert_eq!((refused.status, refused.header("retry-after")), (503, "1".to_owned()));
    }

    database.postgres.as_mut().unwrap().run();
    eventually("all parts come again", || ask(&admin, &lists["cold"]).status == 200);
    assert_eq!(as_a_host(&admin, &lists["cold"]).len(), 100_000);
    assert_eq!(as_a_host(&admin, &old).len(), 100_000);
}

fn snapshot_text(client: &Client) -> String {
    client.get("/sync/v1/shop/test/snapshot").text
}

#[test]
fn a_backup_is_a_whole_database() {
    let database = Database::sqlite();
    let server = database.serve();
    let admin = server.furnished();
    admin.post(FLAGS, json!({"key": "a"})).expect(201);
    let to = database.folder.path().join("copy");
    let back_up = || crate::harness::program(&database.url).arg("backup").arg(&to).output().unwrap();
    assert!(back_up().status.success());
    assert!(!back_up().status.success(), "an older backup is not overwritten");
    drop(server);
    let copy = Database { url: format!("sqlite:{}", to.display()), ..database };
    let server = copy.serve();
    check_log(&server.admin(), 2);
}

#[test]
fn a_stopping_program_ends_its_streams_and_exits() {
    let database = Database::sqlite();
    let mut server = database.serve();
    let admin = server.furnished();
    let stream = admin.stream("shop/test", None);
    assert_eq!(stream.next().kind, "snapshot");
    let pid = nix::unistd::Pid::from_raw(i32::try_from(server.child.id()).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    assert!(stream.ends());
    let start = Instant::now();
    while server.child.try_wait().unwrap().is_none() {
        assert!(start.elapsed() < PATIENCE, "it does not end");
        thread::sleep(Duration::from_millis(10));
    }
    assert!(server.child.wait().unwrap().success());
}
