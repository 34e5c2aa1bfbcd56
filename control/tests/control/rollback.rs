//! Back to a revision: what is taken back with it, what stays and is said to, and what is refused.

use serde_json::{Value, json};

use crate::harness::{Client, Reply, on_both};
use crate::segments::snapshot;

const FLAGS: &str = "/api/v1/projects/shop/flags";
const TEST: &str = "/api/v1/projects/shop/environments/test";
const LIVE: &str = "/api/v1/projects/shop/environments/live";

fn rule(admin: &Client, key: &str, condition: Value) {
    admin.post(&format!("{TEST}/segments"), json!({"key": key, "kind": "rule", "condition": condition})).expect(201);
}

/// A flag that is enabled, with a rule or whatever else.
fn flag(admin: &Client, key: &str, config: Value) {
    admin.post(FLAGS, json!({"key": key})).expect(201);
    configure(admin, key, config);
}

fn configure(admin: &Client, key: &str, config: Value) {
    let mut config = config;
    config["state"] = json!("ENABLED");
    admin.patch(&format!("{TEST}/flags/{key}"), config).expect(200);
}

fn named(key: &str) -> Value {
    json!({"targeting": {"if": [{"$ref": key}, "on"]}})
}

fn listed(key: &str) -> Value {
    json!({"targeting": {"if": [{"in": [{"var": "targetingKey"}, {"var": format!("$lists.{key}")}]}, "on"]}})
}

fn archive(admin: &Client, path: &str) {
    admin.post(&format!("{path}/archive"), json!({})).expect(200);
}

fn send_ids(admin: &Client, path: &str, ids: &str) {
    let path = format!("{TEST}/segments/{path}");
    admin.with("content-type", "text/plain").send("POST", &path, Some(ids.to_owned())).expect(200);
}

fn revision(admin: &Client) -> u64 {
    admin.get(TEST).expect(200)["revision"].as_u64().unwrap()
}

fn roll_back(admin: &Client, to: u64) -> Reply {
    admin.post(&format!("{TEST}/rollback"), json!({"revision": to}))
}

/// What hosts get: flags and the rules that they share, without revision and time.
fn definitions(admin: &Client) -> Vec<(String, String)> {
    let snapshot = snapshot(admin);
    let text = |kind: &str, key: &str, text: &str| (format!("{kind} {key}"), text.to_owned());
    let flags = snapshot.flags.iter().map(|(key, flag)| text("flag", key, flag.get()));
    flags.chain(snapshot.evaluators.iter().map(|(key, rule)| text("rule", key, rule.get()))).collect()
}

fn condition(admin: &Client, key: &str) -> Value {
    admin.get(&format!("{TEST}/segments/{key}")).expect(200)
}

#[test]
fn rules_are_taken_back_with_the_flags() {
    on_both(|database| {
        let server = database.serve();
        let admin = server.furnished();
        rule(&admin, "staff", json!({"var": "staff"}));
        rule(&admin, "testers", json!({"or": [{"$ref": "staff"}, {"var": "beta"}]}));
        rule(&admin, "away", json!({"var": "away"}));
        flag(&admin, "a", named("testers"));
        flag(&admin, "b", named("away"));
        let needs = json!({"defaultVariant": "on", "prerequisites": [{"flag": "a", "variants": ["on"]}]});
        flag(&admin, "needs-a", needs);
        let (good, before) = (revision(&admin), definitions(&admin));

        // A condition alone: no flag has been changed.
        let patch = json!({"condition": {"var": "contractor"}, "name": "Them", "description": "not us"});
        admin.patch(&format!("{TEST}/segments/staff"), patch).expect(200);
        let only = admin.get(&format!("{TEST}/diff?from={good}")).expect(200);
        assert_eq!((&only["flags"], only["segments"].as_array().unwrap().len()), (&json!([]), 1), "{only}");
        let tried = admin.post(&format!("{TEST}/rollback?dry_run=true"), json!({"revision": good})).expect(200);
        assert_eq!(tried, json!({"revision": good + 2, "left": []}));
        assert_eq!((revision(&admin), &condition(&admin, "staff")["name"]), (good + 1, &json!("Them")));
        assert_ne!(definitions(&admin), before);
        assert_eq!(roll_back(&admin, good).expect(200), json!({"revision": good + 2, "left": []}));
        assert_eq!(definitions(&admin), before);
        let staff = condition(&admin, "staff");
        assert_eq!((&staff["name"], &staff["condition"]), (&json!(""), &json!({"var": "staff"})));
        let log = admin.get(&format!("{TEST}/changes?limit=1")).expect(200)["items"][0].clone();
        assert_eq!((&log["action"], &log["flags"]), (&json!("environment.rollback"), &json!([])));
        assert_eq!(log["segments"][0]["before"]["condition"], json!({"var": "contractor"}));
        assert_eq!(admin.get(&format!("{TEST}/diff?from={good}")).expect(200)["segments"], json!([]));
        assert_eq!(roll_back(&admin, good).expect(200)["revision"], good + 2, "nothing is left to do");

        // All at once: one is archived, one is new and named by a flag, one is something else.
        configure(&admin, "b", json!({"targeting": null}));
        archive(&admin, &format!("{TEST}/segments/away"));
        rule(&admin, "new", json!({"$ref": "staff"}));
        admin.patch(&format!("{TEST}/segments/testers"), json!({"condition": {"$ref": "new"}})).expect(200);
        flag(&admin, "c", named("new"));
        let (bad, then) = (revision(&admin), definitions(&admin));
        assert_eq!(roll_back(&admin, good).expect(200), json!({"revision": bad + 1, "left": []}));
        let mut now = definitions(&admin);
        now.retain(|(name, text)| name != "flag c" || !text.contains("\"DISABLED\""));
        assert_eq!(now, before, "but for a flag that came later, which is disabled");
        assert_eq!(
            (condition(&admin, "away")["archived"].clone(), condition(&admin, "new")["archived"].clone()),
            (json!(false), json!(true))
        );
        // And back.
        assert_eq!(roll_back(&admin, bad).expect(200), json!({"revision": bad + 2, "left": []}));
        assert_eq!(definitions(&admin), then);
        assert_eq!(condition(&admin, "away")["archived"], true);
        let same = admin.get(&format!("{TEST}/diff?from={bad}")).expect(200);
        assert_eq!(
            (&same["flags"], &same["segments"], &same["metadata"]),
            (&json!([]), &json!([]), &Value::Null),
            "{same}"
        );
    });
}

