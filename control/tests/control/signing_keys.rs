//! The key that signs an environment's texts is replaced by another.

use flags_sync::{Change, Snapshot, Trust};
use serde_json::{Value, json};

use crate::failover::QUICK;
use crate::harness::{Client, Database, Event, Server, eventually, on_both, program};

const TEST: &str = "/api/v1/projects/shop/environments/test";
const KEY: &str = "/api/v1/projects/shop/environments/test/signing-key";
const CONFIG: &str = "/api/v1/projects/shop/environments/test/flags/a";
const SNAPSHOT: &str = "/sync/v1/shop/test/snapshot";

/// Which of these keys, as the API shows them, signed the text of an event.
fn signer<'k>(event: &Event, keys: &[&'k str]) -> Option<&'k str> {
    let by = |key: &&&str| {
        let trust = Trust::from(key.parse::<flags_sync::PublicKey>().unwrap());
        match event.kind.as_str() {
            "snapshot" => Snapshot::open(&event.data, "shop/test", &trust).is_ok(),
            _ => Change::open(&event.data, "shop/test", &trust).is_ok(),
        }
    };
    keys.iter().find(by).copied()
}

fn key(body: &Value, name: &str) -> String {
    body[name].as_str().unwrap_or_default().to_owned()
}

/// A flag that was changed twice: revision 4.
fn with_changes(server: &Server) -> Client {
    let admin = server.furnished();
    admin.post("/api/v1/projects/shop/flags", json!({"key": "a"})).expect(201);
    for n in 1..=2 {
        admin.patch(CONFIG, json!({"metadata": {"n": n}})).expect(200);
    }
    admin
}

#[test]
fn every_replica_goes_over_to_the_next_key() {
    on_both(|database| {
        let (server, second) = (database.serve(), database.serve());
        let (admin, other) = (with_changes(&server), second.admin());
        eventually("the other has it", || other.get(SNAPSHOT).etag() == "\"1.4\"");

        for without in ["rotate", "cancel"] {
            let refused = admin.post(&format!("{KEY}/{without}"), json!(null)).expect(409);
            assert!(refused["detail"].as_str().unwrap().contains("no next key"), "{refused}");
        }
        for (scope, environment, status) in [("write", "test", 403), ("admin", "live", 403), ("admin", "test", 200)] {
            let of = json!({"name": "t", "scope": scope, "project": "shop", "environment": environment});
            let made = admin.post("/api/v1/tokens", of).expect(201);
            let client = server.with_token(made["token"].as_str().unwrap());
            let made = client.post(KEY, json!(null)).status;
            assert_eq!(made, if status == 200 { 201 } else { status }, "{scope} of {environment}");
            if status == 200 {
                client.post(&format!("{KEY}/cancel"), json!(null)).expect(200);
            }
        }
        admin.post(&format!("{KEY}?dry_run=true"), json!(null)).expect(201);
        assert_eq!(admin.get(TEST).expect(200).get("nextPublicKey"), None);
        let first = admin.post(KEY, json!(null)).expect(201);
        admin.post(KEY, json!(null)).expect(409);
        let cancelled = admin.post(&format!("{KEY}/cancel"), json!(null)).expect(200);
        assert_eq!(cancelled.get("nextPublicKey"), None);
        let asked = admin.with("idempotency-key", "once");
        let made = asked.post(KEY, json!(null)).expect(201);
        assert_eq!(asked.post(KEY, json!(null)).expect(201), made, "sent again");
        let (old, new) = (key(&made, "publicKey"), key(&made, "nextPublicKey"));
        assert!(new != old && new != key(&first, "nextPublicKey"), "{made}");
        assert_eq!(other.get(TEST).expect(200), made);
        assert_eq!(admin.get(SNAPSHOT).etag(), "\"1.4\"", "nothing changes for hosts");
        let keys = [old.as_str(), new.as_str()];

        let streams = [&admin, &other].map(|client| client.stream("shop/test", None));
        for stream in &streams {
            assert_eq!(signer(&stream.next(), &keys), Some(keys[0]));
        }
        let outdated = admin.with("if-match", "\"3\"").post(&format!("{KEY}/rotate"), json!(null)).expect(412);
        assert_eq!(outdated["revision"], 4);
        let rotated = admin.with("if-match", "\"4\"").post(&format!("{KEY}/rotate?comment=yearly"), json!(null));
        assert_eq!(rotated.etag(), "\"5\"");
        let rotated = rotated.expect(200);
        assert_eq!((&rotated["publicKey"], &rotated["revision"]), (&json!(new), &json!(5)));
        assert_eq!(rotated.get("nextPublicKey"), None);
        for stream in &streams {
            let event = stream.next_change();
            assert_eq!((event.kind.as_str(), event.id.as_str()), ("change", "1.5"));
            assert_eq!(signer(&event, &keys), Some(keys[1]));
        }
        // Written through the other replica, which signs with it as well.
        other.patch(CONFIG, json!({"metadata": {"n": 3}})).expect(200);
        for stream in &streams {
            assert_eq!(signer(&stream.next_change(), &keys), Some(keys[1]));
        }
        let late = database.serve();
        eventually("a replica that starts is up", || late.admin().get(SNAPSHOT).etag() == "\"1.6\"");
        for replica in [&admin, &other, &late.admin()] {
            let resumed = replica.stream("shop/test", Some("1.4"));
            for id in ["1.5", "1.6"] {
                let event = resumed.next_change();
                assert_eq!((event.kind.as_str(), event.id.as_str()), ("change", id));
                assert_eq!(signer(&event, &keys), Some(keys[1]));
            }
            // What the old key has signed is handed to nobody any more.
            let event = replica.stream("shop/test", Some("1.3")).next_change();
            assert_eq!((event.kind.as_str(), event.id.as_str()), ("snapshot", "1.6"));
            assert_eq!(signer(&event, &keys), Some(keys[1]));
        }
        let log = admin.get(&format!("{TEST}/changes")).expect(200);
        let entry = &log["items"][1];
        assert_eq!((&entry["action"], &entry["comment"]), (&json!("environment.rotate-key"), &json!("yearly")));
        for action in ["signing-key.make", "signing-key.cancel", "signing-key.rotate"] {
            assert!(server.log().contains(action), "{action}: {}", server.log());
        }
        // A rollback to before it leaves the key as it is.
        admin.post(&format!("{TEST}/rollback"), json!({"revision": 3})).expect(200);
        assert_eq!(signer(&streams[0].next_change(), &keys), Some(keys[1]));
        assert_eq!(admin.get(TEST).expect(200)["publicKey"], json!(new));
    });
}

