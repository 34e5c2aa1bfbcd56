//! Commands that work on the database themselves, without a server.

mod lists;
mod restore;
mod transfer;

pub(crate) use restore::Restore;
pub(crate) use transfer::{Export, Import};

use anyhow::Context;

use crate::problem::Problem;
use crate::store::{Location, Store};

/// The database that a command works on, which somebody has made before: one that is made by the way would be an empty one in the wrong place.
///
/// # Errors
/// Where it is not there, or can't be reached, or lacks tables.
pub(crate) async fn open(location: &Location) -> anyhow::Result<Store> {
    must_be_there(location)?;
    let (store, _) = Store::open(location)?;
    must_be_whole(&store.missing_steps().await?)?;
    Ok(store)
}

/// # Errors
/// Where there is no file of SQLite's.
pub(crate) fn must_be_there(location: &Location) -> anyhow::Result<()> {
    let Location::Sqlite(path) = location else { return Ok(()) };
    let at = || format!("the database {}", path.display());
    anyhow::ensure!(
        path.try_exists().with_context(at)?,
        "there is no database {}: name one (--database), or make it with `flags-control init`",
        path.display()
    );
    Ok(())
}

/// # Errors
/// Where steps of the tables are missing.
pub(crate) fn must_be_whole(missing: &[&str]) -> anyhow::Result<()> {
    anyhow::ensure!(
        !missing.contains(&"0001_start"),
        "the database has no tables: `flags-control init` makes them and a first token, `flags-control migrate` the tables alone"
    );
    anyhow::ensure!(missing.is_empty(), "the database lacks {}: run `flags-control migrate`", missing.join(", "));
    Ok(())
}

/// A refusal for people: all that is wrong, each with its place.
fn failed(problem: Problem) -> anyhow::Error {
    let detail = problem.detail().to_owned();
    let faults = problem.faults();
    if faults.len() < 2 {
        return anyhow::anyhow!(detail);
    }
    let lines: Vec<String> = faults.iter().map(|fault| format!("\n  {}: {}", fault.pointer, fault.detail)).collect();
    anyhow::anyhow!("{detail}{}", lines.concat())
}
