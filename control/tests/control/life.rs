//! Projects and environments from their making to their archive, and back.

use std::collections::BTreeSet;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::admission::{filled, operations};
use crate::harness::{Client, Database, Reply, Server, eventually, on_both, program};

const PROJECTS: &str = "/api/v1/projects";
const SHOP: &str = "/api/v1/projects/shop";
const ENVIRONMENTS: &str = "/api/v1/projects/shop/environments";
const TEST: &str = "/api/v1/projects/shop/environments/test";
const LIVE: &str = "/api/v1/projects/shop/environments/live";

fn token(server: &Server, body: Value) -> Client {
    let made = server.admin().post("/api/v1/tokens", body).expect(201);
    server.with_token(made["token"].as_str().unwrap())
}

fn keys(page: &Value) -> Vec<&str> {
    page["items"].as_array().unwrap().iter().map(|item| item["key"].as_str().unwrap()).collect()
}

#[track_caller]
fn is_archived(reply: Reply, what: &str) {
    let problem = reply.expect(409);
    assert_eq!(problem["type"], "urn:libflags:problem:archived", "{problem}");
    assert!(problem["detail"].as_str().unwrap().starts_with(&format!("the {what} is archived")), "{problem}");
}

/// Of writers at once who have seen the same, one.
#[track_caller]
fn one_of_many(client: &Client, path: &str, etag: &str, body: impl Fn(usize) -> Value + Sync) {
    let statuses: Vec<(u16, String)> = thread::scope(|scope| {
        let write = |at: usize| {
            let (client, body) = (client.with("if-match", etag), body(at));
            scope.spawn(move || {
                let reply = client.patch(path, body);
                (reply.status, reply.text)
            })
        };
        let writers: Vec<_> = (0..6).map(write).collect();
        writers.into_iter().map(|writer| writer.join().unwrap()).collect()
    });
    let of = |status: u16| statuses.iter().filter(|(found, _)| *found == status).count();
    assert_eq!((of(200), of(412)), (1, 5), "{statuses:?}");
    let problem: Value = serde_json::from_str(&statuses.iter().find(|(status, _)| *status == 412).unwrap().1).unwrap();
    assert_eq!(format!("\"{}\"", problem["revision"]), client.get(path).etag());
}

