//! Who may do what.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::admission::{filled, operations};
use crate::harness::{Client, Database, Server, eventually, on_both};

fn token(server: &Server, body: Value) -> (String, Client) {
    let made = server.admin().post("/api/v1/tokens", body).expect(201);
    let text = made["token"].as_str().unwrap();
    assert!(text.starts_with("flags_") && !made.to_string().contains("hash"));
    (made["id"].as_str().unwrap().to_owned(), server.with_token(text))
}

#[test]
fn a_token_is_good_for_its_scope_and_place_only() {
    on_both(|database| {
        let server = database.serve();
        let admin = server.furnished();
        admin.post("/api/v1/projects", json!({"key": "other"})).expect(201);
        admin.post("/api/v1/projects/other/environments", json!({"key": "live"})).expect(201);
        admin.post("/api/v1/projects/shop/flags", json!({"key": "a"})).expect(201);
        admin.post("/api/v1/projects/other/flags", json!({"key": "a"})).expect(201);
        let (_, sync) =
            token(&server, json!({"name": "host", "scope": "sync", "project": "shop", "environment": "live"}));
        let (_, read) = token(&server, json!({"name": "reader", "scope": "read", "project": "shop"}));
        let (_, write) =
            token(&server, json!({"name": "ci", "scope": "write", "project": "shop", "environment": "test"}));
        let (_, whole) = token(&server, json!({"name": "team", "scope": "write", "project": "shop"}));

        let flag = |project: &str| format!("/api/v1/projects/{project}/flags/a");
        let config = |at: &str| format!("/api/v1/projects/shop/environments/{at}/flags/a");
        let on = || json!({"state": "ENABLED"});
        let statuses = [
            (sync.get("/sync/v1/shop/live/snapshot").status, 200),
            (sync.get("/sync/v1/shop/test/snapshot").status, 404),
            (sync.get("/sync/v1/other/live/snapshot").status, 404),
            (sync.get("/sync/v1/none/live/snapshot").status, 404),
            (sync.get(&flag("shop")).status, 403),
            (read.get(&flag("shop")).status, 200),
            (read.get(&flag("other")).status, 404),
            (read.get("/sync/v1/shop/live/snapshot").status, 200),
            (read.patch(&config("test"), on()).status, 403),
            (write.patch(&config("test"), on()).status, 200),
            (write.patch(&config("live"), on()).status, 403),
            (write.patch(&flag("shop"), json!({"owner": "me"})).status, 403),
            (whole.patch(&flag("shop"), json!({"owner": "me"})).status, 200),
            (whole.patch(&flag("other"), json!({"owner": "me"})).status, 404),
            (whole.post("/api/v1/projects/shop/environments", json!({"key": "x"})).status, 403),
            (whole.post("/api/v1/projects", json!({"key": "x"})).status, 403),
            (whole.get("/api/v1/tokens").status, 403),
            (server.with_token("").get(&flag("shop")).status, 401),
            (
                server
                    .with_token("flags_0000000000000000_0000000000000000000000000000000000000000000")
                    .get(&flag("shop"))
                    .status,
                401,
            ),
            (server.with_token("nonsense").get("/sync/v1/shop/live/snapshot").status, 401),
        ];
        for (at, (status, expected)) in statuses.iter().enumerate() {
            assert_eq!(status, expected, "request {at}");
        }
        // The same words for a project that is not there and one that is not for this token.
        let hidden = read.get("/api/v1/projects/other").text.replace("other", "none");
        assert_eq!(read.get("/api/v1/projects/none").text, hidden);
        let projects = read.get("/api/v1/projects").expect(200);
        assert_eq!(projects["items"].as_array().unwrap().len(), 1);
    });
}

#[test]
fn a_revoked_token_is_refused_at_once_on_every_replica() {
    on_both(|database| {
        let (first, second) = (database.serve(), database.serve());
        first.furnished();
        eventually("the second replica knows the environment", || {
            second.admin().get("/sync/v1/shop/live/snapshot").status == 200
        });
        let (id, client) = token(&first, json!({"name": "host", "scope": "sync"}));
        let elsewhere = second.with_token(client.token());
        let streams = [client.stream("shop/live", None), elsewhere.stream("shop/live", None)];
        for stream in &streams {
            assert_eq!(stream.next().kind, "snapshot");
        }
        first.admin().post(&format!("/api/v1/tokens/{id}/revoke"), json!({})).expect(200);
        let start = Instant::now();
        // The replicas tell each other through PostgreSQL; processes on one SQLite file do not.
        let told = if database.postgres.is_some() { 2 } else { 1 };
        for (client, stream) in [&client, &elsewhere].into_iter().zip(&streams).take(told) {
            eventually("it is refused", || client.get("/sync/v1/shop/live/snapshot").status == 401);
            assert!(stream.ends());
        }
        // A replica that was not told would look at the token after 10 s, and so would a stream.
        assert!(start.elapsed() < Duration::from_secs(5), "it took {:?}", start.elapsed());
    });
}

