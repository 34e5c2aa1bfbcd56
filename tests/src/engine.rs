//! What an evaluator is asked and what it answers, so that one suite runs on the naive evaluator and on the compiled one.

use std::fmt;
use std::time::SystemTime;

use serde_json::{Map, Value as Json};

/// An evaluator of flag definitions under test.
pub trait Engine: Sized {
    /// Loads one definition (JSON text).
    ///
    /// # Errors
    /// When the document as a whole is refused; a broken flag in it is not an error.
    fn load(definition: &str) -> anyhow::Result<Self>;

    /// Reads `flag_key` as `want` for `subject`; `fallback` is the caller's value.
    fn evaluate(&self, flag_key: &str, subject: &Subject, want: Kind, fallback: &Json) -> Answer;

    /// Whether `rule`, as the targeting of a flag called `flag_key`, evaluates to `expected` for `subject`: to that value (numbers
    /// by value, objects without order), or to that error.
    ///
    /// # Errors
    /// What it evaluates to instead, in words.
    fn check_rule(
        rule: &Json,
        flag_key: &str,
        subject: &Subject,
        expected: &Result<Json, ErrorCode>,
    ) -> Result<(), String>;
}

/// Who is asking, and when.
#[derive(Clone, Debug, Default)]
pub struct Subject {
    /// The targeting key, usually text; `None` and null both mean there is none.
    pub targeting_key: Option<Json>,
    /// The attributes of the evaluation context.
    pub attributes: Map<String, Json>,
    /// The time, which rules see as `$flagd.timestamp`.
    pub unix_seconds: i64,
}

impl Subject {
    /// A subject without targeting key, with the members of `attributes`; none where that is no object.
    #[must_use]
    pub fn with_attributes(attributes: &Json) -> Self {
        Self { attributes: attributes.as_object().cloned().unwrap_or_default(), ..Self::default() }
    }
}

/// The time now, in Unix seconds.
#[must_use]
pub fn unix_seconds() -> i64 {
    let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    since_1970.as_secs().cast_signed()
}

/// As what a flag is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `true` or `false`.
    Boolean,
    /// Text.
    String,
    /// A whole number.
    Integer,
    /// Any number.
    Float,
    /// An object or array.
    Object,
}

/// What a typed read gives.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// The flag's value, or the caller's.
    pub value: Json,
    /// The variant the value belongs to; `None` where the value is the caller's.
    pub variant: Option<String>,
    /// Why this value.
    pub reason: Reason,
    /// What went wrong, with [`Reason::Error`] only.
    pub error_code: Option<ErrorCode>,
    /// The set's metadata overlaid by the flag's.
    pub metadata: Map<String, Json>,
}

/// OpenFeature's reasons, as far as evaluators here give them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The flag has no targeting.
    Static,
    /// The rule named the variant.
    TargetingMatch,
    /// The rule named none, or there is no default variant.
    Default,
    /// The flag is switched off.
    Disabled,
    /// See the error code.
    Error,
}

/// OpenFeature's error codes, as far as evaluators here give them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorCode {
    /// No flag has this key.
    FlagNotFound,
    /// The flag's definition is broken, or its rule gave NaN or infinity.
    ParseError,
    /// The flag's value has another type.
    TypeMismatch,
    /// The rule's result names no variant, or the rule is too much work.
    General,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Static => "STATIC",
            Self::TargetingMatch => "TARGETING_MATCH",
            Self::Default => "DEFAULT",
            Self::Disabled => "DISABLED",
            Self::Error => "ERROR",
        })
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::FlagNotFound => "FLAG_NOT_FOUND",
            Self::ParseError => "PARSE_ERROR",
            Self::TypeMismatch => "TYPE_MISMATCH",
            Self::General => "GENERAL",
        })
    }
}

/// Whether two JSON values are the same: numbers by value (`1` is `1.0`), objects without order.
#[must_use]
pub fn same_json(a: &Json, b: &Json) -> bool {
    match (a, b) {
        (Json::Number(a), Json::Number(b)) => a.as_f64() == b.as_f64(),
        (Json::Array(a), Json::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same_json(a, b)),
        (Json::Object(a), Json::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(name, a)| b.get(name).is_some_and(|b| same_json(a, b)))
        }
        (a, b) => a == b,
    }
}

/// Whether two answers are the same, JSON in them by value.
#[must_use]
pub fn same_answer(a: &Answer, b: &Answer) -> bool {
    let (Answer { value, metadata, .. }, Answer { value: other, metadata: other_metadata, .. }) = (a, b);
    (a.reason, &a.variant, a.error_code) == (b.reason, &b.variant, b.error_code)
        && same_json(value, other)
        && same_json(&Json::Object(metadata.clone()), &Json::Object(other_metadata.clone()))
}
