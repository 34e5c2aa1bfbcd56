//! What hosts get: snapshots and streams.

use std::collections::BTreeSet;
use std::io::Read;

use flags_sync::{Change, PublicKey, Snapshot, Trust};
use serde_json::json;

use crate::harness::{Client, eventually, on_both};

const FLAGS: &str = "/api/v1/projects/shop/flags";
const ENVIRONMENT: &str = "shop/test";

fn trust(admin: &Client) -> Trust {
    let environment = admin.get("/api/v1/projects/shop/environments/test").expect(200);
    Trust::from(environment["publicKey"].as_str().unwrap().parse::<PublicKey>().unwrap())
}

/// Makes the flag `a`, and waits until hosts get it.
fn with_flag(admin: &Client) {
    admin.post(FLAGS, json!({"key": "a"})).expect(201);
    eventually("hosts get it", || admin.get("/sync/v1/shop/test/snapshot").etag() == "\"1.2\"");
}

fn turn(admin: &Client, variant: &str) -> u64 {
    let path = "/api/v1/projects/shop/environments/test/flags/a";
    let patch = json!({"state": "ENABLED", "defaultVariant": variant});
    admin.patch(path, patch).expect(200)["revision"].as_u64().unwrap()
}

#[test]
fn a_stream_leads_to_the_snapshot_one_change_at_a_time() {
    on_both(|database| {
        let server = database.serve();
        let admin = server.furnished();
        with_flag(&admin);
        let trust = trust(&admin);
        let stream = admin.stream(ENVIRONMENT, None);
        let first = stream.next();
        assert_eq!((first.kind.as_str(), first.id.as_str()), ("snapshot", "1.2"));
        let mut state = Snapshot::open(&first.data, ENVIRONMENT, &trust).unwrap();
        for round in 0..20 {
            let revision = turn(&admin, if round % 2 == 0 { "on" } else { "off" });
            let event = stream.next();
            assert_eq!((event.kind.as_str(), event.id), ("change", format!("1.{revision}")));
            state.apply(Change::open(&event.data, ENVIRONMENT, &trust).unwrap()).unwrap();
        }
        admin.post(&format!("{FLAGS}/a/archive"), json!({})).expect(200);
        state.apply(Change::open(&stream.next().data, ENVIRONMENT, &trust).unwrap()).unwrap();
        assert!(state.flags.is_empty());
        let whole = admin.get("/sync/v1/shop/test/snapshot");
        let whole = Snapshot::open(&whole.text, ENVIRONMENT, &trust).unwrap();
        assert_eq!((whole.definition(), whole.stamp), (state.definition(), state.stamp));
    });
}

#[test]
fn hosts_are_told_how_many_flags_went_without_anybodys_word() {
    on_both(|database| {
        let server = database.serve();
        let admin = server.furnished();
        let trust = trust(&admin);
        let config = json!({"test": {"state": "ENABLED", "defaultVariant": "on"}});
        for key in ["a", "b", "c", "d"] {
            admin.post(FLAGS, json!({"key": key, "environments": config})).expect(201);
        }
        let stream = admin.stream(ENVIRONMENT, None);
        let told = |is_it: &dyn Fn(&Change) -> bool| loop {
            let event = stream.next();
            if event.kind == "change" {
                let change = Change::open(&event.data, ENVIRONMENT, &trust).unwrap();
                if is_it(&change) {
                    return (change.deliberate, change.stamp.lost);
                }
            }
        };
        let turn = |key: &str, state: &str, query: &str| {
            let path = format!("/api/v1/projects/shop/environments/test/flags/{key}{query}");
            admin.patch(&path, json!({"state": state})).expect(200);
            told(&|change| change.flags.get(key).is_some_and(|flag| flag.get().contains(state)))
        };
        let archive = |key: &str, query: &str| {
            admin.post(&format!("{FLAGS}/{key}/archive{query}"), json!({})).expect(200);
            told(&|change| change.removed.iter().any(|gone| gone == key))
        };
        assert_eq!(archive("a", ""), (false, Some(1)));
        assert_eq!(turn("b", "DISABLED", "?deliberate=true"), (true, Some(1)));
        assert_eq!(turn("c", "DISABLED", "?deliberate=false"), (false, Some(2)));
        assert_eq!(turn("c", "ENABLED", ""), (false, Some(2)));
        assert_eq!(archive("d", "?deliberate=true"), (true, Some(2)));
        let lost = |admin: &Client| {
            let whole = admin.get("/sync/v1/shop/test/snapshot");
            Snapshot::open(&whole.text, ENVIRONMENT, &trust).unwrap().stamp.lost
        };
        assert_eq!(lost(&admin), Some(2));
        // Read anew from the database, it is the same.
        let another = database.serve();
        let again = another.with_token(admin.token());
        let tag = admin.get("/sync/v1/shop/test/snapshot").etag();
        eventually("it is read", || again.get("/sync/v1/shop/test/snapshot").status == 200);
        assert_eq!(again.get("/sync/v1/shop/test/snapshot").etag(), tag);
        assert_eq!(lost(&again), Some(2));
    });
}

