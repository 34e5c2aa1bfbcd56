//! Commands that work on the database themselves, without a server.

mod lists;
mod restore;
mod transfer;

pub(crate) use restore::Restore;
pub(crate) use transfer::{Export, Import};

use crate::problem::Problem;

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
