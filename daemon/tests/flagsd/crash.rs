//! What readers notice when flagsd dies, and what is served when everything else is gone.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use libflags::evaluate::ErrorCode;
use libflags::{Client, Context};

use crate::harness::{Host, number, numbers, read};

#[test]
fn killed_in_the_middle_of_updates_it_is_missed_by_nobody() {
    let host = Host::with_file("flags.json", &number(1));
    let first = host.start();
    let client = host.client();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // Sees values only ever grow, and never its default.
        let readers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let (mut last, mut reads) = (1, 0_u64);
                    while !stop.load(Ordering::Relaxed) {
                        let value = read(&client, "n");
                        assert!(value >= last, "{value} after {last}");
                        last = value;
                        reads += 1;
                    }
                    (last, reads)
                })
            })
            .collect();
        let writer = scope.spawn(|| {
            let mut n = 1;
            while !stop.load(Ordering::Relaxed) {
                n += 1;
                host.write("flags.json", &number(n));
                std::thread::sleep(Duration::from_millis(3));
            }
            n
        });
        let mut daemon = first;
        for round in 0..8 {
            let before = read(&client, "n");
            daemon.wait_for("updates", || read(&client, "n") > before + 2);
            std::thread::sleep(Duration::from_millis(round));
            daemon.kill();
            daemon = host.start();
        }
        stop.store(true, Ordering::Relaxed);
        let written = writer.join().expect("the writer");
        daemon.wait_for("the last update", || read(&client, "n") == written);
        for reader in readers {
            let (last, reads) = reader.join().expect("a reader");
            assert!(last > 1 && reads > 0);
        }
    });
}

#[test]
fn a_restart_publishes_nothing_new_when_nothing_is_new() {
    let host = Host::with_file("flags.json", &number(1));
    let daemon = host.start();
    let generation = daemon.status()["generation"].clone();
    let client = host.client();
    daemon.kill();
    assert_eq!(read(&client, "n"), 1);
    let daemon = host.start();
    assert_eq!(daemon.status()["generation"], generation);
    host.write("flags.json", &number(2));
    daemon.wait_for("the change", || read(&client, "n") == 2);
}

#[test]
fn a_host_that_boots_with_everything_gone_serves_what_it_knew() {
    let mut host = Host::with_file("one.json", &numbers(&[("a", 1)]));
    host.source(&format!("dir:{}", host.path("d").display()));
    fs::create_dir(host.path("d")).expect("made");
    host.write("d/two.yaml", &numbers(&[("b", 2)]));
    let daemon = host.start();
    let generation = daemon.status()["generation"].as_u64().expect("a number");
    daemon.kill();

    // A reboot: the store was in memory, and neither source is there.
    fs::remove_dir_all(host.store()).expect("removed");
    fs::remove_file(host.path("one.json")).expect("removed");
    fs::remove_dir_all(host.path("d")).expect("removed");
    let daemon = host.start();
    let client = host.client();
    assert_eq!((read(&client, "a"), read(&client, "b")), (1, 2));
    let status = daemon.status();
    assert!(status["generation"].as_u64() > Some(generation), "numbers only grow");
    assert_eq!(status["sources"][0]["state"], "missing");
    assert!(daemon.log().contains("publishes last-known-good"), "{}", daemon.log());

    // One source comes back; the other one's flags stay.
    host.write("one.json", &numbers(&[("a", 3)]));
    daemon.wait_for("the change", || read(&client, "a") == 3);
    assert_eq!(read(&client, "b"), 2);
}

/// Killed between publishing and remembering the text, with a source that cannot be read when it comes back.
#[test]
fn nothing_goes_back_to_a_text_older_than_what_is_published() {
    let host = Host::with_file("flags.json", &number(1));
    let daemon = host.start();
    let state = host.path("state/default");
    let names = fs::read_dir(&state).expect("is there").map(|entry| entry.expect("an entry").path());
    let text = names.into_iter().find(|path| path.to_string_lossy().contains("/source-")).expect("a text");
    let old = fs::read(&text).expect("can be read");
    host.write("flags.json", &number(2));
    daemon.wait_for("the text", || fs::read(&text).is_ok_and(|now| now != old) && !state.join("unsettled").exists());
    daemon.kill();
    fs::write(&text, old).expect("written");
    fs::write(state.join("unsettled"), "").expect("written");
    for broken in [Some("{"), None] {
        match broken {
            Some(text) => host.write("flags.json", text),
            None => fs::remove_file(host.path("flags.json")).expect("removed"),
        }
        let daemon = host.start();
        daemon.wait_for_status("a look at the source", |status| status["ready"] == true);
        assert_eq!(
            (read(&host.client(), "n"), daemon.status()["generation"].as_u64()),
            (2, Some(2)),
            "{}",
            daemon.log()
        );
        daemon.kill();
    }
    let daemon = host.start();
    host.write("flags.json", &number(3));
    daemon.wait_for("the change", || read(&host.client(), "n") == 3);
    daemon.wait_for("the text", || !state.join("unsettled").exists());
}

