//! The client over definitions compiled in process: what each kind of flag answers.

use std::collections::HashMap;

use libflags::{
    Client, Context, ErrorCode, FlagValue, List, Object, Reason, ScalarRef, Value, Want,
    definition::{Format, Selector},
};

const DEFINITION: &str = r#"{
    "metadata": {"owner": "shop", "version": 3},
    "$evaluators": {"is_staff": {"ends_with": [{"var": "email"}, "@example.com"]}},
    "flags": {
        "on": {"state": "ENABLED", "variants": {"yes": true, "no": false}, "defaultVariant": "yes"},
        "off": {"state": "DISABLED", "variants": {"yes": true}, "defaultVariant": "yes"},
        "code-default": {"state": "ENABLED", "variants": {"yes": true}},
        "color": {"state": "ENABLED", "variants": {"r": "red", "g": "grün"}, "defaultVariant": "r",
                  "targeting": {"if": [{"$ref": "is_staff"}, "g"]},
                  "metadata": {"owner": "design"}},
        "size": {"state": "ENABLED", "variants": {"s": 10, "m": 1.5}, "defaultVariant": "s",
                 "targeting": {"if": [{">": [{"var": "age"}, 17]}, "m"]}},
        "layout": {"state": "ENABLED", "variants": {"a": {"rows": [1, 2.50], "x": null}}, "defaultVariant": "a"},
        "roles": {"state": "ENABLED", "variants": {"in": true, "out": false}, "defaultVariant": "out",
                  "targeting": {"if": [{"some": [{"var": "user.roles"}, {"==": [{"var": ""}, "admin"]}]}, "in"]}},
        "half": {"state": "ENABLED", "variants": {"a": "A", "b": "B"}, "defaultVariant": "a",
                 "targeting": {"fractional": [["a", 50], ["b", 50]]}},
        "nowhere": {"state": "ENABLED", "variants": {"a": 1}, "defaultVariant": "a", "targeting": {"if": [true, "z"]}},
        "broken": {"state": "ENABLED", "variants": {"a": 1}, "defaultVariant": "b"}
    }
}"#;

fn client() -> Client {
    Client::from_definition(DEFINITION, Format::Json).expect("a definition")
}

