//! Making, changing and taking back, and what the log says of it.

use serde_json::{Value, json};

use crate::harness::{Database, on_both};

const FLAGS: &str = "/api/v1/projects/shop/flags";
const TEST: &str = "/api/v1/projects/shop/environments/test";

#[test]
fn a_flag_is_made_disabled_everywhere_and_configured_where_said() {
    on_both(|database| {
        let server = database.serve();
        let admin = server.furnished();
        let body = json!({"key": "new-checkout", "description": "Ünïcode: 'quotes' \"too\"; -- and \u{1F680}", "tags": ["a"],
            "environments": {"test": {"state": "ENABLED", "defaultVariant": "on"}}});
        let made = admin.post(FLAGS, body).expect(201);
        assert_eq!(made["variants"], json!({"on": true, "off": false}));
        let shown = admin.get(&format!("{FLAGS}/new-checkout"));
        assert_eq!(shown.etag(), "\"1\"");
        assert_eq!(shown.expect(200), made);
        let of = |environment: &str| {
            let path = format!("/api/v1/projects/shop/environments/{environment}/flags/new-checkout");
            admin.get(&path).expect(200)
        };
        assert_eq!(of("test")["state"], "ENABLED");
        assert_eq!(
            (of("live")["state"].clone(), of("live")["defaultVariant"].clone()),
            (json!("DISABLED"), json!("off"))
        );
        // A bad part leaves nothing of the whole.
        let body = json!({"key": "other", "environments": {"test": {"defaultVariant": "maybe"}}});
        let refused = admin.post(FLAGS, body).expect(422);
        assert_eq!(refused["errors"][0]["pointer"], "/environments/test/defaultVariant");
        admin.get(&format!("{FLAGS}/other")).expect(404);
    });
}

#[test]
fn of_two_writers_one_wins_and_the_other_hears_of_it() {
    on_both(|database| {
        let server = database.serve();
        let admin = server.furnished();
        admin.post(FLAGS, json!({"key": "a"})).expect(201);
        let path = format!("{TEST}/flags/a");
        let etag = admin.get(&path).etag();
        admin.put(&path, json!({"state": "ENABLED"})).expect(428);
        let first = admin.with("if-match", &etag).put(&path, json!({"state": "ENABLED", "defaultVariant": "on"}));
        let now = first.etag();
        first.expect(200);
        let late = admin.with("if-match", &etag).put(&path, json!({"state": "DISABLED"})).expect(412);
        assert_eq!(format!("\"{}\"", late["revision"]), now);
        assert_eq!(admin.get(&path).expect(200)["state"], "ENABLED");
        // Many at once, each with what it saw: exactly one of each round wins.
        for _ in 0..5 {
            let etag = admin.get(&path).etag();
            let wins: usize = std::thread::scope(|scope| {
                let write = |at: usize| {
                    let client = server.admin().with("if-match", &etag);
                    let path = &path;
                    scope.spawn(move || {
                        client.patch(path, json!({"metadata": {"who": at, "when": etag_number(&client, path)}})).status
                    })
                };
                let threads: Vec<_> = (0..4).map(write).collect();
                let statuses: Vec<u16> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
                assert!(statuses.iter().all(|status| [200, 412].contains(status)), "{statuses:?}");
                statuses.iter().filter(|status| **status == 200).count()
            });
            assert_eq!(wins, 1);
        }
        let log = admin.get(&format!("{TEST}/changes?flag=a")).expect(200);
        let revisions: Vec<u64> =
            log["items"].as_array().unwrap().iter().map(|entry| entry["revision"].as_u64().unwrap()).collect();
        assert_eq!(revisions, (2..=8).rev().collect::<Vec<_>>());
    });
}

fn etag_number(client: &crate::harness::Client, path: &str) -> Value {
    client.get(path).expect(200)["revision"].clone()
}

#[test]
fn a_request_that_is_sent_again_happens_once() {
    on_both(|database| {
        let server = database.serve();
        let admin = server.furnished();
        let once = admin.with("idempotency-key", "k-1");
        let first = once.post(FLAGS, json!({"key": "a"})).expect(201);
        let again = once.post(FLAGS, json!({"key": "a"}));
        assert_eq!(again.header("idempotency-replayed"), "true");
        assert_eq!(again.expect(201), first);
        let other = once.post(FLAGS, json!({"key": "b"})).expect(422);
        assert_eq!(other["type"], "urn:libflags:problem:key-reused");
        admin.get(&format!("{FLAGS}/b")).expect(404);
        // A refusal is not remembered: what was wrong may be put right.
        let once = admin.with("idempotency-key", "k-2");
        once.patch(&format!("{FLAGS}/c"), json!({})).expect(404);
        admin.post(FLAGS, json!({"key": "c"})).expect(201);
        once.patch(&format!("{FLAGS}/c"), json!({})).expect(200);
        // Another token's key is another key.
        let token = admin.post("/api/v1/tokens", json!({"name": "ci", "scope": "write"})).expect(201);
        let ci = server.with_token(token["token"].as_str().unwrap()).with("idempotency-key", "k-1");
        ci.post(FLAGS, json!({"key": "b"})).expect(201);
    });
}

