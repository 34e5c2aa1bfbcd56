//! Makes scheduled changes when their time has come. Every replica does; who comes second finds it done.

use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use metrics::counter;
use tokio::time::sleep;

use crate::app::App;
use crate::clock::now_ms;
use crate::problem::Problem;
use crate::resource::schedule::{self, Due};
use crate::store::{Store, StoreError, Transaction};

/// How often the database is looked at for what others have scheduled. The clock is read anew each time, so it may jump.
const LOOK: Duration = Duration::from_secs(1);

/// How many are fired between two looks.
const AT_ONCE: i64 = 100;

/// Until the process stops.
pub(crate) async fn run(app: Arc<App>) {
    let mut stopping = app.stopping.subscribe();
    loop {
        let wait = match turn(&app.store).await {
            Ok(next) => until(next),
            Err(error) => {
                tracing::debug!("{error}");
                LOOK
            }
        };
        tokio::select! {
            () = sleep(wait) => {}
            _ = stopping.changed() => return,
        }
    }
}

/// Till the next one's time, if that comes before the next look.
fn until(next_at_ms: Option<i64>) -> Duration {
    let left = next_at_ms.map_or(i64::MAX, |at| at.saturating_sub(now_ms()));
    Duration::from_millis(u64::try_from(left).unwrap_or(0).max(1)).min(LOOK)
}

/// Fires all whose time has come; when the next one's does.
async fn turn(store: &Store) -> Result<Option<i64>, StoreError> {
    loop {
        let now = now_ms();
        let due = store.read(move |transaction| schedule::due(transaction, now, AT_ONCE)).await?;
        if due.is_empty() {
            return store.read(schedule::next_at_ms).await;
        }
        for due in due {
            fire(store, due).await?;
        }
    }
}

async fn fire(store: &Store, due: Due) -> Result<(), StoreError> {
    match store.write(move |transaction| schedule::fire(transaction, due, now_ms())).await {
        Ok(Some(revision)) => {
            counter!("flags_control_schedules_total", "outcome" => "done").increment(1);
            tracing::info!(schedule = due.id, revision, "a scheduled change was made");
            Ok(())
        }
        Ok(None) => Ok(()),
        // The database is away: its time comes again.
        Err(problem) if problem.status() == StatusCode::SERVICE_UNAVAILABLE => {
            Err(StoreError::Unavailable(problem.detail().to_owned()))
        }
        Err(problem) => fail(store, due, &problem).await,
    }
}

async fn fail(store: &Store, due: Due, problem: &Problem) -> Result<(), StoreError> {
    let (document, detail) = (problem.document(), problem.detail().to_owned());
    let work = move |transaction: &mut dyn Transaction| schedule::fail(transaction, due, &document, now_ms());
    if store.write(work).await? {
        counter!("flags_control_schedules_total", "outcome" => "failed").increment(1);
        tracing::warn!(schedule = due.id, "a scheduled change could not be made: {detail}");
    }
    Ok(())
}
