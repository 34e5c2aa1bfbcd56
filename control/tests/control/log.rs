//! The log: what differs between revisions, what leaves it, and where it goes.

use serde_json::{Value, json};

use crate::harness::{Database, eventually, on_both};

const FLAGS: &str = "/api/v1/projects/shop/flags";
const TEST: &str = "/api/v1/projects/shop/environments/test";

#[test]
fn two_revisions_are_compared_flag_by_flag() {
    on_both(|database| {
        let server = database.serve();
        let admin = server.furnished();
        for key in ["a", "b", "c"] {
            admin.post(FLAGS, json!({"key": key})).expect(201);
        }
        let set = |key: &str, patch: Value| {
            admin.patch(&format!("{TEST}/flags/{key}"), patch).expect(200)["revision"].as_u64().unwrap()
        };
        let from = set("a", json!({"state": "ENABLED"}));
        set("a", json!({"defaultVariant": "on"}));
        set("b", json!({"state": "ENABLED"}));
        set("b", json!({"state": "DISABLED"}));
        let to = set("a", json!({"metadata": {"x": 1}}));
        set("c", json!({"state": "ENABLED"}));
        let diff = |query: &str| admin.get(&format!("{TEST}/diff?{query}")).expect(200);
        let there = diff(&format!("from={from}&to={to}"));
        assert_eq!((&there["from"], &there["to"]), (&json!(from), &json!(to)));
        let flags = there["flags"].as_array().unwrap();
        assert_eq!(flags.len(), 1, "b is as it was: {there}");
        assert_eq!((&flags[0]["key"], &flags[0]["before"]["config"]["defaultVariant"]), (&json!("a"), &json!("off")));
        assert_eq!(flags[0]["after"]["config"]["metadata"], json!({"x": 1}));
        let back = diff(&format!("from={to}&to={from}"));
        assert_eq!(
            (&back["flags"][0]["after"], &back["flags"][0]["before"]),
            (&flags[0]["before"], &flags[0]["after"])
        );
        let keys = |diff: Value| -> Vec<String> {
            diff["flags"].as_array().unwrap().iter().map(|flag| flag["key"].as_str().unwrap().to_owned()).collect()
        };
        assert_eq!(keys(diff("from=0")), ["a", "b", "c"]);
        assert_eq!(diff("from=0")["flags"][0]["before"], Value::Null);
        assert_eq!(keys(diff(&format!("from={to}&to={to}"))), Vec::<String>::new());
        for bad in ["", "from=x", "from=0&to=999", "from=0&nonsense=1"] {
            admin.get(&format!("{TEST}/diff?{bad}")).expect(422);
        }
        server.with_token("flags_x").get(&format!("{TEST}/diff?from=0")).expect(401);
    });
}

#[test]
fn two_revisions_are_compared_segment_by_segment() {
    on_both(|database| {
        let server = database.serve();
        let admin = server.furnished();
        let segments = format!("{TEST}/segments");
        let condition = |on: &str| json!({"var": on});
        let rule = json!({"key": "staff", "kind": "rule", "condition": condition("a")});
        let from = admin.post(&segments, rule).expect(201)["revision"].as_u64().unwrap();
        admin.patch(&format!("{segments}/staff"), json!({"condition": condition("b")})).expect(200);
        admin.post(&segments, json!({"key": "vip", "kind": "list"})).expect(201);
        let ids = admin.with("content-type", "text/plain");
        ids.send("POST", &format!("{segments}/vip/ids/add"), Some("ann\nbob\n".to_owned())).expect(200);
        let diff = |query: String| admin.get(&format!("{TEST}/diff?{query}")).expect(200);
        let there = diff(format!("from={from}"));
        assert_eq!((&there["flags"], &there["metadata"]), (&json!([]), &Value::Null));
        let found = there["segments"].as_array().unwrap();
        assert_eq!((found.len(), &found[0]["key"], &found[1]["key"]), (2, &json!("staff"), &json!("vip")), "{there}");
        let conditions = (&found[0]["before"]["condition"], &found[0]["after"]["condition"]);
        assert_eq!(conditions, (&condition("a"), &condition("b")));
        assert_eq!((&found[1]["before"], &found[1]["after"]["ids"]), (&Value::Null, &json!(2)));
        let content = admin.get(&format!("{segments}/vip")).expect(200)["content"].clone();
        assert_eq!(found[1]["after"]["content"], content);
        let back = diff(format!("from={}&to={from}", from + 3));
        assert_eq!((&back["segments"][0]["before"], &back["segments"][1]["after"]), (&found[0]["after"], &Value::Null));
        // What was taken back in between is no difference.
        admin.patch(&format!("{segments}/staff"), json!({"condition": condition("a")})).expect(200);
        let keys = diff(format!("from={from}"))["segments"].clone();
        assert_eq!((keys.as_array().unwrap().len(), &keys[0]["key"]), (1, &json!("vip")));
    });
}

