//! What flagsctl asks of flagsd, and how it tells the answers: against a server that stands in for it.

mod common;

use std::{
    io::{BufRead, BufReader, Read, Write},
    os::unix::net::{UnixListener, UnixStream},
    sync::{Arc, Mutex, PoisonError},
    thread,
};

use common::{FLAGS, Store, directory, flagsctl};
use serde_json::{Value, json};

/// Method, path and body of each request.
type Requests = Arc<Mutex<Vec<(String, String, String)>>>;

/// Serves `<store>/flagsd.sock`: a status that names the store, and `answer` to anything else.
fn serve(store: &Store, answer: fn(&str, &str) -> (u16, Value)) -> Requests {
    let requests = Requests::default();
    let listener = UnixListener::bind(store.path().join("flagsd.sock")).expect("binds");
    let (seen, path) = (Arc::clone(&requests), store.argument());
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            let (method, target, body) = request(&stream);
            let (status, body) = if target == "/v1/status" {
                (200, status(&path))
            } else {
                seen.lock().unwrap_or_else(PoisonError::into_inner).push((method.clone(), target.clone(), body));
                answer(&method, &target)
            };
            let body = body.to_string();
            write!(
                stream,
                "HTTP/1.1 {status} Whatever\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            )
            .expect("answers");
        }
    });
    requests
}

fn request(stream: &UnixStream) -> (String, String, String) {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).expect("a request line");
    let mut parts = line.split(' ').map(str::to_owned);
    let (method, target) = (parts.next().expect("a method"), parts.next().expect("a target"));
    let mut length = 0;
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).expect("a header");
        let header = header.trim_end().to_ascii_lowercase();
        if header.is_empty() {
            break;
        }
        if let Some(value) = header.strip_prefix("content-length:") {
            length = value.trim().parse().expect("a length");
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).expect("a body");
    (method, target, String::from_utf8(body).expect("UTF-8"))
}

fn status(store: &str) -> Value {
    json!({"version": "0.1.0", "pid": 4321, "uptime_seconds": 65, "sets": [
        {"name": "other", "store": "/run/flags/other"},
        {
            "name": "my set", "store": store,
            "sources": [{"source": "file:/etc/flags.json", "state": "ok"},
                        {"source": "dir:/etc/flags.d", "state": "failed", "error": "gone"}],
            "frozen": {"since_ms": 0, "by": "rollback"}, "changes_waiting": true,
            "held": {"reason": "it removes 9 of 10 flags", "since_ms": 0},
            "overrides": [{"key": "new-cart", "value": "off", "since_ms": 0}],
            "broken": [{"key": "typo", "served": "last-good"}],
            "problems": [{"severity": "error", "file": "flags.json", "line": 3, "column": 7, "message": "bad"}],
            "kept": [{"generation": 2}, {"generation": 1}],
        },
    ]})
}

fn obedient(method: &str, target: &str) -> (u16, Value) {
    match (method, target) {
        ("POST", "/v1/sets/my%20set/rollback") => (200, json!({"generation": 9, "content_of": 7, "frozen": true})),
        ("POST", "/v1/sets/my%20set/unfreeze") => {
            (200, json!({"generation": 9, "frozen": false, "held": {"reason": "it removes too much"}, "refused": null}))
        }
        _ => (200, json!({"generation": 9})),
    }
}

