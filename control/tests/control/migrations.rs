//! The tables, up and down.

use serde_json::json;

use crate::harness::{Database, eventually, on_both, program};

#[test]
fn the_tables_go_up_and_down_and_a_server_says_what_is_missing() {
    on_both(|database| {
        let run = |arguments: &[&str]| {
            let output = program(&database.url).args(arguments).output().unwrap();
            (output.status.success(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
        };
        assert_eq!(run(&["migrate"]), (true, "nothing to do\n".to_owned()));
        let (again, said) = run(&["init"]);
        assert!(!again && said.contains("tokens already"), "{said}");
        let mut taken_back = 0;
        while run(&["migrate", "--down"]).1 != "nothing to do\n" {
            taken_back += 1;
            assert!(taken_back < 100);
        }
        let (served, said) = run(&["serve", "--listen", "127.0.0.1:0"]);
        assert!(!served && said.contains("no tables") && said.contains("flags-control migrate"), "{said}");
        let (done, said) = run(&["migrate"]);
        assert!(done && said.starts_with("0001_start: done\n"), "{said}");
        assert_eq!(said.lines().count(), taken_back);
        assert!(run(&["init"]).0);
    });
}

/// What was there before a step goes on with it, and what only it knew is gone once it is taken back: who is archived is open then.
#[test]
fn projects_and_environments_outlive_steps_back_and_up() {
    on_both(|database| {
        let run = |arguments: &[&str]| {
            let output = program(&database.url).args(arguments).output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8(output.stdout).unwrap()
        };
        let (shop, test) = ("/api/v1/projects/shop", "/api/v1/projects/shop/environments/test");
        let server = database.serve();
        let admin = server.furnished();
        admin.patch(shop, json!({"name": "The shop", "description": "all of it"})).expect(200);
        admin.patch(test, json!({"name": "Test"})).expect(200);
        let made = admin.get(shop).expect(200)["createdMs"].clone();
        admin.post(&format!("{test}/archive"), json!({})).expect(200);
        admin.post(&format!("{shop}/archive"), json!({})).expect(200);
        drop(server);
        let mut taken_back = 0;
        while run(&["migrate", "--down"]) != "0008_life: taken back\n" {
            taken_back += 1;
            assert!(taken_back < 100);
        }
        assert_eq!(run(&["migrate"]).lines().count(), taken_back + 1);

        let server = database.serve();
        let admin = server.admin();
        eventually("it is served", || admin.get("/sync/v1/shop/test/snapshot").status == 200);
        let project = admin.get(shop);
        assert_eq!(project.etag(), "\"1\"");
        let project = project.expect(200);
        assert_eq!((&project["name"], &project["description"]), (&json!("The shop"), &json!("")));
        assert_eq!((&project["archived"], &project["changedMs"]), (&json!(false), &made));
        let environment = admin.get(test).expect(200);
        assert_eq!((&environment["name"], &environment["archived"]), (&json!("Test"), &json!(false)));
        // The log has what happened, and goes on.
        admin.post(&format!("{test}/archive"), json!({})).expect(200);
        let log = admin.get(&format!("{test}/changes")).expect(200)["items"].clone();
        let actions: Vec<_> = log.as_array().unwrap().iter().map(|entry| entry["action"].as_str().unwrap()).collect();
        let before = ["project.archive", "environment.archive", "environment.update", "environment.create"];
        assert_eq!((actions[0], &actions[1..]), ("environment.archive", &before[..]));
    });
}

#[test]
fn what_is_no_database_is_refused_with_a_sentence() {
    for (url, expected) in [
        ("mysql://x", "a database is"),
        ("sqlite:/nonexistent/folder/db", "unable to open"),
        ("postgres://flags:secret@127.0.0.1:1/db?nonsense=1", "not understood"),
        ("postgres://flags:secret@127.0.0.1:1/db", "unavailable"),
    ] {
        let output = program(url).arg("init").output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(expected), "{url}: {said}");
        assert!(!said.contains("secret"), "{said}");
    }
    let database = Database::sqlite();
    assert!(database.admin.starts_with("flags_"));
}
