//! The definition stage against the naive evaluator: the same flags are refused, and what is made of the others is the same.

use libflags::compile::rule::Rule;
use libflags::definition::flag::VariantValue;
use libflags::definition::{Document, Flag, Format, Limits, ListNames};
use libflags_tests::engine::same_json;
use libflags_tests::model::Model;
use libflags_tests::strategy;
use proptest::prelude::*;
use serde_json::{Value as Json, json};

proptest! {
    #![proptest_config(strategy::config(4000))]

    #[test]
    fn the_same_flags_are_refused_and_the_others_mean_the_same(definition in strategy::definition()) {
        let text = definition.to_string();
        let model = Model::from_json(&text).unwrap();
        let limits = Limits::default();
        let document = Document::parse("generated.json", text.as_str(), Format::Json, &limits).unwrap();
        let evaluators = document.evaluators(&limits);
        let mut keys = Vec::new();
        for raw in document.flags() {
            let key = raw.key();
            keys.push(key);
            match (Flag::parse(&raw, &evaluators, &ListNames::default(), &limits), model.problem(key)) {
                (Err(_), Some(_)) => {}
                (Err(problems), None) => prop_assert!(false, "{key} is refused: {problems:?}"),
                (Ok(_), Some(problem)) => prop_assert!(false, "{key} is taken, though {problem}"),
                (Ok(checked), None) => {
                    let flag = checked.flag;
                    let written = &definition["flags"][key];
                    let variants: Json = flag.variants.iter().map(|v| (v.name.clone(), value(&v.value))).collect();
                    prop_assert!(same_json(&variants, &written["variants"]), "{key}: {variants}");
                    let default = flag.default_variant.map_or("", |place| flag.variants[place].name.as_str());
                    prop_assert_eq!(default, written["defaultVariant"].as_str().unwrap_or_default());
                    prop_assert_eq!(flag.enabled, written["state"] == "ENABLED");
                    let targeting = flag.targeting.as_ref().map(rule);
                    let same = match (&targeting, model.targeting(key)) {
                        (Some(found), Some(expected)) => same_json(found, expected),
                        (found, expected) => found.is_none() && expected.is_none(),
                    };
                    prop_assert!(same, "{key}: {targeting:?}, expected {:?}", model.targeting(key));
                }
            }
        }
        keys.sort_unstable();
        prop_assert_eq!(keys, model.keys().collect::<Vec<_>>());
    }
}

fn value(value: &VariantValue) -> Json {
    match value {
        VariantValue::Bool(value) => json!(value),
        VariantValue::Text(text) => json!(text),
        VariantValue::Number(number) => json!(number),
        VariantValue::Json(text) => serde_json::from_str(text).expect("the text of a variant is JSON"),
    }
}

fn rule(rule_: &Rule) -> Json {
    match rule_ {
        Rule::Null => Json::Null,
        Rule::Bool(value) => json!(value),
        Rule::Number(number) => json!(number),
        Rule::Text(text) => json!(text),
        Rule::List(elements) => elements.iter().map(rule).collect(),
        Rule::Object(members) => members.iter().map(|(name, value)| (name.clone(), rule(value))).collect(),
        Rule::Call(operator, arguments) => json!({operator.name(): arguments.iter().map(rule).collect::<Json>()}),
    }
}
