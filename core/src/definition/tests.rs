use super::*;
use crate::compile::rule::{Operator, Rule};
use std::path::{Path, PathBuf};

fn parse(text: &str) -> Document {
    Document::parse("flags.json", text, Format::Json, &Limits::default()).expect("a document")
}

/// The conformance data, where it is at hand.
fn conformance() -> Option<PathBuf> {
    let found = std::env::var_os("FLAGS_CONFORMANCE").map(PathBuf::from).or_else(|| {
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .ancestors()
            .map(|folder| folder.join("shared/conformance"))
            .find(|path| path.exists())
    });
    if found.is_none() {
        println!("skipped: no conformance data (set FLAGS_CONFORMANCE)");
    }
    found
}

#[test]
fn testkit_flags_are_good_but_for_the_one_meant_to_be_broken() {
    let Some(folder) = conformance() else { return };
    let limits = Limits::default();
    let document = Document::load(folder.join("flagd/testkit-flags.json"), &limits).unwrap();
    let evaluators = document.evaluators(&limits);
    let mut broken = Vec::new();
    for raw in document.flags() {
        match Flag::parse(&raw, &evaluators, &ListNames::default(), &limits) {
            Ok(checked) => println!("{} {:?}", raw.key(), checked.warnings),
            Err(problems) => {
                println!("{}", problems[0]);
                broken.push(raw.key());
            }
        }
    }
    assert_eq!(broken, ["ref-to-nonexistent-evaluator-flag"]);
}

#[test]
fn a_flag_comes_out_typed() {
    let document = parse(
        r#"{"flags": {"a": {"state": "ENABLED", "variants": {"on": true, "off": false}, "defaultVariant": "off",
            "targeting": {"if": [{"$ref": "staff"}, "on"]}, "metadata": {"owner": "x", "none": null}}},
            "$evaluators": {"staff": {"in": ["@x.com", {"var": "email"}]}}, "metadata": {"flagSetId": "s", "list.b": "b.csv"}}"#,
    );
    assert_eq!(document.metadata(), [("flagSetId".to_owned(), flag::Scalar::Text("s".to_owned()))]);
    assert_eq!(document.lists(), [ListDeclaration::File { name: "b".to_owned(), path: "b.csv".into() }]);
    let limits = Limits::default();
    let raw = document.flags().next().unwrap();
    let checked = Flag::parse(&raw, &document.evaluators(&limits), &ListNames::default(), &limits).unwrap();
    let text = |text: &str| Rule::Text(text.to_owned());
    let email = Rule::Call(Operator::Var, vec![text("email")]);
    assert_eq!(
        checked.flag.targeting,
        Some(Rule::Call(Operator::If, vec![Rule::Call(Operator::In, vec![text("@x.com"), email]), text("on")]))
    );
    assert_eq!(checked.flag.default_variant, Some(1));
    assert_eq!(checked.flag.metadata, [("owner".to_owned(), flag::Scalar::Text("x".to_owned()))]);
    assert_eq!(checked.warnings, []);
}

const EVALUATORS: &str = r#""$evaluators": {
"staff": {"in": ["@x.com", {"var": "email"}]}, "vip": {"$ref": "staff"},
"loop": {"!": [{"$ref": "pool"}]}, "pool": [{"$ref": "loop"}],
"bad": {"frob": [1]}, "parts": [{"var": "tier"}, "gold"], "none": {}
}"#;

/// What is wrong with one flag. In `flag`, `¦` stands before what the first problem is to point at; `pointer` is
/// relative to the flag.
fn assert_problem(severity: Severity, flag: &str, pointer: &str, message: &str) {
    let problems = problems_of(&flag.replace('¦', ""));
    let [problem] = &*problems else { panic!("one problem expected: {flag}\n{problems:#?}") };
    assert_eq!((problem.severity, &*problem.message), (severity, message), "{flag}");
    assert_eq!(problem.pointer, format!("/flags/a{pointer}"), "{flag}");
    let column = format!("\"a\": {flag}").chars().position(|letter| letter == '¦').expect("a mark") + 1;
    assert_eq!((problem.line as usize, problem.column as usize), (2, column), "{flag}");
    assert_eq!(problem.flag.as_deref(), Some("a"));
    assert_eq!(problem.file, "flags.json");
}

fn document_of(flag: &str) -> Document {
    parse(&format!("{{\"flags\": {{\n\"a\": {flag}}},\n{EVALUATORS}}}"))
}

fn problems_of(flag: &str) -> Vec<Problem> {
    let document = document_of(flag);
    assert_eq!(document.problems(), []);
    let limits = Limits { rule_depth: 8, rule_nodes: 50, variants: 4, ..Limits::default() };
    let raw = document.flags().next().expect("a flag");
    match Flag::parse(&raw, &document.evaluators(&limits), &ListNames::from_iter(["known"]), &limits) {
        Ok(checked) => {
            assert!(checked.warnings.iter().all(|problem| problem.severity == Severity::Warning));
            checked.warnings
        }
        Err(problems) => {
            assert!(problems.iter().any(Problem::is_error));
            problems
        }
    }
}

fn assert_error(flag: &str, pointer: &str, message: &str) {
    assert_problem(Severity::Error, flag, pointer, message);
}

/// A warning in the targeting of a flag whose variants are `on` and `off`.
fn assert_warning(targeting: &str, pointer: &str, message: &str) {
    assert_problem(Severity::Warning, &with_targeting(targeting), &format!("/targeting{pointer}"), message);
}

fn assert_rule_error(targeting: &str, pointer: &str, message: &str) {
    assert_error(&with_targeting(targeting), &format!("/targeting{pointer}"), message);
}

