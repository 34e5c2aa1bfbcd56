//! The naive evaluator: flag definitions interpreted straight from their JSON, as `docs/design/contracts.md` says.
//!
//! It shares no code with the library and is written to be checked by eye: every evaluation walks the JSON tree, copies
//! what it likes and never looks at a clock. Tests compare the compiled evaluator with it.

mod bucket;
mod definition;
mod number;
mod rule;
mod semver;
mod value;

pub use definition::{Model, Outcome};