#[test]
fn each_command_is_one_request() {
    let store = Store::new();
    let requests = serve(&store, obedient);
    let path = store.argument();
    let run = |arguments: &[&str]| {
        let arguments = [arguments, &["--store", &path]].concat();
        let run = flagsctl(store.directory.path(), &arguments).exits(0);
        assert_eq!(run.stderr, "");
        let asked = requests.lock().unwrap_or_else(PoisonError::into_inner).drain(..).collect::<Vec<_>>();
        let [(method, target, body)] = asked.as_slice() else { panic!("{asked:?}") };
        (format!("{method} {target} {body}"), run.stdout)
    };
    let is = |arguments: &[&str], asked: &str, told: &str| {
        assert_eq!(run(arguments), (asked.to_owned(), told.to_owned()), "{arguments:?}");
    };
    is(
        &["rollback", "7"],
        r#"POST /v1/sets/my%20set/rollback {"generation":7}"#,
        "rolled back: generation 9 has the content of generation 7\nfrozen there until `flagsctl unfreeze`\n",
    );
    assert_eq!(run(&["rollback"]).0, r#"POST /v1/sets/my%20set/rollback {"generation":null}"#);
    is(&["freeze"], "POST /v1/sets/my%20set/freeze ", "frozen at generation 9 until `flagsctl unfreeze`\n");
    is(
        &["unfreeze"],
        "POST /v1/sets/my%20set/unfreeze ",
        "following the sources again, at generation 9\nwhat they say now is held: it removes too much\n",
    );
    is(&["confirm"], "POST /v1/sets/my%20set/confirm ", "published as generation 9\n");
    is(&["reload"], "POST /v1/sets/my%20set/reload ", "reloaded, at generation 9\n");
    is(
        &["override", "a/b=x=1"],
        r#"PUT /v1/sets/my%20set/overrides/a%2Fb {"value":"x=1"}"#,
        "a/b is now x=1, in generation 9\n",
    );
    is(
        &["override", "--clear", "a/b"],
        "DELETE /v1/sets/my%20set/overrides/a%2Fb ",
        "a/b is what its sources say again, in generation 9\n",
    );
    let (_, json) = run(&["rollback", "--json"]);
    assert_eq!(
        serde_json::from_str::<Value>(&json).expect("JSON"),
        json!({"generation": 9, "content_of": 7, "frozen": true})
    );
}

#[test]
fn a_refusal_is_told() {
    let store = Store::new();
    serve(&store, |_, _| (409, json!({"title": "Conflict", "status": 409, "detail": "no change is held"})));
    flagsctl(store.directory.path(), &["confirm", "--store", &store.argument()])
        .exits(3)
        .complains("flagsctl: flagsd refuses (409): no change is held\n");
}

#[test]
fn status_shows_what_flagsd_says() {
    let mut store = Store::new();
    store.publish(FLAGS);
    serve(&store, obedient);
    let path = store.argument();
    let text = flagsctl(store.directory.path(), &["status", "--store", &path]).exits(0).stdout;
    for line in [
        format!("admin       version 0.1.0, up 1 min 5 s, {path}/flagsd.sock"),
        "source      file:/etc/flags.json, ok".to_owned(),
        "source      dir:/etc/flags.d, failed: gone".to_owned(),
        "frozen      by rollback since 1970-01-01T00:00:00Z; changes wait".to_owned(),
        "held        it removes 9 of 10 flags since 1970-01-01T00:00:00Z".to_owned(),
        "override    new-cart = \"off\" since 1970-01-01T00:00:00Z".to_owned(),
        "broken      typo, served in its last good form".to_owned(),
        "problem     flags.json:3:7: error: bad".to_owned(),
        "kept        generations 2, 1".to_owned(),
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
    let json = flagsctl(store.directory.path(), &["status", "--store", &path, "--json"]).exits(0).json();
    assert_eq!((&json["daemon"]["pid"], &json["daemonError"]), (&json!(4321), &json!(null)));
}

#[test]
fn without_flagsd_the_socket_tried_is_named() {
    let files = directory(&[]);
    let socket = files.path().join("flagsd.sock").display().to_string();
    let store = files.path().display().to_string();
    for command in [["freeze"].as_slice(), &["rollback"], &["reload"], &["confirm"], &["override", "a=1"]] {
        let run = flagsctl(files.path(), &[command, &["--store", &store]].concat()).exits(3);
        run.complains(&format!(
            "flagsctl: flagsd is not reachable at {socket}: No such file or directory (os error 2)\n  \
             hint: start flagsd, or name the store that it serves with --store DIR\n"
        ));
    }
    drop(UnixListener::bind(&socket).expect("binds"));
    let gone = flagsctl(files.path(), &["freeze", "--store", &store]).exits(3);
    assert!(gone.stderr.contains("hint: flagsd was here and is gone"), "{}", gone.stderr);
    // Somebody else's socket.
    std::fs::remove_file(&socket).expect("is there");
    let listener = UnixListener::bind(&socket).expect("binds");
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        request(&stream);
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi").expect("answers");
    });
    let strange = flagsctl(files.path(), &["freeze", "--store", &store]).exits(3);
    assert!(strange.stderr.contains("is not flagsd's: it is no JSON"), "{}", strange.stderr);
}
