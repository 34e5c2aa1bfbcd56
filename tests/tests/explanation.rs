//! What is explained is what is answered: the rule as it is shown means what the compiled one does, and its parts come to what it came to.

use libflags::evaluate::{Reason, Want};
use libflags::snapshot::{Outcome, Part, Role};
use libflags_tests::compiled::{Asked, Compiled, answer};
use libflags_tests::engine::{Engine as _, same_json, unix_seconds};
use libflags_tests::strategy;
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Value as Json, json};

proptest! {
    #![proptest_config(strategy::config(1000))]

    #[test]
    fn a_rule_that_is_shown_means_the_same(definition in strategy::definition(), subjects in vec(strategy::subject(), 4)) {
        let written = Compiled::load(&definition.to_string()).unwrap().client().snapshot();
        let mut shown = definition.clone();
        let mut keys = Vec::new();
        let flags = written.flags().unwrap();
        for flag in flags.flags().filter(|flag| !flag.broken()) {
            if let Some(text) = flags.targeting(&flag) {
                let rule: Json = serde_json::from_str(&text).unwrap();
                if can_be_written(&rule) {
                    // As a flag's whole targeting, null would mean that there is none.
                    shown["flags"][flag.key]["targeting"] = json!({"if": [rule]});
                    keys.push(flag.key);
                }
            }
        }
        let again = Compiled::load(&shown.to_string()).unwrap().client().snapshot();
        for (subject, key) in subjects.iter().flat_map(|subject| keys.iter().map(move |key| (subject, key))) {
            let before = unix_seconds();
            let read = |flags: &libflags::Pinned| answer(&flags.evaluate(key, Want::Any, &Asked(subject)), &Json::Null);
            let (expected, found) = (read(&written), read(&again));
            let same = (expected.reason, &expected.variant, expected.error_code) == (found.reason, &found.variant, found.error_code)
                && same_json(&expected.value, &found.value);
            prop_assert!(same || unix_seconds() != before,
                "{key} for {subject:?}: {found:?}, as written {expected:?}\nshown {}", shown["flags"][key]["targeting"]);
        }
    }

    #[test]
    fn parts_come_to_what_the_flag_came_to(definition in strategy::definition(), subjects in vec(strategy::subject(), 4)) {
        let compiled = Compiled::load(&definition.to_string()).unwrap();
        let pinned = compiled.client().snapshot();
        let flags = pinned.flags().unwrap();
        for flag in flags.flags().filter(|flag| flag.enabled() && flag.targeted()) {
            for subject in &subjects {
                let before = unix_seconds();
                let found = pinned.evaluate(flag.key, Want::Any, &Asked(subject));
                let part = flags.explain(&flag, &Asked(subject)).unwrap();
                prop_assert!(agrees(&part, found.reason, found.variant) || unix_seconds() != before,
                    "{} for {subject:?}: {:?} {:?}\n{part:#?}", flag.key, found.reason, found.variant);
                prop_assert!(taken_branches_agree(&part) || unix_seconds() != before, "{part:#?}");
            }
        }
    }
}

/// Whether the whole rule's outcome is the answer's reason and variant.
fn agrees(part: &Part, reason: Reason, variant: Option<&str>) -> bool {
    match &part.outcome {
        Outcome::Skipped => false,
        Outcome::Failed(_) => reason == Reason::Error,
        Outcome::Value { json, .. } => match serde_json::from_str(json) {
            Ok(Json::Null) => reason == Reason::Default,
            Ok(Json::String(name)) if reason == Reason::TargetingMatch => variant == Some(name.as_str()),
            Ok(Json::Bool(_) | Json::Number(_)) if reason == Reason::TargetingMatch => variant == Some(json.as_str()),
            // A value that names no variant.
            _ => reason == Reason::Error,
        },
    }
}

/// Whether each `if` that has a value has that of the one branch it took, or null where it took none.
fn taken_branches_agree(part: &Part) -> bool {
    let is_branch = |part: &&Part| matches!(part.role, Role::Then | Role::Else);
    let mut taken = part.parts.iter().filter(is_branch).filter(|part| part.outcome != Outcome::Skipped);
    let here = match (part.parts.iter().find(is_branch), taken.next()) {
        (None, _) => true,
        (Some(_), Some(branch)) => branch.outcome == part.outcome && taken.next().is_none(),
        (Some(_), None) => match &part.outcome {
            Outcome::Value { json, .. } => json == "null",
            // A condition failed.
            Outcome::Failed(_) => true,
            Outcome::Skipped => false,
        },
    };
    here && part.parts.iter().all(taken_branches_agree)
}

/// Whether a definition can hold the rule: a folded number may be larger than what may be written.
fn can_be_written(rule: &Json) -> bool {
    match rule {
        Json::Number(number) => number.as_f64().is_some_and(|number| number.abs() <= 9_007_199_254_740_991.0),
        Json::Array(elements) => elements.iter().all(can_be_written),
        Json::Object(members) => members.values().all(can_be_written),
        _ => true,
    }
}

#[test]
fn a_negative_zero_stays_one() {
    let text = json!({"flags": {"k": {"state": "ENABLED", "variants": {"a": 1},
        "targeting": {"if": [{"<": [{"/": [{"var": "x"}, -0.0]}, 0]}, "a"]}}}});
    let compiled = Compiled::load(&text.to_string()).unwrap();
    let pinned = compiled.client().snapshot();
    let flags = pinned.flags().unwrap();
    let shown = flags.targeting(&flags.flag(b"k").unwrap()).unwrap();
    assert_eq!(shown, r#"{"if": [{"<": [{"/": [{"var": "x"}, -0]}, 0]}, "a"]}"#);
}
