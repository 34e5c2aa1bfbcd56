//! From what people say about a flag to what hosts get: a flagd definition.
//!
//! ```text
//! prerequisites not met ──► off variant
//! targeting says something ──► that
//! rollout ──► a share's variant
//! nothing ──► default variant
//! ```
//!
//! A prerequisite is compiled into the rule, so that a host needs one flag to answer for one flag.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use flags_sync::List;
use libflags::compile::Compiler;
use libflags::definition::{Document, Format, Limits, PreparedList, Selector};
use serde_json::{Map, Value, json};

use crate::evaluators::{self, Budget, MOST_BYTES, MOST_VALUES};
use crate::model::{Config, Flag, FlagState, Rollout, escaped};
use crate::problem::{Fault, Problem};

/// A flag and what it does in the environment that is compiled for.
#[derive(Clone, Debug)]
pub(crate) struct Configured {
    pub(crate) flag: Flag,
    pub(crate) config: Config,
}

impl Configured {
    /// The keys of the segments that it refers to, in its targeting or in rules of its own.
    pub(crate) fn refers_to(&self) -> BTreeSet<String> {
        self.config.targeting.iter().chain(self.config.evaluators.values()).flat_map(refers_to).collect()
    }
}

/// The flags that others may need, by key.
pub(crate) type Known = BTreeMap<String, Configured>;

/// The segments that rules may refer to, by key.
#[derive(Clone, Debug, Default)]
pub(crate) struct Segments {
    pub(crate) rules: BTreeMap<String, Value>,
    pub(crate) lists: BTreeMap<String, List>,
}

type Others<'k> = (&'k Known, &'k Segments);

impl Segments {
    /// What is needed to compile `rules`: conditions, and the names of lists.
    fn reached_from<'v>(&self, rules: impl Iterator<Item = &'v Value>) -> (BTreeMap<&str, &Value>, Vec<PreparedList>) {
        let mut waiting: Vec<String> = rules.flat_map(refers_to).collect();
        let (mut rules, mut lists) = (BTreeMap::new(), BTreeSet::new());
        while let Some(key) = waiting.pop() {
            if let Some((key, condition)) = self.rules.get_key_value(&key)
                && rules.insert(key.as_str(), condition).is_none()
            {
                waiting.extend(refers_to(condition));
            }
            lists.extend(self.lists.get_key_value(&key).map(|(key, _)| key.clone()));
        }
        (rules, named_lists(lists))
    }
}

/// Lists of these names for a compiler that is to check rules: only whether there is such a list counts, not what is in it.
pub(crate) fn named_lists(names: impl IntoIterator<Item = String>) -> Vec<PreparedList> {
    let named = |(content, label)| PreparedList { label, content, ids: 0, file: PathBuf::new() };
    (1..).zip(names).map(named).collect()
}

/// The keys of the segments that a rule refers to.
pub(crate) fn refers_to(rule: &Value) -> BTreeSet<String> {
    let mut keys = BTreeSet::new();
    let mut waiting = vec![rule];
    while let Some(value) = waiting.pop() {
        keys.extend(evaluators::reference(value).map(str::to_owned));
        match value {
            Value::Object(object) => {
                let path = object.get("var").map(|path| path.get(0).unwrap_or(path));
                let list = path.and_then(|path| path.as_str()?.strip_prefix("$lists."));
                keys.extend(list.map(str::to_owned));
                waiting.extend(object.values());
            }
            Value::Array(items) => waiting.extend(items),
            _ => {}
        }
    }
    keys
}

/// Compiles a segment's condition as a flag's rule.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn check_condition(condition: &Value, segments: &Segments) -> Result<(), Problem> {
    // Any other value is the same for everybody, such as an object of two operators.
    let is_rule = condition.as_object().is_some_and(|object| object.len() == 1);
    if !is_rule && !condition.is_boolean() {
        return Err(Problem::invalid("/condition", "a condition is one operator with its arguments, or true or false"));
    }
    let definition = json!({"state": "ENABLED", "variants": {"on": true, "off": false}, "defaultVariant": "off",
        "targeting": {"if": [condition, "on", "off"]}});
    check("segment", &definition, (&Map::new(), segments), true).map_err(|mut faults| {
        for fault in &mut faults {
            let inside = fault.pointer.strip_prefix("/targeting/if/0").unwrap_or_default();
            fault.pointer = format!("/condition{inside}");
        }
        Problem::all_invalid(faults)
    })
}

