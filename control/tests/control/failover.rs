//! A database server, or a replica of the program, is lost while others write and follow.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::bad_days::check_log;
use crate::harness::{Client, Database, PATIENCE, Server, Stream, eventually, free_port, metric, on_both};

const FLAGS: &str = "/api/v1/projects/shop/flags";
const CONFIG: &str = "/api/v1/projects/shop/environments/test/flags/a";

/// Heartbeats that a test need not wait for.
pub(crate) const QUICK: &str = "[sync]\nheartbeat_ms = 200\n";

/// Writes until it is stopped, each write under a name of its own and until it is acknowledged.
struct Writers<'t> {
    stop: AtomicBool,
    /// Revisions by the names of the writes that led to them.
    acknowledged: Mutex<BTreeMap<String, u64>>,
    /// What was answered else.
    refused: Mutex<Vec<(u16, String)>>,
    /// Where writers go; the next one where one does not answer.
    replicas: Vec<&'t Client>,
}

impl<'t> Writers<'t> {
    fn to(replicas: Vec<&'t Client>) -> Self {
        Self { stop: AtomicBool::new(false), acknowledged: Mutex::default(), refused: Mutex::default(), replicas }
    }

    /// What one writer does.
    fn write(&self, writer: usize) {
        let mut replica = writer;
        for at in 0.. {
            let name = format!("{writer}.{at}");
            let start = Instant::now();
            loop {
                if self.stop.load(Ordering::Relaxed) {
                    return;
                }
                assert!(start.elapsed() < PATIENCE, "{name} is never acknowledged: {:?}", self.refused.lock().unwrap());
                let client = self.replicas[replica % self.replicas.len()].with("idempotency-key", &name);
                let reply = client.patch(CONFIG, json!({"metadata": {"by": name}}));
                if reply.status == 200 {
                    let revision = reply.expect(200)["revision"].as_u64().unwrap();
                    self.acknowledged.lock().unwrap().insert(name, revision);
                    break;
                }
                if reply.status == 0 {
                    replica += 1;
                }
                self.refused.lock().unwrap().push((reply.status, reply.header("retry-after")));
                thread::sleep(Duration::from_millis(20));
            }
        }
    }

    fn count(&self) -> usize {
        self.acknowledged.lock().unwrap().len()
    }

    fn wait_for_more(&self, more: usize) {
        let enough = self.count() + more;
        eventually("writes are acknowledged", || self.count() >= enough);
    }

    /// Each acknowledged write is in the log, once, at the revision that was told.
    fn check(&self, admin: &Client) {
        let acknowledged = self.acknowledged.lock().unwrap();
        check_log(admin, acknowledged.values().copied().max().unwrap());
        let path = "/api/v1/projects/shop/environments/test/changes?limit=1000";
        let page = admin.get(path).expect(200);
        assert!(page["next"].is_null(), "the log fits on a page");
        let mut written: BTreeMap<String, Vec<u64>> = BTreeMap::new();
        for entry in page["items"].as_array().unwrap() {
            if let Some(name) = entry["flags"][0]["after"]["config"]["metadata"]["by"].as_str() {
                written.entry(name.to_owned()).or_default().push(entry["revision"].as_u64().unwrap());
            }
        }
        for (name, revision) in &*acknowledged {
            assert_eq!(written.get(name), Some(&vec![*revision]), "{name}");
        }
        assert!(written.values().all(|revisions| revisions.len() == 1), "nothing happened twice");
    }
}

/// The stream has brought every revision after `first` once, up to `last`.
fn check_stream(stream: &Stream, first: u64, last: u64) {
    for revision in first + 1..=last {
        let event = stream.next_change();
        assert_eq!((event.kind.as_str(), event.id), ("change", format!("1.{revision}")));
    }
    assert_eq!(stream.changes(), [], "nothing else");
}

fn newest(admin: &Client) -> u64 {
    admin.get("/api/v1/projects/shop/environments/test").expect(200)["revision"].as_u64().unwrap()
}

