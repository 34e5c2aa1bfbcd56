//! flagsctl on published stores.

mod common;

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, ChildStdout, Command},
};

use common::{FLAGS, Store, directory, finish, flagsctl};
use serde_json::{Value, json};

fn flag(default: &str) -> String {
    format!(r#"{{"state": "ENABLED", "variants": {{"on": true, "off": false}}, "defaultVariant": "{default}"}}"#)
}

#[test]
fn eval_explains_what_is_published_as_it_explains_a_file() {
    let mut store = Store::new();
    store.publish(FLAGS);
    let files = directory(&[("flags.json", FLAGS)]);
    for context in
        [r#"{"targetingKey": "ann", "tier": "premium", "country": "FR"}"#, "{}", r#"{"targetingKey": "bob"}"#]
    {
        let path = store.argument();
        let of_store =
            flagsctl(files.path(), &["eval", "new-cart", "--store", &path, "-c", context, "--json"]).exits(0);
        let of_file = flagsctl(files.path(), &["eval", "new-cart", "--file", "flags.json", "-c", context, "--json"]);
        let (mut of_store, of_file) = (of_store.json(), of_file.exits(0).json());
        assert_eq!(of_store["source"], json!({"store": path, "generation": 1, "revision": 7}));
        of_store["source"] = of_file["source"].clone();
        assert_eq!(of_store, of_file);
    }
}

#[test]
fn id_lists_are_explained_and_inspected() {
    let mut store = Store::new();
    std::fs::write(store.directory.path().join("beta.txt"), "ann\nbob\n").expect("a file");
    store.publish(
        r#"{"metadata": {"list.beta": "beta.txt"}, "flags": {"k": {"state": "ENABLED", "variants": {"on": true},
            "targeting": {"if": [{"in": [{"var": "targetingKey"}, {"var": "$lists.beta"}]}, "on"]}}}}"#,
    );
    let path = store.argument();
    let run = flagsctl(&store.path(), &["eval", "k", "--store", &path, "-k", "ann"]).exits(0);
    let expected = "matched: /if/1 because {\"in\": [{\"var\": \"targetingKey\"}, {\"var\": \"$lists.beta\"}]} holds\n";
    assert!(run.stdout.contains(expected), "{}", run.stdout);
    let json = flagsctl(&store.path(), &["inspect", &path, "--json"]).exits(0).json();
    let list = &json["segment"]["lists"][0];
    assert_eq!((&list["label"], &list["ids"]), (&json!("beta"), &json!(2)));
    let file = store.path().join("v1").join(list["file"].as_str().expect("a name")).display().to_string();
    let own = flagsctl(&store.path(), &["inspect", &file, "--json"]).exits(0).json();
    assert_eq!(own["ids"], 2);
}

#[test]
fn status_is_read_from_the_store() {
    let mut store = Store::new();
    let path = store.argument();
    let empty = flagsctl(store.directory.path(), &["status", "--store", &path]).exits(3);
    assert!(empty.stderr.contains(&format!("nothing has been published in {path} yet")), "{}", empty.stderr);
    store.publish(FLAGS);
    store.publisher.heartbeat();
    let json = flagsctl(store.directory.path(), &["status", "--store", &path, "--json"]).exits(0).json();
    assert_eq!((&json["generation"], &json["revision"], &json["flags"]), (&json!(1), &json!(7), &json!(4)));
    assert_eq!((&json["state"], &json["store"]), (&json!("fresh"), &json!(path)));
    assert_eq!(json["daemonPid"], std::process::id());
    assert_eq!(json["daemon"], json!(null));
    assert!(json["daemonError"].as_str().is_some_and(|error| error.contains(&format!("{path}/flagsd.sock"))), "{json}");
    let text = flagsctl(store.directory.path(), &["status", "--store", &path]).exits(0).stdout;
    assert!(
        text.starts_with(&format!(
            "store       {path}\nstate       fresh\ngeneration  1\nrevision    7\nflags       4\n"
        )),
        "{text}"
    );
    assert!(
        text.contains(&format!("\nadmin       flagsd is not reachable at {path}/flagsd.sock: No such file")),
        "{text}"
    );
    store.publisher.set_state(libflags::store::WriterState::Frozen);
    assert_eq!(flagsctl(store.directory.path(), &["status", "--store", &path, "--json"]).json()["state"], "frozen");
    drop(store.publisher);
    let gone = flagsctl(store.directory.path(), &["status", "--store", &path, "--check"]).exits(1);
    assert!(gone.stdout.contains("flagsd      no sign of life"), "{}", gone.stdout);
}