fn with_targeting(targeting: &str) -> String {
    format!(r#"{{"state": "ENABLED", "variants": {{"on": true, "off": false}}, "targeting": {targeting}}}"#)
}

fn assert_good(flag: &str) {
    assert_eq!(problems_of(flag), [], "{flag}");
}

fn rule_of(targeting: &str) -> Option<Rule> {
    let document = document_of(&with_targeting(targeting));
    let limits = Limits::default();
    let raw = document.flags().next().expect("a flag");
    let lists = ListNames::from_iter(["known", "dotted.name"]);
    Flag::parse(&raw, &document.evaluators(&limits), &lists, &limits).expect("a good flag").flag.targeting
}

fn text(text: &str) -> Rule {
    Rule::Text(text.to_owned())
}

fn var(path: &str) -> Rule {
    Rule::Call(Operator::Var, vec![text(path)])
}

#[test]
fn what_is_wrong_with_a_flag_is_said_where_it_is() {
    assert_error("¦[1]", "", "expected a flag, an object with `state` and `variants`, found an array");
    assert_error(r#"¦{"variants": {"on": true}}"#, "", "no `state`; expected \"ENABLED\" or \"DISABLED\"");
    assert_error(
        r#"{"state": ¦"enabled", "variants": {"on": true}}"#,
        "/state",
        "expected \"ENABLED\" or \"DISABLED\" as `state`, found \"enabled\"",
    );
    assert_error(r#"¦{"state": "ENABLED"}"#, "", "no `variants`; expected an object of at least one");
    assert_error(
        r#"{"state": "ENABLED", "variants": ¦["on"]}"#,
        "/variants",
        "expected an object as `variants`, found an array",
    );
    assert_error(r#"{"state": "ENABLED", "variants": ¦{}}"#, "/variants", "no variant; expected at least one");
    assert_error(
        r#"{"state": "ENABLED", "variants": {¦"": true}}"#,
        "/variants/",
        "a variant without a name; expected at least one character",
    );
    assert_error(
        r#"{"state": "ENABLED", "variants": {"ä": true, "b/~": ¦1}}"#,
        "/variants/b~1~0",
        "this variant is a number, but \"ä\" is a boolean; expected variants of one type",
    );
    assert_error(
        r#"{"state": "ENABLED", "variants": {"a": {}, "b": [], "c": ¦"x"}}"#,
        "/variants/c",
        "this variant is text, but \"a\" is an object or array; expected variants of one type",
    );
    assert_error(
        r#"{"state": "ENABLED", "variants": {"a": true, "b": ¦null}}"#,
        "/variants/b",
        "a variant is null; expected a boolean, text, a number, an object or an array",
    );
    assert_error(
        r#"{"state": "ENABLED", "variants": {"a": 1, "b": 2, "c": 3, "d": 4, ¦"e": 5}}"#,
        "/variants/e",
        "more than 4 variants, the limit",
    );
    assert_error(
        r#"{"state": "ENABLED", "variants": {"on": true, "off": false}, "defaultVariant": ¦"no"}"#,
        "/defaultVariant",
        "\"no\" names no variant; expected \"on\" or \"off\"",
    );
    assert_error(
        r#"{"state": "ENABLED", "variants": {"on": true}, "defaultVariant": ¦true}"#,
        "/defaultVariant",
        "expected a variant's name or null as `defaultVariant`, found true",
    );
    assert_error(
        r#"{"state": "ENABLED", "variants": {"on": true}, "metadata": ¦[]}"#,
        "/metadata",
        "expected an object as `metadata`, found an array",
    );
    assert_error(
        r#"{"state": "ENABLED", "variants": {"on": true}, "metadata": {"a": "b", "c": ¦{}}}"#,
        "/metadata/c",
        "expected text, a number or a boolean as metadata",
    );
    assert_error(
        r#"{"state": "ENABLED", "variants": {"on": ¦"\ud800"}}"#,
        "/variants/on",
        "text with a lone surrogate in it, which is no character",
    );
    assert_error(
        r#"{"state": "ENABLED", "variants": {"on": {"a": [[[[[[[¦[]]]]]]]]}}}"#,
        "/variants/on/a/0/0/0/0/0/0/0",
        "a value nested deeper than 8 levels, the limit",
    );
}

#[test]
fn numbers_beyond_what_a_double_counts_are_refused_everywhere() {
    for number in ["9007199254740992", "-9007199254740992", "1e400", "123456789012345678901234567890", "9.1e15"] {
        let message = format!("the number {number} is beyond ±9007199254740991 (2^53-1)");
        let enabled = r#""state": "ENABLED", "variants": {"on": true, "off": false}"#;
        let numbers = r#"{"state": "ENABLED", "variants": {"a": 1, "b": "#;
        assert_error(&format!("{numbers}¦{number}}}}}"), "/variants/b", &message);
        assert_error(
            &format!(r#"{{"state": "ENABLED", "variants": {{"a": {{"x": [0, ¦{number}]}}}}}}"#),
            "/variants/a/x/1",
            &message,
        );
        assert_error(&format!(r#"{{{enabled}, "metadata": {{"m": ¦{number}}}}}"#), "/metadata/m", &message);
        for targeting in ["{\"<\": [1, ¦N]}", "{\"in\": [1, [¦N]]}", "{\"x\": {\"y\": [¦N]}, \"z\": 0}"] {
            let flag = format!(r#"{{{enabled}, "targeting": {{"if": [{}, "on"]}}}}"#, targeting.replace('N', number));
            let problems = problems_of(&flag.replace('¦', ""));
            assert_eq!(problems.len(), 1, "{flag} {problems:?}");
            assert_eq!(problems[0].message, message);
            assert!(problems[0].pointer.starts_with("/flags/a/targeting/if/0/"), "{:?}", problems[0]);
        }
    }
    assert_good(r#"{"state": "ENABLED", "variants": {"a": 9007199254740991, "b": -9007199254740991, "c": -0.0e-9}}"#);
}

#[test]
fn a_broken_rule_is_said_where_it_is() {
    assert_rule_error(
        r#"{"if": [{¦"frob": [1]}, "on"]}"#,
        "/if/0/frob",
        "unknown operator \"frob\"; expected one of JsonLogic's or flagd's",
    );
    assert_rule_error(
        r#"{"if": [{¦"in_list": [1, "known"]}, "on"]}"#,
        "/if/0/in_list",
        "unknown operator \"in_list\"; expected one of JsonLogic's or flagd's",
    );
    assert_rule_error(r#"{"if": [{¦"==": [1]}, "on"]}"#, "/if/0/==", "\"==\" with 1 argument; expected 2");
    assert_rule_error(r#"{"if": [{¦"/": 1}, "on"]}"#, "/if/0/~1", "\"/\" with 1 argument; expected 2");
    assert_rule_error(r#"{"if": [{¦"<": [1, 2, 3, 4]}, "on"]}"#, "/if/0/<", "\"<\" with 4 arguments; expected 2 to 3");
    assert_rule_error(r#"{"if": [{¦"*": []}, "on"]}"#, "/if/0/*", "\"*\" with 0 arguments; expected at least 1");
    assert_rule_error(
        r#"{"if": [{"$ref": ¦"nobody"}, "on"]}"#,
        "/if/0/$ref",
        "no evaluator is called \"nobody\"; `$evaluators` has \"staff\", \"vip\", \"loop\", \"pool\", \"bad\", \
         \"parts\" or \"none\"",
    );
    assert_rule_error(
        r#"{"if": [{"$ref": ¦["staff"]}, "on"]}"#,
        "/if/0/$ref",
        "expected the name of an evaluator, found an array",
    );
    assert_rule_error(
        r#"{"if": [{"in": [{"var": "targetingKey"}, ¦{"var": "$lists.unknown"}]}, "on"]}"#,
        "/if/0/in/1",
        "no id list is called \"unknown\"; the metadata must declare it",
    );
    assert_rule_error(
        r#"{"!": {"!": {"!": {"!": {"!": {"!": {"!": {"!": ¦1}}}}}}}}"#,
        "/!/!/!/!/!/!/!/!",
        "a rule nested deeper than 8 levels, the limit",
    );
    let wide = format!(r#"{{"cat": [{}¦1, 1]}}"#, "1, ".repeat(49));
    assert_rule_error(&wide, "/cat/49", "a rule of more than 50 values and operators, the limit");
    let literals = format!(r#"{{"if": [{{"in": [1, [{}¦1, 1]]}}, "on"]}}"#, "1, ".repeat(5000));
    let problems = problems_of(&with_targeting(&literals.replace('¦', "")));
    assert_eq!(problems.len(), 1);
    assert!(problems[0].message.contains("5000"), "{:?}", problems[0]);
}

#[test]
fn problems_in_an_evaluator_point_into_it() {
    let problems = problems_of(&with_targeting(r#"{"if": [{"$ref": "bad"}, "on", {"$ref": "bad"}, "off"]}"#));
    assert_eq!(problems.len(), 1);
    assert_eq!(
        problems[0].to_string(),
        "flags.json:6:9: error: flag \"a\" at /$evaluators/bad/frob: unknown operator \"frob\"; expected one of \
         JsonLogic's or flagd's"
    );
    let problems = problems_of(&with_targeting(r#"{"if": [{"$ref": "loop"}, "on"]}"#));
    assert_eq!(problems.len(), 1);
    assert_eq!(
        problems[0].to_string(),
        "flags.json:5:54: error: flag \"a\" at /$evaluators/pool/0/$ref: an evaluator that refers to itself: loop → \
         pool → loop"
    );
}

#[test]
fn every_problem_of_a_flag_is_listed() {
    let problems = problems_of(
        r#"{"state": 1, "variants": {"on": null, "": 1e99}, "defaultVariant": {}, "owner": "me",
            "targeting": {"if": [{"x": [{"y": []}]}, {"==": 1}]}, "metadata": {"m": []}}"#,
    );
    let found: Vec<_> = problems.iter().map(|problem| (problem.line, &problem.pointer["/flags/a".len()..])).collect();
    assert_eq!(
        found,
        [
            (2, "/state"),
            (2, "/variants/on"),
            (2, "/variants/"),
            (2, "/variants/"),
            (2, "/defaultVariant"),
            (2, "/owner"),
            (3, "/targeting/if/0/x"),
            (3, "/targeting/if/0/x/0/y"),
            (3, "/targeting/if/1/=="),
            (3, "/metadata/m"),
        ]
    );
    assert_eq!(problems.iter().filter(|problem| !problem.is_error()).count(), 1);
}

#[test]
fn what_is_odd_is_warned_of_where_it_is() {
    assert_problem(
        Severity::Warning,
        r#"{"state": "ENABLED", "variants": {"on": true}, ¦"default": "on"}"#,
        "/default",
        "unknown property \"default\"; expected `state`, `variants`, `defaultVariant`, `targeting` or `metadata`",
    );
    assert_problem(
        Severity::Warning,
        r#"{¦"state": 1, "variants": {"on": true}, "state": "ENABLED"}"#,
        "/state",
        "\"state\" comes again in this object; the last one counts",
    );
    assert_problem(
        Severity::Warning,
        r#"{"state": "ENABLED", "variants": {"a": {¦"x": 1, "x": 2}}}"#,
        "/variants/a/x",
        "\"x\" comes again in this object; the last one counts",
    );
    assert_problem(
        Severity::Warning,
        r#"{"state": "ENABLED", "variants": {"a": 1}, "metadata": {"flagSetId": ¦1}}"#,
        "/metadata/flagSetId",
        "expected text as `flagSetId`; this one is ignored",
    );
    assert_problem(
        Severity::Warning,
        r#"{"state": "ENABLED", "variants": {"a": 1}, ¦"key": "b"}"#,
        "/key",
        "unknown property \"key\"; expected `state`, `variants`, `defaultVariant`, `targeting` or `metadata`",
    );

    assert_warning(r#"¦"of""#, "", "\"of\" names no variant; expected \"on\" or \"off\"");
    assert_warning(r#"{"if": [1, ¦"of", "on"]}"#, "/if/1", "\"of\" names no variant; expected \"on\" or \"off\"");
    assert_warning(r#"{"if": [1, "on", ¦true]}"#, "/if/2", "\"true\" names no variant; expected \"on\" or \"off\"");
    assert_warning(r#"{"if": [1, "on", 0, ¦1.0]}"#, "/if/3", "\"1\" names no variant; expected \"on\" or \"off\"");
    assert_warning(
        r#"{"if": [1, {"or": [{"var": "x"}, ¦[]]}, "on"]}"#,
        "/if/1/or/1",
        "an array as result names no variant; expected \"on\" or \"off\"",
    );
    assert_warning(r#"{"if": [1, ¦{}]}"#, "/if/1", "an object as result names no variant; expected \"on\" or \"off\"");
    assert_warning(
        r#"{¦"==": [1, {"var": "x"}]}"#,
        "/==",
        "\"==\" gives true or false, but not both name a variant; expected \"on\" or \"off\"",
    );
    assert_warning(
        r#"{"fractional": [["on", 1], [¦"of", 1]]}"#,
        "/fractional/1/0",
        "\"of\" names no variant; expected \"on\" or \"off\"",
    );
    assert_warning(
        r#"{"if": [{"var": ¦"$flagd.key"}, "on"]}"#,
        "/if/0/var",
        "\"$flagd.key\" is always absent; expected $flagd.flagKey or $flagd.timestamp",
    );
    assert_warning(
        r#"{"if": [{"in": ["a", {"var": [¦"$lists.known", []]}]}, "on"]}"#,
        "/if/0/in/1/var/0",
        "an id list is always absent here; expected it as the right side of \"in\"",
    );
    assert_warning(
        r#"{"if": [{"==": [1, {"var": ¦"$lists.known"}]}, "on"]}"#,
        "/if/0/==/1/var",
        "an id list is always absent here; expected it as the right side of \"in\"",
    );
    assert_warning(
        r#"{"if": [{¦"and": [1], "a": {"in_list": 1}}, "on"]}"#,
        "/if/0/and",
        "\"and\" is not applied here: this object is data, having no member or several",
    );
}

#[test]
fn oddities_of_flagds_operators_are_warned_of() {
    let null = "is always null; expected";
    assert_warning(
        r#"{"if": [{¦"starts_with": ["a"]}, "on"]}"#,
        "/if/0/starts_with",
        &format!("\"starts_with\" with 1 argument {null} 2"),
    );
    assert_warning(
        r#"{"if": [{¦"ends_with": [{"var": "x"}, "b", "c"]}, "on"]}"#,
        "/if/0/ends_with",
        &format!("\"ends_with\" with 3 arguments {null} 2"),
    );
    assert_warning(
        r#"{"if": [{"ends_with": [{"var": "x"}, ¦1]}, "on"]}"#,
        "/if/0/ends_with/1",
        "\"ends_with\" of anything but two texts is null; expected text",
    );
    assert_warning(
        r#"{"if": [{¦"sem_ver": ["1.2.3", "="]}, "on"]}"#,
        "/if/0/sem_ver",
        &format!("\"sem_ver\" with 2 arguments {null} 3"),
    );
    for version in [
        "\"1.2.3.4\"",
        "\"01.2.3\"",
        "\"1.2-a\"",
        "\"vv1\"",
        "\"\"",
        "\"1.2.3-\"",
        "\"1.2.3-01\"",
        "\"1.2.3+\"",
        "1000000",
        "true",
        "null",
    ] {
        let shown = if version == "1000000" { "the number 1000000" } else { version };
        assert_warning(
            &format!(r#"{{"if": [{{"sem_ver": [{{"var": "v"}}, ">=", ¦{version}]}}, "on"]}}"#),
            "/if/0/sem_ver/2",
            &format!("{shown} is no version, so \"sem_ver\" {null} such as \"1.2.3\""),
        );
    }
    for version in ["\"1\"", "\"v1.2\"", "\"V1.2.3-a.0.1b-+x.01\"", "\"0.0.0\"", "1.2", "0", "\"1.2.3-0\""] {
        assert_good(&with_targeting(&format!(r#"{{"if": [{{"sem_ver": [{version}, "^", {{"var": "v"}}]}}, "on"]}}"#)));
    }
    assert_warning(
        r#"{"if": [{"sem_ver": ["1", ¦"==", "2"]}, "on"]}"#,
        "/if/0/sem_ver/1",
        "\"==\" compares no versions, so \"sem_ver\" is always null; expected \"=\", \"!=\", \"<\", \"<=\", \">\", \
         \">=\", \"^\" or \"~\"",
    );

    let buckets = |text: &str| format!(r#"{{"fractional": {text}}}"#);
    for nothing in ["[]", r#"[{"var": "x"}]"#, r#""key""#] {
        let flag = format!(r#"{{¦"fractional": {nothing}}}"#);
        assert_warning(&flag, "/fractional", &format!("\"fractional\" without buckets {null} [VARIANT, WEIGHT]"));
    }
    let no_bucket = format!("not a bucket, so \"fractional\" {null} [VARIANT, WEIGHT]");
    assert_warning(&buckets(r#"["key", ["on"], ¦"off"]"#), "/fractional/2", &no_bucket);
    assert_warning(&buckets(r#"[["on"], ¦[]]"#), "/fractional/1", &no_bucket);
    assert_warning(
        &buckets(r#"[["on"], [¦{}, 2]]"#),
        "/fractional/1/0",
        "a bucket of no variant; expected the name of a variant first",
    );
    assert_warning(
        &buckets(r#"[["on", ¦-1], ["off"]]"#),
        "/fractional/0/1",
        "the weight -1 counts as 0; expected 0 or more",
    );
    for weight in ["0.5", "2147483648", "\"1\"", "true"] {
        let number = weight.starts_with(|first: char| first.is_ascii_digit());
        let shown = if number { format!("the number {weight}") } else { weight.to_owned() };
        assert_warning(
            &buckets(&format!(r#"[["on", ¦{weight}], ["off"]]"#)),
            "/fractional/0/1",
            &format!("{shown} is no weight, so \"fractional\" {null} a whole number up to 2147483647"),
        );
    }
    assert_warning(
        r#"{¦"fractional": [["on", 0], ["off", 0]]}"#,
        "/fractional",
        &format!("weights that sum up to 0, so \"fractional\" {null} one above 0"),
    );
    assert_warning(
        r#"{¦"fractional": [["on", 2147483647], ["off"]]}"#,
        "/fractional",
        &format!("weights that sum up to 2147483648, so \"fractional\" {null} 2147483647 at most"),
    );
    assert_good(&with_targeting(&buckets(r#"[["on", null], ["off", {"var": "x"}], [null, 0], {"var": "y"}]"#)));
    assert_good(&with_targeting(&buckets(r#"[null, ["on", 25.0], ["off", 75, "more"]]"#)));
}

#[test]
fn good_flags_have_no_problem() {
    for flag in [
        r#"{"state": "DISABLED", "variants": {"a": "b"}, "defaultVariant": null, "targeting": null, "metadata": null}"#,
        r#"{"state": "ENABLED", "variants": {"a": [1], "b": {"c": null}}, "defaultVariant": "", "targeting": {}}"#,
        r#"{"state": "ENABLED", "variants": {"true": 1, "false": 2}, "targeting": {"!": []}, "key": "a"}"#,
        r#"{"state": "ENABLED", "variants": {"1": 1, "2.5": 2}, "targeting": {"if": [0, 1, {"if": [1, 2.50, null]}]}}"#,
    ] {
        assert_good(flag);
    }
    for targeting in [
        r#"{"$ref": "none"}"#,
        r#"{"if": [{"==": {"$ref": "parts"}}, "on", {"$ref": "vip"}, "off"]}"#,
        r#"{"if": [{"in": [{"var": "targetingKey"}, {"var": "$lists.known"}]}, "on"]}"#,
        r#"{"cat": [{"var": "$flagd.flagKey"}, {"var": ["$flagd.timestamp"]}]}"#,
    ] {
        assert_good(&with_targeting(targeting));
    }
}

#[test]
fn rules_are_typed() {
    assert_eq!(rule_of("null"), None);
    assert_eq!(rule_of("{}"), None);
    assert_eq!(rule_of(r#"{"$ref": "none"}"#), None);
    assert_eq!(rule_of("true"), Some(Rule::Bool(true)));
    assert_eq!(rule_of(r#"{"var": "a"}"#), Some(var("a")));
    assert_eq!(rule_of(r#"{"var": null}"#), Some(Rule::Call(Operator::Var, vec![Rule::Null])));
    assert_eq!(rule_of(r#"{"var": []}"#), Some(Rule::Call(Operator::Var, vec![])));
    assert_eq!(rule_of(r#"{"!": [[]]}"#), Some(Rule::Call(Operator::Not, vec![Rule::List(vec![])])));
    assert_eq!(
        rule_of(r#"{"==": {"$ref": "parts"}}"#),
        Some(Rule::Call(Operator::Equal, vec![var("tier"), text("gold")])),
    );
    assert_eq!(
        rule_of(r#"{"merge": [{"$ref": "parts"}, {"$ref": "vip"}]}"#),
        Some(Rule::Call(
            Operator::Merge,
            vec![
                Rule::List(vec![var("tier"), text("gold")]),
                Rule::Call(Operator::In, vec![text("@x.com"), var("email")]),
            ]
        )),
    );
    for targeting in [
        r#"{"in": [{"var": "u"}, {"var": "$lists.dotted.name"}]}"#,
        r#"{"in": [{"var": "u"}, {"var": ["$lists.dotted.name"]}]}"#,
    ] {
        let list = Rule::Call(Operator::InList, vec![var("u"), text("dotted.name")]);
        assert_eq!(rule_of(targeting), Some(list));
    }
    let data = Rule::Object(vec![
        ("b".to_owned(), Rule::Object(vec![("var".to_owned(), text("x"))])),
        ("a".to_owned(), Rule::List(vec![Rule::Object(vec![("!".to_owned(), Rule::Number(2.5))]), Rule::Null])),
    ]);
    assert_eq!(
        rule_of(r#"{"!": [{"a": 1, "b": {"var": "x"}, "a": [{"!": 2.50}, null]}]}"#),
        Some(Rule::Call(Operator::Not, vec![data])),
    );
}

#[test]
fn object_variants_keep_order_and_spelling() {
    let document = document_of(
        r#"{"state": "ENABLED", "variants": {"a": { "z" : 1.50e+3, "b" : [ ], "z": [ 1E5 , {} , "\u00e9\n\"" ], "c":-0 }, "d": [[],[0]] }}"#,
    );
    let limits = Limits::default();
    let raw = document.flags().next().unwrap();
    let checked = Flag::parse(&raw, &Evaluators::default(), &ListNames::default(), &limits).unwrap();
    assert_eq!(checked.flag.kind, flag::ValueKind::Json);
    let values: Vec<_> = checked.flag.variants.into_iter().map(|variant| variant.value).collect();
    assert_eq!(
        values,
        [
            flag::VariantValue::Json(r#"{"b":[],"z":[1E5,{},"é\n\""],"c":-0}"#.to_owned()),
            flag::VariantValue::Json("[[],[0]]".to_owned()),
        ]
    );
}

fn refused(text: &str, format: Format) -> String {
    Document::parse("f", text, format, &Limits::default()).expect_err(text).to_string()
}

#[test]
fn what_is_no_definition_is_refused_whole() {
    for (text, message) in [
        ("", "f:1:1: expected an object with `flags`, found the end of the text"),
        (" \n [1]", "f:2:2: expected an object with `flags`, found `[`"),
        ("{}", "f:1:1: expected `flags` in the object, found none"),
        ("{\"metadata\": {}}", "f:1:1: expected `flags` in the object, found none"),
        ("{\"flags\": 1}", "f:1:11: expected an object or array of flags, found `1`"),
        ("{\"flags\": null}", "f:1:11: expected an object or array of flags, found `n`"),
        ("{\"flags\": {}, \"metadata\": 1}", "f:1:27: expected an object as `metadata`, found `1`"),
        ("{\"flags\": {}, \"$evaluators\": []}", "f:1:30: expected an object as `$evaluators`, found `[`"),
        ("{\"flags\": {}} x", "f:1:15: expected the end of the text, found `x`"),
        ("{\"flags\": {\n\"ä\": {,}}}", "f:2:7: expected a member's name in double quotes, found `,`"),
        ("{\"flags\": {\"a\": {}", "f:1:19: expected `,` or `}`, found the end of the text"),
        ("{\"flags\": {\"a\" {}}}", "f:1:16: expected `:`, found `{`"),
        ("{\"flags\": {\"a\": [1 2]}}", "f:1:20: expected `,` or `]`, found `2`"),
        ("{\"flags\": {\"a\": tru}}", "f:1:17: expected a value, found `t`"),
        ("{\"flags\": {\"a\": 01}}", "f:1:18: expected no digit after a leading 0, found `1`"),
        ("{\"flags\": {\"a\": 1.}}", "f:1:19: expected a digit, found `}`"),
        (
            "{\"flags\": {\"a\": \"\n\"}}",
            "f:1:18: expected no control character inside text (write it as \\u00..), found `\\n`",
        ),
        ("{\"flags\": {\"a\": \"\\x\"}}", "f:1:19: expected one of \"\\/bfnrtu after `\\`, found `x`"),
        ("{\"flags\": {\"a\": \"\\u12g4\"}}", "f:1:22: expected four hexadecimal digits after \\u, found `g`"),
        ("{\"flags\": {\"a\": \"", "f:1:18: expected `\"` at the end of the text, found the end of the text"),
    ] {
        assert_eq!(refused(text, Format::Json), message);
    }
    let error = Document::parse("f", "{\n", Format::Json, &Limits::default()).unwrap_err();
    assert_eq!(
        error.to_problem().to_string(),
        "f:2:1: error: expected a member's name in double quotes, found the end of the text"
    );
}

#[test]
fn a_snapshot_of_a_control_plane_is_a_definition() {
    let document = parse(
        r#"{"$sync":{"environment":"shop/production","epoch":1,"revision":42,"time_ms":1763000000000},
            "flags":{"a":{"state":"ENABLED","variants":{"on":true},"defaultVariant":"on"}},"$signature":"c2ln"}"#,
    );
    assert_eq!(document.problems(), []);
    assert_eq!(document.flags().map(|raw| raw.key().to_owned()).collect::<Vec<_>>(), ["a"]);
    // Still to be JSON.
    assert!(refused(r#"{"$sync": {"a": }, "flags": {}}"#, Format::Json).contains("f:1:17"));
}

#[test]
fn problems_outside_of_flags_belong_to_the_document() {
    let long = "k".repeat(257);
    let document = parse(&format!(
        r#"{{"$schema": "x", "flag": 1,
"flags": {{"old": 1}},
"flags": {{
"": 1, "{long}": 2, "a\u0000b": 3, "\udc00": 4,
"twice": 5, "other": 6, "twice": 7, "\u0074wice": 8
}},
"$evaluators": {{"e": 1, "e": 2}},
"metadata": {{"a": [], "b": null, "c": true, "d": 1e99, "flagSetId": 1, "lists": 1, "list.": "x", "c": 2, "e": "\ud800"}}}}"#
    ));
    let found: Vec<_> = document.problems().iter().map(|problem| problem.to_string().replace(&long, "LONG")).collect();
    assert_eq!(
        found,
        [
            "flags.json:1:18: warning: at /flag: unknown member \"flag\"; expected `flags`, `$evaluators` or `metadata`",
            "flags.json:3:1: error: at /flags: \"flags\" twice in the document; the later one counts",
            "flags.json:4:1: error: flag \"\" at /flags/: an empty key; expected at least one character",
            "flags.json:4:8: error: flag \"LONG\" at /flags/LONG: a key of 257 bytes; expected no more than 256",
            "flags.json:4:272: error: flag \"a\\0b\" at /flags/a\\u{0}b: a key with a NUL character in it; expected none",
            "flags.json:4:287: error: at /flags/\u{fffd}: the key holds a lone surrogate, which is no character",
            "flags.json:5:34: error: flag \"twice\" at /flags/twice: a flag of this key stands in the document already; \
             the later one counts",
            "flags.json:5:51: error: flag \"twice\" at /flags/twice: a flag of this key stands in the document already; \
             the later one counts",
            "flags.json:7:25: error: at /$evaluators/e: an evaluator of this name stands in the document already; \
             the later one counts",
            "flags.json:8:19: error: at /metadata/a: expected text, a number or a boolean as metadata",
            "flags.json:8:34: error: at /metadata/c: twice in `metadata`; the later one counts",
            "flags.json:8:50: error: at /metadata/d: the number 1e99 is beyond ±9007199254740991 (2^53-1)",
            "flags.json:8:69: warning: at /metadata/flagSetId: expected text as `flagSetId`; this one is ignored",
            "flags.json:8:81: error: at /metadata/lists: expected a path as text",
            "flags.json:8:93: error: at /metadata/list.: expected the list's name after `list.`",
            "flags.json:8:111: error: at /metadata/e: text with a lone surrogate in it, which is no character",
        ]
    );
    let flags: Vec<_> = document.flags().map(|raw| (raw.key().to_owned(), raw.json().to_owned())).collect();
    assert_eq!(flags, [("other".to_owned(), "6".to_owned()), ("twice".to_owned(), "8".to_owned())]);
    assert_eq!(document.evaluators(&Limits::default()).names().collect::<Vec<_>>(), ["e"]);
    let (set_id, two) = (flag::Scalar::Number(1.0), flag::Scalar::Number(2.0));
    assert_eq!(document.metadata(), [("flagSetId".to_owned(), set_id), ("c".to_owned(), two)]);
    assert_eq!(document.lists(), []);
}

#[test]
fn flags_may_be_an_array() {
    let document = parse(
        r#"{"flags": [{"key": "b", "state": "ENABLED", "variants": {"x": 1}}, {"state": "ENABLED"}, 7,
{"key": 1}, {"x": {"key": "no"}, "key": "\u0061", "state": 0}, {"key": ""}, {"key": "b", "variants": {"y": 2}}]}"#,
    );
    let found: Vec<_> = document.problems().iter().map(Problem::to_string).collect();
    assert_eq!(
        found,
        [
            "flags.json:1:68: error: at /flags/1: no `key`; each flag of an array needs one",
            "flags.json:1:90: error: at /flags/2: expected a flag, an object with `key`",
            "flags.json:2:9: error: at /flags/3/key: expected text as `key`",
            "flags.json:2:72: error: flag \"\" at /flags/5/key: an empty key; expected at least one character",
            "flags.json:2:77: error: flag \"b\" at /flags/6: a flag of this key stands in the document already; the \
             later one counts",
        ]
    );
    let limits = Limits::default();
    let found: Vec<_> = document
        .flags()
        .map(|raw| {
            let wrong = Flag::parse(&raw, &Evaluators::default(), &ListNames::default(), &limits).unwrap_err();
            wrong.iter().map(Problem::to_string).collect::<Vec<_>>().join("|")
        })
        .collect();
    let state = "expected \"ENABLED\" or \"DISABLED\"";
    assert_eq!(
        found,
        [
            format!(
                "flags.json:2:13: error: flag \"a\" at /flags/4: no `variants`; expected an object of at least one|\
                 flags.json:2:14: warning: flag \"a\" at /flags/4/x: unknown property \"x\"; expected `state`, \
                 `variants`, `defaultVariant`, `targeting` or `metadata`|\
                 flags.json:2:60: error: flag \"a\" at /flags/4/state: {state} as `state`, found the number 0"
            ),
            format!("flags.json:2:77: error: flag \"b\" at /flags/6: no `state`; {state}"),
        ]
    );
}

#[test]
fn check_reports_every_file_in_order() {
    let limits = Limits::default();
    let named = |name: &str, text: &str| Document::parse(name, text, Format::Json, &limits).unwrap();
    let good = r#"{"state": "ENABLED", "variants": {"x": 1}}"#;
    let first = named(
        "b.json",
        r#"{"flags": {"a": {"state": "ENABLED", "variants": {"x": "y"}, "targeting": {"$ref": "used"}}, "": 1},
"$evaluators": {"unused": {"==": 1}, "used": {"frob": "\ud800"}, "user": [{"$ref": "used"}, {"$ref": "no"}],
"big": {"!": 1e99}, "round": {"$ref": "round"}}}"#,
    );
    let second = named("a.json", &format!(r#"{{"flags": {{"a": {good}, "b": {{}}, "c": {good}}}}}"#));
    let found: Vec<_> = check([&first, &second], &ListNames::default(), &limits)
        .iter()
        .map(|problem| {
            let Problem { file, line, column, flag, pointer, .. } = problem;
            format!("{file}:{line}:{column} {flag:?} {pointer}")
        })
        .collect();
    assert_eq!(
        found,
        [
            r#"a.json:1:66 Some("b") /flags/b"#,
            r#"a.json:1:66 Some("b") /flags/b"#,
            r#"b.json:1:94 Some("") /flags/"#,
            r#"b.json:2:28 None /$evaluators/unused/=="#,
            r#"b.json:2:47 Some("a") /$evaluators/used/frob"#,
            r#"b.json:2:55 Some("a") /$evaluators/used/frob"#,
            r#"b.json:2:102 None /$evaluators/user/1/$ref"#,
            r#"b.json:3:14 None /$evaluators/big/!"#,
            r#"b.json:3:39 None /$evaluators/round/$ref"#,
        ]
    );
    let json = serde_json::to_string(&check([&second], &ListNames::default(), &limits)[0]).unwrap();
    let start =
        r#"{"severity":"error","file":"a.json","line":1,"column":66,"flag":"b","pointer":"/flags/b","message":""#;
    assert!(json.starts_with(start), "{json}");
}

#[test]
fn limits_are_kept() {
    let limits = Limits { flags: 2, document_bytes: 60, key_bytes: 3, ..Limits::default() };
    let of = |text: &str| Document::parse("f", text, Format::Json, &limits);
    assert_eq!(of(r#"{"flags": {"abc": 1, "é": 2}}"#).unwrap().flags().len(), 2);
    let document = of(r#"{"flags": {"abcd": 1, "éé": 2}}"#).unwrap();
    assert_eq!((document.flags().len(), document.problems().len()), (0, 2));
    assert_eq!(document.problems()[1].message, "a key of 4 bytes; expected no more than 3");
    let many = of(r#"{"flags": {"a": 1, "b": 2, "c": 3}}"#).unwrap_err();
    assert_eq!(many.to_string(), "f:1:28: more than 2 flags, the limit");
    let long = of(&format!("{{\"flags\": {{}}}}{}", " ".repeat(48))).unwrap_err();
    assert_eq!(long.to_string(), "f: 61 bytes, but a document may hold no more than 60");
}

#[test]
fn files_are_read_within_limits() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    };
    let limits = Limits { document_bytes: 100, ..Limits::default() };
    let path = write("a.json", b"\xef\xbb\xbf{\"flags\": {\"a\": 1}}");
    let document = Document::load(&path, &limits).unwrap();
    assert_eq!((document.name(), document.flags().len()), (path.to_str().unwrap(), 1));
    assert_eq!(document.locate("/flags/a"), Some((1, 17)));

    let path = write("b.json", "{\"flags\":\n {\"é\u{fffd}".as_bytes().strip_suffix(b"\xbd").unwrap());
    let error = Document::load(&path, &limits).unwrap_err();
    assert!(matches!(error, DefinitionError::NotUtf8 { line: 2, column: 5, .. }), "{error:?}");
    assert_eq!(error.to_string(), format!("{}:2:5: not UTF-8", path.display()));
    let path = write("c.json", &[b' '; 101]);
    let error = Document::load(&path, &limits).unwrap_err();
    assert_eq!(error.to_string(), format!("{}: 101 bytes, but a document may hold no more than 100", path.display()));
    let error = Document::load(folder.path().join("none.json"), &limits).unwrap_err();
    assert!(matches!(error, DefinitionError::Io { .. }) && error.to_string().contains("none.json: No such file"));
    assert!(matches!(Document::load(folder.path(), &limits), Err(DefinitionError::Io { .. })));
    // A file that does not tell its length, and does not end.
    let error = Document::load("/dev/zero", &limits).unwrap_err();
    assert!(matches!(error, DefinitionError::TooLong { bytes: 101, .. }), "{error:?}");
}

#[test]
fn pointers_are_located() {
    let document = parse("{\"flags\": {\"a/b\": [1,\n {\"~é\": [ 2 ], \"x\": 3}], \"a\": 1, \"a\": 2}}");
    for (pointer, place) in [
        ("", Some((1, 1))),
        ("/flags/a~1b", Some((1, 19))),
        ("/flags/a~1b/0", Some((1, 20))),
        ("/flags/a~1b/1/~0é/0", Some((2, 11))),
        ("/flags/a~1b/1/x", Some((2, 21))),
        ("/flags/a", Some((2, 39))),
        ("/flags/a~1b/2", None),
        ("/flags/b", None),
        ("/flags/a/0", None),
        ("flags", None),
    ] {
        assert_eq!(document.locate(pointer), place, "{pointer}");
    }
}

/// Runs a test that hostile input might make endless.
fn within_a_minute(test: impl FnOnce() + Send + 'static) {
    let (done, wait) = std::sync::mpsc::channel();
    let thread = std::thread::spawn(move || {
        test();
        done.send(()).ok();
    });
    match wait.recv_timeout(std::time::Duration::from_secs(60)) {
        Err(std::sync::mpsc::RecvTimeoutError::Timeout) => panic!("still running after a minute"),
        _ => thread.join().unwrap(),
    }
}

/// The problems of each flag of a document that parses.
fn all_problems(text: String) -> Vec<Problem> {
    let document = Document::parse("f", text, Format::Json, &Limits::default()).unwrap();
    check([&document], &ListNames::default(), &Limits::default())
}

#[test]
fn hostile_flags_break_only_themselves() {
    within_a_minute(|| {
        let good = r#""good": {"state": "ENABLED", "variants": {"on": true}}"#;
        let flag = |rest: &str| {
            format!(r#"{{"flags": {{"bad": {{"state": "ENABLED", "variants": {{"on": true}}, {rest}}}, {good}}}}}"#)
        };
        let deep = 100_000;
        for (rest, message) in [
            (format!("\"targeting\": {}{}", "[".repeat(deep), "]".repeat(deep)), "nested deeper than 64"),
            (format!("\"targeting\": {}1{}", "{\"!\":".repeat(deep), "}".repeat(deep)), "nested deeper than 64"),
            (
                format!("\"targeting\": {}1{}", "{\"a\":0,\"b\":".repeat(deep), "}".repeat(deep)),
                "nested deeper than 64",
            ),
            (format!("\"variants\": {{\"a\": {}{}}}", "[".repeat(deep), "]".repeat(deep)), "nested deeper than 64"),
            (format!("\"metadata\": {{\"a\": {}{}}}", "[".repeat(deep), "]".repeat(deep)), "expected text, a number"),
            (format!("\"targeting\": {{\"cat\": [{}1]}}", "1,".repeat(1_000_000)), "too many values"),
            (format!("\"targeting\": {{\"cat\": [{}1]}}", "1,".repeat(100_000)), "more than 10000 values"),
            (format!("\"variants\": {{\"a\": [{}1]}}", "0,".repeat(1_000_000)), "too many values"),
            (format!("\"targeting\": {{\"cat\": [{}1]}}", "{\"x\": 1}, ".repeat(5000)), "unknown operator"),
        ] {
            let problems = all_problems(flag(&rest));
            assert!(problems.iter().all(|problem| problem.flag.as_deref() == Some("bad")));
            let errors: Vec<_> = problems.iter().filter(|problem| problem.is_error()).collect();
            assert!(!errors.is_empty() && errors.len() <= 1001, "{}", errors.len());
            assert!(errors[0].message.contains(message), "{} … {}", &rest[..20], errors[0]);
        }
    });
}

#[test]
fn shared_evaluators_do_not_grow_without_bound() {
    within_a_minute(|| {
        let mut evaluators = String::from("\"e0\": {\"var\": \"x\"}");
        for level in 1..40 {
            let ten = vec![format!("{{\"$ref\": \"e{}\"}}", level - 1); 10].join(",");
            evaluators += &format!(", \"e{level}\": {{\"and\": [{ten}]}}");
        }
        let chain: String = (1..500).map(|link| format!(", \"c{link}\": {{\"$ref\": \"c{}\"}}", link - 1)).collect();
        let flag = |name: &str| {
            format!(
                r#""{name}": {{"state": "ENABLED", "variants": {{"on": true}}, "targeting": {{"$ref": "{name}"}}}}"#
            )
        };
        let text = format!(
            r#"{{"flags": {{{}, {}, {}}}, "$evaluators": {{{evaluators}, "c0": "on"{chain}}}}}"#,
            flag("e39"),
            flag("c499"),
            flag("c60"),
        );
        let problems = all_problems(text);
        let of = |flag: &str| problems.iter().find(|problem| problem.flag.as_deref() == Some(flag));
        assert!(of("e39").unwrap().message.contains("more than 10000 values"), "{:?}", of("e39"));
        assert!(of("c499").unwrap().message.contains("nested deeper than 64"), "{:?}", of("c499"));
        assert_eq!(of("c60"), None);
    });
}

#[test]
fn json_is_what_serde_json_takes_for_json() {
    // A small generator of nearly good JSON: what our grammar accepts, and what it makes of it, is what serde's does.
    let seeds = [
        r#"{"flags": {"a": [1, -0.5e+3, "x\u00e9\n\"", true, false, null, {}], "b": {"c": []}}}"#,
        r#"[[], {"": {"\\": "/", "é": 1E5}}, 120, 0, -1.0, "\ud83d\ude00"]"#,
    ];
    let letters = b"{}[]\",:0123456789eE+-. \n\tautrfalsn\\/\x01\xc3";
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state >> 33).unwrap() % below
    };
    let (mut good, mut bad) = (0, 0);
    for round in 0..20_000 {
        let mut bytes = seeds[round % seeds.len()].as_bytes().to_vec();
        for _ in 0..random(3) {
            let at = random(bytes.len());
            match random(3) {
                0 => bytes[at] = letters[random(letters.len())],
                1 => bytes.insert(at, letters[random(letters.len())]),
                _ => drop(bytes.remove(at)),
            }
        }
        let Ok(text) = String::from_utf8(bytes) else { continue };
        let ours = json::Tape::parse(&text, usize::MAX);
        let mut scanner = json::Scanner::new(&text);
        let skipped = scanner.skip().and_then(|_| scanner.end());
        assert_eq!(ours.is_ok(), skipped.is_ok(), "{text}");
        match (ours, serde_json::from_str::<serde_json::Value>(&text)) {
            (Ok(tape), Ok(theirs)) => {
                good += 1;
                let mut written = String::new();
                tape.write(0, &mut written);
                assert_eq!(serde_json::from_str::<serde_json::Value>(&written).unwrap(), theirs, "{text}");
                let mut again = String::new();
                json::Tape::parse(&written, usize::MAX).unwrap().write(0, &mut again);
                assert_eq!(again, written);
            }
            (Err(_), Err(_)) => bad += 1,
            // Well-formed for us: the flag is refused, not the document, where a number or surrogate is meaningless.
            (Ok(tape), Err(error)) => {
                let lone = !tape.not_unicode().is_empty();
                assert!(lone || error.to_string().contains("number out of range"), "{text}: {error}");
            }
            (Err(fault), Ok(_)) => panic!("{text}: {fault:?}"),
        }
    }
    assert!(good > 2000 && bad > 2000, "{good} {bad}");
}

#[test]
fn published_rules_are_understood() {
    let Some(folder) = conformance() else { return };
    let table: Vec<serde_json::Value> =
        serde_json::from_str(&std::fs::read_to_string(folder.join("jsonlogic.json")).unwrap()).unwrap();
    let limits = Limits::default();
    let (mut count, mut refused) = (0, Vec::new());
    for case in table.iter().filter_map(|case| case.as_array()) {
        let rule = case[0].to_string();
        let document = document_of(&with_targeting(&rule));
        let raw = document.flags().next().unwrap();
        count += 1;
        if let Err(problems) = Flag::parse(&raw, &Evaluators::default(), &ListNames::default(), &limits) {
            refused.push(format!("{rule}: {}", problems[0].message));
        }
    }
    assert_eq!(refused, [""; 0]);
    assert_eq!(count, 278);
}

#[test]
fn what_is_parsed_may_go_to_other_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<Document>();
    shared::<Evaluators<'_>>();
    shared::<RawFlag<'_>>();
    shared::<Checked>();
    shared::<DefinitionError>();
}

#[cfg(feature = "yaml")]
mod yaml {
    use super::*;

    fn load(text: &str) -> Document {
        Document::parse("flags.yaml", text, Format::Yaml, &Limits::default()).expect(text)
    }

    /// The JSON of flag `a`.
    fn value(yaml: &str) -> String {
        let document = load(&format!("flags:\n  a: {yaml}\n"));
        let raw = document.flags().next().expect("a flag");
        raw.json().to_owned()
    }

    #[test]
    fn yaml_means_what_its_json_means() {
        let yaml = r##"
# All kinds of YAML.
$evaluators:
  staff: {in: ["@x.com", {var: email}]}
metadata:
  flagSetId: web   # a comment
  version: 1.5
  "list.beta": ids/beta.csv
flags:
  banner: &banner
    state: ENABLED
    defaultVariant: 'off'
    variants:
      'on': true
      "off": no-more
  again: *banner
  checkout:
    state: ENABLED
    variants: {"on": true, "off": false}
    defaultVariant: "off"
    targeting:
      if:
      - $ref: staff
      - "on"
      - fractional:
        - cat: [{var: $flagd.flagKey}, {var: email}]
        - ["on", 0x0A]
        - - "off"
          - 90
  text:
    state: DISABLED
    variants:
      block: |
        one
          "two"
      folded: >-
        three
        four
      quoted: "tab\tnul\0 é\u263a"
"##;
        let json = r#"{"$evaluators": {"staff": {"in": ["@x.com", {"var": "email"}]}},
            "metadata": {"flagSetId": "web", "version": 1.5, "list.beta": "ids/beta.csv"},
            "flags": {
              "banner": {"state": "ENABLED", "defaultVariant": "off", "variants": {"on": true, "off": "no-more"}},
              "again": {"state": "ENABLED", "defaultVariant": "off", "variants": {"on": true, "off": "no-more"}},
              "checkout": {"state": "ENABLED", "variants": {"on": true, "off": false}, "defaultVariant": "off",
                "targeting": {"if": [{"$ref": "staff"}, "on", {"fractional":
                    [{"cat": [{"var": "$flagd.flagKey"}, {"var": "email"}]}, ["on", 10], ["off", 90]]}]}},
              "text": {"state": "DISABLED", "variants": {"block": "one\n  \"two\"\n", "folded": "three four",
                "quoted": "tab\tnul\u0000 é☺"}}}}"#;
        let (yaml, json) = (load(yaml), parse(json));
        assert_eq!((yaml.metadata(), yaml.lists()), (json.metadata(), json.lists()));
        assert_eq!((yaml.problems(), json.problems()), (&[][..], &[][..]));
        let limits = Limits::default();
        let flags = |document: &Document| -> Vec<_> {
            let parse = |raw| Flag::parse(&raw, &document.evaluators(&limits), &ListNames::default(), &limits);
            document
                .flags()
                .map(|raw| {
                    (
                        raw.key().to_owned(),
                        parse(raw).map(|checked| checked.flag).map_err(|wrong| wrong[0].message.clone()),
                    )
                })
                .collect()
        };
        assert_eq!(flags(&yaml), flags(&json));
        assert_eq!(flags(&yaml).iter().filter(|(_, flag)| flag.is_ok()).count(), 2);
    }

    #[test]
    fn json_is_yaml() {
        let Some(folder) = conformance() else { return };
        let text = std::fs::read_to_string(folder.join("flagd/testkit-flags.json")).unwrap();
        let (yaml, json) = (load(&text), parse(&text));
        let limits = Limits::default();
        assert_eq!(yaml.flags().len(), json.flags().len());
        for (one, other) in yaml.flags().zip(json.flags()) {
            let parse = |raw: RawFlag<'_>| {
                Flag::parse(&raw, &raw.document().evaluators(&limits), &ListNames::default(), &limits)
            };
            let place =
                |problem: &Problem| (problem.line, problem.column, problem.pointer.clone(), problem.message.clone());
            match (parse(one), parse(other)) {
                (Ok(one), Ok(other)) => assert_eq!(one.flag, other.flag),
                (Err(one), Err(other)) => {
                    assert_eq!(one.iter().map(place).collect::<Vec<_>>(), other.iter().map(place).collect::<Vec<_>>());
                }
                (one, other) => panic!("{one:?} {other:?}"),
            }
        }
    }

    #[test]
    fn scalars_follow_the_core_schema() {
        for (yaml, json) in [
            ("", "null"),
            ("~", "null"),
            ("Null", "null"),
            ("nULL", "\"nULL\""),
            ("True", "true"),
            ("FALSE", "false"),
            ("yes", "\"yes\""),
            ("off", "\"off\""),
            ("12", "12"),
            ("+12", "12"),
            ("-007", "-7"),
            ("-0", "-0"),
            ("0o17", "15"),
            ("0xfF", "255"),
            ("0x", "\"0x\""),
            ("-0x1", "\"-0x1\""),
            ("0o8", "\"0o8\""),
            ("1_000", "\"1_000\""),
            ("1:30", "\"1:30\""),
            ("1.50", "1.50"),
            (".5", "0.5"),
            ("-.5", "-0.5"),
            ("5.", "5.0"),
            ("1e3", "1e3"),
            ("+1.E-03", "1.0e-03"),
            (".", "\".\""),
            ("1e", "\"1e\""),
            ("e3", "\"e3\""),
            ("1.2.3", "\"1.2.3\""),
            ("+", "\"+\""),
            (".inf", "1e999"),
            ("-.INF", "-1e999"),
            (".nan", "1e999"),
            ("-.nan", "\"-.nan\""),
            ("0xffffffffffffffffffffffffffffffffff", "1e999"),
            ("'12'", "\"12\""),
            ("\"true\"", "\"true\""),
            ("! 12", "\"12\""),
            ("!!str 12", "\"12\""),
            ("!!str", "\"\""),
            ("!!int 0x10", "16"),
            ("!!float 1", "1"),
            ("!!bool 'true'", "true"),
            ("!!null ''", "null"),
            ("[a, 1, [], {}]", "[\"a\",1,[],{}]"),
            ("{1: a, true: b, ~: c, : d}", r#"{"1":"a","true":"b","~":"c","":"d"}"#),
            ("[&x 1, *x, {*x : 2}, &y s, {*y : *x}]", r#"[1,1,{"1":2},"s",{"s":1}]"#),
            ("2001-12-14", "\"2001-12-14\""),
            ("\"\\x07\\e\"", "\"\\u0007\\u001b\""),
        ] {
            assert_eq!(value(yaml), json, "{yaml}");
        }
    }

    #[test]
    fn problems_are_located_in_the_yaml() {
        let document = load(
            "flags:\n  # é\n  bé: {state: ENABLED, variants: &v {on: &n null}}\n  c:\n    variants: *v\n    state: *n\n    \
             targeting:\n      if:\n      - frob: [1]\n      - on\n  c:\n    - 1\n",
        );
        let found: Vec<_> = check([&document], &ListNames::default(), &Limits::default())
            .iter()
            .chain(document.problems())
            .map(|problem| format!("{}:{} {}", problem.line, problem.column, problem.pointer))
            .collect();
        // The first `c` is overridden by the second.
        assert_eq!(found, ["3:42 /flags/bé/variants/on", "12:5 /flags/c", "12:5 /flags/c", "12:5 /flags/c"],);
        let document = load(
            "flags:\n  c:\n    variants: &v {a: &n ~}\n    state: *n\n    targeting:\n      if:\n      - frob: [1]\n  d:\n    variants: *v\n    state: ENABLED\n",
        );
        let found: Vec<_> = check([&document], &ListNames::default(), &Limits::default())
            .iter()
            .map(|problem| format!("{}:{} {}", problem.line, problem.column, problem.pointer))
            .collect();
        assert_eq!(
            found,
            [
                "3:22 /flags/c/variants/a",
                "3:22 /flags/d/variants/a",
                "4:12 /flags/c/state",
                "7:9 /flags/c/targeting/if/0/frob"
            ],
        );
    }

    #[test]
    fn what_is_no_yaml_definition_is_refused_whole() {
        let deep = format!("flags: {}", "- ".repeat(2000));
        for (text, message) in [
            ("", "f:1:1: expected an object with `flags`, found the end of the text"),
            ("# nothing\n", "f:1:1: expected an object with `flags`, found the end of the text"),
            ("\n- 1", "f:2:1: expected an object with `flags`, found `[`"),
            ("a: 1\nflags:\n  - x\nmetadata:\n  []\n", "f:5:3: expected an object as `metadata`, found `[`"),
            ("flags: 1", "f:1:8: expected an object or array of flags, found `1`"),
            ("flags: {}\n---\nflags: {}", "f:2:1: a second YAML document in the file; expected one"),
            ("flags:\n  ? [a]\n  : 1", "f:2:5: an array or object as a member's name; expected text"),
            ("flags: &a\n  x: *a", "f:2:6: an alias inside the value that it stands for"),
            ("flags:\n  a: !!set {x}", "f:2:6: the YAML tag `tag:yaml.org,2002:!set`; expected none here"),
            ("flags:\n  a: !secret x", "f:2:6: the YAML tag `!secret`; expected one of the core schema"),
            ("flags:\n  a: !!int x", "f:2:6: \"x\" does not fit its YAML tag `!!int`"),
            (&deep, "f:1:8: not YAML: block sequence entries are not allowed in this context"),
        ] {
            assert_eq!(refused(text, Format::Yaml), message, "{text}");
        }
        for text in ["flags: {", "flags: *nobody", "a: b: c", "\"", "\t- x", "%YAML 9.9\n---\n", "flags: \u{0}"] {
            assert!(refused(text, Format::Yaml).starts_with("f:"), "{text}");
        }
    }

    #[test]
    fn aliases_do_not_grow_without_bound() {
        within_a_minute(|| {
            let mut laughs = String::from("l0: &l0 [lol, lol]\n");
            for level in 1..40 {
                let ten = vec![format!("*l{}", level - 1); 10].join(", ");
                laughs += &format!("l{level}: &l{level} [{ten}]\n");
            }
            let message = refused(&format!("{laughs}flags: {{}}\n"), Format::Yaml);
            assert!(message.contains("aliases that make the document longer than"), "{message}");
            for text in ["[".repeat(100_000), "- ".repeat(100_000), "{a: ".repeat(100_000), "? ".repeat(100_000)] {
                assert!(refused(&text, Format::Yaml).starts_with("f:1:"));
            }
        });
    }
}