/// Compiles a flag set's metadata as flagd does.
///
/// # Errors
/// What is wrong with it, below `/metadata`.
pub(crate) fn check_metadata(metadata: &Map<String, Value>) -> Result<(), Problem> {
    let mut faults = Vec::new();
    let mut own = metadata.clone();
    // To hosts, these are files beside a definition.
    own.retain(|name, _| {
        let is_own = name != "lists" && !name.starts_with("list.");
        if !is_own {
            let detail =
                "names id lists: make each a segment, which rules call by the same name (`flags-control import` does)"
                    .to_owned();
            faults.push(Fault { pointer: format!("/metadata/{}", escaped(name)), detail });
        }
        is_own
    });
    let text = json!({"flags": {}, "metadata": own}).to_string();
    let document = Document::parse("definition", text, Format::Json, &Limits::default())
        .map_err(|error| Problem::invalid("/metadata", error.to_string()))?;
    let found = document.problems().iter().filter(|problem| problem.is_error());
    faults.extend(found.map(Fault::from));
    if faults.is_empty() { Ok(()) } else { Err(Problem::all_invalid(faults)) }
}

/// Why a flag can't be compiled, in terms of its configuration.
type Fail = Vec<Fault>;

/// How many flags may need each other in a row.
const DEEPEST: usize = 16;

/// How many flags one may need.
const MOST_NEEDED: usize = 32;

/// A flag's rule on its way to one that needs no other flag.
#[derive(Default)]
struct Writing<'k> {
    /// The flags that need each other, from the one that is written down to the one that is looked at.
    path: Vec<&'k str>,
    budget: Budget,
}

fn too_much() -> Fail {
    let detail = format!(
        "with all that it needs written out, the rule has more than {MOST_VALUES} values or {MOST_BYTES} bytes of text"
    );
    vec![Fault { pointer: "/prerequisites".to_owned(), detail }]
}

/// The definition of `key`, which is in `known` with all it needs: compact JSON.
///
/// # Errors
/// What is wrong with its configuration: what flagd would refuse is refused here.
pub(crate) fn definition(key: &str, known: &Known, segments: &Segments) -> Result<String, Problem> {
    let Some(configured) = known.get(key) else { return Err(Problem::not_found(format!("there is no flag {key:?}"))) };
    let definition = define(configured, (known, segments)).map_err(Problem::all_invalid)?;
    Ok(definition.to_string())
}

fn define(configured: &Configured, known: Others<'_>) -> Result<Value, Fail> {
    let Configured { flag, config } = configured;
    check_names(configured)?;
    check_needs(config)?;
    let plain = assemble(configured, config.targeting.clone());
    check(&flag.key, &plain, (&config.evaluators, known.1), true)?;
    let rule = rule(configured, known, &mut Writing::default())?;
    if rule == config.targeting {
        return Ok(plain);
    }
    let definition = assemble(configured, rule);
    check(&flag.key, &definition, (&Map::new(), known.1), false)?;
    Ok(definition)
}

fn assemble(configured: &Configured, targeting: Option<Value>) -> Value {
    let Configured { flag, config } = configured;
    let mut definition = Map::new();
    definition.insert("state".to_owned(), json!(config.state));
    definition.insert("variants".to_owned(), Value::Object(flag.body.variants.clone()));
    if let Some(variant) = &config.default_variant {
        definition.insert("defaultVariant".to_owned(), json!(variant));
    }
    if let Some(targeting) = targeting {
        definition.insert("targeting".to_owned(), targeting);
    }
    if !config.metadata.is_empty() {
        definition.insert("metadata".to_owned(), Value::Object(config.metadata.clone()));
    }
    Value::Object(definition)
}

