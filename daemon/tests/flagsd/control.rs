//! The control plane as a source.

use std::fs;
use std::process::Command;
use std::time::Duration;

use flags_sync::{Change, Event, EventId, SecretKey, Snapshot};
use serde_json::Value;

use crate::control_plane::{ControlPlane, flag, stamp};
use crate::harness::{Daemon, Host, number, read};

fn follow(plane: &ControlPlane) -> Host {
    let mut host = Host::new();
    host.source(&plane.signed_source()).env("FLAGSD_CONTROL__POLL_MS", "100");
    host
}

fn wait_for_value(host: &Host, daemon: &Daemon, key: &str, value: i64) {
    daemon.wait_for_status("something published", |status| status["generation"] != 0);
    let client = host.client();
    daemon.wait_for(&format!("{key} = {value}"), || read(&client, key) == value);
}

fn control(status: &Value) -> &Value {
    &status["sources"][0]["control"]
}

fn is_followed(status: &Value) -> bool {
    control(status)["connection"] == "stream"
}

/// A snapshot of the flag `n` alone, as an event.
fn snapshot_event(n: i64, epoch: u64, revision: u64, environment: &str, key: &SecretKey) -> String {
    let mut stamp = stamp(epoch, revision);
    stamp.environment = environment.to_owned();
    let flags = [("n".to_owned(), flag(n))].into();
    let (evaluators, lists, metadata) = Default::default();
    let text = Snapshot { stamp, flags, evaluators, lists, metadata }.seal(key);
    Event::Snapshot(&text).to_wire(EventId { epoch, revision })
}

#[test]
fn a_change_reaches_a_reader_and_takes_its_revision_along() {
    let plane = ControlPlane::start(&[("n", 1), ("other", 5)]);
    let host = follow(&plane);
    let daemon = host.start();
    wait_for_value(&host, &daemon, "n", 1);
    let client = host.client();
    for n in 2..20 {
        plane.set("n", n);
        daemon.wait_for("the change", || read(&client, "n") == n);
    }
    plane.change(&[], &["other".to_owned()], false);
    daemon.wait_for("the removal", || read(&client, "other") == -1);
    let status = daemon.wait_for_status("the position", |status| control(status)["position"] == "1.20");
    assert_eq!((&status["revision"], &status["state"]), (&20.into(), &"fresh".into()), "{status}");
    assert_eq!((control(&status)["signed"].clone(), is_followed(&status)), (true.into(), true));
    assert_eq!(client.status().revision, 20);
    let (_, metrics) = daemon.try_get("/metrics").expect("metrics");
    let label = format!("{{set=\"default\",source=\"{}\"}}", plane.source("").trim_end_matches('?'));
    for line in [
        "flagsd_revision{set=\"default\"} 20".to_owned(),
        format!("flagsd_source_stream{label} 1"),
        format!("flagsd_source_revision{label} 20"),
        "flagsd_propagation_seconds_count{set=\"default\"} 19".to_owned(),
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line} is missing in\n{metrics}");
    }
    assert_eq!(plane.streams().len(), 1, "one connection for all of it");
}

#[test]
fn one_changed_flag_of_many_leaves_the_others_alone() {
    const MANY: usize = 10_000;
    let keys: Vec<String> = (0..MANY).map(|n| format!("flag-{n}")).collect();
    let flags: Vec<(&str, i64)> = keys.iter().map(|key| (key.as_str(), 1)).collect();
    let plane = ControlPlane::start(&flags);
    let mut host = follow(&plane);
    // In the same set as a file, whose flags win.
    host.write("flags.json", &number(7));
    host.source(&format!("file:{}", host.path("flags.json").display()));
    let daemon = host.start();
    wait_for_value(&host, &daemon, "flag-5000", 1);
    wait_for_value(&host, &daemon, "n", 7);
    let before = daemon.status()["generation"].as_u64().expect("a number");
    plane.set("flag-5000", 2);
    wait_for_value(&host, &daemon, "flag-5000", 2);
    let log = daemon.log();
    let published = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let published = published.filter(|line| line["message"] == "published" && line["generation"] == before + 1);
    let changed: Vec<Value> = published.map(|line| line["changed"].clone()).collect();
    assert_eq!(changed, [Value::from(1)], "{log}");
    // The file's flag goes on winning over the control plane's.
    plane.set("n", 3);
    daemon.wait_for_status("the change", |status| status["revision"] == 3);
    assert_eq!(read(&host.client(), "n"), 7);
}

