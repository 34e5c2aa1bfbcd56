//! The log as a whole: where it begins, what differs between two revisions, and what is thrown away.

use std::ops::RangeInclusive;

use schemars::JsonSchema;
use serde::Serialize;

use super::change::{self, Entry, EntryFlag, EntryMetadata, integer};
use super::environment::Environment;
use crate::problem::Problem;
use crate::store::{StoreError, Transaction};

/// How many changes are thrown away at once: others write meanwhile.
const AT_ONCE: i64 = 500;

/// # Errors
/// 410 where the log has no longer what has happened since a revision.
pub(crate) fn check_since(environment: &Environment, revision: u64) -> Result<(), Problem> {
    let begins = environment.log_begins;
    if revision.saturating_add(1) < begins { Err(Problem::gone(begins)) } else { Ok(()) }
}

/// What differs between two revisions.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Diff {
    pub(crate) from: u64,
    pub(crate) to: u64,
    pub(crate) flags: Vec<EntryFlag>,
    /// The same of segments; of lists it says how many ids, and what names their content.
    pub(crate) segments: Vec<EntryFlag>,
    /// The same of the flag set's metadata.
    pub(crate) metadata: Option<EntryMetadata>,
}

/// What differs between two revisions, by flag, by segment and of the flag set's metadata; `to` may be the older one.
///
/// # Errors
/// Where there is, or was, no such revision.
pub(crate) fn diff(
    transaction: &mut dyn Transaction,
    environment: &Environment,
    from: u64,
    to: u64,
) -> Result<Diff, Problem> {
    let (older, newer) = (from.min(to), from.max(to));
    if newer > environment.revision {
        let detail = format!("the environment has had {} revisions", environment.revision);
        return Err(Problem::invalid("", detail));
    }
    check_since(environment, older)?;
    let flags = differing(transaction, "flag", environment.id, (from, to))?;
    let segments = differing(transaction, "segment", environment.id, (from, to))?;
    let metadata = |transaction: &mut dyn Transaction, revision| -> Result<_, Problem> {
        let found = change::metadata_as_of(transaction, environment.id, revision)?;
        Ok(found.unwrap_or_else(|| environment.metadata.clone()))
    };
    let metadata = EntryMetadata { before: metadata(transaction, from)?, after: metadata(transaction, to)? };
    let metadata = Some(metadata).filter(|metadata| metadata.before != metadata.after);
    Ok(Diff { from, to, flags, segments, metadata })
}

/// What differs of `kind`: `flag` or `segment`.
fn differing(
    transaction: &mut dyn Transaction,
    kind: &str,
    environment_id: i64,
    (from, to): (u64, u64),
) -> Result<Vec<EntryFlag>, Problem> {
    let (older, newer) = (from.min(to), from.max(to));
    let sql = format!(
        "SELECT oldest.{kind}_key, oldest.before, newest.after FROM \
         (SELECT {kind}_key, MIN(revision) AS low, MAX(revision) AS high FROM change_{kind} \
          WHERE environment_id = $1 AND revision > $2 AND revision <= $3 GROUP BY {kind}_key) AS touched \
         JOIN change_{kind} AS oldest \
           ON oldest.environment_id = $1 AND oldest.revision = low AND oldest.{kind}_key = touched.{kind}_key \
         JOIN change_{kind} AS newest \
           ON newest.environment_id = $1 AND newest.revision = high AND newest.{kind}_key = touched.{kind}_key \
         ORDER BY oldest.{kind}_key"
    );
    let values = [environment_id.into(), integer(older)?.into(), integer(newer)?.into()];
    let mut found = Vec::new();
    for row in transaction.rows(&sql, &values)? {
        let mut entry = change::entry_flag(row)?;
        if from > to {
            std::mem::swap(&mut entry.before, &mut entry.after);
        }
        if entry.before != entry.after {
            found.push(entry);
        }
    }
    Ok(found)
}

/// At most `limit` entries of the log, the oldest first.
pub(crate) fn oldest(
    transaction: &mut dyn Transaction,
    environment_id: i64,
    revisions: &RangeInclusive<u64>,
    limit: i64,
) -> Result<Vec<Entry>, Problem> {
    let condition = "revision >= $2 AND revision <= $3 ORDER BY revision LIMIT $4";
    let (from, to) = (integer(*revisions.start())?, integer(*revisions.end())?);
    change::entries(transaction, environment_id, condition, &[from.into(), to.into(), limit.into()])
}

/// Throws away the oldest changes that were made before a time, at most so many at once, and never the newest `keep`.
///
/// Returns how many: 0 when there is nothing left to do. What is kept goes on without a gap.
pub(crate) fn prune(
    transaction: &mut dyn Transaction,
    environment_id: i64,
    before_ms: i64,
    keep: i64,
) -> Result<u64, StoreError> {
    let locks = transaction.for_update();
    let sql = format!("SELECT revision, log_begins FROM environment WHERE id = $1{locks}");
    let Some(mut row) = transaction.row(&sql, &[environment_id.into()])? else { return Ok(0) };
    let (newest, begins) = (row.integer(0)?, row.integer(1)?);
    // A log is cut where a clock went back, too: the first change that is not old ends it.
    let sql = "SELECT revision, time_ms FROM change WHERE environment_id = $1 AND revision >= $2 AND revision <= $3 \
               ORDER BY revision LIMIT $4";
    let values = [environment_id.into(), begins.into(), newest.saturating_sub(keep).into(), AT_ONCE.into()];
    let mut last = None;
    for mut row in transaction.rows(sql, &values)? {
        let (revision, time_ms) = (row.integer(0)?, row.integer(1)?);
        if time_ms >= before_ms {
            break;
        }
        last = Some(revision);
    }
    let Some(last) = last else { return Ok(0) };
    let values = [environment_id.into(), last.into()];
    let mut forget = |table: &str| {
        transaction.execute(&format!("DELETE FROM {table} WHERE environment_id = $1 AND revision <= $2"), &values)
    };
    forget("change_flag")?;
    forget("change_segment")?;
    let gone = forget("change")?;
    transaction.execute("UPDATE environment SET log_begins = $2 + 1 WHERE id = $1", &values)?;
    Ok(gone)
}
