//! What spans crates, processes and languages is tested here.
//!
//! This library is the common ground of those tests: a naive evaluator to compare the compiled one with, runners for the
//! published conformance suites, and generators of definitions and contexts.

pub mod compiled;
pub mod conformance;
pub mod engine;
pub mod fuzz;
pub mod golden;
pub mod languages;
pub mod model;
pub mod numbered;
pub mod processes;
pub mod soak;
pub mod strategy;
