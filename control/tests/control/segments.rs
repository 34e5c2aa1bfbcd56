//! Segments: rules that flags share, and lists of ids.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpStream;

use flags_sync::list::{Merge, PartHasher};
use flags_sync::{List, PublicKey, Snapshot, Trust};
use serde_json::{Value, json};

use crate::harness::{Client, Server, eventually, on_both};

const TEST: &str = "/api/v1/projects/shop/environments/test";
const SEGMENTS: &str = "/api/v1/projects/shop/environments/test/segments";
const ENVIRONMENT: &str = "shop/test";

/// What hosts get of the newest revision.
pub(crate) fn snapshot(admin: &Client) -> Snapshot {
    let environment = admin.get(TEST).expect(200);
    let tag = format!("\"1.{}\"", environment["revision"]);
    eventually("hosts get it", || admin.get("/sync/v1/shop/test/snapshot").etag() == tag);
    let key = environment["publicKey"].as_str().unwrap().parse::<PublicKey>().unwrap();
    Snapshot::open(&admin.get("/sync/v1/shop/test/snapshot").text, ENVIRONMENT, &Trust::from(key)).unwrap()
}

/// The ids of a list as a host comes by them: each part by its name, checked.
pub(crate) fn as_a_host(client: &Client, list: &List) -> Vec<String> {
    let parts = list.parts.iter().map(|part| {
        let reply = client.get(&format!("/sync/v1/shop/test/parts/{}", part.sha256));
        assert_eq!((reply.status, reply.header("etag")), (200, format!("\"{}\"", part.sha256)));
        assert!(reply.header("cache-control").contains("immutable"));
        let mut hasher = PartHasher::default();
        hasher.update(reply.text.as_bytes());
        assert_eq!((hasher.finish(), reply.text.len() as u64), (part.sha256, part.bytes));
        assert_eq!(reply.text.lines().count() as u64, part.ids);
        (std::io::Cursor::new(reply.text), part.removes)
    });
    let mut merge = Merge::new(parts.collect::<Vec<_>>()).unwrap();
    let mut ids = Vec::new();
    while let Some(id) = merge.next_id().unwrap() {
        ids.push(String::from_utf8(id.to_vec()).unwrap());
    }
    assert_eq!(ids.len() as u64, list.ids);
    ids
}

fn ids(client: &Client, key: &str) -> Vec<String> {
    let reply = client.get(&format!("{SEGMENTS}/{key}/ids"));
    assert_eq!(reply.status, 200, "{}", reply.text);
    reply.text.lines().map(str::to_owned).collect()
}

fn send(client: &Client, method: &str, path: &str, body: &str) -> crate::harness::Reply {
    client.with("content-type", "text/plain").send(method, &format!("{SEGMENTS}/{path}"), Some(body.to_owned()))
}

