//! Streams that are to end, or to begin anew, while changes flow.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use serde_json::json;

use crate::harness::{Client, Database, PATIENCE, Server, counted, eventually, free_port};

const FLAGS: &str = "/api/v1/projects/shop/flags";
const CONFIG: &str = "/api/v1/projects/shop/environments/test/flags/a";

fn with_flag(server: &Server) -> Client {
    let admin = server.furnished();
    admin.post(FLAGS, json!({"key": "a"})).expect(201);
    eventually("hosts get it", || admin.get("/sync/v1/shop/test/snapshot").etag() == "\"1.2\"");
    admin
}

/// Changes a flag each fifth of a second while `work` is done.
fn while_changes_flow(admin: &Client, work: impl FnOnce()) {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            for n in 0.. {
                if done.load(Ordering::Relaxed) {
                    return;
                }
                admin.patch(CONFIG, json!({"metadata": {"n": n}})).expect(200);
                thread::sleep(Duration::from_millis(200));
            }
        });
        // Also where `work` fails: the scope waits for the writer.
        let worked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        done.store(true, Ordering::Relaxed);
        worked.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
}

#[test]
fn a_token_that_ends_takes_its_stream_along_though_changes_flow() {
    let database = Database::sqlite();
    let server = database.serve();
    let admin = with_flag(&server);
    while_changes_flow(&admin, || {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        let expires = u64::try_from((now + Duration::from_secs(3)).as_millis()).unwrap();
        let body = json!({"name": "short", "scope": "sync", "expiresMs": expires});
        let made = admin.post("/api/v1/tokens", body).expect(201);
        let expiring = server.with_token(made["token"].as_str().unwrap()).stream("shop/test", None);
        let made = admin.post("/api/v1/tokens", json!({"name": "old", "scope": "sync"})).expect(201);
        let rotated = server.with_token(made["token"].as_str().unwrap()).stream("shop/test", None);
        let rotate = format!("/api/v1/tokens/{}/rotate", made["id"].as_str().unwrap());
        admin.post(&rotate, json!({"overlapSeconds": 3})).expect(201);
        assert_eq!(expiring.next().kind, "snapshot");
        assert_eq!(rotated.next().kind, "snapshot");
        assert_eq!(rotated.next().kind, "change", "the overlap");
        assert!(expiring.ends(), "expired");
        assert!(rotated.ends(), "rotated out");
    });
}

#[test]
fn a_stream_that_is_ahead_gets_what_there_is_though_changes_flow() {
    let database = Database::sqlite();
    let server = database.serve();
    let admin = with_flag(&server);
    while_changes_flow(&admin, || {
        let stream = admin.stream("shop/test", Some("1.1000000"));
        assert_eq!(stream.next().kind, "snapshot");
        assert_eq!(stream.next_change().kind, "change");
    });
}

/// Asks for a stream, and says what was answered; what follows is never read.
fn ask_for_a_stream(server: &Server, token: &str) -> (TcpStream, u16) {
    ask_for_a_stream_after(server, token, "")
}

/// Asks for one from revision 2 on.
fn ask_for_all(server: &Server, token: &str) -> TcpStream {
    let (stream, status) = ask_for_a_stream_after(server, token, "last-event-id: 1.2\r\n");
    assert_eq!(status, 200);
    stream
}

fn ask_for_a_stream_after(server: &Server, token: &str, after: &str) -> (TcpStream, u16) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
    let mut stream = runtime.block_on(async {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4 << 10).unwrap();
        let there = server.url.trim_start_matches("http://").parse().unwrap();
        socket.connect(there).await.unwrap().into_std().unwrap()
    });
    stream.set_nonblocking(false).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let head =
        format!("GET /sync/v1/shop/test/stream HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n{after}\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    let mut status = [0; 12];
    stream.read_exact(&mut status).unwrap();
    let status = std::str::from_utf8(&status).unwrap().trim_start_matches("HTTP/1.1 ").parse().unwrap();
    (stream, status)
}

/// Reads so much each tenth of a second while `goes_on`.
fn read_slowly(mut stream: &TcpStream, at_once: usize, goes_on: impl Fn() -> bool) {
    let mut taken = vec![0; at_once];
    while goes_on() && matches!(stream.read(&mut taken), Ok(length) if length > 0) {
        thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn who_reads_a_trickle_is_cut_and_leaves_its_place() {
    let database = Database::sqlite();
    let management = free_port();
    let server =
        database.serve_with(&format!("management = \"127.0.0.1:{management}\"\n[limits]\nwrite_seconds = 2\n"));
    let admin = with_flag(&server);
    // More than sockets hold, so that it takes a reader to send it.
    let much = "x".repeat(128 << 10);
    for n in 0..160 {
        admin.patch(CONFIG, json!({"metadata": {"n": format!("{n}{much}")}})).expect(200);
    }
    let cut = || counted(management, "flags_control_connections_cut_total");
    let streams = || counted(management, "flags_control_streams{environment=\"shop/test\"}");
    // 4 KB a second. What was given to the kernel by then still comes after the end.
    let trickle = ask_for_all(&server, admin.token());
    let start = Instant::now();
    read_slowly(&trickle, 400, || cut() == 0 && start.elapsed() < PATIENCE);
    assert_eq!(cut(), 1);
    eventually("its place is free", || streams() == 0);
}

#[test]
fn who_reads_nothing_is_cut_and_leaves_its_place() {
    let database = Database::sqlite();
    let server = database.serve_with("[limits]\nstreams = 1\nwrite_seconds = 1\n");
    let admin = with_flag(&server);
    let (dawdler, status) = ask_for_a_stream(&server, admin.token());
    assert_eq!(status, 200);
    assert_eq!(ask_for_a_stream(&server, admin.token()).1, 503, "its place is taken");
    let much = "x".repeat(400);
    let more = || {
        for n in 0..20 {
            let metadata: serde_json::Map<_, _> =
                (0..40).map(|at| (format!("k{at}"), json!(format!("{n}{much}")))).collect();
            admin.patch(CONFIG, json!({"metadata": metadata})).expect(200);
        }
    };
    let mut next = None;
    eventually("somebody else gets it", || {
        more();
        let (stream, status) = ask_for_a_stream(&server, admin.token());
        next = Some(stream);
        status == 200
    });
    drop((dawdler, next));

    // Who reads, be it nothing but heartbeats, is not.
    let server = database.serve_with("[limits]\nwrite_seconds = 1\n[sync]\nheartbeat_ms = 1500\n");
    let admin = server.admin();
    eventually("it is up", || admin.get("/sync/v1/shop/test/snapshot").status == 200);
    let reader = admin.stream("shop/test", None);
    assert_eq!(reader.next().kind, "snapshot");
    for _ in 0..3 {
        assert_eq!(reader.next().kind, "current");
    }
}
