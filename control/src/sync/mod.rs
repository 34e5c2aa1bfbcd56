//! What hosts get: snapshots and streams, out of memory.
//!
//! ```text
//! database ──(news, or a look once a second)──► follow ──► live environments ──► snapshot, streams
//! ```
//!
//! The database is asked when something changed and at the start; with it away, everything here goes on.

mod follow;
mod live;
mod parts;
mod serve;

pub(crate) use follow::{Hub, follow};
pub(crate) use live::Live;
pub(crate) use parts::parts;
pub(crate) use serve::{snapshot, stream};
