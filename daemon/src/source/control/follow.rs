//! The task that follows a control plane.
//!
//! ```text
//! stream, until it ends ──► wait 0 .. 100 ms · 2ⁿ (at most 30 s), not before Retry-After ──► stream
//!                           └─ was there an answer, but no stream: the snapshot every poll_ms meanwhile
//! ```
//!
//! The stream brings what was missed, and the snapshot everything: after an outage the stream is tried before the snapshot is asked for.
//!
//! All in one task and one after the other, so that there is never more than one connection.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use flags_sync::{EventId, Trust};
use hyper::StatusCode;
use hyper::header::{self, HeaderName};
use libflags::definition::Limits;
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep_until};

use super::events::{Events, RawEvent};
use super::feed::{Connection, Link};
use super::http::{Failure, Http, Reached, worth};
use super::parts::{Missing, Parts};
use super::state::{Refusal, State};
use super::touched::{Patch, Touched};
use super::{ControlSpec, Definition};
use crate::clock::unix_ms;
use crate::config::ControlSettings;
use crate::status::Trouble;

/// The first wait is at most this long, each after it at most twice as long as the one before, and none longer than the other.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(30));

/// A stream that was good for so long begins anew with short waits.
const STEADY: Duration = Duration::from_secs(10);

/// What the task tells its set.
#[derive(Debug)]
pub(crate) struct News {
    /// Of which feed.
    pub(crate) id: u64,
    pub(super) link: Link,
    pub(super) update: Option<Update>,
}

/// Another definition.
#[derive(Debug)]
pub(super) struct Update {
    pub(super) definition: Definition,
    /// What leads to it from the one before, where that is a few flags.
    pub(super) patch: Option<Patch>,
    pub(super) deliberate: bool,
    pub(super) changed_ms: Option<u64>,
    /// When the first change in it came.
    pub(super) received: Option<std::time::Instant>,
}

#[derive(Debug)]
pub(super) struct Follower {
    spec: ControlSpec,
    /// What problems call the document.
    name: String,
    id: u64,
    http: Http,
    state: State,
    /// What the set was last given.
    given: Option<EventId>,
    /// What is another since then.
    touched: Touched,
    /// Why the state is no definition that could be given.
    unfit: Option<String>,
    /// When the first change came that was not given yet.
    received: Option<std::time::Instant>,
    /// Changes are missing: the next stream begins with a snapshot.
    gap: bool,
    /// The entity tag of the snapshot that was last taken, and where that was.
    tag: Option<(String, EventId)>,
    poll: Duration,
    idle: Duration,
    limits: Limits,
    link: Link,
    wake: Arc<Notify>,
    parts: Parts,
    /// When it was last heard that the state is current, whether it could be given then or not.
    heard: Option<SystemTime>,
    /// A state that waits for its id lists, and whether what led to it was all deliberate.
    waiting: Option<(EventId, bool)>,
    news: mpsc::Sender<News>,
}

impl Follower {
    #[expect(clippy::too_many_arguments, reason = "what it follows, where from, and whom it tells")]
    pub(super) fn new(
        spec: ControlSpec,
        id: u64,
        saved: Option<Definition>,
        floor: Option<EventId>,
        settings: &ControlSettings,
        limits: &Limits,
        wake: Arc<Notify>,
        parts: Parts,
        news: mpsc::Sender<News>,
    ) -> Self {
        let state = State::new(spec.environment.clone(), spec.trust.clone(), saved, floor);
        Self {
            name: spec.to_string(),
            id,
            http: Http::new(spec.clone()),
            given: state.current().filter(|saved| saved.is_prepared()).and(state.position()),
            touched: state
                .current()
                .filter(|saved| saved.is_prepared())
                .map_or_else(Touched::all, Touched::nothing_since),
            state,
            unfit: None,
            received: None,
            gap: false,
            tag: None,
            poll: Duration::from_millis(settings.poll_ms),
            idle: Duration::from_millis(settings.idle_ms),
            limits: limits.clone(),
            link: Link::default(),
            wake,
            parts,
            heard: None,
            waiting: None,
            news,
            spec,
        }
    }