#[test]
fn no_store_names_the_paths_tried() {
    let files = directory(&[]);
    let tried = files.path().join("no-store");
    for command in ["status", "list", "watch"] {
        flagsctl(files.path(), &[command]).exits(3).complains(&format!(
            "flagsctl: no flag store found; tried {} (there is none)\n  hint: start flagsd, name its store with --store DIR \
             or $FLAGS_STORE, or read a definition with --file FILE\n",
            tried.display()
        ));
    }
}

#[test]
fn inspect_shows_control_page_segment_and_damage() {
    let mut store = Store::new();
    store.publish(FLAGS);
    store.publish(FLAGS);
    let path = store.argument();
    let run = |path: &str| flagsctl(store.directory.path(), &["inspect", path]);
    let whole = run(&path).exits(0).stdout;
    assert!(whole.starts_with("control page  made 20"), "{whole}");
    for part in [
        "\ngeneration    2\n",
        "\nrevision      7\n",
        ", it matches\n",
        "\nflags         4 (3 enabled, 1 disabled)\n",
        "\n  islands     ",
        "\n  index       256 B\n",
        "\nFILE       SIZE\ncontrol    4.0 KiB\n",
        "\nsegment-1  ",
        "\nsegment-2  ",
    ] {
        // Widths follow the longest name, which is not what is tested here.
        let squeezed = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(squeezed(&whole).contains(&squeezed(part)), "{part}: {whole}");
    }
    let json = flagsctl(store.directory.path(), &["inspect", &path, "--json"]).exits(0).json();
    assert_eq!((&json["control"]["current"]["generation"], &json["segment"]["generation"]), (&json!(2), &json!(2)));
    assert_eq!(json["control"]["current"]["checksum"], json["segment"]["checksum"]);
    assert_eq!(json["control"]["writerPid"], std::process::id());
    let control =
        flagsctl(store.directory.path(), &["inspect", &format!("{path}/v1/control"), "--json"]).exits(0).json();
    assert_eq!(control["version"], json["control"]["version"]);

    let good = std::fs::read(format!("{path}/v1/segment-1")).expect("a segment");
    let damaged = store.directory.path().join("damaged").display().to_string();
    for (bytes, complaint) in [
        (&good[..good.len() - 1], "is corrupt"),
        (&good[..60], "is corrupt"),
        (&[&good[..200], &[!good[200]], &good[201..]].concat(), "is corrupt"),
        (&b"no segment at all"[..], "is no file of a store"),
    ] {
        std::fs::write(&damaged, bytes).expect("a file");
        let stderr = run(&damaged).exits(3).stderr;
        assert!(stderr.contains(complaint) && stderr.contains(&damaged), "{stderr}");
    }
}

#[test]
fn stores_segments_and_files_are_compared_with_each_other() {
    let mut store = Store::new();
    store.publish(FLAGS);
    store.publish(&FLAGS.replace("\"few\",", "\"many\","));
    let files = directory(&[("flags.json", FLAGS)]);
    let (path, old) = (store.argument(), format!("{}/v1/segment-1", store.argument()));
    flagsctl(files.path(), &["diff", &old, "flags.json"]).exits(0).prints("no difference\n");
    let expected = "~ max-items (shop)  default few (10) → many (50)\n0 added, 0 removed, 1 changed\n";
    flagsctl(files.path(), &["diff", &old, &path]).exits(1).prints(expected);
    flagsctl(files.path(), &["diff", "flags.json", &path]).exits(1).prints(expected);
    let control = format!("{path}/v1/control");
    assert!(flagsctl(files.path(), &["diff", &control, &path]).exits(3).stderr.contains("is a control page"));
}

