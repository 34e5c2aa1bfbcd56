//! Values in the middle of a rule: JSON, and the numbers JSON lacks.

use serde_json::Value as Json;

use super::number;

/// A JSON value whose numbers may also be NaN or infinite.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Null,
    Bool(bool),
    Number(f64),
    Text(String),
    List(Vec<Value>),
    Object(Vec<(String, Value)>),
}

impl Value {
    pub(super) fn from_json(json: &Json) -> Self {
        match json {
            Json::Null => Self::Null,
            Json::Bool(value) => Self::Bool(*value),
            Json::Number(value) => Self::Number(value.as_f64().expect("numbers are finite doubles here")),
            Json::String(text) => Self::Text(text.clone()),
            Json::Array(elements) => Self::List(elements.iter().map(Self::from_json).collect()),
            Json::Object(members) => {
                Self::Object(members.iter().map(|(name, value)| (name.clone(), Self::from_json(value))).collect())
            }
        }
    }

    /// As JSON; NaN and infinities, which only lists can still hold here, become null as in `JSON.stringify`.
    pub(super) fn to_json(&self) -> Json {
        match self {
            Self::Null => Json::Null,
            Self::Bool(value) => Json::Bool(*value),
            Self::Number(value) => serde_json::Number::from_f64(*value).map_or(Json::Null, Json::Number),
            Self::Text(text) => Json::String(text.clone()),
            Self::List(elements) => Json::Array(elements.iter().map(Self::to_json).collect()),
            Self::Object(members) => {
                Json::Object(members.iter().map(|(name, value)| (name.clone(), value.to_json())).collect())
            }
        }
    }

    /// True, non-zero non-NaN numbers, non-empty text, non-empty lists, every object.
    pub(super) fn is_truthy(&self) -> bool {
        match self {
            Self::Null => false,
            Self::Bool(value) => *value,
            Self::Number(value) => *value != 0.0 && !value.is_nan(),
            Self::Text(text) => !text.is_empty(),
            Self::List(elements) => !elements.is_empty(),
            Self::Object(_) => true,
        }
    }

    /// JavaScript's `Number()`, with lists and objects NaN.
    pub(super) fn to_number(&self) -> f64 {
        match self {
            Self::Null => 0.0,
            Self::Bool(value) => f64::from(u8::from(*value)),
            Self::Number(value) => *value,
            Self::Text(text) => number::from_text(text),
            Self::List(_) | Self::Object(_) => f64::NAN,
        }
    }

    /// What `+` and `*` read: text by JavaScript's `parseFloat`, null as 0.
    pub(super) fn to_summand(&self) -> f64 {
        match self {
            Self::Null => 0.0,
            Self::Number(value) => *value,
            Self::Text(text) => number::parse_float(text),
            Self::Bool(_) | Self::List(_) | Self::Object(_) => f64::NAN,
        }
    }

    /// What `cat` makes of it.
    pub(super) fn to_text(&self) -> String {
        match self {
            Self::Null => String::new(),
            Self::Bool(value) => value.to_string(),
            Self::Number(value) => number::to_text(*value),
            Self::Text(text) => text.clone(),
            Self::List(elements) => elements.iter().map(Self::to_text).collect::<Vec<_>>().join(","),
            Self::Object(_) => "[object Object]".to_owned(),
        }
    }

    /// `==`.
    pub(super) fn loosely_equals(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Null, Self::Null) => true,
            (Self::Null, _) | (_, Self::Null) => false,
            (Self::Text(a), Self::Text(b)) => a == b,
            (Self::List(_) | Self::Object(_), _) | (_, Self::List(_) | Self::Object(_)) => false,
            (a, b) => a.to_number() == b.to_number(),
        }
    }

    /// `===`.
    pub(super) fn strictly_equals(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Null, Self::Null) => true,
            (Self::Bool(a), Self::Bool(b)) => a == b,
            (Self::Number(a), Self::Number(b)) => a == b,
            (Self::Text(a), Self::Text(b)) => a == b,
            _ => false,
        }
    }

    /// The elements of a list; of anything else none.
    pub(super) fn elements(self) -> Vec<Self> {
        match self {
            Self::List(elements) => elements,
            _ => Vec::new(),
        }
    }

    /// What lies at `segment`: a member of an object, or an element of a list by its index.
    pub(super) fn step(&self, segment: &str) -> Option<&Self> {
        match self {
            Self::Object(members) => members.iter().find(|(name, _)| name == segment).map(|(_, value)| value),
            Self::List(elements) if segment.bytes().all(|byte| byte.is_ascii_digit()) => {
                elements.get(segment.parse::<usize>().ok()?)
            }
            _ => None,
        }
    }
}
