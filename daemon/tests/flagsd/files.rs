//! Everything that happens to files.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};

use libflags::Context;

use crate::harness::{Daemon, Host, number, numbers, read};

/// Waits until a client reads `value` for `key`.
fn wait_for_value(host: &Host, daemon: &Daemon, key: &str, value: i64) {
    let client = host.client();
    daemon.wait_for(&format!("{key} = {value}"), || read(&client, key) == value);
}

#[test]
fn a_rename_over_the_file_is_seen_by_a_client_that_is_open() {
    let host = Host::with_file("flags.json", &number(1));
    let daemon = host.start();
    let client = host.client();
    assert_eq!(read(&client, "n"), 1);
    for n in 2..30 {
        host.write("flags.json", &number(n));
        daemon.wait_for("the change", || read(&client, "n") == n);
    }
    let status = daemon.status();
    assert_eq!((&status["state"], &status["flags"]), (&"fresh".into(), &1.into()));
    assert_eq!(client.status().generation, status["generation"].as_u64().expect("a number"));
}

#[test]
fn a_file_that_is_rewritten_in_place_is_never_read_in_halves() {
    let host = Host::with_file("flags.json", &number(1));
    let daemon = host.start();
    let client = host.client();
    for n in 2..6 {
        let text = number(n);
        let mut file = fs::File::create(host.path("flags.json")).expect("truncated");
        file.write_all(&text.as_bytes()[..text.len() / 2]).expect("written");
        if n == 2 {
            // Waited for in vain, the half file is read, and is no definition.
            daemon.wait_for_status("the error", |status| status["sources"][0]["state"] == "error");
            assert!(
                daemon.status()["sources"][0]["error"].as_str().is_some_and(|error| error.contains("flags.json:1:"))
            );
        }
        assert_eq!(read(&client, "n"), n - 1);
        file.write_all(&text.as_bytes()[text.len() / 2..]).expect("written");
        drop(file);
        daemon.wait_for("the whole file", || read(&client, "n") == n);
    }
    daemon.wait_for_status("health", |status| status["sources"][0]["state"] == "ok");
}

/// What a kubelet does with a ConfigMap: a new directory, a link to it, and the link renamed over the old one.
fn swap(host: &Host, n: i64) {
    let version = host.path(&format!("mount/..v{n}"));
    fs::create_dir_all(&version).expect("made");
    fs::write(version.join("flags.yaml"), number(n)).expect("written");
    symlink(format!("..v{n}"), host.path("mount/..data_tmp")).expect("linked");
    fs::rename(host.path("mount/..data_tmp"), host.path("mount/..data")).expect("renamed");
}

#[test]
fn a_config_map_swaps_a_link_to_a_directory() {
    for source in ["file:mount/flags.yaml", "dir:mount"] {
        let mut host = Host::new();
        swap(&host, 1);
        symlink("..data/flags.yaml", host.path("mount/flags.yaml")).expect("linked");
        let (scheme, path) = source.split_once(':').expect("a source");
        host.source(&format!("{scheme}:{}", host.path(path).display()));
        let daemon = host.start();
        for n in 2..6 {
            swap(&host, n);
            wait_for_value(&host, &daemon, "n", n);
            fs::remove_dir_all(host.path(&format!("mount/..v{}", n - 1))).expect("removed");
        }
    }
}

#[test]
fn a_deleted_file_keeps_its_flags_until_it_is_back() {
    let host = Host::with_file("flags.json", &number(1));
    let daemon = host.start();
    let client = host.client();
    for n in 2..5 {
        fs::remove_file(host.path("flags.json")).expect("removed");
        let status = daemon.wait_for_status("missing", |status| status["sources"][0]["state"] == "missing");
        assert_eq!(status["sources"][0]["files"][0]["last_good"], true);
        assert_eq!(read(&client, "n"), n - 1);
        fs::write(host.path("flags.json"), number(n)).expect("written");
        daemon.wait_for("the file that is back", || read(&client, "n") == n);
    }
}

