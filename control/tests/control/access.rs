//! Who may do what.

use std::time::Duration;

use serde_json::{Value, json};

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
        // The replicas tell each other through PostgreSQL; processes on one SQLite file do not.
        let told = if database.postgres.is_some() { 2 } else { 1 };
        for (client, stream) in [&client, &elsewhere].into_iter().zip(&streams).take(told) {
            eventually("it is refused", || client.get("/sync/v1/shop/live/snapshot").status == 401);
            assert!(stream.ends());
        }
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
