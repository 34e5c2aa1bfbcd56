//! One flag set's task: it waits for whatever happens next, and hands it to the pipeline.
//!
//! ```text
//! files changed · a control plane has news · a poll is due · the heart beats · an operator speaks · something failed is due again
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, UNIX_EPOCH};

use libflags::definition::{Document, Format};
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, interval, sleep_until};

use crate::admin::{Command, Refusal, Request, SetHandle, SharedStatus};
use crate::clock::now_ns;
use crate::config::{Config, ControlSettings, SetConfig, WatchSettings};
use crate::input::{Content, Input};
use crate::pipeline::{Offer, Pipeline, StartError};
use crate::source::{
    ControlFeed, Definition, Look, News, Places, Source, SourceReport, SourceSpec, Stamp, Taken, Watcher, trace,
};

/// How often readers are told that flagsd is alive.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// A source of whatever kind.
#[derive(Debug)]
enum Feed {
    Files(Source<Document>),
    Control(Box<ControlFeed>),
}

/// One flag set at work.
#[derive(Debug)]
pub(crate) struct Set {
    settings: WatchSettings,
    control: ControlSettings,
    sources: Vec<Feed>,
    news: (mpsc::Sender<News>, mpsc::Receiver<News>),
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
            control: config.control.clone(),
            sources: set.sources.iter().cloned().map(Feed::new).collect(),
            // Few, so that who brings more than can be published waits.
            news: mpsc::channel(4),
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
                Some(news) = self.news.1.recv() => self.take_news(news),
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
                    match source {
                        Feed::Files(source) => source.forget_seen(),
                        Feed::Control(feed) => feed.hurry(),
                    }
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
            let known = old.iter().position(|source| source.spec() == spec);
            self.sources.push(known.map_or_else(|| Feed::new(spec), |at| old.remove(at)));
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
            for source in self.sources.iter_mut().filter_map(Feed::files_mut) {
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
            let lists =
                self.pipeline.list_files(self.sources.iter().filter_map(Feed::files).flat_map(Source::documents));
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
            for at in 0..self.sources.len() {
                self.fall_back(at);
            }
        }
        self.offer(news, Taken::default());
    }

    /// Puts in force what is remembered of a source that cannot be read; of a control plane before it is asked.
    fn fall_back(&mut self, at: usize) {
        let Some(source) = self.sources.get_mut(at) else { return };
        let spec = source.spec();
        let saved = self.pipeline.saved(&spec);
        let fell_back = match source {
            Feed::Files(source) => source.fall_back_on(saved.into_iter().filter_map(Input::into_file).collect()),
            Feed::Control(feed) if feed.is_followed() => false,
            Feed::Control(feed) => {
                let saved = saved.into_iter().find_map(Input::into_definition);
                let floor = self.pipeline.floor(&spec);
                feed.follow(
                    saved,
                    floor,
                    &self.control,
                    self.pipeline.limits(),
                    self.pipeline.parts_dir(&spec),
                    self.news.0.clone(),
                )
            }
        };
        if fell_back {
            let is_asked_later = matches!(source, Feed::Control(_));
            self.waits = self.pipeline.saved_are_old();
            let does = if self.waits {
                "what is published stays until it can be read"
            } else {
                "goes on with what was read from it last"
            };
            // Of a control plane it is no trouble yet.
            if is_asked_later {
                tracing::info!(set = self.pipeline.name(), source = %spec, "{does}");
            } else {
                tracing::warn!(set = self.pipeline.name(), source = %spec, "{does}");
            }
        }
    }

    /// Takes what a control plane, or the way to it, has to tell.
    fn take_news(&mut self, news: News) {
        let feeds = self.sources.iter_mut().filter_map(Feed::control_mut);
        // Of one that is no source any more there is still something on the way.
        let Some(feed) = feeds.into_iter().find(|feed| feed.id() == news.id) else { return };
        match feed.take(news) {
            // While another change is held, this one would let it through.
            Some(mut taken) => {
                taken.deliberate &= !self.pipeline.is_held();
                self.offer(true, taken);
            }
            None => self.offer(false, Taken::default()),
        }
    }

    /// Gives the pipeline what is in force, if that is news.
    fn offer(&mut self, mut news: bool, taken: Taken) {
        if self.waits && self.sources.iter().all(Feed::is_healthy) {
            (self.waits, news) = (false, true);
        }
        if news && !self.waits {
            let inputs = self.sources.iter().flat_map(Feed::inputs).collect();
            let confirmed_ns = self.sources.iter().map(Feed::confirmed_ns).min().unwrap_or(0);
            let Taken { patch, deliberate, changed_ms, received } = taken;
            self.pipeline.offer(Offer { inputs, patch, deliberate, confirmed_ns, changed_ms, received });
        }
        self.beat();
    }

    /// Watches whatever the sources and lists mean now; returns what is watched. Nothing is done where that is `same`.
    fn watch(&mut self, same: Option<&Places>) -> Places {
        let mut places = Places::default();
        for source in self.sources.iter().filter_map(Feed::files) {
            if let SourceSpec::File(path) | SourceSpec::Dir(path) = source.spec() {
                places.add(path);
            }
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
        let healthy = self.looked && !self.waits && self.sources.iter().all(Feed::is_known);
        let confirmed_ns = self.sources.iter().map(Feed::confirmed_ns).min();
        self.pipeline.beat(confirmed_ns.filter(|_| healthy));
        for feed in self.sources.iter_mut().filter_map(Feed::control_mut) {
            let position = feed.in_force().map(Definition::position);
            if let Some(published) = self.pipeline.published(feed.spec(), position) {
                feed.report_back(self.pipeline.name(), published, &self.control);
            }
        }
        self.report();
    }

    fn report(&self) {
        self.status.set(self.pipeline.status(self.sources.iter().map(Feed::report).collect(), self.looked));
    }
}

