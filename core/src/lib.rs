//! Feature flags read from shared memory.
//!
//! One direction, one stage at a time: a definition becomes rules, rules become a snapshot, a snapshot is published in a
//! store, a client evaluates it.

// Under `cfg(loom)` there is only what the models check: the store's latch, hazards and lock.
pub(crate) mod atomic;
#[cfg(not(loom))]
mod buffer;
#[cfg(not(loom))]
mod client;
#[cfg(not(loom))]
pub mod compile;
#[cfg(not(loom))]
pub mod definition;
#[cfg(not(loom))]
pub mod error;
#[cfg(not(loom))]
pub mod evaluate;
#[cfg(not(loom))]
pub mod snapshot;
pub mod status;
pub mod store;

#[cfg(not(loom))]
pub use client::{Client, FlagCache, FlagHandle, Pinned};
#[cfg(not(loom))]
pub use error::Error;
#[cfg(not(loom))]
pub use evaluate::{Attributes, Context, Details, ErrorCode, FlagValue, List, Object, Reason, ScalarRef, Value, Want};
#[cfg(not(loom))]
pub use snapshot::{Evaluation, Metadata, Snapshot};
pub use status::{State, Status};
#[cfg(not(loom))]
pub use store::OpenOptions;
