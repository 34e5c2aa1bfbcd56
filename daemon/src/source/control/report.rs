//! Tells the control plane what was published here, so that people see there how far a change has come.
//!
//! ```text
//! published ──► wait 0 .. report_ms, since all hosts publish at once ──► POST …/report   (what was published meanwhile is told instead)
//!     └─ nothing new for 5 min: the same again
//! ```
//!
//! A connection of its own, for as long as it takes. Nothing waits for it: what cannot be told is counted and forgotten.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use flags_sync::EventId;
use hyper::StatusCode;
use serde::Serialize;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, sleep_until};

use super::ControlSpec;
use super::http::{Failure, Http};
use crate::config::ControlSettings;
use crate::status::SetState;

/// The same is told again after this long, give or take a fifth: who has gone quiet is told from who has nothing new.
const AGAIN: Duration = Duration::from_secs(300);

/// A server that takes no reports is not asked again for so long.
const NO_TAKER: Duration = Duration::from_secs(3_600);

/// What is published of a control plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Published {
    pub(crate) position: EventId,
    /// Nanoseconds since 1970.
    pub(crate) at_ns: u64,
    /// When the first change was made that led to it, where changes did.
    pub(crate) changed_ms: Option<u64>,
    pub(crate) state: SetState,
}

/// How reporting fares.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) sent: Cell<u64>,
    /// Not taken by anybody.
    pub(super) dropped: Cell<u64>,
}

/// A task that tells it; dropped, it ends.
#[derive(Debug)]
pub(super) struct Reporter {
    newest: watch::Sender<Published>,
    task: AbortHandle,
}

/// As it stands in a report.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Report<'r> {
    host: &'r str,
    set: &'r str,
    epoch: u64,
    revision: u64,
    published_ns: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    changed_ms: Option<u64>,
    state: SetState,
    version: &'static str,
}

impl Reporter {
    /// Begins to report, with what is published now. `settings.report_ms` is not 0.
    pub(super) fn start(
        spec: ControlSpec,
        set: &str,
        settings: &ControlSettings,
        first: Published,
        counts: Rc<Counts>,
    ) -> Self {
        let (newest, news) = watch::channel(first);
        let task = Task {
            source: spec.to_string(),
            http: Http::new(spec),
            host: settings.host_name(),
            set: set.to_owned(),
            interval: Duration::from_millis(settings.report_ms),
            news,
            counts,
        };
        Self { newest, task: tokio::task::spawn_local(task.run()).abort_handle() }
    }

    /// Takes what is published now. When it was first published counts, whatever was written since.
    pub(super) fn take(&self, now: Published) {
        self.newest.send_if_modified(|newest| {
            let is_news = newest.position != now.position;
            if is_news {
                *newest = now;
            }
            newest.state = now.state;
            is_news
        });
    }
}

impl Drop for Reporter {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Task {
    source: String,
    http: Http,
    host: String,
    set: String,
    interval: Duration,
    news: watch::Receiver<Published>,
    counts: Rc<Counts>,
}

impl Task {
    async fn run(mut self) {
        let mut not_before = Instant::now();
        let mut is_known_to_take_none = false;
        let mut told = None;
        loop {
            let due = Instant::now() + self.interval.mul_f64(fastrand::f64());
            sleep_until(due.max(not_before)).await;
            not_before = Instant::now() + self.interval;
            let mut published = *self.news.borrow_and_update();
            if told == Some(published.position) {
                // How long it took is told once.
                published.changed_ms = None;
            }
            match self.tell(published).await {
                Ok(()) => {
                    self.counts.sent.set(self.counts.sent.get() + 1);
                    (told, is_known_to_take_none) = (Some(published.position), false);
                }
                Err(failure) => {
                    self.counts.dropped.set(self.counts.dropped.get() + 1);
                    not_before += failure.retry_after.unwrap_or_default();
                    if takes_none(&failure) {
                        not_before = Instant::now() + NO_TAKER.mul_f64(0.8 + 0.4 * fastrand::f64());
                        if !std::mem::replace(&mut is_known_to_take_none, true) {
                            let (source, answer) = (self.source.as_str(), failure.message.as_str());
                            tracing::info!(source, answer, "nobody there takes reports; none is sent for an hour");
                        }
                    }
                }
            }
            tokio::select! {
                news = self.news.changed() => if news.is_err() {
                    return;
                },
                () = sleep(AGAIN.mul_f64(0.8 + 0.4 * fastrand::f64())) => {}
            }
        }
    }

    async fn tell(&mut self, published: Published) -> Result<(), Failure> {
        let Published { position, at_ns, changed_ms, state } = published;
        let report = Report {
            host: &self.host,
            set: &self.set,
            epoch: position.epoch,
            revision: position.revision,
            published_ns: at_ns,
            changed_ms,
            state,
            version: env!("CARGO_PKG_VERSION"),
        };
        let body = serde_json::to_vec(&report).map_err(|error| Failure::new(error.to_string()))?;
        self.http.post("report", body).await
    }
}

/// Whether the other end is no control plane, but a cache or a server of files, or one that is too old.
fn takes_none(failure: &Failure) -> bool {
    let statuses = [StatusCode::NOT_FOUND, StatusCode::METHOD_NOT_ALLOWED, StatusCode::NOT_IMPLEMENTED];
    failure.status.is_some_and(|status| statuses.contains(&status))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn published(revision: u64, at_ns: u64) -> Published {
        let position = EventId { epoch: 1, revision };
        Published { position, at_ns, changed_ms: None, state: SetState::Fresh }
    }

    #[test]
    fn only_another_revision_is_news() {
        let (newest, mut news) = watch::channel(published(1, 10));
        let task = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let task = task.spawn(async {}).abort_handle();
        let reporter = Reporter { newest, task };
        reporter.take(Published { state: SetState::Frozen, ..published(1, 20) });
        assert!(!news.has_changed().expect("is there"));
        assert_eq!(*news.borrow(), Published { state: SetState::Frozen, ..published(1, 10) });
        reporter.take(published(2, 30));
        assert!(news.has_changed().expect("is there"));
        assert_eq!(*news.borrow_and_update(), published(2, 30));
    }
}
