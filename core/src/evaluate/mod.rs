//! From rules and a context to a value, a variant and a reason.

pub(crate) mod bucket;
mod context;
mod details;
mod json;
pub(crate) mod number;
pub(crate) mod operator;
pub(crate) mod rule;
pub(crate) mod scratch;
mod semver;
pub(crate) mod steps;
pub(crate) mod value;

pub use context::{Attributes, Context};
pub use details::{Details, ErrorCode, FlagValue, Reason, ScalarRef, Want};
pub use value::{List, ListSource, Object, ObjectSource, Value};