    /// Follows for as long as somebody listens.
    pub(super) async fn run(mut self) {
        if self.spec.token_file.is_some() && !self.spec.tls && !self.spec.is_loopback() {
            tracing::warn!(source = self.name, "the token travels in the clear: use control+https");
        }
        if self.spec.trust == Trust::Transport {
            tracing::info!(source = self.name, "no key is configured: what the other end says is believed");
        }
        let (mut stream_at, mut poll_at) = (Instant::now(), None::<Instant>);
        let mut wait = BACKOFF.0;
        // Whether the last snapshot that was asked for came; and whether the stream is to be tried before the next one.
        let (mut polls_well, mut stream_first) = (false, true);
        // Whether it was asked already to come back later.
        let mut was_sent_away = false;
        while !self.news.is_closed() {
            let now = Instant::now();
            let poll_is_due = poll_at.is_some_and(|at| now >= at);
            if now >= stream_at || (poll_is_due && stream_first) {
                let (was_had, failure) = self.stream(polls_well).await;
                let ended = Instant::now();
                if was_had && now.elapsed() >= STEADY {
                    wait = BACKOFF.0;
                }
                let not_before = ended + failure.retry_after.unwrap_or_default();
                stream_at = not_before + wait.mul_f64(fastrand::f64());
                wait = (wait * 2).min(BACKOFF.1);
                stream_first = false;
                was_sent_away &= !was_had && failure.reached == Reached::Answer;
                poll_at = match failure.reached {
                    _ if was_had => None,
                    // There would be no snapshot either; and when somebody is there again, what was missed is enough.
                    Reached::Nobody => {
                        stream_at = stream_at.min(ended + self.poll_wait());
                        None
                    }
                    // It is tried once more before the snapshot is asked for.
                    Reached::Silence if poll_at.is_none() => {
                        stream_first = true;
                        Some(ended + self.poll_wait())
                    }
                    Reached::Silence | Reached::Answer => {
                        // So too where it will be ready then: a control plane that has just started.
                        let is_sent_away = failure.retry_after.is_some();
                        stream_first = is_sent_away && !was_sent_away;
                        was_sent_away |= is_sent_away;
                        poll_at.or(Some(ended)).map(|at| at.max(not_before))
                    }
                };
                polls_well &= poll_at.is_some();
                self.failed(&failure, polls_well).await;
            } else if poll_is_due {
                let mut next = self.poll_wait();
                let polled = self.poll().await;
                (polls_well, stream_first) = (polled.is_ok(), polled.is_err());
                if let Err(failure) = polled {
                    if let Some(after) = failure.retry_after {
                        next = next.max(after);
                        stream_at = stream_at.max(Instant::now() + after);
                    }
                    self.failed(&failure, false).await;
                }
                poll_at = Some(Instant::now() + next);
            }
            let next = poll_at.map_or(stream_at, |at| at.min(stream_at));
            tokio::select! {
                () = sleep_until(next) => {}
                () = at(self.retry_at()) => self.give(false, None).await,
                () = self.wake.notified() => {
                    stream_at = Instant::now();
                    poll_at = poll_at.map(|_| stream_at);
                }
            }
        }
    }

    fn poll_wait(&self) -> Duration {
        self.poll.mul_f64(0.8 + 0.4 * fastrand::f64())
    }

    /// Follows the stream until it ends; whether it was to be had, and how it ended.
    async fn stream(&mut self, polling: bool) -> (bool, Failure) {
        let mut had = false;
        let failure = match self.follow_stream(polling, &mut had).await {
            Ok(()) => Failure::new("the stream has ended"),
            Err(failure) => failure,
        };
        // What was applied before it ended is good.
        self.give(false, None).await;
        // With changes missing it can be had, and is begun anew.
        (had || self.gap, failure)
    }

    async fn follow_stream(&mut self, polling: bool, had: &mut bool) -> Result<(), Failure> {
        let mut headers = vec![(header::ACCEPT, "text/event-stream".to_owned())];
        if let Some(at) = self.state.position().filter(|_| !self.gap) {
            headers.push((HeaderName::from_static("last-event-id"), at.to_string()));
        }
        if !polling {
            self.tell(Connection::Connecting).await;
        }
        self.link.connects += 1;
        let mut answer = self.http.get("stream", &headers, &[StatusCode::OK]).await?;
        let kind = answer.header(&header::CONTENT_TYPE).unwrap_or("nothing").to_owned();
        if !kind.starts_with("text/event-stream") {
            return Err(Failure::new(format!("stream answered with {kind}, not with events")));
        }
        let mut events = Events::new(self.event_limit());
        let mut last = Instant::now();
        loop {
            let bytes = tokio::select! {
                bytes = answer.next(last + self.idle + worth(events.pending())) => bytes?,
                () = at(self.retry_at()) => {
                    self.give(false, None).await;
                    continue;
                }
            };
            let Some(bytes) = bytes else { return Ok(()) };
            let received = std::time::Instant::now();
            events.feed(&bytes);
            let mut changed_ms = None;
            while let Some(event) = events.next().map_err(|error| self.refused(error))? {
                if event.kind == "change" {
                    self.received.get_or_insert(received);
                }
                if self.take_event(&event, &mut changed_ms).await? {
                    last = Instant::now();
                    if !std::mem::replace(had, true) {
                        tracing::info!(source = self.name, "the stream is followed");
                    }
                    (self.link.connection, self.link.error) = (Connection::Stream, None);
                }
            }
            if *had {
                self.give(false, changed_ms).await;
            }
        }
    }

