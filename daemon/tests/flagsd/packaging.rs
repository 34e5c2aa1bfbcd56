//! The unit that ships.

use std::path::Path;
use std::process::Command;

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
