//! The compiled evaluator against the naive one: whatever the definition and the context, both give the same answer.

use libflags::{Context, Value};
use libflags_tests::compiled::{Compiled, answer};
use libflags_tests::engine::{Answer, Engine as _, Kind, Subject, same_answer, unix_seconds};
use libflags_tests::model::Model;
use libflags_tests::strategy;
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Value as Json, json};

proptest! {
    #![proptest_config(strategy::config(2500))]

    /// Each of these cases is up to 16 evaluations.
    #[test]
    fn both_answer_alike(definition in strategy::definition(), subjects in vec(strategy::subject(), 4), kind in strategy::kind()) {
        let text = definition.to_string();
        let model = Model::from_json(&text).unwrap();
        let compiled = Compiled::load(&text).unwrap();
        let kinds: Vec<(&str, Kind)> = model.keys().map(|key| (key, kind_of(&definition["flags"][key], kind))).collect();
        for (subject, (key, kind)) in subjects.iter().flat_map(|subject| kinds.iter().map(move |flag| (subject, *flag))) {
            let [expected, found] = both(&model, &compiled, key, subject, kind);
            prop_assert!(same_answer(&found, &expected), "{key} for {subject:?}:\n   found {found:?}\nexpected {expected:?}");
        }
    }

    /// A subject's attributes as borrowed slices read as its JSON does.
    #[test]
    fn contexts_of_either_make_read_alike(definition in strategy::definition(), subject in strategy::subject()) {
        let compiled = Compiled::load(&definition.to_string()).unwrap();
        let snapshot = compiled.client().snapshot();
        let key = subject.targeting_key.as_ref().and_then(Json::as_str);
        let attributes: Vec<(&str, Value<'_>)> =
            subject.attributes.iter().map(|(name, value)| (name.as_str(), Value::from(value))).collect();
        let slice = Context::from_slice(key, &attributes);
        let mut added = key.map_or_else(Context::anonymous, Context::new);
        for (name, value) in &attributes {
            added = added.with(name, *value);
        }
        for flag in ["f0", "f1"] {
            let before = unix_seconds();
            let expected = compiled.evaluate(flag, &subject, Kind::String, &Json::Null);
            for context in [&slice, &added] {
                let found = answer(&snapshot.evaluate(flag.as_bytes(), libflags::evaluate::Want::Text, context), &Json::Null);
                prop_assert!(same_answer(&found, &expected) || unix_seconds() != before, "{found:?}, as JSON {expected:?}");
            }
        }
    }
}

/// The answers of both within one second, since rules can tell the time.
fn both(model: &Model, compiled: &Compiled, key: &str, subject: &Subject, kind: Kind) -> [Answer; 2] {
    let fallback = json!({"the": "caller's"});
    loop {
        let subject = Subject { unix_seconds: unix_seconds(), ..subject.clone() };
        let answers =
            [model.evaluate(key, &subject).read(kind, &fallback), compiled.evaluate(key, &subject, kind, &fallback)];
        if unix_seconds() == subject.unix_seconds {
            return answers;
        }
    }
}

/// Mostly the kind that the flag's variants have, so that their values are seen; else any.
fn kind_of(flag: &Json, any: Kind) -> Kind {
    match flag["variants"].as_object().and_then(|variants| variants.values().next()) {
        Some(Json::Bool(_)) if any != Kind::Float => Kind::Boolean,
        Some(Json::String(_)) if any != Kind::Float => Kind::String,
        Some(Json::Array(_) | Json::Object(_)) if any != Kind::Float => Kind::Object,
        Some(Json::Number(_)) if any == Kind::Object => Kind::Float,
        _ => any,
    }
}
