//! The tables, in numbered steps up and down.

use super::{StoreError, Transaction};

struct Step {
    name: &'static str,
    up: &'static str,
    down: &'static str,
}

/// The two files of a step in `migrations`.
macro_rules! step {
    ($name:literal) => {
        Step {
            name: $name,
            up: include_str!(concat!("../../migrations/", $name, ".up.sql")),
            down: include_str!(concat!("../../migrations/", $name, ".down.sql")),
        }
    };
}

const STEPS: &[Step] = &[
    step!("0001_start"),
    step!("0002_log"),
    step!("0003_schedule"),
    step!("0004_lost"),
    step!("0005_segments"),
    step!("0006_metadata"),
    step!("0007_mark"),
    step!("0008_life"),
    step!("0009_token"),
    step!("0010_signing_keys"),
];

/// Which way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    /// All steps that are missing.
    Up,
    /// The last one back.
    Down,
}

pub(super) fn migrate(
    transaction: &mut dyn Transaction,
    direction: Direction,
) -> Result<Vec<&'static str>, StoreError> {
    transaction.batch("CREATE TABLE IF NOT EXISTS migration (name TEXT PRIMARY KEY, done_ms BIGINT NOT NULL);")?;
    let done = done(transaction)?;
    match direction {
        Direction::Up => {
            let missing: Vec<&Step> = STEPS.iter().skip(done).collect();
            for step in &missing {
                transaction.batch(step.up)?;
                let values = [step.name.into(), crate::clock::now_ms().into()];
                transaction.execute("INSERT INTO migration (name, done_ms) VALUES ($1, $2)", &values)?;
            }
            Ok(missing.iter().map(|step| step.name).collect())
        }
        Direction::Down => {
            let Some(step) = done.checked_sub(1).and_then(|at| STEPS.get(at)) else { return Ok(Vec::new()) };
            transaction.batch(step.down)?;
            transaction.execute("DELETE FROM migration WHERE name = $1", &[step.name.into()])?;
            Ok(vec![step.name])
        }
    }
}

pub(super) fn missing(transaction: &mut dyn Transaction) -> Result<Vec<&'static str>, StoreError> {
    // A database without the table is one without any step.
    let done = match done(transaction) {
        Ok(done) => done,
        Err(StoreError::Broken(_)) => 0,
        Err(error) => return Err(error),
    };
    Ok(STEPS.iter().skip(done).map(|step| step.name).collect())
}

/// How many steps were done, all of them known and none left out.
fn done(transaction: &mut dyn Transaction) -> Result<usize, StoreError> {
    let rows = transaction.rows("SELECT name FROM migration ORDER BY name", &[])?;
    let mut names = Vec::new();
    for mut row in rows {
        names.push(row.text(0)?);
    }
    for (at, name) in names.iter().enumerate() {
        if STEPS.get(at).is_none_or(|step| step.name != name) {
            let message = format!("the database has the step {name}, which this version does not know");
            return Err(StoreError::Broken(message));
        }
    }
    Ok(names.len())
}
