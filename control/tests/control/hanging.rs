//! A database that says nothing, neither yes nor no: its machine hangs, and its kernel goes on acknowledging.

use std::thread;
use std::time::Duration;

use serde_json::json;

use crate::harness::{Database, Server, Stream, eventually, free_port, metric};

const STREAMS: usize = 300;
const CONFIG: &str = "/api/v1/projects/shop/environments/test/flags/a";
const SNAPSHOT: &str = "/sync/v1/shop/test/snapshot";

/// Longer than a token is believed without asking.
const LONG: Duration = Duration::from_secs(12);

fn threads(server: &Server) -> usize {
    std::fs::read_dir(format!("/proc/{}/task", server.child.id())).unwrap().count()
}

/// What came by now is forgotten; more comes over each.
fn hear_more(streams: &[Stream]) {
    streams.iter().for_each(|stream| drop(stream.changes()));
    for stream in streams {
        assert_eq!([stream.next().kind, stream.next().kind], ["current", "current"]);
    }
}

#[test]
fn hosts_are_served_while_the_database_hangs() {
    let Some(database) = Database::postgres() else {
        println!("skipped: PostgreSQL is not installed");
        return;
    };
    let port = free_port();
    let config = format!("management = \"127.0.0.1:{port}\"\n[sync]\nheartbeat_ms = 500\n");
    let server = database.serve_with(&config);
    let admin = server.furnished();
    admin.post("/api/v1/projects/shop/flags", json!({"key": "a"})).expect(201);
    eventually("hosts get it", || admin.get(SNAPSHOT).etag() == "\"1.2\"");
    let made = admin.post("/api/v1/tokens", json!({"name": "host", "scope": "sync"})).expect(201);
    let host = server.with_token(made["token"].as_str().unwrap());
    let streams: Vec<Stream> = (0..STREAMS).map(|_| host.stream("shop/test", Some("1.2"))).collect();
    hear_more(&streams);

    let postgres = database.postgres.as_ref().unwrap();
    postgres.freeze(true);
    thread::sleep(LONG);
    assert!(threads(&server) < 100, "{} threads, most of which wait for the database", threads(&server));
    hear_more(&streams);
    let during = host.get(SNAPSHOT);
    assert_eq!((during.status, during.etag().as_str()), (200, "\"1.2\""));
    assert_eq!(host.stream("shop/test", None).next().kind, "snapshot", "new streams too");
    admin.get("/healthz").expect(200);
    eventually("the program notices", || admin.get("/readyz").status == 503);
    assert!(threads(&server) < 100, "{} threads, most of which wait for the database", threads(&server));
    postgres.freeze(false);

    eventually("writes go on by themselves", || admin.patch(CONFIG, json!({"state": "ENABLED"})).status == 200);
    eventually("ready again", || admin.get("/readyz").status == 200);
    let reads = || metric(port, "flags_control_store_seconds_count{kind=\"read\"}");
    let before = reads();
    admin.post(&format!("/api/v1/tokens/{}/revoke", made["id"].as_str().unwrap()), json!({})).expect(200);
    assert!(streams.iter().all(Stream::ends));
    assert_eq!(host.get(SNAPSHOT).status, 401);
    let asked = reads() - before;
    assert!(asked < 100.0, "{asked} reads for {STREAMS} streams of one token");
}
