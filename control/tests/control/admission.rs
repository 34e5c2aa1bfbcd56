//! Who may not change something is told so before the body is read, and files that are imported have few places.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;

use serde_json::{Value, json};

use crate::harness::{Client, Database, PATIENCE, Server, eventually, on_both};

const OPENAPI: &str = include_str!("../../../docs/openapi.json");

/// Method and path of each operation of the management API.
pub(crate) fn operations() -> Vec<(String, String)> {
    let document: Value = serde_json::from_str(OPENAPI).unwrap();
    let paths = document["paths"].as_object().unwrap().iter().filter(|(path, _)| path.starts_with("/api/v1/"));
    let each = |(path, methods): (&String, &Value)| {
        let methods: Vec<String> = methods.as_object().unwrap().keys().map(|method| method.to_uppercase()).collect();
        methods.into_iter().map(|method| (method, path.clone())).collect::<Vec<_>>()
    };
    paths.flat_map(each).collect()
}

/// A token made by the admin.
fn token(server: &Server, body: Value) -> Client {
    let made = server.admin().post("/api/v1/tokens", body).expect(201);
    server.with_token(made["token"].as_str().unwrap())
}

/// A path of the description with names in it.
pub(crate) fn filled(path: &str, project: &str, environment: &str) -> String {
    let path = path.replace("{project}", project).replace("{environment}", environment);
    ["{flag}", "{segment}", "{schedule}", "{token}"].iter().fold(path, |path, name| path.replace(name, "a"))
}

/// A request of which a part of the body is sent.
pub(crate) fn begun(
    server: &Server,
    client: &Client,
    method: &str,
    path: &str,
    length: usize,
    more: &str,
) -> TcpStream {
    let mut stream = TcpStream::connect(server.url.trim_start_matches("http://")).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let token = client.token();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\nif-match: *\r\n\
         content-type: text/plain\r\ncontent-length: {length}\r\n{more}\r\n{{"
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream
}

/// Waits until the body of a request that expects it is asked for: the token was looked at, and the place taken.
pub(crate) fn is_asked_for_its_body(mut stream: &TcpStream) {
    let mut go_on = [0; "HTTP/1.1 100 Continue\r\n\r\n".len()];
    stream.read_exact(&mut go_on).unwrap();
    assert!(go_on.starts_with(b"HTTP/1.1 100 "), "{}", String::from_utf8_lossy(&go_on));
}

/// The status that a connection is answered with.
fn status(mut stream: &TcpStream) -> u16 {
    let mut head = [0; 12];
    stream.read_exact(&mut head).unwrap();
    std::str::from_utf8(&head).unwrap()["HTTP/1.1 ".len()..].parse().unwrap()
}

#[test]
fn who_may_not_is_told_before_the_body_is_there() {
    let database = Database::sqlite();
    // A body that is waited for is answered 408.
    let server = database.serve_with("[limits]\nrequest_seconds = 4\nupload_seconds = 4\n");
    server.furnished().post("/api/v1/projects", json!({"key": "other"})).expect(201);
    let changes: Vec<_> = operations().into_iter().filter(|(method, _)| method != "GET").collect();
    assert!(changes.len() > 20, "{changes:?}");
    let here = |scope: &str| token(&server, json!({"name": scope, "scope": scope, "project": "shop"}));
    let live = json!({"name": "live", "scope": "write", "project": "shop", "environment": "live"});
    let (sync, read, admin, live) = (here("sync"), here("read"), here("admin"), token(&server, live));
    thread::scope(|scope| {
        for (method, path) in &changes {
            let everywhere = path == "/api/v1/projects";
            // A token that is asked for is none of theirs; one that is made is, once the body is there.
            let theirs = if path == "/api/v1/tokens" { 408 } else { 404 };
            let shop = filled(path, "shop", "test");
            let cases = [
                (&sync, shop.clone(), 403),
                (&read, shop.clone(), 403),
                (&live, shop.clone(), 403),
                (&admin, filled(path, "other", "test"), if everywhere { 403 } else { theirs }),
            ];
            for (client, path, expected) in cases {
                let server = &server;
                scope.spawn(move || {
                    let stream = begun(server, client, method, &path, 500_000, "");
                    assert_eq!(status(&stream), expected, "{method} {path}");
                });
            }
        }
    });
}

#[test]
fn files_are_imported_a_few_at_once() {
    let database = Database::sqlite();
    let server = database.serve_with("[limits]\nimports = 1\n");
    let admin = server.furnished();
    let import = "/api/v1/projects/shop/environments/test/import";
    let file = || json!({"flags": {"a": {"state": "ENABLED", "variants": {"on": true, "off": false}}}});
    let slow = begun(&server, &admin, "POST", import, 30_000_000, "expect: 100-continue\r\n");
    is_asked_for_its_body(&slow);
    let last = admin.post(import, file());
    assert_eq!(last.status, 503, "{}", last.text);
    assert_eq!((last.header("retry-after").as_str(), last.text.contains("too-many-imports")), ("5", true), "{last:?}");
    // Other changes are not hindered.
    admin.post("/api/v1/projects/shop/flags", json!({"key": "b"})).expect(201);
    drop(slow);
    eventually("the place is free again", || admin.post(import, file()).status == 200);
}

/// The token ends while the body is on its way.
#[test]
fn what_a_revoked_token_had_begun_changes_nothing() {
    on_both(|database| {
        let server = database.serve();
        let admin = server.furnished();
        let at = "/api/v1/projects/shop/environments/test";
        admin.post(&format!("{at}/segments"), json!({"key": "a", "kind": "list"})).expect(201);
        let ids = format!("{at}/segments/a/ids");
        let file = json!({"flags": {"a": {"state": "ENABLED", "variants": {"on": true, "off": false}}}}).to_string();
        let cases = [
            ("POST", format!("{ids}/add"), "{\nsomebody\n".to_owned()),
            ("PUT", ids.clone(), "{\nsomebody\n".to_owned()),
            ("POST", format!("{at}/import"), file),
        ];
        let before = admin.get(&format!("{at}/changes")).text;
        for (method, path, body) in cases {
            let made = admin.post("/api/v1/tokens", json!({"name": "ci", "scope": "write"})).expect(201);
            let client = server.with_token(made["token"].as_str().unwrap());
            let mut stream = begun(&server, &client, method, &path, body.len(), "expect: 100-continue\r\n");
            is_asked_for_its_body(&stream);
            let revoke = format!("/api/v1/tokens/{}/revoke", made["id"].as_str().unwrap());
            admin.post(&revoke, json!({})).expect(200);
            stream.write_all(&body.as_bytes()[1..]).unwrap();
            assert_eq!(status(&stream), 401, "{method} {path}");
        }
        assert_eq!(admin.get(&format!("{at}/changes")).text, before);
    });
}
