//! The library itself as an [`Engine`]: definitions compiled, snapshots evaluated, all through the public API.

use libflags::definition::Format;
use libflags::evaluate::{Attributes, FlagValue, Want};
use libflags::snapshot::{Evaluation, Metadata};
use libflags::{Client, Value};
use serde_json::{Map, Value as Json, json};

use crate::engine::{Answer, Engine, ErrorCode, Kind, Reason, Subject};

/// A definition compiled in this process.
#[derive(Debug)]
pub struct Compiled {
    client: Client,
}

/// A subject as the library asks it: for the attributes that a rule names.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a>(pub &'a Subject);

impl Attributes for Asked<'_> {
    fn targeting_key(&self) -> Option<Value<'_>> {
        self.0.targeting_key.as_ref().map(Value::from)
    }

    fn attribute(&self, name: &[u8]) -> Option<Value<'_>> {
        self.0.attributes.get(std::str::from_utf8(name).ok()?).map(Value::from)
    }
}

impl Compiled {
    /// The client that reads it.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }
}

impl Engine for Compiled {
    fn load(definition: &str) -> anyhow::Result<Self> {
        Ok(Self { client: Client::from_definition(definition, Format::Json)? })
    }

    fn evaluate(&self, flag_key: &str, subject: &Subject, want: Kind, fallback: &Json) -> Answer {
        let want = match want {
            Kind::Boolean => Want::Bool,
            Kind::String => Want::Text,
            Kind::Integer => Want::Int,
            Kind::Float => Want::Float,
            Kind::Object => Want::Json,
        };
        answer(&self.client.snapshot().evaluate(flag_key.as_bytes(), want, &Asked(subject)), fallback)
    }

    /// Two flags stand for the rule: one has it as its targeting, so that its result chooses a variant; in the other a
    /// comparison looks into the result, which may be a list or an object.
    fn check_rule(
        rule: &Json,
        flag_key: &str,
        subject: &Subject,
        expected: &Result<Json, ErrorCode>,
    ) -> Result<(), String> {
        let name = match expected {
            Ok(Json::String(name)) => Some(name.clone()),
            Ok(value @ (Json::Bool(_) | Json::Number(_))) => {
                let rule = json!({"cat": [literal(value)]});
                Some(
                    crate::model::Model::evaluate_rule(&rule, "", &Subject::default())
                        .map_or(String::new(), |text| text.as_str().unwrap_or_default().to_owned()),
                )
            }
            _ => None,
        };
        let direct = read_text(rule, flag_key, subject, name.as_deref().filter(|name| !name.is_empty()));
        let wanted = match (expected, name.as_deref()) {
            (Err(code), _) => (Reason::Error, None, Some(*code)),
            (Ok(Json::Null), _) => (Reason::Default, None, None),
            // No variant can be called that, or be named by that.
            (Ok(_), None | Some("")) => (Reason::Error, None, Some(ErrorCode::General)),
            (Ok(_), name) => (Reason::TargetingMatch, name.map(str::to_owned), None),
        };
        if (direct.reason, direct.variant.clone(), direct.error_code) != wanted {
            return Err(format!("{direct:?}"));
        }
        if let Ok(value) = expected {
            let comparison = json!({"some": [[rule], {"and": comparisons(value, "")}]});
            let compared = read_text(&comparison, flag_key, subject, Some("true"));
            if compared.variant.as_deref() != Some("true") {
                return Err(format!("another value: of {comparison} {compared:?}"));
            }
        }
        Ok(())
    }
}

/// An evaluation as an answer to a caller with this fallback.
#[must_use]
pub fn answer(evaluation: &Evaluation<'_>, fallback: &Json) -> Answer {
    use libflags::evaluate::{ErrorCode as Code, Reason as Why};
    let value = match evaluation.value {
        None => fallback.clone(),
        Some(FlagValue::Bool(value)) => json!(value),
        Some(FlagValue::Int(value)) => json!(value),
        Some(FlagValue::Float(value)) => json!(value),
        Some(FlagValue::Text(text)) => json!(text),
        Some(FlagValue::Json(text)) => serde_json::from_str(text).expect("an object's text is JSON"),
    };
    Answer {
        value,
        variant: evaluation.variant.map(str::to_owned),
        reason: match evaluation.reason {
            Why::Static => Reason::Static,
            Why::TargetingMatch => Reason::TargetingMatch,
            Why::Default => Reason::Default,
            Why::Disabled => Reason::Disabled,
            Why::Error => Reason::Error,
            other => panic!("{other:?} is no reason of an evaluation"),
        },
        error_code: evaluation.error.map(|code| match code {
            Code::FlagNotFound => ErrorCode::FlagNotFound,
            Code::ParseError => ErrorCode::ParseError,
            Code::TypeMismatch => ErrorCode::TypeMismatch,
            Code::General => ErrorCode::General,
            other => panic!("{other:?} is no error of an evaluation in process"),
        }),
        metadata: metadata(&evaluation.metadata),
    }
}

