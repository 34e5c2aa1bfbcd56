//! One flag set from documents to readers.
//!
//! ```text
//! offer(documents)
//!   frozen                    -> wait for unfreeze
//!   compile (with overrides)  -> cannot: refused
//!   guard: read back, ask     -> cannot: refused
//!          blast radius       -> too much goes: held, until confirmed or other documents come
//!   publish                   -> cannot: tried again later
//!   keep                      -> cannot: said in the status, nothing else
//! ```
//!
//! Whatever stops on the way, what was published stays so.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use axum::http::StatusCode;
use flags_sync::EventId;
use libflags::compile::{self, Compilation, CompiledList, Compiler};
use libflags::definition::lists::{self, ListDeclaration};
use libflags::definition::{Document, Limits, Problem, Selector};
use libflags::snapshot::{Snapshot, list_file};
use libflags::store::{
    Generation, Payload, PublishMeta, Publisher, PublisherOptions, Region, SegmentFile, StoreDir, WriterState,
};
use serde_json::{Value, json};
use xxhash_rust::xxh3::xxh3_64;

use crate::admin::{Command, Refusal};
use crate::clock::{now_ns, unix_ms};
use crate::config::{Config, GuardSettings, LimitSettings, SetConfig};
use crate::guard::{self, Loss, Summary};
use crate::input::Input;
use crate::keep::{Frozen, FrozenBy, Keep, KeepError, Kept, Operator, Override};
use crate::metrics::Counters;
use crate::overrides;
use crate::problems;
use crate::source::{ControlSpec, Patch, Published, SourceReport, SourceSpec};
use crate::status::{BrokenFlag, HeldChange, MOST_SHOWN, OverrideReport, SetState, SetStatus, Trouble};
use crate::texts::Texts;

/// What the sources say now.
#[derive(Debug)]
pub(crate) struct Offer {
    pub(crate) inputs: Vec<Input>,
    /// What led to one of them, where that is a few flags.
    pub(crate) patch: Option<Patch>,
    /// The control plane says that somebody has confirmed what this takes away.
    pub(crate) deliberate: bool,
    /// Since when it is known to be what they say, nanoseconds since 1970; 0 for unknown.
    pub(crate) confirmed_ns: u64,
    /// When the change was made that led to it, where one did; milliseconds since 1970.
    pub(crate) changed_ms: Option<u64>,
    /// When flagsd learned of it, where it is a change of a control plane.
    pub(crate) received: Option<Instant>,
}

/// Why a set cannot be started.
#[derive(Debug)]
pub(crate) enum StartError {
    /// Another flagsd has the store or the state directory.
    AlreadyRunning(String),
    /// The store cannot be written.
    Store(libflags::Error),
}

/// One flag set from documents to readers.
pub(crate) struct Pipeline {
    set: SetConfig,
    guard: GuardSettings,
    limits: Limits,
    max_age: Duration,
    compiler: Compiler,
    publisher: Publisher,
    keep: Option<Keep>,
    kept: Vec<Kept>,
    /// What the state directory has of the texts that are in force.
    texts: Texts,
    operator: Operator,
    /// What the sources say.
    offered: Vec<Input>,
    /// Since when the sources are known to say so.
    offered_confirmed_ns: u64,
    /// When the change was made that is not published yet.
    changed_ms: Option<u64>,
    /// When flagsd learned of it.
    received: Option<Instant>,
    /// When the change was made that led to what is published, where one did.
    published_change_ms: Option<u64>,
    /// What the compiler was last given, where that is known, and no override with it.
    compiled: Option<Vec<Input>>,
    /// What the published content was made from, where that is known.
    applied: Option<Vec<Input>>,
    served: Option<Served>,
    /// Keys of the flags that may be compiled otherwise by now than they are served; `None`: any may.
    unserved: Option<BTreeSet<String>>,
    confirmed_ns: u64,
    problems: Vec<Problem>,
    broken: Vec<BrokenFlag>,
    override_errors: BTreeMap<String, String>,
    refused: Option<Trouble>,
    held: Option<HeldChange>,
    publish_error: Option<Trouble>,
    keep_error: Option<Trouble>,
    /// What the state directory lacks of what it should hold, and why.
    unkept: BTreeMap<Part, String>,
    changes_waiting: bool,
    retry: Option<Retry>,
    /// When what is unkept is tried again.
    keep_retry: Option<Backoff>,
    state: SetState,
    counters: Counters,
}

/// What the state directory holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Operator,
    Generation,
    Texts,
}

/// What readers see.
#[derive(Clone, Debug)]
struct Served {
    summary: Summary,
    lists: BTreeSet<u64>,
}

#[derive(Clone, Copy, Debug)]
struct Retry {
    backoff: Backoff,
    deliberate: bool,
}

/// When something that failed is tried again.
#[derive(Clone, Copy, Debug)]
struct Backoff {
    at: Instant,
    wait: Duration,
}

impl Backoff {
    /// Twice as long as after the failure before it.
    fn after(before: Option<Backoff>) -> Self {
        let wait = before.map_or(RETRY.0, |before| (before.wait * 2).min(RETRY.1));
        Self { at: Instant::now() + wait, wait }
    }
}

/// Why documents did not become a generation.
enum Stopped {
    Refused(String),
    Held(Box<HeldChange>),
    NotPublished(String),
}

/// How long after a failed write the next one is tried, at first and at most.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