#[test]
fn a_cut_stream_goes_on_where_it_was() {
    let plane = ControlPlane::start(&[("n", 1)]);
    let host = follow(&plane);
    let daemon = host.start();
    wait_for_value(&host, &daemon, "n", 1);
    for n in 2..6 {
        let at = plane.position();
        let before = plane.streams().len();
        plane.cut();
        plane.set("n", n);
        wait_for_value(&host, &daemon, "n", n);
        let streams = plane.streams();
        assert_eq!(streams.len(), before + 1);
        assert_eq!(streams[before].last_event_id.as_deref(), Some(at.as_str()));
    }
    assert_eq!(plane.shared().most_open, 1, "one connection at a time");
}

#[test]
fn where_changes_are_missing_it_begins_anew() {
    let plane = ControlPlane::start(&[("n", 1)]);
    let host = follow(&plane);
    let daemon = host.start();
    wait_for_value(&host, &daemon, "n", 1);
    let change = Change {
        stamp: stamp(1, 9),
        after: 8,
        after_mark: None,
        deliberate: false,
        flags: [("n".to_owned(), flag(99))].into(),
        removed: Vec::new(),
        evaluators: None,
        lists: Default::default(),
        metadata: None,
    };
    plane.inject(Event::Change(&change.seal(&plane.key)).to_wire(EventId { epoch: 1, revision: 9 }));
    daemon.wait_for("a stream from the beginning", || {
        plane.streams().len() > 1 && plane.streams().last().is_some_and(|stream| stream.last_event_id.is_none())
    });
    plane.set("n", 2);
    wait_for_value(&host, &daemon, "n", 2);
    // The same where the server says by its heartbeat that something is missing.
    let before = plane.streams().len();
    plane.inject(Event::Current.to_wire(EventId { epoch: 1, revision: 50 }));
    daemon.wait_for("another one", || plane.streams().iter().skip(before).any(|s| s.last_event_id.is_none()));
    let status = daemon.wait_for_status("it to be followed", is_followed);
    assert!(control(&status)["last_error"]["reason"].as_str().is_some_and(|why| why.contains("1.50")), "{status}");
    assert_eq!(plane.shared().most_open, 1);
}

#[test]
fn what_the_control_plane_lost_is_noticed_once_its_numbers_are_used_again() {
    let mut plane = ControlPlane::start(&[("n", 1)]);
    let host = follow(&plane);
    let daemon = host.start();
    let before = plane.shared().snapshot.clone().expect("is there");
    plane.set("n", 2);
    wait_for_value(&host, &daemon, "n", 2);
    plane.stop();
    plane.lose_all_after(before);
    // The same number, then the next one, which says nothing of `n`.
    plane.set("n", 3);
    plane.set("other", 4);
    plane.listen();
    wait_for_value(&host, &daemon, "other", 4);
    wait_for_value(&host, &daemon, "n", 3);
    let status = daemon.wait_for_status("it to be followed", is_followed);
    let reason = control(&status)["last_error"]["reason"].as_str().unwrap_or_default().to_owned();
    assert!(reason.contains("another revision 1.2"), "{status}");
}

#[test]
fn what_is_refused_changes_nothing_and_is_said() {
    let plane = ControlPlane::start(&[("n", 1)]);
    let mut host = follow(&plane);
    host.env("FLAGSD_LIMITS__DOCUMENT_BYTES", "20000");
    let daemon = host.start();
    wait_for_value(&host, &daemon, "n", 1);
    plane.set("n", 2);
    wait_for_value(&host, &daemon, "n", 2);
    let other = SecretKey::from_seed(&[8; 32]);
    let good = snapshot_event(9, 1, 9, "shop/production", &plane.key);
    let cases = [
        (snapshot_event(9, 1, 9, "shop/production", &other), "signature"),
        (snapshot_event(9, 1, 9, "shop/test", &plane.key), "shop/test"),
        (snapshot_event(9, 1, 1, "shop/production", &plane.key), "older than 1.2"),
        (good.replace("\"n\"", "\"m\""), "signature"),
        (format!("{}\n\n", good.trim_end().trim_end_matches('}')), "torn"),
        (good.replace("event: snapshot", "event: change"), "signature"),
        (format!("event: snapshot\ndata: {}", "x".repeat(30_000)), "the limit"),
        ("event: snapshot\ndata: x\n\n".to_owned(), "torn"),
    ];
    let mut refused = 0;
    for (wire, words) in cases {
        daemon.wait_for_status("it to be followed", |status| {
            is_followed(status) && status["sources"][0]["state"] == "ok"
        });
        plane.inject(wire);
        let status = daemon.wait_for_status(words, |status| {
            control(status)["refused"].as_u64() > Some(refused)
                && control(status)["last_error"]["reason"].as_str().is_some_and(|why| why.contains(words))
        });
        refused = control(&status)["refused"].as_u64().expect("a number");
        assert_eq!((read(&host.client(), "n"), &status["revision"]), (2, &2.into()), "{words}");
    }
    plane.set("n", 3);
    wait_for_value(&host, &daemon, "n", 3);
}

