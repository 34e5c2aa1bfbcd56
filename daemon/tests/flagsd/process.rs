//! The process among others: signals, the service manager, a second one of its kind, and its other ears.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::control_plane::ControlPlane;
use crate::harness::{Host, many, number, read};

#[test]
fn a_second_one_on_the_same_store_or_state_is_refused() {
    let host = Host::with_file("flags.json", &number(1));
    let daemon = host.start();
    let (code, log) = host.run_to_end();
    assert_eq!(code, Some(3), "{log}");
    assert!(log.contains("flagsd is running already"), "{log}");

    // Another state directory does not help; the message names the process that has the store.
    let mut other = host.command();
    other.arg("--state-dir").arg(host.path("other-state"));
    let output = other.output().expect("runs");
    let log = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "--state-dir twice is no command line: {log}");
    let mut other = std::process::Command::new(env!("CARGO_BIN_EXE_flagsd"));
    other.arg("run").arg("--source").arg(format!("file:{}", host.path("flags.json").display()));
    other.arg("--store").arg(host.store()).arg("--state-dir").arg(host.path("other-state"));
    let output = other.output().expect("runs");
    let log = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{log}");
    assert!(log.contains(&daemon.pid().to_string()), "{log}");
    // The first one goes on.
    host.write("flags.json", &number(2));
    let client = host.client();
    daemon.wait_for("the change", || read(&client, "n") == 2);
}

#[test]
fn sigterm_and_sigint_end_it_in_order_and_readers_go_on() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let host = Host::with_file("flags.json", &number(1));
        let mut daemon = host.start();
        let client = host.client();
        assert!(client.status().daemon_alive);
        daemon.signal(signal);
        let status = daemon.wait();
        assert_eq!(status.code(), Some(0), "{}", daemon.log());
        assert!(!client.status().daemon_alive);
        assert_eq!(read(&client, "n"), 1);
        assert!(!host.store().join("flagsd.sock").exists());
    }
}

#[test]
fn sighup_reads_the_configuration_and_every_source_anew() {
    let mut host = Host::new();
    for (name, n) in [("a.json", 1), ("b.json", 2)] {
        host.write(name, &number(n));
    }
    let configure = |host: &Host, text: &str| fs::write(host.path("flagsd.toml"), text).expect("written");
    let of = |host: &Host, name: &str| {
        format!(
            "[[set]]\nname = \"default\"\nstore = \"{}\"\nsources = [\"file:{}\"]\n",
            host.store().display(),
            host.path(name).display()
        )
    };
    configure(&host, &of(&host, "a.json"));
    let file = host.path("flagsd.toml");
    host.argument("--config").argument(file);
    let daemon = host.start();
    let client = host.client();
    assert_eq!(read(&client, "n"), 1);

    configure(&host, &of(&host, "b.json"));
    daemon.signal(Signal::SIGHUP);
    daemon.wait_for("the other source", || read(&client, "n") == 2);

    configure(&host, "[[set]]\nnmae = 3\n");
    daemon.signal(Signal::SIGHUP);
    daemon.wait_for("the error", || daemon.log().contains("nmae"));
    host.write("b.json", &number(3));
    daemon.wait_for("the source to be followed still", || read(&client, "n") == 3);

    configure(&host, &format!("max_age_ms = 5\n{}", of(&host, "b.json")));
    daemon.signal(Signal::SIGHUP);
    daemon.wait_for("the warning", || daemon.log().contains("max_age_ms changed"));
}

#[test]
fn the_service_manager_is_told() {
    let mut host = Host::with_file("flags.json", &number(1));
    let socket = UnixDatagram::bind(host.path("notify")).expect("a socket");
    socket.set_read_timeout(Some(Duration::from_secs(60))).expect("a timeout");
    host.env("NOTIFY_SOCKET", host.path("notify")).env("WATCHDOG_USEC", "200000");
    let daemon = host.start();
    let mut seen = String::new();
    let mut wait_for = |words: &str| {
        let mut buffer = [0; 4_096];
        let from = seen.len();
        while !seen[from..].contains(words) {
            let read = socket.recv(&mut buffer).unwrap_or_else(|error| panic!("{words} did not come: {error}\n{seen}"));
            seen.push_str(std::str::from_utf8(&buffer[..read]).expect("text"));
            seen.push('\n');
        }
        seen[from..].to_owned()
    };
    let ready = wait_for("READY=1");
    assert!(ready.contains("STATUS=default: generation 1, 1 flags, fresh"), "{ready}");
    for _ in 0..3 {
        wait_for("WATCHDOG=1");
    }
    host.write("flags.json", "{");
    host.write("flags.json", &number(2));
    wait_for("STATUS=default: generation 2");
    daemon.signal(Signal::SIGHUP);
    let reload = wait_for("RELOADING=1");
    assert!(reload.contains("MONOTONIC_USEC="), "{reload}");
    wait_for("READY=1");
    daemon.signal(Signal::SIGTERM);
    wait_for("STOPPING=1");
}