impl Pipeline {
    /// Takes the store and, where nothing is published in it, publishes the last generation that is known. No source is
    /// asked anything.
    ///
    /// # Errors
    ///
    /// Where another flagsd is at work, or the store cannot be written. Without a state directory it works, and warns.
    pub(crate) fn start(config: &Config, set: &SetConfig) -> Result<Self, StartError> {
        let (keep, keep_error) = open_keep(config, set)?;
        let floor = Generation(keep.as_ref().map_or(0, Keep::newest));
        let mut options = PublisherOptions::default();
        options.generation_floor = floor;
        let publisher = Publisher::open(&set.store, &options).map_err(|error| match error {
            libflags::Error::Locked { .. } => StartError::AlreadyRunning(error.to_string()),
            error => StartError::Store(error),
        })?;
        let limits = limits(&config.limits);
        let mut pipeline = Self {
            set: set.clone(),
            guard: config.guard.clone(),
            max_age: config.max_age,
            compiler: Compiler::new(limits.clone()),
            limits,
            operator: keep.as_ref().map(Keep::operator).unwrap_or_default(),
            confirmed_ns: publisher.record().upstream_confirmed_at_ns,
            publisher,
            keep,
            kept: Vec::new(),
            texts: Texts::default(),
            offered: Vec::new(),
            offered_confirmed_ns: 0,
            changed_ms: None,
            received: None,
            published_change_ms: None,
            compiled: None,
            applied: None,
            served: None,
            unserved: None,
            problems: Vec::new(),
            broken: Vec::new(),
            override_errors: BTreeMap::new(),
            refused: None,
            held: None,
            publish_error: None,
            keep_error,
            unkept: BTreeMap::new(),
            changes_waiting: false,
            retry: None,
            keep_retry: None,
            state: SetState::Stale,
            counters: Counters::default(),
        };
        pipeline.take_over();
        if pipeline.served.is_none() {
            pipeline.publish_last_known_good();
        }
        if let Some(keep) = &pipeline.keep {
            pipeline.kept = keep.list();
        }
        pipeline.beat(None);
        Ok(pipeline)
    }

    pub(crate) fn name(&self) -> &str {
        &self.set.name
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The generation that readers see; 0 before anything was published.
    pub(crate) fn generation(&self) -> u64 {
        self.publisher.record().generation.0
    }

    /// What was last in force of a source, from the state directory.
    pub(crate) fn saved(&self, source: &SourceSpec) -> Vec<Input> {
        let texts = self.keep.as_ref().map(|keep| keep.texts(source)).unwrap_or_default();
        texts.into_iter().filter_map(|text| Input::from_text(source, text, &self.limits)).collect()
    }

    /// Where the id lists of a source are kept; without a state directory beside the store, until the host starts anew.
    pub(crate) fn parts_dir(&self, source: &SourceSpec) -> PathBuf {
        let dir = self.keep.as_ref().map_or(self.set.store.as_path(), Keep::path);
        dir.join(format!("parts-{:016x}", xxh3_64(source.to_string().as_bytes())))
    }

    /// The state of a control plane that may be published, where [`saved`](Self::saved) may give an older one.
    pub(crate) fn floor(&self, source: &SourceSpec) -> Option<EventId> {
        self.keep.as_ref()?.unsettled_position(source)
    }

    /// Whether a change waits for confirmation.
    pub(crate) fn is_held(&self) -> bool {
        self.held.is_some()
    }

    /// Whether what is published may be newer than what [`saved`](Self::saved) gives.
    pub(crate) fn saved_are_old(&self) -> bool {
        self.served.is_some() && self.keep.as_ref().is_some_and(Keep::is_unsettled)
    }

    /// The files that `documents` have id lists in, and the directories such files are sought in.
    pub(crate) fn list_files<'d>(&self, documents: impl Iterator<Item = &'d Arc<Document>>) -> BTreeSet<PathBuf> {
        let mut files = BTreeSet::new();
        for document in documents.filter(|document| !document.lists().is_empty()) {
            let directory = Path::new(document.name()).parent().unwrap_or(Path::new("/"));
            for declaration in document.lists() {
                if let ListDeclaration::File { path, .. } | ListDeclaration::Directory { path } = declaration {
                    files.insert(directory.join(path));
                }
            }
            files.extend(lists::resolve(document, directory).0.into_iter().map(|list| list.path));
        }
        files
    }

    /// What is published of a control plane, which is at `position`; `None` where that is not known yet, or nothing is.
    pub(crate) fn published(&self, spec: &ControlSpec, position: Option<EventId>) -> Option<Published> {
        self.served.as_ref()?;
        let record = self.publisher.record();
        let (position, changed_ms) = match (&self.applied, &self.operator.frozen) {
            (Some(applied), _) => {
                let is_it = |source: &SourceSpec| matches!(source, SourceSpec::Control(other) if **other == *spec);
                let input = applied.iter().find(|input| is_it(&input.source))?;
                let (epoch, revision) = input.stamp()?.position();
                (EventId { epoch, revision }, self.published_change_ms)
            }
            // Of what was rolled back to the revision is known, and no more.
            (None, Some(_)) => (EventId { revision: record.revision, ..position? }, None),
            (None, None) => return None,
        };
        Some(Published { position, at_ns: record.published_at_ns, changed_ms, state: self.state })
    }

    /// Takes what the sources say now.
    pub(crate) fn offer(&mut self, offer: Offer) {
        self.offered = offer.inputs;
        self.offered_confirmed_ns = offer.confirmed_ns;
        self.changed_ms = self.changed_ms.or(offer.changed_ms);
        self.received = self.received.or(offer.received);
        self.advance(offer.deliberate, offer.patch.as_ref());
    }

