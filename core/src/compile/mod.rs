//! From definitions to snapshot bytes.

pub mod rule;