#[test]
fn tokens_expire_and_are_replaced_with_an_overlap() {
    let database = Database::sqlite();
    let server = database.serve();
    server.furnished();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let expires = (now + Duration::from_secs(2)).as_millis();
    let body = json!({"name": "short", "scope": "read", "expiresMs": u64::try_from(expires).unwrap()});
    let (_, short) = token(&server, body);
    short.get("/api/v1/projects/shop").expect(200);
    eventually("it has expired", || short.get("/api/v1/projects/shop").status == 401);
    server.admin().post("/api/v1/tokens", json!({"name": "late", "scope": "read", "expiresMs": 1})).expect(422);

    let (id, old) = token(&server, json!({"name": "old", "scope": "read"}));
    let rotate = format!("/api/v1/tokens/{id}/rotate");
    let made = server.admin().post(&rotate, json!({"overlapSeconds": 2})).expect(201);
    let new = server.with_token(made["token"].as_str().unwrap());
    old.get("/api/v1/projects/shop").expect(200);
    new.get("/api/v1/projects/shop").expect(200);
    eventually("the old one has ended", || old.get("/api/v1/projects/shop").status == 401);
    new.get("/api/v1/projects/shop").expect(200);
    server.admin().post(&rotate, json!({})).expect(409);
}

#[test]
fn a_token_is_told_once_and_nowhere_stored() {
    on_both(|database| {
        let server = database.serve();
        let once = server.admin().with("idempotency-key", "k");
        let body = json!({"name": "host", "scope": "sync"});
        let first = once.post("/api/v1/tokens", body.clone()).expect(201);
        let again = once.post("/api/v1/tokens", body).expect(201);
        assert_eq!((first["id"].clone(), again["token"].clone()), (again["id"].clone(), Value::Null));
        let secret = first["token"].as_str().unwrap()["flags_0123456789abcdef_".len()..].to_owned();
        assert_eq!(secret.len(), 43);
        assert!(!server.admin().get("/api/v1/tokens").text.contains(&secret));
        if let Some(path) = database.url.strip_prefix("sqlite:") {
            for file in [path.to_owned(), format!("{path}-wal")] {
                let bytes = std::fs::read(file).unwrap_or_default();
                assert!(!bytes.windows(secret.len()).any(|window| window == secret.as_bytes()));
            }
        }
    });
}

#[test]
fn who_guesses_tokens_is_slowed_down() {
    let database = Database::sqlite();
    let server = database.serve_with("[limits]\naddress_requests_per_second = 1\naddress_burst = 20\n");
    let stranger = server.with_token("flags_0000000000000000_0000000000000000000000000000000000000000000");
    let statuses: Vec<u16> = (0..30).map(|_| stranger.get("/api/v1/projects").status).collect();
    assert_eq!((statuses[0], statuses[29]), (401, 429), "{statuses:?}");
}

#[test]
fn who_asks_too_often_is_told_when_to_come_back() {
    let database = Database::sqlite();
    let server = database.serve_with("[limits]\nrequests_per_second = 1\nburst = 5\n");
    let (_, other) = token(&server, json!({"name": "other", "scope": "read"}));
    let admin = server.admin();
    let refused = (0..10).map(|_| admin.get("/api/v1/projects")).find(|reply| reply.status == 429).expect("a refusal");
    assert_eq!(refused.header("retry-after"), "1");
    other.get("/api/v1/projects").expect(200);
}

/// Whatever is asked about it: another's project is answered as one that is not there.
#[test]
fn others_projects_are_as_if_they_were_not_there() {
    on_both(|database| {
        let server = database.serve();
        let admin = server.furnished();
        for key in ["another", "other", "zebra"] {
            admin.post("/api/v1/projects", json!({"key": key})).expect(201);
        }
        admin.post("/api/v1/projects/other/environments", json!({"key": "live"})).expect(201);
        admin.post("/api/v1/projects/other/flags", json!({"key": "a"})).expect(201);
        let at = "/api/v1/projects/other/environments/live";
        admin.post(&format!("{at}/segments"), json!({"key": "a", "kind": "list"})).expect(201);
        let whole = json!({"name": "team", "scope": "admin", "project": "shop"});
        let part = json!({"name": "ci", "scope": "write", "project": "shop", "environment": "live"});
        let sync = json!({"name": "host", "scope": "sync", "project": "shop"});
        let clients = [whole, part, sync].map(|body| token(&server, body).1);
        let mut asked = 0;
        for (method, path) in operations().iter().filter(|(_, path)| path.contains("{project}")) {
            for client in &clients {
                for environment in ["live", "none"] {
                    let ask = |project: &str| {
                        let body = (method != "GET").then(|| "{}".to_owned());
                        let query = if path.ends_with("/diff") { "?from=1" } else { "" };
                        let path = filled(path, project, environment) + query;
                        client.with("if-match", "*").send(method, &path, body)
                    };
                    let (theirs, none) = (ask("other"), ask("nobody"));
                    assert_eq!(theirs.status, none.status, "{method} {path}: {}", theirs.text);
                    assert!([403, 404].contains(&theirs.status), "{method} {path}: {}", theirs.text);
                    assert_eq!(theirs.text.replace("other", "nobody"), none.text, "{method} {path}");
                    asked += 1;
                }
            }
        }
        assert!(asked > 100, "{asked} requests");
        for path in ["snapshot", "stream", "parts/00"] {
            let ask = |project: &str| clients[2].get(&format!("/sync/v1/{project}/live/{path}"));
            let (theirs, none) = (ask("other"), ask("nobody"));
            assert_eq!((theirs.status, theirs.text.replace("other", "nobody")), (404, none.text), "{path}");
        }
        // Nor do pages of one tell how others are called: `shop` is not the first.
        let page = clients[0].get("/api/v1/projects?limit=1").expect(200);
        assert_eq!((&page["items"][0]["key"], &page["next"]), (&json!("shop"), &Value::Null), "{page}");
        let page = clients[0].get("/api/v1/projects?limit=1&cursor=shop").expect(200);
        assert_eq!((page["items"].as_array().unwrap().len(), &page["next"]), (0, &Value::Null), "{page}");
        let page = admin.get("/api/v1/projects?limit=1").expect(200);
        assert_eq!((&page["items"][0]["key"], &page["next"]), (&json!("another"), &json!("another")));
    });
}

