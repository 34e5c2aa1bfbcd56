//! datalogic-rs: JsonLogic alone, so the flags are compiled rules in a map. The contexts are parsed before the clock starts.

use std::collections::HashMap;

use anyhow::{Result, anyhow};
use datalogic_rs::{Engine, Logic, ParsedData, Session};
use serde_json::{Value, json};

use crate::definitions;
use crate::rules::Person;

pub(crate) type Rules = HashMap<String, Logic>;

/// `number` static flags and those of `rules::ROWS`, compiled.
pub(crate) fn rules(engine: &Engine, number: usize, with_rules: bool) -> Result<Rules> {
    let mut rules = Rules::new();
    let compile = |rule: &Value| engine.compile(rule.to_string().as_str()).map_err(|error| anyhow!("{error}"));
    for index in 0..number {
        rules.insert(definitions::key(index), compile(&json!(definitions::answer(index)))?);
    }
    if with_rules {
        for (key, rule) in [
            ("equality", definitions::equality()),
            ("two-levels", definitions::two_levels()),
            ("half", definitions::half()),
            ("written", definitions::written_ids(10_000)),
        ] {
            rules.insert(key.to_owned(), compile(&rule)?);
        }
    }
    Ok(rules)
}

pub(crate) fn person(person: &Person) -> Result<ParsedData> {
    parsed(&json!({
        "targetingKey": "user-1",
        "tier": person.tier,
        "age": person.age,
        "country": person.country,
        "beta": person.beta,
        "version": "2.3.1",
    }))
}

pub(crate) fn user(id: &str) -> Result<ParsedData> {
    parsed(&json!({"targetingKey": id, "$flagd": {"flagKey": "half"}}))
}

pub(crate) fn nobody() -> Result<ParsedData> {
    parsed(&json!({}))
}

fn parsed(context: &Value) -> Result<ParsedData> {
    ParsedData::from_json(&context.to_string()).map_err(|error| anyhow!("{error}"))
}

/// Whether the rule gives `on` or true.
pub(crate) fn is_on(session: &mut Session<'_>, rule: Option<&Logic>, context: &ParsedData) -> bool {
    session.reset();
    let result = rule.map(|rule| session.eval_borrowed(rule, context));
    matches!(result, Some(Ok(value)) if value.as_bool() == Some(true) || value.as_str() == Some("on"))
}
