//! Import and export: files in, the same answers out.

use std::collections::BTreeMap;

use libflags::compile::Compiler;
use libflags::definition::{Document, Format, Limits, Selector};
use libflags::evaluate::Value as Attribute;
use libflags::snapshot::Snapshot;
use libflags::{Context, Want};
use serde_json::{Map, Value, json};

use crate::harness::{Client, eventually, on_both, program};

const PROJECTS: &str = "/api/v1/projects";

/// The repository's definitions, those flags of them that a host takes and whose keys are words.
fn definitions() -> Vec<Value> {
    let vectors: Value = serde_json::from_str(include_str!("../../../tests/vectors/flags.json")).unwrap();
    let mut definitions: Vec<Value> =
        vectors.as_array().unwrap().iter().map(|vector| vector["definition"].clone()).collect();
    definitions.push(serde_json::from_str(include_str!("../../../tests/c/flags.json")).unwrap());
    definitions.push(serde_json::from_str(include_str!("../../../examples/flags.json")).unwrap());
    definitions.extend((1..=4).map(random));
    let is_word = |key: &str| key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    for definition in &mut definitions {
        let bad: Vec<String> = problems(definition);
        let is_good = |key: &str| is_word(key) && !bad.iter().any(|bad| bad == key);
        match &mut definition["flags"] {
            Value::Array(flags) => flags.retain(|flag| flag["key"].as_str().is_some_and(is_good)),
            Value::Object(flags) => flags.retain(|key, _| is_good(key)),
            other => panic!("{other}"),
        }
    }
    definitions
}

/// Flags with an error.
fn problems(definition: &Value) -> Vec<String> {
    let (_, problems) = compile(definition);
    problems
}

fn compile(definition: &Value) -> (Snapshot, Vec<String>) {
    let limits = Limits::default();
    let document = Document::parse("a file", definition.to_string(), Format::Json, &limits).unwrap();
    let compiled = Compiler::new(limits).compile(&[document], &Selector::All).unwrap();
    let bad = compiled.problems.iter().filter(|problem| problem.is_error()).filter_map(|problem| problem.flag.clone());
    (Snapshot::from_bytes(&compiled.snapshot).unwrap(), bad.collect())
}

/// Flags with rules that refer to shared ones, out of a seed.
fn random(seed: u64) -> Value {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let evaluators: Map<String, Value> = (0..3).map(|at| (format!("shared-{at}"), random.condition(2, at))).collect();
    let flag = |random: &mut Random| {
        let variants = match random.below(3) {
            0 => json!({"on": true, "off": false}),
            1 => json!({"on": "text", "off": "", "other": "ä\u{1F680}"}),
            _ => json!({"on": 10.0, "off": 0.25, "other": 9_007_199_254_740_991_u64}),
        };
        let targeting = match random.below(4) {
            0 => json!({"if": [random.condition(3, 3), "on", "off"]}),
            1 => json!({"if": [random.condition(2, 3), {"fractional": [["on", 30], ["off", 70]]}]}),
            2 => json!({"fractional": [{"cat": [{"var": "$flagd.flagKey"}, {"var": "tier"}]}, ["on", 1], ["off", 3]]}),
            _ => json!({"$ref": "shared-2"}),
        };
        let mut flag = json!({"state": "ENABLED", "variants": variants, "targeting": targeting});
        if random.below(3) > 0 {
            flag["defaultVariant"] = json!("off");
        }
        if random.below(2) > 0 {
            flag["metadata"] = json!({"n": random.below(9), "set": "own", "gone": null});
        }
        flag
    };
    let flags: Map<String, Value> = (0..20).map(|at| (format!("flag-{at}"), flag(&mut random))).collect();
    json!({"$evaluators": evaluators, "metadata": {"set": "all", "flagSetId": "shop", "gone": null}, "flags": flags})
}

struct Random(u64);

