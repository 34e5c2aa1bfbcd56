//! What an evaluation answers.

use crate::definition::flag::{Scalar, ValueKind};

/// Why a flag has the value it has, as OpenFeature names it.
///
/// The numbers are the C ABI's and are never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
#[non_exhaustive]
pub enum Reason {
    /// The flag has no targeting: everybody gets its default variant.
    Static = 1,
    /// Targeting chose no variant, or there is no default variant and the caller's value stands.
    Default = 2,
    /// Targeting chose the variant.
    TargetingMatch = 3,
    /// The flag is disabled; the caller's value stands.
    Disabled = 4,
    /// Something is wrong; the error code says what and the caller's value stands.
    Error = 5,
}

impl Reason {
    /// OpenFeature's word for it, such as `TARGETING_MATCH`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Static => "STATIC",
            Self::Default => "DEFAULT",
            Self::TargetingMatch => "TARGETING_MATCH",
            Self::Disabled => "DISABLED",
            Self::Error => "ERROR",
        }
    }
}

/// What went wrong, as OpenFeature names it.
///
/// The numbers are the C ABI's and are never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
#[non_exhaustive]
pub enum ErrorCode {
    /// No flag has this key.
    FlagNotFound = 1,
    /// The flag's value is not of the type that was asked for.
    TypeMismatch = 2,
    /// The flag's definition is broken, or its rule gave NaN or infinity.
    ParseError = 3,
    /// The rule's result names no variant, or the rule needs more memory or steps than an evaluation may take.
    General = 4,
    /// No store has been attached yet.
    ProviderNotReady = 5,
    /// The context cannot be read.
    InvalidContext = 6,
}

impl ErrorCode {
    /// OpenFeature's word for it, such as `FLAG_NOT_FOUND`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::FlagNotFound => "FLAG_NOT_FOUND",
            Self::TypeMismatch => "TYPE_MISMATCH",
            Self::ParseError => "PARSE_ERROR",
            Self::General => "GENERAL",
            Self::ProviderNotReady => "PROVIDER_NOT_READY",
            Self::InvalidContext => "INVALID_CONTEXT",
        }
    }
}

/// The type a caller asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Want {
    /// Whatever the flag has.
    Any,
    /// A boolean.
    Bool,
    /// A whole number; a number flag whose value is not whole is a `TYPE_MISMATCH`.
    Int,
    /// A number.
    Float,
    /// Text.
    Text,
    /// An object or array, as JSON text.
    Json,
}

/// A flag's value, borrowed from the snapshot.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum FlagValue<'a> {
    /// A boolean.
    Bool(bool),
    /// A whole number, where one was asked for.
    Int(i64),
    /// A number.
    Float(f64),
    /// Text.
    Text(&'a str),
    /// Compact JSON text of an object or array.
    Json(&'a str),
}

/// A value of metadata, borrowed from the snapshot.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ScalarRef<'a> {
    /// A boolean.
    Bool(bool),
    /// A number.
    Number(f64),
    /// Text.
    Text(&'a str),
}

impl ScalarRef<'_> {
    /// The same, owned.
    #[must_use]
    pub fn to_scalar(self) -> Scalar {
        match self {
            Self::Bool(value) => Scalar::Bool(value),
            Self::Number(value) => Scalar::Number(value),
            Self::Text(value) => Scalar::Text(value.to_owned()),
        }
    }
}

/// An answer that owns what it says. [`Evaluation`](crate::Evaluation) is its borrowed form.
#[derive(Clone, Debug, PartialEq)]
pub struct Details<T> {
    /// The flag's value, or the caller's default.
    pub value: T,
    /// The name of the variant; `None` where the caller's default stands.
    pub variant: Option<String>,
    /// Why.
    pub reason: Reason,
    /// What went wrong, where `reason` is [`Reason::Error`].
    pub error: Option<ErrorCode>,
    /// The flag set's metadata overlaid by the flag's own.
    pub metadata: Vec<(String, Scalar)>,
}

impl FlagValue<'_> {
    /// The type of flag it comes from.
    #[must_use]
    pub const fn kind(&self) -> ValueKind {
        match self {
            Self::Bool(_) => ValueKind::Bool,
            Self::Int(_) | Self::Float(_) => ValueKind::Number,
            Self::Text(_) => ValueKind::Text,
            Self::Json(_) => ValueKind::Json,
        }
    }
}
