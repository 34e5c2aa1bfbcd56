//! The suites that every evaluator must pass.

use std::fs;

use libflags_tests::conformance::table::Report;
use libflags_tests::conformance::{files, gherkin, steps, table};
use libflags_tests::engine::Engine;

/// flagd's evaluator scenarios, but for the bucketing that version 2 replaced.
pub(crate) fn published_scenarios<E: Engine>() -> anyhow::Result<()> {
    let Some(folder) = files::published("flagd's evaluator scenarios") else { return Ok(()) };
    let definition = fs::read_to_string(folder.join("flagd/testkit-flags.json"))?;
    let (mut features, mut run, mut failures) = (0, 0, Vec::new());
    for entry in fs::read_dir(folder.join("flagd/gherkin"))? {
        let path = entry?.path();
        if path.extension().is_none_or(|extension| extension != "feature") {
            continue;
        }
        features += 1;
        let scenarios = gherkin::parse(&fs::read_to_string(&path)?)?;
        for scenario in scenarios.iter().filter(|scenario| !scenario.tags.contains(&"@fractional-v1".to_owned())) {
            run += 1;
            failures.extend(steps::run::<E>(scenario, &definition).err().map(|error| format!("{error:#}")));
        }
    }
    println!("{run} scenarios of {features} features");
    assert!(failures.is_empty(), "{} of {run} failed:\n{}", failures.len(), failures.join("\n"));
    assert!(features >= 11 && run >= 100, "only {run} scenarios of {features} features: the suite is not whole");
    Ok(())
}

/// The table of jsonlogic.com.
pub(crate) fn published_json_logic_table<E: Engine>() -> anyhow::Result<()> {
    let Some(folder) = files::published("the JsonLogic table") else { return Ok(()) };
    let table = fs::read_to_string(folder.join("jsonlogic.json"))?;
    all_hold(&table::run_json_logic::<E>(&table)?, 278);
    Ok(())
}

/// Our own rules.
pub(crate) fn own_rules<E: Engine>() -> anyhow::Result<()> {
    let table = fs::read_to_string(files::own("rules.json"))?;
    all_hold(&table::run_rules::<E>(&table)?, 200);
    Ok(())
}

/// Our own flags.
pub(crate) fn own_flags<E: Engine>() -> anyhow::Result<()> {
    let table = fs::read_to_string(files::own("flags.json"))?;
    all_hold(&table::run_flags::<E>(&table)?, 40);
    Ok(())
}

fn all_hold(report: &Report, fewest: usize) {
    println!("{} cases", report.cases);
    let Report { cases, failures } = report;
    assert!(failures.is_empty(), "{} of {cases} failed:\n{}", failures.len(), failures.join("\n"));
    assert!(*cases >= fewest, "only {cases} cases: the table is not whole");
}
