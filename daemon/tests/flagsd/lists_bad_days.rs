//! Disks without room for id lists, and flagsd killed while they come.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use flags_sync::List;
use libflags::{Client, Context};
use serde_json::value::RawValue;

use crate::control_plane::{ControlPlane, flag};
use crate::disk::Tmpfs;
use crate::harness::{Host, read};
use crate::lists::{error, is_in, list, part, start, vip};

/// The ids `PREFIX-00000` ..
fn ids(prefix: &str, count: usize) -> Vec<String> {
    (0..count).map(|at| format!("{prefix}-{at:05}")).collect()
}

/// A list of one part, which the plane serves.
fn whole(plane: &ControlPlane, ids: &[String]) -> List {
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    list(plane, ids.len() as u64, &[part(&ids, false)])
}

fn named(list: List) -> BTreeMap<String, Option<List>> {
    [("vip".to_owned(), Some(list))].into()
}

/// Leaves so many bytes, or somewhat less, of a file system.
fn fill(folder: &Path, left: u64) {
    let filler = folder.join("filler");
    let mut file = File::create(&filler).expect("made");
    while file.write_all(&[1; 4_096]).is_ok() {}
    let length = fs::metadata(&filler).expect("is there").len();
    file.set_len(length - left).expect("shorter");
}

fn make_room(folder: &Path) {
    fs::remove_file(folder.join("filler")).expect("removed");
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("text")).collect()
}

/// The folder of the only source's parts.
fn parts_folder(host: &Host) -> std::path::PathBuf {
    let state = host.path("state/default");
    let name = names(&state).into_iter().find(|name| name.starts_with("parts-")).unwrap_or_else(|| "parts".to_owned());
    state.join(name)
}

#[test]
fn a_full_state_directory_holds_back_a_list_and_keeps_the_one_before() {
    let plane = ControlPlane::start(&[("n", 1)]);
    let mut host = Host::new();
    let Some(_tmpfs) = Tmpfs::mount(&host.path("state"), "24m") else { return };
    let (daemon, client) = start(&plane, &mut host);
    let small = whole(&plane, &ids("old", 10));
    plane.change_with_lists(&[("vip", vip())], &[], false, named(small.clone()));
    daemon.wait_for("the list", || is_in(&client, "old-00001"));
    let state = host.path("state");
    let mut n = 1;
    // Not even the part has room; then it has, and what is built of it has not.
    for (left, words) in [(64 << 10, "a part of the id list"), (700 << 10, "cannot be built")] {
        fill(&state, left);
        n += 1;
        let large = whole(&plane, &ids(&format!("new{n}"), 50_000));
        plane.change_with_lists(&[("n", flag(n))], &[], false, named(large));
        daemon.wait_for(words, || error(&daemon).contains(words) && error(&daemon).contains("No space left"));
        assert_eq!(read(&client, "n"), n - 1, "not the flags alone");
        assert!(is_in(&client, "old-00001") && !is_in(&client, &format!("new{n}-00001")));
        assert!(daemon.log().contains("waits for id lists"), "{}", daemon.log());
        assert_eq!(daemon.status()["sources"][0]["state"], "error");
        let left_behind = || names(&parts_folder(&host)).iter().any(|name| name.ends_with(".new"));
        daemon.wait_for("nothing half written", || !left_behind());
        make_room(&state);
        daemon.wait_for("the list, once there is room", || read(&client, "n") == n);
        assert!(is_in(&client, &format!("new{n}-49999")) && !is_in(&client, "old-00001"));
        plane.change_with_lists(&[], &[], false, named(small.clone()));
        daemon.wait_for("the small list", || is_in(&client, "old-00001"));
    }

    // Taken back, it needs no more room than there is: what came for nothing makes way.
    fill(&state, 700 << 10);
    plane.change_with_lists(&[("n", flag(90))], &[], false, named(whole(&plane, &ids("vain", 50_000))));
    daemon.wait_for("no room", || error(&daemon).contains("cannot be built"));
    let middle = whole(&plane, &ids("middle", 10_000));
    plane.change_with_lists(&[("n", flag(91))], &[], false, named(middle));
    daemon.wait_for("a list that has room", || read(&client, "n") == 91);
    assert!(is_in(&client, "middle-09999"));
}

#[test]
fn a_full_store_keeps_the_list_before_and_goes_on_when_there_is_room() {
    let plane = ControlPlane::start(&[("n", 1)]);
    let mut host = Host::new();
    let Some(_tmpfs) = Tmpfs::mount(&host.store(), "4m") else { return };
    let (daemon, client) = start(&plane, &mut host);
    plane.change_with_lists(&[("vip", vip())], &[], false, named(whole(&plane, &ids("old", 10))));
    daemon.wait_for("the list", || is_in(&client, "old-00001"));
    fill(&host.store(), 128 << 10);
    let large = whole(&plane, &ids("new", 50_000));
    plane.change_with_lists(&[("n", flag(2))], &[], false, named(large));
    let status = daemon.wait_for_status("the failure", |status| !status["publish_error"].is_null());
    assert!(status["publish_error"]["reason"].as_str().is_some_and(|why| why.contains("No space left")), "{status}");
    assert!(read(&client, "n") == 1 && is_in(&client, "old-00001") && !is_in(&client, "new-00001"));
    let (_, metrics) = daemon.try_get("/metrics").expect("metrics");
    let failures = metrics.lines().find(|line| line.starts_with("flagsd_publish_failures_total")).expect("is there");
    assert!(!failures.ends_with(" 0"), "{failures}");
    make_room(&host.store());
    daemon.wait_for("the list", || read(&client, "n") == 2);
    assert!(is_in(&client, "new-49999") && !is_in(&client, "old-00001"));
    assert!(daemon.status()["publish_error"].is_null());
}