    /// When [`retry`](Self::retry) is due.
    pub(crate) fn retry_at(&self) -> Option<Instant> {
        let tries = self.retry.map(|retry| retry.backoff).into_iter().chain(self.keep_retry);
        tries.map(|backoff| backoff.at).min()
    }

    /// Tries again what failed, if that is due.
    pub(crate) fn retry(&mut self) {
        let now = Instant::now();
        if let Some(retry) = self.retry
            && retry.backoff.at <= now
        {
            self.advance(retry.deliberate, None);
        }
        if self.keep_retry.is_some_and(|backoff| backoff.at <= now) {
            self.keep_again();
        }
    }

    /// Tries again what failed, due or not.
    pub(crate) fn retry_now(&mut self) {
        if let Some(retry) = self.retry {
            self.advance(retry.deliberate, None);
        }
        self.keep_again();
    }

    /// A sign of life for readers, who also learn how current this is; `confirmed_ns` says since when every source is
    /// known to say what was offered, nanoseconds since 1970; `None` where one could not be read, or never was.
    pub(crate) fn beat(&mut self, confirmed_ns: Option<u64>) {
        let troubled = self.refused.is_some() || self.held.is_some() || self.publish_error.is_some();
        if let Some(confirmed_ns) = confirmed_ns
            && !troubled
            && self.operator.frozen.is_none()
            && self.served.is_some()
        {
            self.confirmed_ns = confirmed_ns;
            self.publisher.confirm(confirmed_ns);
        }
        self.publisher.heartbeat();
        let age = Duration::from_nanos(now_ns().saturating_sub(self.confirmed_ns));
        let state = match &self.operator.frozen {
            Some(_) => SetState::Frozen,
            None if self.confirmed_ns == 0 || (age > self.max_age && !self.max_age.is_zero()) => SetState::Stale,
            None => SetState::Fresh,
        };
        if state != self.state && self.served.is_some() {
            tracing::info!(set = self.set.name, "{} is now {}", self.set.name, state.as_str());
        }
        self.state = state;
        self.publisher.set_state(match state {
            SetState::Fresh => WriterState::Fresh,
            SetState::Stale => WriterState::Stale,
            SetState::Frozen => WriterState::Frozen,
        });
    }

    /// The last thing a pipeline does: readers learn that nobody follows the sources any more.
    pub(crate) fn stop(self) {
        if self.state == SetState::Fresh {
            self.publisher.set_state(WriterState::Stale);
        }
        tracing::info!(set = self.set.name, generation = self.generation(), "stopped");
    }

    /// Does what an operator says.
    ///
    /// # Errors
    ///
    /// Why it cannot be done; nothing is then changed.
    pub(crate) fn obey(&mut self, command: Command) -> Result<Value, Refusal> {
        let text = format!("{command:?}");
        let answer = match command {
            Command::Rollback { generation } => self.roll_back(generation),
            Command::Freeze => self.freeze(FrozenBy::Freeze),
            Command::Unfreeze => self.unfreeze(),
            Command::Confirm => self.confirm(),
            Command::Override { key, value } => self.set_override(key, Some(value)),
            Command::ClearOverride { key } => self.set_override(key, None),
            Command::Ping | Command::Reload { .. } => Ok(Value::Null),
        };
        match &answer {
            Ok(_) => tracing::info!(set = self.set.name, command = text, "an operator's command was obeyed"),
            Err(refusal) => tracing::warn!(set = self.set.name, command = text, "refused: {}", refusal.detail),
        }
        answer
    }

    /// What there is to know, with what the sources report of themselves.
    pub(crate) fn status(&self, sources: Vec<SourceReport>, looked: bool) -> SetStatus {
        let record = self.publisher.record();
        let ms = |ns: u64| (ns != 0).then_some(ns / 1_000_000);
        let age = Duration::from_nanos(now_ns().saturating_sub(self.confirmed_ns));
        let report = |(key, over): (&String, &Override)| OverrideReport {
            key: key.clone(),
            value: over.value.clone(),
            since_ms: over.since_ms,
            error: self.override_errors.get(key).cloned(),
        };
        SetStatus {
            name: self.set.name.clone(),
            store: self.set.store.clone(),
            selector: Some(self.set.selector.to_string()).filter(|selector| !selector.is_empty()),
            state: self.state,
            generation: record.generation.0,
            revision: record.revision,
            flags: self.served.as_ref().map_or(0, |served| served.summary.len() as u64),
            published_ms: ms(record.published_at_ns),
            confirmed_ms: ms(self.confirmed_ns),
            age_seconds: (self.confirmed_ns != 0).then_some(age.as_secs_f64()),
            max_age_seconds: self.max_age.as_secs_f64(),
            sources,
            problems: self
                .problems
                .iter()
                .take(MOST_SHOWN)
                .filter_map(|problem| serde_json::to_value(problem).ok())
                .collect(),
            problem_count: self.problems.len(),
            broken: self.broken.iter().take(MOST_SHOWN).cloned().collect(),
            broken_count: self.broken.len(),
            refused: self.refused.clone(),
            held: self.held.clone(),
            publish_error: self.publish_error.clone(),
            keep_error: self.keep_error.clone(),
            frozen: self.operator.frozen.clone(),
            changes_waiting: self.changes_waiting,
            overrides: self.operator.overrides.iter().map(report).collect(),
            kept: self.kept.clone(),
            counters: self.counters.clone(),
            ready: looked && self.served.is_some(),
        }
    }

