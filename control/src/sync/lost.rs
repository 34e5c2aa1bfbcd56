//! A database that has lost what it had acknowledged, as a standby has that did not follow synchronously and is promoted: it is behind what hosts have,
//! or has another change by the same number.
//!
//! Hosts take nothing that is older than what they have, so what is written now would not reach them before its numbers do, and a flag that somebody
//! turns off would stay on. A new epoch begins instead: hosts take what there is. What is gone is said in the log, as far as this process still knows it.

use flags_sync::{Change, Stamp, Trust};
use metrics::counter;

use super::live::{Kept, Live};
use crate::problem::Problem;
use crate::resource::{change, environment};
use crate::store::{Store, StoreError, Transaction};

/// How many lost changes are named.
const MOST_NAMED: usize = 100;

/// How many flags of each.
const MOST_FLAGS: usize = 20;

/// Begins a new epoch of an environment whose database is behind what is served here.
///
/// False where it is not: it was a standby that was read, or somebody else has begun one, which the next look finds.
pub(super) async fn go_beyond(store: &Store, live: &Live) -> Result<bool, StoreError> {
    let (id, served, seed) = (live.id, live.stamp(), live.seed());
    let beyond = served.clone();
    let begun = store.write(move |transaction| environment::go_beyond(transaction, id, &beyond, seed));
    let Some((epoch, revision)) =
        begun.await.map_err(|problem: Problem| StoreError::Unavailable(problem.detail().to_owned()))?
    else {
        return Ok(false);
    };
    counter!("flags_control_epochs_begun_total").increment(1);
    let Stamp { environment, .. } = &served;
    tracing::error!(
        environment,
        epoch,
        revision,
        "the database has lost what it had acknowledged, up to revision {}.{}: a new epoch begins, and hosts take what there is",
        served.epoch,
        served.revision
    );
    let kept = live.kept(MOST_NAMED);
    let lost = store.read(move |transaction| not_there(transaction, id, kept)).await?;
    for kept in &lost {
        // From our own database, as it was.
        let Ok(change) = Change::open(kept.text(), environment, &Trust::Transport) else { continue };
        let flags: Vec<&String> = change.flags.keys().chain(&change.removed).take(MOST_FLAGS).collect();
        tracing::error!(environment, revision = change.stamp.revision, ?flags, "lost: a change");
    }
    Ok(true)
}

/// Those changes, the newest first, up to the first that the database has.
fn not_there(transaction: &mut dyn Transaction, id: i64, kept: Vec<Kept>) -> Result<Vec<Kept>, StoreError> {
    let mut lost = Vec::new();
    for kept in kept {
        let is_there = change::texts(transaction, id, kept.after.revision, 1)?.iter().any(|text| text == kept.text());
        if is_there {
            break;
        }
        lost.push(kept);
    }
    Ok(lost)
}
