//! Feature flags read from shared memory.
//!
//! One direction, one stage at a time: a definition becomes rules, rules become a snapshot, a snapshot is published in a
//! store, a client evaluates it.

pub mod compile;
pub mod definition;
pub mod evaluate;

pub use evaluate::{Context, Value};
