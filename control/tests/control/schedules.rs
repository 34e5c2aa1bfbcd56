//! Changes that happen at a time.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::harness::{Client, Database, eventually, free_port, on_both};

const FLAGS: &str = "/api/v1/projects/shop/flags";
const TEST: &str = "/api/v1/projects/shop/environments/test";

fn in_ms(ms: i64) -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    i64::try_from(now.as_millis()).unwrap() + ms
}

fn schedule(admin: &Client, flag: &str, at_ms: i64, patch: Value) -> String {
    let body = json!({"flag": flag, "patch": patch, "atMs": at_ms});
    let made = admin.post(&format!("{TEST}/schedules?comment=later"), body).expect(201);
    assert_eq!(made["state"], "pending");
    made["id"].as_str().unwrap().to_owned()
}

fn state(admin: &Client, id: &str) -> Value {
    admin.get(&format!("{TEST}/schedules/{id}")).expect(200)
}

fn config(admin: &Client, flag: &str) -> Value {
    admin.get(&format!("{TEST}/flags/{flag}")).expect(200)
}

#[test]
fn a_change_happens_at_its_time_to_what_is_there_then() {
    on_both(|database| {
        let server = database.serve();
        let admin = server.furnished();
        for key in ["a", "b", "c"] {
            admin.post(FLAGS, json!({"key": key})).expect(201);
        }
        let path = format!("{TEST}/schedules");
        let at = in_ms(1_200);
        let soon = schedule(&admin, "a", at, json!({"state": "ENABLED", "metadata": {"by": "schedule"}}));
        let never = schedule(&admin, "b", at, json!({"state": "ENABLED"}));
        let far = schedule(&admin, "b", in_ms(86_400_000), json!({"state": "ENABLED"}));
        assert_eq!(config(&admin, "a")["state"], "DISABLED");
        // What somebody else changes meanwhile stays.
        admin.patch(&format!("{TEST}/flags/a"), json!({"defaultVariant": "on", "metadata": {"x": 1}})).expect(200);
        assert_eq!(admin.post(&format!("{path}/{never}/cancel"), json!({})).expect(200)["state"], "cancelled");
        admin.post(&format!("{path}/{never}/cancel"), json!({})).expect(200);

        eventually("it is done", || state(&admin, &soon)["state"] == "done");
        let (done, now) = (state(&admin, &soon), config(&admin, "a"));
        assert_eq!((&done["revision"], done["endedMs"].as_i64().unwrap() >= at), (&now["revision"], true));
        assert_eq!(
            (&now["state"], &now["defaultVariant"], &now["metadata"]),
            (&json!("ENABLED"), &json!("on"), &json!({"x": 1, "by": "schedule"}))
        );
        let newest = admin.get(&format!("{TEST}/changes")).expect(200)["items"][0].clone();
        assert_eq!((&newest["action"], &newest["comment"]), (&json!("schedule.apply"), &json!("later")));
        assert!(newest["actor"].as_str().unwrap().ends_with(", scheduled"), "{newest}");
        admin.post(&format!("{path}/{soon}/cancel"), json!({})).expect(409);
        assert_eq!(config(&admin, "b")["state"], "DISABLED", "cancelled, and far");

        let ids = |query: &str| -> Vec<Value> {
            let list = admin.get(&format!("{path}?{query}")).expect(200);
            list["items"].as_array().unwrap().iter().map(|item| item["id"].clone()).collect()
        };
        assert_eq!(ids(""), [json!(soon), json!(never), json!(far)]);
        assert_eq!((ids("state=pending"), ids("flag=a")), (vec![json!(far)], vec![json!(soon)]));
        assert_eq!(ids(&format!("limit=1&cursor={soon}")), [json!(never)]);
        // One whose time has passed is for now.
        let late = schedule(&admin, "c", 1, json!({"state": "ENABLED"}));
        eventually("it is done", || state(&admin, &late)["state"] == "done");
    });
}

