//! What people say about flags: the bodies of the API.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::parse::parse_value;
use crate::problem::{Fault, Problem};

/// The longest key of a project, environment or flag, in bytes.
const KEY_BYTES: usize = 128;

/// Bytes of a name, description, owner, tag or comment.
const TEXT_BYTES: usize = 4_096;

/// What kind of value a flag has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum FlagType {
    Boolean,
    String,
    Number,
    Object,
}

/// What a flag is there for, which says how long it should live.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum FlagKind {
    #[default]
    Release,
    Experiment,
    Ops,
    Permanent,
}

/// What a flag is in all environments.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct FlagBody {
    /// Absent: boolean.
    #[serde(rename = "type", default = "boolean")]
    pub(crate) flag_type: FlagType,
    /// Absent: `on` and `off`.
    #[serde(default = "on_and_off")]
    pub(crate) variants: Map<String, Value>,
    #[serde(default)]
    pub(crate) description: String,
    #[serde(default)]
    pub(crate) owner: String,
    #[serde(default)]
    pub(crate) tags: Vec<String>,
    #[serde(default)]
    pub(crate) kind: FlagKind,
    /// When somebody wanted it gone, milliseconds since 1970.
    #[serde(default)]
    pub(crate) expires_ms: Option<i64>,
}

fn boolean() -> FlagType {
    FlagType::Boolean
}

fn on_and_off() -> Map<String, Value> {
    Map::from_iter([("on".to_owned(), Value::Bool(true)), ("off".to_owned(), Value::Bool(false))])
}

/// A flag as it is stored.
#[derive(Clone, Debug)]
pub(crate) struct Flag {
    pub(crate) id: i64,
    pub(crate) key: String,
    pub(crate) body: FlagBody,
    pub(crate) archived_ms: Option<i64>,
    pub(crate) created_ms: i64,
    pub(crate) changed_ms: i64,
    /// Counts its changes; its ETag.
    pub(crate) version: i64,
}

/// Whether a flag is evaluated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum FlagState {
    Enabled,
    /// Programs get their own default.
    #[default]
    Disabled,
}

/// What a flag does in one environment.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(rename = "Configuration")]
pub(crate) struct Config {
    #[serde(default)]
    pub(crate) state: FlagState,
    /// What is served where nothing else is said; null: the program's own default.
    #[serde(default)]
    pub(crate) default_variant: Option<String>,
    /// A flagd rule: gives the name of a variant, or null to go on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) targeting: Option<Value>,
    /// Rules that `targeting` names, by `{"$ref": "NAME"}`, and that may name each other.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub(crate) evaluators: Map<String, Value>,
    /// For those of whom `targeting` says nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) rollout: Option<Rollout>,
    /// Other flags without which this one is off, each once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub(crate) prerequisites: Vec<Prerequisite>,
    /// What is served where a prerequisite is not met; absent: the variant whose value is `false`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) off_variant: Option<String>,
    /// Handed on to programs with each answer.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub(crate) metadata: Map<String, Value>,
}

/// Shares of a population, who stay where they are as long as the shares do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Rollout {
    /// The attribute that decides who is who. Those without it get the default variant.
    #[serde(default = "targeting_key")]
    pub(crate) by: String,
    /// Weights of variants, not all 0; percentages where they add up to 100.
    pub(crate) variants: BTreeMap<String, u32>,
}

fn targeting_key() -> String {
    "targetingKey".to_owned()
}

/// Another flag that has to serve one of some variants.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Prerequisite {
    pub(crate) flag: String,
    pub(crate) variants: Vec<String>,
}