#[test]
fn a_damaged_generation_is_passed_over() {
    let host = Host::with_file("flags.json", &number(1));
    let daemon = host.start();
    host.write("flags.json", &number(2));
    daemon.wait_for_status("two generations", |status| status["kept"].as_array().is_some_and(|kept| kept.len() == 2));
    let newest = daemon.status()["kept"][0]["generation"].as_u64().expect("a number");
    daemon.kill();
    let path = host.path(&format!("state/default/segment-{newest}"));
    let mut bytes = fs::read(&path).expect("is kept");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::remove_file(&path).expect("removed");
    fs::write(&path, bytes).expect("written");
    for entry in fs::read_dir(host.path("state/default")).expect("is there") {
        let path = entry.expect("an entry").path();
        if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("source-")) {
            fs::write(path, "{").expect("written");
        }
    }
    fs::remove_dir_all(host.store()).expect("removed");
    fs::remove_file(host.path("flags.json")).expect("removed");
    let daemon = host.start();
    assert_eq!(read(&host.client(), "n"), 1, "{}", daemon.log());
    assert!(daemon.log().contains("passed over"), "{}", daemon.log());
}

/// A flag `bad` whose value may be none, a flag `good` that says how long that value is, and one that was never right.
fn two(value: &str) -> String {
    let flag = |value: &str| format!(r#"{{"state": "ENABLED", "variants": {{"v": {value}}}, "defaultVariant": "v"}}"#);
    format!(
        r#"{{"flags": {{"bad": {}, "good": {}, "never": {{"state": 7}}}}}}"#,
        flag(value),
        flag(&value.len().to_string())
    )
}

#[test]
fn a_broken_flag_keeps_its_last_good_form_over_a_restart_too() {
    let host = Host::with_file("flags.json", &two("5"));
    let daemon = host.start();
    let client = host.client();
    assert_eq!((read(&client, "bad"), read(&client, "good")), (5, 1));
    // Its neighbours move on.
    host.write("flags.json", &two("null"));
    daemon.wait_for("the neighbour", || read(&client, "good") == 4);
    let check = |client: &Client, daemon: &crate::harness::Daemon| {
        assert_eq!(read(client, "bad"), 5, "{:?}\n{}", daemon.status(), daemon.log());
        let never = client.int_details("never", &Context::anonymous(), 9);
        assert_eq!((never.value, never.error), (9, Some(ErrorCode::ParseError)));
        let status = daemon.status();
        let broken = |key: &str, served: &str| serde_json::json!({"key": key, "served": served});
        assert_eq!(status["broken"], serde_json::json!([broken("bad", "last-good"), broken("never", "parse-error")]));
        assert_eq!(status["broken_count"], 2);
        assert_eq!(status["problems"][0]["flag"], "bad");
        assert_eq!(status["state"], "fresh");
    };
    check(&client, &daemon);
    daemon.kill();
    let daemon = host.start();
    check(&client, &daemon);
    host.write("flags.json", &two("  null"));
    daemon.wait_for("the neighbour", || read(&client, "good") == 6);
    check(&client, &daemon);
    drop(client);
    daemon.kill();
    // Even a reboot does not take it.
    fs::remove_dir_all(host.store()).expect("removed");
    let daemon = host.start();
    check(&host.client(), &daemon);
}

#[test]
fn what_is_no_definition_at_all_is_refused_whole() {
    let host = Host::with_file("flags.json", &number(1));
    let daemon = host.start();
    let client = host.client();
    for text in ["", "not JSON", "{\"flags\": {\"n\": }}", "[1]", "{\"flag\": {}}", "\u{0}"] {
        host.write("flags.json", text);
        daemon.wait_for_status("the error", |status| {
            status["sources"][0]["state"] == "error" && status["sources"][0]["files"][0]["last_good"] == true
        });
        assert_eq!(read(&client, "n"), 1);
        host.write("flags.json", &number(1));
        daemon.wait_for_status("health", |status| status["sources"][0]["state"] == "ok");
    }
    assert_eq!(client.status().generation, 1, "nothing else was ever published");
    let (_, metrics) = daemon.try_get("/metrics").expect("metrics");
    let errors = metrics.lines().find(|line| line.starts_with("flagsd_source_errors_total{")).expect("a counter");
    assert!(errors.ends_with(" 6"), "{errors}");
}
