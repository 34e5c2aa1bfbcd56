//! What operators see.

use serde_json::json;

use crate::harness::{Client, Database, eventually, free_port, program};

#[test]
fn numbers_are_shown_at_the_management_address_only() {
    let database = Database::sqlite();
    let port = free_port();
    let server = database.serve_with(&format!("management = \"127.0.0.1:{port}\"\n"));
    let admin = server.furnished();
    admin.post("/api/v1/projects/shop/flags", json!({"key": "a"})).expect(201);
    eventually("hosts get it", || admin.get("/sync/v1/shop/test/snapshot").etag() == "\"1.2\"");
    let stream = admin.stream("shop/test", None);
    assert_eq!(stream.next().kind, "snapshot");
    server.with_token("").get("/api/v1/projects").expect(401);
    let management = Client::new(&format!("http://127.0.0.1:{port}"), "");
    let text = management.get("/metrics").text;
    for line in [
        r#"flags_control_requests_total{method="POST",route="/api/v1/projects/{project}/flags",status="201"} 1"#,
        r#"flags_control_requests_total{method="GET",route="/api/v1/projects",status="401"} 1"#,
        r#"flags_control_streams{environment="shop/test"} 1"#,
        r#"flags_control_streams{environment="shop/live"} 0"#,
        r#"flags_control_revision{environment="shop/test"} 2"#,
        "flags_control_database_up 1",
        r#"flags_control_request_seconds_bucket{route="/api/v1/projects/{project}/flags",le="+Inf"} 1"#,
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
    assert_eq!(management.get("/readyz").status, 200);
    assert_eq!(admin.get("/metrics").status, 404);
}

#[test]
fn a_request_keeps_its_id() {
    let database = Database::sqlite();
    let server = database.serve();
    let id = |given: &str| server.admin().with("x-request-id", given).get("/api/v1/projects").header("x-request-id");
    assert_eq!(id("from-the-proxy_1.2"), "from-the-proxy_1.2");
    for bad in ["with space", "\"quoted\"", &"x".repeat(65)] {
        assert_eq!(id(bad).len(), 16, "{bad}");
    }
}

#[test]
fn a_database_that_is_not_there_is_said_to_be_and_not_made_by_the_way() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("c.db");
    let run = |arguments: &[&str]| {
        let output =
            program(&format!("sqlite:{}", path.display())).args(arguments).current_dir(folder.path()).output().unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    std::fs::write(folder.path().join("f.json"), r#"{"flags":{}}"#).unwrap();
    let commands: [&[&str]; 4] =
        [&["backup", "copy.db"], &["export", "shop/test"], &["import", "shop/test", "f.json"], &["serve"]];
    for (why, prepare) in [("there is no database", false), ("`flags-control init`", true)] {
        if prepare {
            std::fs::write(&path, "").unwrap();
        }
        for command in commands {
            let (done, said) = run(command);
            assert!(!done && said.contains(why), "{command:?}: {said}");
            assert_eq!(path.exists(), prepare, "{command:?}");
            assert!(!folder.path().join("copy.db").exists(), "an empty copy is none");
        }
    }
    assert!(run(&["migrate"]).0);
    assert!(run(&["migrate", "--down"]).0);
    let (done, said) = run(&["backup", "copy.db"]);
    assert!(!done && said.contains("run `flags-control migrate`"), "{said}");
    let (done, said) = run(&["migrate", "--log-level", "loud"]);
    assert!(!done && said.contains("log_level"), "{said}");
    assert!(run(&["migrate"]).0 && run(&["backup", "copy.db"]).0);
    // What is no refusal comes with its reason.
    rusqlite::Connection::open(&path).unwrap().execute_batch("PRAGMA foreign_keys = OFF; DROP TABLE project").unwrap();
    let (done, said) = run(&["export", "shop/test"]);
    assert!(!done && said.contains("no such table: project"), "{said}");
}
