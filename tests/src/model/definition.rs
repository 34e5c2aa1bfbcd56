//! Definitions: which flags there are, and what reading one gives.

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json};

use super::rule;
use super::value::Value;
use crate::engine::{Answer, Engine, ErrorCode, Kind, Reason, Subject, same_json};

/// A set of flags, interpreted anew at each evaluation.
#[derive(Debug)]
pub struct Model {
    flags: BTreeMap<String, Result<Flag, String>>,
    metadata: Map<String, Json>,
}

/// What an evaluation gives before anyone asks for a type.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// The variant; `None` where the caller's value counts.
    pub variant: Option<String>,
    /// That variant's value.
    pub value: Option<Json>,
    /// Why this variant.
    pub reason: Reason,
    /// What went wrong, with [`Reason::Error`] only.
    pub error_code: Option<ErrorCode>,
    /// The set's metadata overlaid by the flag's.
    pub metadata: Map<String, Json>,
}

#[derive(Debug)]
struct Flag {
    enabled: bool,
    variants: Map<String, Json>,
    default_variant: Option<String>,
    /// Resolved; `None` where the flag has none.
    targeting: Option<Json>,
    metadata: Map<String, Json>,
}

impl Model {
    /// Reads a definition. A broken flag is isolated: it answers `PARSE_ERROR`, its neighbours do not change.
    ///
    /// # Errors
    /// Text that is not JSON, or has no `flags`.
    pub fn from_json(text: &str) -> anyhow::Result<Self> {
        let document: Json = serde_json::from_str(text)?;
        for member in ["metadata", "$evaluators"] {
            anyhow::ensure!(matches!(document[member], Json::Null | Json::Object(_)), "{member} is no object");
        }
        let evaluators = document["$evaluators"].as_object().cloned().unwrap_or_default();
        let flags: Vec<(String, &Json)> = match &document["flags"] {
            Json::Object(flags) => flags.iter().map(|(key, flag)| (key.clone(), flag)).collect(),
            Json::Array(flags) => {
                flags.iter().filter_map(|flag| Some((flag["key"].as_str()?.to_owned(), flag))).collect()
            }
            _ => anyhow::bail!("flags is neither an object nor an array"),
        };
        Ok(Self {
            flags: flags.into_iter().map(|(key, flag)| (key, Flag::from_json(flag, &evaluators))).collect(),
            metadata: without_nulls(&document["metadata"]),
        })
    }

    /// The keys of all flags, broken ones too.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.flags.keys().map(String::as_str)
    }

    /// What is wrong with the flag; `None` where it is sound or there is no such flag.
    #[must_use]
    pub fn problem(&self, flag_key: &str) -> Option<&str> {
        self.flags.get(flag_key)?.as_ref().err().map(String::as_str)
    }

    /// The flag's targeting with all evaluators in their places and every operator's arguments in an array; `None` where it has none.
    #[must_use]
    pub fn targeting(&self, flag_key: &str) -> Option<&Json> {
        self.flags.get(flag_key)?.as_ref().ok()?.targeting.as_ref()
    }

    /// Evaluates the flag for a subject.
    #[must_use]
    pub fn evaluate(&self, flag_key: &str, subject: &Subject) -> Outcome {
        let flag = match self.flags.get(flag_key) {
            None => return failed(ErrorCode::FlagNotFound, Map::new()),
            Some(Err(_)) => return failed(ErrorCode::ParseError, self.metadata.clone()),
            Some(Ok(flag)) => flag,
        };
        let mut metadata = self.metadata.clone();
        metadata.extend(flag.metadata.clone());
        let outcome = |variant: Option<&String>, reason| Outcome {
            value: variant.map(|name| flag.variants[name].clone()),
            variant: variant.cloned(),
            reason,
            error_code: None,
            metadata: metadata.clone(),
        };
        if !flag.enabled {
            return outcome(None, Reason::Disabled);
        }
        let Some(targeting) = &flag.targeting else {
            let reason = if flag.default_variant.is_some() { Reason::Static } else { Reason::Default };
            return outcome(flag.default_variant.as_ref(), reason);
        };
        let name = match rule::evaluate(targeting, flag_key, subject) {
            Value::Null => return outcome(flag.default_variant.as_ref(), Reason::Default),
            Value::Number(number) if !number.is_finite() => return failed(ErrorCode::ParseError, metadata),
            scalar @ (Value::Text(_) | Value::Bool(_) | Value::Number(_)) => scalar.to_text(),
            Value::List(_) | Value::Object(_) => return failed(ErrorCode::General, metadata),
        };
        if flag.variants.contains_key(&name) {
            outcome(Some(&name), Reason::TargetingMatch)
        } else {
            failed(ErrorCode::General, metadata)
        }
    }

    /// What `rule` evaluates to as the targeting of a flag called `flag_key`.
    ///
    /// # Errors
    /// [`ErrorCode::ParseError`] for a rule that is broken, or that gives NaN or infinity.
    pub fn evaluate_rule(rule: &Json, flag_key: &str, subject: &Subject) -> Result<Json, ErrorCode> {
        let resolved = rule::resolve(rule, &Map::new()).map_err(|_| ErrorCode::ParseError)?;
        match rule::evaluate(&resolved, flag_key, subject) {
            Value::Number(number) if !number.is_finite() => Err(ErrorCode::ParseError),
            value => Ok(value.to_json()),
        }
    }
}

