//! One flag set's task: it waits for whatever happens next, and hands it to the pipeline.
//!
//! ```text
//! files changed · a poll is due · the heart beats · an operator speaks · something failed is due again
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use libflags::definition::{Document, Format};
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, interval, sleep_until};

use crate::admin::{Command, Refusal, Request, SetHandle, SharedStatus};
use crate::config::{Config, SetConfig, WatchSettings};
use crate::pipeline::{Input, Pipeline, StartError};
use crate::source::{Look, Places, Source, SourceSpec, Stamp, Watcher, trace};

/// How often readers are told that flagsd is alive.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// One flag set at work.
#[derive(Debug)]
pub(crate) struct Set {
    settings: WatchSettings,
    sources: Vec<Source<Document>>,
    watcher: Option<Watcher>,
    /// What cannot be watched, said once each.
    unwatched: BTreeSet<PathBuf>,
    /// The files that id lists are read from, as they were last seen.
    lists: BTreeMap<PathBuf, Option<(Stamp, bool)>>,
    pipeline: Pipeline,
    looked: bool,
    /// For sources that cannot be read: what is remembered of them may be older than what is published.
    waits: bool,
    look_again: Option<Instant>,
    commands: mpsc::Receiver<Request>,
    status: SharedStatus,
}

impl Set {
    /// Takes the store, and publishes last-known-good where nothing is published. No source is looked at.
    ///
    /// # Errors
    ///
    /// Where the store cannot be taken.
    pub(crate) fn start(config: &Config, set: &SetConfig) -> Result<(Self, SetHandle), StartError> {
        let pipeline = Pipeline::start(config, set)?;
        let watcher = Watcher::new(Duration::from_millis(config.watch.debounce_ms));
        let watcher = watcher.inspect_err(|error| {
            tracing::warn!(set = set.name, %error, "files cannot be watched; they are looked at every poll_ms");
        });
        let (sender, commands) = mpsc::channel(16);
        let status = SharedStatus::new(pipeline.status(Vec::new(), false));
        let set = Self {
            settings: config.watch.clone(),
            sources: set.sources.iter().cloned().map(Source::new).collect(),
            watcher: watcher.ok(),
            unwatched: BTreeSet::new(),
            lists: BTreeMap::new(),
            pipeline,
            looked: false,
            waits: false,
            look_again: None,
            commands,
            status: status.clone(),
        };
        Ok((set, SetHandle { commands: sender, status }))
    }

