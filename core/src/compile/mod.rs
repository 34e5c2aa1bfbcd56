//! From definitions to snapshot bytes.

mod emit;
mod expression;
mod fold;
pub mod rule;

pub use expression::Expression;
