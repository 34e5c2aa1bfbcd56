//! The unit that ships.

use std::path::Path;
use std::process::Command;

#[test]
fn the_unit_is_hardened_and_starts_what_there_is() {
    const MOST: f64 = 1.5;
    let unit = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/systemd/flags-control.service");
    let text = std::fs::read_to_string(&unit).unwrap();
    for command in text.lines().filter_map(|line| line.strip_prefix("ExecStart").and_then(|rest| rest.split_once('=')))
    {
        let mut words = command.1.trim_start_matches('-').split(' ');
        assert_eq!(words.next(), Some("/usr/bin/flags-control"));
        let subcommand = words.next().unwrap();
        let help = Command::new(env!("CARGO_BIN_EXE_flags-control")).args([subcommand, "--help"]).output().unwrap();
        assert!(help.status.success(), "there is no {subcommand}");
    }
    let analysis =
        Command::new("systemd-analyze").args(["security", "--offline=true", "--no-pager"]).arg(&unit).output();
    let said = match analysis {
        Ok(output) => String::from_utf8_lossy(&output.stdout).into_owned(),
        Err(error) => return println!("skipped: systemd-analyze: {error}"),
    };
    let overall = said.lines().find_map(|line| line.split_once("Overall exposure level for flags-control.service: "));
    // Older ones know no --offline.
    let Some((_, overall)) = overall else { return println!("skipped: systemd-analyze says nothing") };
    let score: f64 = overall.split(' ').next().unwrap().parse().unwrap();
    println!("exposure {score}");
    assert!(score <= MOST, "{said}");
}
