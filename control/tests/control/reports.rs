//! What hosts say they have published.

use serde_json::{Value, json};

use crate::clock::Clock;
use crate::harness::{Client, Database, eventually, free_port};

const REPORT: &str = "/sync/v1/shop/test/report";
const HOSTS: &str = "/api/v1/projects/shop/environments/test/hosts";

fn body(host: &str, revision: u64) -> Value {
    json!({
        "host": host, "set": "default", "epoch": 1, "revision": revision, "publishedNs": 1_763_000_000_250_000_000_u64,
        "changedMs": 1_763_000_000_000_u64, "state": "fresh", "version": "0.1.0",
    })
}

/// The token of a host of the environment `test`.
fn host_of(admin: &Client, url: &str) -> Client {
    let asked = json!({"name": "hosts", "scope": "sync", "project": "shop", "environment": "test"});
    let made = admin.post("/api/v1/tokens", asked).expect(201);
    Client::new(url, made["token"].as_str().unwrap())
}

#[test]
fn what_hosts_have_published_is_listed_and_counted() {
    let database = Database::sqlite();
    let port = free_port();
    let server = database.serve_with(&format!("management = \"127.0.0.1:{port}\"\n"));
    let admin = server.furnished();
    let host = host_of(&admin, &server.url);
    for name in ["b", "a", "c"] {
        assert_eq!(host.post(REPORT, body(name, 1)).status, 204);
    }
    let page = admin.get(&format!("{HOSTS}?limit=2")).expect(200);
    let first = &page["items"][0];
    assert_eq!(
        (&first["host"], &first["revision"], &first["lagMs"], &first["behind"], &first["version"]),
        (&json!("a"), &json!(1), &json!(250), &json!(false), &json!("0.1.0"))
    );
    assert_eq!(first["publishedMs"], json!(1_763_000_000_250_u64));
    let next = page["next"].as_str().unwrap();
    let rest = admin.get(&format!("{HOSTS}?cursor={next}")).expect(200);
    assert_eq!((rest["items"].as_array().unwrap().len(), &rest["items"][0]["host"]), (1, &json!("c")));
    assert_eq!(admin.get(&format!("{HOSTS}?behind=true")).expect(200)["items"], json!([]));
    // Who may follow an environment need not know who else does.
    host.get(HOSTS).expect(403);

    let text = Client::new(&format!("http://127.0.0.1:{port}"), "").get("/metrics").text;
    for line in [
        r#"flags_control_hosts{environment="shop/test"} 3"#,
        r#"flags_control_hosts_behind{environment="shop/test"} 0"#,
        r#"flags_control_propagation_seconds_bucket{environment="shop/test",le="0.1"} 0"#,
        r#"flags_control_propagation_seconds_bucket{environment="shop/test",le="0.5"} 3"#,
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
}

#[test]
fn a_host_that_stays_behind_is_seen_and_one_that_was_just_slow_is_not() {
    let database = Database::sqlite();
    let clock = Clock::new();
    let server = database.serve_by(&clock);
    let admin = server.furnished();
    admin.post("/api/v1/projects/shop/flags", json!({"key": "a"})).expect(201);
    eventually("hosts get it", || admin.get("/sync/v1/shop/test/snapshot").etag() == "\"1.2\"");
    let behind = || admin.get(&format!("{HOSTS}?behind=true")).expect(200)["items"].as_array().unwrap().len();
    admin.post(REPORT, body("a", 1)).expect(204);
    assert_eq!(behind(), 0, "nobody need have it yet");
    clock.jump_to(300);
    assert_eq!(behind(), 0, "nothing was said since");
    admin.post(REPORT, body("a", 1)).expect(204);
    assert_eq!(behind(), 1);
    admin.post(REPORT, body("a", 2)).expect(204);
    assert_eq!(behind(), 0);
}

#[test]
fn a_report_that_is_none_is_refused_and_nothing_is_listed() {
    let database = Database::sqlite();
    let server = database.serve();
    let admin = server.furnished();
    let host = host_of(&admin, &server.url);
    server.with_token("").post(REPORT, body("a", 1)).expect(401);
    host.post("/sync/v1/shop/live/report", body("a", 1)).expect(404);
    host.post("/sync/v1/shop/none/report", body("a", 1)).expect(404);
    host.get(REPORT).expect(405);
    let with = |member: &str, value: Value| {
        let mut body = body("a", 1);
        body[member] = value;
        body
    };
    for (member, value) in [
        ("host", json!("")),
        ("host", json!("x".repeat(254))),
        ("host", json!("a\nb")),
        ("set", json!("x".repeat(65))),
        ("revision", json!(-1)),
        ("publishedNs", json!("now")),
        ("state", json!("well")),
    ] {
        let refused = host.post(REPORT, with(member, value)).expect(422);
        assert_eq!(refused["errors"][0]["pointer"], format!("/{member}"));
    }
    host.post(REPORT, json!({"host": "a"})).expect(422);
    host.post(REPORT, with("more", json!("x".repeat(2_048)))).expect(413);
    host.post(REPORT, with("more", json!("of a later version"))).expect(204);
    assert_eq!(admin.get(HOSTS).expect(200)["items"].as_array().unwrap().len(), 1);
}

#[test]
fn reports_have_a_limit_of_their_own() {
    let database = Database::sqlite();
    let server = database.serve_with("[limits]\nreports_per_second = 2\n");
    let admin = server.furnished();
    let host = host_of(&admin, &server.url);
    let statuses: Vec<u16> = (0..6).map(|_| host.post(REPORT, body("a", 1)).status).collect();
    assert_eq!((statuses[0], statuses.contains(&429)), (204, true), "{statuses:?}");
    host.get("/sync/v1/shop/test/snapshot").expect(200);
}

#[test]
fn no_database_is_needed() {
    let Some(mut database) = Database::postgres() else {
        println!("skipped: PostgreSQL is not installed");
        return;
    };
    let server = database.serve();
    let admin = server.furnished();
    let host = host_of(&admin, &server.url);
    host.post(REPORT, body("a", 1)).expect(204);
    database.postgres.as_mut().unwrap().kill();
    eventually("the database is away", || admin.get("/readyz").status == 503);
    host.post(REPORT, body("a", 1)).expect(204);
}
