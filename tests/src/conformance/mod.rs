//! The published conformance suites, and our own vectors, run on any [`Engine`](crate::engine::Engine).

pub mod files;
pub mod gherkin;
pub mod steps;
pub mod table;
