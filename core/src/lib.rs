//! Feature flags read from shared memory.
//!
//! One direction, one stage at a time: a definition becomes rules, rules become a snapshot, a snapshot is published in a
//! store, a client evaluates it.

pub(crate) mod atomic;
pub mod compile;
pub mod definition;
pub mod error;
pub mod evaluate;
pub mod snapshot;
pub mod status;
pub mod store;

pub use error::Error;
pub use evaluate::{Context, Value};
pub use status::{State, Status};
