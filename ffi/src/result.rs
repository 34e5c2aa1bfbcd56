//! What an evaluation answers.

use std::mem::size_of;

use libflags::evaluate::{ErrorCode as CoreError, Reason as CoreReason};
use libflags::{Evaluation, FlagValue};

use crate::value::{Text, Value};

/// Why a flag has the value it has, in OpenFeature's terms. A later library may answer ones that this header does not name.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The flag has no targeting: everybody gets its default variant.
    Static = 1,
    /// Targeting chose no variant, or there is no default variant and the caller's value stands.
    Default = 2,
    /// Targeting chose the variant.
    TargetingMatch = 3,
    /// The flag is disabled; the caller's value stands.
    Disabled = 4,
    /// Something is wrong; the error says what, and the caller's value stands.
    Error = 5,
}

/// What is wrong with an evaluation, in OpenFeature's terms. A later library may answer ones that this header does not name.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorCode {
    /// Nothing.
    None = 0,
    /// No flag has this key.
    FlagNotFound = 1,
    /// The flag's value is not of the type that was asked for.
    TypeMismatch = 2,
    /// The flag's definition is broken, or its rule gave NaN or infinity.
    ParseError = 3,
    /// The rule's result names no variant, or the rule needs more memory or steps than an evaluation may take.
    General = 4,
    /// There is no store yet.
    ProviderNotReady = 5,
    /// The context cannot be read.
    InvalidContext = 6,
}

/// What `flags_evaluate` answers. Set `struct_size` to `sizeof(flags_result)` (`FLAGS_RESULT_INIT` does).
///
/// Texts in it are not NUL-terminated and live in the snapshot: until `flags_snapshot_release()`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct EvaluationResult {
    /// `sizeof(flags_result)`.
    pub struct_size: usize,
    /// The value; its type is `FLAGS_TYPE_NONE` where the caller's own default stands. A number flag asked for as
    /// `FLAGS_TYPE_NONE` is a `FLAGS_TYPE_DOUBLE`.
    pub value: Value,
    /// The name of the variant; `data` is NULL where there is none.
    pub variant: Text,
    /// Why.
    pub reason: Reason,
    /// What is wrong, where `reason` is `FLAGS_REASON_ERROR`; else `FLAGS_ERROR_NONE`.
    pub error: ErrorCode,
}

/// The first version of the struct ended here.
pub(crate) const SMALLEST: usize = size_of::<EvaluationResult>();

impl EvaluationResult {
    /// An answer of the engine.
    pub(crate) fn of(evaluation: &Evaluation<'_>) -> Self {
        Self {
            struct_size: 0,
            value: match evaluation.value {
                None => Value::NONE,
                Some(FlagValue::Bool(value)) => Value::bool(value),
                Some(FlagValue::Int(value)) => Value::int(value),
                Some(FlagValue::Float(value)) => Value::double(value),
                Some(FlagValue::Text(text)) => Value::string(text),
                Some(FlagValue::Json(text)) => Value::json(text),
            },
            variant: evaluation.variant.map_or(Text::NULL, Text::borrowed),
            reason: Reason::of(evaluation.reason),
            error: evaluation.error.map_or(ErrorCode::None, ErrorCode::of),
        }
    }

    /// No value, because of `error`.
    pub(crate) fn wrong(error: ErrorCode) -> Self {
        Self { struct_size: 0, value: Value::NONE, variant: Text::NULL, reason: Reason::Error, error }
    }
}

impl Reason {
    pub(crate) fn of(reason: CoreReason) -> Self {
        match reason {
            CoreReason::Static => Self::Static,
            CoreReason::Default => Self::Default,
            CoreReason::TargetingMatch => Self::TargetingMatch,
            CoreReason::Disabled => Self::Disabled,
            // `Reason` may grow: one that C has no number for yet is the vaguest.
            _ => Self::Error,
        }
    }
}

impl ErrorCode {
    pub(crate) fn of(error: CoreError) -> Self {
        match error {
            CoreError::FlagNotFound => Self::FlagNotFound,
            CoreError::TypeMismatch => Self::TypeMismatch,
            CoreError::ParseError => Self::ParseError,
            CoreError::ProviderNotReady => Self::ProviderNotReady,
            CoreError::InvalidContext => Self::InvalidContext,
            // As above.
            _ => Self::General,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_the_engine() {
        for reason in [
            CoreReason::Static,
            CoreReason::Default,
            CoreReason::TargetingMatch,
            CoreReason::Disabled,
            CoreReason::Error,
        ] {
            assert_eq!(Reason::of(reason) as u8, reason as u8, "{reason:?}");
        }
        for error in [
            CoreError::FlagNotFound,
            CoreError::TypeMismatch,
            CoreError::ParseError,
            CoreError::General,
            CoreError::ProviderNotReady,
            CoreError::InvalidContext,
        ] {
            assert_eq!(ErrorCode::of(error) as u8, error as u8, "{error:?}");
        }
    }
}