/// A flag that says which of two ids are in the list, `a` and `b` of the context: 0 none, 1 `a`, 2 `b`, 3 both. One evaluation, so of one list.
fn two() -> Box<RawValue> {
    let text = r#"{"state":"ENABLED","variants":{"none":0,"a":1,"b":2,"both":3},"defaultVariant":"none",
        "targeting":{"if":[{"in":[{"var":"a"},{"var":"$lists.vip"}]},
            {"if":[{"in":[{"var":"b"},{"var":"$lists.vip"}]},"both","a"]},
            {"if":[{"in":[{"var":"b"},{"var":"$lists.vip"}]},"b","none"]}]}}"#;
    RawValue::from_string(text.replace(char::is_whitespace, "")).expect("JSON")
}

fn which(client: &Client, a: &str, b: &str) -> i64 {
    client.int("two", &Context::anonymous().with("a", a).with("b", b), -1)
}

#[test]
fn killed_while_parts_come_it_serves_no_torn_list_and_goes_on_at_the_restart() {
    const PARTS: usize = 5;
    let plane = ControlPlane::start(&[("n", 1)]);
    let mut host = Host::new();
    let (mut daemon, client) = start(&plane, &mut host);
    plane.change_with_lists(&[("two", two())], &[], false, named(whole(&plane, &ids("old", 3))));
    daemon.wait_for("the list", || which(&client, "old-00000", "old-00002") == 3);
    daemon.wait_for("it to be kept", || !host.path("state/default/unsettled").exists());

    // Each part takes a while: of numbers whose text packs badly.
    plane.shared().part_pace = Some((4 << 10, Duration::from_millis(2)));
    let all: Vec<String> = (0..PARTS * 20_000).map(|at| format!("{:016x}", spread(at as u64))).collect();
    let mut parts: Vec<_> = Vec::new();
    for of_part in all.chunks(20_000) {
        let mut sorted: Vec<&str> = of_part.iter().map(String::as_str).collect();
        sorted.sort_unstable();
        parts.push(part(&sorted, false));
    }
    let large = list(&plane, all.len() as u64, &parts);
    plane.change_with_lists(&[("n", flag(2))], &[], false, named(large));

    let (first, last) = (all[0].as_str(), all[all.len() - 1].as_str());
    let done = AtomicBool::new(false);
    let mut kills = 0;
    thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut seen = BTreeMap::new();
            while !done.load(Ordering::Relaxed) {
                *seen.entry((which(&client, "old-00000", first), which(&client, first, last))).or_insert(0) += 1;
                thread::yield_now();
            }
            seen
        });
        let folder = parts_folder(&host);
        let whole_parts = || names(&folder).iter().filter(|name| name.starts_with("part-")).count();
        let half_there = || {
            let half = names(&folder).into_iter().find(|name| name.starts_with(".part-"));
            half.is_some_and(|name| fs::metadata(folder.join(name)).is_ok_and(|metadata| metadata.len() > 0))
        };
        // Twice in the midst of each part, and then as soon as the last one is whole: while the list is built.
        let old_parts = whole_parts();
        for round in 0..2 * PARTS {
            daemon.wait_for("a part to come", || half_there() || whole_parts() == old_parts + PARTS);
            thread::sleep(Duration::from_millis(spread(round as u64) % 40));
            if round % 2 == 1 {
                daemon.wait_for("one more whole part", || whole_parts() > old_parts + round / 2);
            }
            daemon.kill();
            kills += 1;
            daemon = host.start();
        }
        daemon.wait_for("the list", || which(&client, first, last) == 3);
        done.store(true, Ordering::Relaxed);
        let seen = reader.join().expect("the reader");
        // The old list, the new one, and between two evaluations the one and the other. Never a part.
        let allowed = [(1, 0), (2, 3), (1, 3)];
        assert!(seen.keys().all(|pair| allowed.contains(pair)), "{seen:?}");
        assert!(seen.contains_key(&(1, 0)), "{seen:?}");
    });
    assert_eq!(kills, 2 * PARTS);
    assert!(which(&client, "old-00000", "old-00001") == 0 && read(&client, "n") == 2);
    assert!(all.iter().step_by(997).all(|id| which(&client, id, id) == 3));
    // What was whole before a kill did not come again.
    for (part, _) in &parts {
        let what = format!("parts/{}", part.sha256);
        let asked = plane.shared().requests.iter().filter(|request| request.what == what).count();
        assert!((1..=3).contains(&asked), "{what}: {asked}");
    }
    assert!(!names(&parts_folder(&host)).iter().any(|name| name.starts_with('.')), "nothing half is left");
}

/// A number that looks like any other.
fn spread(number: u64) -> u64 {
    let number = (number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (number ^ (number >> 31)).wrapping_mul(0xbf58_476d_1ce4_e5b9)
}