#[test]
fn a_project_is_changed_by_those_who_saw_what_it_is() {
    on_both(|database| {
        let server = database.serve();
        let admin = server.furnished();
        let made = admin.post(PROJECTS, json!({"key": "cms", "name": "CMS", "description": "Pages"}));
        assert_eq!(made.etag(), "\"1\"");
        let made = made.expect(201);
        assert_eq!((&made["archived"], &made["changedMs"]), (&json!(false), &made["createdMs"]));
        let cms = format!("{PROJECTS}/cms");
        assert_eq!(admin.get(&cms).etag(), "\"1\"");
        assert_eq!(admin.get(&cms).expect(200), made);

        let tried = admin.patch(&format!("{cms}?dry_run=true"), json!({"name": "X"}));
        assert_eq!((tried.etag().as_str(), admin.get(&cms).etag().as_str()), ("\"2\"", "\"1\""));
        let changed = admin.with("if-match", "\"1\"").patch(&cms, json!({"name": "Content"}));
        assert_eq!(changed.etag(), "\"2\"");
        let changed = changed.expect(200);
        assert_eq!((&changed["name"], &changed["description"]), (&json!("Content"), &json!("Pages")));
        // Nothing is another: no version.
        assert_eq!(admin.patch(&cms, json!({"name": "Content"})).etag(), "\"2\"");
        let late = admin.with("if-match", "\"1\"").patch(&cms, json!({"name": "Other"})).expect(412);
        assert_eq!((&late["type"], &late["revision"]), (&json!("urn:libflags:problem:outdated"), &json!(2)));
        admin.put(&cms, json!({"name": "Other"})).expect(428);
        admin.with("if-match", "\"1\"").put(&cms, json!({"name": "Other"})).expect(412);
        let put = admin.with("if-match", "\"2\"").put(&cms, json!({"name": "All"}));
        assert_eq!(put.etag(), "\"3\"");
        assert_eq!(put.expect(200)["description"], "", "what is not said is not so");
        let nul = admin.patch(&cms, json!({"description": "a\0b"})).expect(422);
        assert_eq!(nul["errors"][0]["pointer"], "/description");
        for (body, pointer) in [
            (json!({"name": "x".repeat(4_097)}), "/name"),
            (json!({"key": "other"}), "/key"),
            (json!({"archived": true}), "/archived"),
            (json!({"name": 1}), "/name"),
        ] {
            assert_eq!(admin.patch(&cms, body).expect(422)["errors"][0]["pointer"], pointer);
        }
        one_of_many(&admin, &cms, "\"3\"", |at| json!({"name": format!("{at}")}));

        // Sent again, it is answered as the first time, whatever has happened since.
        let once = admin.with("idempotency-key", "k");
        let first = once.patch(&cms, json!({"name": "once"}));
        admin.patch(&cms, json!({"name": "since"})).expect(200);
        let again = once.patch(&cms, json!({"name": "once"}));
        assert_eq!((again.etag(), again.header("idempotency-replayed").as_str()), (first.etag(), "true"));
        assert_eq!(admin.get(&cms).expect(200)["name"], "since");

        let own = token(&server, json!({"name": "a", "scope": "admin", "project": "cms"}));
        let writer = token(&server, json!({"name": "w", "scope": "write", "project": "cms"}));
        let other = token(&server, json!({"name": "o", "scope": "admin", "project": "shop"}));
        let part = token(&server, json!({"name": "p", "scope": "admin", "project": "shop", "environment": "test"}));
        own.patch(&cms, json!({"name": "ours"})).expect(200);
        own.post(&format!("{cms}/archive"), json!({})).expect(200);
        own.post(&format!("{cms}/restore"), json!({})).expect(200);
        for (client, path, status) in [(&writer, cms.as_str(), 403), (&part, SHOP, 403), (&other, &cms, 404)] {
            client.patch(path, json!({"name": "theirs"})).expect(status);
            client.with("if-match", "*").put(path, json!({"name": "theirs"})).expect(status);
            client.post(&format!("{path}/archive"), json!({})).expect(status);
            client.post(&format!("{path}/restore"), json!({})).expect(status);
        }
        assert_eq!(admin.get(&cms).expect(200)["name"], "ours");
    });
}

/// What each change is asked for with; nothing where it takes nothing.
fn body(method: &str, path: &str) -> Value {
    let end = path.rsplit('/').next().unwrap();
    match (method, end) {
        ("POST", "environments" | "flags") => json!({"key": "new"}),
        ("POST", "segments") => json!({"key": "new", "kind": "list"}),
        ("POST", "schedules") => json!({"flag": "a", "atMs": 9_000_000_000_000_i64, "patch": {"state": "ENABLED"}}),
        ("POST", "clone") => json!({"from": "live"}),
        ("POST", "rollback") => json!({"revision": 1}),
        ("POST", "import") => json!({"flags": {}}),
        _ => json!({}),
    }
}

/// All changes of a project, or of its environment `test`, with names in their paths.
fn changes(below: &str) -> Vec<(String, String)> {
    let changes = operations().into_iter().filter(|(method, _)| method != "GET");
    let changes: Vec<_> = changes.map(|(method, path)| (method, filled(&path, "shop", "test"))).collect();
    changes.into_iter().filter(|(_, path)| path == below || path.starts_with(&format!("{below}/"))).collect()
}

/// A project `shop` with a flag, a segment and a schedule of the name `a`, and a host's view of it.
fn shop(server: &Server) -> (Client, String) {
    let admin = server.furnished();
    let config = json!({"state": "ENABLED", "defaultVariant": "on"});
    admin.post(&format!("{SHOP}/flags"), json!({"key": "a", "environments": {"test": config}})).expect(201);
    admin.post(&format!("{TEST}/segments"), json!({"key": "a", "kind": "list"})).expect(201);
    let later = json!({"flag": "a", "atMs": 9_000_000_000_000_i64, "patch": {"state": "DISABLED"}});
    let scheduled = admin.post(&format!("{TEST}/schedules"), later).expect(201);
    (admin, scheduled["id"].as_str().unwrap().to_owned())
}

