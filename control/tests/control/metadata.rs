//! Metadata of the flag set: what an environment says about all of its flags.

use flags_sync::{Change, PublicKey, Snapshot, Trust};
use libflags::compile::Compiler;
use libflags::definition::{Document, Format, Limits, Selector};
use libflags::{Context, Want};
use serde_json::{Value, json};

use crate::harness::{Client, eventually, on_both};

const PLACE: &str = "/api/v1/projects/shop/environments/test";
const FLAGS: &str = "/api/v1/projects/shop/flags";

fn trust(admin: &Client) -> Trust {
    Trust::from(admin.get(PLACE).expect(200)["publicKey"].as_str().unwrap().parse::<PublicKey>().unwrap())
}

/// The snapshot, once hosts get this revision.
fn at(admin: &Client, revision: &Value) -> Snapshot {
    let (path, tag) = ("/sync/v1/shop/test/snapshot", format!("\"1.{revision}\""));
    eventually("hosts get it", || admin.get(path).etag() == tag);
    Snapshot::open(&admin.get(path).text, "shop/test", &trust(admin)).unwrap()
}

/// The metadata that comes with the answer about the flag `a`, as a host compiles it: sorted, each as `NAME=VALUE`.
fn answered(snapshot: &Snapshot) -> Vec<String> {
    let limits = Limits::default();
    let document = Document::parse("shop/test", snapshot.definition(), Format::Json, &limits).unwrap();
    let compiled = Compiler::new(limits).compile(&[document], &Selector::All).unwrap();
    let compiled = libflags::snapshot::Snapshot::from_bytes(&compiled.snapshot).unwrap();
    let evaluation = compiled.evaluate(b"a", Want::Bool, &Context::anonymous());
    let mut answered: Vec<String> =
        evaluation.metadata.iter().map(|(name, value)| format!("{name}={value:?}")).collect();
    answered.sort();
    answered
}

