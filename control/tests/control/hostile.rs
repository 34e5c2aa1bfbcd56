//! Bad input: refused with a problem document, nothing changed, and the program goes on.

use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::json;

use crate::admission::{filled, operations};
use crate::harness::{Client, Database, eventually, free_port, on_both};

const FLAGS: &str = "/api/v1/projects/shop/flags";

#[test]
fn bad_bodies_are_told_where_they_are_bad() {
    on_both(|database| {
        let server = database.serve();
        let admin = server.furnished();
        admin.post(FLAGS, json!({"key": "a"})).expect(201);
        let config = "/api/v1/projects/shop/environments/test/flags/a";
        let cases: Vec<(&str, &str, String, &str)> = vec![
            ("POST", FLAGS, "{".to_owned(), ""),
            ("POST", FLAGS, "[]".to_owned(), ""),
            ("POST", FLAGS, r#"{"key": 1}"#.to_owned(), "/key"),
            ("POST", FLAGS, r#"{"key": "x", "tags": [1]}"#.to_owned(), "/tags/0"),
            ("POST", FLAGS, r#"{"key": "x", "variants": {"on": 1}}"#.to_owned(), "/variants/on"),
            ("POST", FLAGS, r#"{"key": "x", "variants": {}}"#.to_owned(), "/variants"),
            ("POST", FLAGS, r#"{"key": "x", "type": "colour"}"#.to_owned(), "/type"),
            ("POST", FLAGS, r#"{"key": "x' OR 1=1; --"}"#.to_owned(), "/key"),
            ("POST", FLAGS, r#"{"key": "../../etc"}"#.to_owned(), "/key"),
            ("POST", FLAGS, "{\"key\": \"x\\u0000\"}".to_owned(), "/key"),
            ("POST", FLAGS, format!(r#"{{"key": "x", "description": "{}"}}"#, "d".repeat(5_000)), "/description"),
            ("POST", FLAGS, "{\"key\": \"x\", \"owner\": \"a\\u0000b\"}".to_owned(), "/owner"),
            ("PATCH", config, r#"{"state": "MAYBE"}"#.to_owned(), "/state"),
            ("PATCH", config, r#"{"rollout": {"variants": {"on": -1}}}"#.to_owned(), "/rollout/variants/on"),
            ("PATCH", config, r#"{"targeting": {"if": [{"nonsense": 1}]}}"#.to_owned(), "/targeting/if/0/nonsense"),
            ("PATCH", config, format!(r#"{{"targeting": {}1{}}}"#, r#"{"!":"#.repeat(100), "}".repeat(100)), ""),
            ("PATCH", config, format!(r#"{{"targeting": {}{}}}"#, "[".repeat(10_000), "]".repeat(10_000)), ""),
        ];
        let log = admin.get("/api/v1/projects/shop/environments/test/changes").text;
        for (method, path, body, pointer) in cases {
            let shown: String = body.chars().take(80).collect();
            let reply = admin.send(method, path, Some(body));
            assert_eq!(reply.header("content-type"), "application/problem+json", "{shown}: {}", reply.text);
            let problem = reply.expect(422);
            let found = problem["errors"][0]["pointer"].as_str().unwrap();
            assert!(found == pointer || (pointer.is_empty() && problem["status"] == 422), "{shown}: {problem}");
        }
        assert_eq!(admin.get("/api/v1/projects/shop/environments/test/changes").text, log);
    });
}

#[test]
fn keys_that_look_like_sql_or_paths_find_nothing() {
    on_both(|database| {
        let server = database.serve();
        let admin = server.furnished();
        for key in ["'%20OR%20'1'='1", "..%2f..%2fetc", "%00", "a%27;DROP%20TABLE%20flag;--", "%F0%9F%9A%80", "%ff"] {
            let reply = admin.get(&format!("{FLAGS}/{key}"));
            assert_eq!(reply.status, 404, "{key}: {}", reply.text);
            for path in ["projects/KEY", "projects/shop/environments/KEY", "projects/KEY/environments/test"] {
                let path = format!("/api/v1/{}", path.replace("KEY", key));
                let body = || json!({"name": "x"});
                let hosts = path.replace("/api/v1/projects/", "/sync/v1/") + "/test/snapshot";
                let replies = [
                    admin.get(&hosts),
                    admin.get(&path),
                    admin.patch(&path, body()),
                    admin.with("if-match", "*").put(&path, body()),
                    admin.post(&format!("{path}/archive"), body()),
                    admin.post(&format!("{path}/restore"), body()),
                    admin.get(&format!("/api/v1/tokens/{key}")),
                    admin.post(&format!("/api/v1/tokens/{key}/revoke"), body()),
                ];
                for reply in replies {
                    assert_eq!(reply.status, 404, "{path}: {}", reply.text);
                    assert_eq!(reply.header("content-type"), "application/problem+json", "{path}: {}", reply.text);
                }
            }
        }
        for path in ["/sync/v1/shop/test/../../../api/v1/tokens", "/api/v1/../../etc/passwd", "//", "/api/v2/projects"]
        {
            assert_eq!(
                raw(&server.url, &format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")).0,
                404,
                "{path}"
            );
        }
        admin.send("DELETE", "/api/v1/projects", None).expect(405);
        admin.get(FLAGS).expect(200);
    });
}

/// An array is no object, be it one of defaults, or its members in order.
#[test]
fn no_array_is_taken_for_an_object() {
    on_both(|database| {
        let server = database.serve();
        let admin = server.furnished().with("if-match", "*");
        let config = json!({"state": "ENABLED", "targeting": {"if": [{"var": "a"}, "on"]}});
        admin.post(FLAGS, json!({"key": "a", "owner": "web", "environments": {"test": config}})).expect(201);
        let segment = json!({"key": "a", "kind": "rule", "name": "A", "condition": true});
        admin.post("/api/v1/projects/shop/environments/test/segments", segment).expect(201);
        let before = admin.get("/sync/v1/shop/test/snapshot").etag();
        let tokens = admin.get("/api/v1/tokens").text;
        let mut tried = 0;
        // What takes no body does not look at it, and ids are no JSON.
        let takes_none = ["archive", "restore", "revoke", "cancel", "signing-key", "signing-key/rotate"];
        let takes_json = |path: &str| !path.contains("/ids") && !takes_none.iter().any(|end| path.ends_with(end));
        for (method, path) in operations().iter().filter(|(method, path)| method != "GET" && takes_json(path)) {
            for body in ["[]", "[\"x\",\"admin\"]", "[{}]", "null", "1", "\"a\""] {
                let reply = admin.send(method, &filled(path, "shop", "test"), Some(body.to_owned()));
                assert!([404, 422].contains(&reply.status), "{method} {path} {body}: {} {}", reply.status, reply.text);
                tried += usize::from(reply.status == 422);
            }
        }
        assert!(tried > 60, "{tried}");
        let at = "/api/v1/projects/shop/environments/test";
        for (method, path, body, pointer) in [
            ("PATCH", format!("{at}/flags/a"), json!({"rollout": []}), "/rollout"),
            ("PATCH", format!("{at}/flags/a"), json!({"prerequisites": [["b", ["on"]]]}), "/prerequisites/0"),
            ("POST", FLAGS.to_owned(), json!({"key": "b", "environments": {"test": []}}), "/environments/test"),
            (
                "POST",
                format!("{at}/schedules"),
                json!({"flag": "a", "atMs": 9_000_000_000_000_i64, "patch": []}),
                "/patch",
            ),
            ("POST", format!("{at}/import"), json!({"flags": {"a": []}}), "/flags/a"),
        ] {
            let refused = admin.send(method, &path, Some(body.to_string())).expect(422);
            assert_eq!(refused["errors"][0]["pointer"], pointer, "{refused}");
        }
        assert_eq!(admin.get("/sync/v1/shop/test/snapshot").etag(), before, "nothing of it happened");
        assert_eq!(admin.get("/api/v1/tokens").text, tokens);
    });
}

/// Whether there is an environment or not.
#[test]
fn what_hosts_would_refuse_of_a_flag_is_refused_where_it_stands() {
    on_both(|database| {
        let server = database.serve();
        let admin = server.furnished();
        admin.post("/api/v1/projects", json!({"key": "empty"})).expect(201);
        for project in ["shop", "empty"] {
            let flags = format!("/api/v1/projects/{project}/flags");
            let large = json!({"key": "n", "type": "number", "variants": {"a": 1e300}});
            let refused = admin.post(&flags, large).expect(422);
            assert_eq!(refused["errors"][0]["pointer"], "/variants/a", "{refused}");
            admin.post(&flags, json!({"key": "n", "type": "number", "variants": {"a": 1}})).expect(201);
            let refused = admin.patch(&format!("{flags}/n"), json!({"variants": {"a": 1e300}})).expect(422);
            assert_eq!(refused["errors"][0]["pointer"], "/variants/a", "{refused}");
            assert!(refused["detail"].as_str().unwrap().starts_with("/variants/a: "), "{refused}");
        }
        admin.post("/api/v1/projects/empty/environments", json!({"key": "first"})).expect(201);
        let bad = json!({"key": "m", "environments": {"test": {"targeting": {"nonsense": 1}}}});
        let refused = admin.post(FLAGS, bad).expect(422);
        let pointer = refused["errors"][0]["pointer"].as_str().unwrap();
        assert!(pointer.starts_with("/environments/test/targeting"), "{refused}");
        assert!(refused["detail"].as_str().unwrap().starts_with(pointer), "{refused}");
    });
}

#[test]
fn floods_and_dawdling_end() {
    let database = Database::sqlite();
    let server = database.serve_with("[limits]\nbody_bytes = 10000\nrequest_seconds = 1\n");
    let admin = server.furnished();
    let large = admin.send("POST", FLAGS, Some(format!(r#"{{"key": "x", "description": "{}"}}"#, "d".repeat(20_000))));
    assert_eq!((large.status, large.header("content-type").as_str()), (413, "application/problem+json"));
    // More headers than anybody has.
    let headers: String = (0..2_000).map(|at| format!("x-{at}: {}\r\n", "y".repeat(200))).collect();
    let (status, _) = raw(&server.url, &format!("GET /healthz HTTP/1.1\r\nhost: x\r\n{headers}\r\n"));
    assert!([0, 400, 431].contains(&status), "{status}");
    // A body that never comes.
    let token = admin.token();
    let head =
        format!("POST {FLAGS} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\ncontent-length: 100\r\n\r\n{{");
    assert_eq!(raw(&server.url, &head).0, 408);
    assert_eq!(raw(&server.url, "nonsense\r\n\r\n").0, 400);
    eventually("others are served", || admin.get("/api/v1/projects").status == 200);
}

/// Anybody may make up methods, and a series is never forgotten.
#[test]
fn made_up_methods_are_one_series() {
    let database = Database::sqlite();
    let port = free_port();
    let server = database.serve_with(&format!("management = \"127.0.0.1:{port}\"\n"));
    for number in 0..20 {
        let request = format!("MADEUP{number} /api/v1/projects HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        assert_eq!(raw(&server.url, &request).0, 405);
    }
    let text = Client::new(&format!("http://127.0.0.1:{port}"), "").get("/metrics").text;
    assert!(!text.contains("MADEUP"), "{text}");
    let line = r#"flags_control_requests_total{method="other",route="/api/v1/projects",status="405"} 20"#;
    assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
}

/// Status and text of what comes back; 0 where the connection ends without an answer.
fn raw(url: &str, request: &str) -> (u16, String) {
    let mut connection = TcpStream::connect(url.trim_start_matches("http://")).unwrap();
    connection.set_read_timeout(Some(crate::harness::PATIENCE)).unwrap();
    let _ = connection.write_all(request.as_bytes());
    let mut answer = Vec::new();
    let mut part = [0; 1_024];
    while !String::from_utf8_lossy(&answer).contains("\r\n") {
        match connection.read(&mut part) {
            Ok(0) | Err(_) => break,
            Ok(read) => answer.extend_from_slice(&part[..read]),
        }
    }
    let text = String::from_utf8_lossy(&answer).into_owned();
    let status = text.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    (status, text)
}

#[test]
fn every_answer_has_the_headers_that_keep_browsers_from_harm() {
    let database = Database::sqlite();
    let server = database.serve();
    for path in ["/healthz", "/nothing", "/api/v1/projects"] {
        let reply = server.admin().with("origin", "https://elsewhere.example").get(path);
        assert_eq!(reply.header("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(reply.header("access-control-allow-origin"), "", "{path}");
    }
    let refused = server.with_token("").get("/api/v1/projects");
    assert_eq!((refused.status, refused.header("www-authenticate")), (401, "Bearer".to_owned()));
}
