//! Eppo's engine: a flag has allocations, the first whose rules match is split by shards.

use std::sync::Arc;
use std::time::SystemTime;

use anyhow::{Context as _, Result};
use eppo_core::eval::get_assignment;
use eppo_core::ufc::{UniversalFlagConfig, VariationType};
use eppo_core::{Attributes, Configuration, SdkMetadata, Str};
use serde_json::{Map, Value, json};

use crate::definitions;
use crate::rules::Person;

/// `number` static flags and those of `rules::ROWS`, as the server sends them.
pub(crate) fn flags(number: usize, with_rules: bool) -> String {
    let mut flags = Map::new();
    let mut put = |key: &str, allocations: Value| {
        let flag = json!({
            "key": key,
            "enabled": true,
            "variationType": "BOOLEAN",
            "variations": {"on": {"key": "on", "value": true}, "off": {"key": "off", "value": false}},
            "allocations": allocations,
            "totalShards": 10_000,
        });
        flags.insert(key.to_owned(), flag);
    };
    // Without `doLog`, so that no event is put together.
    let allocation = |name: &str, rules: Value, variation: &str, shards: Value| {
        let splits = json!([{"variationKey": variation, "shards": shards}]);
        json!({"key": name, "rules": rules, "splits": splits, "doLog": false})
    };
    let rest = || allocation("rest", json!([]), "off", json!([]));
    for index in 0..number {
        let variation = if definitions::answer(index) { "on" } else { "off" };
        put(&definitions::key(index), json!([allocation("all", json!([]), variation, json!([]))]));
    }
    if with_rules {
        let one_of = |name: &str, values: Value| json!({"attribute": name, "operator": "ONE_OF", "value": values});
        let country = || one_of("country", json!(["DE"]));
        let equality = json!([{"conditions": [country()]}]);
        put("equality", json!([allocation("rule", equality, "on", json!([])), rest()]));
        let two_levels = json!([
            {"conditions": [one_of("tier", json!(["premium"])), country()]},
            {"conditions": [
                {"attribute": "age", "operator": "GTE", "value": 18},
                one_of("beta", json!(["true"])),
            ]},
        ]);
        put("two-levels", json!([allocation("rule", two_levels, "on", json!([])), rest()]));
        let shards = json!([{"salt": "half", "ranges": [{"start": 0, "end": 5_000}]}]);
        put("half", json!([allocation("half", json!([]), "on", shards), rest()]));
        let ids: Vec<String> = (0..10_000).map(|index| definitions::user(index * 2)).collect();
        let written = json!([{"conditions": [one_of("id", json!(ids))]}]);
        put("written", json!([allocation("rule", written, "on", json!([])), rest()]));
    }
    json!({"createdAt": "2026-01-01T00:00:00Z", "environment": {"name": "Test"}, "flags": flags}).to_string()
}

pub(crate) fn configuration(flags: &str) -> Result<Configuration> {
    let metadata = SdkMetadata { name: "libflags-compare", version: "0.1.0" };
    let config = UniversalFlagConfig::from_json(metadata, flags.as_bytes().to_vec()).context("eppo_core refuses")?;
    Ok(Configuration::from_server_response(config, None))
}

/// Whom a flag is asked for.
pub(crate) type Subject = (Str, Arc<Attributes>);

pub(crate) fn subject(person: &Person) -> Subject {
    let mut attributes = Attributes::new();
    attributes.insert("tier".into(), person.tier.into());
    #[expect(clippy::cast_precision_loss, reason = "an age")]
    attributes.insert("age".into(), (person.age as f64).into());
    attributes.insert("country".into(), person.country.into());
    attributes.insert("beta".into(), person.beta.into());
    attributes.insert("version".into(), "2.3.1".into());
    ("user-1".into(), Arc::new(attributes))
}

/// Somebody with an id; without attributes, its key is the attribute `id`.
pub(crate) fn user(id: &str) -> Subject {
    (id.into(), Arc::new(Attributes::new()))
}

/// The flag's value, false where it has none. The clock is read once for all calls.
pub(crate) fn reader(configuration: &Configuration) -> impl Fn(&str, &Subject) -> bool + '_ {
    let now = SystemTime::now().into();
    move |key, (subject, attributes)| {
        let boolean = Some(VariationType::Boolean);
        let assigned = get_assignment(Some(configuration), key, subject, attributes, boolean, now);
        assigned.ok().flatten().and_then(|assignment| assignment.value.as_boolean()).unwrap_or(false)
    }
}