#[test]
fn what_can_not_be_scheduled_is_refused_and_what_can_not_be_made_says_why() {
    on_both(|database| {
        let port = free_port();
        let server = database.serve_with(&format!("management = \"127.0.0.1:{port}\"\n"));
        let admin = server.furnished();
        for key in ["a", "b"] {
            admin.post(FLAGS, json!({"key": key})).expect(201);
        }
        let path = format!("{TEST}/schedules");
        for (pointer, body) in [
            ("/flag", json!({"flag": "nobody", "patch": {}, "atMs": 1})),
            ("/patch/defaultVariant", json!({"flag": "a", "patch": {"defaultVariant": "onn"}, "atMs": 1})),
            ("/patch/nonsense", json!({"flag": "a", "patch": {"nonsense": 1}, "atMs": 1})),
            ("/patch/targeting/nonsense", json!({"flag": "a", "patch": {"targeting": {"nonsense": []}}, "atMs": 1})),
            ("/atMs", json!({"flag": "a", "patch": {}, "atMs": "soon"})),
        ] {
            assert_eq!(admin.post(&path, body).expect(422)["errors"][0]["pointer"], pointer);
        }
        admin.post(&path, json!({"flag": "a", "patch": {}, "atMs": 1, "ifRevision": 99})).expect(412);
        let body = json!({"name": "r", "scope": "read"});
        let token = admin.post("/api/v1/tokens", body).expect(201);
        let reader = server.with_token(token["token"].as_str().unwrap());
        reader.post(&path, json!({"flag": "a", "patch": {}, "atMs": 1})).expect(403);
        assert_eq!(reader.get(&path).expect(200)["items"], json!([]));
        reader.get(&format!("{path}/17")).expect(404);
        reader.get(&format!("{path}/x")).expect(404);
        admin.post(&format!("{path}?dry_run=true"), json!({"flag": "a", "patch": {}, "atMs": 1})).expect(201);
        assert_eq!(reader.get(&path).expect(200)["items"], json!([]));

        // Good when they are scheduled, and no more when their time comes.
        let at = in_ms(1_000);
        let archived = schedule(&admin, "b", at, json!({"state": "ENABLED"}));
        let revision = config(&admin, "a")["revision"].clone();
        let body = json!({"flag": "a", "patch": {"state": "ENABLED"}, "atMs": at, "ifRevision": revision});
        let guarded = admin.post(&path, body).expect(201)["id"].as_str().unwrap().to_owned();
        admin.post(&format!("{FLAGS}/b/archive"), json!({})).expect(200);
        admin.patch(&format!("{TEST}/flags/a"), json!({"metadata": {"x": 1}})).expect(200);
        for (id, kind) in [(&archived, "conflict"), (&guarded, "outdated")] {
            eventually("it fails", || state(&admin, id)["state"] == "failed");
            let problem = state(&admin, id)["problem"].clone();
            assert_eq!(problem["type"], format!("urn:libflags:problem:{kind}"));
            assert!(problem["detail"].is_string());
        }
        assert_eq!(config(&admin, "a")["state"], "DISABLED");
        let metrics = Client::new(&format!("http://127.0.0.1:{port}"), "").get("/metrics").text;
        let line = "flags_control_schedules_total{outcome=\"failed\"} 2";
        assert!(metrics.lines().any(|found| found == line), "{metrics}");
    });
}

