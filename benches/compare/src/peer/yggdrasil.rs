//! Unleash's engine: a toggle is on where one of its strategies is.

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use unleash_yggdrasil::{Context, EngineState};

use crate::definitions;
use crate::rules::Person;

/// `number` static toggles and those of `rules::ROWS`, as the server sends them.
pub(crate) fn features(number: usize, with_rules: bool) -> String {
    let toggle = |name: &str, enabled: bool, strategies: Value| json!({"name": name, "type": "release", "enabled": enabled, "strategies": strategies, "variants": []});
    let one = |name: &str, operator: &str, values: Value| {
        let member = if values.is_array() { "values" } else { "value" };
        json!({"contextName": name, "operator": operator, member: values})
    };
    let everybody = || json!([{"name": "default", "parameters": {}, "constraints": []}]);
    let strategy = |constraints: Value| json!({"name": "default", "parameters": {}, "constraints": constraints});
    let mut features: Vec<Value> =
        (0..number).map(|index| toggle(&definitions::key(index), definitions::answer(index), everybody())).collect();
    if with_rules {
        let country = || one("country", "IN", json!(["DE"]));
        features.push(toggle("equality", true, json!([strategy(json!([country()]))])));
        let strategies = json!([
            strategy(json!([one("tier", "IN", json!(["premium"])), country()])),
            strategy(json!([one("age", "NUM_GTE", json!("18")), one("beta", "IN", json!(["true"]))])),
        ]);
        features.push(toggle("two-levels", true, strategies));
        let parameters = json!({"rollout": "50", "stickiness": "userId", "groupId": "half"});
        let half = json!([{"name": "flexibleRollout", "parameters": parameters, "constraints": []}]);
        features.push(toggle("half", true, half));
        let ids: Vec<String> = (0..10_000).map(|index| definitions::user(index * 2)).collect();
        features.push(toggle("written", true, json!([strategy(json!([one("userId", "IN", json!(ids))]))])));
    }
    json!({"version": 2, "features": features}).to_string()
}

pub(crate) fn engine(features: &str) -> Result<EngineState> {
    let engine = EngineState::default();
    let warnings = engine.apply_client_features(serde_json::from_str(features)?);
    ensure!(warnings.is_none(), "{warnings:?}");
    Ok(engine)
}

/// Its attributes are texts.
pub(crate) fn context(person: &Person) -> Result<Context> {
    Ok(serde_json::from_value(json!({
        "userId": "user-1",
        "properties": {
            "tier": person.tier,
            "age": person.age.to_string(),
            "country": person.country,
            "beta": person.beta.to_string(),
            "version": "2.3.1",
        },
    }))?)
}

pub(crate) fn user(id: &str) -> Result<Context> {
    Ok(serde_json::from_value(json!({"userId": id}))?)
}
