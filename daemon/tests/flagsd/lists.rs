//! Id lists that a control plane names by their parts.

use std::fs;

use flags_sync::list::PartHasher;
use flags_sync::{List, Part};
use libflags::{Client, Context};
use serde_json::value::RawValue;

use crate::control_plane::{ControlPlane, flag};
use crate::harness::{Daemon, Host, read};

/// A part of these ids, and its bytes.
pub(crate) fn part(ids: &[&str], removes: bool) -> (Part, Vec<u8>) {
    let bytes: Vec<u8> = ids.iter().flat_map(|id| [id.as_bytes(), b"\n"].concat()).collect();
    let mut hasher = PartHasher::default();
    hasher.update(&bytes);
    (Part { sha256: hasher.finish(), bytes: bytes.len() as u64, ids: ids.len() as u64, removes }, bytes)
}

/// A list of parts, which the plane serves.
pub(crate) fn list(plane: &ControlPlane, ids: u64, parts: &[(Part, Vec<u8>)]) -> List {
    for (part, bytes) in parts {
        plane.shared().parts.insert(part.sha256.to_string(), bytes.clone());
    }
    List { ids, parts: parts.iter().map(|(part, _)| part.clone()).collect() }
}

/// A flag that is 1 for whom is in the list `vip`, else 0.
pub(crate) fn vip() -> Box<RawValue> {
    let text = r#"{"state":"ENABLED","variants":{"in":1,"out":0},"defaultVariant":"out",
        "targeting":{"if":[{"in":[{"var":"targetingKey"},{"var":"$lists.vip"}]},"in","out"]}}"#;
    RawValue::from_string(text.replace(char::is_whitespace, "")).expect("JSON")
}

pub(crate) fn is_in(client: &Client, id: &str) -> bool {
    client.int("vip", &Context::new(id), -1) == 1
}

pub(crate) fn start(plane: &ControlPlane, host: &mut Host) -> (Daemon, Client) {
    host.source(&plane.signed_source()).env("FLAGSD_CONTROL__POLL_MS", "100");
    let daemon = host.start();
    daemon.wait_for_status("something published", |status| status["generation"] != 0);
    let client = host.client();
    (daemon, client)
}

