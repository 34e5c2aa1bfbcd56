//! What a flag set knows of its control plane.

use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use flags_sync::EventId;
use libflags::definition::Limits;
use serde::Serialize;
use tokio::sync::{Notify, mpsc};
use tokio::task::AbortHandle;

use super::follow::{Follower, News, Update};
use super::parts::{self, Parts};
use super::report::{Counts, Published, Reporter};
use super::{ControlSpec, Definition, Patch};
use crate::clock::unix_ms;
use crate::config::ControlSettings;
use crate::source::{Health, SourceReport};
use crate::status::Trouble;

/// One environment of a control plane as a source: what was last taken from it, and how the task that follows it fares.
#[derive(Debug)]
pub(crate) struct ControlFeed {
    spec: ControlSpec,
    /// Tells its task from one that it took the place of.
    id: u64,
    link: Link,
    in_force: Option<Definition>,
    task: Option<(AbortHandle, Arc<Notify>)>,
    reporter: Option<Reporter>,
    reported: Rc<Counts>,
}

/// How the connection is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Connection {
    /// None; the next try is due soon.
    #[default]
    Waiting,
    Connecting,
    /// Changes come as they happen.
    Stream,
    /// The stream can't be had, and the snapshot is asked for every so often.
    Polling,
}

/// What the task tells of itself.
#[derive(Clone, Debug, Default)]
pub(super) struct Link {
    pub(super) connection: Connection,
    /// When it last said that what is in force is current.
    pub(super) confirmed: Option<SystemTime>,
    pub(super) error: Option<String>,
    pub(super) last_error: Option<Trouble>,
    pub(super) errors: u64,
    pub(super) refused: u64,
    pub(super) connects: u64,
    /// What a newer state waits for.
    pub(super) lists_waiting: usize,
    pub(super) parts_waiting: usize,
    pub(super) list_failures: u64,
}

/// The connection as a status shows it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct LinkReport {
    pub(crate) connection: Connection,
    pub(crate) environment: String,
    /// Whether texts are checked against a key.
    pub(crate) signed: bool,
    /// `epoch.revision` of what was last taken.
    pub(crate) position: Option<String>,
    #[serde(skip)]
    pub(crate) revision: u64,
    pub(crate) confirmed_ms: Option<u64>,
    /// Of now or of before.
    pub(crate) last_error: Option<Trouble>,
    /// Texts refused since flagsd started.
    pub(crate) refused: u64,
    /// Connections opened since flagsd started, without those for parts of id lists.
    pub(crate) connects: u64,
    /// How often it was told what is published here.
    pub(crate) reports: u64,
    /// How often it, or the way to it, did not take that.
    pub(crate) reports_dropped: u64,
    /// Id lists that a newer state waits for, and how many parts of them did not come yet.
    pub(crate) lists_waiting: usize,
    pub(crate) parts_waiting: usize,
    /// How often id lists could not be fetched, kept or built since flagsd started.
    pub(crate) list_failures: u64,
}

impl ControlFeed {
    pub(crate) fn new(spec: ControlSpec) -> Self {
        Self {
            spec,
            id: fastrand::u64(..),
            link: Link::default(),
            in_force: None,
            task: None,
            reporter: None,
            reported: Rc::default(),
        }
    }

    pub(crate) fn spec(&self) -> &ControlSpec {
        &self.spec
    }

    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    pub(crate) fn in_force(&self) -> Option<&Definition> {
        self.in_force.as_ref()
    }

    /// Whether it is followed.
    pub(crate) fn is_followed(&self) -> bool {
        self.task.is_some()
    }