    /// Takes one event; whether it is a sign that the stream is good.
    async fn take_event(&mut self, event: &RawEvent, changed_ms: &mut Option<u64>) -> Result<bool, Failure> {
        match event.kind.as_str() {
            "snapshot" => {
                self.take_snapshot(&event.data)?;
                self.gap = false;
                *changed_ms = None;
                self.confirm(Duration::ZERO);
            }
            "change" => {
                let change = match self.state.open_change(&event.data) {
                    Ok(change) => change,
                    Err(refusal @ Refusal::Older { .. }) => {
                        // It does no harm, and what comes after it may be good.
                        let failure = self.refused(refusal);
                        self.note(&failure);
                        return Ok(false);
                    }
                    Err(refusal) => return Err(self.refused(refusal)),
                };
                let (deliberate, time_ms) = (change.deliberate, change.stamp.time_ms);
                if deliberate {
                    // What was not said to be deliberate does not slip through with it.
                    self.give(false, changed_ms.take()).await;
                }
                self.touched.note(&change);
                if let Err(gap) = self.state.apply(change) {
                    self.gap = true;
                    return Err(Failure::new(gap.to_string()));
                }
                changed_ms.get_or_insert(time_ms);
                self.confirm(Duration::ZERO);
                if deliberate {
                    (self.link.connection, self.link.error) = (Connection::Stream, None);
                    self.give(true, changed_ms.take()).await;
                }
            }
            "current" => {
                let there: EventId =
                    event.data.parse().map_err(|_| Failure::new("the stream tells of no revision as current"))?;
                match self.state.position() {
                    Some(here) if here == there => self.confirm(Duration::ZERO),
                    Some(here) if there < here => {
                        let refusal = Refusal::Older { found: there, known: here };
                        return Err(self.refused(refusal));
                    }
                    _ => {
                        self.gap = true;
                        return Err(Failure::new(format!("changes up to revision {there} did not come")));
                    }
                }
            }
            // Of a later version.
            _ => return Ok(false),
        }
        Ok(true)
    }

    async fn poll(&mut self) -> Result<(), Failure> {
        let mut headers = vec![(header::ACCEPT_ENCODING, "gzip".to_owned())];
        let tag = self.tag.take().filter(|(_, at)| Some(*at) == self.state.position());
        if let Some((tag, _)) = &tag {
            headers.push((header::IF_NONE_MATCH, tag.clone()));
        }
        self.link.connects += 1;
        let expected = [StatusCode::OK, StatusCode::NOT_MODIFIED];
        let mut answer = self.http.get("snapshot", &headers, &expected).await?;
        let age = answer.age();
        if answer.status == StatusCode::NOT_MODIFIED {
            if tag.is_none() {
                return Err(Failure::new("snapshot answered 304, which was not asked for"));
            }
            self.tag = tag;
        } else {
            let text = answer.text(self.event_limit(), self.idle).await?;
            self.take_snapshot(&text)?;
            // Only now that it was taken: what was refused is to come again.
            let tag = answer.header(&header::ETAG).map(str::to_owned);
            self.tag = tag.zip(self.state.position());
            self.gap = false;
        }
        drop(answer);
        if self.link.connection != Connection::Polling {
            tracing::info!(source = self.name, "the stream cannot be had; the snapshot is asked for now and then");
        }
        (self.link.connection, self.link.error) = (Connection::Polling, None);
        self.confirm(age);
        self.give(false, None).await;
        Ok(())
    }

    fn take_snapshot(&mut self, text: &str) -> Result<(), Failure> {
        if self.state.take_snapshot(text).map_err(|refusal| self.refused(refusal))? {
            self.touched = Touched::all();
        }
        Ok(())
    }

    /// The definition's own limit, and what its envelope takes.
    fn event_limit(&self) -> usize {
        self.limits.document_bytes.saturating_add(4 << 10)
    }

    /// The other end said `age` ago that the state is current.
    fn confirm(&mut self, age: Duration) {
        self.heard = self.heard.max(SystemTime::now().checked_sub(age));
        if self.state.current().is_some_and(Definition::is_prepared) && self.unfit.is_none() {
            self.link.confirmed = self.link.confirmed.max(self.heard);
        }
    }