#[test]
fn a_rule_that_came_later_stays_where_something_refers_to_it() {
    on_both(|database| {
        let server = database.serve();
        let admin = server.furnished();
        flag(&admin, "a", json!({"defaultVariant": "on"}));
        archive(&admin, &format!("{FLAGS}/a"));
        let good = revision(&admin);
        admin.post(&format!("{FLAGS}/a/restore"), json!({})).expect(200);
        rule(&admin, "deep", json!({"var": "deep"}));
        rule(&admin, "kept", json!({"$ref": "deep"}));
        rule(&admin, "unused", json!({"var": "unused"}));
        configure(&admin, "a", named("kept"));
        let bad = revision(&admin);
        assert_eq!(roll_back(&admin, good).expect(200), json!({"revision": bad + 1, "left": []}));
        // Hosts did not have the flag then: it is disabled, and does again what it did once somebody enables it.
        let config = admin.get(&format!("{TEST}/flags/a")).expect(200);
        assert_eq!((&config["state"], &config["targeting"]), (&json!("DISABLED"), &named("kept")["targeting"]));
        let archived = |key: &str| condition(&admin, key)["archived"].clone();
        assert_eq!((archived("kept"), archived("deep"), archived("unused")), (json!(false), json!(false), json!(true)));
        configure(&admin, "a", json!({}));
        assert_eq!(roll_back(&admin, bad).expect(200)["left"], json!([]));
        assert_eq!(archived("unused"), false);
    });
}

#[test]
fn lists_come_back_where_they_are_named_and_keep_their_ids() {
    on_both(|database| {
        let server = database.serve();
        let admin = server.furnished();
        for key in ["vip", "seg2", "idle"] {
            admin.post(&format!("{TEST}/segments"), json!({"key": key, "kind": "list"})).expect(201);
            send_ids(&admin, &format!("{key}/ids/add"), "ann\nbob\n");
        }
        flag(&admin, "a", listed("vip"));
        flag(&admin, "b", listed("seg2"));
        let (good, before) = (revision(&admin), definitions(&admin));
        configure(&admin, "b", json!({"targeting": null}));
        for key in ["seg2", "idle"] {
            archive(&admin, &format!("{TEST}/segments/{key}"));
        }
        let bad = revision(&admin);
        assert_eq!(roll_back(&admin, good).expect(200), json!({"revision": bad + 1, "left": []}));
        assert_eq!(definitions(&admin), before);
        let lists = snapshot(&admin).lists;
        assert_eq!((lists["seg2"].ids, lists.contains_key("idle")), (2, false), "nothing names the other one");

        // Somebody is taken out, and stays out.
        send_ids(&admin, "vip/ids/remove", "ann\n");
        send_ids(&admin, "seg2/ids/add", "cleo\n");
        let bad = revision(&admin);
        let differs = admin.get(&format!("{TEST}/diff?from={good}")).expect(200)["segments"].clone();
        assert_eq!(differs.as_array().unwrap().len(), 3, "{differs}");
        let vip = &differs[2];
        assert_eq!((&vip["key"], &vip["before"]["ids"], &vip["after"]["ids"]), (&json!("vip"), &json!(2), &json!(1)));
        assert!(vip["before"]["content"] != vip["after"]["content"] && !differs.to_string().contains("ann"));
        let left = json!([{"segment": "seg2", "what": "ids"}, {"segment": "vip", "what": "ids"}]);
        assert_eq!(roll_back(&admin, good).expect(200), json!({"revision": bad, "left": left}));
        assert_eq!(admin.get(&format!("{TEST}/segments/vip/ids")).text, "bob\n");
    });
}