fn with_flag(server: &Server) -> Client {
    let admin = server.furnished();
    admin.post(FLAGS, json!({"key": "a"})).expect(201);
    admin
}

#[test]
fn a_promoted_standby_is_found_and_nothing_acknowledged_is_lost() {
    let Some((mut database, standby)) = Database::replicated() else {
        println!("skipped: PostgreSQL is not installed");
        return;
    };
    let servers = [database.serve_with(QUICK), database.serve_with(QUICK)];
    let admins = [with_flag(&servers[0]), servers[1].admin()];
    for admin in &admins {
        eventually("hosts get it", || admin.get("/sync/v1/shop/test/snapshot").etag() == "\"1.2\"");
    }
    let streams = admins.each_ref().map(|admin| admin.stream("shop/test", Some("1.2")));
    let writers = Writers::to(admins.iter().collect());
    thread::scope(|scope| {
        for writer in 0..4 {
            let writers = &writers;
            scope.spawn(move || writers.write(writer));
        }
        writers.wait_for_more(20);
        database.postgres.as_mut().unwrap().kill();
        for admin in &admins {
            eventually("the program notices", || admin.get("/readyz").status == 503);
        }
        eventually("writes are refused", || writers.refused.lock().unwrap().iter().any(|refused| refused.0 == 503));
        // Whoever follows hears that nothing happens, and whoever comes now is served.
        for admin in &admins {
            let at = admin.get("/sync/v1/shop/test/snapshot").etag();
            let fresh = admin.stream("shop/test", None);
            assert_eq!(format!("\"{}\"", fresh.next().id), at);
            assert_eq!(fresh.next().kind, "current");
        }
        let before = writers.count();
        standby.promote();
        writers.wait_for_more(20);
        assert!(writers.count() > before);
        writers.stop.store(true, Ordering::Relaxed);
    });
    for (status, retry_after) in &*writers.refused.lock().unwrap() {
        assert_eq!((*status, retry_after.as_str()), (503, "1"));
    }
    let last = newest(&admins[0]);
    for (stream, admin) in streams.iter().zip(&admins) {
        writers.check(admin);
        check_stream(stream, 2, last);
        eventually("ready again", || admin.get("/readyz").status == 200);
    }
}

#[test]
fn what_a_promoted_standby_has_lost_is_said_and_hosts_take_what_there_is() {
    let Some((mut database, standby)) = Database::with_standby() else {
        println!("skipped: PostgreSQL is not installed");
        return;
    };
    let ports = [free_port(), free_port()];
    let servers = ports.map(|port| database.serve_with(&format!("management = \"127.0.0.1:{port}\"\n{QUICK}")));
    let admins = [with_flag(&servers[0]), servers[1].admin()];
    let by = |by: &str| admins[0].patch(CONFIG, json!({"metadata": {"by": by}})).expect(200)["revision"].clone();
    assert_eq!(by("kept"), 3);
    eventually("the standby has it", || standby.has_all_of(database.postgres.as_ref().unwrap()));
    standby.cut_off();
    // Acknowledged, and with every host.
    assert_eq!((by("lost 1"), by("lost 2")), (4.into(), 5.into()));
    for admin in &admins {
        eventually("hosts get it", || admin.get("/sync/v1/shop/test/snapshot").etag() == "\"1.5\"");
    }
    let streams = admins.each_ref().map(|admin| admin.stream("shop/test", Some("1.5")));
    database.postgres.as_mut().unwrap().kill();
    standby.promote();
    for stream in &streams {
        let event = stream.next_change();
        assert_eq!((event.kind.as_str(), event.id.as_str()), ("snapshot", "2.4"));
        assert!(event.data.contains("kept") && !event.data.contains("lost 1"), "{}", event.data);
    }
    eventually("it can be written", || admins[1].get("/readyz").status == 200);
    assert_eq!(by("new"), 5, "a number that was used before");
    for stream in &streams {
        let event = stream.next_change();
        assert_eq!((event.kind.as_str(), event.id.as_str()), ("change", "2.5"));
    }
    check_log(&admins[0], 5);
    let log = admins[0].get("/api/v1/projects/shop/environments/test/changes?limit=2").expect(200);
    let entry = &log["items"][1];
    assert_eq!((&entry["action"], &entry["epoch"]), (&"environment.epoch".into(), &2.into()));
    assert!(entry["comment"].as_str().unwrap().contains("1.5"), "{entry}");
    // One of the two began it, and named what is gone.
    let begun: Vec<&Server> = servers.iter().filter(|server| server.log().contains("a new epoch begins")).collect();
    let [began] = begun[..] else { panic!("{} replicas began an epoch", begun.len()) };
    eventually("it is said what is gone", || began.log().matches("lost: a change").count() == 2);
    let epochs = ports.map(|port| metric(port, "flags_control_epochs_begun_total"));
    assert!((epochs.iter().sum::<f64>() - 1.0).abs() < 0.1, "{epochs:?}");
    // What a host has that was not there when this happened, nobody here knows: it is said.
    let report = json!({"host": "h", "set": "default", "epoch": 3, "revision": 1, "publishedNs": 1, "state": "fresh", "version": "1"});
    admins[0].post("/sync/v1/shop/test/report", report).expect(204);
    assert!(metric(ports[0], "flags_control_hosts_ahead{environment=\"shop/test\"}") > 0.9);
}

