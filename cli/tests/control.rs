//! flagsctl and the real control plane, on SQLite.

mod common;

use std::{
    io::{BufRead, BufReader, Write},
    net::TcpListener,
    os::unix::fs::PermissionsExt,
    process::Stdio,
};

use common::{Run, command, directory, finish, plane::Plane, until};
use serde_json::json;

#[test]
fn a_flag_from_its_making_to_its_archive() {
    let Some(plane) = Plane::start() else { return };
    plane.run(&["flag", "list"]).exits(0).prints("no flags\n");
    let create = ["flag", "create", "new-cart", "--owner", "web", "--tag", "cart", "--expires", "2027-03-01"];
    plane
        .run(&[&create[..], &["--dry-run"]].concat())
        .exits(0)
        .prints("dry run, nothing was changed: new-cart is made in shop: boolean, disabled in every environment\n");
    plane.run(&["flag", "list", "--keys"]).exits(0).prints("");
    plane.run(&create).exits(0).prints("new-cart is made in shop: boolean, disabled in every environment\n");
    plane.run(&create).exits(3).complains(
        "flagsctl: the control plane refuses (409): there is, or was, a flag \"new-cart\": keys are not used again\n",
    );
    plane.run(&["flag", "create", "max-items", "--variant", "few=10", "--variant", "many=50"]).exits(0);
    plane.run(&["flag", "create", "build", "--type", "string", "--variant", "a=17"]).exits(0);
    plane.run(&["flag", "list"]).exits(0).prints(
        "KEY        TYPE     KIND     OWNER  TAGS  EXPIRES     DESCRIPTION\n\
         build      string   release  -      -     -           -\n\
         max-items  number   release  -      -     -           -\n\
         new-cart   boolean  release  web    cart  2027-03-01  -\n",
    );
    plane.run(&["flag", "list", "CART", "--keys"]).exits(0).prints("new-cart\n");

    // What it does: each change is a revision.
    assert!(
        plane
            .run(&["flag", "enable", "new-cart"])
            .exits(0)
            .stdout
            .starts_with("new-cart is enabled in shop/production, at revision ")
    );
    plane.run(&["flag", "rollout", "new-cart", "25%", "--by", "company"]).exits(0);
    assert_eq!(plane.config("new-cart")["rollout"], json!({"by": "company", "variants": {"on": 25, "off": 75}}));
    plane.run(&["flag", "rollout", "new-cart", "on=1"]).exits(0);
    assert_eq!(plane.config("new-cart")["rollout"], json!({"by": "company", "variants": {"on": 1}}));
    let rule = json!({"if": [{"==": [{"var": "tier"}, "premium"]}, "on"]});
    plane.run(&["flag", "set", "new-cart", "--targeting", &rule.to_string()]).exits(0);
    let other = json!({"if": [{"in": [{"var": "tier"}, ["gold"]]}, "on"]});
    std::fs::write(plane.files.path().join("rule.json"), other.to_string()).expect("a file");
    plane
        .run(&["flag", "set", "new-cart", "--targeting", "@rule.json", "--default", "on", "--metadata", "team=web"])
        .exits(0);
    let config = plane.config("new-cart");
    assert_eq!(
        (&config["targeting"], &config["defaultVariant"], &config["metadata"]),
        (&other, &json!("on"), &json!({"team": "web"}))
    );
    plane.run(&["flag", "set", "new-cart", "--metadata", "team=null", "--no-targeting"]).exits(0);
    let config = plane.config("new-cart");
    assert_eq!((&config["targeting"], &config["metadata"]), (&json!(null), &json!(null)));
    plane.run(&["flag", "rollout", "new-cart", "--off"]).exits(0);
    assert_eq!(plane.config("new-cart")["rollout"], json!(null));

    // What it is.
    plane.run(&["flag", "set", "max-items", "--variant", "lots=99", "--description", "a cart's"]).exits(0);
    let flag = plane.run(&["flag", "show", "max-items", "--json"]).exits(0).json()["flag"].take();
    assert_eq!(flag["variants"], json!({"few": 10, "many": 50, "lots": 99}));
    plane.run(&["flag", "set", "build", "--variant", "b=18"]).exits(0);
    let shown = plane.run(&["flag", "show", "build"]).exits(0).stdout;
    assert!(shown.contains("variants  a = \"17\", b = \"18\"\n"), "{shown}");

    // What is wrong is told with its place, and changes nothing.
    let wrong = plane.run(&["flag", "set", "new-cart", "--default", "onn"]).exits(3);
    assert!(
        wrong.stderr.contains("refuses (422)")
            && wrong.stderr.ends_with(": /defaultVariant: the flag has no variant \"onn\"\n"),
        "{}",
        wrong.stderr
    );
    assert!(
        plane
            .run(&["flag", "set", "new-cart", "--owner", "a", "--default", "on"])
            .exits(2)
            .stderr
            .contains("cannot be used with")
    );
    assert!(plane.run(&["flag", "set", "new-cart"]).exits(2).stderr.contains("nothing is named"));
    let late = plane.run(&["flag", "disable", "new-cart", "--if-revision", "1"]).exits(3);
    let revision = plane.config("new-cart")["revision"].to_string();
    assert!(late.stderr.contains(&format!("its revision is {revision} now")), "{}", late.stderr);
    plane
        .run(&["flag", "disable", "new-cart", "--if-revision", &revision, "--comment", "too slow, 100 % & more"])
        .exits(0);

    // The log has it all; going back is a change, too.
    let log = plane.run(&["log", "--flag", "new-cart", "-n", "1", "--json"]).exits(0).json();
    assert_eq!((&log[0]["comment"], &log[0]["action"]), (&json!("too slow, 100 % & more"), &json!("flag.configure")));
    assert!(log[1].is_null());
    assert!(plane.run(&["log"]).exits(0).stdout.contains("first admin ("));
    let back = plane.run(&["env", "rollback", &revision]).exits(0).stdout;
    assert!(
        back.starts_with(&format!("shop/production is as it was at revision {revision}, now at revision ")),
        "{back}"
    );
    assert_eq!(plane.config("new-cart")["state"], "ENABLED");
    plane
        .run(&["env", "rollback", &revision])
        .exits(0)
        .prints(&format!("shop/production is as it was at revision {revision} already\n"));

    plane.run(&["flag", "archive", "build"]).exits(0).prints("build is archived: no host has it any more\n");
    plane.run(&["flag", "list", "--archived", "--keys"]).exits(0).prints("build\n");
    plane.run(&["flag", "restore", "build"]).exits(0).prints("build is back, configured as it was\n");
}

