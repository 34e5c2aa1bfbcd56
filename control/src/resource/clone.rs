//! What flags do in one environment, taken over into another of the same project.

use super::change::{self, Author, Edit};
use super::environment::Environment;
use super::flag;
use crate::definition::Configured;
use crate::model::Flag;
use crate::problem::Problem;
use crate::store::Transaction;

/// Of one flag. The caller has locked `to`. Returns the environment's revision.
pub(crate) fn one(
    transaction: &mut dyn Transaction,
    from: &Environment,
    to: &Environment,
    flag: &Flag,
    author: &Author,
) -> Result<u64, Problem> {
    if flag.archived_ms.is_some() {
        return Err(Problem::conflict(format!("the flag {:?} is archived", flag.key)));
    }
    let source = flag::configured(transaction, from.id, &flag.key)?;
    let edits: Vec<Edit> = match source {
        Some(source) => edit(transaction, to, source)?.into_iter().collect(),
        None => Vec::new(),
    };
    commit(transaction, to, author, "flag.clone", edits)
}

/// Of all flags, as one change. Returns the environment's revision, and the flags that were configured otherwise.
pub(crate) fn all(
    transaction: &mut dyn Transaction,
    from: &Environment,
    to: &Environment,
    author: &Author,
) -> Result<(u64, Vec<String>), Problem> {
    let mut edits = Vec::new();
    for source in flag::all_configured(transaction, from.id)? {
        edits.extend(edit(transaction, to, source)?);
    }
    let keys = edits.iter().map(|edit| edit.after.flag.key.clone()).collect();
    Ok((commit(transaction, to, author, "environment.clone", edits)?, keys))
}

/// What gives a flag this configuration; `None` where it has it.
fn edit(transaction: &mut dyn Transaction, to: &Environment, after: Configured) -> Result<Option<Edit>, Problem> {
    let before = change::config(transaction, to.id, after.flag.id)?.map(|(config, _)| config);
    if before.as_ref() == Some(&after.config) {
        return Ok(None);
    }
    let before = before.map(|config| Configured { flag: after.flag.clone(), config });
    Ok(Some(Edit { before, after }))
}

fn commit(
    transaction: &mut dyn Transaction,
    to: &Environment,
    author: &Author,
    action: &str,
    edits: Vec<Edit>,
) -> Result<u64, Problem> {
    if edits.is_empty() { Ok(to.revision) } else { change::commit(transaction, to, author, action, edits) }
}
