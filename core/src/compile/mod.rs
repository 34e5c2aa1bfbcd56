//! From definitions to snapshot bytes.

mod compiler;
mod emit;
mod expression;
mod fold;
mod image;
mod known;
mod read;
pub mod rule;
mod steps;

pub use compiler::{BrokenFlag, Compilation, CompiledList, Compiler, Patch};
pub use expression::Expression;