    /// Publishes what the sources say, unless it is frozen.
    fn advance(&mut self, deliberate: bool, patch: Option<&Patch>) {
        if self.operator.frozen.is_some() {
            self.remember_applied();
            let same = |applied: &Vec<Input>| {
                applied.len() == self.offered.len()
                    && applied.iter().zip(&self.offered).all(|(one, other)| one.says_the_same(other))
            };
            self.changes_waiting = !self.applied.as_ref().is_some_and(same);
            return;
        }
        self.changes_waiting = false;
        // Why it stopped is in the status.
        let _ = self.put(self.offered.clone(), deliberate, patch);
    }

    /// Makes a generation of `inputs`, and remembers what stopped it, if something did.
    fn put(&mut self, inputs: Vec<Input>, deliberate: bool, patch: Option<&Patch>) -> Result<(), Stopped> {
        let is_unread = inputs.is_empty();
        let outcome = self.try_put(inputs, deliberate, patch);
        let set = self.set.name.as_str();
        let now = unix_ms(SystemTime::now());
        let (mut refused, mut held, mut publish_error) = (None, None, None);
        match &outcome {
            Ok(()) => {}
            Err(Stopped::Refused(reason)) => {
                let known = self.refused.take().filter(|known| known.reason == *reason);
                if known.is_none() {
                    self.counters.refused += 1;
                    if is_unread {
                        // So begins whoever waits for a control plane's first answer, or for a file.
                        tracing::warn!(set, "no source has been read yet; what was published stays");
                    } else {
                        tracing::error!(set, "refused: {reason}; what was published stays");
                    }
                }
                refused = Some(known.unwrap_or_else(|| Trouble { reason: reason.clone(), since_ms: now }));
            }
            Err(Stopped::Held(change)) => {
                let same = |known: &HeldChange| known.reason == change.reason && known.removed == change.removed;
                let known = self.held.take().filter(same);
                if known.is_none() {
                    self.counters.held += 1;
                    tracing::error!(set, "held: {}; what was published stays", change.reason);
                }
                held = Some(known.unwrap_or_else(|| HeldChange::clone(change)));
            }
            Err(Stopped::NotPublished(reason)) => {
                self.counters.publish_failures += 1;
                let backoff = Backoff::after(self.retry.map(|retry| retry.backoff));
                let wait = backoff.wait;
                tracing::error!(set, "cannot publish: {reason}; what was published stays; next try in {wait:?}");
                let since_ms = self.publish_error.as_ref().map_or(now, |known| known.since_ms);
                publish_error = Some(Trouble { reason: reason.clone(), since_ms });
                self.retry = Some(Retry { backoff, deliberate });
            }
        }
        if publish_error.is_none() {
            self.retry = None;
        }
        (self.refused, self.held, self.publish_error) = (refused, held, publish_error);
        outcome
    }

    fn try_put(&mut self, inputs: Vec<Input>, deliberate: bool, patch: Option<&Patch>) -> Result<(), Stopped> {
        if inputs.is_empty() {
            return Err(Stopped::Refused("no source could ever be read".to_owned()));
        }
        let started = Instant::now();
        let compiled = match patch.map(|patch| self.compile_patch(&inputs, patch)).transpose()?.flatten() {
            Some(compiled) => compiled,
            None => self.compile(&inputs)?,
        };
        self.counters.compile.observe(started.elapsed());
        self.problems = compiled.problems;
        self.broken = compiled
            .broken
            .into_iter()
            .map(|flag| BrokenFlag { key: flag.key, served: if flag.last_good { "last-good" } else { "parse-error" } })
            .collect();
        self.unserved = self.unserved.take().zip(compiled.changed).map(|(mut keys, changed)| {
            keys.extend(changed);
            keys
        });
        let payload = compiled.snapshot;
        let (revision, changed_ms, received) = (revision(&inputs), self.changed_ms.take(), self.received.take());
        let same = self.unserved.as_ref().is_some_and(BTreeSet::is_empty);
        let record = self.publisher.record();
        if self.served.is_some()
            && record.revision == revision
            && (same || xxh3_64(&payload) == record.segment_checksum)
        {
            self.unserved = Some(BTreeSet::new());
            self.settle(inputs, patch);
            return Ok(());
        }
        let snapshot = self.read_back(Region::of_compiled(Arc::clone(&payload)))?;
        let served = match (&self.served, &self.unserved) {
            (Some(before), Some(keys)) => before.after(&snapshot, keys),
            _ => Served::of(&snapshot),
        };
        if let Some(before) = &self.served
            && !deliberate
            && let Some(loss) = before.summary.loss(&served.summary, &self.guard)
            && !self.is_vouched_for(&inputs, loss.before)
        {
            let held = self.hold(&loss, &snapshot);
            // The compiler forgot the flags that would go, and with them their last good forms.
            self.restore_compiler();
            return Err(Stopped::Held(Box::new(held)));
        }
        drop(snapshot);
        self.confirmed_ns = self.confirmed_ns.max(self.offered_confirmed_ns);
        if let Some(keep) = &self.keep {
            let position = |input: &Input| Some((input.source.to_string(), input.stamp()?.position()));
            keep.set_unsettled(&inputs.iter().filter_map(position).collect());
        }
        let (published, published_ms) = self.publish(&payload, served, revision).map_err(Stopped::NotPublished)?;
        if let Some(received) = received {
            self.counters.change.observe(published.duration_since(received));
        }
        self.published_change_ms = changed_ms;
        if let Some(changed_ms) = changed_ms {
            self.counters.propagation.observe(Duration::from_millis(published_ms.saturating_sub(changed_ms)));
        }
        self.unserved = Some(BTreeSet::new());
        self.settle(inputs, patch);
        self.publisher.prepare();
        Ok(())
    }