#[test]
fn every_kind_of_flag_answers() {
    let client = client();
    let nobody = Context::anonymous();
    assert!(client.bool("on", &nobody, false));
    assert!(!client.bool("off", &nobody, false));
    assert!(client.bool("off", &nobody, true));
    assert!(client.bool("code-default", &nobody, true));
    assert!(!client.bool("code-default", &nobody, false));
    assert_eq!(client.string("color", &nobody, "none"), "red");
    assert_eq!(client.string("color", &Context::new("u").with("email", "a@example.com"), "none"), "grün");
    assert_eq!(client.int("size", &nobody, 0), 10);
    assert_eq!(client.float("size", &nobody, 0.0), 10.0);
    let grown = Context::anonymous().with("age", 18);
    assert_eq!(client.float("size", &grown, 0.0), 1.5);
    assert_eq!(client.int("size", &grown, 7), 7, "1.5 is no whole number");
    assert_eq!(client.object("layout", &nobody, "{}"), r#"{"rows":[1,2.50],"x":null}"#);
    assert_eq!(client.string("on", &nobody, "default"), "default");
    let roles = [Value::from("user"), Value::from("admin")];
    let user = [("roles", Value::from(List::new(&roles)))];
    assert!(client.bool("roles", &Context::anonymous().with("user", Object::new(&user)), false));
    assert!(!client.bool("roles", &nobody, true));
}

/// `bool` has ways of its own for short keys and long ones, for those in their own place of the index and behind it, for constant
/// flags and for rules, with a selector and without.
#[test]
fn truth_is_the_same_by_every_way() {
    let key = |number: usize| format!("{number:0>width$}", width = 1 + number % 40);
    let flag = |number: usize| {
        let rule =
            if number.is_multiple_of(3) { r#", "targeting": {"if": [{"var": "vip"}, "yes", "no"]}"# } else { "" };
        let (state, default) = (["ENABLED", "DISABLED"][usize::from(number % 7 == 6)], ["yes", "no"][number % 2]);
        let variants = if number % 11 == 10 { r#"{"yes": "y", "no": "n"}"# } else { r#"{"yes": true, "no": false}"# };
        let set = ["", r#", "metadata": {"flagSetId": "shop"}"#][number % 2];
        format!(
            r#""{}": {{"state": "{state}", "variants": {variants}, "defaultVariant": "{default}"{rule}{set}}}"#,
            key(number)
        )
    };
    let flags: Vec<String> = (0..2_000).map(flag).collect();
    let definition = format!(r#"{{"flags": {{{}}}}}"#, flags.join(","));
    let mut answers = HashMap::new();
    for selector in ["", "flagSetId=shop"] {
        let client = Client::from_definition(&definition, Format::Json).expect("a definition");
        let selector = Selector::parse(selector).expect("a selector");
        let client = client.with_selector(&selector).expect("all, or a flag set");
        let snapshot = client.snapshot();
        for context in [Context::anonymous(), Context::new("u").with("vip", true)] {
            // Half of the keys are no flag's.
            for (key, default) in (0..4_000).map(key).flat_map(|key| [(key.clone(), true), (key, false)]) {
                let details = client.bool_details(&key, &context, default);
                assert_eq!(client.bool(&key, &context, default), details.value, "{key}, {selector:?}: {details:?}");
                assert_eq!(snapshot.bool(&key, &context, default), details.value, "{key}, {selector:?}: {details:?}");
                *answers.entry((details.reason, details.error)).or_insert(0) += 1;
            }
        }
    }
    for reason in [
        (Reason::Static, None),
        (Reason::TargetingMatch, None),
        (Reason::Disabled, None),
        (Reason::Error, Some(ErrorCode::FlagNotFound)),
        (Reason::Error, Some(ErrorCode::TypeMismatch)),
    ] {
        assert!(answers.get(&reason).is_some_and(|&count| count > 500), "{reason:?}: {answers:?}");
    }
}

#[test]
fn details_say_why() {
    let client = client();
    let nobody = Context::anonymous();
    let on = client.bool_details("on", &nobody, false);
    assert_eq!((on.value, on.variant.as_deref(), on.reason, on.error), (true, Some("yes"), Reason::Static, None));
    let color = client.string_details("color", &Context::anonymous().with("email", "x@example.com"), "");
    assert_eq!((color.variant.as_deref(), color.reason), (Some("g"), Reason::TargetingMatch));
    let snapshot = client.snapshot();
    let evaluation = snapshot.evaluate("color", Want::Any, &nobody);
    assert_eq!((evaluation.value, evaluation.reason), (Some(FlagValue::Text("red")), Reason::Default));
    let metadata: Vec<_> = evaluation.metadata.iter().collect();
    assert_eq!(metadata, [("owner", ScalarRef::Text("design")), ("version", ScalarRef::Number(3.0))]);
    for (key, want, reason, error) in [
        ("off", Want::Bool, Reason::Disabled, None),
        ("code-default", Want::Bool, Reason::Default, None),
        ("missing", Want::Bool, Reason::Error, Some(ErrorCode::FlagNotFound)),
        ("on", Want::Text, Reason::Error, Some(ErrorCode::TypeMismatch)),
        ("nowhere", Want::Int, Reason::Error, Some(ErrorCode::General)),
        ("broken", Want::Int, Reason::Error, Some(ErrorCode::ParseError)),
    ] {
        let evaluation = snapshot.evaluate(key, want, &nobody);
        assert_eq!((evaluation.value, evaluation.variant), (None, None), "{key}");
        assert_eq!((evaluation.reason, evaluation.error), (reason, error), "{key}");
    }
}

#[test]
fn fractional_splits_by_targeting_key() {
    let client = client();
    let (mut a, mut b) = (0, 0);
    for user in 0..1000 {
        match client.string("half", &Context::new(&format!("user-{user}")), "?").as_str() {
            "A" => a += 1,
            "B" => b += 1,
            other => panic!("{other}"),
        }
    }
    assert!((400..600).contains(&a), "{a} A, {b} B");
    assert_eq!(client.string_details("half", &Context::anonymous(), "?").reason, Reason::Default);
}

#[test]
fn handles_follow_their_flag() {
    let client = client();
    let (on, missing, half) = (client.flag("on"), client.flag("missing"), client.flag("half"));
    for _ in 0..3 {
        assert!(on.bool(&Context::anonymous(), false));
        assert!(missing.bool(&Context::anonymous(), true));
        assert!(!missing.bool(&Context::anonymous(), false));
        assert_eq!(half.string(&Context::new("user-1"), ""), client.string("half", &Context::new("user-1"), ""));
        assert_eq!(on.int(&Context::anonymous(), 5), 5);
    }
}

#[test]
fn a_file_is_read_again_when_asked_and_breakage_is_isolated() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("flags.json");
    let flag = |default: &str| {
        format!(
            r#"{{"flags": {{"a": {{"state": "ENABLED", "variants": {{"on": true, "off": false}}, "defaultVariant": "{default}"}}}}}}"#
        )
    };
    std::fs::write(&path, flag("off")).expect("written");
    let client = Client::from_file(&path).expect("a definition");
    let handle = client.flag("a");
    let before = client.snapshot();
    assert!(!handle.bool(&Context::anonymous(), true));
    std::fs::write(&path, flag("on")).expect("written");
    assert!(client.reload().expect("reloaded").is_empty());
    assert!(client.bool("a", &Context::anonymous(), false));
    assert!(handle.bool(&Context::anonymous(), false));
    assert!(!before.bool("a", &Context::anonymous(), true), "a snapshot stays what it was");
    std::fs::write(&path, flag("neither")).expect("written");
    let problems = client.reload().expect("a broken flag is no broken file");
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(client.bool("a", &Context::anonymous(), false), "the last good form stays");
    std::fs::write(&path, "{").expect("written");
    assert!(client.reload().is_err());
    assert!(client.bool("a", &Context::anonymous(), false));
}

#[test]
fn id_lists_are_read_from_files() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("flags.json");
    std::fs::write(directory.path().join("beta.txt"), "user-1\n42\n").expect("written");
    let definition = r#"{"metadata": {"list.beta": "beta.txt"}, "flags": {"a": {
        "state": "ENABLED", "variants": {"in": true, "out": false}, "defaultVariant": "out",
        "targeting": {"if": [{"in": [{"var": "id"}, {"var": "$lists.beta"}]}, "in"]}}}}"#;
    std::fs::write(&path, definition).expect("written");
    let client = Client::from_file(&path).expect("a definition");
    let is_in = |id: Value<'_>| client.bool("a", &Context::anonymous().with("id", id), false);
    assert!(is_in("user-1".into()) && is_in("42".into()) && is_in(42.into()) && is_in(42.0.into()));
    assert!(!is_in("user-2".into()) && !is_in(Value::Null) && !is_in(true.into()));
    // An unchanged list is taken over from the snapshot before; a changed one is read.
    client.reload().expect("reloaded");
    assert!(is_in("user-1".into()));
    std::fs::write(directory.path().join("beta.txt"), "user-2\nuser-3\nuser-4\n").expect("written");
    client.reload().expect("reloaded");
    assert!(!is_in("user-1".into()) && is_in("user-2".into()));
}

