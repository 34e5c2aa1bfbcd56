//! What hosts get: snapshots and streams, out of memory. And what they say they made of it.
//!
//! ```text
//! database ──(news, or a look once a second)──► follow ──► live environments ──► snapshot, streams
//!          ──(a part, when a host first asks for it)──► part cache ──► parts
//! ```
//!
//! The database is asked when something changed and at the start; with it away, everything here goes on.

mod follow;
mod hosts;
mod live;
mod lost;
mod part_cache;
mod parts;
mod report;
mod serve;

pub(crate) use follow::{Hub, follow};
pub(crate) use hosts::{HostView, Report};
pub(crate) use live::Live;
pub(crate) use part_cache::PartCache;
pub(crate) use parts::parts;
pub(crate) use report::report;
pub(crate) use serve::{snapshot, stream};