    /// Compiles `inputs` with the overrides on top, and puts the id lists into the store, where nothing refers to them yet.
    fn compile(&mut self, inputs: &[Input]) -> Result<Compilation, Stopped> {
        self.compiled = None;
        let wholes: Vec<Arc<Document>> = self.documents(inputs)?;
        let documents: Vec<&Document> = wholes.iter().map(Arc::as_ref).collect();
        let mut on_top = Vec::new();
        self.override_errors.clear();
        for (key, over) in &self.operator.overrides {
            match overrides::document(documents.iter().copied(), key, &over.value, &self.limits) {
                Ok(document) => on_top.push(document),
                Err(error) => {
                    self.override_errors.insert(key.clone(), error);
                }
            }
        }
        // Overrides have names of their own, so a selector by source must choose before they come in.
        let mut selector = self.set.selector.clone();
        let mut all = documents;
        if let Selector::Source(_) = selector {
            all.retain(|document| selector.matches(None, document.name()));
            selector = Selector::All;
        }
        all.extend(&on_top);
        for attempt in 0.. {
            let compilation = self.compiler.compile(&all, &selector);
            let mut compilation = compilation.map_err(|error| Stopped::Refused(error.to_string()))?;
            if self.place_lists(&compilation.lists).map_err(Stopped::NotPublished)? {
                compilation.problems.iter_mut().for_each(|problem| problems::settle_place(problem, inputs));
                self.compiled = on_top.is_empty().then(|| inputs.to_vec());
                return Ok(compilation);
            }
            if attempt > 0 {
                break;
            }
        }
        Err(Stopped::NotPublished("an id list is missing from the store".to_owned()))
    }

    /// Compiles what a patch changes, where all else is as it was compiled last; `None` where only the whole will do.
    fn compile_patch(&mut self, inputs: &[Input], patch: &Patch) -> Result<Option<Compilation>, Stopped> {
        let Some(before) = self.compiled.take().filter(|_| self.operator.overrides.is_empty()) else { return Ok(None) };
        let follows = |(before, now): (&Input, &Input)| before.is(now) || before.content.leads_to(&now.content, patch);
        let same_paths = before.iter().map(|input| &input.path).eq(inputs.iter().map(|input| &input.path));
        if !same_paths || !before.iter().zip(inputs).all(follows) {
            return Ok(None);
        }
        let changes = compile::Patch { flags: &patch.flags, removed: &patch.change.removed };
        // Where it is refused all is compiled, and that says why.
        let Ok(mut compilation) = self.compiler.apply(&[changes]) else { return Ok(None) };
        if !self.place_lists(&compilation.lists).map_err(Stopped::NotPublished)? {
            return Ok(None);
        }
        compilation.problems.iter_mut().for_each(|problem| problems::settle_place(problem, inputs));
        compilation.problems = problems::after(std::mem::take(&mut self.problems), compilation.problems, patch);
        self.compiled = Some(inputs.to_vec());
        Ok(Some(compilation))
    }

    fn documents(&self, inputs: &[Input]) -> Result<Vec<Arc<Document>>, Stopped> {
        let documents = inputs.iter().map(|input| input.document(&self.limits));
        documents.collect::<Result<_, _>>().map_err(|error| Stopped::Refused(error.to_string()))
    }

    /// Puts id lists beside the segments. The compiler hands out each only once: where one has gone since, all are
    /// to be compiled anew, and this is false.
    fn place_lists(&mut self, lists: &[CompiledList]) -> Result<bool, String> {
        for list in lists {
            let name = format!("{:016x}", list.name);
            let placed = match &list.built {
                Some(built) => self.publisher.publish_list(&name, |file| built.write_to(file)).map(drop),
                None if self.publisher.path().join(list_file(list.name)).exists() => Ok(()),
                None => match &list.file {
                    Some(path) => {
                        let copy =
                            |to: &mut dyn std::io::Write| std::io::copy(&mut std::fs::File::open(path)?, to).map(drop);
                        self.publisher.publish_list(&name, copy).map(drop)
                    }
                    None => {
                        self.compiler.forget_lists();
                        return Ok(false);
                    }
                },
            };
            placed.map_err(|error| {
                self.compiler.forget_lists();
                error.to_string()
            })?;
        }
        Ok(true)
    }

    /// Opens a payload as a reader would.
    fn read_back(&self, payload: Region) -> Result<Snapshot, Stopped> {
        open(&self.set.store, payload)
            .map_err(|error| Stopped::Refused(format!("the compiled snapshot cannot be read back: {error}")))
    }

    /// Whether control planes, and nothing else, have made what is published `inputs`, and so few of its `flags` have gone without somebody's word
    /// that they alone would pass. It is so however many changes lie in between, and whether they came as changes or as snapshots.
    fn is_vouched_for(&self, inputs: &[Input], flags: usize) -> bool {
        let Some(before) = self.applied.as_ref().filter(|before| before.len() == inputs.len()) else { return false };
        let lost = before.iter().zip(inputs).map(|(before, now)| now.lost_since(before));
        let lost: Option<u64> = lost.sum();
        lost.and_then(|lost| usize::try_from(lost).ok())
            .is_some_and(|lost| lost.saturating_mul(100) <= flags * usize::from(self.guard.max_loss_percent))
    }

    fn hold(&self, loss: &Loss, snapshot: &Snapshot) -> HeldChange {
        let (mut removed, mut disabled) = match self.current_snapshot() {
            Some(before) => guard::names(&before, snapshot),
            None => Default::default(),
        };
        removed.truncate(MOST_SHOWN);
        disabled.truncate(MOST_SHOWN);
        HeldChange {
            reason: loss.to_string(),
            since_ms: unix_ms(SystemTime::now()),
            flags_before: loss.before,
            flags_after: loss.after,
            removed_count: loss.removed,
            disabled_count: loss.disabled,
            removed,
            disabled,
        }
    }

