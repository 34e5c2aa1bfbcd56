//! Projects, environments and tokens from their making to their end, by flagsctl and the real control plane.

mod common;

use common::plane::Plane;
use serde_json::json;

const REST: &str = "archived: nothing in it can be changed, and hosts go on with what they have";

#[test]
fn a_project_is_named_archived_and_restored() {
    let Some(plane) = Plane::start() else { return };
    let create = ["project", "create", "cms", "--name", "CMS", "--description", "Pages and news"];
    plane.run(&create).exits(0).prints("cms is made: a project without environments yet\n");
    let shown = plane.run(&["project", "show", "cms"]).exits(0).stdout;
    assert!(shown.starts_with("project      cms\nname         CMS\ndescription  Pages and news\nmade  "), "{shown}");
    assert!(shown.ends_with("revision     1\n"), "{shown}");
    plane.run(&["project", "show", "nobody"]).exits(3);

    let set = ["project", "set", "cms", "--name", "Content"];
    plane.run(&[&set[..], &["--if-revision", "7"]].concat()).exits(3).complains(
        "flagsctl: the control plane refuses (412): it has changed meanwhile: its revision is 1 now\n  \
         hint: look at what it is now, then say --if-revision 1, or do without\n",
    );
    let tried = "dry run, nothing was changed: cms is changed, at revision 2\n";
    plane.run(&[&set[..], &["--dry-run"]].concat()).exits(0).prints(tried);
    plane.run(&[&set[..], &["--if-revision", "1"]].concat()).exits(0).prints("cms is changed, at revision 2\n");
    let json = plane.run(&["project", "show", "cms", "--json"]).exits(0).json();
    assert_eq!((&json["name"], &json["description"]), (&json!("Content"), &json!("Pages and news")));
    assert!(plane.run(&["project", "set", "cms"]).exits(2).stderr.contains("nothing is named"));

    plane.run(&["env", "create", "live", "--project", "cms"]).exits(0);
    let archive = ["project", "archive", "cms", "--comment", "moved", "--if-revision"];
    assert!(plane.run(&[&archive[..], &["1"]].concat()).exits(3).stderr.contains("refuses (412)"));
    plane.run(&[&archive[..], &["2"]].concat()).exits(0).prints(&format!("cms is {REST}\n"));
    let listed = plane.run(&["project", "list"]).exits(0).stdout;
    assert!(listed.contains("shop  The shop  ") && !listed.contains("cms"), "{listed}");
    let listed = plane.run(&["project", "list", "--archived"]).exits(0).stdout;
    assert!(listed.contains("cms  Content  ") && !listed.contains("shop"), "{listed}");
    let shown = plane.run(&["project", "show", "cms"]).exits(0).stdout;
    assert!(shown.contains("archived     yes: nothing in it can be changed, and hosts go on\n"), "{shown}");
    let refused = plane.run(&["flag", "create", "a", "--project", "cms"]).exits(3);
    assert_eq!(
        refused.stderr,
        "flagsctl: the control plane refuses (409): the project \"cms\" is archived: nothing in it is changed until it is restored\n"
    );
    let log = plane.run(&["log", "--project", "cms", "--env", "live", "--json"]).exits(0).json();
    assert_eq!((&log[0]["action"], &log[0]["comment"]), (&json!("project.archive"), &json!("moved")));
    plane.run(&["project", "restore", "cms"]).exits(0).prints("cms is back, and can be changed\n");
    plane.run(&["flag", "create", "a", "--project", "cms"]).exits(0);
}

