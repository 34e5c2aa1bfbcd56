//! From definitions to snapshot bytes.

mod compiler;
mod emit;
mod expression;
mod fold;
pub mod rule;

pub use compiler::{BrokenFlag, Compilation, CompiledList, Compiler};
pub use expression::Expression;