#[test]
fn a_dry_run_answers_as_the_request_would_and_changes_nothing() {
    on_both(|database| {
        let server = database.serve();
        let admin = server.furnished();
        admin.post(&format!("{FLAGS}?dry_run=true"), json!({"key": "a"})).expect(201);
        admin.get(&format!("{FLAGS}/a")).expect(404);
        admin.post(FLAGS, json!({"key": "a"})).expect(201);
        let path = format!("{TEST}/flags/a");
        let before = admin.get(&path).text;
        let tried = admin.patch(&format!("{path}?dry_run=true"), json!({"state": "ENABLED"})).expect(200);
        assert_eq!(tried["state"], "ENABLED");
        admin.patch(&format!("{path}?dry_run=true"), json!({"targeting": {"nonsense": []}})).expect(422);
        assert_eq!(admin.get(&path).text, before);
    });
}

#[test]
fn an_archived_key_stays_taken() {
    on_both(|database| {
        let server = database.serve();
        let admin = server.furnished();
        admin
            .post(FLAGS, json!({"key": "a", "environments": {"test": {"state": "ENABLED", "defaultVariant": "on"}}}))
            .expect(201);
        let needs = json!({"prerequisites": [{"flag": "a", "variants": ["on"]}]});
        admin.post(FLAGS, json!({"key": "b", "environments": {"test": needs}})).expect(201);
        let refused = admin.post(&format!("{FLAGS}/a/archive"), json!({})).expect(409);
        assert!(refused["detail"].as_str().unwrap().contains("\"b\""), "{refused}");
        admin.patch(&format!("{TEST}/flags/b"), json!({"prerequisites": null})).expect(200);
        admin.post(&format!("{FLAGS}/a/archive"), json!({})).expect(200);
        admin.post(FLAGS, json!({"key": "a"})).expect(409);
        admin.patch(&format!("{TEST}/flags/a"), json!({"state": "DISABLED"})).expect(409);
        let keys = |query: &str| {
            let list = admin.get(&format!("{FLAGS}{query}")).expect(200);
            list["items"]
                .as_array()
                .unwrap()
                .iter()
                .map(|flag| flag["key"].as_str().unwrap().to_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!((keys(""), keys("?archived=true")), (vec!["b".to_owned()], vec!["a".to_owned()]));
        admin.post(&format!("{FLAGS}/a/restore"), json!({})).expect(200);
        assert_eq!(admin.get(&format!("{TEST}/flags/a")).expect(200)["state"], "ENABLED");
        // What is archived itself does not hold back what it needed, and can't come back without it.
        let needs = json!({"prerequisites": [{"flag": "a", "variants": ["on"]}]});
        admin.patch(&format!("{TEST}/flags/b"), needs).expect(200);
        for key in ["b", "a"] {
            admin.post(&format!("{FLAGS}/{key}/archive"), json!({})).expect(200);
        }
        admin.post(&format!("{FLAGS}/b/restore"), json!({})).expect(409);
        for key in ["a", "b"] {
            admin.post(&format!("{FLAGS}/{key}/restore"), json!({})).expect(200);
        }
    });
}

#[test]
fn a_rollback_is_a_change_that_brings_back_what_was() {
    on_both(|database| {
        let server = database.serve();
        let admin = server.furnished();
        for key in ["a", "b"] {
            admin.post(FLAGS, json!({"key": key})).expect(201);
        }
        let set = |key: &str, patch: Value| {
            admin.patch(&format!("{TEST}/flags/{key}?comment=why"), patch).expect(200)["revision"].as_u64().unwrap()
        };
        let good = set("a", json!({"state": "ENABLED", "defaultVariant": "on"}));
        set("b", json!({"state": "ENABLED"}));
        set("a", json!({"defaultVariant": "off"}));
        admin.post(FLAGS, json!({"key": "later", "environments": {"test": {"state": "ENABLED"}}})).expect(201);
        admin.post(&format!("{TEST}/rollback"), json!({"revision": 999})).expect(422);
        let late = admin.with("if-match", "\"2\"").post(&format!("{TEST}/rollback"), json!({"revision": good}));
        late.expect(412);
        let answer = admin.post(&format!("{TEST}/rollback?comment=it+broke"), json!({"revision": good})).expect(200);
        assert_eq!(answer["revision"], good + 4);
        let config = |key: &str| admin.get(&format!("{TEST}/flags/{key}")).expect(200);
        assert_eq!(config("a")["defaultVariant"], "on");
        assert_eq!(config("b")["state"], "DISABLED");
        assert_eq!(config("later")["state"], "DISABLED", "what came later is off");
        // Once more: nothing differs, nothing happens.
        let again = admin.post(&format!("{TEST}/rollback"), json!({"revision": good + 4})).expect(200);
        assert_eq!(again["revision"], good + 4);
        let log = admin.get(&format!("{TEST}/changes")).expect(200);
        let newest = &log["items"][0];
        assert_eq!(
            (newest["action"].clone(), newest["comment"].clone()),
            (json!("environment.rollback"), json!("it broke"))
        );
        let touched: Vec<&str> =
            newest["flags"].as_array().unwrap().iter().map(|flag| flag["key"].as_str().unwrap()).collect();
        assert_eq!(touched, ["a", "b", "later"]);
        assert_eq!(newest["flags"][0]["before"]["config"]["defaultVariant"], "off");
        assert_eq!(newest["flags"][0]["after"]["config"]["defaultVariant"], "on");
    });
}

#[test]
fn lists_come_in_pages_and_can_be_searched() {
    on_both(|database| {
        let server = database.serve();
        let admin = server.furnished();
        for at in 0..25 {
            let body = json!({"key": format!("flag-{at:02}"), "description": if at % 5 == 0 { "100%_Special" } else { "plain" }});
            admin.post(FLAGS, body).expect(201);
        }
        let (mut seen, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = admin.get(&format!("{FLAGS}?limit=10&cursor={cursor}")).expect(200);
            seen.extend(page["items"].as_array().unwrap().iter().map(|flag| flag["key"].as_str().unwrap().to_owned()));
            match page["next"].as_str() {
                Some(next) => next.clone_into(&mut cursor),
                None => break,
            }
        }
        assert_eq!(seen, (0..25).map(|at| format!("flag-{at:02}")).collect::<Vec<_>>());
        let found =
            |words: &str| admin.get(&format!("{FLAGS}?search={words}")).expect(200)["items"].as_array().unwrap().len();
        assert_eq!(
            (found("special"), found("100%25_"), found("flag-0+plain"), found("%25%25"), found("x_y")),
            (5, 5, 8, 0, 0)
        );
        admin.get(&format!("{FLAGS}?limit=0")).expect(422);
        admin.get(&format!("{FLAGS}?nonsense=1")).expect(422);
    });
}

#[test]
fn an_environment_can_begin_as_another_one_is() {
    on_both(|database| {
        let server = database.serve();
        let admin = server.furnished();
        admin
            .post(FLAGS, json!({"key": "a", "environments": {"test": {"state": "ENABLED", "defaultVariant": "on"}}}))
            .expect(201);
        admin.post("/api/v1/projects/shop/environments", json!({"key": "copy", "cloneOf": "test"})).expect(201);
        admin.post("/api/v1/projects/shop/environments", json!({"key": "copy"})).expect(409);
        let config = admin.get("/api/v1/projects/shop/environments/copy/flags/a").expect(200);
        assert_eq!(config["defaultVariant"], "on");
        let keys = admin.get("/api/v1/projects/shop/environments").expect(200);
        let public: Vec<&Value> = keys["items"].as_array().unwrap().iter().map(|e| &e["publicKey"]).collect();
        assert_eq!(public.len(), 3);
        assert!(public[0] != public[1] && public[1] != public[2], "each signs with a key of its own");
    });
}

/// What is asked for with a little is not made a lot of.
#[test]
fn what_comes_to_too_much_is_refused() {
    let database = Database::sqlite();
    let server = database.serve_with("[limits]\nrequest_seconds = 100\n");
    let admin = server.furnished();
    let rule = |text: String| json!({"if": [{"==": [{"var": "plan"}, text]}, "on"]});
    let on = |more: Value| {
        let mut config = json!({"state": "ENABLED", "defaultVariant": "off", "variants": {"on": true, "off": false}});
        config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        config
    };
    let needs =
        |keys: &[String]| -> Vec<Value> { keys.iter().map(|key| json!({"flag": key, "variants": ["on"]})).collect() };
    let base = ["base".to_owned()];
    let mut flags = json!({"base": on(json!({}))});
    for at in 0..33 {
        flags[format!("f{at}")] = on(json!({"prerequisites": needs(&base)}));
    }
    admin.post(&format!("{TEST}/import"), json!({"flags": flags})).expect(200);
    let all: Vec<String> = (0..33).map(|at| format!("f{at}")).collect();
    let top = |needed: &[String]| {
        let patch = json!({"prerequisites": needs(needed)});
        admin.post(FLAGS, json!({"key": "top"}));
        admin.patch(&format!("{TEST}/flags/top?dry_run=true"), patch)
    };
    top(&all[..32]).expect(200);
    let pointer = |problem: Value| problem["errors"][0]["pointer"].as_str().unwrap().to_owned();
    assert_eq!(pointer(top(&all).expect(422)), "/prerequisites");
    assert_eq!(pointer(top(&[all[0].clone(), all[0].clone()]).expect(422)), "/prerequisites/1/flag");
    // 300 KiB for each of the 32, twice.
    let base = format!("{TEST}/flags/base");
    admin.patch(&base, json!({"targeting": rule("x".repeat(300 << 10))})).expect(200);
    assert_eq!(pointer(top(&all[..32]).expect(422)), "/prerequisites");
    top(&all[..8]).expect(200);
}
