//! The command line and its configuration.

use std::process::{Command, Output};

use crate::harness::{Host, number};

fn flagsd(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_flagsd"));
    command.env_clear().args(arguments).envs(environment.iter().copied());
    command.output().expect("runs")
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("text")
}

#[test]
fn a_bad_configuration_is_exit_code_2_and_names_the_key() {
    let host = Host::new();
    std::fs::write(host.path("bad.toml"), "[guard]\nmax_los_percent = 3\n").expect("written");
    let path = host.path("bad.toml").display().to_string();
    #[expect(clippy::type_complexity, reason = "a table")]
    let cases: &[(&[&str], &[(&str, &str)], &[&str])] = &[
        (&["--config", &path], &[], &["bad.toml", "line 2", "max_los_percent"]),
        (&["--config", "/nowhere/flagsd.toml"], &[], &["/nowhere/flagsd.toml"]),
        (&[], &[("FLAGSD_STORRE", "x")], &["FLAGSD_STORRE"]),
        (&[], &[], &["no source"]),
        (&["--source", "http://h/f"], &[], &["http", "not supported by this version"]),
        (&["--source", "flags.json"], &[], &["file:flags.json"]),
        (&["--source", "file:/f", "--management", "nowhere"], &[], &["nowhere"]),
        (&["--source", "file:/f", "--log-level", "loud=="], &[], &["log.level", "loud"]),
        (&["--sorce", "file:/f"], &[], &["--sorce"]),
    ];
    for (arguments, environment, words) in cases {
        let arguments = [&["run", "--store", "/nowhere/store", "--state-dir", "/nowhere/state"], *arguments].concat();
        let output = flagsd(&arguments, environment);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", text(&output.stderr));
        for word in *words {
            assert!(text(&output.stderr).contains(word), "{word:?} is missing in {:?}", text(&output.stderr));
        }
    }
}

#[test]
fn check_config_says_what_it_comes_to() {
    let environment = [("FLAGSD_SOURCES", "file:/etc/a.json,dir:/etc/d"), ("FLAGSD_STATE_DIR", "/var/x")];
    let output = flagsd(&["check-config", "--store", "/run/s", "--management", "127.0.0.1:8014"], &environment);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let expected = "state_dir = /var/x\nmanagement = 127.0.0.1:8014\nset default\n  store = /run/s\n  \
                    source = file:/etc/a.json\n  source = dir:/etc/d\n";
    assert_eq!(text(&output.stdout), expected);
    assert_eq!(flagsd(&["check-config", "--source", "s3:x"], &[]).status.code(), Some(2));
}

#[test]
fn a_user_without_rights_gets_directories_of_his_own() {
    let mut host = Host::with_file("flags.json", &number(1));
    host.without_rights();
    let root = nix::unistd::getuid().is_root();
    let run = host.path("run");
    std::fs::create_dir(&run).expect("made");
    if root {
        std::os::unix::fs::chown(&run, Some(65_534), Some(65_534)).expect("root may");
    }
    let mut command = host.command();
    let program = command.get_program().to_owned();
    command = Command::new(program);
    if root {
        use std::os::unix::process::CommandExt;
        command.uid(65_534).gid(65_534);
    }
    command.env_clear().env("XDG_RUNTIME_DIR", &run).env("HOME", host.path("run"));
    command.args(["check-config", "--source", "file:/f"]);
    let output = command.output().expect("runs");
    let said = text(&output.stdout);
    assert!(said.contains(&format!("store = {}/flags/default", run.display())), "{said}{}", text(&output.stderr));
    assert!(said.contains(&format!("state_dir = {}/.local/state/flags", run.display())), "{said}");
}
