//! The published conformance suites and our own vectors, run on the compiled evaluator.

mod suites;

use libflags_tests::compiled::Compiled;

#[test]
fn published_scenarios_hold() -> anyhow::Result<()> {
    suites::published_scenarios::<Compiled>()
}

#[test]
fn published_json_logic_table_holds() -> anyhow::Result<()> {
    suites::published_json_logic_table::<Compiled>()
}

#[test]
fn own_rules_hold() -> anyhow::Result<()> {
    suites::own_rules::<Compiled>()
}

#[test]
fn own_flags_hold() -> anyhow::Result<()> {
    suites::own_flags::<Compiled>()
}