pub(crate) fn error(daemon: &Daemon) -> String {
    daemon.status()["sources"][0]["error"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn readers_answer_by_a_list_and_by_what_becomes_of_it() {
    let plane = ControlPlane::start(&[("n", 1)]);
    let mut host = Host::new();
    let (daemon, client) = start(&plane, &mut host);
    let first = part(&["a", "b", "c"], false);
    let named = list(&plane, 3, std::slice::from_ref(&first));
    plane.change_with_lists(&[("vip", vip())], &[], false, [("vip".to_owned(), Some(named))].into());
    daemon.wait_for("the list", || is_in(&client, "a"));
    assert!(is_in(&client, "c") && !is_in(&client, "d"));
    let all = [first, part(&["d"], false), part(&["a"], true)];
    let named = list(&plane, 3, &all);
    plane.change_with_lists(&[], &[], false, [("vip".to_owned(), Some(named))].into());
    daemon.wait_for("the change", || is_in(&client, "d"));
    assert!(!is_in(&client, "a") && is_in(&client, "b"));
    let asked = |what: &str| plane.shared().requests.iter().filter(|request| request.what.starts_with(what)).count();
    assert_eq!(asked("parts/"), 3, "none twice");
    // A change of a flag alone leaves the lists.
    plane.set("n", 2);
    daemon.wait_for("the flag", || read(&client, "n") == 2);
    assert!(is_in(&client, "d") && asked("parts/") == 3);
    daemon.wait_for("the change to be kept", || !host.path("state/default/unsettled").exists());

    // Killed, the store lost, the control plane away: what is remembered is enough.
    daemon.kill();
    plane.stop();
    fs::remove_dir_all(host.store()).expect("removed");
    let daemon = host.start();
    let client = host.client();
    assert!(is_in(&client, "d") && !is_in(&client, "a"));
    daemon.wait_for_status("the state that was remembered", |status| {
        status["sources"][0]["control"]["position"] == "1.4"
            && status["refused"].is_null()
            && status["broken_count"] == 0
    });
    assert!(is_in(&client, "b"));
}

#[test]
fn a_part_that_is_not_what_was_signed_for_holds_back_the_whole_revision() {
    let plane = ControlPlane::start(&[("n", 1)]);
    let mut host = Host::new();
    let (daemon, client) = start(&plane, &mut host);
    let (good, bytes) = part(&["a", "b"], false);
    let name = good.sha256.to_string();
    let named = list(&plane, 2, &[(good, bytes.clone())]);
    let serve = |bytes: Option<&[u8]>| match bytes {
        Some(bytes) => drop(plane.shared().parts.insert(name.clone(), bytes.to_vec())),
        None => drop(plane.shared().parts.remove(&name)),
    };
    serve(Some(b"a\nx\n"));
    plane.change_with_lists(&[("vip", vip()), ("n", flag(2))], &[], false, [("vip".to_owned(), Some(named))].into());
    for (wrong, words) in [
        (Some(&b"a\nx\n"[..]), "SHA-256"),
        (Some(b"a\n"), "2 bytes shorter"),
        (Some(b"a\nb\nc\n"), "longer"),
        (None, "404"),
    ] {
        serve(wrong);
        daemon.wait_for(words, || error(&daemon).contains(words));
        assert_eq!((read(&client, "n"), client.int("vip", &Context::new("a"), -1)), (1, -1), "{words}");
        let status = daemon.status();
        assert_eq!(status["revision"], 1, "{status}");
    }
    serve(Some(&bytes));
    daemon.wait_for("the revision", || read(&client, "n") == 2);
    assert!(is_in(&client, "a") && !is_in(&client, "x") && error(&daemon).is_empty());
}

#[test]
fn a_part_that_is_packed_into_more_and_more_is_given_up() {
    let plane = ControlPlane::start(&[("n", 1)]);
    let mut host = Host::new();
    let (daemon, client) = start(&plane, &mut host);
    // All of it can be unpacked, and comes to what was signed for.
    plane.shared().empty_members = 10_000;
    let named = list(&plane, 2, &[part(&["a", "b"], false)]);
    plane.change_with_lists(&[("vip", vip())], &[], false, [("vip".to_owned(), Some(named))].into());
    daemon.wait_for("the refusal", || error(&daemon).contains("packed, it is longer"));
    // Some of it does no harm.
    plane.shared().empty_members = 3;
    daemon.wait_for("the list", || is_in(&client, "a"));
}

#[test]
fn what_failed_is_tried_again_though_nothing_else_happens() {
    let plane = ControlPlane::start(&[("n", 1)]);
    // No event comes by itself.
    plane.shared().silent = true;
    let mut host = Host::new();
    let (daemon, client) = start(&plane, &mut host);
    let metric = |name: &str| {
        let (_, page) = daemon.try_get("/metrics").expect("metrics");
        let line = page.lines().find(|line| line.starts_with(&format!("{name}{{"))).expect("is there").to_owned();
        line.rsplit(' ').next().and_then(|value| value.parse::<u64>().ok()).expect("a number")
    };
    let parts = [part(&["a", "b"], false), part(&["b"], true)];
    let named = list(&plane, 1, &parts);
    let missing = parts[1].0.sha256.to_string();
    plane.shared().parts.remove(&missing);
    plane.change_with_lists(&[("vip", vip()), ("n", flag(2))], &[], false, [("vip".to_owned(), Some(named))].into());
    daemon.wait_for("several tries", || metric("flagsd_source_list_failures_total") >= 4);
    assert_eq!((metric("flagsd_source_lists_waiting"), metric("flagsd_source_parts_waiting")), (1, 1));
    let control = daemon.status()["sources"][0]["control"].clone();
    assert_eq!((&control["lists_waiting"], &control["connection"]), (&1.into(), &"stream".into()), "{control}");
    assert_eq!(read(&client, "n"), 1);
    plane.shared().parts.insert(missing, parts[1].1.clone());
    daemon.wait_for("the state", || read(&client, "n") == 2);
    assert!(is_in(&client, "a") && !is_in(&client, "b"));
    let status = daemon.wait_for_status("no error", |status| status["sources"][0]["error"].is_null());
    assert_eq!((&status["sources"][0]["state"], &status["state"]), (&"ok".into(), &"fresh".into()), "{status}");
    assert_eq!((metric("flagsd_source_lists_waiting"), metric("flagsd_source_parts_waiting")), (0, 0));
    // All that time over one stream, on which one change came.
    let others = plane.shared().requests.iter().filter(|request| !request.what.starts_with("parts/")).count();
    assert_eq!(others, 1);
}
