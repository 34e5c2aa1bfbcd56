//! The control plane as a source: `docs/design/sync.md`.
//!
//! ```text
//! follow ── http: one connection ── events: server-sent events ── state: believe it, then apply it ──► feed ──► set
//! ```

mod events;
mod feed;
mod follow;
mod http;
mod spec;
mod state;

pub(crate) use feed::{Connection, ControlFeed, LinkReport};
pub(crate) use follow::News;
pub(crate) use spec::ControlSpec;