#[test]
fn what_a_list_does_not_know_is_refused() {
    let database = Database::sqlite();
    let server = database.serve();
    let admin = server.furnished();
    let at = "/api/v1/projects/shop/environments/test";
    for (list, unknown) in [
        ("/api/v1/projects".to_owned(), vec!["search=x", "archived=x", "flag=a", "nonsense=1", "limit=x"]),
        ("/api/v1/projects/shop/environments".to_owned(), vec!["search=x", "archived=1", "nonsense=1", "limit=0"]),
        ("/api/v1/tokens".to_owned(), vec!["search=x", "archived=true", "flag=a", "nonsense=1", "limit=0"]),
        (format!("{at}/segments"), vec!["flag=a", "nonsense=1"]),
        (format!("{at}/changes"), vec!["search=x", "archived=true", "nonsense=1"]),
    ] {
        admin.get(&format!("{list}?limit=10&cursor=")).expect(200);
        for query in unknown {
            let reply = admin.get(&format!("{list}?{query}"));
            assert_eq!(reply.header("content-type"), "application/problem+json", "{list}?{query}: {}", reply.text);
            reply.expect(422);
        }
    }
    admin.get(&format!("{at}/segments?search=x&archived=true")).expect(200);
    admin.get(&format!("{at}/changes?flag=a")).expect(200);
}

#[test]
fn what_is_done_to_tokens_and_projects_is_in_the_programs_log() {
    let database = Database::sqlite();
    // The harness asks for warnings only.
    let server = database.serve();
    let admin = server.admin();
    let lines = || -> Vec<Value> {
        let log = server.log();
        let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.filter(|line| line["target"] == "audit").collect()
    };
    let once = admin.with("idempotency-key", "k");
    let body = || json!({"name": "ci of shop", "scope": "read"});
    admin.post("/api/v1/tokens?dry_run=true", body()).expect(201);
    admin.post("/api/v1/tokens", json!({"name": "", "scope": "nonsense"})).expect(422);
    let made = once.post("/api/v1/tokens?comment=for+the+pipeline", body()).expect(201);
    once.post("/api/v1/tokens?comment=for+the+pipeline", body()).expect(201);
    let id = made["id"].as_str().unwrap();
    let rotated = admin.post(&format!("/api/v1/tokens/{id}/rotate"), json!({"overlapSeconds": 9})).expect(201);
    let new = rotated["id"].as_str().unwrap();
    admin.post(&format!("/api/v1/tokens/{new}/revoke"), json!({})).expect(200);
    admin.post("/api/v1/projects", json!({"key": "shop"})).expect(201);
    eventually("all of it is told", || lines().len() >= 4);
    let told = lines();
    let who = admin.token().split('_').nth(1).unwrap();
    let short = |line: &Value| {
        assert_eq!(line["level"], "INFO");
        assert!(line["actor"].as_str().unwrap().contains(who), "{line}");
        (line["action"].as_str().unwrap().to_owned(), line["of"].as_str().unwrap().to_owned())
    };
    let expected = [("token.create", ""), ("token.rotate", id), ("token.revoke", new), ("project.create", "shop")];
    let expected = expected.map(|(action, of)| (action.to_owned(), of.to_owned()));
    assert_eq!(told.iter().map(short).collect::<Vec<_>>(), expected, "each once, and nothing that did not happen");
    assert_eq!(told[0]["comment"], "for the pipeline");
    let shown: Value = serde_json::from_str(told[0]["now"].as_str().unwrap()).unwrap();
    assert_eq!((&shown["id"], &shown["name"], &shown["scope"]), (&json!(id), &json!("ci of shop"), &json!("read")));
    for made in [&made, &rotated] {
        let secret =
            made["token"].as_str().unwrap().rsplit_once(&format!("{}_", made["id"].as_str().unwrap())).unwrap().1;
        assert!(!server.log().contains(secret), "a secret");
    }
}