#[test]
fn it_comes_with_every_answer_and_is_changed_diffed_and_rolled_back_as_flags_are() {
    on_both(|database| {
        let server = database.serve();
        let admin = server.furnished();
        let config = json!({"state": "ENABLED", "defaultVariant": "on", "metadata": {"own": 1, "both": "flag"}});
        admin.post(FLAGS, json!({"key": "a", "environments": {"test": config}})).expect(201);
        let stream = admin.stream("shop/test", None);
        assert_eq!(stream.next().kind, "snapshot");
        let shown = admin.get(PLACE);
        assert_eq!(shown.etag(), "\"2\"");
        assert_eq!(shown.expect(200)["metadata"], json!({}));

        let patch = json!({"metadata": {"flagSetId": "shop", "both": "set", "n": 1.5, "yes": true}});
        let tried = admin.patch(&format!("{PLACE}?dry_run=true"), patch.clone()).expect(200);
        assert_eq!((&tried["revision"], &tried["metadata"]["n"]), (&json!(3), &json!(1.5)));
        let done = admin.patch(&format!("{PLACE}?comment=ours"), patch.clone());
        assert_eq!(done.etag(), "\"3\"");
        assert_eq!(done.expect(200)["metadata"], patch["metadata"]);
        let change = Change::open(&stream.next_change().data, "shop/test", &trust(&admin)).unwrap();
        assert_eq!((change.stamp.revision, change.flags.len(), change.metadata.unwrap().len()), (3, 0, 4));
        let snapshot = at(&admin, &json!(3));
        let expected =
            [r#"both=Text("flag")"#, r#"flagSetId=Text("shop")"#, "n=Number(1.5)", "own=Number(1.0)", "yes=Bool(true)"];
        assert_eq!(answered(&snapshot), expected);

        // The same again is no change; a patch takes away, and leaves what it does not name.
        assert_eq!(admin.patch(PLACE, patch.clone()).expect(200)["revision"], 3);
        let patch = json!({"metadata": {"n": null, "flagSetId": null, "both": "other"}});
        admin.with("if-match", "\"2\"").patch(PLACE, patch.clone()).expect(412);
        let done = admin.with("if-match", "\"3\"").patch(PLACE, patch).expect(200);
        assert_eq!(done["metadata"], json!({"both": "other", "yes": true}));
        let log = admin.get(&format!("{PLACE}/changes")).expect(200)["items"].clone();
        assert_eq!((&log[0]["action"], &log[1]["comment"]), (&json!("environment.update"), &json!("ours")));
        let changed = json!({"before": {"flagSetId": "shop", "both": "set", "n": 1.5, "yes": true},
            "after": {"both": "other", "yes": true}});
        assert_eq!((&log[0]["metadata"], &log[1]["metadata"]["before"]), (&changed, &json!({})));
        assert!(log[2].get("metadata").is_none(), "{log}");
        let diff = |from, to| admin.get(&format!("{PLACE}/diff?from={from}&to={to}")).expect(200);
        assert_eq!((&diff(3, 4)["metadata"], &diff(3, 4)["flags"]), (&changed, &json!([])));
        assert_eq!(diff(4, 3)["metadata"]["after"], changed["before"]);
        assert_eq!(diff(1, 2)["metadata"], Value::Null);

        // A clone begins with it; a rollback brings it back together with the flags.
        let clone = json!({"key": "next", "cloneOf": "test"});
        let clone = admin.post("/api/v1/projects/shop/environments", clone).expect(201);
        assert_eq!(clone["metadata"], changed["after"]);
        admin.patch(&format!("{PLACE}/flags/a"), json!({"defaultVariant": "off"})).expect(200);
        let rolled = admin.post(&format!("{PLACE}/rollback"), json!({"revision": 3})).expect(200);
        assert_eq!(rolled["revision"], 6);
        assert_eq!(admin.get(PLACE).expect(200)["metadata"], changed["before"]);
        assert_eq!(admin.get(&format!("{PLACE}/flags/a")).expect(200)["defaultVariant"], "on");
        assert_eq!(at(&admin, &json!(6)).definition(), snapshot.definition());
        assert_eq!(admin.post(&format!("{PLACE}/rollback"), json!({"revision": 6})).expect(200)["revision"], 6);
        drop(stream);
        drop(server);
        let server = database.serve();
        let admin = server.admin();
        eventually("it is read", || admin.get("/readyz").status == 200);
        assert_eq!(at(&admin, &json!(6)).definition(), snapshot.definition());
    });
}

#[test]
fn cloning_flags_takes_it_along_where_there_is_none_or_as_it_is_told() {
    on_both(|database| {
        let server = database.serve();
        let admin = server.furnished();
        let live = "/api/v1/projects/shop/environments/live";
        let clone = |body: Value| admin.post(&format!("{live}/clone"), body).expect(200);
        let of_live = || admin.get(live).expect(200)["metadata"].clone();
        let set = |place: &str, metadata: Value| {
            admin.patch(place, json!({"metadata": metadata})).expect(200)["revision"].clone()
        };
        let config = json!({"state": "ENABLED", "defaultVariant": "on"});
        admin.post(FLAGS, json!({"key": "a", "environments": {"test": config}})).expect(201);
        set(PLACE, json!({"flagSetId": "test", "team": "web"}));

        let left = clone(json!({"from": "test", "metadata": false}));
        assert_eq!((&left["changed"], &left["metadata"], of_live()), (&json!(["a"]), &json!(false), json!({})));
        let done = clone(json!({"from": "test"}));
        assert_eq!((&done["changed"], &done["metadata"]), (&json!([]), &json!(true)));
        assert_eq!(of_live(), json!({"flagSetId": "test", "team": "web"}));
        let log = admin.get(&format!("{live}/changes?limit=1")).expect(200)["items"][0].clone();
        assert_eq!((&log["action"], &log["metadata"]["before"]), (&json!("environment.clone"), &json!({})));
        assert_eq!(clone(json!({"from": "test"}))["revision"], done["revision"], "nothing differs");

        // What an environment says of itself stays, unless it is meant.
        let own = set(live, json!({"flagSetId": "live", "team": null}));
        let kept = clone(json!({"from": "test"}));
        assert_eq!((&kept["revision"], &kept["metadata"]), (&own, &json!(false)));
        assert_eq!(clone(json!({"from": "test", "metadata": true}))["metadata"], true);
        assert_eq!(of_live(), json!({"flagSetId": "test", "team": "web"}));
        admin.post(&format!("{live}/clone"), json!({"from": "test", "metadata": 1})).expect(422);
    });
}

#[test]
fn what_hosts_would_refuse_is_refused() {
    on_both(|database| {
        let server = database.serve();
        let admin = server.furnished();
        for (patch, pointer) in [
            (json!({"metadata": {"a": [1]}}), "/metadata/a"),
            (json!({"metadata": {"a/b": {"c": 1}}}), "/metadata/a~1b"),
            (json!({"metadata": {"n": 9_007_199_254_740_993_u64}}), "/metadata/n"),
            (json!({"metadata": {"lists": "ids"}}), "/metadata/lists"),
            (json!({"metadata": {"list.vip": "/etc/passwd"}}), "/metadata/list.vip"),
            (json!({"metadata": 1}), "/metadata"),
            (json!({"name": "x", "key": "y"}), "/key"),
        ] {
            let problem = admin.patch(PLACE, patch).expect(422);
            assert_eq!(problem["errors"][0]["pointer"], pointer, "{problem}");
        }
        assert_eq!(admin.get(PLACE).expect(200)["revision"], 1);
        let reader = json!({"name": "t", "scope": "read", "project": "shop", "environment": "test"});
        let reader = admin.post("/api/v1/tokens", reader).expect(201);
        let reader = server.with_token(reader["token"].as_str().unwrap());
        reader.patch(PLACE, json!({"metadata": {"a": 1}})).expect(403);
        let writer = json!({"name": "t", "scope": "write", "project": "shop", "environment": "live"});
        let writer = admin.post("/api/v1/tokens", writer).expect(201);
        let writer = server.with_token(writer["token"].as_str().unwrap());
        let refused = writer.patch(PLACE, json!({"metadata": {"a": 1}})).status;
        assert!(refused == 403 || refused == 404, "{refused}");
    });
}

#[test]
fn flags_that_come_into_another_set_are_lost_to_those_who_ask_for_the_old_one() {
    on_both(|database| {
        let server = database.serve();
        let admin = server.furnished();
        for (key, metadata) in [("a", json!({})), ("b", json!({})), ("own", json!({"flagSetId": "own"}))] {
            let config = json!({"state": "ENABLED", "defaultVariant": "on", "metadata": metadata});
            admin.post(FLAGS, json!({"key": key, "environments": {"test": config}})).expect(201);
        }
        let lost = |query: &str, metadata: Value| {
            let done = admin.patch(&format!("{PLACE}{query}"), json!({"metadata": metadata})).expect(200);
            at(&admin, &done["revision"]).stamp.lost
        };
        assert_eq!(lost("", json!({"note": "x"})), Some(0));
        assert_eq!(lost("", json!({"flagSetId": "shop"})), Some(2), "a and b");
        assert_eq!(lost("?deliberate=true", json!({"flagSetId": "other"})), Some(2));
        assert_eq!(lost("", json!({"flagSetId": null})), Some(4));
    });
}