    /// Begins to follow the control plane, from what was in force of it before: `saved`. What is older than `floor` is not gone back to.
    ///
    /// Returns whether there was something of use.
    pub(crate) fn follow(
        &mut self,
        saved: Option<Definition>,
        floor: Option<EventId>,
        settings: &ControlSettings,
        limits: &Limits,
        parts: PathBuf,
        news: mpsc::Sender<News>,
    ) -> bool {
        let saved = saved.filter(|saved| saved.stamp().environment == self.spec.environment);
        if let Some(saved) = &saved
            && let Some(lists) = parts::built(&parts, saved.lists())
        {
            saved.set_prepared(lists);
        }
        self.in_force = saved.clone().filter(Definition::is_prepared);
        let parts = Parts::new(parts, self.spec.clone(), self.in_force.as_ref().map(Definition::lists));
        let wake = Arc::new(Notify::new());
        let follower =
            Follower::new(self.spec.clone(), self.id, saved, floor, settings, limits, Arc::clone(&wake), parts, news);
        self.task = Some((tokio::task::spawn_local(follower.run()).abort_handle(), wake));
        self.in_force.is_some()
    }

    /// Does not wait for the next try.
    pub(crate) fn hurry(&self) {
        if let Some((_, wake)) = &self.task {
            wake.notify_one();
        }
    }

    /// Takes what the task tells; whether it is a definition, and whether that may take many flags away.
    pub(crate) fn take(&mut self, news: News) -> Option<Taken> {
        self.link = news.link;
        let Update { definition, patch, deliberate, changed_ms, received } = news.update?;
        self.in_force = Some(definition);
        Some(Taken { patch, deliberate, changed_ms, received })
    }

    /// Lets the control plane know what the flag set has published of it, once it was heard of.
    pub(crate) fn report_back(&mut self, set: &str, published: Published, settings: &ControlSettings) {
        match &self.reporter {
            Some(reporter) => reporter.take(published),
            None if settings.report_ms > 0 && self.link.confirmed.is_some() => {
                let (spec, counts) = (self.spec.clone(), Rc::clone(&self.reported));
                self.reporter = Some(Reporter::start(spec, set, settings, published, counts));
            }
            None => {}
        }
    }

    /// When it last said that what is in force is current, since this flagsd started.
    pub(crate) fn confirmed(&self) -> Option<SystemTime> {
        self.link.confirmed
    }

    /// Whether it can be had, and what it says is in force.
    pub(crate) fn is_healthy(&self) -> bool {
        self.link.confirmed.is_some() && self.link.error.is_none()
    }

    pub(crate) fn report(&self) -> SourceReport {
        let state = match (&self.link.error, self.link.confirmed) {
            (Some(_), _) => Health::Error,
            (None, None) => Health::Missing,
            (None, Some(_)) => Health::Ok,
        };
        let confirmed_ms = self.link.confirmed.map(unix_ms);
        let at = self.in_force.as_ref().map(Definition::position);
        SourceReport {
            source: self.spec.to_string(),
            state,
            error: self.link.error.clone(),
            last_success_ms: confirmed_ms,
            errors: self.link.errors,
            files: Vec::new(),
            control: Some(LinkReport {
                connection: self.link.connection,
                environment: self.spec.environment.clone(),
                signed: self.spec.trust != flags_sync::Trust::Transport,
                position: at.map(|at| at.to_string()),
                revision: at.map_or(0, |at| at.revision),
                confirmed_ms,
                last_error: self.link.last_error.clone(),
                refused: self.link.refused,
                connects: self.link.connects,
                reports: self.reported.sent.get(),
                reports_dropped: self.reported.dropped.get(),
                lists_waiting: self.link.lists_waiting,
                parts_waiting: self.link.parts_waiting,
                list_failures: self.link.list_failures,
            }),
        }
    }
}

/// A definition that was taken.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    /// What leads to it from the one before, where that is a few flags.
    pub(crate) patch: Option<Patch>,
    pub(crate) deliberate: bool,
    /// When the change was made, where it is one; milliseconds since 1970.
    pub(crate) changed_ms: Option<u64>,
    /// When the first change in it came.
    pub(crate) received: Option<Instant>,
}

impl Drop for ControlFeed {
    fn drop(&mut self) {
        if let Some((task, _)) = &self.task {
            task.abort();
        }
    }
}
