//! Tokens: changed by those who saw what they are, and by admins of what they are for.

use std::collections::BTreeSet;
use std::thread;

use serde_json::{Value, json};

use crate::harness::{Client, Server, eventually, on_both};

const TOKENS: &str = "/api/v1/tokens";

/// Its id, and who has it.
fn made(server: &Server, by: &Client, body: Value) -> (String, Client) {
    let made = by.post(TOKENS, body).expect(201);
    (made["id"].as_str().unwrap().to_owned(), server.with_token(made["token"].as_str().unwrap()))
}

fn ids(by: &Client) -> BTreeSet<String> {
    let page = by.get(&format!("{TOKENS}?limit=1000")).expect(200);
    page["items"].as_array().unwrap().iter().map(|token| token["id"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_token_is_changed_by_those_who_saw_what_it_is() {
    on_both(|database| {
        let server = database.serve();
        let admin = server.furnished();
        let first = admin.post(TOKENS, json!({"name": "host", "scope": "sync", "project": "shop"}));
        assert_eq!(first.etag(), "\"1\"");
        let first = first.expect(201);
        let path = format!("{TOKENS}/{}", first["id"].as_str().unwrap());
        let shown = admin.get(&path);
        assert_eq!(shown.etag(), "\"1\"");
        let shown = shown.expect(200);
        assert_eq!((&shown["name"], &shown["project"], &shown["version"]), (&json!("host"), &json!("shop"), &json!(1)));
        assert!(shown.get("token").is_none() && shown.get("hash").is_none(), "{shown}");
        admin.get(&format!("{TOKENS}/0000000000000000")).expect(404);

        let rotate = format!("{path}/rotate");
        let late = admin.with("if-match", "\"7\"").post(&rotate, json!({"overlapSeconds": 60})).expect(412);
        assert_eq!(late["revision"], 1);
        admin.with("if-match", "\"7\"").post(&format!("{path}/revoke"), json!({})).expect(412);
        assert_eq!(admin.get(&path).expect(200)["revokedMs"], Value::Null);
        // Of those who replace it at once, one: the others would have made tokens that nobody knows of.
        let before = ids(&admin);
        let statuses: Vec<u16> = thread::scope(|scope| {
            let rotate = |_| {
                let (client, path) = (admin.with("if-match", "\"1\""), rotate.clone());
                scope.spawn(move || client.post(&path, json!({"overlapSeconds": 60})).status)
            };
            let who: Vec<_> = (0..5).map(rotate).collect();
            who.into_iter().map(|who| who.join().unwrap()).collect()
        });
        let of = |status| statuses.iter().filter(|found| **found == status).count();
        assert_eq!((of(201), of(412)), (1, 4), "{statuses:?}");
        assert_eq!(ids(&admin).len(), before.len() + 1);
        assert_eq!(admin.get(&path).etag(), "\"2\"");

        admin.with("if-match", "\"1\"").post(&format!("{path}/revoke"), json!({})).expect(412);
        let once = admin.with("if-match", "\"2\"").with("idempotency-key", "k");
        let tried = admin.with("if-match", "\"2\"").post(&format!("{path}/revoke?dry_run=true"), json!({}));
        assert_eq!((tried.etag().as_str(), admin.get(&path).etag().as_str()), ("\"3\"", "\"2\""));
        for replayed in ["", "true"] {
            let ended = once.post(&format!("{path}/revoke"), json!({}));
            assert_eq!((ended.header("idempotency-replayed").as_str(), ended.etag().as_str()), (replayed, "\"3\""));
            ended.expect(200);
        }
        // It has ended already: nothing is changed, whoever asks again.
        let again = admin.post(&format!("{path}/revoke"), json!({}));
        assert_eq!(again.etag(), "\"3\"");
        assert_eq!(again.expect(200), admin.get(&path).expect(200));
        admin.post(&rotate, json!({})).expect(409);
    });
}

#[test]
fn an_admin_of_a_part_sees_to_the_tokens_of_that_part() {
    on_both(|database| {
        let (server, second) = (database.serve(), database.serve());
        let admin = server.furnished();
        admin.post("/api/v1/projects", json!({"key": "other"})).expect(201);
        admin.post("/api/v1/projects/other/environments", json!({"key": "live"})).expect(201);
        let make = |project: &str, environment: &str, scope: &str| {
            let mut body = json!({"name": "x", "scope": scope});
            for (name, key) in [("project", project), ("environment", environment)] {
                if !key.is_empty() {
                    body[name] = json!(key);
                }
            }
            made(&server, &admin, body)
        };
        let (all_id, _) = make("", "", "admin");
        let (shop_id, shop) = make("shop", "", "admin");
        let (live_id, live) = make("shop", "live", "admin");
        let (test_id, _) = make("shop", "test", "sync");
        let (other_id, other) = make("other", "", "admin");
        let (_, writer) = make("shop", "", "write");

        // What each may know of.
        let mine = ids(&shop);
        assert!([&shop_id, &live_id, &test_id].iter().all(|id| mine.contains(*id)) && mine.len() == 4, "{mine:?}");
        assert_eq!((ids(&live), ids(&other)), (BTreeSet::from([live_id.clone()]), BTreeSet::from([other_id.clone()])));
        // Pages have no holes that would count those of others.
        let (mut paged, mut cursor) = (BTreeSet::new(), String::new());
        loop {
            let page = shop.get(&format!("{TOKENS}?limit=1&cursor={cursor}")).expect(200);
            assert_eq!(page["items"].as_array().unwrap().len(), 1, "{page}");
            paged.insert(page["items"][0]["id"].as_str().unwrap().to_owned());
            let Some(next) = page["next"].as_str() else { break };
            cursor = next.to_owned();
        }
        assert_eq!(paged, mine);
        writer.get(TOKENS).expect(403);
        writer.get(&format!("{TOKENS}/{shop_id}")).expect(403);

        // Of others the words are those for what is not there, whatever is asked, and nothing happens to them.
        let none = "0123456789abcdef";
        for (client, beyond) in [
            (&shop, vec![&all_id, &other_id]),
            (&live, vec![&all_id, &other_id, &shop_id, &test_id]),
            (&other, vec![&all_id, &shop_id, &live_id]),
        ] {
            for id in beyond {
                for (method, end) in [("GET", ""), ("POST", "/revoke"), ("POST", "/rotate")] {
                    let ask = |id: &str| {
                        let body = (method == "POST").then(|| "{}".to_owned());
                        client.with("if-match", "\"9\"").send(method, &format!("{TOKENS}/{id}{end}"), body)
                    };
                    let (theirs, nobodys) = (ask(id), ask(none));
                    assert_eq!((theirs.status, nobodys.status), (404, 404), "{method} {end}: {}", theirs.text);
                    assert_eq!(theirs.text.replace(id.as_str(), none), nobodys.text);
                }
                assert_eq!(admin.get(&format!("{TOKENS}/{id}")).etag(), "\"1\"");
            }
        }

        // Made for what is theirs, and for no more; of others' projects and environments nothing is told.
        let token = |project: Option<&str>, environment: Option<&str>| json!({"name": "new", "scope": "admin", "project": project, "environment": environment});
        shop.post(TOKENS, token(None, None)).expect(403);
        live.post(TOKENS, token(None, None)).expect(403);
        live.post(TOKENS, token(Some("shop"), None)).expect(403);
        for (client, project, environment, pointer) in [
            (&shop, "other", None, "/project"),
            (&shop, "other", Some("live"), "/project"),
            (&live, "shop", Some("test"), "/environment"),
        ] {
            let there = client.post(TOKENS, token(Some(project), environment)).expect(422);
            assert_eq!(there["errors"][0]["pointer"], pointer, "{there}");
            let words = if pointer == "/project" {
                let none = client.post(TOKENS, token(Some("nobody"), environment)).expect(422);
                none["detail"].as_str().unwrap().replace("nobody", project)
            } else {
                let none = client.post(TOKENS, token(Some(project), Some("nobody"))).expect(422);
                none["detail"].as_str().unwrap().replace("nobody", environment.unwrap())
            };
            assert_eq!(there["detail"], json!(words));
        }
        let before = ids(&admin).len();
        let (host_id, host) =
            made(&server, &shop, json!({"name": "h", "scope": "sync", "project": "shop", "environment": "live"}));
        let (_, team) = made(&server, &shop, token(Some("shop"), None));
        let (_, deputy) = made(&server, &live, token(Some("shop"), Some("live")));
        assert_eq!(ids(&admin).len(), before + 3);
        assert_eq!(ids(&team), ids(&shop));
        assert_eq!(ids(&deputy), ids(&live));
        team.post("/api/v1/projects", json!({"key": "x"})).expect(403);
        deputy.post("/api/v1/projects/shop/flags", json!({"key": "x"})).expect(403);

        // Replaced with the same reach, and ended on every replica at once.
        let rotated = deputy
            .with("if-match", "\"1\"")
            .post(&format!("{TOKENS}/{host_id}/rotate"), json!({"overlapSeconds": 600}));
        let rotated = rotated.expect(201);
        assert_eq!(
            (&rotated["project"], &rotated["environment"], &rotated["scope"]),
            (&json!("shop"), &json!("live"), &json!("sync"))
        );
        eventually("the second replica follows", || second.admin().get("/sync/v1/shop/live/snapshot").status == 200);
        let elsewhere = second.with_token(host.token());
        let streams = [host.stream("shop/live", None), elsewhere.stream("shop/live", None)];
        for stream in &streams {
            assert_eq!(stream.next().kind, "snapshot");
        }
        deputy.with("if-match", "\"2\"").post(&format!("{TOKENS}/{host_id}/revoke"), json!({})).expect(200);
        let told = if database.postgres.is_some() { 2 } else { 1 };
        for (client, stream) in [&host, &elsewhere].into_iter().zip(&streams).take(told) {
            eventually("it is refused", || client.get("/sync/v1/shop/live/snapshot").status == 401);
            assert!(stream.ends());
        }
        // And who makes it their own last deed.
        shop.post(&format!("{TOKENS}/{shop_id}/revoke"), json!({})).expect(200);
        shop.get(TOKENS).expect(401);
    });
}

/// What ends in a minute is replaced by what ends in a year.
#[test]
fn a_token_that_ends_soon_is_renewed() {
    on_both(|database| {
        let server = database.serve();
        let admin = server.furnished();
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis();
        let (soon, later) = (u64::try_from(now).unwrap() + 60_000, u64::try_from(now).unwrap() + 30_000_000_000);
        let (id, _) = made(&server, &admin, json!({"name": "host", "scope": "sync", "expiresMs": soon}));
        let rotate = |id: &str, body: Value| admin.post(&format!("{TOKENS}/{id}/rotate"), body);
        rotate(&id, json!({"expiresMs": 1})).expect(422);
        rotate(&id, json!({"expiresMs": "x"})).expect(422);
        let same = rotate(&id, json!({"overlapSeconds": 60})).expect(201);
        assert_eq!(same["expiresMs"], soon);
        let renewed = rotate(same["id"].as_str().unwrap(), json!({"expiresMs": later})).expect(201);
        assert_eq!(renewed["expiresMs"], later);
        server.with_token(renewed["token"].as_str().unwrap()).get("/sync/v1/shop/test/snapshot").expect(200);
    });
}
