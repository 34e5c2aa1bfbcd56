//! What flag files say a project should be.
//!
//! `DIR/ENVIRONMENT.json` (or `.yaml`, `.yml`) is a flagd definition whose flags may have the API's members too. A flag's members of [`ABOUT`] are what it is in
//! all environments, the others what it does in this one. Each flag takes the `$evaluators` that it names with it; the file's `metadata` is the environment's,
//! but for what names files of ids, which are the environment's lists.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use libflags::{
    compile::Compiler,
    definition::{Document, Limits, Selector},
};
use serde_json::{Map, Value, json};

use super::{
    flag::type_of,
    lists::{self, Local},
};
use crate::{check::definitions_in, failure::Failure};

/// The members that mean the same in all environments.
const ABOUT: [&str; 7] = ["type", "variants", "description", "owner", "tags", "kind", "expiresMs"];
/// Those of an environment.
const HERE: [&str; 8] =
    ["state", "defaultVariant", "targeting", "evaluators", "rollout", "prerequisites", "offVariant", "metadata"];

/// A flag as files have it.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    /// Members of [`ABOUT`] that are said.
    pub(super) about: Map<String, Value>,
    /// Configurations, whole, by environment.
    pub(super) configs: BTreeMap<String, Value>,
}

/// What a file says of its environment beside the flags.
#[derive(Debug, Default)]
pub(super) struct Around {
    /// The file.
    pub(super) name: String,
    /// `None` where it says nothing of any.
    pub(super) metadata: Option<Map<String, Value>>,
    /// Those that it declares.
    pub(super) lists: BTreeMap<String, Local>,
    /// The lists that its rules refer to.
    pub(super) named: BTreeSet<String>,
}

/// All that the files in a directory say.
#[derive(Debug)]
pub(super) struct Desired {
    /// By key.
    pub(super) flags: BTreeMap<String, Wanted>,
    /// By environment.
    pub(super) environments: BTreeMap<String, Around>,
}

/// A flag's members in a file, by key.
type Flags = BTreeMap<String, Map<String, Value>>;

/// Reads all that the files in a directory say.
pub(super) fn read(directory: &Path) -> Result<Desired, Failure> {
    let mut wanted: BTreeMap<String, Wanted> = BTreeMap::new();
    let mut environments = BTreeMap::new();
    for path in definitions_in(directory)? {
        let environment = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default().to_owned();
        if environments.contains_key(&environment) {
            return Err(Failure::new(format!("{} is of {environment}, as is another file", path.display())));
        }
        let (flags, around) = flags(&path)?;
        for (key, flag) in flags {
            let (about, config) = apart(&path, &key, flag)?;
            let wanted = wanted.entry(key.clone()).or_default();
            for (name, value) in about {
                match wanted.about.get(&name) {
                    Some(other) if *other != value => {
                        let message =
                            format!("{}: flag {key:?}: `{name}` is another than in an earlier file", path.display());
                        return Err(Failure::new(message).hint("it means the same in all environments"));
                    }
                    _ => drop(wanted.about.insert(name, value)),
                }
            }
            wanted.configs.insert(environment.clone(), config);
        }
        environments.insert(environment, around);
    }
    for (key, wanted) in &mut wanted {
        let first = wanted.about.get("variants").and_then(|variants| variants.as_object()?.values().next());
        let Some(first) = first.map(type_of) else {
            return Err(Failure::new(format!("flag {key:?}: no file says its `variants`")));
        };
        wanted.about.entry("type").or_insert_with(|| json!(first));
    }
    Ok(Desired { flags: wanted, environments })
}