#[test]
fn it_is_cancelled_by_those_who_saw_what_it_is() {
    on_both(|database| {
        let server = database.serve();
        let admin = server.furnished();
        admin.post(FLAGS, json!({"key": "a"})).expect(201);
        let path = format!("{TEST}/schedules");
        let body = || json!({"flag": "a", "patch": {"state": "ENABLED"}, "atMs": in_ms(86_400_000)});
        let made = admin.post(&path, body());
        assert_eq!(made.etag(), "\"1\"");
        let id = made.expect(201)["id"].as_str().unwrap().to_owned();
        let (own, cancel) = (format!("{path}/{id}"), format!("{path}/{id}/cancel"));
        let shown = admin.get(&own);
        assert_eq!((shown.etag().as_str(), shown.expect(200)["version"].clone()), ("\"1\"", json!(1)));
        assert_eq!(admin.with("if-match", "\"2\"").post(&cancel, json!({})).expect(412)["revision"], 1);
        assert_eq!(state(&admin, &id)["state"], "pending");
        let seen = admin.with("if-match", "\"1\"");
        let statuses: Vec<u16> = std::thread::scope(|scope| {
            let cancel = |_| {
                let (seen, cancel) = (seen.clone(), cancel.clone());
                scope.spawn(move || seen.post(&cancel, json!({})).status)
            };
            let who: Vec<_> = (0..4).map(cancel).collect();
            who.into_iter().map(|who| who.join().unwrap()).collect()
        });
        let of = |status| statuses.iter().filter(|found| **found == status).count();
        assert_eq!((of(200), of(412)), (1, 3), "{statuses:?}");
        assert_eq!(admin.get(&own).etag(), "\"2\"");
        let again = admin.post(&cancel, json!({}));
        assert_eq!((again.etag().as_str(), again.expect(200)["state"].clone()), ("\"2\"", json!("cancelled")));
        // What was made is another than what was seen, too.
        let late = schedule(&admin, "a", 1, json!({"state": "ENABLED"}));
        eventually("it is done", || state(&admin, &late)["state"] == "done");
        let cancel = format!("{path}/{late}/cancel");
        assert_eq!(seen.post(&cancel, json!({})).expect(412)["revision"], 2);
        admin.post(&cancel, json!({})).expect(409);
        // Sent again, it is answered as the first time.
        let id = admin.post(&path, body()).expect(201)["id"].as_str().unwrap().to_owned();
        let once = admin.with("idempotency-key", "k").with("if-match", "\"1\"");
        for replayed in ["", "true"] {
            let reply = once.post(&format!("{path}/{id}/cancel"), json!({}));
            assert_eq!((reply.header("idempotency-replayed").as_str(), reply.etag().as_str()), (replayed, "\"2\""));
        }
    });
}

#[test]
fn it_waits_while_nobody_serves() {
    on_both(|database| {
        let mut server = database.serve();
        let admin = server.furnished();
        admin.post(FLAGS, json!({"key": "a"})).expect(201);
        let id = schedule(&admin, "a", in_ms(300), json!({"state": "ENABLED"}));
        server.child.kill().unwrap();
        server.child.wait().unwrap();
        std::thread::sleep(Duration::from_millis(400));
        let server = database.serve();
        let admin = server.admin();
        eventually("it is done", || state(&admin, &id)["state"] == "done");
        assert_eq!(config(&admin, "a")["state"], "ENABLED");
    });
}

#[test]
fn of_two_replicas_one_makes_it_although_one_is_killed() {
    let Some(database) = Database::postgres() else {
        println!("skipped: PostgreSQL is not installed");
        return;
    };
    let mut first = database.serve();
    let second = database.serve();
    first.furnished().post(FLAGS, json!({"key": "a"})).expect(201);
    let admin = second.admin();
    let at = in_ms(2_500);
    // Each leaves a mark of its own, so each is a change.
    let ids: Vec<String> =
        (0..60).map(|n| schedule(&admin, "a", at, json!({"metadata": {format!("m{n}"): n}}))).collect();
    let made = || {
        let done = admin.get(&format!("{TEST}/schedules?state=done&limit=1000")).expect(200);
        done["items"].as_array().unwrap().len()
    };
    eventually("some are made", || made() > 5);
    // In the middle of it, most likely of one of them.
    first.child.kill().unwrap();
    first.child.wait().unwrap();
    eventually("all are made", || made() == ids.len());
    let log = admin.get(&format!("{TEST}/changes?limit=1000")).expect(200);
    let applied: Vec<&Value> =
        log["items"].as_array().unwrap().iter().filter(|entry| entry["action"] == "schedule.apply").collect();
    assert_eq!(applied.len(), ids.len(), "each once");
    let revisions: BTreeSet<i64> = ids.iter().map(|id| state(&admin, id)["revision"].as_i64().unwrap()).collect();
    assert_eq!(revisions.len(), ids.len(), "each is a revision");
    assert_eq!(config(&admin, "a")["metadata"].as_object().unwrap().len(), ids.len(), "none is lost");
}
