//! What people write: parsing and checking flag definition files.
//!
//! A [`Document`] is a file taken apart into [`RawFlag`]s; each is checked on its own by [`Flag::parse`], so that damage
//! stays where it is. What is wrong is a [`Problem`], which says where to the line and what was expected.

mod check;
mod document;
mod error;
pub mod flag;
mod json;
mod limits;
pub mod lists;
mod number;
mod position;
mod problem;
mod selector;
mod targeting;
#[cfg(feature = "yaml")]
mod yaml;

pub use check::{Checked, Evaluators, check};
pub use document::{Document, Format, RawFlag};
pub use error::DefinitionError;
pub use flag::Flag;
pub(crate) use json::Tape;
pub use limits::Limits;
pub use lists::{ListDeclaration, ListError, ListFile, ListFormat, ListNames, PreparedList};
pub use problem::{Problem, Severity};
pub use selector::{Selector, SelectorError, flag_set_id, merged_metadata};

#[cfg(test)]
mod tests;
