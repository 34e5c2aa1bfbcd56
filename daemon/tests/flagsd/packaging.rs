//! The unit that ships.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use crate::harness::{Host, number};

/// What `systemd-analyze security` makes of the unit, with a drop-in or without.
fn exposure(drop_in: Option<&str>) -> Result<(f64, String), String> {
    let packaging = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/systemd");
    let read = |name: &str| std::fs::read_to_string(packaging.join(name)).expect("is there");
    let dir = tempfile::tempdir().expect("a directory");
    let unit = dir.path().join("flagsd.service");
    // A drop-in is read after the unit.
    std::fs::write(&unit, read("flagsd.service") + &drop_in.map(read).unwrap_or_default()).expect("written");
    let analysis =
        Command::new("systemd-analyze").args(["security", "--offline=true", "--no-pager"]).arg(&unit).output();
    let output = analysis.map_err(|error| format!("systemd-analyze: {error}"))?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let overall = said.lines().find_map(|line| line.split_once("Overall exposure level for flagsd.service: "));
    let Some((_, overall)) = overall else {
        // Older ones know no --offline.
        return Err(format!("systemd-analyze says nothing: {}", String::from_utf8_lossy(&output.stderr).trim()));
    };
    Ok((overall.split(' ').next().and_then(|score| score.parse().ok()).expect("a score"), said))
}

#[test]
fn the_unit_is_hardened() {
    const MOST: f64 = 1.5;
    let unit = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/systemd/flagsd.service");
    let text = std::fs::read_to_string(&unit).expect("is there");
    // What readers rely on when flagsd restarts, and what the service manager relies on.
    for line in ["Type=notify", "RuntimeDirectory=flags", "RuntimeDirectoryPreserve=yes", "StateDirectory=flags"] {
        assert!(text.lines().any(|found| found == line), "{line} is missing");
    }
    for drop_in in [None, Some("control-plane.conf")] {
        match exposure(drop_in) {
            Ok((score, said)) => {
                println!("exposure {score} with {drop_in:?}");
                assert!(score <= MOST, "{said}");
            }
            Err(why) => println!("skipped: {why}"),
        }
    }
}

#[test]
fn alert_rules_and_dashboard_speak_of_numbers_that_are_there() {
    let host = Host::with_file("flags.json", &number(1));
    let daemon = host.start();
    let (code, page) = daemon.try_get("/metrics").expect("an answer");
    assert_eq!(code, 200);
    let there: BTreeSet<&str> =
        page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    for file in ["prometheus/flagsd.rules.yml", "grafana/flags.json"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging").join(file);
        let text = std::fs::read_to_string(&path).expect("is there");
        let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let named: BTreeSet<&str> =
            words.filter(|word| word.starts_with("flagsd_")).map(|name| name.trim_end_matches("_bucket")).collect();
        assert!(named.len() > 5, "{file}: {named:?}");
        let missing: Vec<_> = named.difference(&there).collect();
        assert!(missing.is_empty(), "{file} speaks of {missing:?}, which is not in\n{page}");
    }
}