#[test]
fn selectors_narrow_to_a_flag_set() {
    let definition = r#"{"metadata": {"flagSetId": "shop"}, "flags": {
        "a": {"state": "ENABLED", "variants": {"x": "shop"}, "defaultVariant": "x"},
        "b": {"state": "ENABLED", "variants": {"x": "blog"}, "defaultVariant": "x", "metadata": {"flagSetId": "blog"}}}}"#;
    let open = |selector: &str| {
        let client = Client::from_definition(definition, Format::Json).expect("a definition");
        client.with_selector(&Selector::parse(selector).expect("a selector")).expect("by flag set")
    };
    let read = |client: &Client, key: &str| client.string(key, &Context::anonymous(), "-");
    let (all, shop, blog, none) = (open(""), open("flagSetId=shop"), open("flagSetId=blog"), open("flagSetId="));
    assert_eq!((read(&all, "a"), read(&all, "b")), ("shop".into(), "blog".into()));
    assert_eq!((read(&shop, "a"), read(&shop, "b")), ("shop".into(), "-".into()));
    assert_eq!((read(&blog, "a"), read(&blog, "b")), ("-".into(), "blog".into()));
    assert_eq!((read(&none, "a"), read(&none, &"long".repeat(1000))), ("-".into(), "-".into()));
}
