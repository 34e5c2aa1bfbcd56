//! What ships for Prometheus and Grafana: the rules say what they are meant to, of numbers that are really there, and each has a page that helps.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;

use crate::harness::{Client, Database, eventually, free_port};

fn packaged(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging").join(file)
}

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn alerts_fire_when_they_should_and_not_before() {
    let folder = packaged("prometheus");
    for (arguments, files) in [
        (["check", "rules"], ["flags-control.rules.yml", "flagsd.rules.yml"]),
        (["test", "rules"], ["flags-control.test.yml", "flagsd.test.yml"]),
    ] {
        match Command::new("promtool").args(arguments).args(files).current_dir(&folder).output() {
            Ok(output) => {
                let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
                assert!(output.status.success(), "{said}");
            }
            Err(error) => println!("skipped: promtool: {error}"),
        }
    }
}

/// The names of alerts in a file of rules, or in one of their tests.
fn alerts(text: &str, before: &str) -> BTreeSet<String> {
    let names = text.split(before).skip(1).filter_map(|rest| rest.split([',', '\n', ' ']).next());
    names.map(str::to_owned).collect()
}

#[test]
fn each_alert_has_a_test_and_an_entry_in_the_runbook() {
    let runbook = text(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/operations-control.md"));
    for program in ["flags-control", "flagsd"] {
        let rules = text(&packaged(&format!("prometheus/{program}.rules.yml")));
        let tests = text(&packaged(&format!("prometheus/{program}.test.yml")));
        let all = alerts(&rules, "- alert: ");
        assert!(all.len() > 5, "{all:?}");
        assert_eq!(alerts(&tests, "alertname: "), all, "{program}: each rule is tested");
        for alert in all {
            assert!(
                runbook.contains(&format!("\n### {alert}\n")),
                "docs/operations-control.md says nothing of {alert}"
            );
        }
    }
}

/// All words in a text that begin as our metrics do, without what a histogram's series are called.
fn metrics(text: &str) -> BTreeSet<String> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let names = text.split(|c| !is_part(c)).filter(|word| word.starts_with("flags_control_"));
    names.map(|name| name.trim_end_matches("_bucket").to_owned()).collect()
}

#[test]
fn rules_and_dashboard_speak_of_numbers_that_are_there() {
    let database = Database::sqlite();
    let port = free_port();
    let server = database.serve_with(&format!("management = \"127.0.0.1:{port}\"\n"));
    let admin = server.furnished();
    admin.post("/api/v1/projects/shop/flags", json!({"key": "a"})).expect(201);
    server.with_token("").get("/api/v1/projects").expect(401);
    let stream = admin.stream("shop/test", None);
    assert_eq!(stream.next().kind, "snapshot");
    let report = json!({
        "host": "h", "set": "s", "epoch": 1, "revision": 1, "publishedNs": 2_000_000, "changedMs": 1, "state": "fresh", "version": "1",
    });
    admin.post("/sync/v1/shop/test/report", report).expect(204);
    let management = Client::new(&format!("http://127.0.0.1:{port}"), "");
    let mut page = String::new();
    eventually("a change is followed", || {
        page = management.get("/metrics").text;
        page.contains("flags_control_follow_seconds_count")
    });
    let there: BTreeSet<String> =
        page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).map(str::to_owned).collect();
    for file in ["prometheus/flags-control.rules.yml", "grafana/flags.json"] {
        let named = metrics(&text(&packaged(file)));
        assert!(named.len() > 5, "{file}: {named:?}");
        // This one is there with TLS: `secure` looks at it.
        let with_tls = "flags_control_certificate_expiry_timestamp_seconds";
        let missing: Vec<_> = named.difference(&there).filter(|name| *name != with_tls).collect();
        assert!(missing.is_empty(), "{file} speaks of {missing:?}, which is not in\n{page}");
    }
    let dashboard: serde_json::Value = serde_json::from_str(&text(&packaged("grafana/flags.json"))).unwrap();
    assert!(dashboard["panels"].as_array().unwrap().len() > 10);
    // Everything of ours that is shown is described.
    for name in there.iter().filter(|name| name.starts_with("flags_control_")) {
        assert!(page.contains(&format!("# HELP {name} ")), "{name} is not described");
    }
}