#[test]
fn what_starts_after_it_finds_flags_and_waits_for_no_control_plane_that_is_away() {
    let mut plane = ControlPlane::start(&[("n", 1)]);
    plane.stop();
    let listen = |host: &mut Host, name: &str| {
        let socket = UnixDatagram::bind(host.path(name)).expect("a socket");
        host.env("NOTIFY_SOCKET", host.path(name));
        socket
    };
    let is_ready = |socket: &UnixDatagram, patience: Duration| {
        socket.set_read_timeout(Some(patience)).expect("a timeout");
        let mut buffer = [0; 4_096];
        let mut seen = String::new();
        while let Ok(read) = socket.recv(&mut buffer) {
            seen.push_str(std::str::from_utf8(&buffer[..read]).expect("text"));
            if seen.contains("READY=1") {
                return Some(seen);
            }
        }
        None
    };
    let long = Duration::from_secs(60);

    // Nothing is known, and nobody answers: it is not waited for without end.
    let mut host = Host::new();
    host.source(&plane.signed_source()).env("FLAGSD_CONTROL__FIRST_WAIT_MS", "300");
    let socket = listen(&mut host, "one");
    let before = Instant::now();
    let daemon = host.start();
    let told = is_ready(&socket, long).expect("in the end");
    assert!(before.elapsed() >= Duration::from_millis(300));
    assert!(told.contains("STATUS=waits for the first flags") && told.contains("generation 0"), "{told}");
    assert!(daemon.log().contains("ready without flags"), "{}", daemon.log());
    drop(daemon);

    // Somebody answers while it waits.
    let mut host = Host::new();
    host.source(&plane.signed_source()).env("FLAGSD_CONTROL__FIRST_WAIT_MS", "600000");
    let socket = listen(&mut host, "one");
    let daemon = host.start();
    assert_eq!(is_ready(&socket, Duration::from_millis(100)), None, "{}", daemon.log());
    plane.listen();
    let told = is_ready(&socket, long).expect("with flags");
    assert!(told.contains("generation 1, 1 flags"), "{told}");
    daemon.wait_for("the text", || !host.path("state/default/unsettled").exists());
    daemon.kill();

    // Nobody answers again, after a reboot: what was known is enough.
    plane.stop();
    fs::remove_dir_all(host.store()).expect("removed");
    let socket = listen(&mut host, "two");
    let daemon = host.start();
    assert!(is_ready(&socket, long).expect("at once").contains("1 flags"));
    assert_eq!(read(&host.client(), "n"), 1);
    // And it can be told to stop while it waits.
    drop(daemon);
    let mut host = Host::new();
    host.source(&plane.signed_source()).env("FLAGSD_CONTROL__FIRST_WAIT_MS", "600000");
    let mut daemon = host.start();
    daemon.signal(Signal::SIGTERM);
    assert_eq!(daemon.wait().code(), Some(0));
}

#[test]
fn sources_that_fail_make_it_stale_and_a_good_one_fresh_again() {
    let mut host = Host::with_file("flags.json", &number(1));
    host.env("FLAGSD_MAX_AGE_MS", "300");
    let daemon = host.start();
    let client = host.client();
    assert_eq!(daemon.status()["state"], "fresh");
    fs::remove_file(host.path("flags.json")).expect("removed");
    let status = daemon.wait_for_status("staleness", |status| status["state"] == "stale");
    assert!(status["age_seconds"].as_f64() > Some(0.3), "{status}");
    assert!(client.status().state == libflags::State::Stale);
    assert_eq!(read(&client, "n"), 1);
    host.write("flags.json", &number(1));
    daemon.wait_for_status("freshness", |status| status["state"] == "fresh");
}