/// The names in the configuration are of variants that there are.
fn check_names(configured: &Configured) -> Result<(), Fail> {
    let Configured { flag, config } = configured;
    let mut faults = Vec::new();
    let mut check = |pointer: String, name: &str| {
        if !flag.body.variants.contains_key(name) {
            faults.push(Fault { pointer, detail: format!("the flag has no variant {name:?}") });
        }
    };
    for (pointer, name) in [("/defaultVariant", &config.default_variant), ("/offVariant", &config.off_variant)] {
        if let Some(name) = name {
            check(pointer.to_owned(), name);
        }
    }
    if let Some(rollout) = &config.rollout {
        for name in rollout.variants.keys() {
            check(format!("/rollout/variants/{}", escaped(name)), name);
        }
        let sum: u64 = rollout.variants.values().map(|weight| u64::from(*weight)).sum();
        if sum == 0 || sum > i32::MAX as u64 {
            let detail = "the weights have to add up to more than 0 and less than 2147483648".to_owned();
            faults.push(Fault { pointer: "/rollout/variants".to_owned(), detail });
        }
        if rollout.by.is_empty() {
            faults.push(Fault { pointer: "/rollout/by".to_owned(), detail: "an attribute has a name".to_owned() });
        }
    }
    if faults.is_empty() { Ok(()) } else { Err(faults) }
}

/// A flag needs a few others, each once.
fn check_needs(config: &Config) -> Result<(), Fail> {
    if config.prerequisites.len() > MOST_NEEDED {
        let detail = format!("a flag has at most {MOST_NEEDED} prerequisites");
        return Err(vec![Fault { pointer: "/prerequisites".to_owned(), detail }]);
    }
    let mut named = BTreeSet::new();
    let again = config.prerequisites.iter().enumerate().filter(|(_, needed)| !named.insert(needed.flag.as_str()));
    let faults: Vec<Fault> = again
        .map(|(at, needed)| Fault {
            pointer: format!("/prerequisites/{at}/flag"),
            detail: format!("names {:?} again: one prerequisite names all variants of a flag", needed.flag),
        })
        .collect();
    if faults.is_empty() { Ok(()) } else { Err(faults) }
}

/// The rule of a flag, all of its needs compiled in.
fn rule<'k>(configured: &'k Configured, known: Others<'k>, writing: &mut Writing<'k>) -> Result<Option<Value>, Fail> {
    let Configured { flag, config } = configured;
    let targeting = match &config.targeting {
        Some(targeting) if !config.evaluators.is_empty() => {
            let written_out =
                evaluators::written_out(targeting, |name| config.evaluators.get(name), &mut writing.budget);
            let detail = "the evaluators name each other in a circle, or are too much when they are written out";
            Some(
                written_out
                    .ok_or_else(|| vec![Fault { pointer: "/evaluators".to_owned(), detail: detail.to_owned() }])?,
            )
        }
        targeting => targeting.clone(),
    };
    let own = match (targeting, &config.rollout) {
        (targeting, None) => targeting,
        (None, Some(rollout)) => Some(shares(rollout)),
        (Some(targeting), Some(rollout)) => Some(json!({"or": [targeting, shares(rollout)]})),
    };
    if config.prerequisites.is_empty() {
        return Ok(own);
    }
    let fault = |pointer: String, detail: String| vec![Fault { pointer, detail }];
    writing.path.push(&flag.key);
    if writing.path.len() > DEEPEST {
        return Err(fault("/prerequisites".to_owned(), format!("more than {DEEPEST} flags need each other in a row")));
    }
    let mut met = Vec::new();
    for (at, prerequisite) in config.prerequisites.iter().enumerate() {
        let pointer = format!("/prerequisites/{at}/flag");
        if writing.path.contains(&prerequisite.flag.as_str()) {
            let detail = format!("{} needs {}: a circle", writing.path.join(" needs "), prerequisite.flag);
            return Err(fault(pointer, detail));
        }
        let Some(needed) = known.0.get(&prerequisite.flag) else {
            return Err(fault(pointer, format!("there is no flag {:?}", prerequisite.flag)));
        };
        if needed.flag.archived_ms.is_some() {
            return Err(fault(pointer, format!("the flag {:?} is archived", prerequisite.flag)));
        }
        if prerequisite.variants.is_empty() {
            return Err(fault(format!("/prerequisites/{at}/variants"), "names no variant".to_owned()));
        }
        for (which, variant) in prerequisite.variants.iter().enumerate() {
            if !needed.flag.body.variants.contains_key(variant) {
                let pointer = format!("/prerequisites/{at}/variants/{which}");
                return Err(fault(pointer, format!("the flag {:?} has no variant {variant:?}", prerequisite.flag)));
            }
        }
        met.push(serves(needed, &prerequisite.variants, known, writing)?);
    }
    writing.path.pop();
    let off = config.off_variant.clone().or_else(|| {
        flag.body.variants.iter().find(|(_, value)| **value == Value::Bool(false)).map(|(name, _)| name.clone())
    });
    let Some(off) = off else {
        let detail = "what is served without the prerequisites has to be said: no variant is false".to_owned();
        return Err(fault("/offVariant".to_owned(), detail));
    };
    let met = if met.len() == 1 { met.remove(0) } else { json!({"and": met}) };
    Ok(Some(json!({"if": [met, own.or_else(|| config.default_variant.clone().map(Value::String)), off]})))
}

