//! What flags do in one environment, taken over into another of the same project.

use super::change::{self, Author, Edit, Edits};
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

/// What cloning all flags did.
#[derive(Debug)]
pub(crate) struct Cloned {
    /// The environment's, after it.
    pub(crate) revision: u64,
    /// Keys of flags that were configured otherwise.
    pub(crate) changed: Vec<String>,
    /// Whether the flag set's metadata is something else now.
    pub(crate) metadata: bool,
}

/// Of all flags, as one change; with the flag set's metadata or without it. Where nobody says which, it comes along where there is none
/// yet: what one environment says of itself, such as its flag set's id, is not written over what another does.
pub(crate) fn all(
    transaction: &mut dyn Transaction,
    from: &Environment,
    to: &Environment,
    with_metadata: Option<bool>,
    author: &Author,
) -> Result<Cloned, Problem> {
    let mut edits = Vec::new();
    for source in flag::all_configured(transaction, from.id)? {
        edits.extend(edit(transaction, to, source)?);
    }
    let changed = edits.iter().map(|edit| edit.after.flag.key.clone()).collect();
    let comes = with_metadata.unwrap_or(to.metadata.is_empty()) && from.metadata != to.metadata;
    let edits = Edits { flags: edits, metadata: comes.then(|| from.metadata.clone()), ..Edits::default() };
    let revision = commit(transaction, to, author, "environment.clone", edits)?;
    Ok(Cloned { revision, changed, metadata: comes })
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
    edits: impl Into<Edits>,
) -> Result<u64, Problem> {
    let edits = edits.into();
    if edits.flags.is_empty() && edits.metadata.is_none() {
        Ok(to.revision)
    } else {
        change::commit(transaction, to, author, action, edits)
    }
}
