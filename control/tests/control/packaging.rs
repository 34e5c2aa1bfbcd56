//! The unit and the example that ship.

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

#[test]
fn the_example_is_a_configuration_commented_parts_included() {
    let folder = tempfile::tempdir().unwrap();
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/examples/control.toml");
    let text = std::fs::read_to_string(example).unwrap();
    let is_setting = |line: &str| line.starts_with("# [") || line.starts_with("# ") && line.contains(" = ");
    let uncommented: Vec<&str> = text.lines().map(|line| if is_setting(line) { &line[2..] } else { line }).collect();
    let uncommented = uncommented.join("\n");
    assert!(uncommented.contains("\n[tls]") && uncommented.contains("\nkeep_days = "), "{uncommented}");
    for (name, text) in [("as-it-is.toml", text.clone()), ("whole.toml", uncommented)] {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        let database = format!("sqlite:{}", folder.path().join("flags.db").display());
        let output = Command::new(env!("CARGO_BIN_EXE_flags-control"))
            .args(["migrate", "--database", &database, "--config"])
            .arg(&path)
            .output()
            .unwrap();
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    }
}
