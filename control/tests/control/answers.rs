//! What routes answer is what their description says: each member that is required is there, and each that is there is described.

use std::cell::RefCell;
use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::harness::{Client, Database, program};

const SHOP: &str = "/api/v1/projects/shop";
const TEST: &str = "/api/v1/projects/shop/environments/test";

/// What no request here is for: streams, and answers that are no JSON.
const NOT_ASKED: [&str; 2] = ["stream", "part"];

struct Described {
    document: Value,
    client: Client,
    /// Operations that were asked for, by `operationId`.
    asked: RefCell<BTreeSet<String>>,
}

impl Described {
    /// Sends it and holds the answer, which has this status, against the description.
    #[track_caller]
    fn send(&self, method: &str, path: &str, body: Option<Value>, status: u16) -> Value {
        let sent = self.client.with("content-type", "application/json");
        let reply = sent.send(method, path, body.map(|body| body.to_string()));
        assert_eq!(reply.status, status, "{method} {path}: {}", reply.text);
        let operation = self.operation(method, path);
        self.asked.borrow_mut().insert(operation["operationId"].as_str().unwrap().to_owned());
        let response =
            if status < 400 { &operation["responses"][status.to_string()] } else { &operation["responses"]["default"] };
        let response = self.resolved(response);
        assert!(response["description"].is_string(), "{method} {path}: {status} is not described");
        let kind = if status < 400 { "application/json" } else { "application/problem+json" };
        let Some(content) = response["content"].get(kind) else {
            assert!(!reply.header("content-type").starts_with(kind), "{method} {path}: JSON that is not described");
            return Value::Null;
        };
        assert_eq!(reply.header("content-type"), kind, "{method} {path}");
        let value: Value = serde_json::from_str(&reply.text).unwrap();
        let mut faults = Vec::new();
        self.check(&content["schema"], &value, "", &mut faults);
        assert!(faults.is_empty(), "{method} {path}: {faults:#?}\nin {value:#}");
        value
    }

    #[track_caller]
    fn get(&self, path: &str) -> Value {
        self.send("GET", path, None, 200)
    }

    #[track_caller]
    fn post(&self, path: &str, body: Value, status: u16) -> Value {
        self.send("POST", path, Some(body), status)
    }

    /// The operation whose path has the most in common with this one: `{flag}` stands for anything.
    #[track_caller]
    fn operation(&self, method: &str, path: &str) -> &Value {
        let path = path.split('?').next().unwrap();
        let fits = |pattern: &str| {
            let (pattern, path): (Vec<_>, Vec<_>) = (pattern.split('/').collect(), path.split('/').collect());
            pattern.len() == path.len()
                && pattern.iter().zip(path).all(|(one, other)| one.starts_with('{') || *one == other)
        };
        let found = self.document["paths"].as_object().unwrap().iter().find(|(pattern, _)| fits(pattern));
        let (_, methods) = found.unwrap_or_else(|| panic!("{path} is not described"));
        &methods[method.to_ascii_lowercase()]
    }

    fn resolved<'d>(&'d self, schema: &'d Value) -> &'d Value {
        match schema.get("$ref").and_then(Value::as_str) {
            Some(reference) => self.document.pointer(reference.strip_prefix('#').unwrap()).unwrap(),
            None => schema,
        }
    }

    /// As much of JSON Schema as the description uses.
    fn check(&self, schema: &Value, value: &Value, at: &str, faults: &mut Vec<String>) {
        let schema = self.resolved(schema);
        for part in schema["allOf"].as_array().into_iter().flatten() {
            self.check(part, value, at, faults);
        }
        for name in ["anyOf", "oneOf"] {
            let Some(choices) = schema[name].as_array() else { continue };
            let mut found = Vec::new();
            let fits = choices.iter().any(|choice| {
                let mut own = Vec::new();
                self.check(choice, value, at, &mut own);
                found.extend(own.iter().cloned());
                own.is_empty()
            });
            if !fits {
                faults.push(format!("{at}: none of {name}: {found:?}"));
            }
        }
        let kind = match value {
            Value::Null => "null",
            Value::Bool(_) => "boolean",
            Value::Number(number) if number.is_f64() => "number",
            Value::Number(_) => "integer",
            Value::String(_) => "string",
            Value::Array(_) => "array",
            Value::Object(_) => "object",
        };
        let kinds: Vec<&str> = match &schema["type"] {
            Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).collect(),
            Value::String(kind) => vec![kind],
            _ => Vec::new(),
        };
        let is_described =
            kinds.is_empty() || kinds.contains(&kind) || (kind == "integer" && kinds.contains(&"number"));
        if !is_described {
            faults.push(format!("{at}: {kind}, where {kinds:?} is described"));
        }
        if let Some(choices) = schema["enum"].as_array()
            && !choices.contains(value)
        {
            faults.push(format!("{at}: {value} is none of {choices:?}"));
        }
        if schema.get("const").is_some_and(|only| only != value) {
            faults.push(format!("{at}: {value} is not {}", schema["const"]));
        }
        for (index, item) in value.as_array().into_iter().flatten().enumerate() {
            self.check(&schema["items"], item, &format!("{at}/{index}"), faults);
        }
        let Some(members) = value.as_object() else { return };
        for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            if !members.contains_key(name) {
                faults.push(format!("{at}: {name} is required, and absent"));
            }
        }
        for (name, member) in members {
            let at = format!("{at}/{name}");
            match (schema["properties"].get(name), &schema["additionalProperties"]) {
                (Some(described), _) => self.check(described, member, &at, faults),
                (None, Value::Object(_)) => self.check(&schema["additionalProperties"], member, &at, faults),
                (None, Value::Null | Value::Bool(false)) if schema.get("properties").is_some() => {
                    faults.push(format!("{at} is not described"));
                }
                _ => {}
            }
        }
    }
}

