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
