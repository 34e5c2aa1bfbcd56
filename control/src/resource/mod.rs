//! What the API's requests do to the database, each in one transaction.

pub(crate) mod change;
pub(crate) mod clone;
pub(crate) mod environment;
pub(crate) mod flag;
pub(crate) mod log;
mod loss;
pub(crate) mod part;
pub(crate) mod project;
pub(crate) mod rollback;
pub(crate) mod schedule;
pub(crate) mod segment;
mod segment_file;
mod segment_rollback;
pub(crate) mod signing_key;
pub(crate) mod token;
pub(crate) mod transfer;

/// A pattern for texts with this part, whose characters mean themselves.
fn like(part: &str) -> String {
    format!("%{}%", part.replace('!', "!!").replace('%', "!%").replace('_', "!_"))
}