#[test]
fn who_is_sent_away_comes_back_when_it_may_and_never_shows_its_token() {
    const TOKEN: &str = "tok-sixteen-apples";
    let plane = ControlPlane::start(&[("n", 1)]);
    plane.shared().token = Some(TOKEN.to_owned());
    let mut host = Host::new();
    host.write("token", "tok-wrong-one\n");
    let file = format!("token-file={}", host.path("token").display());
    host.source(&plane.source(&file)).env("FLAGSD_CONTROL__POLL_MS", "100");
    let daemon = host.start();
    let status = daemon.wait_for_status("the refusal", |status| {
        status["sources"][0]["error"].as_str().is_some_and(|error| error.contains("401"))
    });
    assert_eq!((&status["sources"][0]["state"], &status["ready"]), (&"error".into(), &false.into()));
    // Rotated: read anew for each connection.
    host.write("token", TOKEN);
    wait_for_value(&host, &daemon, "n", 1);
    plane.shared().token = Some("tok-the-next".to_owned());
    host.write("token", "tok-the-next");
    plane.cut();
    plane.set("n", 2);
    wait_for_value(&host, &daemon, "n", 2);
    for secret in [TOKEN, "tok-wrong-one", "tok-the-next"] {
        assert!(!daemon.log().contains(secret));
        assert!(!daemon.try_get("/v1/status").expect("an answer").1.contains(secret));
    }

    let away = Some((503, "retry-after: 1\r\n"));
    (plane.shared().stream_answer, plane.shared().snapshot_answer) = (away, away);
    plane.cut();
    let sent_away = |plane: &ControlPlane| plane.shared().requests.iter().filter(|r| r.status == 503).count();
    daemon.wait_for("three refusals", || sent_away(&plane) > 2);
    let times: Vec<_> = plane.shared().requests.iter().filter(|r| r.status == 503).map(|r| r.at).collect();
    for pair in times.chunks(2).collect::<Vec<_>>().windows(2) {
        // Of each pair one may be the stream, one the snapshot.
        assert!(pair[1][0] - pair[0][0] >= Duration::from_millis(900), "{times:?}");
    }
    (plane.shared().stream_answer, plane.shared().snapshot_answer) = (None, None);
    plane.set("n", 3);
    wait_for_value(&host, &daemon, "n", 3);
    assert_eq!(plane.shared().most_open, 1);
}

#[test]
fn a_plain_file_server_is_enough() {
    let plane = ControlPlane::start(&[("n", 1)]);
    plane.shared().stream_answer = Some((404, ""));
    let host = follow(&plane);
    let daemon = host.start();
    wait_for_value(&host, &daemon, "n", 1);
    let status = daemon.wait_for_status("it to be polled", |status| control(status)["connection"] == "polling");
    assert_eq!((&status["sources"][0]["state"], &status["state"]), (&"ok".into(), &"fresh".into()), "{status}");
    plane.set("n", 2);
    wait_for_value(&host, &daemon, "n", 2);
    daemon.wait_for("an answer of nothing new", || plane.shared().requests.iter().any(|r| r.status == 304));
    // What was refused is not remembered as known.
    let torn = plane.shared().snapshot.as_ref().expect("is there").seal(&plane.key);
    plane.shared().snapshot_text = Some(torn[..torn.len() / 2].to_owned());
    plane.set("n", 4);
    daemon.wait_for_status("the refusal", |status| control(status)["refused"].as_u64() > Some(1));
    assert_eq!(read(&host.client(), "n"), 2);
    plane.shared().snapshot_text = None;
    wait_for_value(&host, &daemon, "n", 4);
    assert!(plane.shared().requests.iter().filter(|r| r.if_none_match.is_some()).count() > 1);
    // Back to the stream once there is one.
    plane.shared().stream_answer = None;
    daemon.tell("POST", "/reload", "");
    daemon.wait_for_status("the stream", is_followed);
    assert_eq!(plane.shared().most_open, 1);
}