impl Random {
    fn below(&mut self, most: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 33) % most
    }

    /// One that names only the first `shared` shared ones.
    fn condition(&mut self, depth: u64, shared: u64) -> Value {
        match self.below(if depth == 0 { 4 } else { 7 }) {
            0 => json!({"==": [{"var": "tier"}, "premium"]}),
            1 => json!({"in": [{"var": "country"}, ["CH", "FR", "DE"]]}),
            2 => json!({"<": [{"var": "age"}, self.below(60)]}),
            3 if shared > 0 => json!({"$ref": format!("shared-{}", self.below(shared))}),
            3 => json!({"starts_with": [{"var": "email"}, "a"]}),
            4 => json!({"and": [self.condition(depth - 1, shared), self.condition(depth - 1, shared)]}),
            5 => json!({"or": [self.condition(depth - 1, shared), self.condition(depth - 1, shared)]}),
            _ => json!({"!": [self.condition(depth - 1, shared)]}),
        }
    }
}

/// Every answer about every flag, for many users.
fn answers(definition: &Value, keys: &[String]) -> Vec<String> {
    let (snapshot, bad) = compile(definition);
    assert!(bad.is_empty(), "{bad:?}");
    let mut answers = Vec::new();
    for user in 0..30_usize {
        let name = format!("user-{user}");
        let attributes: [(&str, Attribute<'_>); 5] = [
            ("tier", ["premium", "free", ""][user % 3].into()),
            ("country", ["CH", "US"][user % 2].into()),
            ("age", f64::from(u32::try_from(user).unwrap()).into()),
            ("email", ["a@example.com", "b@example.com", "c"][user % 3].into()),
            ("which", ["a", "b"][user / 2 % 2].into()),
        ];
        let key = Some(name.as_str()).filter(|_| user % 7 > 0);
        let context = Context::from_slice(key, &attributes[..user % 6]);
        for key in keys {
            let evaluation = snapshot.evaluate(key.as_bytes(), Want::Any, &context);
            let metadata: BTreeMap<String, String> =
                evaluation.metadata.iter().map(|(name, value)| (name.to_owned(), format!("{value:?}"))).collect();
            let (value, variant, reason) = (&evaluation.value, &evaluation.variant, &evaluation.reason);
            answers.push(format!("{key} {value:?} {variant:?} {reason:?} {:?} {metadata:?}", evaluation.error));
        }
    }
    answers
}

fn keys(definition: &Value) -> Vec<String> {
    match &definition["flags"] {
        Value::Array(flags) => flags.iter().map(|flag| flag["key"].as_str().unwrap().to_owned()).collect(),
        flags => flags.as_object().unwrap().keys().cloned().collect(),
    }
}

/// A new project with one environment, `test`.
fn project(admin: &Client, key: &str) -> String {
    admin.post(PROJECTS, json!({"key": key})).expect(201);
    admin.post(&format!("{PROJECTS}/{key}/environments"), json!({"key": "test"})).expect(201);
    format!("{PROJECTS}/{key}/environments/test")
}

/// What hosts get, once they get this revision.
fn served(admin: &Client, project: &str, revision: &Value) -> Value {
    let path = format!("/sync/v1/{project}/test/snapshot");
    eventually("hosts get it", || admin.get(&path).etag() == format!("\"1.{revision}\""));
    let mut snapshot = admin.get(&path).expect(200);
    snapshot.as_object_mut().unwrap().retain(|name, _| ["flags", "$evaluators", "metadata"].contains(&name.as_str()));
    snapshot
}

/// A file as it is exported again: flags by key, without what says nothing (nulls, empty members, evaluators that nobody names).
fn normal(definition: &Value) -> Value {
    let mut flags = match &definition["flags"] {
        Value::Object(flags) => flags.clone(),
        flags => {
            let by_key = |flag: &Value| {
                let mut flag = flag.clone();
                let key = flag.as_object_mut().unwrap().remove("key").unwrap();
                (key.as_str().unwrap().to_owned(), flag)
            };
            flags.as_array().unwrap().iter().map(by_key).collect()
        }
    };
    let (mut named, mut waiting) = (Map::new(), Vec::new());
    for flag in flags.values_mut() {
        let flag = flag.as_object_mut().unwrap();
        if let Some(metadata) = flag.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.retain(|_, value| !value.is_null());
        }
        flag.retain(|name, value| {
            let is_empty = *value == json!({}) && name == "metadata" || *value == "" && name == "defaultVariant";
            !value.is_null() && !is_empty
        });
        waiting.extend(flag.get("targeting").cloned());
    }
    while let Some(value) = waiting.pop() {
        if let (Some(name), 1) = (value["$ref"].as_str(), value.as_object().map_or(0, Map::len))
            && let Some(rule) = definition["$evaluators"].get(name)
            && named.insert(name.to_owned(), rule.clone()).is_none()
        {
            waiting.push(rule.clone());
        }
        match value {
            Value::Array(items) => waiting.extend(items),
            Value::Object(members) => waiting.extend(members.into_iter().map(|(_, value)| value)),
            _ => {}
        }
    }
    let mut normal = json!({"flags": flags});
    if !named.is_empty() {
        normal["$evaluators"] = Value::Object(named);
    }
    let mut metadata = definition["metadata"].as_object().cloned().unwrap_or_default();
    metadata.retain(|_, value| !value.is_null());
    if !metadata.is_empty() {
        normal["metadata"] = Value::Object(metadata);
    }
    normal
}