#[test]
fn the_log_comes_as_lines_without_a_gap() {
    on_both(|database| {
        let server = database.serve();
        let admin = server.furnished();
        admin.post(FLAGS, json!({"key": "a"})).expect(201);
        // More than are read at once.
        for at in 0..230 {
            admin.patch(&format!("{TEST}/flags/a"), json!({"metadata": {"n": at}})).expect(200);
        }
        let lines = |query: &str| -> Vec<Value> {
            let reply = admin.get(&format!("{TEST}/changes/export{query}"));
            assert_eq!((reply.status, reply.header("content-type").as_str()), (200, "application/x-ndjson"));
            reply.text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
        };
        let all = lines("");
        let revisions: Vec<u64> = all.iter().map(|entry| entry["revision"].as_u64().unwrap()).collect();
        assert_eq!(revisions, (1..=232).collect::<Vec<_>>());
        let newest = admin.get(&format!("{TEST}/changes?limit=1")).expect(200)["items"][0].clone();
        assert_eq!(all[231], newest);
        let part = lines("?from=5&to=7");
        assert_eq!(part, all[4..7]);
        assert!(lines("?from=500").is_empty());
    });
}

#[test]
fn what_is_old_leaves_the_log_and_the_rest_has_no_gap() {
    on_both(|database| {
        let fill = || {
            let server = database.serve();
            let admin = server.furnished();
            admin.post(FLAGS, json!({"key": "a"})).expect(201);
            for at in 0..30 {
                if at == 1 {
                    admin.post(&format!("{TEST}/segments"), json!({"key": "vip", "kind": "list"})).expect(201);
                } else {
                    admin.patch(&format!("{TEST}/flags/a"), json!({"metadata": {"n": at}})).expect(200);
                }
            }
        };
        fill();
        // Everything is older than 0 days. The newest stay, whatever their age.
        let server = database.serve_with("[log]\nkeep_days = 0\nkeep_changes = 10\n");
        let admin = server.admin();
        eventually("the log is cut", || admin.get(TEST).expect(200)["logBegins"] == 23);
        let log = admin.get(&format!("{TEST}/changes")).expect(200);
        let revisions: Vec<u64> =
            log["items"].as_array().unwrap().iter().map(|entry| entry["revision"].as_u64().unwrap()).collect();
        assert_eq!(revisions, (23..=32).rev().collect::<Vec<_>>());
        for path in ["changes?cursor=23", "diff?from=21", "changes/export?from=22"] {
            let gone = admin.get(&format!("{TEST}/{path}")).expect(410);
            assert_eq!(
                (&gone["type"], &gone["revision"]),
                (&json!("urn:libflags:problem:log-begins-later"), &json!(23))
            );
        }
        admin.post(&format!("{TEST}/rollback"), json!({"revision": 21})).expect(410);
        assert_eq!(
            admin.get(&format!("{TEST}/diff?from=22")).expect(200)["flags"][0]["before"]["config"]["metadata"]["n"],
            19
        );
        admin.post(&format!("{TEST}/rollback"), json!({"revision": 22})).expect(200);
        assert_eq!(admin.get(&format!("{TEST}/flags/a")).expect(200)["metadata"]["n"], 19);
        assert_eq!(admin.get(&format!("{TEST}/changes/export")).text.lines().count(), 11);
        assert_eq!(
            admin.get(&format!("{TEST}/changes?limit=5&cursor=28")).expect(200)["items"].as_array().unwrap().len(),
            5
        );
        eventually("hosts go on", || admin.get("/sync/v1/shop/test/snapshot").etag() == "\"1.33\"");
    });
}

#[test]
fn nothing_leaves_the_log_unless_told_so() {
    let database = Database::sqlite();
    let server = database.serve_with("[log]\nkeep_changes = 1\n");
    let admin = server.furnished();
    for key in ["a", "b", "c"] {
        admin.post(FLAGS, json!({"key": key})).expect(201);
    }
    drop(server);
    // A program keeps house as soon as it has started.
    let server = database.serve_with("[log]\nkeep_days = 3650\nkeep_changes = 1\n");
    let admin = server.admin();
    eventually("it is up", || admin.get("/readyz").status == 200);
    assert_eq!(admin.get(TEST).expect(200)["logBegins"], 1);
}
