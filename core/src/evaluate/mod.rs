//! From rules and a context to a value, a variant and a reason.

mod context;
mod details;
mod value;

pub use context::{Attributes, Context};
pub use details::{Details, ErrorCode, FlagValue, Reason, ScalarRef, Want};
pub use value::{List, ListSource, Object, ObjectSource, Value};