impl FlagBody {
    /// # Errors
    /// What is wrong with it, each with its place.
    pub(crate) fn check(&self) -> Result<(), Problem> {
        let mut faults = Vec::new();
        let mut fault = |pointer: String, detail: &str| faults.push(Fault { pointer, detail: detail.to_owned() });
        if self.variants.is_empty() {
            fault("/variants".to_owned(), "at least one variant is needed");
        }
        for (name, value) in &self.variants {
            let pointer = format!("/variants/{}", escaped(name));
            let fits = match self.flag_type {
                FlagType::Boolean => value.is_boolean(),
                FlagType::String => value.is_string(),
                FlagType::Number => value.is_number(),
                FlagType::Object => value.is_object() || value.is_array(),
            };
            if name.is_empty() {
                fault(pointer, "a variant needs a name");
            } else if !fits {
                fault(pointer, "is not of the flag's type");
            }
        }
        for (name, text) in [("description", &self.description), ("owner", &self.owner)] {
            if !is_text(text) {
                fault(format!("/{name}"), NO_TEXT);
            }
        }
        for (at, tag) in self.tags.iter().enumerate() {
            if tag.is_empty() || tag.len() > KEY_BYTES {
                fault(format!("/tags/{at}"), "a tag has 1 to 128 bytes");
            }
        }
        if faults.is_empty() { Ok(()) } else { Err(Problem::all_invalid(faults)) }
    }

    /// What a flag does where nobody has said anything yet: it is disabled, and would be off.
    pub(crate) fn first_config(&self) -> Config {
        let off = self.variants.iter().find(|(_, value)| **value == Value::Bool(false));
        Config { default_variant: off.map(|(name, _)| name.clone()), ..Config::default() }
    }
}

/// A key of a project, environment or flag.
///
/// # Errors
/// Where it can't be one: 1 to 128 bytes, of them letters, digits, `-`, `_` and `.` of ASCII, neither the first nor the last a dot.
pub(crate) fn check_key(key: &str, pointer: &str) -> Result<(), Problem> {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if key.is_empty() || key.len() > KEY_BYTES || !key.bytes().all(good) || key.starts_with('.') || key.ends_with('.') {
        let detail =
            "a key has 1 to 128 letters, digits, '-', '_' and '.', neither the first nor the last of them a dot";
        return Err(Problem::invalid(pointer, detail));
    }
    Ok(())
}

/// What is wrong with a text.
const NO_TEXT: &str = "a text has at most 4096 bytes, none of them NUL";

fn is_text(text: &str) -> bool {
    text.len() <= TEXT_BYTES && !text.contains('\0')
}

/// A comment or name.
///
/// # Errors
/// Where it is longer than 4096 bytes, or has a NUL in it.
pub(crate) fn check_text(text: &str, pointer: &str) -> Result<(), Problem> {
    if is_text(text) { Ok(()) } else { Err(Problem::invalid(pointer, NO_TEXT)) }
}