#[test]
fn an_environment_is_named_archived_and_restored() {
    let Some(plane) = Plane::start() else { return };
    plane.run(&["env", "create", "staging"]).exits(0);
    let staging = |arguments: &[&str]| plane.run(&[arguments, &["--env", "staging"]].concat());
    staging(&["env", "set", "--name", "Before production"]).exits(0).prints("shop/staging is changed, at revision 2\n");
    staging(&["env", "set", "--name", "Pre", "--metadata", "team=web"])
        .exits(0)
        .prints("shop/staging is changed, at revision 3\n");
    let shown = staging(&["env", "show", "--json"]).exits(0).json();
    assert_eq!((&shown["name"], &shown["metadata"]), (&json!("Pre"), &json!({"team": "web"})));
    let log = staging(&["log"]).exits(0).stdout;
    assert!(log.contains("  environment.update  name, metadata\n"), "{log}");
    assert!(staging(&["env", "set"]).exits(2).stderr.contains("nothing is named"));

    staging(&["env", "archive", "--if-revision", "2"]).exits(3);
    staging(&["env", "archive", "--comment", "quiet"])
        .exits(0)
        .prints(&format!("shop/staging is {REST}, at revision 4\n"));
    let keys = |arguments: &[&str]| {
        let listed = plane.run(&[&["env", "list", "--json"], arguments].concat()).exits(0).json();
        listed.as_array().expect("a list").iter().map(|item| item["key"].clone()).collect::<Vec<_>>()
    };
    assert_eq!((keys(&[]), keys(&["--archived"])), (vec![json!("production")], vec![json!("staging")]));
    assert!(staging(&["env", "show"]).exits(0).stdout.contains("archived     yes: "));
    let refused = staging(&["env", "set", "--name", "x"]).exits(3).stderr;
    assert!(refused.contains("refuses (409): the environment \"shop/staging\" is archived"), "{refused}");
    // A flag is one of all environments.
    plane.run(&["flag", "create", "a"]).exits(0);
    assert!(staging(&["flag", "enable", "a"]).exits(3).stderr.contains("is archived"));
    let shown = plane.run(&["flag", "show", "a", "--env", "staging", "--json"]).exits(0).json();
    assert_eq!(shown["environments"]["staging"]["state"], "DISABLED");
    // What files say of it is refused before anything is done, and left alone where it is so.
    let folder = plane.files.path().join("flags");
    std::fs::create_dir(&folder).expect("a folder");
    let write = |environment: &str, text: &str| {
        std::fs::write(folder.join(format!("{environment}.yaml")), text).expect("a file");
    };
    let file = "flags:\n  a:\n    state: STATE\n    variants: {'on': true, 'off': false}\n    defaultVariant: 'off'\n";
    write("production", &file.replace("STATE", "ENABLED"));
    write("staging", &file.replace("STATE", "ENABLED"));
    for mode in ["--plan", "--yes"] {
        let refused = plane.run(&["apply", "-f", "flags", mode]).exits(3);
        assert!(refused.stdout.contains("~ a (staging)  "), "{refused:?}");
        let said = "flagsctl: shop/staging is archived, and differs from its file: nothing was applied\n";
        assert!(refused.stderr.starts_with(said), "{refused:?}");
    }
    assert_eq!(plane.config("a")["state"], "DISABLED");
    write("staging", &file.replace("STATE", "DISABLED"));
    assert!(plane.run(&["apply", "-f", "flags", "--yes"]).exits(0).stdout.ends_with("1 difference applied\n"));
    staging(&["env", "restore"]).exits(0).prints("shop/staging is back, and can be changed, at revision 6\n");
    staging(&["flag", "enable", "a"]).exits(0);
}

#[test]
fn tokens_and_scheduled_changes_are_ended_by_those_who_saw_what_they_are() {
    let Some(plane) = Plane::start() else { return };
    let make = |arguments: &[&str]| {
        let made = plane.run(&[&["token", "create"], arguments].concat()).exits(0).stdout.trim().to_owned();
        let id = made[6..22].to_owned();
        (made, id)
    };
    let (team, team_id) = make(&["team", "--scope", "admin", "--only", "shop"]);
    let (_, host_id) = make(&["host", "--scope", "sync", "--only", "shop/production"]);
    let (_, other_id) = make(&["other", "--scope", "read"]);
    let shown = plane.run(&["token", "show", &host_id]).exits(0).stdout;
    assert!(shown.contains("\nfor       shop/production\nstate     good\nmade      "), "{shown}");
    assert!(shown.ends_with("\nrevision  1\n"), "{shown}");

    // An admin of the project sees its tokens, and no other.
    let listed = plane.run_as(Some(&team), &["token", "list"]).exits(0).stdout;
    assert!(listed.contains(&team_id) && listed.contains(&host_id) && !listed.contains(&other_id), "{listed}");
    let as_team = |arguments: &[&str]| plane.run_as(Some(&team), arguments);
    assert!(as_team(&["token", "revoke", &other_id]).exits(3).stderr.contains("refuses (404)"));
    assert!(as_team(&["token", "show", &other_id]).exits(3).stderr.contains("refuses (404)"));
    let beyond = as_team(&["token", "create", "x", "--scope", "read"]).exits(3).stderr;
    assert!(beyond.contains("refuses (403)"), "{beyond}");
    as_team(&["token", "create", "x", "--scope", "read", "--only", "shop"]).exits(0);
    let late = as_team(&["token", "rotate", &host_id, "--if-revision", "9", "--to", "kept"]).exits(3).stderr;
    assert!(late.contains("its revision is 1 now"), "{late}");
    assert!(!plane.files.path().join("kept").exists());
    as_team(&["token", "rotate", &host_id, "--if-revision", "1", "--overlap", "60"]).exits(0);
    as_team(&["token", "revoke", &host_id, "--if-revision", "1"]).exits(3);
    assert!(as_team(&["token", "show", &host_id]).exits(0).stdout.contains("\nstate     ending\n"));
    as_team(&["token", "revoke", &host_id, "--if-revision", "2"])
        .exits(0)
        .prints(&format!("the token {host_id} is revoked\n"));
    assert!(as_team(&["token", "show", &host_id]).exits(0).stdout.contains("\nstate     revoked\n"));

    plane.run(&["flag", "create", "a"]).exits(0);
    plane.run(&["flag", "enable", "a", "--at", "7d"]).exits(0);
    let id = plane.run(&["schedule", "list", "--json"]).exits(0).json()[0]["id"].as_str().expect("an id").to_owned();
    let cancel = |revision: &str| plane.run(&["schedule", "cancel", &id, "--if-revision", revision]);
    assert!(cancel("2").exits(3).stderr.contains("its revision is 1 now"));
    cancel("1").exits(0).prints(&format!("a stays as it is: the scheduled change {id} is cancelled\n"));
    assert!(cancel("1").exits(3).stderr.contains("its revision is 2 now"));
}