#[test]
fn what_is_of_the_whole_project_stays_and_is_said_to() {
    on_both(|database| {
        let server = database.serve();
        let admin = server.furnished();
        let number = json!({"key": "items", "type": "number", "variants": {"few": 10, "many": 50},
            "environments": {"test": {"state": "ENABLED", "defaultVariant": "few"}}});
        admin.post(FLAGS, number.clone()).expect(201);
        let mut off = number;
        off["key"] = json!("off");
        off["environments"]["test"]["state"] = json!("DISABLED");
        admin.post(FLAGS, off).expect(201);
        flag(&admin, "pruned", json!({"defaultVariant": "on"}));
        let (good, before) = (revision(&admin), definitions(&admin));
        // Disabled here, so that nobody here gets another answer; and one more variant that no configuration of then names.
        for key in ["off", "items"] {
            admin
                .patch(&format!("{FLAGS}/{key}"), json!({"variants": {"more": 70}, "description": "some"}))
                .expect(200);
        }
        admin.patch(&format!("{FLAGS}/off"), json!({"variants": {"few": 11}})).expect(200);
        assert_eq!(roll_back(&admin, good).expect(200)["left"], json!([]));

        admin.patch(&format!("{FLAGS}/items"), json!({"variants": {"few": 100_000, "more": null}})).expect(200);
        configure(&admin, "pruned", json!({"defaultVariant": "off"}));
        archive(&admin, &format!("{FLAGS}/pruned"));
        let (bad, live) = (revision(&admin), admin.get(LIVE).expect(200)["revision"].clone());
        let left = json!([{"flag": "items", "what": "variants"}, {"flag": "pruned", "what": "archived"}]);
        for query in ["?dry_run=true", ""] {
            let answer = admin.post(&format!("{TEST}/rollback{query}"), json!({"revision": good})).expect(200);
            assert_eq!(answer, json!({"revision": bad, "left": left}), "nothing to take back here");
        }
        assert_eq!(admin.get(LIVE).expect(200)["revision"], live, "nor anywhere else");
        // What it says to do.
        admin.post(&format!("{FLAGS}/pruned/restore"), json!({})).expect(200);
        admin.patch(&format!("{FLAGS}/items"), json!({"variants": {"few": 10}})).expect(200);
        let answer = roll_back(&admin, good).expect(200);
        assert_eq!(answer["left"], json!([]));
        let on = admin.get(&format!("{TEST}/flags/pruned")).expect(200);
        assert_eq!(on["defaultVariant"], "on");
        let mut now = definitions(&admin);
        now.retain(|(name, _)| name != "flag off");
        assert!(now.iter().all(|definition| before.contains(definition)) && now.len() == 2, "{now:?}");
        // A rule may name a variant that was not there.
        configure(&admin, "items", json!({"targeting": {"var": "size"}}));
        let ruled = revision(&admin);
        admin.patch(&format!("{FLAGS}/items"), json!({"variants": {"huge": 900}})).expect(200);
        assert_eq!(roll_back(&admin, ruled).expect(200)["left"], json!([{"flag": "items", "what": "variants"}]));
    });
}

#[test]
fn what_is_refused_says_of_which_flag() {
    on_both(|database| {
        let server = database.serve();
        let admin = server.furnished();
        flag(&admin, "needed", json!({"defaultVariant": "on"}));
        flag(&admin, "a", json!({"defaultVariant": "on", "prerequisites": [{"flag": "needed", "variants": ["on"]}]}));
        let good = revision(&admin);
        configure(&admin, "a", json!({"prerequisites": null}));
        archive(&admin, &format!("{FLAGS}/needed"));
        let bad = revision(&admin);
        let refused = roll_back(&admin, good).expect(422);
        let place = "/flags/a/prerequisites/0/flag";
        assert_eq!(refused["errors"][0]["pointer"], place);
        assert_eq!(refused["detail"], format!("{place}: the flag \"needed\" is archived"));
        assert_eq!(revision(&admin), bad);
        admin.post(&format!("{FLAGS}/needed/restore"), json!({})).expect(200);
        assert_eq!(roll_back(&admin, good).expect(200)["left"], json!([]));

        // Of several.
        admin.post(FLAGS, json!({"key": "b"})).expect(201);
        admin.patch(&format!("{FLAGS}/b"), json!({"variants": {"maybe": true}})).expect(200);
        configure(&admin, "b", json!({"defaultVariant": "maybe"}));
        let good = revision(&admin);
        configure(&admin, "b", json!({"defaultVariant": "on"}));
        configure(&admin, "a", json!({"defaultVariant": "off"}));
        admin.patch(&format!("{FLAGS}/b"), json!({"variants": {"maybe": null}})).expect(200);
        let refused = roll_back(&admin, good).expect(422);
        assert_eq!(refused["detail"], "/flags/b/defaultVariant: the flag has no variant \"maybe\"");
    });
}
