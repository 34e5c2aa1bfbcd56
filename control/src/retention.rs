//! Throws away what of the logs is older than it has to be.

use metrics::counter;

use crate::clock::now_ms;
use crate::config::LogSettings;
use crate::resource::{environment, log};
use crate::store::{Store, StoreError, Transaction};

const DAY_MS: i64 = 24 * 3_600 * 1_000;

/// Of all environments, a part at a time.
///
/// # Errors
/// Where the database can't; it goes on there the next time.
pub(crate) async fn prune(store: &Store, settings: &LogSettings) -> Result<(), StoreError> {
    let Some(days) = settings.keep_days else { return Ok(()) };
    let before_ms = now_ms() - i64::from(days) * DAY_MS;
    let keep = i64::from(settings.keep_changes);
    for id in store.read(environment::ids).await? {
        loop {
            let work = move |transaction: &mut dyn Transaction| log::prune(transaction, id, before_ms, keep);
            let gone = store.write(work).await?;
            if gone == 0 {
                break;
            }
            counter!("flags_control_log_pruned_total").increment(gone);
            tracing::info!(environment = id, changes = gone, "old changes were thrown away");
        }
    }
    Ok(())
}
