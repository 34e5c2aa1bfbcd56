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

/// Which projects, or environments of one. Of all, or the one `only`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Filter {
    pub(crate) only: Option<i64>,
    /// Only those whose key comes after this one.
    pub(crate) after: String,
    pub(crate) archived: bool,
    pub(crate) limit: i64,
}

/// A pattern for texts with this part, whose characters mean themselves.
fn like(part: &str) -> String {
    format!("%{}%", part.replace('!', "!!").replace('%', "!%").replace('_', "!_"))
}