impl Outcome {
    /// Reads the outcome as `want`, losing nothing: a whole number is an integer however it is spelt, no other type stands
    /// in for another.
    #[must_use]
    pub fn read(self, want: Kind, fallback: &Json) -> Answer {
        let Some(value) = self.value else {
            let Self { variant, reason, error_code, metadata, .. } = self;
            return Answer { value: fallback.clone(), variant, reason, error_code, metadata };
        };
        let fits = match (&value, want) {
            (Json::Bool(_), Kind::Boolean)
            | (Json::String(_), Kind::String)
            | (Json::Number(_), Kind::Float)
            | (Json::Object(_) | Json::Array(_), Kind::Object) => true,
            (Json::Number(number), Kind::Integer) => number.as_f64().is_some_and(|number| number.fract() == 0.0),
            _ => false,
        };
        if fits {
            Answer { value, variant: self.variant, reason: self.reason, error_code: None, metadata: self.metadata }
        } else {
            failed(ErrorCode::TypeMismatch, self.metadata).read(want, fallback)
        }
    }
}

impl Engine for Model {
    fn load(definition: &str) -> anyhow::Result<Self> {
        Self::from_json(definition)
    }

    fn evaluate(&self, flag_key: &str, subject: &Subject, want: Kind, fallback: &Json) -> Answer {
        self.evaluate(flag_key, subject).read(want, fallback)
    }

    fn check_rule(
        rule: &Json,
        flag_key: &str,
        subject: &Subject,
        expected: &Result<Json, ErrorCode>,
    ) -> Result<(), String> {
        let found = Self::evaluate_rule(rule, flag_key, subject);
        let same = match (&found, expected) {
            (Ok(found), Ok(expected)) => same_json(found, expected),
            (found, expected) => found == expected,
        };
        if same { Ok(()) } else { Err(format!("{found:?}")) }
    }
}

impl Flag {
    fn from_json(flag: &Json, evaluators: &Map<String, Json>) -> Result<Self, String> {
        let enabled = match flag["state"].as_str() {
            Some("ENABLED") => true,
            Some("DISABLED") => false,
            _ => return Err("state is neither ENABLED nor DISABLED".to_owned()),
        };
        let variants = flag["variants"].as_object().ok_or("variants is no object")?.clone();
        let kinds: Vec<_> = variants.values().map(kind).collect::<Option<_>>().ok_or("null is no variant's value")?;
        if kinds.is_empty() || kinds.iter().any(|kind| *kind != kinds[0]) || variants.contains_key("") {
            return Err("variants must have names and one type".to_owned());
        }
        variants.values().try_for_each(rule::check_numbers)?;
        let default_variant = match &flag["defaultVariant"] {
            Json::Null => None,
            Json::String(name) if name.is_empty() => None,
            Json::String(name) if variants.contains_key(name) => Some(name.clone()),
            _ => return Err("defaultVariant names no variant".to_owned()),
        };
        let targeting = match rule::resolve(&flag["targeting"], evaluators)? {
            Json::Null => None,
            Json::Object(members) if members.is_empty() => None,
            rule => Some(rule),
        };
        if !matches!(flag["metadata"], Json::Null | Json::Object(_)) {
            return Err("metadata is no object".to_owned());
        }
        let metadata = without_nulls(&flag["metadata"]);
        metadata.values().try_for_each(rule::check_numbers)?;
        if metadata.values().any(|value| value.is_array() || value.is_object()) {
            return Err("metadata holds text, numbers and booleans".to_owned());
        }
        Ok(Self { enabled, variants, default_variant, targeting, metadata })
    }
}

fn failed(error_code: ErrorCode, metadata: Map<String, Json>) -> Outcome {
    Outcome { variant: None, value: None, reason: Reason::Error, error_code: Some(error_code), metadata }
}

fn kind(value: &Json) -> Option<Kind> {
    match value {
        Json::Null => None,
        Json::Bool(_) => Some(Kind::Boolean),
        Json::String(_) => Some(Kind::String),
        Json::Number(_) => Some(Kind::Float),
        Json::Array(_) | Json::Object(_) => Some(Kind::Object),
    }
}

fn without_nulls(metadata: &Json) -> Map<String, Json> {
    let members = metadata.as_object().into_iter().flatten();
    members.filter(|(_, value)| !value.is_null()).map(|(name, value)| (name.clone(), value.clone())).collect()
}