#[test]
fn a_backup_from_before_a_rotation_comes_back_with_the_key_that_hosts_know() {
    let database = Database::sqlite();
    let copy = database.folder.path().join("copy");
    let copy = copy.to_str().unwrap();
    let run = |url: &str, arguments: &[&str]| {
        let output = program(url).args(arguments).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let server = database.serve();
    let admin = with_changes(&server);
    let old = key(&admin.get(TEST).expect(200), "publicKey");
    run(&database.url, &["backup", copy]);
    let new = key(&admin.post(KEY, json!(null)).expect(201), "nextPublicKey");
    admin.post(&format!("{KEY}/rotate"), json!(null)).expect(200);
    let next = key(&admin.post(KEY, json!(null)).expect(201), "nextPublicKey");
    drop(server);

    let said = run(&database.url, &["restore", copy, "--replace"]);
    assert!(said.starts_with("shop/test: epoch 2, revision 5\n"), "{said}");
    let server = database.serve();
    let admin = server.admin();
    eventually("hosts get it", || admin.get(SNAPSHOT).etag() == "\"2.5\"");
    let environment = admin.get(TEST).expect(200);
    assert_eq!((key(&environment, "publicKey"), key(&environment, "nextPublicKey")), (new.clone(), next));
    for at in [None, Some("1.4"), Some("2.4")] {
        let event = admin.stream("shop/test", at).next_change();
        assert_eq!(signer(&event, &[&old, &new]), Some(new.as_str()), "{at:?}");
    }
    drop(server);

    // Where what it replaces is lost, so is the newer key.
    let elsewhere = format!("sqlite:{}", database.folder.path().join("elsewhere").display());
    run(&elsewhere, &["restore", copy]);
    let restored = Database {
        url: elsewhere,
        admin: database.admin.clone(),
        folder: tempfile::tempdir().unwrap(),
        postgres: None,
    };
    let server = restored.serve();
    assert_eq!(key(&server.admin().get(TEST).expect(200), "publicKey"), old);
}

#[test]
fn a_rotation_that_a_promoted_standby_has_lost_is_taken_over_into_the_new_epoch() {
    let Some((mut database, standby)) = Database::with_standby() else {
        println!("skipped: PostgreSQL is not installed");
        return;
    };
    let server = database.serve_with(QUICK);
    let admin = with_changes(&server);
    let made = admin.post(KEY, json!(null)).expect(201);
    let (old, new) = (key(&made, "publicKey"), key(&made, "nextPublicKey"));
    eventually("the standby has it", || standby.has_all_of(database.postgres.as_ref().unwrap()));
    standby.cut_off();
    admin.post(&format!("{KEY}/rotate"), json!(null)).expect(200);
    let stream = admin.stream("shop/test", None);
    assert_eq!(signer(&stream.next(), &[&old, &new]), Some(new.as_str()));
    database.postgres.as_mut().unwrap().kill();
    standby.promote();
    // Hosts may know no other key any more.
    let event = stream.next_change();
    assert_eq!((event.kind.as_str(), event.id.as_str()), ("snapshot", "2.5"));
    assert_eq!(signer(&event, &[&old, &new]), Some(new.as_str()));
    eventually("it can be asked", || admin.get(TEST).status == 200);
    let environment = admin.get(TEST).expect(200);
    assert_eq!((key(&environment, "publicKey"), key(&environment, "nextPublicKey")), (new, String::new()));
}