#[test]
fn a_host_that_boots_without_it_serves_what_it_knew_and_takes_nothing_older() {
    let mut plane = ControlPlane::start(&[("n", 1)]);
    let mut host = follow(&plane);
    host.env("FLAGSD_MAX_AGE_MS", "500");
    let daemon = host.start();
    wait_for_value(&host, &daemon, "n", 1);
    let old = plane.shared().snapshot.clone();
    plane.set("n", 2);
    wait_for_value(&host, &daemon, "n", 2);
    plane.stop();
    // Alone, it goes on and grows old.
    let status = daemon.wait_for_status("staleness", |status| status["state"] == "stale");
    assert_eq!(status["sources"][0]["state"], "error", "{status}");
    daemon.kill();
    fs::remove_dir_all(host.store()).expect("removed");

    let daemon = host.start();
    wait_for_value(&host, &daemon, "n", 2);
    let status = daemon.status();
    assert_eq!((&status["revision"], &status["ready"]), (&2.into(), &true.into()), "{status}");
    // It comes back with an older state, signed well.
    let new = std::mem::replace(&mut plane.shared().snapshot, old);
    plane.listen();
    let status = daemon.wait_for_status("the refusal", |status| control(status)["refused"].as_u64() > Some(0));
    assert!(status["sources"][0]["error"].as_str().is_some_and(|why| why.contains("older than 1.2")), "{status}");
    assert_eq!(read(&host.client(), "n"), 2);
    plane.shared().snapshot = new;
    plane.cut();
    daemon.wait_for_status("freshness", |status| status["state"] == "fresh" && is_followed(status));
    plane.set("n", 3);
    wait_for_value(&host, &daemon, "n", 3);
}

#[test]
fn both_may_be_killed_and_it_catches_up_by_changes() {
    let mut plane = ControlPlane::start(&[("n", 1)]);
    let host = follow(&plane);
    let mut daemon = host.start();
    wait_for_value(&host, &daemon, "n", 1);
    for round in 1..4 {
        plane.stop();
        for n in 1..4 {
            plane.set("n", round * 10 + n);
        }
        if round == 2 {
            daemon.kill();
            daemon = host.start();
        }
        plane.listen();
        wait_for_value(&host, &daemon, "n", round * 10 + 3);
    }
    let from_the_beginning = plane.streams().iter().filter(|stream| stream.last_event_id.is_none()).count();
    assert_eq!((from_the_beginning, plane.shared().most_open), (1, 1));
    assert!(plane.shared().requests.iter().all(|request| request.what == "stream"), "never all of it by a snapshot");
}

#[test]
fn where_only_something_before_it_answers_the_stream_is_tried_before_each_snapshot() {
    let plane = ControlPlane::start(&[("n", 1)]);
    let host = follow(&plane);
    let daemon = host.start();
    wait_for_value(&host, &daemon, "n", 1);
    for (round, head) in ["", "retry-after: 0\r\n"].into_iter().enumerate() {
        let before = plane.shared().requests.len();
        let away = Some((502, head));
        (plane.shared().stream_answer, plane.shared().snapshot_answer) = (away, away);
        plane.cut();
        let snapshots = |plane: &ControlPlane| {
            plane.shared().requests.iter().skip(before).filter(|request| request.what == "snapshot").count()
        };
        daemon.wait_for("it to be asked for", || snapshots(&plane) >= 4);
        let asked: Vec<String> = plane.shared().requests.iter().skip(before).map(|r| r.what.clone()).collect();
        assert!(asked.windows(2).all(|pair| pair.iter().any(|what| what == "stream")), "{asked:?}");
        // There again, it gives what was missed to whom takes the stream.
        let n = 10 + i64::try_from(round).expect("small");
        let at = plane.position();
        plane.set("n", n);
        let since = plane.shared().requests.len();
        (plane.shared().stream_answer, plane.shared().snapshot_answer) = (None, Some((500, "")));
        wait_for_value(&host, &daemon, "n", n);
        let resumed = plane.shared().requests.iter().skip(since).find(|request| request.status == 200).cloned();
        assert_eq!(resumed.and_then(|request| request.last_event_id), Some(at));
        daemon.wait_for_status("the stream", is_followed);
    }
}

