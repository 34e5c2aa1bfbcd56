//! Uploads that come to nothing: what is answered, and what is left of them.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;

use serde_json::json;

use crate::harness::{Client, Database, PATIENCE, Server, eventually, on_both};

const SEGMENTS: &str = "/api/v1/projects/shop/environments/test/segments";
const IDS: &str = "/api/v1/projects/shop/environments/test/segments/vip/ids";

/// Far more than sockets hold.
const BODY_BYTES: usize = 32 << 20;

fn furnished(server: &Server) -> Client {
    let admin = server.furnished();
    admin.post(SEGMENTS, json!({"key": "vip", "kind": "list"})).expect(201);
    admin
}

/// Sends all of a request before anything is read of the answer, which is returned.
fn send_all_then_read(server: &Server, path: &str, token: &str, more: &str, body: &[u8]) -> String {
    let mut stream = TcpStream::connect(server.url.trim_start_matches("http://")).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    let length = body.len();
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: control\r\nauthorization: Bearer {token}\r\ncontent-length: {length}\r\n{more}\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(body).unwrap_or_else(|error| panic!("{path} {more:?}: the body is not read: {error}"));
    let mut answer = Vec::new();
    let mut chunk = [0; 4 << 10];
    while !answer.windows(4).any(|end| end == b"\r\n\r\n") {
        let length = stream.read(&mut chunk).unwrap();
        assert!(length > 0, "{path} {more:?}: closed without an answer");
        answer.extend_from_slice(&chunk[..length]);
    }
    String::from_utf8(answer).unwrap()
}

#[test]
fn who_sends_all_before_reading_learns_why_it_was_refused() {
    let database = Database::sqlite();
    let server = database.serve_with("[limits]\nupload_bytes = 100000\n");
    let admin = furnished(&server);
    let add = format!("{IDS}/add");
    let good: Vec<u8> = b"user-0001\n".repeat(BODY_BYTES / 10);
    let bad: Vec<u8> = [&b"bad\x01id\n"[..], &good].concat();
    for (path, token, more, body, status) in [
        (add.as_str(), "flags_nobody_0", "", &good, 401),
        (&add, admin.token(), "", &good, 413),
        (&add, admin.token(), "", &bad, 422),
        (&add, admin.token(), "content-type: image/png\r\n", &good, 415),
        (&add, admin.token(), "if-match: \"99\"\r\n", &good, 412),
        ("/api/v1/projects", admin.token(), "", &good, 413),
    ] {
        let answer = send_all_then_read(&server, path, token, more, body);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{path} {more:?}: {answer}");
    }
    // Who sends on and on is cut, and does not keep the program from ending.
    let mut endless = TcpStream::connect(server.url.trim_start_matches("http://")).unwrap();
    endless.set_write_timeout(Some(PATIENCE)).unwrap();
    let head = format!("POST {add} HTTP/1.1\r\nhost: control\r\ntransfer-encoding: chunked\r\n\r\n");
    endless.write_all(head.as_bytes()).unwrap();
    let piece = [b"10000\r\n", &[b'x'; 1 << 16][..], b"\r\n"].concat();
    let sent = (0..10_000).take_while(|_| endless.write_all(&piece).is_ok()).count();
    assert!((512..10_000).contains(&sent), "{sent} pieces of 64 KiB");
}

#[test]
fn an_answer_does_not_wait_for_the_rest_of_the_body() {
    let database = Database::sqlite();
    let server = database.serve();
    let mut stream = TcpStream::connect(server.url.trim_start_matches("http://")).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let head = format!("POST {IDS}/add HTTP/1.1\r\nhost: control\r\ncontent-length: 1000\r\n\r\nuser-1\n");
    stream.write_all(head.as_bytes()).unwrap();
    let mut start = [0; 12];
    stream.read_exact(&mut start).unwrap();
    assert_eq!(&start, b"HTTP/1.1 401");
}

#[test]
fn of_an_upload_that_came_to_nothing_nothing_is_left() {
    on_both(|database| {
        let server = database.serve_with("[limits]\nsegment_ids = 1000\nkept_percent = 0\n");
        let admin = furnished(&server);
        let add = |from: usize, number: usize| {
            let ids = (from..from + number).map(|id| format!("user-{id}\n")).collect();
            admin.send("POST", &format!("{IDS}/add"), Some(ids))
        };
        assert_eq!(add(0, 900).expect(200)["ids"], 900);
        let stored = || (database.rows("part"), database.rows("part_chunk"), database.rows("part_use"));
        eventually("it is stored once", || stored() == (1, 1, 1));
        // Too many with those that are there, which is found out when all is stored.
        add(900, 500).expect(422);
        eventually("it is gone", || stored() == (1, 1, 1));
        // What changes nothing, and what is written anew as a whole.
        assert_eq!(add(0, 900).expect(200)["ids"], 900);
        assert_eq!(add(900, 100).expect(200)["ids"], 1_000);
        eventually("what is in force is there, and what hosts may still ask for", || {
            let (parts, chunks, uses) = stored();
            parts == uses && chunks == uses
        });
        assert_eq!(admin.get(IDS).text.lines().count(), 1_000);
        // Several at once: all but those that come in time begin anew.
        thread::scope(|scope| {
            for turn in 0..4 {
                let (admin, ids) = (&admin, format!("user-{turn}\n"));
                scope.spawn(move || admin.send("POST", &format!("{IDS}/remove"), Some(ids)).expect(200));
            }
        });
        assert_eq!(admin.get(IDS).text.lines().count(), 996);
        eventually("nothing is left of those that began anew", || {
            let (parts, chunks, uses) = stored();
            parts == uses && chunks == uses
        });
    });
}