    /// Readers see it then; by both clocks, when they first could.
    fn publish(&mut self, payload: &[u8], served: Served, revision: u64) -> Result<(Instant, u64), String> {
        let meta = PublishMeta {
            revision,
            upstream_confirmed_at_ns: self.confirmed_ns,
            max_age_ns: u64::try_from(self.max_age.as_nanos()).unwrap_or(u64::MAX),
        };
        let started = Instant::now();
        let generation = self.publisher.publish(payload, &meta).map_err(|error| error.to_string())?;
        let at = (Instant::now(), unix_ms(SystemTime::now()));
        self.counters.publish.observe(at.0.duration_since(started));
        self.counters.published += 1;
        let flags = served.summary.len();
        // Without a number where any of them may be another.
        let changed = self.unserved.as_ref().map(BTreeSet::len);
        let (set, broken) = (self.set.name.as_str(), self.broken.len());
        tracing::info!(
            set,
            generation = generation.0,
            revision,
            flags,
            changed,
            broken,
            bytes = payload.len(),
            "published"
        );
        let before = self.served.replace(served);
        self.unserved = None;
        self.keep_generation(generation.0, payload, &meta);
        self.sweep_lists(before.as_ref());
        Ok(at)
    }

    fn keep_generation(&mut self, generation: u64, payload: &[u8], meta: &PublishMeta) {
        let Some(keep) = &self.keep else { return };
        let lists = self.served.as_ref().map(|served| served.lists.clone()).unwrap_or_default();
        let saved = keep
            .save_lists(generation, &lists, self.publisher.path())
            .map_err(|error| format!("id lists cannot be kept: {error}"))
            .and_then(|()| keep.save(generation, payload, meta).map_err(|error| error.to_string()));
        self.kept = keep.list();
        self.note_keep(Part::Generation, saved);
    }

    /// Forgets id lists that nothing published, now or just before, refers to.
    fn sweep_lists(&mut self, before: Option<&Served>) {
        let live = self.served.iter().chain(before).flat_map(|served| &served.lists);
        let names: BTreeSet<String> = live.map(|list| format!("{list:016x}")).collect();
        if let Err(error) = self.publisher.retain_lists(&names) {
            tracing::warn!(set = self.set.name, %error, "old id lists cannot be removed");
        }
    }

    /// `inputs` are what is published: their texts stand in for sources that cannot be read at the next start.
    fn settle(&mut self, inputs: Vec<Input>, patch: Option<&Patch>) {
        if let Some(keep) = &self.keep {
            let saved = self.texts.save(keep, &inputs, patch);
            if saved.is_ok() {
                keep.set_settled();
            }
            self.note_keep(Part::Texts, saved);
        }
        self.applied = Some(inputs);
    }

    /// What is in the store already goes on: readers notice nothing of a restart.
    fn take_over(&mut self) {
        let generation = self.generation();
        if generation == 0 {
            return;
        }
        match self.current_snapshot() {
            Some(snapshot) => {
                tracing::info!(
                    set = self.set.name,
                    generation,
                    flags = snapshot.len(),
                    "goes on with what is published"
                );
                self.served = Some(Served::of(&snapshot));
                self.compiler.restore(&snapshot);
            }
            None => tracing::warn!(set = self.set.name, generation, "what was published cannot be read"),
        }
    }

    fn publish_last_known_good(&mut self) {
        let Some(keep) = &self.keep else { return };
        for kept in keep.list() {
            match self.open_kept(kept.generation) {
                Ok((segment, snapshot)) => {
                    self.confirmed_ns = segment.header.upstream_confirmed_at_ns;
                    self.compiler.restore(&snapshot);
                    let served = Served::of(&snapshot);
                    tracing::info!(set = self.set.name, from = kept.generation, "publishes last-known-good");
                    if let Err(reason) = self.publish(&segment.payload, served, segment.header.revision) {
                        tracing::error!(set = self.set.name, "last-known-good cannot be published: {reason}");
                    }
                    return;
                }
                Err(error) => tracing::warn!(set = self.set.name, generation = kept.generation, "passed over: {error}"),
            }
        }
    }

    /// A kept generation, with its id lists put back beside the store's segments.
    fn open_kept(&mut self, generation: u64) -> Result<(SegmentFile, Snapshot), String> {
        let keep = self.keep.as_ref().ok_or("there is no state directory")?;
        let segment = keep.load(generation).map_err(|error| error.to_string())?;
        for (list, path) in keep.lists(generation) {
            let put = self.publisher.publish_list(&format!("{list:016x}"), |file| {
                std::io::copy(&mut std::fs::File::open(&path)?, file).map(drop)
            });
            put.map_err(|error| error.to_string())?;
        }
        let snapshot = open(&self.set.store, segment.payload.clone()).map_err(|error| error.to_string())?;
        Ok((segment, snapshot))
    }

    /// What is published, read anew: it is not kept in memory.
    fn current_snapshot(&self) -> Option<Snapshot> {
        open(&self.set.store, self.current_segment().ok()?.payload).ok()
    }

    fn current_segment(&self) -> Result<SegmentFile, libflags::Error> {
        SegmentFile::read(&self.publisher.path().join(format!("segment-{}", self.generation())))
    }

    fn restore_compiler(&mut self) {
        self.compiled = None;
        if let Some(snapshot) = self.current_snapshot() {
            self.compiler.restore(&snapshot);
        }
    }

