//! Id lists as files: flagsctl's `apply`, `env export` and `env import` with the real control plane.

mod common;

use std::{collections::BTreeMap, fs, path::Path};

use common::{finish, plane::Plane};
use serde_json::{Value, json};

const FLAGS: &str = r#"{"metadata": {"lists": "production-ids", "team": "web"}, "flags": {"cart": {"state": "ENABLED",
  "variants": {"on": true, "off": false}, "defaultVariant": "off",
  "targeting": {"if": [{"in": [{"var": "targetingKey"}, {"var": "$lists.vip"}]}, "on"]}}}}"#;

fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
    fs::write(path, text).expect("a file");
}

fn segment(plane: &Plane, environment: &str, key: &str) -> Value {
    plane.run(&["segment", "show", key, "--env", environment, "--json"]).exits(0).json()
}

/// All that the log has, so that what was not changed is seen.
fn revisions(plane: &Plane) -> Value {
    plane.run(&["env", "list", "--json"]).exits(0).json()
}

#[test]
fn applying_gives_lists_the_ids_of_files_where_they_differ() {
    let Some(plane) = Plane::start_with("[limits]\nsegment_ids = 5\n") else { return };
    let at = |name: &str| plane.files.path().join("flags").join(name);
    let apply = |mode: &str| plane.run(&["apply", "-f", "flags", mode]);
    write(&at("production.json"), FLAGS);
    // Long enough that small batches do not make it be written anew.
    let long = "x".repeat(1_000);
    write(&at("production-ids/vip.txt"), &format!("{long}\nbob\nann\nbob\n"));
    write(&at("production-ids/other.csv"), "id,why\nx,1\n");

    // The plan tells of lists first, and changes nothing.
    let plan = apply("--plan").exits(2).stdout;
    assert!(plan.starts_with("+ $lists.other (production)  created; ids none → 1; content none → "), "{plan}");
    assert!(plan.contains("\n+ $lists.vip (production)  created; ids none → 3; content none → "), "{plan}");
    assert!(plan.contains("\n~ (production)  metadata {} → {\"team\":\"web\"}\n+ cart  created\n"), "{plan}");
    plane.run(&["segment", "list"]).exits(0).prints("no segments\n");
    let json = plane.run(&["apply", "-f", "flags", "--plan", "--json"]).exits(2).json();
    assert_eq!((&json["changes"][1]["list"], &json["changes"][1]["flag"]), (&json!("vip"), &json!(null)));
    assert_eq!(json["changes"][1]["aspects"][0], json!({"name": "ids", "before": null, "after": 3}));

    assert!(apply("--yes").exits(0).stdout.ends_with("5 differences applied\n"));
    let vip = segment(&plane, "production", "vip");
    assert_eq!((&vip["ids"], &vip["content"]), (&json!(3), &json["changes"][1]["aspects"][1]["after"]));
    assert_eq!(plane.run(&["env", "show", "--json"]).exits(0).json()["metadata"], json!({"team": "web"}));

    // Where nothing differs nothing is written: not of another order, and not of what batches have made of it.
    let before = revisions(&plane);
    apply("--yes").exits(0).prints("nothing differs\n");
    write(&at("production-ids/vip.txt"), &format!("\u{feff}ann\r\n\nbob\n{long}"));
    apply("--yes").exits(0).prints("nothing differs\n");
    assert_eq!(revisions(&plane), before);
    plane.run(&["segment", "add", "vip", "eve"]).exits(0);
    plane.run(&["segment", "remove", "vip", "eve"]).exits(0);
    assert_ne!(segment(&plane, "production", "vip")["content"], vip["content"]);
    apply("--yes").exits(0).prints("nothing differs\n");

    // As many others; and a list that was archived meanwhile.
    write(&at("production-ids/vip.txt"), &format!("ann\nbub\n{long}\n"));
    plane.run(&["segment", "archive", "other"]).exits(0);
    let plan = apply("--plan").exits(2).stdout;
    assert!(plan.starts_with("+ $lists.other (production)  restored\n~ $lists.vip (production)  ids 3 → 3; content "));
    apply("--yes").exits(0);
    apply("--yes").exits(0).prints("nothing differs\n");
    assert_eq!(segment(&plane, "production", "other")["archived"], false);
    let log = plane.run(&["log", "-n", "1", "--json"]).exits(0).json();
    assert_eq!(log[0]["action"], "segment.upload");

    // What is wrong is told before anything is changed.
    let before = revisions(&plane);
    let flags = FLAGS.replace("\"defaultVariant\": \"off\"", "\"defaultVariant\": \"on\"");
    write(&at("production.json"), &flags);
    for (name, text, words) in [
        ("vip.txt", "ann\nb\u{7}b\n", "production-ids/vip.txt: id 2: an id has no control characters in it"),
        ("vip.jsonl", "\"ann\"\n", "two files for the list \"vip\""),
        ("other.csv", "id\n\"x", "production-ids/other.csv:2: a quoted column that does not end"),
        // The control plane alone knows how many may be.
        (
            "vip.txt",
            "1\n2\n3\n4\n5\n6\n",
            "production-ids/vip.txt: the control plane refuses (422): line 6: more than 5 ids, the limit",
        ),
    ] {
        let path = at("production-ids").join(name);
        let old = fs::read(&path).ok();
        fs::write(&path, text).expect("a file");
        let wrong = apply("--yes").exits(3);
        assert!(wrong.stderr.contains(words), "{}", wrong.stderr);
        match old {
            Some(old) => fs::write(&path, old).expect("a file"),
            None => fs::remove_file(&path).expect("is there"),
        }
    }
    write(&at("production.json"), &flags.replace("$lists.vip", "$lists.vpi"));
    let missing = apply("--yes").exits(3);
    assert!(missing.stderr.contains("names the list \"vpi\", which there is none of\n  hint: "), "{}", missing.stderr);
    write(&at("production.json"), &flags.replace("\"lists\"", "\"list.gone\": \"gone.txt\", \"lists\""));
    let missing = apply("--yes").exits(3);
    assert!(missing.stderr.contains("gone.txt: No such file"), "{}", missing.stderr);
    plane.run(&["segment", "create", "staff", "--condition", r#"{"==": [{"var": "a"}, 1]}"#]).exits(0);
    let before = {
        assert_ne!(revisions(&plane), before);
        revisions(&plane)
    };
    write(&at("production.json"), &flags);
    write(&at("production-ids/staff.txt"), "a\n");
    let wrong = apply("--yes").exits(3);
    assert!(wrong.stderr.contains("staff.txt: the segment \"staff\" of production is a rule"), "{}", wrong.stderr);
    assert_eq!(revisions(&plane), before);
}

#[test]
fn what_is_exported_comes_back_the_same_elsewhere() {
    let Some(plane) = Plane::start() else { return };
    plane.run(&["flag", "create", "cart"]).exits(0);
    plane.run(&["segment", "create", "staff", "--condition", r#"{"==": [{"var": "tier"}, "staff"]}"#]).exits(0);
    let ids = [("vip", "é\nann\n"), ("empty", ""), ("odd", "\" space \"\n\"a\\\"b\"\n\"\\ufeffbom\"\n")];
    for (key, text) in ids {
        plane.run(&["segment", "create", key]).exits(0);
        let name = format!("{key}.jsonl");
        let lines: String = if key == "vip" { "\"é\"\n\"ann\"\n".to_owned() } else { text.to_owned() };
        write(&plane.files.path().join(&name), &lines);
        plane.run(&["segment", "upload", key, &name]).exits(0);
    }
    plane.run(&["segment", "add", "vip", "eve"]).exits(0);
    let rule = json!({"if": [{"in": [{"var": "targetingKey"}, {"var": "$lists.vip"}]}, "on", {"$ref": "staff"}, "on",
        {"in": [{"var": "targetingKey"}, {"var": "$lists.odd"}]}, "on"]});
    plane.run(&["flag", "set", "cart", "--targeting", &rule.to_string()]).exits(0);
    plane.run(&["flag", "enable", "cart"]).exits(0);

    let done = plane.run(&["env", "export", "--to", "out"]).exits(0).stdout;
    assert!(done.starts_with("shop/production is in out/production.json as of revision "), "{done}");
    assert!(done.ends_with(", with 3 id lists\n"), "{done}");
    let files = || -> BTreeMap<String, String> {
        let entry = |entry: fs::DirEntry| (entry.file_name().into_string().expect("UTF-8"), entry.path());
        let entries = fs::read_dir(plane.files.path().join("out/production-ids")).expect("a folder");
        entries
            .map(|it| entry(it.expect("an entry")))
            .map(|(name, path)| (name, fs::read_to_string(path).expect("ids")))
            .collect()
    };
    let expected =
        [("empty.txt", ""), ("odd.jsonl", "\" space \"\n\"a\\\"b\"\n\"\u{feff}bom\"\n"), ("vip.txt", "ann\neve\né\n")];
    assert_eq!(files(), expected.map(|(name, text)| (name.to_owned(), text.to_owned())).into());

    // Applied where it comes from it differs in nothing, though a flag means a segment and a list was changed in batches.
    plane.run(&["apply", "-f", "out", "--plan"]).exits(0).prints("nothing differs\n");

    // Into another project.
    let admin = |arguments: &[&str]| {
        let mut command = plane.command(Some(&plane.admin), arguments);
        finish(command.env("FLAGSCTL_PROJECT", "other").spawn().expect("flagsctl starts"))
    };
    admin(&["project", "create", "other"]).exits(0);
    admin(&["env", "create", "production"]).exits(0);
    let dry = admin(&["env", "import", "out/production.json", "--dry-run"]).exits(0).stdout;
    assert_eq!(
        dry,
        "dry run, nothing was changed: other/production: other ids in empty, odd, vip; the flags are good, and not compared yet\n"
    );
    admin(&["segment", "list"]).exits(0).prints("no segments\n");
    let done = admin(&["env", "import", "out/production.json", "--comment", "moved"]).exits(0).stdout;
    assert!(
        done.starts_with(
            "other/production: 1 created, 0 changed, 0 as they were, other ids in empty, odd, vip, at revision "
        ),
        "{done}"
    );
    let again = admin(&["env", "import", "out/production.json"]).exits(0).stdout;
    assert!(again.starts_with("other/production: 0 created, 0 changed, 1 as they were, at revision "), "{again}");
    admin(&["env", "export", "--to", "back"]).exits(0);
    let folder = |name: &str| plane.files.path().join(name).join("production.json");
    assert_eq!(fs::read_to_string(folder("back")).expect("a file"), fs::read_to_string(folder("out")).expect("a file"));
    for (name, text) in files() {
        let back = plane.files.path().join("back/production-ids").join(&name);
        assert_eq!(fs::read_to_string(back).expect("ids"), text, "{name}");
        let key = name.split('.').next().expect("a key");
        let there = admin(&["segment", "show", key, "--json"]).exits(0).json();
        assert_eq!(there["ids"], segment(&plane, "production", key)["ids"]);
    }

    // What is in the way is not taken for a list; what is refused changes nothing.
    write(&plane.files.path().join("out/production-ids/note.txt"), "not an id\n");
    let refused = plane.run(&["env", "export", "--to", "out"]).exits(3);
    assert!(refused.stderr.contains("note.txt is not one of the lists"), "{}", refused.stderr);
    let before = revisions(&plane);
    let bad = fs::read_to_string(folder("out"))
        .expect("a file")
        .replace("\"defaultVariant\": \"off\"", "\"defaultVariant\": \"of\"");
    write(&plane.files.path().join("out/bad.json"), &bad);
    plane.run(&["env", "import", "out/bad.json"]).exits(3);
    plane.run(&["env", "import", "out/production.json", "--if-revision", "1"]).exits(3);
    assert_eq!(revisions(&plane), before);
    plane.run(&["segment", "show", "note"]).exits(3);
}

#[test]
fn segments_and_environments_are_changed_and_flags_taken_over_one_by_one() {
    let Some(plane) = Plane::start() else { return };
    let condition = |value: &str| json!({"==": [{"var": "tier"}, value]});
    plane.run(&["segment", "create", "staff", "--condition", &condition("staff").to_string()]).exits(0);
    write(&plane.files.path().join("rule.json"), &condition("boss").to_string());
    let set = |more: &[&str]| plane.run(&[&["segment", "set", "staff"], more].concat());
    set(&["--condition", "@rule.json", "--dry-run"]).exits(0);
    assert_eq!(segment(&plane, "production", "staff")["condition"], condition("staff"));
    let done = set(&["--condition", "@rule.json", "--comment", "the boss alone"]).exits(0).stdout;
    assert!(done.starts_with("staff is changed in shop/production, at revision "), "{done}");
    set(&["--name", "Staff", "--description", "who works here"]).exits(0);
    let staff = segment(&plane, "production", "staff");
    assert_eq!((&staff["condition"], &staff["name"]), (&condition("boss"), &json!("Staff")));
    assert!(set(&[]).exits(2).stderr.contains("nothing is named"));
    assert!(set(&["--name", "x", "--if-revision", "1"]).exits(3).stderr.contains("refuses (412)"));
    let mut piped = plane.command(Some(&plane.admin), &["segment", "set", "staff", "--condition", "@-"]);
    piped.stdin(fs::File::open(plane.files.path().join("rule.json")).expect("a file"));
    finish(piped.spawn().expect("flagsctl starts")).exits(0);

    let log = plane.run(&["log", "-n", "3"]).exits(0).stdout;
    assert!(log.contains("  segment.update  staff  the boss alone\n"), "{log}");
    plane.run(&["segment", "create", "vip"]).exits(0);
    assert!(plane.run(&["segment", "set", "vip", "--condition", "true"]).exits(3).stderr.contains("/condition"));
    plane.run(&["segment", "ids", "vip"]).exits(0).prints("");
    plane.run(&["segment", "add", "vip", "b", "a"]).exits(0);
    plane.run(&["segment", "ids", "vip"]).exits(0).prints("a\nb\n");
    assert!(plane.run(&["segment", "ids", "staff"]).exits(3).stderr.contains("is a rule, and has no ids"));

    let metadata = || plane.run(&["env", "show", "--json"]).exits(0).json()["metadata"].take();
    plane.run(&["env", "set", "--metadata", "team=web", "--metadata", "version=7"]).exits(0);
    assert_eq!(metadata(), json!({"team": "web", "version": 7}));
    plane.run(&["env", "set", "--metadata", "version=null"]).exits(0);
    assert_eq!(metadata(), json!({"team": "web"}));
    plane.run(&["env", "set"]).exits(2);

    plane.run(&["flag", "create", "a"]).exits(0);
    plane.run(&["flag", "enable", "a"]).exits(0);
    plane.run(&["env", "create", "staging"]).exits(0);
    let there = ["--from", "production", "--env", "staging"];
    let cloned = plane.run(&[&["flag", "clone", "a"], &there[..]].concat()).exits(0).stdout;
    assert!(cloned.starts_with("a is configured in shop/staging as in production, at revision "), "{cloned}");
    let cloned = plane.run(&[&["env", "clone", "--no-metadata"], &there[..]].concat()).exits(0).stdout;
    assert!(cloned.starts_with("shop/staging: 0 flags configured as in production, at revision "), "{cloned}");
    let cloned = plane.run(&[&["env", "clone"], &there[..]].concat()).exits(0).stdout;
    assert!(cloned.starts_with("shop/staging: 0 flags configured as in production, and its metadata, at "), "{cloned}");
}