#[test]
fn what_is_imported_answers_as_the_file_does_and_so_does_its_export() {
    on_both(|database| {
        let server = database.serve();
        let admin = server.admin();
        let mut seen = 0;
        for (at, definition) in definitions().iter().enumerate() {
            let keys = keys(definition);
            seen += keys.len();
            let expected = answers(definition, &keys);
            let path = project(&admin, &format!("p{at}"));
            let done = admin.post(&format!("{path}/import?comment=from+a+file"), definition.clone()).expect(200);
            assert_eq!((&done["revision"], done["created"].as_array().unwrap().len()), (&json!(2), keys.len()));
            assert_eq!(done["metadata"], normal(definition)["metadata"].is_object());
            assert!(answers(&served(&admin, &format!("p{at}"), &json!(2)), &keys) == expected, "{definition}");
            let log = admin.get(&format!("{path}/changes")).expect(200);
            assert_eq!(
                (&log["items"][0]["action"], &log["items"][0]["comment"]),
                (&json!("environment.import"), &json!("from a file"))
            );

            let export = admin.get(&format!("{path}/export"));
            assert_eq!(export.etag(), "\"2\"");
            let export = export.expect(200);
            assert_eq!(export, normal(definition));
            assert!(answers(&export, &keys) == expected, "{export}");
            assert!(answers(&admin.get(&format!("{path}/export?compiled=true")).expect(200), &keys) == expected);
            let copy = project(&admin, &format!("q{at}"));
            admin.post(&format!("{copy}/import"), export.clone()).expect(200);
            assert_eq!(admin.get(&format!("{copy}/export")).expect(200), export);
            // Once more: nothing differs, nothing happens.
            let again = admin.post(&format!("{path}/import"), export).expect(200);
            assert_eq!(
                again,
                json!({"revision": 2, "created": [], "changed": [], "unchanged": keys.len(), "metadata": false, "lists": [],
                    "segments": []})
            );
        }
        assert!(seen > 110, "only {seen} flags");
    });
}