    fn roll_back(&mut self, generation: Option<u64>) -> Result<Value, Refusal> {
        let conflict = |detail: String| Refusal::new(StatusCode::CONFLICT, detail);
        let Some(keep) = &self.keep else {
            return Err(conflict("there is no state directory, so no generation is kept".to_owned()));
        };
        let published = self.publisher.record().segment_checksum;
        let differs = |kept: &&Kept| keep.load(kept.generation).is_ok_and(|s| s.header.payload_checksum != published);
        let target = match generation {
            Some(generation) if self.kept.iter().any(|kept| kept.generation == generation) => generation,
            Some(generation) => {
                let kept: Vec<String> = self.kept.iter().map(|kept| kept.generation.to_string()).collect();
                let detail = format!("generation {generation} is not kept; there is {}", kept.join(", "));
                return Err(Refusal::new(StatusCode::NOT_FOUND, detail));
            }
            None => {
                let before = self.kept.iter().filter(|kept| kept.generation < self.generation()).find(differs);
                before.ok_or_else(|| conflict("no generation before this one is kept".to_owned()))?.generation
            }
        };
        let (segment, snapshot) = self.open_kept(target).map_err(&conflict)?;
        let served = Served::of(&snapshot);
        let unavailable = |detail: String| Refusal::new(StatusCode::SERVICE_UNAVAILABLE, detail);
        self.confirmed_ns = segment.header.upstream_confirmed_at_ns;
        self.publish(&segment.payload, served, segment.header.revision).map_err(unavailable)?;
        self.compiler.restore(&snapshot);
        self.applied = None;
        self.texts.forget();
        self.compiled = None;
        (self.refused, self.held, self.publish_error, self.retry) = (None, None, None, None);
        self.operator.frozen = None;
        self.freeze(FrozenBy::Rollback)?;
        self.changes_waiting = true;
        Ok(json!({"generation": self.generation(), "content_of": target, "frozen": true}))
    }

    fn freeze(&mut self, by: FrozenBy) -> Result<Value, Refusal> {
        if self.operator.frozen.is_none() {
            self.operator.frozen = Some(Frozen { since_ms: unix_ms(SystemTime::now()), by });
            (self.held, self.refused, self.publish_error, self.retry) = (None, None, None, None);
            self.save_operator();
            self.advance(false, None);
        }
        Ok(json!({"generation": self.generation(), "frozen": true}))
    }

    fn unfreeze(&mut self) -> Result<Value, Refusal> {
        if self.operator.frozen.take().is_some() {
            self.save_operator();
            self.advance(false, None);
        }
        Ok(json!({"generation": self.generation(), "frozen": false, "held": self.held, "refused": self.refused}))
    }

    fn confirm(&mut self) -> Result<Value, Refusal> {
        if self.held.is_none() {
            return Err(Refusal::new(StatusCode::CONFLICT, "no change is held"));
        }
        self.put(self.offered.clone(), true, None).map_err(Refusal::from)?;
        Ok(json!({"generation": self.generation()}))
    }

    /// Gives a flag a local value, or takes it away, at once.
    fn set_override(&mut self, key: String, value: Option<Value>) -> Result<Value, Refusal> {
        let basis = self.basis()?;
        let before = self.operator.clone();
        match value {
            Some(value) => {
                let documents = self.documents(&basis).map_err(Refusal::from)?;
                let documents = documents.iter().map(Arc::as_ref);
                if let Err(error) = overrides::document(documents, &key, &value, &self.limits) {
                    return Err(Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, error));
                }
                let over = Override { value, since_ms: unix_ms(SystemTime::now()) };
                self.operator.overrides.insert(key, over);
            }
            None => {
                if self.operator.overrides.remove(&key).is_none() {
                    return Err(Refusal::new(StatusCode::NOT_FOUND, format!("flag `{key}` is not overridden")));
                }
            }
        }
        let held = self.held.is_some() || self.refused.is_some();
        if let Err(stopped) = self.put(basis, true, None) {
            self.operator = before;
            // The next try is not this one, which let everything pass.
            self.retry = None;
            self.advance(false, None);
            return Err(stopped.into());
        }
        self.save_operator();
        if held {
            // What waits is looked at again, and waits further.
            self.advance(false, None);
        }
        Ok(json!({"generation": self.generation()}))
    }

    /// What an override is put on top of: what the sources say, or where that is not in force what is.
    fn basis(&mut self) -> Result<Vec<Input>, Refusal> {
        if self.operator.frozen.is_none() && self.held.is_none() && self.refused.is_none() {
            return Ok(self.offered.clone());
        }
        self.remember_applied();
        let unknown = "the definitions that are in force are not known: unfreeze, or confirm the held change, first";
        self.applied.clone().ok_or_else(|| Refusal::new(StatusCode::CONFLICT, unknown))
    }

    /// After a restart, finds what the published content was made from in the state directory.
    fn remember_applied(&mut self) {
        let rolled_back = self.operator.frozen.as_ref().is_some_and(|frozen| frozen.by == FrozenBy::Rollback);
        if self.applied.is_some() || rolled_back {
            return;
        }
        let saved: Vec<Input> = self.set.sources.iter().flat_map(|source| self.saved(source)).collect();
        self.applied = (!saved.is_empty()).then_some(saved);
    }

    fn save_operator(&mut self) {
        if let Some(keep) = &self.keep {
            let saved = keep.save_operator(&self.operator);
            let saved = saved.map_err(|error| format!("the operator's decisions cannot be kept: {error}"));
            self.note_keep(Part::Operator, saved);
        }
    }

    /// Remembers whether a part was written, so that it is tried again until it is.
    fn note_keep(&mut self, part: Part, saved: Result<(), String>) {
        let set = self.set.name.as_str();
        match saved {
            Ok(()) => {
                self.unkept.remove(&part);
            }
            Err(reason) => {
                self.counters.keep_failures += 1;
                if self.unkept.get(&part) != Some(&reason) {
                    tracing::error!(set, "this would not survive a reboot: {reason}; it is tried again");
                }
                self.unkept.insert(part, reason);
            }
        }
        let since_ms = self.keep_error.take().map(|known| known.since_ms);
        match self.unkept.values().next() {
            Some(reason) => {
                let since_ms = since_ms.unwrap_or_else(|| unix_ms(SystemTime::now()));
                self.keep_error = Some(Trouble { reason: reason.clone(), since_ms });
                // One time for all parts, of which several may fail at once.
                if self.keep_retry.is_none_or(|backoff| backoff.at <= Instant::now()) {
                    self.keep_retry = Some(Backoff::after(self.keep_retry));
                }
            }
            None => {
                self.keep_retry = None;
                if since_ms.is_some() {
                    tracing::info!(set, "everything is in the state directory again");
                }
            }
        }
    }

    /// Writes what the state directory lacks.
    fn keep_again(&mut self) {
        for part in self.unkept.keys().copied().collect::<Vec<_>>() {
            match part {
                Part::Operator => self.save_operator(),
                Part::Generation => self.keep_current(),
                Part::Texts => match self.applied.take() {
                    Some(inputs) => self.settle(inputs, None),
                    // Rolled back since: what is published was not made from them.
                    None => self.note_keep(Part::Texts, Ok(())),
                },
            }
        }
    }

    fn keep_current(&mut self) {
        match self.current_segment() {
            Ok(SegmentFile { header, payload, .. }) => {
                let meta = PublishMeta {
                    revision: header.revision,
                    upstream_confirmed_at_ns: header.upstream_confirmed_at_ns,
                    max_age_ns: header.max_age_ns,
                };
                self.keep_generation(header.generation.0, &payload, &meta);
            }
            Err(error) => self.note_keep(Part::Generation, Err(error.to_string())),
        }
    }
}

