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