/// A name as a segment of a JSON pointer.
pub(crate) fn escaped(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

/// What a JSON merge patch makes of a flag, a configuration or a segment.
///
/// A rule is one value in it (`targeting`, `condition`, each of `evaluators`) and is replaced whole: merged, two operators would stand in one
/// object, which is no rule but a constant that holds for everybody.
///
/// # Errors
/// Where that is none.
pub(crate) fn patched<T: Serialize + DeserializeOwned>(old: &T, patch: Value) -> Result<T, Problem> {
    if !patch.is_object() {
        // By RFC 7396 it would be all there is then; nobody means that, and tools write an empty object so.
        return Err(Problem::invalid("", "a patch is an object of the members that become something else"));
    }
    let mut whole = json!(old);
    let mut patch = patch;
    if let (Some(members), Some(changes)) = (whole.as_object_mut(), patch.as_object_mut()) {
        for name in ["targeting", "condition"] {
            replace(members, changes, name);
        }
        if let Some(Value::Object(changes)) = changes.get_mut("evaluators")
            && let Value::Object(members) = members.entry("evaluators").or_insert_with(|| json!({}))
        {
            for name in changes.keys().cloned().collect::<Vec<_>>() {
                replace(members, changes, &name);
            }
        }
    }
    merge(&mut whole, patch);
    parse_value(whole)
}

/// Takes a member out of `changes`, and puts it in the place of the one in `members`; a null takes that away.
fn replace(members: &mut Map<String, Value>, changes: &mut Map<String, Value>, name: &str) {
    match changes.remove(name) {
        None => {}
        Some(Value::Null) => drop(members.remove(name)),
        Some(value) => drop(members.insert(name.to_owned(), value)),
    }
}

/// What `patch` makes of `target`: JSON merge patch (RFC 7396).
pub(crate) fn merge(target: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else {
        *target = patch;
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(target) = target else { return };
    for (name, value) in patch {
        if value.is_null() {
            target.remove(&name);
        } else {
            merge(target.entry(name).or_insert(Value::Null), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merging_follows_the_examples_of_rfc_7396() {
        // Appendix A, all of it.
        let cases = [
            (json!({"a":"b"}), json!({"a":"c"}), json!({"a":"c"})),
            (json!({"a":"b"}), json!({"b":"c"}), json!({"a":"b","b":"c"})),
            (json!({"a":"b"}), json!({"a":null}), json!({})),
            (json!({"a":"b","b":"c"}), json!({"a":null}), json!({"b":"c"})),
            (json!({"a":["b"]}), json!({"a":"c"}), json!({"a":"c"})),
            (json!({"a":"c"}), json!({"a":["b"]}), json!({"a":["b"]})),
            (json!({"a":{"b":"c"}}), json!({"a":{"b":"d","c":null}}), json!({"a":{"b":"d"}})),
            (json!({"a":[{"b":"c"}]}), json!({"a":[1]}), json!({"a":[1]})),
            (json!(["a", "b"]), json!(["c", "d"]), json!(["c", "d"])),
            (json!({"a":"b"}), json!(["c"]), json!(["c"])),
            (json!({"a":"foo"}), json!(null), json!(null)),
            (json!({"a":"foo"}), json!("bar"), json!("bar")),
            (json!({"e":null}), json!({"a":1}), json!({"e":null,"a":1})),
            (json!([1, 2]), json!({"a":"b","c":null}), json!({"a":"b"})),
            (json!({}), json!({"a":{"bb":{"ccc":null}}}), json!({"a":{"bb":{}}})),
        ];
        for (mut target, patch, expected) in cases {
            merge(&mut target, patch);
            assert_eq!(target, expected);
        }
    }

    #[test]
    fn a_patch_replaces_rules_whole_and_merges_the_rest() {
        let old = json!({"targeting": {"==": [1, 2]}, "metadata": {"a": 1}, "evaluators": {"x": {"!": [1]}, "y": true, "z": {"var": "z"}}});
        let patch = json!({"targeting": {"if": [{"var": "a"}, "on", null]}, "metadata": {"b": 2}, "evaluators": {"x": {"var": "v"}, "y": null, "w": false}});
        let new = json!({"targeting": {"if": [{"var": "a"}, "on", null]}, "metadata": {"a": 1, "b": 2},
            "evaluators": {"x": {"var": "v"}, "z": {"var": "z"}, "w": false}});
        assert_eq!(patched::<Value>(&old, patch).unwrap(), new);
        assert_eq!(
            patched::<Value>(&json!({"targeting": {"var": "a"}}), json!({"targeting": null})).unwrap(),
            json!({})
        );
        assert_eq!(
            patched::<Value>(&json!({"condition": {"var": "a"}}), json!({"condition": {"!": 1}})).unwrap(),
            json!({"condition": {"!": 1}})
        );
        for patch in [json!([]), json!([1]), json!(null), json!("a"), json!(1)] {
            assert!(patched::<Value>(&json!({"a": 1}), patch).is_err());
        }
    }

    #[test]
    fn keys_are_words() {
        for good in ["a", "new-checkout", "shop.cart_2", "A"] {
            assert!(check_key(good, "/key").is_ok(), "{good}");
        }
        for bad in ["", ".a", "a.", "a b", "a/b", "ä", "a\0", "../a", "'; DROP TABLE flag; --", &"a".repeat(129)] {
            assert!(check_key(bad, "/key").is_err(), "{bad}");
        }
    }
}
