//! From rules and a context to a value, a variant and a reason.

mod context;
mod value;

pub use context::{Attributes, Context};
pub use value::{List, ListSource, Object, ObjectSource, Value};