    /// Works until told to stop.
    pub(crate) async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let mut heartbeat = interval(HEARTBEAT);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut poll = interval(Duration::from_millis(self.settings.poll_ms));
        poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let again = [self.look_again, self.pipeline.retry_at()].into_iter().flatten().min();
            tokio::select! {
                _ = stop.changed() => break,
                () = changed(&mut self.watcher) => self.look(),
                _ = poll.tick() => self.look(),
                () = at(again) => {
                    self.pipeline.retry();
                    self.look();
                }
                _ = heartbeat.tick() => self.beat(),
                Some(request) = self.commands.recv() => {
                    let answer = self.obey(request.command);
                    self.beat();
                    // Who asked may have gone.
                    let _ = request.reply.send(answer);
                }
            }
        }
        self.pipeline.stop();
    }

    fn obey(&mut self, command: Command) -> Result<Value, Refusal> {
        match command {
            Command::Ping => Ok(Value::Null),
            Command::Reload { sources } => {
                if let Some(sources) = sources {
                    self.take_sources(sources);
                }
                for source in &mut self.sources {
                    source.forget_seen();
                }
                self.lists.clear();
                self.look();
                self.pipeline.retry_now();
                Ok(json!({"generation": self.pipeline.generation()}))
            }
            command => self.pipeline.obey(command),
        }
    }

    /// Sources that stay keep what was read from them.
    fn take_sources(&mut self, specs: Vec<SourceSpec>) {
        let mut old = std::mem::take(&mut self.sources);
        for spec in specs {
            let known = old.iter().position(|source| *source.spec() == spec);
            self.sources.push(known.map_or_else(|| Source::new(spec), |at| old.remove(at)));
        }
        self.looked = false;
    }

    /// Looks at every source, and gives the pipeline what is in force if that is news.
    pub(crate) fn look(&mut self) {
        let mut news = !self.looked;
        self.look_again = None;
        let grace = Duration::from_millis(self.settings.removal_grace_ms);
        // First the watches, then the files: what changes in between is told of. A look can find further files to watch.
        let mut watched = self.watch(None);
        for _ in 0..4 {
            for source in &mut self.sources {
                let limits = self.pipeline.limits();
                let parse = |path: &Path, text: String| {
                    let name = path.display().to_string();
                    Document::parse(&name, text, Format::from_path(path), limits).map_err(|error| error.to_string())
                };
                let look = source.look(&parse, limits.document_bytes, grace);
                tell(self.pipeline.name(), source.spec(), &look);
                news |= look.changed;
                self.look_again = [self.look_again, look.again].into_iter().flatten().min();
            }
            let lists = self.pipeline.list_files(self.sources.iter().flat_map(Source::documents));
            let lists = lists.into_iter().map(|path| (path.clone(), trace(&path))).collect();
            news |= self.lists != lists;
            self.lists = lists;
            let now = self.watch(Some(&watched));
            if now == watched {
                break;
            }
            watched = now;
        }
        if !self.looked {
            self.looked = true;
            for source in &mut self.sources {
                let saved = self.pipeline.saved(source.spec());
                if source.fall_back_on(saved) {
                    self.waits = self.pipeline.saved_are_old();
                    let does = if self.waits {
                        "what is published stays until it can be read"
                    } else {
                        "goes on with what was read from it last"
                    };
                    tracing::warn!(set = self.pipeline.name(), source = %source.spec(), "{does}");
                }
            }
        }
        if self.waits && self.sources.iter().all(Source::is_healthy) {
            (self.waits, news) = (false, true);
        }
        if news && !self.waits {
            let input = |source: &Source<Document>| {
                let spec = source.spec().clone();
                source
                    .entries()
                    .map(|(path, document)| Input {
                        source: spec.clone(),
                        path: path.to_owned(),
                        document: Arc::clone(document),
                    })
                    .collect::<Vec<_>>()
            };
            self.pipeline.offer(self.sources.iter().flat_map(input).collect());
        }
        self.beat();
    }

    /// Watches whatever the sources and lists mean now; returns what is watched. Nothing is done where that is `same`.
    fn watch(&mut self, same: Option<&Places>) -> Places {
        let mut places = Places::default();
        for source in &self.sources {
            let (SourceSpec::File(path) | SourceSpec::Dir(path)) = source.spec();
            places.add(path);
            source.paths().for_each(|path| places.add_one_of_several(path));
        }
        // A list often changes along with the flags that name it.
        self.lists.keys().for_each(|path| places.add_one_of_several(path));
        if same == Some(&places) {
            return places;
        }
        if let Some(watcher) = &mut self.watcher {
            for (path, error) in watcher.watch(&places) {
                if self.unwatched.insert(path.clone()) {
                    let set = self.pipeline.name();
                    tracing::warn!(set, path = %path.display(), %error, "cannot be watched; it is looked at every poll_ms");
                }
            }
        }
        places
    }

    fn beat(&mut self) {
        let healthy = self.looked && self.sources.iter().all(Source::is_healthy);
        self.pipeline.beat(healthy);
        self.report();
    }

    fn report(&self) {
        self.status.set(self.pipeline.status(self.sources.iter().map(Source::report).collect(), self.looked));
    }
}

async fn changed(watcher: &mut Option<Watcher>) {
    match watcher {
        Some(watcher) => watcher.changed().await,
        None => std::future::pending().await,
    }
}

async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time.into()).await,
        None => std::future::pending().await,
    }
}

fn tell(set: &str, source: &SourceSpec, look: &Look<Document>) {
    for news in &look.news {
        tracing::warn!(set, %source, "{news}; what was last read from it stays in force");
    }
    for (path, document) in &look.parsed {
        tracing::debug!(set, %source, path = %path.display(), flags = document.flags().len(), "read");
    }
    for path in &look.removed {
        tracing::info!(set, %source, path = %path.display(), "is gone, and its flags with it");
    }
}
