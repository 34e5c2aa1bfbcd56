//! One token does not take all that there is: the last places are kept for tokens that hold few.

use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::json;

use crate::admission::{begun, is_asked_for_its_body};
use crate::harness::{Client, Database, PATIENCE, Server, counted, eventually, free_port};

const TEST: &str = "/api/v1/projects/shop/environments/test";

/// Tokens with a scope of their own each.
fn tokens<const N: usize>(server: &Server, scope: &str) -> [Client; N] {
    std::array::from_fn(|n| {
        let made = server.admin().post("/api/v1/tokens", json!({"name": n.to_string(), "scope": scope})).expect(201);
        server.with_token(made["token"].as_str().unwrap())
    })
}

/// Asks, and reads the head of the answer alone: what follows waits.
fn ask(server: &Server, client: &Client, path: &str) -> (TcpStream, u16, String) {
    let mut stream = TcpStream::connect(server.url.trim_start_matches("http://")).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let head = format!("GET {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n\r\n", client.token());
    stream.write_all(head.as_bytes()).unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        answer.push(byte[0]);
    }
    let answer = String::from_utf8(answer).unwrap();
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    (stream, status, answer)
}

#[test]
fn a_fleet_with_one_token_leaves_places_for_streams_of_others() {
    let database = Database::sqlite();
    let management = free_port();
    // Two of ten are kept, for tokens that hold none.
    let server = database.serve_with(&format!("management = \"127.0.0.1:{management}\"\n[limits]\nstreams = 10\n"));
    server.furnished();
    let [fleet, small, other, late] = tokens(&server, "sync");
    let stream = |client: &Client| ask(&server, client, "/sync/v1/shop/test/stream");
    let mut held: Vec<_> = (0..8).map(|_| stream(&fleet)).collect();
    assert!(held.iter().all(|(_, status, _)| *status == 200));
    let (_, status, head) = stream(&fleet);
    assert!(status == 429 && head.contains("retry-after: 5\r\n"), "{head}");
    held.push(stream(&small));
    assert_eq!(held[8].1, 200, "what is kept is for them");
    let refused = small.get("/sync/v1/shop/test/stream");
    assert_eq!(refused.status, 429, "one, and not all that is kept");
    assert!(refused.text.contains("urn:libflags:problem:share-taken"), "{}", refused.text);
    held.push(stream(&other));
    assert_eq!(held[9].1, 200);
    let refused = late.get("/sync/v1/shop/test/stream");
    assert_eq!(refused.status, 503);
    assert!(refused.text.contains("too-many-streams"), "{}", refused.text);
    assert_eq!(counted(management, "flags_control_shares_refused_total{class=\"stream\"}"), 2);
    assert_eq!(counted(management, "flags_control_shed_total{class=\"stream\"}"), 1);
    // Whoever is refused is served by the snapshot.
    assert_eq!(fleet.get("/sync/v1/shop/test/snapshot").status, 200);
    drop(held);
    eventually("all of it is free again", || stream(&fleet).1 == 200);
}

#[test]
fn one_token_leaves_room_for_uploads_imports_and_downloads_of_others() {
    let database = Database::sqlite();
    let management = free_port();
    let config = format!("management = \"127.0.0.1:{management}\"\n[limits]\ndownloads = 4\nupload_bytes = 67108864\n");
    let server = database.serve_with(&config);
    let admin = server.furnished();
    let [greedy, other] = tokens(&server, "write");
    admin.post(&format!("{TEST}/segments"), json!({"key": "a", "kind": "list"})).expect(201);
    let ids = format!("{TEST}/segments/a/ids");

    // Of four of each, one token gets three.
    let class = |class: &str| counted(management, &format!("flags_control_shares_refused_total{{class=\"{class}\"}}"));
    for (path, name) in [(format!("{ids}/add"), "upload"), (format!("{TEST}/import"), "import")] {
        let begin = |client: &Client| begun(&server, client, "POST", &path, 30_000_000, "expect: 100-continue\r\n");
        let held: Vec<_> = (0..3).map(|_| begin(&greedy)).collect();
        held.iter().for_each(is_asked_for_its_body);
        let refused = greedy.with("content-type", "text/plain").send("POST", &path, Some("x\n".to_owned()));
        assert_eq!((refused.status, refused.header("retry-after").as_str()), (429, "5"), "{}", refused.text);
        assert!(refused.text.contains("share-taken"), "{}", refused.text);
        let one_more = begin(&other);
        is_asked_for_its_body(&one_more);
        assert_eq!(class(name), 1);
    }

    // More than what lies between holds, so that a download goes on until it is read.
    let text = admin.with("content-type", "text/plain").with("if-match", "*");
    let many: String = (0..600_000).map(|at| format!("somebody-with-a-long-name-{at:08}\n")).collect();
    text.send("PUT", &ids, Some(many)).expect(200);
    let held: Vec<_> = (0..3).map(|_| ask(&server, &greedy, &ids)).collect();
    assert!(held.iter().all(|(_, status, _)| *status == 200));
    assert_eq!(ask(&server, &greedy, &ids).1, 429);
    assert_eq!(ask(&server, &other, &ids).1, 200);
    assert_eq!(class("download"), 1);
}