impl Served {
    fn of(snapshot: &Snapshot) -> Self {
        Self { summary: Summary::of(snapshot), lists: snapshot.lists().map(|(name, ..)| name).collect() }
    }

    /// What readers will see when `snapshot` takes its place, which has only flags called `keys` otherwise.
    fn after(&self, snapshot: &Snapshot, keys: &BTreeSet<String>) -> Self {
        let lists = snapshot.lists().map(|(name, ..)| name).collect();
        Self { summary: self.summary.after(snapshot, keys), lists }
    }
}

fn open(store: &Path, payload: Region) -> Result<Snapshot, libflags::Error> {
    Snapshot::open(payload, &StoreDir::open(store)?, None)
}

fn open_keep(config: &Config, set: &SetConfig) -> Result<(Option<Keep>, Option<Trouble>), StartError> {
    let trouble = |reason: String| {
        tracing::warn!(set = set.name, "nothing will survive a reboot: {reason}");
        Ok((None, Some(Trouble { reason, since_ms: unix_ms(SystemTime::now()) })))
    };
    let Some(state_dir) = &config.state_dir else {
        return trouble("no state directory can be written; name one with --state-dir".to_owned());
    };
    match Keep::open(state_dir, &set.name, config.generations) {
        Ok(keep) => Ok((Some(keep), None)),
        Err(KeepError::Locked(path)) => {
            let message = format!("another flagsd has the state directory {}", path.display());
            Err(StartError::AlreadyRunning(message))
        }
        Err(KeepError::Io(path, error)) => trouble(format!("{} cannot be written: {error}", path.display())),
    }
}

fn limits(settings: &LimitSettings) -> Limits {
    let mut limits = Limits::default();
    let pairs = [
        (&mut limits.flags, settings.flags),
        (&mut limits.document_bytes, settings.document_bytes),
        (&mut limits.key_bytes, settings.key_bytes),
        (&mut limits.variants, settings.variants),
        (&mut limits.rule_depth, settings.rule_depth),
        (&mut limits.rule_nodes, settings.rule_nodes),
        (&mut limits.list_ids, settings.list_ids),
    ];
    for (limit, setting) in pairs {
        *limit = setting.unwrap_or(*limit);
    }
    limits
}

/// That of the control plane of highest precedence; 0 where there is none.
fn revision(inputs: &[Input]) -> u64 {
    inputs.iter().rev().find_map(Input::stamp).map_or(0, |stamp| stamp.revision)
}

impl From<Stopped> for Refusal {
    fn from(stopped: Stopped) -> Self {
        match stopped {
            Stopped::Refused(reason) => Self::new(StatusCode::UNPROCESSABLE_ENTITY, reason),
            Stopped::Held(held) => Self::new(StatusCode::CONFLICT, held.reason),
            Stopped::NotPublished(reason) => Self::new(StatusCode::SERVICE_UNAVAILABLE, reason),
        }
    }
}

impl fmt::Debug for Pipeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pipeline")
            .field("set", &self.set.name)
            .field("generation", &self.generation())
            .finish_non_exhaustive()
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AlreadyRunning(what) => write!(f, "{what}: flagsd is running already"),
            Self::Store(error) => write!(f, "the store cannot be used: {error}"),
        }
    }
}

impl std::error::Error for StartError {}

#[cfg(test)]
mod tests;