#[test]
fn a_control_plane_that_has_just_started_is_waited_for_and_not_polled() {
    let mut plane = ControlPlane::start(&[("n", 1)]);
    let host = follow(&plane);
    let daemon = host.start();
    wait_for_value(&host, &daemon, "n", 1);
    plane.stop();
    plane.set("n", 2);
    let starting = Some((503, "retry-after: 1\r\n"));
    (plane.shared().stream_answer, plane.shared().snapshot_answer) = (starting, starting);
    plane.listen();
    daemon.wait_for("a try", || plane.shared().requests.iter().any(|request| request.status == 503));
    (plane.shared().stream_answer, plane.shared().snapshot_answer) = (None, None);
    wait_for_value(&host, &daemon, "n", 2);
    let requests = plane.shared().requests.clone();
    assert!(requests.iter().all(|request| request.what == "stream"), "{requests:?}");
    assert_eq!(requests.last().and_then(|request| request.last_event_id.as_deref()), Some("1.1"));
}

#[test]
fn what_is_remembered_is_a_text_and_the_changes_since() {
    let mut plane = ControlPlane::start(&[("n", 1), ("gone", 1)]);
    let host = follow(&plane);
    let daemon = host.start();
    wait_for_value(&host, &daemon, "n", 1);
    let remembered = |start: &str| {
        let names =
            fs::read_dir(host.path("state/default")).expect("is there").map(|entry| entry.expect("an entry").path());
        let is_it =
            |path: &std::path::PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(start));
        names.into_iter().find(is_it)
    };
    let text = fs::read(remembered("source-").expect("a text")).expect("can be read");
    for n in 2..=5 {
        plane.set("n", n);
        wait_for_value(&host, &daemon, "n", n);
    }
    plane.change(&[], &["gone".to_owned()], false);
    daemon.wait_for_status("the last", |status| status["revision"] == 6);
    daemon.wait_for("all of it", || remembered("unsettled").is_none());
    assert_eq!(fs::read(remembered("source-").expect("a text")).expect("can be read"), text, "written once");
    let changes = remembered("changes-").expect("the changes");
    assert_eq!(fs::read_to_string(&changes).expect("can be read").lines().count(), 5);
    daemon.kill();
    // As if it had been killed while it wrote the next one.
    let torn = fs::read_to_string(&changes).expect("can be read") + r#"{"$sync":{"environment":"shop/prod"#;
    fs::write(&changes, torn).expect("written");
    plane.stop();
    fs::remove_dir_all(host.store()).expect("removed");
    let daemon = host.start();
    wait_for_value(&host, &daemon, "n", 5);
    let status = daemon.status();
    assert_eq!((&control(&status)["position"], &status["flags"]), (&"1.6".into(), &1.into()), "{status}");
    plane.listen();
    plane.set("n", 6);
    wait_for_value(&host, &daemon, "n", 6);
    assert_eq!(plane.streams().last().and_then(|request| request.last_event_id.clone()).as_deref(), Some("1.6"));
}

#[test]
fn a_silent_stream_is_given_up() {
    let plane = ControlPlane::start(&[("n", 1)]);
    plane.shared().silent = true;
    let mut host = follow(&plane);
    host.env("FLAGSD_CONTROL__IDLE_MS", "200");
    let daemon = host.start();
    daemon.wait_for("another stream", || plane.streams().len() > 2);
    assert!(plane.streams().iter().skip(1).all(|stream| stream.last_event_id.as_deref() == Some("1.1")));
    // Comments keep no stream alive.
    let streams = plane.streams().len();
    for _ in 0..200 {
        plane.inject(":\n".to_owned());
        std::thread::sleep(Duration::from_millis(2));
    }
    daemon.wait_for("one more", || plane.streams().len() > streams);
    assert_eq!(plane.shared().most_open, 1);
}

#[test]
fn a_change_that_takes_much_away_is_held_unless_it_is_deliberate() {
    let keys: Vec<String> = (0..20).map(|n| format!("flag-{n}")).collect();
    let flags: Vec<(&str, i64)> = keys.iter().map(|key| (key.as_str(), 1)).collect();
    let plane = ControlPlane::start(&flags);
    let host = follow(&plane);
    let daemon = host.start();
    wait_for_value(&host, &daemon, "flag-19", 1);
    plane.change(&[], &keys[..15], false);
    let status = daemon.wait_for_status("it to be held", |status| !status["held"].is_null());
    assert_eq!((&status["held"]["removed_count"], &status["revision"]), (&15.into(), &1.into()));
    // A small deliberate change does not let a large one through.
    plane.change(&[("flag-19", flag(2))], &[], true);
    daemon.wait_for_status("its arrival", |status| control(status)["position"] == "1.3");
    assert!(!daemon.status()["held"].is_null());
    assert_eq!(read(&host.client(), "flag-0"), 1);
    // Taken back, nothing is held any more.
    let back: Vec<_> = keys[..15].iter().map(|key| (key.as_str(), flag(1))).collect();
    plane.change(&back, &[], false);
    daemon.wait_for_status("nothing held", |status| status["held"].is_null() && status["revision"] == 4);
    plane.change(&[], &keys[..15], true);
    daemon.wait_for_status("the removal", |status| status["flags"] == 5);
    assert!(daemon.status()["held"].is_null());
}

