//! Lists: their order, what they are narrowed to, and configurations taken over.

use serde_json::{Value, json};

use crate::harness::{Client, on_both};

const FLAGS: &str = "/api/v1/projects/shop/flags";
const TEST: &str = "/api/v1/projects/shop/environments/test";
const LIVE: &str = "/api/v1/projects/shop/environments/live";

/// The keys of a list, page by page.
fn keys(admin: &Client, path: &str, query: &str) -> Vec<String> {
    let (mut keys, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = admin.get(&format!("{path}?limit=2&cursor={cursor}&{query}")).expect(200);
        let items = page["items"].as_array().unwrap();
        keys.extend(items.iter().map(|item| item["key"].as_str().unwrap().to_owned()));
        match page["next"].as_str() {
            Some(next) => next.clone_into(&mut cursor),
            None => return keys,
        }
    }
}

#[test]
fn flags_are_sorted_and_narrowed_down() {
    on_both(|database| {
        let server = database.serve();
        let admin = server.furnished();
        for (key, more) in [
            (
                "d",
                json!({"description": "Über die STRASSE, Été", "owner": "web", "tags": ["cart", "a\"b"], "expiresMs": 50}),
            ),
            ("a", json!({"owner": "web", "kind": "ops"})),
            ("c", json!({"owner": "we_b", "tags": ["carting", "100%"], "kind": "ops", "expiresMs": 100})),
            ("b.1", json!({"type": "number", "variants": {"x": 1}})),
        ] {
            let mut body = more;
            body["key"] = json!(key);
            admin.post(FLAGS, body).expect(201);
            // Times are milliseconds.
            std::thread::sleep(std::time::Duration::from_millis(3));
        }
        admin.patch(&format!("{FLAGS}/a"), json!({"description": "new"})).expect(200);
        for (query, expected) in [
            ("", vec!["a", "b.1", "c", "d"]),
            ("sort=key", vec!["a", "b.1", "c", "d"]),
            ("sort=-key", vec!["d", "c", "b.1", "a"]),
            ("sort=created", vec!["d", "a", "c", "b.1"]),
            ("sort=-created", vec!["b.1", "c", "a", "d"]),
            ("sort=changed", vec!["d", "c", "b.1", "a"]),
            ("sort=-changed", vec!["a", "b.1", "c", "d"]),
            ("owner=web", vec!["a", "d"]),
            ("owner=we_b&sort=-key", vec!["c"]),
            ("tag=cart", vec!["d"]),
            ("tag=a%22b", vec!["d"]),
            ("tag=100%25", vec!["c"]),
            ("tag=1", vec![]),
            ("kind=ops", vec!["a", "c"]),
            ("type=number", vec!["b.1"]),
            ("expiresBeforeMs=100", vec!["d"]),
            ("expiresBeforeMs=101&kind=release", vec!["d"]),
            ("search=WEB&sort=-changed", vec!["a", "d"]),
            // Letters beyond ASCII, in any case.
            ("search=%C3%9Cber", vec!["d"]),
            ("search=%C3%BCBER%20%C3%A9T%C3%89", vec!["d"]),
            ("search=%C3%BCber%20nothing", vec![]),
        ] {
            assert_eq!(keys(&admin, FLAGS, query), expected, "{query}");
        }
        for bad in ["sort=color", "kind=x", "type=x", "sort=changed&cursor=a", "expiresBeforeMs=x"] {
            admin.get(&format!("{FLAGS}?{bad}")).expect(422);
        }
    });
}

#[test]
fn the_configurations_of_an_environment_come_in_one_list() {
    on_both(|database| {
        let server = database.serve();
        let admin = server.furnished();
        for key in ["a", "b", "c", "gone"] {
            let state = if key == "b" { "ENABLED" } else { "DISABLED" };
            let config = json!({"state": state, "metadata": {"note": "\"state\":\"ENABLED"}});
            admin.post(FLAGS, json!({"key": key, "environments": {"test": config}})).expect(201);
        }
        admin.post(&format!("{FLAGS}/gone/archive"), json!({})).expect(200);
        let path = format!("{TEST}/flags");
        assert_eq!(keys(&admin, &path, ""), ["a", "b", "c"]);
        assert_eq!(keys(&admin, &path, "archived=true"), ["gone"]);
        assert_eq!(keys(&admin, &path, "state=ENABLED"), ["b"]);
        assert_eq!(keys(&admin, &path, "state=DISABLED"), ["a", "c"]);
        let mut listed = admin.get(&path).expect(200)["items"][1].clone();
        listed.as_object_mut().unwrap().remove("key");
        assert_eq!(listed, admin.get(&format!("{path}/b")).expect(200));
        let body = json!({"name": "t", "scope": "read", "project": "shop", "environment": "live"});
        let token = admin.post("/api/v1/tokens", body).expect(201);
        server.with_token(token["token"].as_str().unwrap()).get(&path).expect(403);
    });
}

#[test]
fn what_flags_do_in_one_environment_is_taken_over_into_another() {
    on_both(|database| {
        let server = database.serve();
        let admin = server.furnished();
        for key in ["a", "b", "c"] {
            let config = json!({"state": "ENABLED", "defaultVariant": "on", "metadata": {"of": key}});
            admin.post(FLAGS, json!({"key": key, "environments": {"test": config}})).expect(201);
        }
        let config = |path: &str, key: &str| admin.get(&format!("{path}/flags/{key}")).expect(200)["metadata"].clone();
        let revision = || admin.get(LIVE).expect(200)["revision"].clone();
        let one = format!("{LIVE}/flags/a/clone");
        admin.post(&format!("{one}?dry_run=true"), json!({"from": "test"})).expect(200);
        assert_eq!(config(LIVE, "a"), Value::Null);
        let done = admin.post(&format!("{one}?comment=good"), json!({"from": "test"})).expect(200);
        assert_eq!((config(LIVE, "a"), config(LIVE, "b")), (json!({"of": "a"}), Value::Null));
        assert_eq!(done, json!({"revision": 5}));
        let log = admin.get(&format!("{LIVE}/changes?limit=1")).expect(200);
        assert_eq!((&log["items"][0]["action"], &log["items"][0]["comment"]), (&json!("flag.clone"), &json!("good")));

        let all = format!("{LIVE}/clone");
        assert_eq!(admin.post(&all, json!({"from": "nowhere"})).expect(422)["errors"][0]["pointer"], "/from");
        admin.with("if-match", "\"1\"").post(&all, json!({"from": "test"})).expect(412);
        let done = admin.post(&all, json!({"from": "test"})).expect(200);
        assert_eq!(done, json!({"revision": 6, "changed": ["b", "c"], "metadata": false}));
        assert_eq!(config(LIVE, "c"), json!({"of": "c"}));
        let again = admin.post(&all, json!({"from": "test"})).expect(200);
        assert_eq!(again, json!({"revision": 6, "changed": [], "metadata": false}));
        admin.post(&one, json!({"from": "test"})).expect(200);
        assert_eq!(revision(), 6, "nothing differs, nothing happens");

        let body = json!({"name": "t", "scope": "write", "project": "shop", "environment": "live"});
        let token = admin.post("/api/v1/tokens", body).expect(201);
        let only_live = server.with_token(token["token"].as_str().unwrap());
        only_live.post(&all, json!({"from": "test"})).expect(403);
        admin.post(&format!("{FLAGS}/a/archive"), json!({})).expect(200);
        admin.post(&one, json!({"from": "test"})).expect(409);
    });
}