/// Whether a flag serves one of `variants`.
fn serves<'k>(
    needed: &'k Configured,
    variants: &[String],
    known: Others<'k>,
    writing: &mut Writing<'k>,
) -> Result<Value, Fail> {
    let Configured { flag, config } = needed;
    for variant in variants {
        writing.budget.take(variant.len()).ok_or_else(too_much)?;
    }
    if config.state == FlagState::Disabled {
        return Ok(Value::Bool(false));
    }
    let is_default = config.default_variant.as_ref().is_some_and(|name| variants.contains(name));
    let Some(rule) = rule(needed, known, writing)? else { return Ok(Value::Bool(is_default)) };
    // In another flag, what a condition says of the flag's key would mean that one's.
    let segments = &known.1.rules;
    let rule = evaluators::written_out(&rule, |key| segments.get(key), &mut writing.budget).ok_or_else(too_much)?;
    let rule = as_of(rule, &flag.key);
    // What is no text (a rule may give true, or 1) names a variant by its JSON text: `cat` makes that of it, and nothing of null.
    let name = json!({"cat": [rule]});
    let named = json!({"in": [name, variants]});
    // A flag whose rule says nothing serves its default.
    Ok(if is_default { json!({"or": [{"==": [name, ""]}, named]}) } else { named })
}

/// A rule of the flag `key` as it is to be written in another flag's: what it says of its own key, it says outright.
fn as_of(rule: Value, key: &str) -> Value {
    match rule {
        Value::Array(items) => Value::Array(items.into_iter().map(|item| as_of(item, key)).collect()),
        Value::Object(mut object) if object.len() == 1 => {
            if is_own_key(&object) {
                return Value::String(key.to_owned());
            }
            if let Some(Value::Array(arguments)) = object.get_mut("fractional") {
                // Buckets first: the key is the flag's with the targeting key, and nobody without one is in any.
                if arguments.first().is_none_or(Value::is_array) {
                    arguments.insert(0, json!({"cat": [key, {"var": "targetingKey"}]}));
                    let arguments = Value::Array(std::mem::take(arguments));
                    let shares = json!({"fractional": as_of(arguments, key)});
                    return json!({"if": [{"var": "targetingKey"}, shares]});
                }
            }
            Value::Object(object.into_iter().map(|(name, value)| (name, as_of(value, key))).collect())
        }
        other => other,
    }
}

fn is_own_key(object: &Map<String, Value>) -> bool {
    match object.get("var") {
        Some(Value::String(path)) => path == "$flagd.flagKey",
        Some(Value::Array(arguments)) => arguments.first().is_some_and(|path| path == "$flagd.flagKey"),
        _ => false,
    }
}