#[test]
fn who_missed_changes_takes_what_was_deliberate_in_them_and_holds_the_rest() {
    let keys: Vec<String> = (0..20).map(|n| format!("flag-{n}")).collect();
    let flags: Vec<(&str, i64)> = keys.iter().map(|key| (key.as_str(), 1)).collect();
    // (what goes deliberately and what does not, while nobody looks; whether anybody counts; what is held)
    for (deliberate, not, counts, held) in [
        (0..15, 0..0, true, false),
        (0..15, 15..18, true, false),
        (0..5, 5..16, true, true),
        (0..0, 0..15, true, true),
        (0..15, 0..0, false, true),
    ] {
        let told = format!("{deliberate:?} deliberate, {not:?} not, counted: {counts}");
        let mut plane = ControlPlane::start(&flags);
        if !counts {
            plane.shared().snapshot.as_mut().expect("is there").stamp.lost = None;
        }
        // A plain file server: there is no stream.
        plane.shared().stream_answer = Some((404, ""));
        let host = follow(&plane);
        let mut daemon = host.start();
        wait_for_value(&host, &daemon, "flag-19", 1);
        daemon.wait_for("the text", || !host.path("state/default/unsettled").exists());
        plane.stop();
        if held {
            // Over a restart too: the count is in what is remembered.
            daemon.kill();
            daemon = host.start();
        }
        if !deliberate.is_empty() {
            plane.change(&[], &keys[deliberate.clone()], true);
        }
        if !not.is_empty() {
            plane.change(&[], &keys[not.clone()], false);
        }
        plane.change(&[("flag-19", flag(2))], &[], false);
        plane.listen();
        daemon.tell("POST", "/reload", "");
        let status = daemon.wait_for_status(&told, |status| status["flags"] != 20 || !status["held"].is_null());
        assert_eq!(!status["held"].is_null(), held, "{told}: {status}");
        let left = if held { 20 } else { 20 - deliberate.len() - not.len() };
        assert_eq!(status["flags"], left, "{told}");
    }
}

#[test]
fn over_tls_only_whom_the_authority_vouches_for_is_believed() {
    let mut host = Host::new();
    let make = |name: &str| {
        let (key, certificate) = (host.path(&format!("{name}.key")), host.path(&format!("{name}.pem")));
        let mut command = Command::new("openssl");
        command.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]);
        command.args(["-days", "2", "-subj", "/CN=flags", "-addext", "subjectAltName=IP:127.0.0.1"]);
        command
            .args(["-addext", "basicConstraints=critical,CA:FALSE", "-keyout"])
            .arg(&key)
            .arg("-out")
            .arg(&certificate);
        command.output().is_ok_and(|output| output.status.success()).then_some((key, certificate))
    };
    let (Some((key, certificate)), Some((_, other))) = (make("a"), make("b")) else {
        println!("skipped: openssl makes no certificate");
        return;
    };
    let plane = ControlPlane::start_with(&[("n", 1)], Some((&certificate, &key)));
    fs::copy(&other, host.path("ca.pem")).expect("copied");
    let source = plane.source(&format!("ca-file={}", host.path("ca.pem").display()));
    host.source(&source).env("FLAGSD_CONTROL__POLL_MS", "100");
    let daemon = host.start();
    daemon.wait_for_status("the refusal", |status| {
        status["sources"][0]["error"]
            .as_str()
            .is_some_and(|error| error.contains("TLS") && error.contains("certificate"))
    });
    assert_eq!(daemon.status()["generation"], 0);
    drop(daemon);
    fs::copy(&certificate, host.path("ca.pem")).expect("copied");
    let daemon = host.start();
    wait_for_value(&host, &daemon, "n", 1);
    plane.set("n", 2);
    wait_for_value(&host, &daemon, "n", 2);
}