#[test]
fn a_file_holds_all_that_the_api_does() {
    on_both(|database| {
        let server = database.serve();
        let admin = server.furnished();
        let flags = format!("{PROJECTS}/shop/flags");
        let staff = json!({"ends_with": [{"var": "email"}, "@example.com"]});
        let config = |staff: &Value| {
            json!({"state": "ENABLED", "defaultVariant": "off", "targeting": {"if": [{"$ref": "staff"}, "on"]},
                "evaluators": {"staff": staff}, "rollout": {"by": "company", "variants": {"on": 25, "off": 75}},
                "metadata": {"team": "web"}})
        };
        let other = json!({"==": [{"var": "tier"}, "staff"]});
        let body = json!({"key": "a", "description": "d", "owner": "o", "tags": ["t"], "kind": "ops", "expiresMs": 7,
            "environments": {"test": config(&staff)}});
        admin.post(&flags, body).expect(201);
        admin.post(&flags, json!({"key": "b", "environments": {"test": config(&other)}})).expect(201);
        let needs = json!({"state": "ENABLED", "defaultVariant": "x", "offVariant": "y",
            "prerequisites": [{"flag": "a", "variants": ["on"]}]});
        let body =
            json!({"key": "c", "type": "number", "variants": {"x": 1, "y": 2.5}, "environments": {"test": needs}});
        admin.post(&flags, body).expect(201);
        admin.post(&flags, json!({"key": "gone"})).expect(201);
        admin.post(&format!("{flags}/gone/archive"), json!({})).expect(200);
        let path = format!("{PROJECTS}/shop/environments/test");
        let export = admin.get(&format!("{path}/export")).expect(200);
        assert_eq!(export["$evaluators"], json!({"staff": staff}));
        assert_eq!(export["flags"]["b"]["targeting"], json!({"if": [other, "on"]}), "the name is taken");
        assert!(export["flags"]["gone"].is_null());

        let copy = project(&admin, "copy");
        admin.post(&format!("{copy}/import"), export.clone()).expect(200);
        let compiled = |path: &str| admin.get(&format!("{path}/export?compiled=true")).expect(200);
        assert_eq!(compiled(&copy), compiled(&path));
        let mut flag = admin.get(&format!("{PROJECTS}/copy/flags/a")).expect(200);
        for name in ["createdMs", "changedMs"] {
            flag.as_object_mut().unwrap().remove(name);
        }
        let expected = json!({"key": "a", "type": "boolean", "variants": {"on": true, "off": false}, "description": "d",
            "owner": "o", "tags": ["t"], "kind": "ops", "expiresMs": 7, "archived": false, "version": 1});
        assert_eq!(flag, expected);
        let mut config = admin.get(&format!("{copy}/flags/c")).expect(200);
        config.as_object_mut().unwrap().remove("revision");
        assert_eq!(config, needs);
        // A targeting may name only what is there, and in no circle.
        let bad = json!({"evaluators": {"staff": {"!": [{"$ref": "staff"}]}}});
        let problem = admin.patch(&format!("{path}/flags/a"), bad).expect(422);
        assert!(problem["errors"][0]["pointer"].is_string(), "{problem}");
        admin.patch(&format!("{path}/flags/a"), json!({"evaluators": null})).expect(422);
    });
}