#[test]
fn a_directory_gives_its_files_by_name_in_json_and_yaml() {
    let mut host = Host::new();
    fs::create_dir(host.path("d")).expect("made");
    host.source(&format!("dir:{}", host.path("d").display())).env("FLAGSD_WATCH__REMOVAL_GRACE_MS", "50");
    host.write("d/20.json", &numbers(&[("a", 20), ("b", 20)]));
    host.write("d/10.yaml", "flags:\n  a: {state: ENABLED, variants: {v: 10}, defaultVariant: v}\n");
    host.write("d/.30.json", &numbers(&[("a", 30)]));
    let daemon = host.start();
    wait_for_value(&host, &daemon, "a", 20);
    host.write("d/30.yml", "flags:\n  a:\n    state: ENABLED\n    variants: {v: 31}\n    defaultVariant: v\n");
    wait_for_value(&host, &daemon, "a", 31);
    fs::remove_file(host.path("d/30.yml")).expect("removed");
    wait_for_value(&host, &daemon, "a", 20);
    fs::rename(host.path("d/20.json"), host.path("d/05.json")).expect("renamed");
    wait_for_value(&host, &daemon, "a", 10);
    wait_for_value(&host, &daemon, "b", 20);
    // One broken file leaves the others alone.
    host.write("d/40.json", "{");
    daemon.wait_for_status("the error", |status| status["sources"][0]["state"] == "error");
    host.write("d/10.yaml", "flags:\n  a: {state: ENABLED, variants: {v: 11}, defaultVariant: v}\n");
    wait_for_value(&host, &daemon, "a", 11);
}

#[test]
fn a_directory_may_go_and_come_back() {
    let mut host = Host::new();
    host.source(&format!("dir:{}", host.path("a/b").display()));
    let daemon = host.start();
    assert_eq!(daemon.status()["ready"], false);
    for n in 1..4 {
        fs::create_dir_all(host.path("a/b")).expect("made");
        host.write("a/b/flags.json", &number(n));
        daemon.wait_for_status("something published", |status| status["generation"] != 0);
        wait_for_value(&host, &daemon, "n", n);
        fs::remove_dir_all(host.path("a")).expect("removed");
        daemon.wait_for_status("missing", |status| status["sources"][0]["state"] == "missing");
        assert_eq!(read(&host.client(), "n"), n);
    }
}

#[test]
fn a_file_whose_permission_is_lost_keeps_its_flags() {
    let mut host = Host::with_file("flags.json", &number(1));
    host.without_rights();
    let permit = |mode| fs::set_permissions(host.path("flags.json"), fs::Permissions::from_mode(mode)).expect("ours");
    let daemon = host.start();
    let client = host.client();
    permit(0o000);
    let status = daemon.wait_for_status("the error", |status| status["sources"][0]["state"] == "error");
    assert!(status["sources"][0]["error"].as_str().is_some_and(|error| error.contains("ermission denied")), "{status}");
    assert_eq!(read(&client, "n"), 1);
    permit(0o644);
    daemon.wait_for_status("health", |status| status["sources"][0]["state"] == "ok");
    host.write("flags.json", &number(2));
    permit(0o644);
    daemon.wait_for("the change", || read(&client, "n") == 2);
}

#[test]
fn a_later_source_wins_and_one_that_is_not_there_does_no_harm() {
    let mut host = Host::with_file("base.json", &numbers(&[("a", 1), ("b", 1)]));
    host.source(&format!("file:{}", host.path("over.yaml").display()));
    let daemon = host.start();
    wait_for_value(&host, &daemon, "a", 1);
    assert_eq!(daemon.status()["sources"][1]["state"], "missing");
    host.write("over.yaml", "flags: {a: {state: ENABLED, variants: {v: 2}, defaultVariant: v}}\n");
    wait_for_value(&host, &daemon, "a", 2);
    host.write("base.json", &numbers(&[("a", 3), ("b", 3)]));
    wait_for_value(&host, &daemon, "b", 3);
    wait_for_value(&host, &daemon, "a", 2);
}

#[test]
fn an_id_list_is_watched_like_its_definition() {
    let host = Host::with_file(
        "flags.json",
        r#"{"metadata": {"list.beta": "ids/beta.txt"}, "flags": {"f": {"state": "ENABLED",
            "variants": {"on": true, "off": false}, "defaultVariant": "off",
            "targeting": {"if": [{"in": [{"var": "targetingKey"}, {"var": "$lists.beta"}]}, "on", "off"]}}}}"#,
    );
    fs::create_dir(host.path("ids")).expect("made");
    host.write("ids/beta.txt", "ann\n");
    let daemon = host.start();
    let client = host.client();
    let on = |who: &str| client.bool("f", &Context::new(who), false);
    assert!(on("ann") && !on("bob"));
    host.write("ids/beta.txt", "bob\ncid\n");
    daemon.wait_for("the other list", || on("bob"));
    assert!(!on("ann"));
    daemon.wait_for_status("two generations", |status| status["kept"].as_array().is_some_and(|kept| kept.len() == 2));

    // The list survives with the flags when everything but the state is lost.
    daemon.kill();
    drop(client);
    for gone in ["store", "ids"] {
        fs::remove_dir_all(host.path(gone)).expect("removed");
    }
    fs::remove_file(host.path("flags.json")).expect("removed");
    let _daemon = host.start();
    let client = host.client();
    assert!(client.bool("f", &Context::new("cid"), false));
    assert!(!client.bool("f", &Context::new("ann"), true));
}