#[test]
fn answers_are_what_the_description_says() {
    let output = program("sqlite:nowhere").arg("openapi").output().unwrap();
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    let database = Database::sqlite();
    let server = database.serve();
    let client = server.furnished();
    let api = Described { document, client, asked: RefCell::default() };
    let at = |below: &str| format!("{TEST}/{below}");

    api.post("/api/v1/projects", json!({"key": "other"}), 201);
    api.get("/api/v1/projects");
    api.get(SHOP);
    api.post(&format!("{SHOP}/environments"), json!({"key": "next", "cloneOf": "test"}), 201);
    api.get(&format!("{SHOP}/environments"));
    api.get(TEST);
    api.send("PATCH", TEST, Some(json!({"metadata": {"team": "web"}})), 200);
    api.send("PATCH", SHOP, Some(json!({"name": "The shop"})), 200);
    for place in [TEST, SHOP] {
        for verb in ["archive", "restore"] {
            api.post(&format!("{place}/{verb}"), json!(null), 200);
            let (shop, environments) = ("/api/v1/projects", format!("{SHOP}/environments"));
            api.get(&format!("{}?archived=true", if place == SHOP { shop } else { &environments }));
        }
    }

    // Keys that sign it: one that is taken back, and one that is rotated to.
    api.post(&at("signing-key"), json!(null), 201);
    api.get(TEST);
    api.post(&at("signing-key/cancel"), json!(null), 200);
    api.post(&at("signing-key"), json!(null), 201);
    api.post(&at("signing-key/rotate"), json!(null), 200);
    api.post(&at("signing-key/rotate"), json!(null), 409);

    // Flags: one of which nothing is said, and one of which everything is.
    let flags = format!("{SHOP}/flags");
    api.post(&flags, json!({"key": "plain"}), 201);
    let all = json!({"key": "full", "type": "string", "variants": {"a": "A", "b": "B"}, "description": "d", "owner": "o",
        "tags": ["t"], "kind": "ops", "expiresMs": 1_900_000_000_000_i64});
    api.post(&flags, all, 201);
    api.get(&flags);
    let plain = format!("{flags}/plain");
    let seen = api.get(&plain);
    api.send("PATCH", &plain, Some(json!({"description": "x"})), 200);
    let version = format!("\"{}\"", seen["version"].as_u64().unwrap() + 1);
    let exact = |etag: &str| api.client.with("if-match", etag);
    let put = |path: &str, etag: &str, body: Value| {
        let other = Described { client: exact(etag), document: api.document.clone(), asked: RefCell::default() };
        other.send("PUT", path, Some(body), 200);
        api.asked.borrow_mut().extend(other.asked.into_inner());
    };
    let etag = api.client.get(SHOP).etag();
    put(SHOP, &etag, json!({"description": "all of it"}));
    let etag = api.client.get(TEST).etag();
    put(TEST, &etag, json!({"name": "Test"}));
    put(&plain, &version, json!({"type": "boolean", "variants": {"on": true, "off": false}}));
    api.get(&at("flags"));
    api.get(&at("flags/plain"));
    let config = json!({"state": "ENABLED", "defaultVariant": "a", "rollout": {"variants": {"a": 1, "b": 1}},
        "targeting": {"if": [{"$ref": "own"}, "a"]}, "evaluators": {"own": {"==": [{"var": "x"}, 1]}},
        "prerequisites": [{"flag": "plain", "variants": ["on"]}], "offVariant": "b", "metadata": {"m": 1}});
    api.send("PATCH", &at("flags/full"), Some(config.clone()), 200);
    let etag = api.client.get(&at("flags/full")).etag();
    put(&at("flags/full"), &etag, config);
    api.get(&at("flags/full"));
    api.get(&at("flags"));
    api.post(&at("flags/full/clone"), json!({"from": "live"}), 200);
    api.post(&at("clone"), json!({"from": "live"}), 200);
    api.post(&format!("{plain}/archive"), json!(null), 200);
    api.post(&format!("{plain}/restore"), json!(null), 200);

    // Segments of both kinds.
    api.post(&at("segments"), json!({"key": "vip", "kind": "list"}), 201);
    api.post(&at("segments"), json!({"key": "staff", "kind": "rule", "name": "n", "condition": {"var": "x"}}), 201);
    api.get(&at("segments"));
    api.get(&at("segments/vip"));
    let etag = api.client.get(&at("segments/staff")).etag();
    put(&at("segments/staff"), &etag, json!({"condition": {"var": "y"}}));
    api.send("PATCH", &at("segments/staff"), Some(json!({"description": "d"})), 200);
    let etag = api.client.get(&at("segments/vip")).etag();
    for (method, below, etag) in [
        ("PUT", "segments/vip/ids", etag.as_str()),
        ("POST", "segments/vip/ids/add", ""),
        ("POST", "segments/vip/ids/remove", ""),
    ] {
        let client = if etag.is_empty() { api.client.clone() } else { exact(etag) };
        let reply = client.with("content-type", "text/plain").send(method, &at(below), Some("a\nb\n".to_owned()));
        let operation = api.operation(method, &at(below));
        let mut faults = Vec::new();
        let schema = &operation["responses"]["200"]["content"]["application/json"]["schema"];
        api.check(schema, &reply.expect(200), "", &mut faults);
        assert!(faults.is_empty() && schema.is_object(), "{faults:?}");
        api.asked.borrow_mut().insert(operation["operationId"].as_str().unwrap().to_owned());
    }
    api.get(&at("segments/vip/ids"));
    api.post(&at("segments/vip/archive"), json!(null), 200);
    api.post(&at("segments/vip/restore"), json!(null), 200);

    // The log.
    api.post(&at("rollback"), json!({"revision": 2}), 200);
    api.get(&at("changes"));
    api.get(&at("changes/export"));
    api.get(&at("diff?from=1&to=2"));
    api.get(&at("diff?from=1"));
    let file = api.get(&at("export"));
    api.get(&at("export?compiled=true"));
    api.post(&at("import"), file, 200);

    // Schedules: to come, cancelled, done and failed.
    api.post(
        &at("schedules"),
        json!({"flag": "full", "atMs": 1_900_000_000_000_i64, "patch": {"state": "DISABLED"}}),
        201,
    );
    let late = json!({"flag": "full", "atMs": 1_900_000_000_000_i64, "patch": {"state": "DISABLED"}, "ifRevision": 3});
    let scheduled = api.client.post(&at("schedules"), late);
    assert!(scheduled.status == 201 || scheduled.status == 412 || scheduled.status == 422, "{}", scheduled.text);
    let first = api.get(&at("schedules"))["items"][0]["id"].as_str().unwrap().to_owned();
    api.get(&at(&format!("schedules/{first}")));
    api.post(&at(&format!("schedules/{first}/cancel")), json!(null), 200);
    api.get(&at("schedules"));

    // Tokens, for everything and for little; hosts.
    api.post("/api/v1/tokens", json!({"name": "n", "scope": "read"}), 201);
    let few = json!({"name": "n", "scope": "sync", "project": "shop", "environment": "test", "expiresMs": 1_900_000_000_000_i64});
    let token = api.post("/api/v1/tokens", few, 201)["id"].as_str().unwrap().to_owned();
    api.get(&format!("/api/v1/tokens/{token}"));
    api.post(&format!("/api/v1/tokens/{token}/rotate"), json!({"overlapSeconds": 1}), 201);
    api.post(&format!("/api/v1/tokens/{token}/revoke"), json!(null), 200);
    api.get("/api/v1/tokens");
    let report = json!({"host": "h", "set": "s", "epoch": 1, "revision": 1, "publishedNs": 1_763_000_000_250_000_000_u64,
        "state": "fresh", "version": "0.1.0"});
    api.post("/sync/v1/shop/test/report", report, 204);
    api.get(&at("hosts"));
    api.get("/sync/v1/shop/test/snapshot");
    api.get("/healthz");
    api.get("/readyz");

    // Refusals: of a body, of a whole, of what is too late, of what is not there.
    api.post(&flags, json!({"key": "bad key", "kind": 1}), 422);
    api.post(&flags, json!({"key": "plain"}), 409);
    api.get(&at("flags/plain"));
    api.send("GET", &at("flags/none"), None, 404);
    api.send("PUT", &at("flags/plain"), Some(json!({"state": "ENABLED"})), 428);

    let mut ids = BTreeSet::new();
    for methods in api.document["paths"].as_object().unwrap().values() {
        ids.extend(methods.as_object().unwrap().values().map(|it| it["operationId"].as_str().unwrap().to_owned()));
    }
    let asked = api.asked.borrow();
    let missing: Vec<_> = ids.iter().filter(|id| !asked.contains(*id) && !NOT_ASKED.contains(&id.as_str())).collect();
    assert!(missing.is_empty(), "nothing was asked of {missing:?}");
}