/// The flags of a file as JSON, each with the evaluators that it names; and what is around them.
fn flags(path: &PathBuf) -> Result<(Flags, Around), Failure> {
    let document =
        Document::load(path, &Limits::default()).map_err(|error| Failure::new(error.to_problem().to_string()))?;
    let not_json = |error: serde_json::Error| Failure::new(format!("{}: {error}", path.display()));
    let mut whole: Value = serde_json::from_str(document.json()).map_err(not_json)?;
    let mut around = Around { name: path.display().to_string(), ..Around::default() };
    lists::named_in(&whole, &mut around.named);
    around.lists = lists::read(&document, path.parent().unwrap_or(Path::new("")))?;
    let document = document.with_lists(lists::names_only(around.named.clone()));
    let compiled = Compiler::new(Limits::default()).compile(std::slice::from_ref(&document), &Selector::All);
    let problems = compiled.map_err(|error| Failure::new(format!("{}: {error}", path.display())))?.problems;
    let errors: Vec<String> = problems.iter().filter(|problem| problem.is_error()).map(ToString::to_string).collect();
    if !errors.is_empty() {
        return Err(Failure::new(errors.join("\n")));
    }
    let evaluators = whole["$evaluators"].take();
    around.metadata = whole["metadata"].as_object().cloned();
    if let Some(metadata) = &mut around.metadata {
        metadata.retain(|name, value| !value.is_null() && !lists::is_declaration(name));
    }
    let mut flags = BTreeMap::new();
    for flag in document.flags() {
        let mut json: Map<String, Value> = serde_json::from_str(flag.json()).map_err(not_json)?;
        if let Some(rule) = json.get("targeting") {
            let mut used = Map::new();
            named(rule, &evaluators, &mut used);
            if !used.is_empty() {
                json.insert("evaluators".to_owned(), Value::Object(used));
            }
        }
        flags.insert(flag.key().to_owned(), json);
    }
    Ok((flags, around))
}

/// The evaluators that a rule names, and that these name.
fn named(rule: &Value, evaluators: &Value, used: &mut Map<String, Value>) {
    match rule {
        Value::Array(items) => items.iter().for_each(|item| named(item, evaluators, used)),
        Value::Object(object) => {
            let reference = object.get("$ref").and_then(Value::as_str).filter(|_| object.len() == 1);
            match reference.and_then(|name| Some((name, evaluators.get(name)?))) {
                Some((name, body)) if !used.contains_key(name) => {
                    used.insert(name.to_owned(), body.clone());
                    named(body, evaluators, used);
                }
                Some(_) => {}
                None => object.values().for_each(|value| named(value, evaluators, used)),
            }
        }
        _ => {}
    }
}

/// What a flag is, and what it does here, the latter as the API shows it.
fn apart(path: &Path, key: &str, flag: Map<String, Value>) -> Result<(Map<String, Value>, Value), Failure> {
    let (mut about, mut config) = (Map::new(), Map::new());
    for (name, value) in flag {
        if ABOUT.contains(&name.as_str()) {
            about.insert(name, value);
        } else if HERE.contains(&name.as_str()) {
            config.insert(name, value);
        } else {
            return Err(Failure::new(format!("{}: flag {key:?}: unknown property {name:?}", path.display())));
        }
    }
    Ok((about, normal(Value::Object(config))))
}

/// A configuration with its defaults said, and nothing said that is the same as not said.
pub(super) fn normal(mut config: Value) -> Value {
    if let Some(config) = config.as_object_mut() {
        config.remove("revision");
        config.entry("state").or_insert_with(|| json!("DISABLED"));
        config.retain(|name, value| match value {
            Value::Null => false,
            Value::Array(items) => name != "prerequisites" || !items.is_empty(),
            Value::Object(members) => !["metadata", "evaluators"].contains(&name.as_str()) || !members.is_empty(),
            _ => true,
        });
        if let Some(rollout) = config.get_mut("rollout").and_then(Value::as_object_mut) {
            rollout.entry("by").or_insert_with(|| json!("targetingKey"));
        }
    }
    config
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flag_takes_what_it_names_with_it() {
        let evaluators = json!({"a": {"==": [{"$ref": "b"}, 1]}, "b": {"!": [{"$ref": "a"}]}, "c": {"var": "x"}});
        let mut used = Map::new();
        named(&json!({"if": [{"$ref": "a"}, "on", {"$ref": "nobody"}]}), &evaluators, &mut used);
        assert_eq!(used.keys().collect::<Vec<_>>(), ["a", "b"]);
    }

    #[test]
    fn what_means_the_same_is_the_same() {
        let said = json!({"state": "DISABLED", "targeting": null, "prerequisites": [], "metadata": {}, "revision": 7});
        assert_eq!(normal(said), normal(json!({})));
        assert_eq!(normal(json!({"rollout": {"variants": {}}}))["rollout"]["by"], "targetingKey");
    }
}