#[test]
fn an_import_is_one_change_or_none() {
    on_both(|database| {
        let server = database.serve();
        let admin = server.furnished();
        let flags = format!("{PROJECTS}/shop/flags");
        for key in ["stays", "old", "taken"] {
            admin.post(&flags, json!({"key": key, "environments": {"live": {"state": "ENABLED"}}})).expect(201);
        }
        admin.post(&format!("{flags}/taken/archive"), json!({})).expect(200);
        let test = format!("{PROJECTS}/shop/environments/test");
        let live = format!("{PROJECTS}/shop/environments/live");
        let revision = |path: &str| admin.get(path).expect(200)["revision"].as_u64().unwrap();
        let (before, before_live) = (revision(&test), revision(&live));
        let flag = json!({"state": "ENABLED", "variants": {"on": true, "off": false}, "defaultVariant": "on"});
        let mut wider = flag.clone();
        wider["variants"]["maybe"] = json!(false);
        let file = json!({"flags": {"new": flag, "old": wider, "taken": flag}});
        let path = format!("{test}/import");

        let tried = admin.post(&format!("{path}?dry_run=true"), file.clone()).expect(200);
        assert_eq!(tried["revision"], before + 1);
        for (pointer, broken) in [
            ("/flags/new/defaultVariant", json!({"defaultVariant": "onn"})),
            ("/flags/new/owner", json!({"owner": 7})),
            ("/flags/new/tags/0", json!({"tags": [""]})),
            ("/flags/new/rollout/variants/x", json!({"rollout": {"variants": {"x": 1}}})),
            ("/flags/new/nonsense", json!({"nonsense": 1})),
            ("/flags/new/targeting/nonsense", json!({"targeting": {"nonsense": []}})),
            ("/flags/new/prerequisites/0/flag", json!({"prerequisites": [{"flag": "nobody", "variants": ["on"]}]})),
        ] {
            let mut bad = file.clone();
            bad["flags"]["new"].as_object_mut().unwrap().extend(broken.as_object().cloned().unwrap());
            let problem = admin.post(&path, bad).expect(422);
            assert_eq!(problem["errors"][0]["pointer"], pointer, "{problem}");
        }
        let spaced = json!({"flags": {"with space": flag, "new": flag, "a/b": flag}});
        let problem = admin.post(&path, spaced).expect(422);
        let pointers: Vec<&Value> =
            problem["errors"].as_array().unwrap().iter().map(|fault| &fault["pointer"]).collect();
        assert_eq!(pointers, ["/flags/a~1b", "/flags/with space"]);
        assert!(problem["errors"][0]["detail"].as_str().unwrap().starts_with("\"a/b\" can't be a key"), "{problem}");
        let text = json!({"flags": {"old": {"state": "ENABLED", "variants": {"a": "A"}}}});
        assert_eq!(admin.post(&path, text).expect(422)["errors"][0]["pointer"], "/flags/old/variants/a");
        admin.post(&path, json!({"flags": 1})).expect(422);
        admin.with("if-match", "\"1\"").post(&path, file.clone()).expect(412);
        assert_eq!((revision(&test), revision(&live)), (before, before_live), "nothing of it happened");
        admin.get(&format!("{flags}/new")).expect(404);

        let body = json!({"name": "t", "scope": "write", "project": "shop", "environment": "test"});
        let token = admin.post("/api/v1/tokens", body).expect(201);
        let only_test = server.with_token(token["token"].as_str().unwrap());
        only_test.post(&path, file.clone()).expect(403);
        only_test.get(&format!("{test}/export")).expect(200);

        let done = admin.post(&path, file).expect(200);
        let expected = json!({"revision": before + 1, "created": ["new"], "changed": ["old", "taken"], "unchanged": 0,
            "metadata": false, "lists": [], "segments": []});
        assert_eq!(done, expected);
        assert_eq!((revision(&test), revision(&live)), (before + 1, before_live + 1));
        let config = |path: &str, key: &str| admin.get(&format!("{path}/flags/{key}")).expect(200)["state"].clone();
        assert_eq!((config(&test, "old"), config(&live, "old")), (json!("ENABLED"), json!("ENABLED")));
        assert_eq!((config(&live, "new"), config(&test, "stays")), (json!("DISABLED"), json!("DISABLED")));
        assert_eq!(admin.get(&format!("{flags}/old")).expect(200)["variants"]["maybe"], false);
        let log = admin.get(&format!("{live}/changes?limit=1")).expect(200);
        assert_eq!(log["items"][0]["action"], "flag.import");
        admin.post(&format!("{test}/rollback"), json!({"revision": before})).expect(200);
        assert_eq!(config(&test, "old"), "DISABLED");

        // A file without metadata leaves it as it is, one with none takes it away; of the other environments it says nothing.
        let (at, at_live) = (revision(&test), revision(&live));
        for (metadata, expected, revisions) in [
            (json!({"metadata": {"team": "web", "gone": null}}), json!({"team": "web"}), 1),
            (json!({}), json!({"team": "web"}), 1),
            (json!({"metadata": {}}), json!({}), 2),
        ] {
            let mut file = json!({"flags": {}});
            file.as_object_mut().unwrap().extend(metadata.as_object().cloned().unwrap());
            assert_eq!(admin.post(&path, file).expect(200)["revision"], at + revisions);
            assert_eq!(admin.get(&test).expect(200)["metadata"], expected);
        }
        assert_eq!(revision(&live), at_live);
    });
}