#[test]
fn a_change_that_no_standby_has_is_not_acknowledged_and_happens_once() {
    let Some((database, standby)) = Database::replicated() else {
        println!("skipped: PostgreSQL is not installed");
        return;
    };
    let server = database.serve_with("[limits]\nrequest_seconds = 1\n");
    let admin = with_flag(&server);
    let again = admin.with("idempotency-key", "once");
    let change = || again.patch(CONFIG, json!({"metadata": {"by": "one"}}));
    standby.freeze(true);
    for _ in 0..2 {
        let refused = change();
        assert_eq!((refused.status, refused.header("retry-after").as_str()), (503, "1"), "{}", refused.text);
    }
    assert_eq!(newest(&admin), 2, "nobody sees what is not safe");
    standby.freeze(false);
    eventually("it is acknowledged", || change().status == 200);
    assert_eq!(change().expect(200)["revision"], 3);
    assert_eq!(newest(&admin), 3);
    check_log(&admin, 3);
}

#[test]
fn a_replica_that_is_killed_leaves_its_clients_to_the_others() {
    on_both(|database| {
        let mut first = database.serve_with(QUICK);
        let second = database.serve_with(QUICK);
        let (admin, other) = (with_flag(&first), second.admin());
        eventually("the other has it", || other.get("/sync/v1/shop/test/snapshot").etag() == "\"1.2\"");
        let mut stream = admin.stream("shop/test", Some("1.2"));
        let mut at = 2;
        let writers = Writers::to(vec![&admin, &other]);
        thread::scope(|scope| {
            for writer in 0..4 {
                let writers = &writers;
                scope.spawn(move || writers.write(writer));
            }
            writers.wait_for_more(20);
            at += 1;
            assert_eq!(stream.next_change().id, format!("1.{at}"), "it comes over the first stream");
            first.child.kill().unwrap();
            first.child.wait().unwrap();
            // What the client had by then; it goes on from there, elsewhere.
            while let Ok(event) = stream.try_next() {
                if event.kind == "change" {
                    at += 1;
                    assert_eq!(event.id, format!("1.{at}"));
                }
            }
            // Which may be ahead of what the other replica has read by now.
            stream = other.stream("shop/test", Some(&format!("1.{at}")));
            writers.wait_for_more(20);
            writers.stop.store(true, Ordering::Relaxed);
        });
        writers.check(&other);
        check_stream(&stream, at, newest(&other));
    });
}