/// A running `watch`, line by line.
struct Watching {
    child: Child,
    lines: std::io::Lines<BufReader<ChildStdout>>,
}

impl Watching {
    fn start(store: &Store, more: &[&str]) -> Self {
        Self::start_at(&store.argument(), more)
    }

    fn start_at(path: &str, more: &[&str]) -> Self {
        let arguments = [&["watch", "--store", path], more].concat();
        let mut child = common::command(Path::new("."), &arguments).spawn().expect("starts");
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        Self { child, lines }
    }

    fn line(&mut self) -> String {
        self.lines.next().expect("a line").expect("UTF-8")
    }

    /// The next event that is not about the store's state, which a slow machine may see go stale.
    fn event(&mut self) -> Value {
        loop {
            let event: Value = serde_json::from_str(&self.line()).expect("JSON");
            if event["event"] != "state" {
                return event;
            }
        }
    }
}

#[test]
fn watch_follows_generations() {
    let mut store = Store::new();
    let (on, off) = (flag("on"), flag("off"));
    store.publish(&format!(r#"{{"flags": {{"a": {on}, "b": {on}}}}}"#));
    let mut watching = Watching::start(&store, &["--json", "--count", "2"]);
    let start = watching.event();
    assert_eq!((&start["event"], &start["generation"], &start["flags"]), (&json!("start"), &json!(1), &json!(2)));
    store.publish(&format!(r#"{{"flags": {{"a": {off}, "c": {on}}}}}"#));
    let event = watching.event();
    assert_eq!((&event["from"], &event["generation"]), (&json!(1), &json!(2)));
    let changes: Vec<(&Value, &Value)> =
        event["changes"].as_array().expect("a list").iter().map(|change| (&change["key"], &change["change"])).collect();
    assert_eq!(
        changes,
        [(&json!("a"), &json!("changed")), (&json!("b"), &json!("removed")), (&json!("c"), &json!("added"))]
    );
    assert_eq!(event["changes"][0]["before"]["defaultVariant"], "on");
    assert_eq!(event["changes"][0]["after"]["defaultVariant"], "off");
    // A generation that changes nothing is told too.
    store.publish(&format!(r#"{{"flags": {{"c": {on}, "a": {off}}}}}"#));
    let event = watching.event();
    assert_eq!((&event["generation"], &event["changes"]), (&json!(3), &json!([])));
    finish(watching.child).exits(0);
}

#[test]
fn watch_ends_with_ctrl_c() {
    let mut store = Store::new();
    store.publish(&format!(r#"{{"flags": {{"a": {}}}}}"#, flag("on")));
    let mut watching = Watching::start(&store, &[]);
    let first = watching.line();
    assert!(first.starts_with(&format!("watching {}: generation 1, 1 flag, ", store.argument())), "{first}");
    store.publish(&format!(r#"{{"flags": {{"a": {}}}}}"#, flag("off")));
    loop {
        let line = watching.line();
        if line.contains("generation 1 → 2: 1 flag, 0 added, 0 removed, 1 changed") {
            break;
        }
    }
    assert_eq!(watching.line(), "  ~ a  default on (true) → off (false)");
    let pid = watching.child.id().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().expect("kill runs").success());
    let run = finish(watching.child).exits(0);
    assert_eq!(run.stderr, "");
}

#[test]
fn watch_waits_for_a_store() {
    let directory = directory(&[]);
    let path = directory.path().join("set").display().to_string();
    let mut watching = Watching::start_at(&path, &["--json", "--wait", "--count", "1"]);
    let start = watching.event();
    assert_eq!((&start["generation"], &start["state"], &start["store"]), (&json!(0), &json!("detached"), &json!(null)));
    let mut store = Store::within(directory);
    store.publish(&format!(r#"{{"flags": {{"a": {}}}}}"#, flag("on")));
    let event = watching.event();
    assert_eq!((&event["from"], &event["generation"], &event["flags"]), (&json!(0), &json!(1), &json!(1)));
    finish(watching.child).exits(0);
}
