//! The published conformance suites and our own vectors, run on the naive evaluator: it must be right before anything is
//! compared with it.

mod suites;

use libflags_tests::model::Model;

#[test]
fn published_scenarios_hold() -> anyhow::Result<()> {
    suites::published_scenarios::<Model>()
}

#[test]
fn published_json_logic_table_holds() -> anyhow::Result<()> {
    suites::published_json_logic_table::<Model>()
}

#[test]
fn own_rules_hold() -> anyhow::Result<()> {
    suites::own_rules::<Model>()
}

#[test]
fn own_flags_hold() -> anyhow::Result<()> {
    suites::own_flags::<Model>()
}