#[test]
fn a_rule_is_shared_by_flags_and_cannot_be_taken_from_under_them() {
    on_both(|database| {
        let server = database.serve();
        let admin = server.furnished();
        let staff = json!({"ends_with": [{"var": "email"}, "@shop.example"]});
        let made = admin.post(SEGMENTS, json!({"key": "staff", "kind": "rule", "condition": staff})).expect(201);
        assert_eq!((&made["condition"], &made["revision"]), (&staff, &json!(2)));
        admin
            .post(
                SEGMENTS,
                json!({"key": "testers", "kind": "rule", "condition": {"or": [{"$ref": "staff"}, {"var": "beta"}]}}),
            )
            .expect(201);
        admin.post("/api/v1/projects/shop/flags", json!({"key": "a"})).expect(201);
        let config = json!({"state": "ENABLED", "targeting": {"if": [{"$ref": "testers"}, "on"]}});
        admin.patch(&format!("{TEST}/flags/a"), config).expect(200);
        let seen = snapshot(&admin);
        assert_eq!(seen.evaluators.keys().collect::<Vec<_>>(), ["staff", "testers"]);
        assert!(seen.flags["a"].get().contains(r#"{"$ref":"testers"}"#));

        // One change, one revision, one row.
        let before = admin.get(&format!("{SEGMENTS}/staff"));
        let patch = json!({"condition": {"var": "staff"}, "name": "Us"});
        admin.patch(&format!("{SEGMENTS}/staff"), json!({"condition": {"var": "a", "!": [1]}})).expect(422);
        let changed = admin.with("if-match", "*").put(&format!("{SEGMENTS}/staff?comment=simpler"), patch.clone());
        let changed = changed.expect(200);
        let seen = snapshot(&admin);
        assert_eq!(seen.evaluators["staff"].get(), r#"{"var":"staff"}"#);
        assert_eq!(changed["revision"], seen.stamp.revision);
        let entry = admin.get(&format!("{TEST}/changes?limit=1")).expect(200)["items"][0].clone();
        assert_eq!(
            (&entry["action"], &entry["comment"], &entry["flags"]),
            (&json!("segment.update"), &json!("simpler"), &json!([]))
        );
        assert_eq!(
            (&entry["segments"][0]["before"]["condition"], &entry["segments"][0]["after"]["condition"]),
            (&staff, &patch["condition"])
        );
        admin.with("if-match", &before.etag()).patch(&format!("{SEGMENTS}/staff"), json!({"name": "late"})).expect(412);
        admin.put(&format!("{SEGMENTS}/staff"), json!({"condition": true})).expect(428);
        admin.patch(&format!("{SEGMENTS}/staff?dry_run=true"), json!({"name": "dry"})).expect(200);
        assert_eq!(admin.get(&format!("{SEGMENTS}/staff")).expect(200)["name"], "Us");

        // Neither archived while something refers to it, nor made a circle or nonsense.
        for (key, user) in [("testers", "flag \"a\""), ("staff", "segment \"testers\"")] {
            let refused = admin.post(&format!("{SEGMENTS}/{key}/archive"), json!({})).expect(409);
            assert!(refused["detail"].as_str().unwrap().contains(user), "{refused}");
        }
        for (condition, pointer) in [
            (json!({"$ref": "testers"}), "/condition"),
            (json!({"nonsense": []}), "/condition/nonsense"),
            (json!({"$ref": "nobody"}), "/condition"),
            (Value::Null, "/condition"),
        ] {
            let put = admin.with("if-match", "*").put(&format!("{SEGMENTS}/staff"), json!({"condition": condition}));
            let refused = put.expect(422);
            assert!(refused["errors"][0]["pointer"].as_str().unwrap().starts_with(pointer), "{refused}");
        }
        admin.patch(&format!("{TEST}/flags/a"), json!({"targeting": {"if": [{"$ref": "nobody"}, "on"]}})).expect(422);
        admin.patch(&format!("{TEST}/flags/a"), json!({"targeting": null})).expect(200);
        for key in ["testers", "staff"] {
            assert_eq!(admin.post(&format!("{SEGMENTS}/{key}/archive"), json!({})).expect(200)["archived"], true);
        }
        assert!(snapshot(&admin).evaluators.is_empty());
        admin.post(SEGMENTS, json!({"key": "staff", "kind": "list"})).expect(409);
        admin.post(&format!("{SEGMENTS}/testers/restore"), json!({})).expect(422);
        admin.post(&format!("{SEGMENTS}/staff/restore"), json!({})).expect(200);
        assert_eq!(snapshot(&admin).evaluators.len(), 1);
        let listed = admin.get(&format!("{SEGMENTS}?archived=true")).expect(200);
        assert_eq!(listed["items"].as_array().unwrap().len(), 1);
        for bad in ["../x", "", "a b", "'; DROP TABLE segment; --"] {
            admin.post(SEGMENTS, json!({"key": bad, "kind": "list"})).expect(422);
        }
    });
}

#[test]
fn a_prerequisite_on_a_flag_with_a_segment_means_what_that_flag_does() {
    on_both(|database| {
        let server = database.serve();
        let admin = server.furnished();
        let half = json!({"==": [{"fractional": [["in", 50], ["out", 50]]}, "in"]});
        admin.post(SEGMENTS, json!({"key": "half", "kind": "rule", "condition": half})).expect(201);
        for key in ["a", "b"] {
            admin.post("/api/v1/projects/shop/flags", json!({"key": key})).expect(201);
        }
        let config = json!({"state": "ENABLED", "targeting": {"if": [{"$ref": "half"}, "on"]}});
        admin.patch(&format!("{TEST}/flags/a"), config).expect(200);
        let config = json!({"state": "ENABLED", "prerequisites": [{"flag": "a", "variants": ["on"]}]});
        admin.patch(&format!("{TEST}/flags/b"), config).expect(200);
        let seen = snapshot(&admin);
        let dependent = seen.flags["b"].get();
        assert!(!dependent.contains("$ref") && dependent.contains("fractional"), "{dependent}");
        // The segment's change is the dependent's, too.
        admin.with("if-match", "*").put(&format!("{SEGMENTS}/half"), json!({"condition": {"var": "vip"}})).expect(200);
        assert!(snapshot(&admin).flags["b"].get().contains("vip"));
    });
}

#[test]
fn a_file_has_the_rules_that_its_flags_share() {
    on_both(|database| {
        let server = database.serve();
        let admin = server.furnished();
        let staff = json!({"ends_with": [{"var": "email"}, "@shop.example"]});
        let testers = json!({"or": [{"$ref": "staff"}, {"var": "beta"}]});
        for (key, condition) in [("staff", &staff), ("testers", &testers)] {
            admin.post(SEGMENTS, json!({"key": key, "kind": "rule", "condition": condition})).expect(201);
        }
        admin.post("/api/v1/projects/shop/flags", json!({"key": "a"})).expect(201);
        let config = json!({"state": "ENABLED", "targeting": {"if": [{"$ref": "testers"}, "on"]}});
        admin.patch(&format!("{TEST}/flags/a"), config).expect(200);
        let shared = json!({"staff": staff, "testers": testers});
        for form in ["", "?compiled=true"] {
            assert_eq!(admin.get(&format!("{TEST}/export{form}")).expect(200)["$evaluators"], shared, "{form}");
        }
        let file = admin.get(&format!("{TEST}/export")).expect(200);
        let kind = json!({"kind": "rule"});
        assert_eq!(file["$segments"], json!({"staff": kind, "testers": kind}));
        // Where they are segments they stay that; elsewhere they become it, or the flag's own where nobody says that they are.
        let imported = admin.post(&format!("{TEST}/import"), file.clone()).expect(200);
        assert_eq!((&imported["changed"], &imported["unchanged"]), (&json!([]), &json!(1)));
        let live = "/api/v1/projects/shop/environments/live";
        let mut unsaid = file.clone();
        unsaid.as_object_mut().unwrap().remove("$segments");
        assert_eq!(admin.post(&format!("{live}/import"), unsaid).expect(200)["changed"], json!(["a"]));
        assert_eq!(admin.get(&format!("{live}/flags/a")).expect(200)["evaluators"], shared);
        let imported = admin.post(&format!("{live}/import"), file.clone()).expect(200);
        assert_eq!((&imported["changed"], &imported["segments"]), (&json!(["a"]), &json!(["staff", "testers"])));
        assert_eq!(admin.get(&format!("{live}/flags/a")).expect(200)["evaluators"], Value::Null);
        assert_eq!(admin.get(&format!("{live}/export")).expect(200), file);

        // A rule of the flag's own refers to a segment as its targeting does.
        let own = json!({"targeting": {"if": [{"$ref": "mine"}, "on"]}, "evaluators": {"mine": {"!": [{"$ref": "testers"}]}}});
        admin.patch(&format!("{TEST}/flags/a"), own).expect(200);
        let refused = admin.post(&format!("{SEGMENTS}/testers/archive"), json!({})).expect(409);
        assert_eq!(refused["detail"], "the flag \"a\" refers to it");
    });
}

#[test]
fn a_list_is_uploaded_added_to_taken_from_and_compacted() {
    on_both(|database| {
        let server = database.serve();
        let admin = server.furnished();
        admin.post(SEGMENTS, json!({"key": "vip", "kind": "list"})).expect(201);
        assert_eq!(ids(&admin, "vip"), [""; 0]);
        send(&admin, "PUT", "vip/ids", "b\na\n").expect(428);
        let any = admin.with("if-match", "*");
        assert_eq!(send(&any, "PUT", "vip/ids?dry_run=true", "b\na\n").expect(200)["ids"], 2);
        assert_eq!(ids(&admin, "vip"), [""; 0]);
        let body: String = (0..1_000).rev().map(|n| format!("user-{:04}\n", n % 900)).collect();
        let uploaded = send(&any, "PUT", "vip/ids", &body);
        let etag = uploaded.etag();
        let uploaded = uploaded.expect(200);
        assert_eq!(uploaded["ids"], 900);
        assert_eq!(send(&any, "PUT", "vip/ids", &body).etag(), etag, "the same again is no change");
        let mut expected: BTreeSet<String> = (0..900).map(|n| format!("user-{n:04}")).collect();
        let host = |expected: &BTreeSet<String>| {
            let list = snapshot(&admin).lists["vip"].clone();
            assert!(as_a_host(&admin, &list).iter().eq(expected) && ids(&admin, "vip").iter().eq(expected));
            list
        };
        assert_eq!(host(&expected).parts.len(), 1);
        for round in 0..20 {
            let (new, old) = (format!("é{round}"), format!("user-{round:04}"));
            let added =
                send(&admin, "POST", "vip/ids/add?comment=more", &format!("{new}\nuser-0899\n{new}\n")).expect(200);
            expected.insert(new);
            assert_eq!(added["ids"], expected.len());
            let removed = send(&admin, "POST", "vip/ids/remove", &format!("{old}\nnobody\n")).expect(200);
            expected.remove(&old);
            assert_eq!(removed["ids"], expected.len());
        }
        let list = host(&expected);
        assert!(list.parts.len() < 20, "made one again now and then: {}", list.parts.len());
        // Nothing that makes a difference is no change.
        let etag = admin.get(&format!("{SEGMENTS}/vip")).etag();
        assert_eq!(send(&admin, "POST", "vip/ids/add", "é1\n").etag(), etag);
        let rest: String = expected.iter().map(|id| format!("{id}\n")).collect();
        assert_eq!(send(&admin, "POST", "vip/ids/remove", &rest).expect(200)["ids"], 0);
        host(&BTreeSet::new());
        // The log says how many and which content, and no ids.
        let log = admin.get(&format!("{TEST}/changes?limit=50")).expect(200);
        let entry = log["items"].as_array().unwrap().iter().find(|entry| entry["action"] == "segment.upload").unwrap();
        let segment = &entry["segments"][0];
        assert_eq!((&segment["before"]["ids"], &segment["after"]["ids"]), (&json!(0), &json!(900)));
        assert_eq!(segment["after"]["content"], uploaded["content"]);
        assert!(!log.to_string().contains("user-0"));
    });
}

#[test]
fn ids_come_in_each_format_and_bad_ones_change_nothing() {
    on_both(|database| {
        let server = database.serve_with("[limits]\nupload_bytes = 100000\nsegment_ids = 50\nbody_bytes = 1000\n");
        let admin = server.furnished().with("if-match", "*");
        admin.post(SEGMENTS, json!({"key": "l", "kind": "list"})).expect(201);
        admin.post(SEGMENTS, json!({"key": "r", "kind": "rule", "condition": true})).expect(201);
        let put = |kind: &str, body: &str| {
            admin.with("content-type", kind).send("PUT", &format!("{SEGMENTS}/l/ids"), Some(body.to_owned()))
        };
        // A last line need not end.
        for (kind, body) in [("text/plain", "b\na"), ("text/csv", "id\nb\na"), ("application/x-ndjson", "\"b\"\n\"a\"")]
        {
            put("text/plain", "x\n").expect(200);
            put(kind, body).expect(200);
            assert_eq!(ids(&admin, "l"), ["a", "b"], "{kind}");
        }
        put("text/csv; charset=utf-8", "id,name\n\" b,\"\"'; DROP TABLE part; --\",x\na,y\n").expect(200);
        assert_eq!(ids(&admin, "l"), [" b,\"'; DROP TABLE part; --", "a"]);
        put("application/x-ndjson", "{\"id\": 7}\n\"\\u00e9\"\n").expect(200);
        assert_eq!(ids(&admin, "l"), ["7", "é"]);
        let long = "x".repeat(1_025);
        let many: String = (0..51).map(|n| format!("{n}\n")).collect();
        let huge = "same\n".repeat(30_000);
        for (kind, body, status, words) in [
            ("application/x-ndjson", "\"a\"\nnull\n", 422, "line 2"),
            ("application/x-ndjson", "\"a\\nb\"", 422, "control characters"),
            ("text/plain", long.as_str(), 422, "1024 bytes"),
            ("text/plain", many.as_str(), 422, "50 ids"),
            ("text/plain", huge.as_str(), 422, "50 ids"),
            ("text/plain", "a\0b", 422, "control"),
            ("application/xml", "<a/>", 415, "text/csv"),
        ] {
            let refused = put(kind, body).expect(status);
            assert!(refused["detail"].as_str().unwrap().contains(words), "{refused}");
        }
        let packed = admin.with("content-encoding", "gzip").with("content-type", "text/plain");
        packed.send("PUT", &format!("{SEGMENTS}/l/ids"), Some("not gzip".to_owned())).expect(422);
        admin
            .with("content-encoding", "br")
            .send("PUT", &format!("{SEGMENTS}/l/ids"), Some("a".to_owned()))
            .expect(415);
        put("text/plain", &format!("{}\n", "\n".repeat(200_000))).expect(413);
        send(&admin, "PUT", "r/ids", "a\n").expect(409);
        send(&admin, "PUT", "none/ids", "a\n").expect(404);
        assert_eq!(ids(&admin, "l"), ["7", "é"]);
    });
}

/// The bytes of a request, up to where the body breaks off.
fn torn(server: &Server, client: &Client, path: &str) -> TcpStream {
    let address = server.url.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    let token = client.token();
    write!(stream, "PUT {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\nif-match: *\r\ntransfer-encoding: chunked\r\n\r\n").unwrap();
    let body: String = (0..20_000).map(|n| format!("torn-{n}\n")).collect();
    write!(stream, "{:x}\r\n{body}\r\n", body.len()).unwrap();
    stream
}

#[test]
fn a_body_that_breaks_off_changes_nothing() {
    on_both(|database| {
        let server = database.serve();
        let admin = server.furnished();
        admin.post(SEGMENTS, json!({"key": "l", "kind": "list"})).expect(201);
        send(&admin.with("if-match", "*"), "PUT", "l/ids", "a\n").expect(200);
        let before = admin.get(&format!("{SEGMENTS}/l"));
        let mut half = torn(&server, &admin, &format!("{SEGMENTS}/l/ids"));
        half.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = String::new();
        let _ = half.read_to_string(&mut answer);
        assert!(!answer.starts_with("HTTP/1.1 2"), "{answer}");
        drop(torn(&server, &admin, &format!("{SEGMENTS}/l/ids")));
        // Who comes after them finds places free, and nothing changed.
        for _ in 0..4 {
            assert_eq!(send(&admin, "POST", "l/ids/add", "a\n").status, 200);
        }
        let after = admin.get(&format!("{SEGMENTS}/l"));
        assert_eq!((after.etag(), &after.text), (before.etag(), &before.text));
    });
}

#[test]
fn parts_and_ids_are_for_whom_the_environment_is_for() {
    on_both(|database| {
        let server = database.serve();
        let admin = server.furnished();
        admin.post(SEGMENTS, json!({"key": "l", "kind": "list"})).expect(201);
        send(&admin.with("if-match", "*"), "PUT", "l/ids", "secret-user\n").expect(200);
        let part = snapshot(&admin).lists["l"].parts[0].sha256;
        let token = |scope: &str, environment: &str| {
            let body = json!({"name": "t", "scope": scope, "project": "shop", "environment": environment});
            let made = admin.post("/api/v1/tokens", body).expect(201);
            server.with_token(made["token"].as_str().unwrap()).with("if-match", "*")
        };
        let (host, other, reader) = (token("sync", "test"), token("sync", "live"), token("read", "test"));
        let of = |environment: &str| format!("/sync/v1/shop/{environment}/parts/{part}");
        let ids = "l/ids";
        let statuses = [
            (host.get(&of("test")).status, 200),
            (host.with("if-none-match", &format!("\"{part}\"")).get(&of("test")).status, 304),
            (other.get(&of("test")).status, 404),
            (other.get(&of("live")).status, 404),
            (server.with_token("").get(&of("test")).status, 401),
            (host.get(&format!("/sync/v1/shop/test/parts/{}", "0".repeat(64))).status, 404),
            (host.get("/sync/v1/shop/test/parts/..%2f..%2fetc").status, 404),
            (host.get(&format!("{SEGMENTS}/{ids}")).status, 403),
            (reader.get(&format!("{SEGMENTS}/{ids}")).status, 200),
            (send(&reader, "PUT", ids, "x\n").status, 403),
            (send(&host, "POST", "l/ids/add", "x\n").status, 403),
            (send(&token("write", "live"), "POST", "l/ids/add", "x\n").status, 404),
            (send(&token("write", "test"), "POST", "l/ids/add", "x\n").status, 200),
        ];
        for (at, (status, expected)) in statuses.iter().enumerate() {
            assert!(status == expected || (*expected == 404 && *status == 403), "request {at}: {status}");
        }
        let mut text = String::new();
        let packed = host.with("accept-encoding", "gzip").bytes(&of("test"));
        flate2::read::GzDecoder::new(packed.as_slice()).read_to_string(&mut text).unwrap();
        assert_eq!(text, "secret-user\n");
        // A clone has the lists of its model, which go their own ways.
        admin.post("/api/v1/projects/shop/environments", json!({"key": "copy", "cloneOf": "test"})).expect(201);
        let copied = "/api/v1/projects/shop/environments/copy/segments/l/ids";
        assert_eq!(admin.get(copied).text, "secret-user\nx\n");
        admin.with("if-match", "*").send("PUT", copied, Some("y\n".to_owned())).expect(200);
        assert_eq!(admin.get(&format!("{SEGMENTS}/{ids}")).text, "secret-user\nx\n");
    });
}
