//! The control plane as a source: `docs/design/sync.md`.
//!
//! ```text
//! follow ── http: one connection ── events: server-sent events ── state: believe it, then apply it ──► feed ──► set ──► report
//! ```

mod definition;
mod events;
mod feed;
mod follow;
mod http;
mod parts;
mod report;
mod shared;
mod spec;
mod state;
mod tls;
mod touched;

pub(crate) use definition::Definition;
pub(crate) use feed::{Connection, ControlFeed, LinkReport, Taken};
pub(crate) use follow::News;
pub(crate) use report::Published;
pub(crate) use spec::ControlSpec;
pub(crate) use touched::Patch;
#[cfg(test)]
pub(crate) use touched::Touched;
