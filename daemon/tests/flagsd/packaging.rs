//! The unit that ships.

use std::path::Path;
use std::process::Command;

#[test]
fn the_unit_is_hardened() {
    const MOST: f64 = 1.5;
    let unit = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/systemd/flagsd.service");
    let text = std::fs::read_to_string(&unit).expect("is there");
    // What readers rely on when flagsd restarts, and what the service manager relies on.
    for line in ["Type=notify", "RuntimeDirectory=flags", "RuntimeDirectoryPreserve=yes", "StateDirectory=flags"] {
        assert!(text.lines().any(|found| found == line), "{line} is missing");
    }
    let analysis =
        Command::new("systemd-analyze").args(["security", "--offline=true", "--no-pager"]).arg(&unit).output();
    let output = match analysis {
        Ok(output) => output,
        Err(error) => {
            println!("skipped: systemd-analyze: {error}");
            return;
        }
    };
    let said = String::from_utf8_lossy(&output.stdout);
    let overall = said.lines().find_map(|line| line.split_once("Overall exposure level for flagsd.service: "));
    let Some((_, overall)) = overall else {
        // Older ones know no --offline.
        println!("skipped: systemd-analyze says nothing: {}", String::from_utf8_lossy(&output.stderr).trim());
        return;
    };
    let score: f64 = overall.split(' ').next().and_then(|score| score.parse().ok()).expect("a score");
    println!("exposure {score}");
    assert!(score <= MOST, "{said}");
}
