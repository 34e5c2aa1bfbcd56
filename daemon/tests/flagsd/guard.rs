//! Changes that take too much away.

use libflags::Context;

use crate::harness::{Host, many};

#[test]
fn a_change_that_takes_most_flags_away_is_held_until_confirmed() {
    let host = Host::with_file("flags.json", &many(20, 0));
    let daemon = host.start();
    let client = host.client();
    let count = || (0..20).filter(|n| client.bool(format!("f{n}"), &Context::anonymous(), false)).count();
    assert_eq!(count(), 20);

    host.write("flags.json", &many(8, 2));
    let status = daemon.wait_for_status("the change to be held", |status| !status["held"].is_null());
    let held = &status["held"];
    assert_eq!((&held["removed_count"], &held["disabled_count"]), (&12.into(), &2.into()));
    assert_eq!((&held["flags_before"], &held["flags_after"]), (&20.into(), &8.into()));
    assert_eq!(held["disabled"], serde_json::json!(["f0", "f1"]));
    assert_eq!(held["removed"][0], "f10");
    assert!(held["reason"].as_str().is_some_and(|reason| reason.contains("50 %")), "{held}");
    assert_eq!(count(), 20);
    let generation = status["generation"].clone();

    // A restart does not let it through.
    daemon.kill();
    let daemon = host.start();
    let status = daemon.status();
    assert_eq!((&status["held"]["removed_count"], &status["generation"]), (&12.into(), &generation));
    assert_eq!(count(), 20);

    // Not even one after a reboot.
    daemon.kill();
    std::fs::remove_dir_all(host.store()).expect("removed");
    let daemon = host.start();
    assert_eq!(daemon.status()["held"]["removed_count"], 12);
    daemon.wait_for("the client to follow", || {
        client.status().generation == daemon.status()["generation"].as_u64().unwrap_or(0)
    });
    assert_eq!(count(), 20);

    // A local value does not let it through either.
    assert_eq!(daemon.tell("PUT", "/overrides/f19", r#"{"value": "off"}"#).0, 200);
    daemon.wait_for("the override", || count() == 19);
    assert_eq!(daemon.status()["held"]["removed_count"], 12);
    assert_eq!(daemon.tell("DELETE", "/overrides/f19", "").0, 200);

    let (code, answer) = daemon.tell("POST", "/confirm", "");
    assert_eq!(code, 200, "{answer}");
    daemon.wait_for("the change", || count() == 6);
    assert_eq!(daemon.status()["held"], serde_json::Value::Null);
    assert_eq!(daemon.tell("POST", "/confirm", "").0, 409);
}

#[test]
fn other_definitions_take_a_held_change_back() {
    let host = Host::with_file("flags.json", &many(20, 0));
    let daemon = host.start();
    host.write("flags.json", &many(20, 11));
    daemon.wait_for_status("the change to be held", |status| status["held"]["disabled_count"] == 11);
    host.write("flags.json", &many(20, 10));
    let status = daemon.wait_for_status("the change", |status| status["generation"] == 2);
    assert_eq!(status["held"], serde_json::Value::Null);
    let (_, metrics) = daemon.try_get("/metrics").expect("metrics");
    assert!(metrics.contains("flagsd_held_total{set=\"default\"} 1\n"), "{metrics}");
}

#[test]
fn how_much_may_go_is_configurable() {
    let mut host = Host::with_file("flags.json", &many(20, 0));
    host.env("FLAGSD_GUARD__MAX_LOSS_PERCENT", "100");
    let daemon = host.start();
    host.write("flags.json", r#"{"flags": {}}"#);
    daemon.wait_for_status("nothing left", |status| status["flags"] == 0 && status["generation"] == 2);
}
