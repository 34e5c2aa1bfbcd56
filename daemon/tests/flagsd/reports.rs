//! What flagsd tells its control plane that it has published.

use std::time::Duration;

use serde_json::Value;

use crate::control_plane::ControlPlane;
use crate::harness::{Daemon, Host};

fn follow(plane: &ControlPlane) -> Host {
    let mut host = Host::new();
    host.source(&plane.signed_source()).env("FLAGSD_CONTROL__REPORT_MS", "20").env("FLAGSD_CONTROL__HOST", "h1");
    host
}

/// What was last reported.
fn last(plane: &ControlPlane) -> Value {
    plane.shared().reports.last().map_or(Value::Null, |text| serde_json::from_str(text).expect("JSON"))
}

fn counts(daemon: &Daemon) -> (u64, u64) {
    let status = daemon.try_get("/v1/status").expect("a status").1;
    let status: Value = serde_json::from_str(&status).expect("JSON");
    let control = &status["sets"][0]["sources"][0]["control"];
    (control["reports"].as_u64().expect("a number"), control["reports_dropped"].as_u64().expect("a number"))
}

#[test]
fn what_is_published_is_told_with_the_time_of_its_change() {
    let plane = ControlPlane::start(&[("n", 1)]);
    let host = follow(&plane);
    let daemon = host.start();
    daemon.wait_for("a report", || last(&plane)["revision"] == 1);
    let first = last(&plane);
    assert_eq!((&first["host"], &first["set"], &first["epoch"]), (&"h1".into(), &"default".into(), &1.into()));
    assert_eq!((&first["state"], first.get("changedMs")), (&"fresh".into(), None), "a snapshot is no change");
    plane.set("n", 2);
    daemon.wait_for("a report of the change", || last(&plane)["revision"] == 2);
    let second = last(&plane);
    let (changed_ms, published_ns) = (second["changedMs"].as_u64(), second["publishedNs"].as_u64());
    let (changed_ms, published_ns) = (changed_ms.expect("a time"), published_ns.expect("a time"));
    assert!(published_ns / 1_000_000 >= changed_ms && published_ns > first["publishedNs"].as_u64().expect("a time"));
    // What comes at once is told in few words, and the last of it is.
    for n in 3..60 {
        plane.set("n", n);
    }
    daemon.wait_for("a report of the last", || last(&plane)["revision"] == 59);
    daemon.wait_for("all are counted", || counts(&daemon) == (plane.shared().reports.len() as u64, 0));
}

#[test]
fn what_is_held_or_rolled_back_is_not_passed_off_as_published() {
    let plane = ControlPlane::start(&[("n", 1)]);
    let host = follow(&plane);
    let daemon = host.start();
    daemon.wait_for("a report", || last(&plane)["revision"] == 1);
    plane.set("n", 2);
    daemon.wait_for("a report of the change", || last(&plane)["revision"] == 2);
    daemon.tell("POST", "/rollback", "");
    daemon.wait_for("a report of what is back", || last(&plane)["revision"] == 1);
    plane.set("n", 3);
    daemon.wait_for_status("it waits", |status| status["changes_waiting"] == true);
    assert_eq!(last(&plane)["revision"], 1);
    daemon.tell("POST", "/unfreeze", "");
    daemon.wait_for("a report of all", || last(&plane)["revision"] == 3);
}

#[test]
fn flags_come_although_nobody_takes_reports() {
    let plane = ControlPlane::start(&[("n", 1)]);
    // Once there is no such thing, and then somebody who does not answer at all.
    for (round, status) in [(0, 404), (1, 405), (2, 0)] {
        plane.shared().report_answer = Some(status);
        plane.shared().asked_to_take = 0;
        let host = follow(&plane);
        let daemon = host.start();
        daemon.wait_for("a report", || plane.shared().asked_to_take == 1);
        let client = host.client();
        for n in 10 * round + 1..10 * round + 5 {
            plane.set("n", n);
            daemon.wait_for("the change", || crate::harness::read(&client, "n") == n);
            std::thread::sleep(Duration::from_millis(50));
        }
        assert_eq!(plane.shared().asked_to_take, 1, "status {status}");
        if status != 0 {
            daemon.wait_for("it is counted", || counts(&daemon) == (0, 1));
            let said = daemon.log().matches("nobody there takes reports").count();
            assert_eq!(said, 1, "{}", daemon.log());
        }
    }
}

#[test]
fn where_it_is_off_nothing_is_told() {
    let plane = ControlPlane::start(&[("n", 1)]);
    let mut host = follow(&plane);
    host.env("FLAGSD_CONTROL__REPORT_MS", "0");
    let daemon = host.start();
    daemon.wait_for_status("the revision", |status| status["revision"] == 1);
    plane.set("n", 2);
    daemon.wait_for_status("the change", |status| status["revision"] == 2);
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!((plane.shared().asked_to_take, counts(&daemon)), (0, (0, 0)));
}
