//! What an operator can do.

use libflags::Context;
use libflags::definition::flag::Scalar;
use serde_json::{Value, json};

use crate::harness::{Host, number, read};

#[test]
fn a_rollback_brings_old_content_back_and_stays_until_unfrozen() {
    let host = Host::with_file("flags.json", &number(1));
    let daemon = host.start();
    let client = host.client();
    for n in 2..5 {
        host.write("flags.json", &number(n));
        daemon.wait_for("the change", || read(&client, "n") == n);
    }
    let generation = client.status().generation;
    let (code, answer) = daemon.tell("POST", "/rollback", "");
    assert_eq!((code, &answer["content_of"]), (200, &(generation - 1).into()), "{answer}");
    daemon.wait_for("the old content", || read(&client, "n") == 3);
    assert_eq!(client.status().generation, generation + 1, "generations never go back");
    let status = daemon.status();
    assert_eq!((&status["state"], &status["frozen"]["by"]), (&"frozen".into(), &"rollback".into()));
    assert_eq!(status["changes_waiting"], true);

    let (code, answer) = daemon.tell("POST", "/rollback", r#"{"generation": 1}"#);
    assert_eq!(code, 200, "{answer}");
    daemon.wait_for("the oldest content", || read(&client, "n") == 1);
    let (code, answer) = daemon.tell("POST", "/rollback", r#"{"generation": 77}"#);
    assert_eq!(code, 404);
    assert!(answer["detail"].as_str().is_some_and(|detail| detail.contains("77 is not kept")), "{answer}");
    assert_eq!(daemon.tell("POST", "/rollback", r#"{"generatoin": 1}"#).0, 400);
    // Which definitions are in force is not known, so no flag can be changed alone.
    assert_eq!(daemon.tell("PUT", "/overrides/n", r#"{"value": 9}"#).0, 409);

    // Neither a change nor a restart ends it.
    host.write("flags.json", &number(9));
    daemon.kill();
    let daemon = host.start();
    assert_eq!((&daemon.status()["frozen"]["by"], read(&client, "n")), (&json!("rollback"), 1));
    assert_eq!(daemon.tell("POST", "/unfreeze", "").0, 200);
    daemon.wait_for("what the source says", || read(&client, "n") == 9);
    assert_eq!(daemon.status()["frozen"], Value::Null);
}

#[test]
fn frozen_it_follows_no_source_until_unfrozen() {
    let host = Host::with_file("flags.json", &number(1));
    let daemon = host.start();
    let client = host.client();
    assert_eq!(daemon.tell("POST", "/freeze", "").0, 200);
    assert_eq!(daemon.status()["changes_waiting"], false);
    host.write("flags.json", &number(2));
    daemon.wait_for_status("the change to wait", |status| status["changes_waiting"] == true);
    assert_eq!(read(&client, "n"), 1);
    // A local value works all the same, on top of what is in force.
    assert_eq!(daemon.tell("PUT", "/overrides/n", r#"{"value": 7}"#).0, 200);
    daemon.wait_for("the override", || read(&client, "n") == 7);
    assert_eq!(daemon.tell("DELETE", "/overrides/n", "").0, 200);
    daemon.wait_for("the frozen value", || read(&client, "n") == 1);
    host.write("flags.json", &number(1));
    daemon.wait_for_status("no change to wait", |status| status["changes_waiting"] == false);
    daemon.kill();
    let daemon = host.start();
    assert_eq!(daemon.status()["changes_waiting"], false);
    host.write("flags.json", &number(2));
    daemon.wait_for_status("the change to wait", |status| status["changes_waiting"] == true);
    assert_eq!(daemon.tell("PUT", "/overrides/n", r#"{"value": 8}"#).0, 200);
    daemon.wait_for("the override", || read(&client, "n") == 8);
    assert_eq!(daemon.tell("DELETE", "/overrides/n", "").0, 200);
    daemon.kill();
    let daemon = host.start();
    assert_eq!((&daemon.status()["state"], read(&client, "n")), (&json!("frozen"), 1));
    assert_eq!(daemon.tell("POST", "/unfreeze", "").0, 200);
    daemon.wait_for("the change", || read(&client, "n") == 2);
    assert_eq!(daemon.status()["state"], "fresh");
}

#[test]
fn an_override_holds_over_changes_and_restarts_until_cleared() {
    let definition = |n: i64| {
        format!(
            r##"{{"metadata": {{"team": "shop"}}, "flags": {{"color": {{"state": "DISABLED", "defaultVariant": "red",
                "variants": {{"red": "#f00", "blue": "#00f"}}, "targeting": {{"if": [true, "red"]}}}},
                "n": {{"state": "ENABLED", "variants": {{"v": {n}}}, "defaultVariant": "v"}}}}}}"##
        )
    };
    let host = Host::with_file("flags.json", &definition(1));
    let daemon = host.start();
    let client = host.client();
    let color = || client.string("color", &Context::anonymous(), "none");
    assert_eq!(color(), "none");

    let put = |daemon: &crate::harness::Daemon, key: &str, value: Value| {
        daemon.tell("PUT", &format!("/overrides/{key}"), &json!({ "value": value }).to_string())
    };
    assert_eq!(put(&daemon, "color", json!("blue")).0, 200);
    daemon.wait_for("the variant", || color() == "#00f");
    let details = client.string_details("color", &Context::anonymous(), "none");
    assert!(details.metadata.contains(&("flagd.override".to_owned(), Scalar::Bool(true))), "{details:?}");
    assert!(details.metadata.contains(&("team".to_owned(), Scalar::Text("shop".to_owned()))), "{details:?}");
    assert_eq!(put(&daemon, "color", json!("#0f0")).0, 200);
    daemon.wait_for("the value", || color() == "#0f0");
    let status = daemon.status();
    assert_eq!((&status["overrides"][0]["key"], &status["overrides"][0]["value"]), (&"color".into(), &"#0f0".into()));

    for (key, value, code, words) in [
        ("color", json!(3), 422, "text or one of its variants"),
        ("n", json!("many"), 422, "a number"),
        ("absent", json!(1), 422, "no source defines a flag `absent`"),
    ] {
        let (found, answer) = put(&daemon, key, value);
        assert_eq!(found, code, "{answer}");
        assert!(answer["detail"].as_str().is_some_and(|detail| detail.contains(words)), "{answer}");
    }
    assert_eq!(daemon.tell("DELETE", "/overrides/n", "").0, 404);
    assert_eq!(daemon.tell("PUT", "/overrides/n", "{}").0, 422);

    host.write("flags.json", &definition(2));
    daemon.wait_for("the neighbour", || read(&client, "n") == 2);
    assert_eq!(color(), "#0f0");
    daemon.kill();
    let daemon = host.start();
    host.write("flags.json", &definition(3));
    daemon.wait_for("the neighbour", || read(&client, "n") == 3);
    assert_eq!(color(), "#0f0");
    assert_eq!(daemon.tell("DELETE", "/overrides/color", "").0, 200);
    daemon.wait_for("the flag itself", || color() == "none");
    assert_eq!(daemon.status()["overrides"], json!([]));
}

#[test]
fn an_override_of_a_flag_that_goes_says_so_and_comes_back_with_it() {
    let host = Host::with_file("flags.json", &number(1));
    let daemon = host.start();
    let client = host.client();
    assert_eq!(daemon.tell("PUT", "/overrides/n", r#"{"value": 5}"#).0, 200);
    host.write("flags.json", r#"{"flags": {}}"#);
    let status = daemon.wait_for_status("nothing to override", |status| status["flags"] == 0);
    assert!(
        status["overrides"][0]["error"].as_str().is_some_and(|error| error.contains("no source defines")),
        "{status}"
    );
    host.write("flags.json", &number(2));
    daemon.wait_for("the override", || read(&client, "n") == 5);
    assert_eq!(daemon.status()["overrides"][0]["error"], Value::Null);
}

#[test]
fn paths_that_are_none_are_problems() {
    let host = Host::with_file("flags.json", &number(1));
    let daemon = host.start();
    let problem = |path: &str, code: u16, words: &str| {
        let (found, body) = daemon.try_get(path).expect("an answer");
        let problem: Value = serde_json::from_str(&body).expect("JSON");
        assert_eq!((found, &problem["status"]), (code, &code.into()), "{body}");
        assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains(words)), "{body}");
    };
    problem("/v2/status", 404, "no such path");
    problem("/v1/sets/default/freeze", 405, "another method");
    let (code, answer) = daemon.tell("POST", "/../other/freeze", "");
    assert_eq!(code, 404, "{answer}");
    assert_eq!(daemon.tell("POST", "/reload", "").0, 200);
}
