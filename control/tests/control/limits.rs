//! More than a process is for: slow, many and greedy clients are turned away, and hosts are served.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::harness::{Client, Database, PATIENCE, Server, eventually, free_port};

fn connect(server: &Server) -> TcpStream {
    let stream = TcpStream::connect(server.url.trim_start_matches("http://")).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// The same from another address of this machine.
fn connect_from(server: &Server, address: &str) -> TcpStream {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
    let stream = runtime.block_on(async {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(format!("{address}:0").parse().unwrap()).unwrap();
        let there = server.url.trim_start_matches("http://").parse().unwrap();
        socket.connect(there).await.unwrap().into_std().unwrap()
    });
    stream.set_nonblocking(false).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// What comes until the server hangs up.
fn rest(mut stream: &TcpStream) -> String {
    let mut rest = Vec::new();
    // Reset is as good as closed.
    let _ = stream.read_to_end(&mut rest);
    String::from_utf8_lossy(&rest).into_owned()
}

#[test]
fn who_dawdles_is_hung_up_on() {
    let database = Database::sqlite();
    let server = database.serve_with("[limits]\nheader_seconds = 1\nrequest_seconds = 1\n");
    // Nothing, half a head, a head that never ends, and a connection that is not used again.
    for beginning in ["", "GET /healthz HTTP/1.1\r\nhost: x\r\nx-half: "] {
        let mut stream = connect(&server);
        stream.write_all(beginning.as_bytes()).unwrap();
        let said = rest(&stream);
        assert!(said.is_empty() || said.starts_with("HTTP/1.1 408"), "{said}");
    }
    let mut drip = connect(&server);
    let start = Instant::now();
    drip.write_all(b"GET /healthz HTTP/1.1\r\n").unwrap();
    while drip.write_all(b"x-a: b\r\n").is_ok() {
        assert!(start.elapsed() < PATIENCE, "a head that goes on for ever");
        thread::sleep(Duration::from_millis(50));
    }
    let mut idle = connect(&server);
    idle.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    assert!(rest(&idle).starts_with("HTTP/1.1 200"), "an answer, and then the end");
    server.admin().get("/healthz").expect(200);
}

#[test]
fn heads_that_are_too_large_are_refused() {
    let database = Database::sqlite();
    let server = database.serve();
    let long = format!("GET /healthz HTTP/1.1\r\nhost: x\r\nx-a: {}\r\n\r\n", "a".repeat(64 << 10));
    let lines: String = (0..150).map(|at| format!("x-{at}: 1\r\n")).collect();
    let many = format!("GET /healthz HTTP/1.1\r\nhost: x\r\n{lines}\r\n");
    for head in [long, many] {
        let mut stream = connect(&server);
        let _ = stream.write_all(head.as_bytes());
        let said = rest(&stream);
        assert!(said.is_empty() || said.starts_with("HTTP/1.1 431"), "{said}");
    }
    server.admin().get("/healthz").expect(200);
}

#[test]
fn connections_beyond_the_limit_are_closed_and_those_that_are_there_work() {
    let database = Database::sqlite();
    let server = database.serve_with("[limits]\nconnections = 20\naddress_connections = 20\n");
    let admin = server.furnished();
    let stream = admin.stream("shop/test", None);
    assert_eq!(stream.next().kind, "snapshot");
    let mut held: Vec<TcpStream> = (0..60).map(|_| connect(&server)).collect();
    let mut answered = 0;
    for stream in &mut held {
        let _ = stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n");
        let mut byte = [0];
        answered += usize::from(matches!(stream.read(&mut byte), Ok(1)));
    }
    assert!((1..20).contains(&answered), "{answered} of 60 are served beside the stream");
    drop(held);
    eventually("there is room again", || admin.get("/api/v1/projects").status == 200);
    admin.post("/api/v1/projects/shop/flags", json!({"key": "a"})).expect(201);
    assert_eq!(stream.next_change().id, "1.2", "the stream was never touched");
}

#[test]
fn one_address_does_not_take_all_places() {
    let database = Database::sqlite();
    let management = format!("127.0.0.1:{}", free_port());
    let config = format!("management = {management:?}\n[limits]\nconnections = 64\n");
    let server = database.serve_with(&config);
    let admin = server.furnished();
    let stream = admin.stream("shop/test", None);
    assert_eq!(stream.next().kind, "snapshot");
    let is_answered = |mut connection: &TcpStream| {
        let _ = connection.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n");
        matches!(connection.read(&mut [0]), Ok(1))
    };
    let greedy: Vec<TcpStream> = (0..40).map(|_| connect(&server)).collect();
    let answered = greedy.iter().filter(|connection| is_answered(connection)).count();
    assert!((1..16).contains(&answered), "{answered} of 40, a quarter of 64 less the stream");
    let others: Vec<TcpStream> = (0..8).map(|_| connect_from(&server, "127.0.0.2")).collect();
    assert!(others.iter().all(is_answered), "another address has places of its own");
    let page = Client::new(&format!("http://{management}"), "").get("/metrics").text;
    let refused = |limit: &str| {
        let name = format!("flags_control_connections_refused_total{{limit=\"{limit}\"}} ");
        page.lines().find_map(|line| line.strip_prefix(&name)?.parse::<usize>().ok())
    };
    assert!(refused("address") >= Some(40 - answered) && refused("all") == Some(0), "{page}");
    drop(greedy);
    eventually("there is room again", || admin.get("/api/v1/projects").status == 200);
    admin.post("/api/v1/projects/shop/flags", json!({"key": "a"})).expect(201);
    assert_eq!(stream.next_change().id, "1.2", "the stream was never touched");
}

#[test]
fn answers_say_what_may_still_be_asked() {
    let database = Database::sqlite();
    let server = database.serve_with("[limits]\nrequests_per_second = 1\nburst = 5\n");
    let admin = server.admin();
    let first = admin.get("/api/v1/projects");
    assert_eq!((first.header("ratelimit-limit").as_str(), first.header("ratelimit-remaining").as_str()), ("5", "4"));
    assert_eq!(first.header("ratelimit-reset"), "1");
    let mut last = first;
    while last.status == 200 {
        last = admin.get("/api/v1/projects");
    }
    assert_eq!((last.status, last.header("ratelimit-remaining").as_str()), (429, "0"));
    assert!(last.header("retry-after").parse::<u64>().unwrap() >= 1);
    assert_eq!(last.header("ratelimit-reset"), "5", "until all is there again, not until the next");
    assert_eq!(server.with_token("").get("/api/v1/projects").header("ratelimit-limit"), "", "nothing to strangers");
}

/// Ten times as many as may be under way, and hosts among them.
#[test]
fn a_spike_is_turned_away_and_hosts_are_served() {
    let database = Database::sqlite();
    let limits = "[limits]\nmanagement_requests = 4\nrequests_per_second = 1000000\nburst = 1000000\n\
                  address_requests_per_second = 1000000\naddress_burst = 1000000\n";
    let server = database.serve_with(limits);
    let admin = server.furnished();
    admin.post("/api/v1/projects/shop/flags", json!({"key": "a"})).expect(201);
    let stream = admin.stream("shop/test", None);
    assert_eq!(stream.next().kind, "snapshot");
    let poll = |count: usize| {
        let mut times: Vec<Duration> = (0..count)
            .map(|_| {
                let start = Instant::now();
                assert_eq!(admin.get("/sync/v1/shop/test/snapshot").status, 200);
                start.elapsed()
            })
            .collect();
        times.sort();
        times[count * 99 / 100]
    };
    let before = poll(100);
    let stop = AtomicBool::new(false);
    let (during, counts) = thread::scope(|scope| {
        let clients: Vec<_> = (0..40)
            .map(|at| {
                let (admin, stop) = (server.admin(), &stop);
                scope.spawn(move || {
                    let (mut done, mut shed) = (0, 0);
                    while !stop.load(Ordering::Relaxed) {
                        let reply = match at % 4 {
                            0 => admin.patch(
                                "/api/v1/projects/shop/environments/test/flags/a",
                                json!({"metadata": {"by": at.to_string()}}),
                            ),
                            _ => admin.get("/api/v1/projects/shop/flags?limit=1000"),
                        };
                        match reply.status {
                            200 => done += 1,
                            503 => {
                                assert_eq!(reply.header("retry-after"), "1");
                                shed += 1;
                            }
                            other => panic!("{other}: {}", reply.text),
                        }
                    }
                    (at % 4 == 0, done, shed)
                })
            })
            .collect();
        let during = poll(100);
        stop.store(true, Ordering::Relaxed);
        let counts: Vec<(bool, u64, u64)> = clients.into_iter().map(|client| client.join().unwrap()).collect();
        (during, counts)
    });
    let sum = |writes| {
        let of = counts.iter().filter(|(is_write, ..)| *is_write == writes);
        of.fold((0, 0), |sum, (_, done, shed)| (sum.0 + done, sum.1 + shed))
    };
    let (reads, writes) = (sum(false), sum(true));
    println!(
        "p99 of a host's poll: {before:?} alone, {during:?} in the spike; reads (done, shed): {reads:?}, writes: {writes:?}"
    );
    // Forty clients that ask without a pause, on a machine that other tests keep busy.
    assert!(during < Duration::from_secs(5), "a host waits for {during:?}");
    assert!(reads.1 > 0, "some are turned away: {reads:?}");
    assert!(reads.0 > 0 && writes.0 > 0, "and some are not: {reads:?}, {writes:?}");
    assert_eq!(stream.next_change().id, "1.3");
    eventually("all is well again", || admin.get("/api/v1/projects").status == 200);
}

/// A list that does not fit into what lies between, read by nobody.
#[test]
fn who_does_not_read_a_list_is_cut_off() {
    let database = Database::sqlite();
    let server = database.serve_with("[limits]\ndownloads = 1\nrequest_seconds = 2\nupload_bytes = 67108864\n");
    let admin = server.furnished();
    let segments = "/api/v1/projects/shop/environments/test/segments";
    admin.post(segments, json!({"key": "many", "kind": "list"})).expect(201);
    let ids: String = (0..600_000).map(|at| format!("somebody-with-a-long-name-{at:08}\n")).collect();
    let text = admin.with("content-type", "text/plain").with("if-match", "*");
    text.send("PUT", &format!("{segments}/many/ids"), Some(ids.clone())).expect(200);
    let (path, token) = (format!("{segments}/many/ids"), admin.token());
    let mut idle = connect(&server);
    write!(idle, "GET {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\nconnection: close\r\n\r\n")
        .unwrap();
    let mut head = [0; 12];
    idle.read_exact(&mut head).unwrap();
    assert_eq!(&head, b"HTTP/1.1 200");
    let refused = admin.get(&path);
    assert_eq!((refused.status, refused.header("retry-after").as_str()), (503, "5"), "{}", refused.text);
    assert!(refused.text.contains("too-many-downloads"), "{}", refused.text);
    let mut whole = String::new();
    eventually("the place is free again", || {
        let reply = admin.get(&path);
        whole = reply.text;
        reply.status == 200
    });
    assert!(whole == ids, "{} of {} bytes", whole.len(), ids.len());
    let part = rest(&idle);
    assert!(
        part.len() < ids.len() && !part.ends_with("\r\n0\r\n\r\n"),
        "{} bytes, not taken for the whole",
        part.len()
    );
}