impl Feed {
    fn new(spec: SourceSpec) -> Self {
        match spec {
            SourceSpec::Control(spec) => Self::Control(Box::new(ControlFeed::new(*spec))),
            spec => Self::Files(Source::new(spec)),
        }
    }

    fn spec(&self) -> SourceSpec {
        match self {
            Self::Files(source) => source.spec().clone(),
            Self::Control(feed) => SourceSpec::Control(Box::new(feed.spec().clone())),
        }
    }

    fn files(&self) -> Option<&Source<Document>> {
        if let Self::Files(source) = self { Some(source) } else { None }
    }

    fn files_mut(&mut self) -> Option<&mut Source<Document>> {
        if let Self::Files(source) = self { Some(source) } else { None }
    }

    fn control_mut(&mut self) -> Option<&mut ControlFeed> {
        if let Self::Control(feed) = self { Some(feed) } else { None }
    }

    /// Whether it can be had, and what it says is in force.
    fn is_healthy(&self) -> bool {
        match self {
            Self::Files(source) => source.is_healthy(),
            Self::Control(feed) => feed.is_healthy(),
        }
    }

    /// Whether it is known since when what it says is in force: of files only as long as they can be read.
    fn is_known(&self) -> bool {
        match self {
            Self::Files(source) => source.is_healthy(),
            Self::Control(feed) => feed.confirmed().is_some(),
        }
    }

    /// Since when it is known to say what it says, nanoseconds since 1970; files are there to be looked at.
    fn confirmed_ns(&self) -> u64 {
        match self {
            Self::Files(_) => now_ns(),
            Self::Control(feed) => {
                let since = feed.confirmed().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
                since.and_then(|since| u64::try_from(since.as_nanos()).ok()).unwrap_or(0)
            }
        }
    }

    fn inputs(&self) -> Vec<Input> {
        let source = self.spec();
        match self {
            Self::Files(files) => files
                .entries()
                .map(|(path, document)| Input {
                    source: source.clone(),
                    path: path.to_owned(),
                    content: Content::File(Arc::clone(document)),
                })
                .collect(),
            Self::Control(feed) => feed
                .in_force()
                .map(|definition| Input {
                    path: PathBuf::from(source.to_string()),
                    source,
                    content: Content::Control(definition.clone()),
                })
                .into_iter()
                .collect(),
        }
    }

    fn report(&self) -> SourceReport {
        match self {
            Self::Files(source) => source.report(),
            Self::Control(feed) => feed.report(),
        }
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
