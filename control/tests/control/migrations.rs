//! The tables, up and down.

use crate::harness::{Database, on_both, program};

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