    /// When the id lists that the state waits for are to be tried again.
    fn retry_at(&self) -> Option<Instant> {
        self.waiting.and(self.parts.retry_at())
    }

    /// Gives the set the state, if it has another one.
    async fn give(&mut self, deliberate: bool, changed_ms: Option<u64>) {
        let current = self.state.current().filter(|_| self.state.position() != self.given).cloned();
        let mut deliberate = deliberate;
        if let Some(definition) = &current {
            if !definition.is_prepared() && !self.prepare(definition, deliberate).await {
                return;
            }
            if let Some((at, was_deliberate)) = self.waiting.take() {
                deliberate = was_deliberate && (deliberate || at == definition.position());
            }
        }
        let mut update = None;
        let received = self.received.take();
        if let Some(definition) = current {
            self.given = Some(definition.position());
            let patch = self.touched.patch(&definition, &self.name, &self.limits);
            let whole =
                if patch.is_none() { definition.document(&self.name, &self.limits).map(Some) } else { Ok(None) };
            match whole {
                Ok(_) => {
                    self.touched = Touched::nothing_since(&definition);
                    update = Some(Update { definition, patch, deliberate, changed_ms, received });
                    // What was heard while it was not fit counts now.
                    self.link.confirmed = self.link.confirmed.max(self.heard);
                    if let Some(unfit) = self.unfit.take()
                        && self.link.error.as_ref() == Some(&unfit)
                    {
                        self.link.error = None;
                    }
                }
                Err(error) => {
                    self.touched = Touched::all();
                    let failure = self.refused(error);
                    self.note(&failure);
                    self.unfit = Some(failure.message);
                }
            }
        }
        if let Some(unfit) = &self.unfit {
            self.link.error = Some(unfit.clone());
        }
        self.send(update).await;
    }

    /// Gets the id lists of a state. Without them the state before stays in force, for all flags.
    async fn prepare(&mut self, definition: &Definition, deliberate: bool) -> bool {
        self.waits_for(self.parts.missing(definition.lists()));
        self.send(None).await;
        let prepared = self.parts.prepare(definition.lists(), self.limits.list_ids, self.idle).await;
        self.link.list_failures = self.parts.failures();
        match prepared {
            Ok(lists) => {
                self.waits_for(Missing::default());
                definition.set_prepared(lists);
                true
            }
            Err(failure) => {
                self.waits_for(self.parts.missing(definition.lists()));
                let (here, message) = (definition.position(), format!("waits for id lists: {}", failure.message));
                self.waiting = Some(match self.waiting {
                    Some((at, was_deliberate)) => (here, was_deliberate && (deliberate || at == here)),
                    None => (here, deliberate),
                });
                self.note(&Failure::new(message.clone()));
                self.link.error = Some(message.clone());
                self.unfit = Some(message);
                self.send(None).await;
                false
            }
        }
    }

    fn waits_for(&mut self, missing: Missing) {
        (self.link.lists_waiting, self.link.parts_waiting) = (missing.lists, missing.parts);
    }

    /// Counts a text that is not taken.
    fn refused(&mut self, refusal: impl std::fmt::Display) -> Failure {
        self.link.refused += 1;
        Failure::new(format!("refused: {refusal}"))
    }

    fn note(&mut self, failure: &Failure) {
        let message = &failure.message;
        self.link.errors += 1;
        if self.link.last_error.as_ref().is_none_or(|last| last.reason != *message) {
            tracing::warn!(source = self.name, "{message}");
        }
        self.link.last_error = Some(Trouble { reason: message.clone(), since_ms: unix_ms(SystemTime::now()) });
    }

    /// Says what failed; `polls`: only the stream did, and polling goes on.
    async fn failed(&mut self, failure: &Failure, polls: bool) {
        self.note(failure);
        if !polls || self.link.connection != Connection::Polling {
            self.link.error = Some(failure.message.clone());
            self.link.connection = Connection::Waiting;
        }
        self.send(None).await;
    }

    async fn tell(&mut self, connection: Connection) {
        self.link.connection = connection;
        self.send(None).await;
    }

    async fn send(&mut self, update: Option<Update>) {
        // Whoever listened may have gone; the loop ends then.
        let _ = self.news.send(News { id: self.id, link: self.link.clone(), update }).await;
    }
}

/// Waits until then; for ever where there is no such time.
async fn at(when: Option<Instant>) {
    match when {
        Some(when) => sleep_until(when).await,
        None => std::future::pending().await,
    }
}