#[test]
fn files_go_in_and_out_without_a_server() {
    on_both(|database| {
        let file = database.folder.path().join("flags.yaml");
        let yaml = "flags:\n  a: {state: ENABLED, variants: {yes: 1, 'no': 2}, defaultVariant: yes, owner: web}\n";
        std::fs::write(&file, yaml).unwrap();
        let run = |arguments: &[&str]| {
            let output = program(&database.url).args(arguments).output().unwrap();
            (output.status.success(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
        };
        let name = file.to_str().unwrap();
        let (done, said) = run(&["import", "shop/test", name]);
        assert!(!done && said.contains("no project \"shop\""), "{said}");
        let (done, said) = run(&["import", "shop/test", name, "--create", "--dry-run"]);
        assert!(done && said.starts_with("dry run"), "{said}");
        assert!(!run(&["export", "shop/test"]).0, "nothing was made");
        let (done, said) = run(&["import", "shop/test", name, "--create", "--comment", "why"]);
        assert_eq!((done, said.as_str()), (true, "1 flags created, 0 changed, 0 as they were, at revision 2\n"));
        let (done, said) = run(&["export", "shop/test"]);
        let written: Value = serde_json::from_str(&said).unwrap();
        let expected = json!({"flags": {"a": {"state": "ENABLED", "variants": {"yes": 1, "no": 2}, "defaultVariant": "yes", "owner": "web"}}});
        assert_eq!((done, written), (true, expected));
        std::fs::write(&file, "flags:\n  a: {state: ON, variants: {yes: 1}}\n").unwrap();
        let (done, said) = run(&["import", "shop/test", name]);
        assert!(!done && said.contains("/flags/a/state"), "{said}");
    });
}

#[test]
fn id_lists_come_and_go_as_files_beside_the_definition() {
    on_both(|database| {
        let folder = database.folder.path();
        let run = |arguments: &[&str]| {
            let output = program(&database.url).current_dir(folder).args(arguments).output().unwrap();
            (output.status.success(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
        };
        let flag = |list: &str| {
            json!({"state": "ENABLED", "variants": {"on": true, "off": false}, "defaultVariant": "off",
                "targeting": {"if": [{"in": [{"var": "targetingKey"}, {"var": format!("$lists.{list}")}]}, "on"]}})
        };
        // As people write them: by name and by folder, in any order, twice, in three forms.
        std::fs::create_dir_all(folder.join("in/more")).unwrap();
        let put = |name: &str, text: &str| std::fs::write(folder.join(name), text).unwrap();
        put("in/vip.csv", "id,why\nuser-3,x\nuser-1,y\nuser-3,z\n");
        put("in/more/beta.txt", "user-2\n\nuser-1\n");
        put("in/more/odd.jsonl", "\" user-5\"\n7\n");
        put("in/more/none.txt", "");
        let flags = json!({"a": flag("vip"), "b": flag("beta"), "c": flag("odd"), "d": flag("none")});
        let file = json!({"metadata": {"list.vip": "vip.csv", "lists": "more", "team": "web"}, "flags": flags});
        put("in/flags.json", &file.to_string());
        let (done, said) = run(&["import", "shop/test", "in/flags.json", "--create", "--dry-run"]);
        assert!(done && said.starts_with("dry run"), "{said}");
        let (done, said) = run(&["import", "shop/test", "in/flags.json", "--create"]);
        let expected = "4 flags created, 0 changed, 0 as they were, other metadata, other ids in beta, none, odd, vip, at revision 2\n";
        assert_eq!((done, said.as_str()), (true, expected));

        let (done, said) = run(&["export", "shop/test", "--to", "out"]);
        assert_eq!((done, said.as_str()), (true, ""));
        let read = |name: &str| std::fs::read_to_string(folder.join("out").join(name)).unwrap();
        let mut expected = file.clone();
        expected["metadata"] = json!({"lists": "test-ids", "team": "web"});
        assert_eq!(serde_json::from_str::<Value>(&read("test.json")).unwrap(), expected);
        assert_eq!(read("test-ids/vip.txt"), "user-1\nuser-3\n");
        assert_eq!(read("test-ids/beta.txt"), "user-1\nuser-2\n");
        assert_eq!(read("test-ids/odd.jsonl"), "\" user-5\"\n\"7\"\n", "a line of text has no spaces around it");
        assert_eq!(read("test-ids/none.txt"), "");
        // Hosts that read files find all lists of both.
        for path in ["in/flags.json", "out/test.json"] {
            let limits = Limits::default();
            let document = Document::load(folder.join(path), &limits).unwrap();
            let compiled = Compiler::new(limits).compile(&[document], &Selector::All).unwrap();
            assert!(compiled.problems.iter().all(|problem| !problem.is_error()), "{:?}", compiled.problems);
            assert_eq!(compiled.lists.len(), 4, "{path}");
        }
        // What came out goes in elsewhere, and comes out the same; again it is no change.
        let (done, said) = run(&["import", "shop/other", "out/test.json", "--create"]);
        assert!(done && said.contains("other ids in beta, none, odd, vip"), "{said}");
        assert!(run(&["export", "shop/other", "--to", "out"]).0);
        for list in ["vip.txt", "beta.txt", "odd.jsonl", "none.txt"] {
            assert_eq!(read(&format!("other-ids/{list}")), read(&format!("test-ids/{list}")));
        }
        let (_, said) = run(&["import", "shop/other", "out/test.json"]);
        assert!(said.starts_with("0 flags created, 0 changed, 4 as they were, at revision"), "{said}");
        put("out/test-ids/vip.txt", "user-1\nuser-9\n");
        let (_, said) = run(&["import", "shop/other", "out/test.json"]);
        assert!(
            said.starts_with("0 flags created, 0 changed, 4 as they were, other ids in vip, at revision"),
            "{said}"
        );

        // Nothing of a file that is wrong is taken, and no other file is taken for a list.
        put("out/test-ids/vip.txt", "user-1\nuser\u{7}9\n");
        let (done, said) = run(&["import", "shop/other", "out/test.json"]);
        assert!(!done && said.contains("vip.txt") && said.contains("control characters"), "{said}");
        put("out/test-ids/vip.txt", "");
        put("out/test-ids/with space.txt", "");
        let (done, said) = run(&["import", "shop/other", "out/test.json"]);
        assert!(!done && said.contains("with space.txt"), "{said}");
        let (done, said) = run(&["export", "shop/test", "--to", "out"]);
        assert!(!done && said.contains("with space.txt is not one of the lists"), "{said}");

        // Over HTTP the ids do not come along, so the segments have to be there.
        let server = database.serve();
        let admin = server.admin();
        let test = format!("{PROJECTS}/shop/environments/test");
        let segments = admin.get(&format!("{test}/segments")).expect(200);
        assert_eq!(segments["items"].as_array().unwrap().len(), 4);
        let again = admin.post(&format!("{test}/import"), file.clone()).expect(200);
        assert_eq!((&again["revision"], &again["metadata"]), (&json!(2), &json!(false)));
        admin.post(&format!("{PROJECTS}/shop/environments"), json!({"key": "empty"})).expect(201);
        let problem = admin.post(&format!("{PROJECTS}/shop/environments/empty/import"), file).expect(422);
        assert_eq!(problem["errors"][0]["pointer"], "/metadata/list.vip", "{problem}");
        let plain = admin.get(&format!("{test}/export")).expect(200);
        admin.post(&format!("{test}/import"), plain).expect(200);
    });
}

/// What people call segments, and which are rules, is no business of hosts; it goes along all the same.
#[test]
fn segments_go_along_as_what_they_are() {
    on_both(|database| {
        let server = database.serve();
        let admin = server.furnished();
        let (test, live) = ("/api/v1/projects/shop/environments/test", "/api/v1/projects/shop/environments/live");
        let make = |at: &str, segment: Value| admin.post(&format!("{at}/segments"), segment).expect(201);
        let staff = json!({"ends_with": [{"var": "email"}, "@shop.example"]});
        make(test, json!({"key": "staff", "kind": "rule", "name": "Staff", "condition": staff}));
        make(test, json!({"key": "vip", "kind": "list", "name": "VIPs"}));
        // It refers to one that comes after it, and no flag refers to it.
        let both = json!({"and": [{"$ref": "staff"}, {"in": [{"var": "targetingKey"}, {"var": "$lists.vip"}]}]});
        make(test, json!({"key": "both", "kind": "rule", "description": "staff, and\nimportant", "condition": both}));
        make(test, json!({"key": "unnamed", "kind": "list"}));
        make(test, json!({"key": "gone", "kind": "rule", "condition": true}));
        admin.post(&format!("{test}/segments/gone/archive"), json!({})).expect(200);
        let file = admin.get(&format!("{test}/export")).expect(200);
        let expected = json!({
            "both": {"kind": "rule", "description": "staff, and\nimportant"}, "staff": {"kind": "rule", "name": "Staff"},
            "vip": {"kind": "list", "name": "VIPs"},
        });
        assert_eq!((&file["$segments"], &file["$evaluators"]), (&expected, &json!({"both": both, "staff": staff})));

        // The ids do not come with it: nothing of it happens where there is no such list.
        let import = format!("{live}/import");
        let refused = admin.post(&import, file.clone()).expect(422);
        let pointers: Vec<_> = refused["errors"].as_array().unwrap().iter().map(|error| &error["pointer"]).collect();
        assert!(pointers.contains(&&json!("/$segments/vip/kind")), "{refused}");
        assert_eq!(admin.get(&format!("{live}/segments")).expect(200)["items"], json!([]));
        make(live, json!({"key": "vip", "kind": "list", "name": "an older name"}));
        make(live, json!({"key": "staff", "kind": "rule", "condition": false}));
        admin.post(&format!("{live}/segments/staff/archive"), json!({})).expect(200);
        let revision = admin.get(live).expect(200)["revision"].as_u64().unwrap();
        let done = admin.post(&import, file.clone()).expect(200);
        assert_eq!(done["segments"], json!(["both", "staff", "vip"]));
        assert_eq!((&done["revision"], &done["lists"]), (&json!(revision + 1), &json!([])), "one change, no other ids");
        assert_eq!(admin.get(&format!("{live}/export")).expect(200), file);
        let again = admin.post(&import, file.clone()).expect(200);
        assert_eq!((&again["segments"], &again["revision"]), (&json!([]), &json!(revision + 1)));

        for (change, status, word) in [
            (json!({"$segments": {"staff": {"kind": "list"}}}), 422, "/$segments/staff/kind"),
            (json!({"$segments": {"none": {"kind": "rule"}}}), 422, "/$segments/none/kind"),
            (json!({"$segments": {"staff": {"kind": "rule", "nam": "x"}}}), 422, "/$segments/staff/nam"),
            (json!({"$segments": {"staff": {"kind": "rule", "name": "a\0"}}}), 422, "/$segments/staff/name"),
            (json!({"$segments": {"a b": {"kind": "rule"}}}), 422, "/$segments/a b"),
            (json!({"$segments": []}), 422, "/$segments"),
            (json!({"$evaluators": {"staff": 7}}), 422, "/$evaluators/staff"),
            (json!({"$evaluators": {"vip": true}, "$segments": {"vip": {"kind": "rule"}}}), 409, "is a list"),
        ] {
            let mut bad = file.clone();
            for (name, member) in change.as_object().unwrap() {
                match member {
                    Value::Object(members) => members.iter().for_each(|(key, value)| bad[name][key] = value.clone()),
                    other => bad[name] = other.clone(),
                }
            }
            let refused = admin.post(&import, bad).expect(status);
            assert!(refused.to_string().contains(word), "{word}: {refused}");
        }
        assert_eq!(admin.get(live).expect(200)["revision"], revision + 1);
    });
}