/// Asks for each change; it is refused, and so is what is asked for without a body.
#[track_caller]
fn all_are_refused(client: &Client, changes: &[(String, String)], schedule: &str, what: &str) {
    for (method, path) in changes {
        let path = path.replace("/schedules/a", &format!("/schedules/{schedule}"));
        let reply = client.with("if-match", "*").send(method, &path, Some(body(method, &path).to_string()));
        assert_eq!(reply.status, 409, "{method} {path}: {}", reply.text);
        is_archived(reply, what);
    }
}

#[test]
fn nothing_in_an_archived_project_is_changed_and_hosts_go_on() {
    on_both(|database| {
        let server = database.serve();
        let (admin, schedule) = shop(&server);
        let host = token(&server, json!({"name": "h", "scope": "sync", "project": "shop"}));
        let stream = host.stream("shop/test", None);
        assert_eq!(stream.next().kind, "snapshot");
        let once = admin.with("idempotency-key", "before");
        let config = format!("{TEST}/flags/a");
        once.patch(&config, json!({"metadata": {"n": 1}})).expect(200);
        let seen = admin.get(SHOP).etag();
        admin.with("if-match", "\"9\"").post(&format!("{SHOP}/archive"), json!({})).expect(412);
        let archived = admin.with("if-match", &seen).post(&format!("{SHOP}/archive?comment=shut"), json!({}));
        assert_eq!(archived.etag(), "\"2\"");
        assert_eq!(archived.expect(200)["archived"], true);
        assert_eq!(admin.post(&format!("{SHOP}/archive"), json!({})).etag(), "\"2\"", "it is archived already");

        // What happened before is still answered so to who did not hear of it.
        let again = once.patch(&config, json!({"metadata": {"n": 1}}));
        assert_eq!((again.header("idempotency-replayed").as_str(), again.status), ("true", 200));
        assert_eq!(keys(&admin.get(PROJECTS).expect(200)), Vec::<&str>::new());
        assert_eq!(keys(&admin.get(&format!("{PROJECTS}?archived=true")).expect(200)), ["shop"]);
        admin.post(PROJECTS, json!({"key": "shop"})).expect(409);
        let all: Vec<_> = changes(SHOP)
            .into_iter()
            .filter(|(_, path)| *path != format!("{SHOP}/restore") && *path != format!("{SHOP}/archive"))
            .collect();
        assert!(all.len() > 25, "{all:?}");
        all_are_refused(&admin, &all, &schedule, "project \"shop\"");
        for (method, path) in
            operations().into_iter().filter(|(method, path)| method == "GET" && path.contains("{project}"))
        {
            let query = if path.ends_with("/diff") { "?from=1" } else { "" };
            let path = filled(&path, "shop", "test").replace("/schedules/a", &format!("/schedules/{schedule}"));
            let reply = admin.get(&format!("{path}{query}"));
            assert_eq!(reply.status, 200, "{method} {path}: {}", reply.text);
        }

        // Hosts: what they have, also those that come now. The change is one without a flag.
        assert!(stream.next_change().data.contains("\"n\":1"));
        let change = stream.next_change();
        assert_eq!((change.kind.as_str(), change.data.contains("\"flags\":{}")), ("change", true), "{}", change.data);
        let snapshot = host.get("/sync/v1/shop/test/snapshot");
        assert!(snapshot.text.contains("\"a\":{"), "{}", snapshot.text);
        let report = json!({"host": "h", "set": "s", "epoch": 1, "revision": 1,
            "publishedNs": 1_763_000_000_250_000_000_u64, "state": "fresh", "version": "0.1.0"});
        host.post("/sync/v1/shop/test/report", report).expect(204);
        // Who may follow it can still be said, above all who may not any more.
        let new = admin.post("/api/v1/tokens", json!({"name": "n", "scope": "sync", "project": "shop"})).expect(201);
        let new_host = server.with_token(new["token"].as_str().unwrap());
        new_host.get("/sync/v1/shop/test/snapshot").expect(200);
        admin.post(&format!("/api/v1/tokens/{}/revoke", new["id"].as_str().unwrap()), json!({})).expect(200);
        eventually("it is refused", || new_host.get("/sync/v1/shop/test/snapshot").status == 401);

        // Who, when and why, in the log of each environment.
        for place in [TEST, LIVE] {
            let newest = admin.get(&format!("{place}/changes?limit=1")).expect(200)["items"][0].clone();
            assert_eq!((&newest["action"], &newest["comment"]), (&json!("project.archive"), &json!("shut")));
            assert!(newest["actor"].as_str().unwrap().contains('(') && newest["timeMs"].is_i64(), "{newest}");
            assert_eq!(newest["flags"], json!([]));
        }
        drop(stream);
        drop(server);
        let server = database.serve();
        let admin = server.admin();
        eventually("it is served again", || admin.get("/sync/v1/shop/test/snapshot").status == 200);
        assert!(admin.get("/sync/v1/shop/test/snapshot").text.contains("\"a\":{"));

        let restored = admin.with("if-match", "\"2\"").post(&format!("{SHOP}/restore"), json!({}));
        assert_eq!((restored.etag().as_str(), restored.expect(200)["archived"].clone()), ("\"3\"", json!(false)));
        admin.patch(&format!("{TEST}/flags/a"), json!({"state": "DISABLED"})).expect(200);
        admin.patch(SHOP, json!({"name": "x"})).expect(200);
        let actions: Vec<Value> = admin.get(&format!("{LIVE}/changes")).expect(200)["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|entry| entry["action"].clone())
            .collect();
        assert_eq!(actions[..2], [json!("project.restore"), json!("project.archive")]);
    });
}

#[test]
fn no_write_slips_in_behind_the_archive() {
    on_both(|database| {
        let server = database.serve();
        let (admin, _) = shop(&server);
        // Where there can be another replica, by that one.
        let other = database.postgres.is_some().then(|| database.serve());
        let closer = other.as_ref().unwrap_or(&server).admin();
        thread::scope(|scope| {
            let writers: Vec<_> = (0..4)
                .map(|writer| {
                    let admin = admin.clone();
                    scope.spawn(move || {
                        for at in 0.. {
                            let (path, body) = match writer {
                                0 => (format!("{SHOP}/flags/a"), json!({"owner": format!("{at}")})),
                                1 => (TEST.to_owned(), json!({"name": format!("{at}")})),
                                _ => (format!("{TEST}/flags/a"), json!({"metadata": {format!("m{writer}"): at}})),
                            };
                            let reply = admin.patch(&path, body);
                            match reply.status {
                                // Of flags in all environments: who was faster.
                                200 | 412 => {}
                                _ => return is_archived(reply, "project \"shop\""),
                            }
                        }
                    })
                })
                .collect();
            thread::sleep(Duration::from_millis(300));
            closer.post(&format!("{SHOP}/archive"), json!({})).expect(200);
            for writer in writers {
                writer.join().unwrap();
            }
        });
        let log = admin.get(&format!("{TEST}/changes")).expect(200)["items"].clone();
        assert_eq!((&log[0]["action"], log.as_array().unwrap().len() > 10), (&json!("project.archive"), true), "{log}");
    });
}

#[test]
fn an_environment_has_a_name_that_the_log_follows() {
    on_both(|database| {
        let server = database.serve();
        let admin = server.furnished();
        let made = admin.post(ENVIRONMENTS, json!({"key": "next", "name": "Next"}));
        assert_eq!(made.etag(), "\"1\"");
        assert_eq!(made.expect(201)["archived"], false);
        let stream = admin.stream("shop/test", None);
        assert_eq!(stream.next().kind, "snapshot");

        let named = admin.with("if-match", "\"1\"").patch(&format!("{TEST}?comment=better"), json!({"name": "Test"}));
        assert_eq!((named.etag().as_str(), named.expect(200)["name"].clone()), ("\"2\"", json!("Test")));
        admin.with("if-match", "\"1\"").patch(TEST, json!({"name": "Other"})).expect(412);
        assert_eq!(admin.patch(TEST, json!({"name": "Test"})).etag(), "\"2\"", "as it was");
        admin.put(TEST, json!({"name": "Other"})).expect(428);
        let both = json!({"name": "Other", "metadata": {"team": "web"}});
        let put = admin.with("if-match", "\"2\"").put(TEST, both);
        assert_eq!((put.etag().as_str(), put.expect(200)["metadata"].clone()), ("\"3\"", json!({"team": "web"})));
        let put = admin.with("if-match", "\"3\"").put(TEST, json!({"name": "Other"}));
        assert_eq!(put.expect(200)["metadata"], json!({}), "what is not said is not so");
        let log = admin.get(&format!("{TEST}/changes")).expect(200)["items"].clone();
        assert_eq!((&log[2]["action"], &log[2]["comment"]), (&json!("environment.update"), &json!("better")));
        assert_eq!((&log[2]["name"], &log[2]["metadata"]), (&json!({"before": "", "after": "Test"}), &Value::Null));
        assert_eq!(log[1]["name"], json!({"before": "Test", "after": "Other"}));
        assert!(log[0].get("name").is_none(), "{log}");
        // Hosts hear its number, and nothing more.
        let change = stream.next_change();
        assert!(change.data.contains("\"flags\":{}") && !change.data.contains("Test"), "{}", change.data);
        // Names are for people: a rollback leaves them.
        assert_eq!(admin.post(&format!("{TEST}/rollback"), json!({"revision": 1})).expect(200)["revision"], 4);
        assert_eq!(admin.get(TEST).expect(200)["name"], "Other");
        for (body, pointer) in [(json!({"name": "x".repeat(4_097)}), "/name"), (json!({"archived": true}), "/archived")]
        {
            assert_eq!(admin.patch(TEST, body).expect(422)["errors"][0]["pointer"], pointer);
        }
        let etag = admin.get(TEST).etag();
        one_of_many(&admin, TEST, &etag, |at| json!({"name": format!("{at}")}));

        // The list, in parts.
        let page = |query: &str| admin.get(&format!("{ENVIRONMENTS}?{query}")).expect(200);
        assert_eq!(keys(&page("")), ["live", "next", "test"]);
        let first = page("limit=2");
        assert_eq!((keys(&first), &first["next"]), (vec!["live", "next"], &json!("next")));
        let last = page("limit=2&cursor=next");
        assert_eq!((keys(&last), &last["next"]), (vec!["test"], &Value::Null));
        let part = token(&server, json!({"name": "p", "scope": "read", "project": "shop", "environment": "test"}));
        assert_eq!(keys(&part.get(ENVIRONMENTS).expect(200)), ["test"]);
        let page = part.get(&format!("{ENVIRONMENTS}?limit=1")).expect(200);
        assert_eq!((keys(&page), &page["next"]), (vec!["test"], &Value::Null), "nor does a cursor tell of others");
    });
}

#[test]
fn nothing_in_an_archived_environment_is_changed_and_it_is_whole_when_it_comes_back() {
    on_both(|database| {
        let server = database.serve();
        let (admin, schedule) = shop(&server);
        let stream = admin.stream("shop/test", None);
        assert_eq!(stream.next().kind, "snapshot");
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
        let soon = json!({"flag": "a", "atMs": i64::try_from(now).unwrap() + 1_500, "patch": {"state": "DISABLED"}});
        let soon = admin.post(&format!("{TEST}/schedules"), soon).expect(201)["id"].as_str().unwrap().to_owned();
        let scheduled = |id: &str| admin.get(&format!("{TEST}/schedules/{id}")).expect(200);

        let etag = admin.get(TEST).etag();
        let archive = format!("{TEST}/archive");
        admin.with("if-match", "\"1\"").post(&archive, json!({})).expect(412);
        let archived = admin.with("if-match", &etag).post(&format!("{archive}?comment=old"), json!({}));
        let etag = archived.etag();
        assert_eq!(archived.expect(200)["archived"], true);
        assert_eq!(admin.post(&archive, json!({})).etag(), etag, "it is archived already");
        let newest = admin.get(&format!("{TEST}/changes?limit=1")).expect(200)["items"][0].clone();
        assert_eq!((&newest["action"], &newest["comment"]), (&json!("environment.archive"), &json!("old")));
        assert!(stream.next_change().data.contains("\"flags\":{}"));
        assert_eq!(keys(&admin.get(ENVIRONMENTS).expect(200)), ["live"]);
        assert_eq!(keys(&admin.get(&format!("{ENVIRONMENTS}?archived=true")).expect(200)), ["test"]);
        admin.post(ENVIRONMENTS, json!({"key": "test"})).expect(409);
        let own = [format!("{TEST}/restore"), archive.clone()];
        let all: Vec<_> = changes(TEST).into_iter().filter(|(_, path)| !own.contains(path)).collect();
        assert!(all.len() >= 18, "{all:?}");
        all_are_refused(&admin, &all, &schedule, "environment \"shop/test\"");
        let file = database.folder.path().join("flags.json");
        std::fs::write(&file, r#"{"flags": {}}"#).unwrap();
        let import = program(&database.url).args(["import", "shop/test", file.to_str().unwrap()]).output().unwrap();
        let said = String::from_utf8_lossy(&import.stderr).into_owned();
        assert!(!import.status.success() && said.contains("\"shop/test\" is archived"), "{said}");

        // Its time comes, and it can't be made; the other waits.
        eventually("it fails", || scheduled(&soon)["state"] == "failed");
        assert_eq!(scheduled(&soon)["problem"]["type"], "urn:libflags:problem:archived");
        assert_eq!(scheduled(&schedule)["state"], "pending");

        // What is changed of flags in all environments reaches it.
        let flags = format!("{SHOP}/flags");
        let on = |place: &str| json!({place: {"state": "ENABLED", "defaultVariant": "on"}});
        let there = admin.post(&flags, json!({"key": "b", "environments": on("test")}));
        is_archived(there, "environment \"shop/test\"");
        admin.post(&flags, json!({"key": "b", "environments": on("live")})).expect(201);
        let change = stream.next_change();
        assert!(change.data.contains("\"b\":{") && change.data.contains("DISABLED"), "{}", change.data);
        admin.patch(&format!("{flags}/a"), json!({"variants": {"on": true, "off": false, "new": true}})).expect(200);
        assert!(stream.next_change().data.contains("\"new\":true"));
        admin.post(&format!("{flags}/b/archive"), json!({})).expect(200);
        assert!(stream.next_change().data.contains("\"removed\":[\"b\"]"));
        admin
            .post(
                &format!("{LIVE}/import"),
                json!({"flags": {"c": {"state": "ENABLED",
            "variants": {"on": true}, "defaultVariant": "on"}}}),
            )
            .expect(200);
        assert!(stream.next_change().data.contains("\"c\":{"));
        // It is a model still, and the copy is open.
        let copy = admin.post(ENVIRONMENTS, json!({"key": "copy", "cloneOf": "test"})).expect(201);
        assert_eq!(copy["archived"], false);
        let copied = format!("{ENVIRONMENTS}/copy/flags/a");
        assert_eq!(admin.get(&copied).expect(200)["state"], "ENABLED");
        admin.patch(&copied, json!({"defaultVariant": "new"})).expect(200);
        admin.post(&format!("{LIVE}/clone"), json!({"from": "test"})).expect(200);
        assert_eq!(admin.get(&format!("{TEST}/export")).expect(200)["flags"]["a"]["state"], "ENABLED");

        // A project that closes and opens leaves it closed; within a closed one it can't be opened.
        admin.post(&format!("{SHOP}/archive"), json!({})).expect(200);
        is_archived(admin.post(&format!("{TEST}/restore"), json!({})), "project \"shop\"");
        admin.post(&format!("{SHOP}/restore"), json!({})).expect(200);
        is_archived(admin.patch(TEST, json!({"name": "x"})), "environment \"shop/test\"");

        // Not by everybody.
        let writer = token(&server, json!({"name": "w", "scope": "write", "project": "shop", "environment": "test"}));
        writer.post(&format!("{TEST}/restore"), json!({})).expect(403);
        let elsewhere = json!({"name": "l", "scope": "admin", "project": "shop", "environment": "live"});
        token(&server, elsewhere).post(&format!("{TEST}/restore"), json!({})).expect(403);
        let own = token(&server, json!({"name": "t", "scope": "admin", "project": "shop", "environment": "test"}));
        let etag = admin.get(TEST).etag();
        let restored = own.with("if-match", &etag).post(&format!("{TEST}/restore?comment=needed"), json!({}));
        assert_eq!(restored.expect(200)["archived"], false);
        let newest = admin.get(&format!("{TEST}/changes?limit=1")).expect(200)["items"][0].clone();
        assert_eq!((&newest["action"], &newest["comment"]), (&json!("environment.restore"), &json!("needed")));
        let configs = admin.get(&format!("{TEST}/flags")).expect(200);
        assert_eq!(keys(&configs), ["a", "c"]);
        assert_eq!(configs["items"][0]["state"], "ENABLED");
        admin.patch(&format!("{TEST}/flags/a"), json!({"defaultVariant": "new"})).expect(200);
        admin.patch(&format!("{TEST}/flags/c"), json!({"state": "ENABLED"})).expect(200);
        admin.post(&format!("{flags}/b/restore"), json!({})).expect(200);
        assert_eq!(admin.get(&format!("{LIVE}/flags/b")).expect(200)["state"], "ENABLED");
        assert_eq!(admin.get(&format!("{TEST}/flags/b")).expect(200)["state"], "DISABLED");
        assert_eq!(scheduled(&schedule)["state"], "pending");
        admin.post(&format!("{TEST}/schedules/{schedule}/cancel"), json!({})).expect(200);
        // Every revision once: nothing was skipped meanwhile.
        let log = admin.get(&format!("{TEST}/changes?limit=1000")).expect(200);
        let revisions: BTreeSet<u64> =
            log["items"].as_array().unwrap().iter().map(|entry| entry["revision"].as_u64().unwrap()).collect();
        assert_eq!(revisions.len() as u64, admin.get(TEST).expect(200)["revision"].as_u64().unwrap());
    });
}

#[test]
fn a_backup_brings_back_what_was_archived_then() {
    let database = Database::sqlite();
    let run = |arguments: &[&str]| {
        let output = program(&database.url).args(arguments).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    let copy = database.folder.path().join("copy");
    let server = database.serve();
    let (admin, schedule) = shop(&server);
    admin.post(&format!("{TEST}/archive"), json!({})).expect(200);
    run(&["backup", copy.to_str().unwrap()]);
    admin.post(&format!("{TEST}/restore"), json!({})).expect(200);
    admin.patch(&format!("{TEST}/flags/a"), json!({"state": "DISABLED"})).expect(200);
    drop(server);
    run(&["restore", copy.to_str().unwrap(), "--replace"]);
    let server = database.serve();
    let admin = server.admin();
    // Hosts take what it says, of a new epoch; people find it as it was.
    eventually("hosts get it", || admin.get("/sync/v1/shop/test/snapshot").etag().starts_with("\"2."));
    assert!(admin.get("/sync/v1/shop/test/snapshot").text.contains("ENABLED"));
    is_archived(admin.patch(&format!("{TEST}/flags/a"), json!({"state": "DISABLED"})), "environment \"shop/test\"");
    assert_eq!(admin.get(&format!("{TEST}/schedules/{schedule}")).expect(200)["state"], "cancelled");
    admin.post(&format!("{TEST}/restore"), json!({})).expect(200);
    admin.patch(&format!("{TEST}/flags/a"), json!({"state": "DISABLED"})).expect(200);
}

#[test]
fn what_is_done_to_a_project_is_in_the_programs_log_where_something_is_done() {
    let database = Database::sqlite();
    let server = database.serve();
    let admin = server.furnished();
    let lines = || -> Vec<Value> {
        let log = server.log();
        let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.filter(|line| line["target"] == "audit" && line["action"] != "project.create").collect()
    };
    admin.patch(&format!("{SHOP}?comment=why"), json!({"name": "x"})).expect(200);
    admin.patch(SHOP, json!({"name": "x"})).expect(200);
    admin.post(&format!("{SHOP}/archive?dry_run=true"), json!({})).expect(200);
    admin.post(&format!("{SHOP}/archive"), json!({})).expect(200);
    admin.post(&format!("{SHOP}/archive"), json!({})).expect(200);
    admin.patch(SHOP, json!({"name": "y"})).expect(409);
    admin.post(&format!("{SHOP}/restore"), json!({})).expect(200);
    eventually("all of it is told", || lines().len() >= 3);
    let told = lines();
    let actions: Vec<&Value> = told.iter().map(|line| &line["action"]).collect();
    assert_eq!(actions, ["project.update", "project.archive", "project.restore"]);
    assert_eq!((&told[0]["of"], &told[0]["comment"]), (&json!("shop"), &json!("why")));
}