fn metadata(metadata: &Metadata<'_>) -> Map<String, Json> {
    use libflags::evaluate::ScalarRef;
    let value = |value| match value {
        ScalarRef::Bool(value) => json!(value),
        ScalarRef::Number(number) => json!(number),
        ScalarRef::Text(text) => json!(text),
    };
    metadata.iter().map(|(name, scalar)| (name.to_owned(), value(scalar))).collect()
}

/// Reads a flag whose targeting is `rule`, and that has one variant besides a plain one.
fn read_text(rule: &Json, flag_key: &str, subject: &Subject, variant: Option<&str>) -> Answer {
    let mut variants = Map::from_iter([("some other variant".to_owned(), json!("x"))]);
    variants.extend(variant.map(|name| (name.to_owned(), json!("y"))));
    let definition = json!({"flags": {flag_key: {"state": "ENABLED", "variants": variants, "targeting": rule}}});
    let engine = Compiled::load(&definition.to_string()).expect("a document with a flag is never refused whole");
    engine.evaluate(flag_key, subject, Kind::String, &Json::Null)
}

/// Rules that all hold where what lies at `path` is `expected`; objects may have more members.
fn comparisons(expected: &Json, path: &str) -> Vec<Json> {
    let at = |more: &str| {
        if path.is_empty() || more.is_empty() { format!("{path}{more}") } else { format!("{path}.{more}") }
    };
    let found = json!({"var": [path, ABSENT]});
    let is_filled_list = json!({"some": [found, true]});
    match expected {
        Json::Null | Json::Bool(_) | Json::String(_) | Json::Number(_) => {
            vec![json!({"===": [found, literal(expected)]})]
        }
        Json::Array(elements) if elements.is_empty() => {
            let mut empty = vec![json!({"!": [found]})];
            empty.extend([json!(null), json!(false), json!(0), json!("")].map(|other| json!({"!==": [found, other]})));
            empty
        }
        Json::Array(elements) => {
            let past = json!({"===": [{"var": [at(&elements.len().to_string()), ABSENT]}, ABSENT]});
            let each =
                elements.iter().enumerate().flat_map(|(index, element)| comparisons(element, &at(&index.to_string())));
            [is_filled_list, past].into_iter().chain(each).collect()
        }
        Json::Object(members) => {
            let is_object = json!({"===": [{"cat": [found]}, "[object Object]"]});
            let each = members.iter().flat_map(|(name, member)| comparisons(member, &at(name)));
            [is_object, json!({"!": is_filled_list})].into_iter().chain(each).collect()
        }
    }
}

const ABSENT: &str = "nothing is here";

/// A rule that gives `value`. A number that a definition can't hold is computed by a shift, which is exact.
fn literal(value: &Json) -> Json {
    match value.as_f64() {
        Some(number) if number.abs() >= SHIFT => json!({"*": [number / SHIFT, SHIFT]}),
        _ => value.clone(),
    }
}

const SHIFT: f64 = 4_503_599_627_370_496.0; // 2^52

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::same_json;

    #[test]
    fn a_wrong_expectation_is_noticed() {
        let check = |rule: Json, expected: Json| {
            Compiled::check_rule(&rule, "flag", &Subject::with_attributes(&json!({"x": {"a": 1}})), &Ok(expected))
        };
        let values = [
            json!(null),
            json!(true),
            json!(false),
            json!(0),
            json!(1),
            json!(1.5),
            json!(""),
            json!("1"),
            json!("a"),
            json!([]),
            json!([1]),
            json!([1, 2]),
            json!([[1]]),
            json!([null]),
            json!(["1"]),
            json!([[]]),
        ];
        for rule in &values {
            for expected in &values {
                let checked = check(rule.clone(), expected.clone());
                assert_eq!(checked.is_ok(), same_json(rule, expected), "{rule} as {expected}: {checked:?}");
            }
        }
        assert_eq!(check(json!({"var": "x"}), json!({"a": 1})), Ok(()));
        for wrong in [json!({"a": 2}), json!({"b": 1}), json!([]), json!("[object Object]"), json!(null)] {
            assert!(check(json!({"var": "x"}), wrong.clone()).is_err(), "{wrong}");
        }
        assert_eq!(check(json!({"*": [1e15, 1e5]}), json!(1e20)), Ok(()));
        assert!(check(json!({"*": [1e15, 1e5]}), json!(1.000_000_000_000_000_2e20)).is_err());
    }
}