#[test]
fn a_stream_is_resumed_where_it_was_cut() {
    on_both(|database| {
        let server = database.serve();
        let admin = server.furnished();
        with_flag(&admin);
        let stream = admin.stream(ENVIRONMENT, None);
        let at = stream.next().id;
        drop(stream);
        let revisions: Vec<String> =
            (0..3).map(|_| format!("1.{}", turn(&admin, "on").max(turn(&admin, "off")))).collect();
        let stream = admin.stream(ENVIRONMENT, Some(&at));
        let got: Vec<_> = (0..6).map(|_| stream.next()).collect();
        assert!(got.iter().all(|event| event.kind == "change"));
        assert_eq!(got.last().map(|event| &event.id), revisions.last());
        // Who missed nothing hears so at once; who comes from elsewhere gets all.
        let current = admin.stream(ENVIRONMENT, revisions.last().map(String::as_str)).next();
        assert_eq!((current.kind.as_str(), &current.id), ("current", revisions.last().unwrap()));
        for elsewhere in ["2.1", "1.999", "nonsense", "0.0"] {
            assert_eq!(admin.stream(ENVIRONMENT, Some(elsewhere)).next().kind, "snapshot", "{elsewhere}");
        }
    });
}

#[test]
fn a_restarted_program_goes_on_from_the_log() {
    on_both(|database| {
        let mut server = database.serve();
        let admin = server.furnished();
        with_flag(&admin);
        let before = admin.get("/sync/v1/shop/test/snapshot");
        server.child.kill().unwrap();
        server.child.wait().unwrap();
        let server = database.serve();
        let admin = server.admin();
        eventually("the environment is read", || admin.get("/sync/v1/shop/test/snapshot").status == 200);
        let after = admin.get("/sync/v1/shop/test/snapshot");
        assert_eq!((after.etag(), &after.text), (before.etag(), &before.text), "a revision has one text");
        // A stream from before gets what it missed: the changes from before the start are read from the log.
        let event = admin.stream(ENVIRONMENT, Some("1.1")).next();
        assert_eq!((event.kind.as_str(), event.id.as_str()), ("change", "1.2"));
    });
}

#[test]
fn a_snapshot_that_is_known_is_not_sent_again() {
    on_both(|database| {
        let server = database.serve();
        let admin = server.furnished();
        let first = admin.get("/sync/v1/shop/test/snapshot");
        assert!(first.header("cache-control").contains("stale-if-error"), "{:?}", first.headers);
        for known in [first.etag(), format!("W/{}", first.etag()), format!("\"x\", {}", first.etag())] {
            let again = admin.with("if-none-match", &known).get("/sync/v1/shop/test/snapshot");
            assert_eq!((again.status, again.text.as_str(), again.etag()), (304, "", first.etag()));
        }
        admin.post(FLAGS, json!({"key": "a"})).expect(201);
        eventually("there is another", || {
            admin.with("if-none-match", &first.etag()).get("/sync/v1/shop/test/snapshot").status == 200
        });
    });
}

#[test]
fn a_snapshot_comes_compressed_where_that_is_taken() {
    let database = crate::harness::Database::sqlite();
    let server = database.serve();
    let admin = server.furnished();
    with_flag(&admin);
    let plain = admin.get("/sync/v1/shop/test/snapshot");
    let packed = admin.with("accept-encoding", "br, gzip;q=0.5");
    let bytes = packed.bytes("/sync/v1/shop/test/snapshot");
    let mut text = String::new();
    flate2::read::GzDecoder::new(bytes.as_slice()).read_to_string(&mut text).unwrap();
    assert_eq!(text, plain.text);
    let again = packed.with("if-none-match", "\"1.2-gzip\"").get("/sync/v1/shop/test/snapshot");
    assert_eq!((again.status, again.header("vary").as_str()), (304, "accept-encoding, authorization"));
    let refused = admin.with("accept-encoding", "gzip;q=0").get("/sync/v1/shop/test/snapshot");
    assert_eq!((refused.text, refused.headers.get("content-encoding")), (plain.text, None));
}

#[test]
fn a_change_made_at_one_replica_is_streamed_by_the_other() {
    on_both(|database| {
        let (first, second) = (database.serve(), database.serve());
        let admin = first.furnished();
        with_flag(&admin);
        eventually("the other replica has it", || {
            second.admin().get("/sync/v1/shop/test/snapshot").etag() == "\"1.2\""
        });
        let stream = second.admin().stream(ENVIRONMENT, Some("1.2"));
        assert_eq!(stream.next().kind, "current");
        let revision = turn(&admin, "on");
        assert_eq!(stream.next().id, format!("1.{revision}"));
        let texts: BTreeSet<String> = [&first, &second]
            .map(|server| {
                eventually("both are there", || {
                    server.admin().get("/sync/v1/shop/test/snapshot").etag() == format!("\"1.{revision}\"")
                });
                server.admin().get("/sync/v1/shop/test/snapshot").text
            })
            .into();
        assert_eq!(texts.len(), 1, "one text for one revision");
    });
}