#[test]
fn a_rollback_says_what_it_leaves() {
    let Some(plane) = Plane::start() else { return };
    plane.run(&["flag", "create", "max-items", "--variant", "few=10", "--variant", "many=50"]).exits(0);
    plane.run(&["flag", "set", "max-items", "--default", "few"]).exits(0);
    plane.run(&["flag", "create", "build"]).exits(0);
    plane.run(&["segment", "create", "vip"]).exits(0);
    plane.run(&["segment", "create", "staff", "--condition", r#"{"var": "staff"}"#]).exits(0);
    let rule =
        r#"{"if": [{"and": [{"$ref": "staff"}, {"in": [{"var": "targetingKey"}, {"var": "$lists.vip"}]}]}, "on"]}"#;
    plane.run(&["flag", "set", "build", "--targeting", rule]).exits(0);
    for flag in ["max-items", "build"] {
        plane.run(&["flag", "enable", flag]).exits(0);
    }
    let revision = || plane.run(&["env", "show", "--json"]).exits(0).json()["revision"].as_u64().expect("a number");
    let good = revision();
    let to = good.to_string();

    // A rule is taken back, and compared.
    plane.run(&["segment", "set", "staff", "--condition", r#"{"var": "guest"}"#]).exits(0);
    plane
        .run(&["log", "diff", &to])
        .exits(1)
        .prints("segment staff\n  condition  {\"var\":\"staff\"} → {\"var\":\"guest\"}\n");
    let back = format!("shop/production is as it was at revision {to}, now at revision {}\n", good + 2);
    plane.run(&["env", "rollback", &to, "--dry-run"]).exits(0).prints(&format!("dry run, nothing was changed: {back}"));
    plane.run(&["env", "rollback", &to]).exits(0).prints(&back);
    plane.run(&["log", "diff", &to]).exits(0).prints("nothing differs\n");

    // What is of the project, or ids, is left, and said to be.
    plane.run(&["flag", "set", "max-items", "--variant", "few=100000"]).exits(0);
    std::fs::write(plane.files.path().join("vip"), "ann\n").expect("a file");
    plane.run(&["segment", "upload", "vip", "vip"]).exits(0);
    let shown = plane.run(&["log", "diff", &to]).exits(1).stdout;
    assert!(shown.contains("segment vip\n  content  \"") && shown.ends_with("\n  ids  0 → 1\n"), "{shown}");
    plane.run(&["flag", "archive", "build"]).exits(0);
    let items = format!(
        "  max-items  has other variants, as in all environments: `flagsctl log diff {to}` shows them, \
         `flagsctl flag set max-items --variant NAME=VALUE` sets them\n"
    );
    let build = "  build  is archived: `flagsctl flag restore build`, then this rollback again\n";
    let nothing = format!(
        "shop/production: there is nothing that a rollback to revision {to} would take back, but not all is as it was:\n"
    );
    plane.run(&["env", "rollback", &to]).exits(0).prints(&format!("{nothing}{build}{items}"));
    plane.run(&["flag", "restore", "build"]).exits(0);
    plane.run(&["flag", "disable", "max-items"]).exits(0);
    let vip = "  vip  has had its ids changed since: `flagsctl segment upload vip FILE` sets them\n";
    let back = format!(
        "shop/production is back at what it did at revision {to}, now at revision {}, but not all is as it was:\n",
        revision() + 1
    );
    plane.run(&["env", "rollback", &to]).exits(0).prints(&format!("{back}{items}{vip}"));
    let json = plane.run(&["env", "rollback", &to, "--json"]).exits(0).json();
    let left = json!([{"flag": "max-items", "what": "variants"}, {"segment": "vip", "what": "ids"}]);
    assert_eq!(json, json!({"revision": revision(), "left": left}));
}

#[test]
fn environments_projects_and_tokens() {
    let Some(plane) = Plane::start() else { return };
    plane.run(&["flag", "create", "a"]).exits(0);
    plane.run(&["flag", "enable", "a"]).exits(0);
    plane
        .run(&["env", "create", "staging", "--clone-of", "production"])
        .exits(0)
        .prints("shop/staging is made: flags do there what they do in production\n");
    let cloned = plane.run(&["flag", "show", "a", "--env", "staging", "--json"]).exits(0).json();
    assert_eq!(cloned["environments"]["staging"]["state"], "ENABLED");
    let keys: Vec<_> = plane
        .run(&["env", "list", "--json"])
        .exits(0)
        .json()
        .as_array()
        .expect("a list")
        .iter()
        .map(|item| item["key"].clone())
        .collect();
    assert_eq!(keys, ["production", "staging"]);
    assert!(plane.run(&["env", "show"]).exits(0).stdout.contains("public key   "));
    key_of_an_environment(&plane);
    assert!(plane.run(&["project", "list"]).exits(0).stdout.contains("shop  The shop  "));

    let made = plane.run(&["token", "create", "reader", "--scope", "read", "--only", "shop/production"]).exits(0);
    let reader = made.stdout.trim();
    assert!(reader.starts_with("flags_") && made.stderr.contains("not shown again"));
    plane.run_as(Some(reader), &["flag", "show", "a"]).exits(0);
    let refused = plane.run_as(Some(reader), &["flag", "disable", "a"]).exits(3);
    assert!(refused.stderr.contains("refuses (403)"), "{}", refused.stderr);
    let id = &reader[6..22];
    plane.run(&["token", "rotate", id, "--to", "kept"]).exits(0);
    let kept = plane.files.path().join("kept");
    assert_eq!(std::fs::metadata(&kept).expect("a file").permissions().mode() & 0o777, 0o600);
    plane.run_as(None, &["flag", "list", "--keys", "--token-file", "kept"]).exits(0).prints("a\n");
    assert!(plane.run(&["token", "rotate", id, "--to", "kept"]).exits(3).stderr.contains("cannot make kept"));
    let listed = plane.run(&["token", "list"]).exits(0).stdout;
    assert!(listed.contains("revoked") && !listed.contains(reader), "{listed}");
    plane.run(&["token", "revoke", id]).exits(0).prints(&format!("the token {id} is revoked\n"));
    let wrong = plane.run_as(Some(reader), &["flag", "list"]).exits(3);
    assert!(wrong.stderr.contains("refuses (401)") && !wrong.stderr.contains(reader), "{}", wrong.stderr);
}

/// Another key for what hosts get.
fn key_of_an_environment(plane: &Plane) {
    let shown = |name: &str| {
        let key = plane.run(&["env", "show", "--json"]).exits(0).json()[name].take();
        key.as_str().unwrap_or_default().to_owned()
    };
    let key = shown("publicKey");
    assert!(plane.run(&["env", "key", "rotate"]).exits(3).stderr.contains("there is no next key"));
    let told = plane.run(&["env", "key", "next"]).exits(0).stdout;
    let next = shown("nextPublicKey");
    assert!(told.contains(&format!("`&key={next}`")) && told.contains(&format!("beside key={key}")), "{told}");
    assert!(plane.run(&["env", "show"]).exits(0).stdout.contains(&next));
    let cancelled = format!("shop/production has no next key any more, and is signed by {key}\n");
    plane.run(&["env", "key", "cancel"]).exits(0).prints(&cancelled);
    plane.run(&["env", "key", "next"]).exits(0);
    let next = shown("nextPublicKey");
    assert!(plane.run(&["env", "key", "rotate", "--if-revision", "999"]).exits(3).stderr.contains("(412)"));
    let told = plane.run(&["env", "key", "rotate"]).exits(0).stdout;
    assert!(told.starts_with(&format!("shop/production is signed by {next} from revision ")), "{told}");
    assert_eq!((shown("publicKey"), shown("nextPublicKey")), (next, String::new()));
}

#[test]
fn hosts_are_listed_with_what_they_have_published() {
    let Some(plane) = Plane::start() else { return };
    until("the environment is followed", || {
        let asked = ureq::get(format!("{}/sync/v1/shop/production/snapshot", plane.url));
        asked.header("authorization", format!("Bearer {}", plane.admin)).call().is_ok()
    });
    plane.run(&["env", "hosts"]).exits(0).prints("no host has reported to this replica\n");
    for (host, set) in [("web-2", "default"), ("web-1", "default"), ("web-1", "other")] {
        let report = json!({
            "host": host, "set": set, "epoch": 1, "revision": 1, "publishedNs": 1_763_000_000_250_000_000_u64,
            "changedMs": 1_763_000_000_000_u64, "state": "frozen", "version": "0.1.0",
        });
        let sent = ureq::post(format!("{}/sync/v1/shop/production/report", plane.url));
        let sent = sent.header("authorization", format!("Bearer {}", plane.admin)).send(report.to_string());
        assert_eq!(sent.expect("it is taken").status(), 204);
    }
    let listed = plane.run(&["env", "hosts"]).exits(0).stdout;
    let rows: Vec<Vec<&str>> = listed.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["HOST", "SET", "REVISION", "STATE", "PUBLISHED", "LAG", "REPORTED", "VERSION"]);
    let begin: Vec<_> = rows[1..].iter().map(|row| row[..4].join(" ")).collect();
    assert_eq!(begin, ["web-1 default 1 frozen", "web-1 other 1 frozen", "web-2 default 1 frozen"]);
    assert!(listed.contains("250 ms") && listed.contains("2025-11-13"), "{listed}");
    plane.run(&["env", "hosts", "--behind"]).exits(0).prints("no host is behind\n");
    assert_eq!(plane.run(&["env", "hosts", "--json"]).exits(0).json().as_array().map(Vec::len), Some(3));
}

#[test]
fn applying_files_makes_a_project_what_they_say() {
    let Some(plane) = Plane::start() else { return };
    plane.run(&["flag", "create", "old"]).exits(0);
    let folder = plane.files.path().join("flags");
    std::fs::create_dir(&folder).expect("a folder");
    let write = |text: &str| std::fs::write(folder.join("production.yaml"), text).expect("a file");
    let yaml = "\
$evaluators:
  staff: {ends_with: [{var: email}, '@example.com']}
flags:
  cart:
    state: ENABLED
    variants: {on: true, off: false}
    defaultVariant: off
    owner: web
    targeting: {if: [{$ref: staff}, on]}
    prerequisites: [{flag: items, variants: [many]}]
  items:
    state: ENABLED
    variants: {few: 10, many: 50}
    defaultVariant: many
    rollout: {variants: {few: 1, many: 1}}
";
    let yaml = yaml.replace(" off,", " 'off',").replace("{on:", "{'on':").replace("off: false", "'off': false");
    let yaml = yaml.replace("Variant: off", "Variant: 'off'").replace("}, on]", "}, 'on']");
    write(&yaml);
    let plan = plane.run(&["apply", "-f", "flags", "--plan"]).exits(2).stdout;
    assert!(plan.contains("+ cart  created\n") && plan.contains("~ items (production)  "), "{plan}");
    assert!(plan.ends_with("4 differences, nothing was applied; 1 flag in no file, left alone\n"), "{plan}");
    assert!(plane.run(&["apply", "-f", "flags"]).exits(3).stderr.contains("nobody to ask"));
    plane.run(&["flag", "list", "--keys"]).exits(0).prints("old\n");
    let done = plane.run(&["apply", "-f", "flags", "--yes", "--comment", "from git"]).exits(0).stdout;
    assert!(done.ends_with("4 differences applied; 1 flag in no file, left alone\n"), "{done}");
    let cart = plane.config("cart");
    assert_eq!(cart["targeting"], json!({"if": [{"$ref": "staff"}, "on"]}));
    assert_eq!(cart["evaluators"], json!({"staff": {"ends_with": [{"var": "email"}, "@example.com"]}}));
    assert_eq!(cart["prerequisites"], json!([{"flag": "items", "variants": ["many"]}]));

    // The second time there is nothing to do, and nothing is written.
    let revision = || plane.run(&["env", "show", "--json"]).exits(0).json()["revision"].clone();
    let before = revision();
    for mode in ["--plan", "--yes"] {
        let nothing = plane.run(&["apply", "-f", "flags", mode]).exits(0);
        nothing.prints("nothing differs; 1 flag in no file, left alone\n");
    }
    assert_eq!(revision(), before);

    // A variant goes with what used it; flags that no file has go where that is asked for.
    write(&yaml.replace("few: 10, many: 50", "lots: 99, many: 50").replace("{few: 1, many: 1}", "{lots: 1, many: 1}"));
    let json = plane.run(&["apply", "-f", "flags", "--yes", "--prune", "--json"]).exits(0).json();
    assert_eq!((&json["applied"], &json["changes"][2]["action"]), (&json!(true), &json!("archive")));
    let items = plane.run(&["flag", "show", "items", "--json"]).exits(0).json();
    assert_eq!(items["flag"]["variants"], json!({"lots": 99, "many": 50}));
    plane.run(&["flag", "list", "--archived", "--keys"]).exits(0).prints("old\n");
    plane.run(&["apply", "-f", "flags", "--plan", "--prune"]).exits(0).prints("nothing differs\n");

    // What is wrong is found before anything is written.
    write(&yaml.replace("ENABLED", "ENABLE"));
    assert!(plane.run(&["apply", "-f", "flags", "--yes"]).exits(3).stderr.contains("production.yaml:5:"));
    std::fs::remove_file(folder.join("production.yaml")).expect("removed");
    std::fs::write(folder.join("nowhere.yaml"), &yaml).expect("a file");
    assert!(plane.run(&["apply", "-f", "flags", "--yes"]).exits(3).stderr.contains("refuses (404)"));
}

#[test]
fn profiles_keep_tokens_to_themselves() {
    let Some(plane) = Plane::start() else { return };
    let folder = plane.files.path().join("flagsctl");
    std::fs::create_dir(&folder).expect("a folder");
    let path = folder.join("config.toml");
    let write = |text: &str, mode: u32| {
        let mut file = std::fs::File::create(&path).expect("a file");
        file.write_all(text.as_bytes()).expect("written");
        file.set_permissions(std::fs::Permissions::from_mode(mode)).expect("a mode");
    };
    let run = |arguments: &[&str]| {
        let mut command = plane.command(None, arguments);
        for name in ["FLAGSCTL_URL", "FLAGSCTL_PROJECT", "FLAGSCTL_ENVIRONMENT"] {
            command.env_remove(name);
        }
        finish(command.spawn().expect("flagsctl starts"))
    };
    assert!(run(&["flag", "list"]).exits(3).stderr.contains("no control plane is named"));
    let (url, token) = (&plane.url, &plane.admin);
    let text = format!("[profile.default]\nurl = \"{url}\"\ntoken = \"{token}\"\nproject = \"shop\"\n");
    write(&text, 0o644);
    let refused = run(&["flag", "list"]).exits(3);
    assert!(refused.stderr.contains("its mode is 0644\n  hint: chmod 600 "), "{}", refused.stderr);
    write(&text, 0o600);
    run(&["flag", "list"]).exits(0).prints("no flags\n");
    assert!(run(&["env", "show"]).exits(3).stderr.contains("no environment is named"));
    assert!(run(&["flag", "list", "--profile", "other"]).exits(3).stderr.contains("has no profile \"other\""));
    // The token goes to the profile's URL alone, and no message shows it.
    let elsewhere = run(&["flag", "list", "--url", "http://127.0.0.1:1"]).exits(3);
    assert!(elsewhere.stderr.contains("for the profile's URL alone"), "{}", elsewhere.stderr);
    write(&text.replace("flags_", "flags_\u{1}"), 0o600);
    let broken = run(&["flag", "list"]).exits(3);
    assert!(broken.stderr.contains("config.toml:3: ") && !broken.stderr.contains(&token[6..]), "{}", broken.stderr);
    // Beside the file, with a mode of its own.
    write(&format!("[profile.p]\nurl = \"{url}/\"\ntoken_file = \"t\"\nproject = \"shop\"\n"), 0o644);
    std::fs::write(folder.join("t"), format!("{token}\n")).expect("a file");
    std::fs::set_permissions(folder.join("t"), std::fs::Permissions::from_mode(0o640)).expect("a mode");
    assert!(run(&["flag", "list", "--profile", "p"]).exits(3).stderr.contains("its mode is 0640"));
    std::fs::set_permissions(folder.join("t"), std::fs::Permissions::from_mode(0o400)).expect("a mode");
    run(&["flag", "list", "--profile", "p"]).exits(0).prints("no flags\n");
}

#[test]
fn a_busy_control_plane_is_asked_again_with_the_same_key() {
    let socket = TcpListener::bind("127.0.0.1:0").expect("a socket");
    let url = format!("http://{}", socket.local_addr().expect("an address"));
    let server = std::thread::spawn(move || {
        let answers = [
            "429 Too Many Requests\r\nretry-after: 1\r\ncontent-length: 2\r\n\r\n{}",
            "503 Service Unavailable\r\nretry-after: 0\r\ncontent-length: 2\r\n\r\n{}",
            "201 Created\r\ncontent-length: 2\r\n\r\n{}",
        ];
        let mut keys = Vec::new();
        for answer in answers {
            let (stream, _) = socket.accept().expect("a connection");
            let mut reader = BufReader::new(stream);
            let mut length = 0;
            loop {
                let mut line = String::new();
                reader.read_line(&mut line).expect("a line");
                let line = line.trim().to_ascii_lowercase();
                if let Some(key) = line.strip_prefix("idempotency-key: ") {
                    keys.push(key.to_owned());
                }
                if let Some(text) = line.strip_prefix("content-length: ") {
                    length = text.parse().expect("a length");
                }
                if line.is_empty() {
                    break;
                }
            }
            std::io::Read::read_exact(&mut reader, &mut vec![0; length]).expect("a body");
            let answer = format!("HTTP/1.1 {}", answer.replacen("\r\n", "\r\nconnection: close\r\n", 1));
            reader.get_mut().write_all(answer.as_bytes()).expect("answered");
        }
        keys
    });
    let files = directory(&[]);
    let mut command = command(files.path(), &["project", "create", "shop", "--url", &url]);
    command.env("FLAGSCTL_TOKEN", "t").env("XDG_CONFIG_HOME", files.path()).env("NO_PROXY", "*");
    command.env_remove("FLAGSCTL_PROFILE").env_remove("FLAGSCTL_CONFIG");
    finish(command.spawn().expect("flagsctl starts")).exits(0);
    let keys = server.join().expect("the server");
    assert_eq!(keys.len(), 3);
    assert!(keys[0].len() == 32 && keys.iter().all(|key| *key == keys[0]), "{keys:?}");
}

#[test]
fn changes_are_scheduled_compared_and_taken_over() {
    let Some(plane) = Plane::start() else { return };
    plane.run(&["flag", "create", "a"]).exits(0);
    plane.run(&["env", "create", "staging"]).exits(0);
    let later = plane.run(&["flag", "enable", "a", "--at", "2100-01-01T09:00Z", "--comment", "launch"]).exits(0).stdout;
    assert!(later.starts_with("a is changed at 2100-01-01T09:00:00Z; `flagsctl schedule cancel "), "{later}");
    plane.run(&["flag", "rollout", "a", "25%", "--at", "2100-01-02"]).exits(0);
    let listed = plane.run(&["schedule", "list", "--pending", "--json"]).exits(0).json();
    assert_eq!((&listed[0]["patch"], &listed[0]["comment"]), (&json!({"state": "ENABLED"}), &json!("launch")));
    let revision = &plane.config("a")["revision"];
    assert_eq!((&listed[1]["patch"]["rollout"]["variants"]["on"], &listed[1]["ifRevision"]), (&json!(25), revision));
    let id = listed[0]["id"].as_str().expect("an id");
    plane
        .run(&["schedule", "cancel", id])
        .exits(0)
        .prints(&format!("a stays as it is: the scheduled change {id} is cancelled\n"));
    assert!(plane.run(&["schedule", "list"]).exits(0).stdout.contains("  cancelled  {\"state\":\"ENABLED\"}"));
    plane.run(&["flag", "set", "a", "--default", "on", "--at", "0s"]).exits(0);
    until("the change", || plane.config("a")["defaultVariant"] == "on");
    // A rule of another operator: the whole of it, at its time too.
    plane.run(&["flag", "set", "a", "--targeting", r#"{"if": [{"var": "x"}, "on"]}"#]).exits(0);
    plane.run(&["flag", "set", "a", "--targeting", r#"{"or": [{"var": "y"}, "on"]}"#, "--at", "0s"]).exits(0);
    until("the rule", || plane.config("a")["targeting"] == json!({"or": [{"var": "y"}, "on"]}));
    plane.run(&["flag", "set", "a", "--owner", "web", "--at", "1d"]).exits(2);

    let from = plane.config("a")["revision"].to_string();
    plane.run(&["log", "diff", &from]).exits(0).prints("nothing differs\n");
    plane.run(&["flag", "enable", "a"]).exits(0);
    plane.run(&["log", "diff", &from]).exits(1).prints("a\n  state  \"DISABLED\" → \"ENABLED\"\n");
    assert!(plane.run(&["log", "diff", "999"]).exits(3).stderr.contains("revisions"));
    let lines = plane.run(&["log", "export", "--from", &from]).exits(0).stdout;
    let lines: Vec<serde_json::Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let told = lines.iter().map(|entry| (entry["revision"].to_string(), entry["action"].clone()));
    let next = (from.parse::<u64>().unwrap() + 1).to_string();
    let expected = [(from.clone(), json!("schedule.apply")), (next.clone(), json!("flag.configure"))];
    assert!(told.eq(expected), "{lines:?}");
    let first = plane.run(&["log", "export", "--to", "1"]).exits(0).stdout;
    assert!(first.starts_with("{\"revision\":1,") && first.lines().count() == 1, "{first}");
    assert!(plane.run(&["log", "export", "--from", "0x"]).exits(2).stdout.is_empty());

    let cloned = plane.run(&["env", "clone", "--from", "production", "--env", "staging"]).exits(0).stdout;
    assert!(cloned.starts_with("shop/staging: 1 flag configured as in production, at revision "), "{cloned}");
    let file = plane.files.path().join("production.json");
    let export = plane.run(&["env", "export"]).exits(0).stdout;
    std::fs::write(&file, &export).expect("a file");
    let name = file.to_str().expect("UTF-8");
    let import = ["env", "import", name, "--env", "staging"];
    assert!(plane.run(&import).exits(0).stdout.starts_with("shop/staging: 0 created, 0 changed, 1 as they were"));
    std::fs::write(&file, export.replace("\"on\": true", "\"on\": true, \"more\": true")).expect("a file");
    assert!(plane.run(&import).exits(0).stdout.starts_with("shop/staging: 0 created, 1 changed, 0 as they were"));
    let metadata = export.replacen('{', "{\"metadata\": {\"team\": \"web\", \"version\": 2},", 1);
    std::fs::write(&file, metadata).expect("a file");
    let import = ["env", "import", name, "--env", "production"];
    assert!(plane.run(&import).exits(0).stdout.contains("0 as they were, other metadata, at revision"));
    assert!(plane.run(&["env", "show"]).exits(0).stdout.contains("team = \"web\""));
    // What was exported can be applied, and differs in nothing.
    let folder = plane.files.path().join("exported");
    std::fs::create_dir(&folder).expect("a folder");
    std::fs::write(folder.join("production.json"), plane.run(&["env", "export"]).exits(0).stdout).expect("a file");
    plane.run(&["apply", "-f", "exported", "--plan"]).exits(0).prints("nothing differs\n");
    let from = plane.run(&["env", "show", "--json"]).exits(0).json()["revision"].to_string();
    std::fs::write(folder.join("production.json"), r#"{"flags": {}, "metadata": {"version": 3, "n": null}}"#)
        .expect("a file");
    let plan = plane.run(&["apply", "-f", "exported", "--plan"]).exits(2).stdout;
    assert!(
        plan.starts_with("~ (production)  metadata {\"team\":\"web\",\"version\":2} → {\"version\":3}\n"),
        "{plan}"
    );
    plane.run(&["apply", "-f", "exported", "--yes"]).exits(0);
    plane.run(&["apply", "-f", "exported", "--plan"]).exits(0);
    let diff = "metadata  {\"team\":\"web\",\"version\":2} → {\"version\":3}\n";
    plane.run(&["log", "diff", &from]).exits(1).prints(diff);
}

#[test]
fn segments_are_made_uploaded_added_to_and_taken_from() {
    let Some(plane) = Plane::start() else { return };
    let starts = |run: Run, expected: &str| {
        let run = run.exits(0);
        assert!(run.stdout.starts_with(expected) && run.stderr.is_empty(), "{run:?}");
    };
    let ids = || plane.run(&["segment", "show", "vip", "--json"]).exits(0).json()["ids"].clone();
    let revision = || plane.run(&["segment", "show", "vip", "--json"]).exits(0).json()["revision"].to_string();
    let file = |name: &str, text: &[u8]| std::fs::write(plane.files.path().join(name), text).expect("a file");
    plane.run(&["segment", "list"]).exits(0).prints("no segments\n");
    let create = ["segment", "create", "vip", "--name", "Who bought much"];
    starts(plane.run(&create), "vip is made in shop/production: a list without ids, at revision ");
    assert!(plane.run(&create).exits(3).stderr.contains("refuses (409)"));
    let condition = json!({"ends_with": [{"var": "email"}, "@shop.example"]}).to_string();
    starts(
        plane.run(&["segment", "create", "staff", "--condition", &condition]),
        "staff is made in shop/production: a rule, at revision ",
    );

    // Whole lists, in each format.
    let empty = revision();
    file("vip.csv", b"id,name\nb,x\na,y\n");
    starts(
        plane.run(&["segment", "upload", "vip", "vip.csv", "--dry-run"]),
        "dry run, nothing was changed: vip has 2 ids in shop/production, at revision ",
    );
    assert_eq!(ids(), 0);
    starts(plane.run(&["segment", "upload", "vip", "vip.csv", "--comment", "of Monday"]), "vip has 2 ids in ");
    file("vip.csv.gz", &PACKED);
    starts(plane.run(&["segment", "upload", "vip", "vip.csv.gz"]), "vip has 2 ids in ");
    file("vip.data", b"{\"id\": 1}\n\"2\"\n3\n");
    starts(plane.run(&["segment", "upload", "vip", "vip.data", "--format", "jsonl"]), "vip has 3 ids in ");
    let many: String = (0..400_000).map(|n| format!("user-{n:06}\n")).collect();
    file("many", many.as_bytes());
    let done = plane.run(&["segment", "upload", "vip", "many"]);
    done.exits(0)
        .prints(&format!("vip has 400000 ids in shop/production, at revision {}; 4.6 MiB were sent\n", revision()));
    let log = plane.run(&["log", "-n", "4", "--json"]).exits(0).json();
    assert_eq!((&log[0]["action"], &log[3]["comment"]), (&json!("segment.upload"), &json!("of Monday")));

    // A second writer hears that it comes too late, and before its megabytes are sent; so does who may not.
    let late = plane.run(&["segment", "upload", "vip", "many", "--if-revision", &empty]).exits(3);
    assert!(
        late.stderr.contains("refuses (412)") && late.stderr.contains(&format!("say --if-revision {}", revision())),
        "{}",
        late.stderr
    );
    for verb in ["add", "remove"] {
        let late = plane.run(&["segment", verb, "vip", "--file", "many", "--if-revision", &empty]).exits(3);
        assert!(late.stderr.contains("refuses (412)"), "{}", late.stderr);
    }
    let reader = plane.run(&["token", "create", "reader", "--scope", "read"]).exits(0).stdout;
    let refused = plane.run_as(Some(reader.trim()), &["segment", "upload", "vip", "many"]).exits(3);
    assert!(refused.stderr.contains("refuses (403)"), "{}", refused.stderr);
    let missing = plane.run(&["segment", "upload", "vpi", "many"]).exits(3);
    assert!(missing.stderr.contains("refuses (404)"), "{}", missing.stderr);
    assert!(plane.run(&["segment", "add", "vpi", "a"]).exits(3).stderr.contains("refuses (404)"));
    assert!(plane.run(&["segment", "upload", "staff", "many"]).exits(3).stderr.contains("is a rule, and has no ids"));

    // Batches.
    starts(plane.run(&["segment", "add", "vip", "user-000007", "new 1", "é"]), "vip has 400002 ids in ");
    file("gone", b"user-000001\nnobody\nnew 1\n");
    starts(plane.run(&["segment", "remove", "vip", "--file", "gone", "--dry-run"]), "dry run, ");
    assert_eq!(ids(), 400_002);
    starts(plane.run(&["segment", "remove", "vip", "--file", "gone"]), "vip has 400000 ids in ");
    let none = plane.run(&["segment", "remove", "vip", "--file", "many", "--json"]).exits(0);
    assert_eq!((&none.json()["ids"], none.stderr.as_str()), (&json!(1), ""));

    // What is wrong changes nothing.
    let before = revision();
    for arguments in [&["vip", "a\nb"][..], &["vip", ""], &["vip", "fine", "not\u{7}"]] {
        let wrong = plane.run(&[&["segment", "add"], arguments].concat()).exits(3);
        assert!(wrong.stderr.contains("refuses (422)"), "{}", wrong.stderr);
    }
    assert!(plane.run(&["segment", "add", "vip"]).exits(2).stderr.contains("required arguments"));
    plane.run(&["segment", "add", "vip", "a", "--file", "gone"]).exits(2);
    assert!(plane.run(&["segment", "upload", "vip", "nowhere"]).exits(3).stderr.contains("cannot read nowhere"));
    assert!(plane.run(&["segment", "upload", "vip", "."]).exits(3).stderr.contains("cannot read .: "));
    assert_eq!(revision(), before);

    plane.run(&["segment", "archive", "vip"]).exits(0).prints("vip is archived: no host has it any more\n");
    let listed = plane.run(&["segment", "list"]).exits(0).stdout;
    assert!(listed.contains("staff  rule  {\"ends_with\":") && !listed.contains("vip"), "{listed}");
    plane.run(&["segment", "restore", "vip"]).exits(0).prints("vip is back as it was\n");
    let listed = plane.run(&["segment", "list", "bought"]).exits(0).stdout;
    assert!(listed.contains("\nvip  list  1 id  Who bought much  ") && !listed.contains("staff"), "{listed}");
    let shown = plane.run(&["segment", "show", "vip"]).exits(0).stdout;
    assert!(shown.contains("\nids       1\n") && shown.contains("\nkind      list\n"), "{shown}");
}

/// `id`, `"p"` and `q` on lines, packed by gzip.
const PACKED: [u8; 29] =
    [31, 139, 8, 0, 0, 0, 0, 0, 2, 3, 203, 76, 225, 82, 42, 80, 226, 42, 228, 2, 0, 102, 213, 243, 132, 9, 0, 0, 0];

#[test]
fn what_is_refused_while_it_is_sent_says_why() {
    let Some(plane) = Plane::start_with("[limits]\nupload_bytes = 20_000_000\nsegment_ids = 300_000\n") else { return };
    plane.run(&["segment", "create", "vip"]).exits(0);
    plane.run(&["segment", "add", "vip", "a", "b"]).exits(0);
    let shown = || plane.run(&["segment", "show", "vip", "--json"]).exits(0).stdout;
    let before = shown();
    // Each far longer than what lies between two programs: somebody is still writing when the answer comes.
    let ids = |prefix: &str, count: usize| -> String { (0..count).map(|n| format!("{prefix}-{n:09}\n")).collect() };
    let bodies = [
        ("bad", ids("user", 2) + "no\u{7} id\n" + &ids("user", 3_000_000), "refuses (422)", "control characters"),
        ("long", ids(&"u".repeat(200), 150_000), "refuses (413)", "20000000 bytes"),
        ("many", ids("user", 1_300_000), "refuses (422)", "300000"),
    ];
    for (name, text, refusal, words) in bodies {
        let path = plane.files.path().join(name);
        std::fs::write(&path, text).expect("a file");
        let (upload, piped) = (["upload", "vip", name], ["upload", "vip", "-"]);
        for arguments in [&upload[..], &piped, &["add", "vip", "--file", name], &["remove", "vip", "--file", "-"]] {
            let mut command = plane.command(Some(&plane.admin), &[&["segment"], arguments].concat());
            command.stdin(std::fs::File::open(&path).expect("is there"));
            let run = finish(command.spawn().expect("flagsctl starts")).exits(3);
            assert!(run.stderr.contains(refusal) && run.stderr.contains(words), "{arguments:?}: {}", run.stderr);
            assert!(!run.stderr.contains("pipe") && run.stdout.is_empty(), "{run:?}");
        }
    }
    assert_eq!(shown(), before);
}

#[test]
fn who_hangs_up_without_a_word_is_named() {
    let Some(plane) = Plane::start() else { return };
    plane.run(&["segment", "create", "vip"]).exits(0);
    std::fs::write(plane.files.path().join("many"), "user\n".repeat(4_000_000)).expect("a file");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let hangs_up = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("flagsctl comes");
        std::io::Read::read(&mut stream, &mut [0; 4_096]).expect("it asks");
        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").expect("it may send");
        std::io::Read::read(&mut stream, &mut [0; 4_096]).expect("it sends");
    });
    let arguments = ["segment", "add", "vip", "--file", "many", "--url", &url];
    let run = plane.run(&arguments).exits(3);
    hangs_up.join().expect("no panic");
    assert!(run.stderr.contains(&format!("{url} has not taken it all: it hung up, and has not said why")), "{run:?}");
}

#[test]
fn there_is_no_bar_on_a_pipe() {
    let Some(plane) = Plane::start() else { return };
    plane.run(&["segment", "create", "vip"]).exits(0);
    let mut child = plane.command(Some(&plane.admin), &["segment", "upload", "vip", "-"]);
    let mut child = child.stdin(Stdio::piped()).spawn().expect("flagsctl starts");
    let mut input = child.stdin.take().expect("a pipe");
    // Long enough that a terminal had one.
    for n in 0..4 {
        input.write_all(format!("user-{n}\n").repeat(20_000).as_bytes()).expect("written");
        std::thread::sleep(std::time::Duration::from_millis(150));
    }
    drop(input);
    let run = finish(child).exits(0);
    let said = "vip has 4 ids in shop/production, at revision ";
    assert!(run.stdout.starts_with(said) && run.stdout.ends_with("; 546.9 KiB were sent\n"), "{run:?}");
    assert_eq!((run.stdout.lines().count(), run.stderr.as_str()), (1, ""));
}