#[test]
fn probes_and_metrics_answer_on_a_port_and_nothing_else_does() {
    let mut host = Host::new();
    host.source(&format!("file:{}", host.path("flags.json").display()));
    let port = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address").port();
    host.argument("--management").argument(format!("127.0.0.1:{port}"));
    let daemon = host.start();
    let get = |path: &str| {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("listens");
        stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a timeout");
        write!(stream, "GET {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        answer
    };
    assert!(get("/healthz").starts_with("HTTP/1.1 200"));
    assert!(get("/readyz").starts_with("HTTP/1.1 503"), "nothing is published");
    assert!(get("/v1/status").starts_with("HTTP/1.1 404"), "that is for the socket only");
    host.write("flags.json", &number(1));
    daemon.wait_for_status("something published", |status| status["ready"] == true);
    assert!(get("/readyz").starts_with("HTTP/1.1 200"));
    let metrics = get("/metrics");
    for line in
        ["flagsd_generation{set=\"default\"} 1", "flagsd_flags{set=\"default\"} 1", "flagsd_stale{set=\"default\"} 0"]
    {
        assert!(metrics.lines().any(|found| found == line), "{line} is missing in\n{metrics}");
    }
    let mode = fs::metadata(host.store().join("flagsd.sock")).expect("is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn nobody_needs_to_read_its_log() {
    let host = Host::with_file("flags.json", &number(1));
    let mut command = host.command();
    let mut child = command.stderr(std::process::Stdio::piped()).spawn().expect("starts");
    drop(child.stderr.take());
    let until = Instant::now() + Duration::from_secs(60);
    let wait_for = |n: i64| {
        while !libflags::Client::open(Some(&host.store())).is_ok_and(|client| read(&client, "n") == n) {
            assert!(Instant::now() < until, "waited in vain for {n}");
            std::thread::sleep(Duration::from_millis(5));
        }
    };
    for n in 1..4 {
        host.write("flags.json", &number(n));
        wait_for(n);
    }
    assert!(child.try_wait().expect("is ours").is_none(), "it ended");
    child.kill().expect("is there");
    child.wait().expect("was there");
}

#[test]
fn two_sets_live_in_one_daemon() {
    let mut host = Host::new();
    host.write("a.json", &number(1));
    host.write("b.json", &number(2));
    let other = host.path("other");
    let text = format!(
        "[[set]]\nname = \"default\"\nstore = \"{}\"\nsources = [\"file:{}\"]\n\
         [[set]]\nname = \"other\"\nstore = \"{}\"\nsources = [\"file:{}\"]\nselector = \"flagSetId=\"\n",
        host.store().display(),
        host.path("a.json").display(),
        other.display(),
        host.path("b.json").display(),
    );
    fs::write(host.path("flagsd.toml"), text).expect("written");
    let file = host.path("flagsd.toml");
    host.argument("--config").argument(file).argument("--set").argument("default");
    let daemon = host.start();
    assert_eq!(read(&host.client(), "n"), 1);
    let second = libflags::Client::open(Some(&other)).expect("a store");
    assert_eq!(read(&second, "n"), 2);
    let status = daemon.get("/v1/status");
    assert_eq!((&status["sets"][0]["name"], &status["sets"][1]["name"]), (&"default".into(), &"other".into()));
    assert_eq!(status["sets"][1]["selector"], "flagSetId=");
    assert!(other.join("flagsd.sock").exists());
}

/// Not a limit but a figure: how long from an edit to a client, and how much memory a thousand flags take.
#[test]
fn an_edit_is_seen_and_little_memory_used() {
    let host = Host::with_file("flags.json", &many(1_000, 0));
    let daemon = host.start();
    let client = host.client();
    let mut times = Vec::new();
    for round in 0..30 {
        let text = many(1_000, 1 + round % 2);
        let started = Instant::now();
        host.write("flags.json", &text);
        let off = |n: usize| !client.bool(format!("f{n}"), &libflags::Context::anonymous(), false);
        daemon.wait_for("the edit", || off(0) && off(1) == (round % 2 == 1));
        times.push(started.elapsed());
    }
    times.sort_unstable();
    let (_, metrics) = daemon.try_get("/metrics").expect("metrics");
    let resident =
        metrics.lines().find_map(|line| line.strip_prefix("process_resident_memory_bytes ")).expect("a figure");
    let resident: u64 = resident.parse().expect("a number");
    println!("edit to client: median {:?}, worst {:?}; resident {} KiB", times[15], times[29], resident / 1_024);
    assert!(resident < 64 << 20, "{resident} bytes");
}