fn shares(rollout: &Rollout) -> Value {
    let mut buckets: Vec<Value> = rollout.variants.iter().map(|(variant, weight)| json!([variant, weight])).collect();
    if rollout.by == "targetingKey" {
        return json!({"fractional": buckets});
    }
    let by = json!({"var": rollout.by});
    buckets.insert(0, json!({"cat": [{"var": "$flagd.flagKey"}, by]}));
    json!({"if": [by, {"fractional": buckets}]})
}

/// Compiles a definition as flagd does. `as_written`: the rule is the user's, so that what is wrong with it has a place in the body.
fn check(
    key: &str,
    definition: &Value,
    (own, segments): (&Map<String, Value>, &Segments),
    as_written: bool,
) -> Result<(), Fail> {
    let (mut rules, lists) = segments.reached_from([definition].into_iter().chain(own.values()));
    rules.extend(own.iter().map(|(name, rule)| (name.as_str(), rule)));
    let mut file = json!({"flags": {key: definition}});
    if !rules.is_empty() {
        file["$evaluators"] = json!(rules);
    }
    let text = file.to_string();
    let pointer_start = format!("/flags/{}", escaped(key));
    let fault = |pointer: &str, detail: String| {
        let own = pointer.strip_prefix(&pointer_start).map(str::to_owned);
        let shared = || pointer.strip_prefix("/$").filter(|pointer| pointer.starts_with("evaluators/"));
        let pointer = own.or_else(|| Some(format!("/{}", shared()?))).unwrap_or_default();
        Fault { pointer: if as_written { pointer } else { String::new() }, detail }
    };
    let limits = Limits::default();
    let document = Document::parse("definition", text, Format::Json, &limits)
        .map_err(|error| vec![fault("", error.to_string())])?
        .with_lists(lists);
    let compiled = Compiler::new(limits)
        .compile(&[document], &Selector::default())
        .map_err(|error| vec![fault("", error.to_string())])?;
    let faults: Vec<_> = compiled
        .problems
        .iter()
        .filter(|problem| problem.is_error())
        .map(|problem| fault(&problem.pointer, problem.message.clone()))
        .collect();
    if faults.is_empty() { Ok(()) } else { Err(faults) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{FlagBody, Prerequisite};
    use libflags::snapshot::Snapshot;
    use libflags::{Context, Want};

    fn known(configs: &[(&str, Value)]) -> Known {
        let configured = |(key, config): &(&str, Value)| {
            let body: FlagBody = serde_json::from_value(json!({})).expect("a flag of type boolean");
            let config: Config = serde_json::from_value(config.clone()).expect("a configuration");
            let key = (*key).to_owned();
            let flag =
                Flag { id: 1, key: key.clone(), body, archived_ms: None, created_ms: 0, changed_ms: 0, version: 1 };
            (key, Configured { flag, config })
        };
        configs.iter().map(configured).collect()
    }

    /// The flags, compiled as flagd does.
    fn compiled(known: &Known) -> Snapshot {
        let flags: Map<String, Value> = known
            .keys()
            .map(|key| {
                (
                    key.clone(),
                    serde_json::from_str(&definition(key, known, &Segments::default()).expect("a good flag"))
                        .expect("JSON"),
                )
            })
            .collect();
        let text = json!({"flags": flags}).to_string();
        let document = Document::parse("all", text, Format::Json, &Limits::default()).expect("a document");
        let mut compiler = Compiler::new(Limits::default());
        let compilation = compiler.compile(&[document], &Selector::default()).expect("compiled");
        Snapshot::from_bytes(&compilation.snapshot).expect("a snapshot")
    }

    fn is_on(snapshot: &Snapshot, flag: &str, context: &Context<'_>) -> bool {
        let evaluation = snapshot.evaluate(flag.as_bytes(), Want::Bool, context);
        assert_eq!(evaluation.error, None, "{flag}");
        evaluation.variant == Some("on")
    }

    fn enabled(more: Value) -> Value {
        let mut config = json!({"state": "ENABLED", "defaultVariant": "off"});
        crate::model::merge(&mut config, more);
        config
    }

    fn needs(flag: &str) -> Value {
        json!([Prerequisite { flag: flag.to_owned(), variants: vec!["on".to_owned()] }])
    }

    #[test]
    fn a_flag_is_on_where_its_prerequisites_are() {
        let beta = json!({"if": [{"var": "beta"}, {"fractional": [["on", 50], ["off", 50]]}]});
        let by_company = json!({"by": "company", "variants": {"on": 40, "off": 60}});
        let configs = [
            ("quarter", enabled(json!({"rollout": {"variants": {"on": 25, "off": 75}}}))),
            ("beta", enabled(json!({"targeting": beta, "defaultVariant": "on"}))),
            ("company", enabled(json!({"rollout": by_company}))),
            ("own-key", enabled(json!({"targeting": {"if": [{"==": [{"var": "$flagd.flagKey"}, "own-key"]}, "on"]}}))),
            ("needs-quarter", enabled(json!({"defaultVariant": "on", "prerequisites": needs("quarter")}))),
            ("needs-beta", enabled(json!({"defaultVariant": "on", "prerequisites": needs("beta")}))),
            ("needs-company", enabled(json!({"defaultVariant": "on", "prerequisites": needs("company")}))),
            ("needs-own-key", enabled(json!({"defaultVariant": "on", "prerequisites": needs("own-key")}))),
            ("needs-needs-quarter", enabled(json!({"defaultVariant": "on", "prerequisites": needs("needs-quarter")}))),
        ];
        let known = known(&configs);
        let snapshot = compiled(&known);
        let mut on = BTreeMap::new();
        for user in 0..2_000 {
            let (key, company) = (format!("user-{user}"), format!("company-{}", user % 97));
            let context = Context::new(&key).with("beta", user % 3 == 0).with("company", company.as_str());
            for (needed, _) in configs.iter().take(4) {
                let answer = is_on(&snapshot, needed, &context);
                assert_eq!(is_on(&snapshot, &format!("needs-{needed}"), &context), answer, "{needed} for {key}");
                *on.entry(*needed).or_insert(0) += i32::from(answer);
            }
            assert_eq!(is_on(&snapshot, "needs-needs-quarter", &context), is_on(&snapshot, "quarter", &context));
        }
        assert!((400..600).contains(&on["quarter"]), "a quarter of 2000, but {}", on["quarter"]);
        assert!(on["beta"] > 1_300 && on["beta"] < 2_000 && on["company"] > 0 && on["own-key"] == 2_000);
        let nobody = Context::anonymous();
        for (needed, _) in configs.iter().take(4) {
            let answer = is_on(&snapshot, needed, &nobody);
            assert_eq!(is_on(&snapshot, &format!("needs-{needed}"), &nobody), answer, "{needed} for nobody");
        }
    }

    #[test]
    fn what_needs_a_disabled_flag_is_off() {
        let known = known(&[
            ("a", json!({"state": "DISABLED", "defaultVariant": "on"})),
            ("b", enabled(json!({"defaultVariant": "on", "prerequisites": needs("a")}))),
        ]);
        assert!(!is_on(&compiled(&known), "b", &Context::new("u")));
    }

    #[test]
    fn targeting_comes_before_the_rollout() {
        let targeting = json!({"if": [{"==": [{"var": "tier"}, "staff"]}, "on"]});
        let config = enabled(json!({"targeting": targeting, "rollout": {"variants": {"on": 0, "off": 1}}}));
        let snapshot = compiled(&known(&[("a", config)]));
        assert!(is_on(&snapshot, "a", &Context::new("u").with("tier", "staff")));
        assert!(!is_on(&snapshot, "a", &Context::new("u").with("tier", "guest")));
    }

    #[test]
    fn a_flag_needs_a_few_others_each_once() {
        let others: Vec<String> = (0..=MOST_NEEDED).map(|at| format!("f{at}")).collect();
        let needs_all = |others: &[String]| {
            let each = others.iter().map(|flag| json!({"flag": flag, "variants": ["on"]}));
            enabled(json!({"prerequisites": each.collect::<Vec<_>>()}))
        };
        let with = |config: Value| {
            let mut configs: Vec<(&str, Value)> = others.iter().map(|key| (key.as_str(), enabled(json!({})))).collect();
            configs.push(("a", config));
            definition("a", &known(&configs), &Segments::default())
        };
        assert!(with(needs_all(&others[..MOST_NEEDED])).is_ok());
        let many = with(needs_all(&others)).expect_err("too many");
        assert!(many.detail().starts_with("/prerequisites: "), "{}", many.detail());
        let again = with(needs_all(&["f1".to_owned(), "f2".to_owned(), "f1".to_owned()])).expect_err("twice");
        assert!(again.detail().starts_with("/prerequisites/2/flag: "), "{}", again.detail());
    }

    /// Each layer needs all of the next: 8^5 ways to the last.
    #[test]
    fn all_that_a_flag_needs_shares_one_budget() {
        let layers = |layers: usize, last: Value| {
            let mut configs = Vec::new();
            for layer in 0..layers {
                for at in 0..8 {
                    let next = (0..8).map(|next| json!({"flag": format!("f{}-{next}", layer + 1), "variants": ["on"]}));
                    let next: Vec<Value> = next.collect();
                    let config = if layer + 1 < layers {
                        enabled(json!({"prerequisites": next}))
                    } else {
                        enabled(last.clone())
                    };
                    configs.push((format!("f{layer}-{at}"), config));
                }
            }
            let configs: Vec<(&str, Value)> =
                configs.iter().map(|(key, config)| (key.as_str(), config.clone())).collect();
            definition("f0-0", &known(&configs), &Segments::default())
        };
        let short = json!({"targeting": {"if": [{"var": "beta"}, "on"]}});
        assert!(layers(3, short.clone()).is_ok());
        let many = layers(6, short).expect_err("too many values");
        assert!(many.detail().starts_with("/prerequisites: "), "{}", many.detail());
        let long = json!({"targeting": {"if": [{"==": [{"var": "beta"}, "x".repeat(1 << 18)]}, "on"]}});
        assert!(layers(2, long.clone()).is_ok(), "8 times 256 KiB");
        let long = layers(3, long).expect_err("64 times 256 KiB");
        assert!(long.detail().starts_with("/prerequisites: "), "{}", long.detail());
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        let chain: Vec<(String, Value)> = (0..20)
            .map(|at| (format!("f{at}"), enabled(json!({"prerequisites": needs(&format!("f{}", at + 1))}))))
            .chain([("f20".to_owned(), enabled(json!({})))])
            .collect();
        let chain: Vec<(&str, Value)> = chain.iter().map(|(key, config)| (key.as_str(), config.clone())).collect();
        let one = |config: Value| vec![("a", enabled(config))];
        let circle = vec![
            ("a", enabled(json!({"prerequisites": needs("b")}))),
            ("b", enabled(json!({"prerequisites": needs("a")}))),
        ];
        let cases = [
            (one(json!({"defaultVariant": "maybe"})), "/defaultVariant"),
            (one(json!({"offVariant": "maybe"})), "/offVariant"),
            (one(json!({"rollout": {"variants": {"ma/be": 1}}})), "/rollout/variants/ma~1be"),
            (one(json!({"rollout": {"variants": {"on": 0}}})), "/rollout/variants"),
            (one(json!({"targeting": {"nonsense": []}})), "/targeting/nonsense"),
            (one(json!({"prerequisites": needs("b")})), "/prerequisites/0/flag"),
            (one(json!({"prerequisites": needs("a")})), "/prerequisites/0/flag"),
            (circle, "/prerequisites/0/flag"),
        ];
        for (configs, pointer) in cases {
            let problem = definition("a", &known(&configs), &Segments::default()).expect_err(pointer);
            assert!(problem.detail().starts_with(pointer), "{} instead of {pointer}", problem.detail());
        }
        assert!(definition("f0", &known(&chain), &Segments::default()).is_err(), "too deep");
        assert!(definition("f10", &known(&chain), &Segments::default()).is_ok());
    }
}
