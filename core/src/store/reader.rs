//! The reading side: one load says whether the generation in hand is still current, one store keeps it from being freed.
//!
//! ```text
//! enter:                                      catch up (cold; one thread at a time, the others go on with the old one):
//!   slot = this thread's hazard slot            read the record through the latch
//!   node = protect(current, slot)               same segment: adopt the version, done
//!   if node.version == page.version:            map the segment, read a part of it (128 KiB); more to come: done for now
//!     read node.payload                         checked whole: open its payload
//!   else catch up, enter again                    refused: adopt the version, remember it, say so in the status
//! leave: slot = null                            replace current; free the old node, in parts, when no slot holds it
//!                                             now and then (4093 evaluations of a thread, a second): is the path still ours?
//! ```
//!
//! # How late an evaluation may be
//!
//! No evaluation waits until a large segment is read through: it reads a part and answers from the old generation, and for a
//! fifth of the time none reads at all, so that a burst of evaluations meets one part at most. Once [`BEHIND_LIMIT_NS`]
//! have passed since the first generation that is missing was published, or where nobody knows how long ago that was, the
//! next evaluation reads all that is left. So a thread that evaluates a thousand times a second never pays for more than a
//! few parts at once, and one that evaluates once a second answers from what is newest. Whoever asks for the newest
//! (`open`, `pin`, `status`) gets it at once, as does a reader that has no flags yet; a segment of one part always is.
//!
//! Deviations:
//!
//! - A node's version is not its birth's but the last one it was found current at: a confirmation changes the version
//!   and nothing else, and a refused generation must not send every evaluation here again. A node that stands in for a
//!   refused generation gives no version out ([`Guard::version`]), since a later attempt may succeed at the same one.
//! - While detached the versions never agree, so that every evaluation comes to the cold side, looks at the coarse clock
//!   and, a few times a second, for a store.
//! - After a fork, the lock may be held by a thread that the child doesn't have. Its holder's number then differs from
//!   ours ([`incarnation`]); the lock is taken over and what it guards is started afresh, the old left where it is.
//! - A descriptor of ours may have been closed and reused by a program that closes what it doesn't know: each use checks.

use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::ptr::NonNull;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use std::{fmt, io, thread};

use nix::errno::Errno;
use nix::fcntl::OFlag;

use super::incoming::{Incoming, Pace};
use super::layout::{CONTROL, Entry, Record, segment_name};
use super::process::incarnation;
use super::reclaim::{self, Hazard, Local, Lock, Locked};
use super::region::{ControlWindow, FileId, Files, Region, StoreDir, control_id_at, open_control};
use super::version::{self, Standing};
use super::{Generation, WriterState, clock};
use crate::Error;
use crate::atomic::{AtomicPtr, AtomicU64, Ordering};
use crate::status::{State, Status};

/// What the store's bytes are made into, once a generation.
pub trait Payload: Sized + Send + Sync + 'static {
    /// Checks a segment's payload and makes what evaluations read.
    ///
    /// `bytes` stay mapped as long as a clone of the region lives. `files` are those that lie beside the segment;
    /// `previous` is what was current until now, from which regions of files that are the same may be taken over.
    ///
    /// # Errors
    ///
    /// Any: the generation is refused, and `previous` stays current. (A panic counts as one.)
    fn open(bytes: Region, files: &dyn Files, previous: Option<&Self>) -> Result<Self, Error>;
}

/// Which store to open, and what to do while there is none.
#[derive(Debug, Clone)]
pub struct OpenOptions {
    store: Option<PathBuf>,
    wait: bool,
    timeout: Duration,
    membarrier: bool,
}

impl Default for OpenOptions {
    fn default() -> Self {
        OpenOptions { store: None, wait: true, timeout: Duration::ZERO, membarrier: true }
    }
}

impl OpenOptions {
    /// The default store, which must be there.
    #[must_use]
    pub fn new() -> Self {
        OpenOptions::default()
    }

    /// The directory of a set. Without it: `$FLAGS_STORE`, or else the first that is there of `/run/flags/default`,
    /// `$XDG_RUNTIME_DIR/flags/default`, `/dev/shm/flags-<uid>/default`.
    #[must_use]
    pub fn store(mut self, set: impl Into<PathBuf>) -> Self {
        self.store = Some(set.into());
        self
    }

    /// `false`: open at once, detached if there is no usable store, and attach when there is one.
    #[must_use]
    pub fn wait(mut self, wait: bool) -> Self {
        self.wait = wait;
        self
    }

    /// How long `open` waits for a store with something published in it before it fails; 0 if not told.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// `false`: never call membarrier(2), for processes under a seccomp filter that kills for it. Holds for the whole
    /// process; each evaluation then costs a full fence.
    #[must_use]
    pub fn membarrier(mut self, membarrier: bool) -> Self {
        self.membarrier = membarrier;
        self
    }

    fn candidates(&self) -> Vec<Candidate> {
        let anywhere = |set: PathBuf| Candidate { set, owner: None };
        if let Some(set) = &self.store {
            return vec![anywhere(set.clone())];
        }
        if let Some(set) = std::env::var_os("FLAGS_STORE").filter(|set| !set.is_empty()) {
            return vec![anywhere(set.into())];
        }
        let uid = nix::unistd::geteuid().as_raw();
        let runtime = std::env::var_os("XDG_RUNTIME_DIR").filter(|directory| !directory.is_empty());
        let runtime = runtime.map(|directory| anywhere(Path::new(&directory).join("flags/default")));
        // Anybody may create things in /dev/shm, so who did is checked.
        let shared = Candidate { set: format!("/dev/shm/flags-{uid}/default").into(), owner: Some(uid) };
        [anywhere("/run/flags/default".into())].into_iter().chain(runtime).chain([shared]).collect()
    }
}

/// A directory that may hold a store, and whose it then must be (or root's).
#[derive(Debug, Clone)]
struct Candidate {
    set: PathBuf,
    owner: Option<u32>,
}

impl Candidate {
    fn open(&self) -> Result<StoreDir, Error> {
        let directory = StoreDir::open(&self.set)?;
        match self.owner {
            Some(uid) if ![0, uid].contains(&directory.owner()) => {
                let (path, uid) = (directory.path().into(), directory.owner());
                let reason = "a store in a directory open to all must be this process' user's own";
                Err(Error::Untrusted { path, uid, mode: 0, reason })
            }
            _ => Ok(directory),
        }
    }
}

/// A view of a store that follows its updates, for all threads of a process and its forked children.
pub struct Reader<P: Payload> {
    window: ControlWindow,
    /// Never null. What it points at is an `Arc` turned raw.
    current: AtomicPtr<Node<P>>,
    cold: Box<Cold<P>>,
}

/// One generation as this process holds it.
struct Node<P> {
    standing: Standing,
    record: Record,
    payload: Option<P>,
    /// The mapping to give back in parts when this is freed.
    segment: Option<Region>,
    /// Counts this node for the status; `None` for the node that stands for "detached".
    _counted: Option<Counted>,
}

struct Cold<P: Payload> {
    source: Source,
    /// Nodes alive.
    mapped: Arc<AtomicU64>,
    /// Coarse ms at which to look at the path next.
    next_look: AtomicU64,
    /// Monotonic ns before which no evaluation does a further part of what is left over; 0 while nothing is.
    go_on_at: AtomicU64,
    /// 1 while old generations wait to be unmapped.
    leaving: AtomicU64,
    /// 1 once the window shows a store's page.
    attached: AtomicU64,
    /// What the status says; never null.
    notes: AtomicPtr<Notes>,
    /// Held by the thread that swaps.
    lock: Lock,
    /// What that thread works with; never null. Behind a pointer so that a child can leave a half-done one alone.
    state: AtomicPtr<Swapper<P>>,
}

enum Source {
    Store(Vec<Candidate>),
    /// Compiled in this process: the window shows a private page that only `replace` writes to.
    Private,
}

/// What only the holder of the lock touches.
struct Swapper<P> {
    directory: Option<StoreDir>,
    /// The set's directory, while `directory` is open.
    set: PathBuf,
    /// The file the window shows.
    control: Option<FileId>,
    refused: Option<Refused>,
    /// Being read, to become current.
    incoming: Option<Incoming>,
    /// Monotonic ns since which there is something newer than what is current; `None` while there is not.
    behind_since: Option<u64>,
    /// No longer current, not yet known to be unused.
    retired: Vec<*mut Node<P>>,
    /// No longer used, being unmapped: so many bytes of each are.
    leaving: Vec<(Arc<Node<P>>, usize)>,
    retired_notes: Vec<*mut Notes>,
}

struct Refused {
    record: Record,
    reason: String,
    /// Whether another attempt may end differently.
    transient: bool,
}

#[derive(Default)]
struct Notes {
    error: Option<String>,
    path: Option<PathBuf>,
}

/// Why a thread came to the cold side.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Trigger {
    /// The version moved.
    Version,
    /// It was time to look.
    Time,
}

/// For so long after a publication evaluations may answer from the generation before it, while they read the new one in parts.
const BEHIND_LIMIT_NS: u64 = 10_000_000;
/// The longest time between two parts for which evaluations do none.
const LONGEST_REST_NS: u64 = 50_000;
/// Between two looks at the path.
const LOOK_MS: u64 = 1_000;
/// The same while there is no store.
const LOOK_DETACHED_MS: u64 = 100;
/// Between two tries of `open` within its timeout.
const OPEN_RETRY: Duration = Duration::from_millis(5);
/// A publisher whose last heartbeat is older than this is taken for dead.
const HEARTBEAT_LIMIT_NS: u64 = 5_000_000_000;
/// Times that a record is read again because its segment was gone, before giving up until the next look.
const SEGMENT_RETRIES: usize = 16;

// SAFETY: nodes are shared and dropped across threads, which Payload's bounds allow; the rest is atomic or under the lock.
unsafe impl<P: Payload> Send for Reader<P> {}
// SAFETY: as above.
unsafe impl<P: Payload> Sync for Reader<P> {}

impl<P: Payload> Cold<P> {
    /// Whether the last part was done so short a time ago that evaluations go on without doing another.
    fn rests(&self) -> bool {
        // ORDERING: Relaxed; a hint, the lock orders the rest.
        let go_on_at = self.go_on_at.load(Ordering::Relaxed);
        go_on_at != 0 && clock::monotonic_ns() < go_on_at
    }
}

impl<P: Payload> Reader<P> {
    /// Opens a store.
    ///
    /// # Errors
    ///
    /// Unless `wait(false)` was asked for: `NoStore` naming every path tried; `NothingPublished`; or why the store or its
    /// current generation was refused (`Untrusted`, `Corrupt`, `UnknownFormat`, `Payload`, `Io`).
    pub fn open(options: &OpenOptions) -> Result<Reader<P>, Error> {
        let reader = Reader::new(Source::Store(options.candidates()), options.membarrier, Node::detached())?;
        let deadline = Instant::now().checked_add(options.timeout);
        loop {
            match reader.look_now(Pace::AtOnce) {
                Ok(()) => return Ok(reader),
                Err(_) if !options.wait => return Ok(reader),
                Err(error) if deadline.is_some_and(|deadline| Instant::now() >= deadline) => return Err(error),
                Err(_) => thread::sleep(OPEN_RETRY),
            }
        }
    }

    /// A reader of a payload that lies in this process only, which [`Reader::replace`] exchanges.
    ///
    /// # Errors
    ///
    /// Those of [`Payload::open`].
    pub fn private(payload: Region, files: &dyn Files) -> Result<Reader<P>, Error> {
        let reader = Reader::new(Source::Private, true, Node::detached())?;
        reader.replace(payload, files)?;
        Ok(reader)
    }

    /// Exchanges the payload of a private reader; gives the number of the new generation.
    ///
    /// # Errors
    ///
    /// Those of [`Payload::open`], and `Payload` for a reader of a store; what was current stays.
    pub fn replace(&self, payload: Region, files: &dyn Files) -> Result<Generation, Error> {
        if !matches!(self.cold.source, Source::Private) {
            return Err(Error::Payload("only a private snapshot can be replaced from this process".into()));
        }
        let mut held = loop {
            match self.lock() {
                Some(held) => break held,
                None => thread::yield_now(),
            }
        };
        let current = held.current();
        let record = Record {
            generation: Generation(current.record.generation.0 + 1),
            segment_bytes: payload.len() as u64,
            published_at_ns: clock::wall_ns(),
            ..Record::default()
        };
        let payload = open_payload(payload, files, current.payload.as_ref())?;
        let page = &self.window.page().version;
        let next = version::newest(page).wrapping_add(1);
        held.make_current(Node::new(next, record, payload, None, &self.cold.mapped), Pace::AtOnce);
        version::advance(page);
        Ok(record.generation)
    }

    /// The current generation, for as long as the guard lives; as current as one load of the version can tell.
    ///
    /// Takes no lock, makes no system call and allocates nothing while the version stands (but for the first time in a
    /// thread). May be nested, and called in a signal handler.
    #[inline]
    pub fn enter(&self) -> Guard<'_, P> {
        match Local::enter() {
            Some(hazard) => {
                let guard = self.guard(hazard);
                if self.version_is(guard.node().version()) { guard } else { self.catch_up(guard) }
            }
            None => self.enter_slowly(),
        }
    }

    /// The same where nothing else is to be done first; `None` sends the caller to [`Reader::enter`].
    #[inline]
    pub(crate) fn enter_now(&self) -> Option<Guard<'_, P>> {
        let guard = self.guard(Local::enter()?);
        self.version_is(guard.node().version()).then_some(guard)
    }

    /// The newest generation, kept until the last clone of it is dropped; `None` while detached.
    #[must_use]
    pub fn pin(&self) -> Option<Pinned<P>> {
        let guard = self.enter();
        if self.version_is(guard.node().version()) {
            return guard.pin();
        }
        drop(guard);
        self.follow_at_once();
        self.enter().pin()
    }

    /// Whether what [`Guard::version`] gave is still the newest: one load and a comparison.
    ///
    /// What was read from that guard is then still what another `enter` would read.
    #[inline]
    #[must_use]
    pub fn version_is(&self, version: u64) -> bool {
        version::newest(&self.window.page().version) == version
    }

    /// The newest version there is, whether or not it has been adopted yet: one load.
    #[inline]
    #[must_use]
    pub fn newest_version(&self) -> u64 {
        version::newest(&self.window.page().version)
    }

    /// The word that [`Reader::newest_version`] loads; it stays there as long as the reader lives, whatever page is shown.
    #[must_use]
    pub(crate) fn version_word(&self) -> *const u64 {
        (&raw const self.window.page().version).cast()
    }

    /// How current this reader is. Looks for a replaced store too, at most once a second.
    #[must_use]
    pub fn status(&self) -> Status {
        self.look();
        self.follow_at_once();
        // What a thread was inside of at the last swap may be free by now: not to be counted as mapped.
        if let Some(mut held) = self.lock() {
            held.reap(Pace::AtOnce);
        }
        let guard = self.enter();
        let node = guard.node();
        let page = self.window.page();
        let mut record = node.record;
        if let Some((_, words)) = page.latch().read()
            && let Some(Entry::Current(newest)) = Entry::parse(&words)
            && newest.same_segment(&record)
        {
            record = newest;
        }
        let Notes { error, path } = self.notes();
        let private = matches!(self.cold.source, Source::Private);
        let heard = record_time(record.upstream_confirmed_at_ns).or(record_time(record.published_at_ns));
        let age = heard.map(|at| SystemTime::now().duration_since(at).unwrap_or_default());
        let max_age = (record.max_age_ns != 0).then(|| Duration::from_nanos(record.max_age_ns));
        let too_old = age.zip(max_age).is_some_and(|(age, max_age)| age > max_age);
        let state = match page.writer.state() {
            _ if node.payload.is_none() => State::Detached,
            _ if private => State::Fresh,
            WriterState::Frozen => State::Frozen,
            WriterState::Fresh if error.is_none() && !too_old => State::Fresh,
            _ => State::Stale,
        };
        // ORDERING: Relaxed, all three; each stands for itself.
        let heartbeat = page.writer.heartbeat.load(Ordering::Relaxed);
        // ORDERING: as above.
        let pid = page.writer.pid.load(Ordering::Relaxed);
        let beats = clock::boottime_ns().checked_sub(heartbeat).is_some_and(|quiet| quiet < HEARTBEAT_LIMIT_NS);
        Status {
            path,
            generation: record.generation.0,
            revision: record.revision,
            published_at: record_time(record.published_at_ns),
            upstream_confirmed_at: record_time(record.upstream_confirmed_at_ns),
            age,
            max_age,
            state,
            daemon_alive: pid != 0 && beats,
            last_error: error,
            // ORDERING: as above.
            generations_mapped: usize::try_from(self.cold.mapped.load(Ordering::Relaxed)).unwrap_or(usize::MAX),
        }
    }

    fn new(source: Source, membarrier: bool, first: Node<P>) -> Result<Reader<P>, Error> {
        reclaim::register_fences(membarrier);
        let window = ControlWindow::anonymous(matches!(source, Source::Private));
        let window = window.map_err(|source| Error::io("map", CONTROL, source))?;
        let cold = Cold {
            source,
            mapped: Arc::new(AtomicU64::new(0)),
            next_look: AtomicU64::new(0),
            go_on_at: AtomicU64::new(0),
            leaving: AtomicU64::new(0),
            attached: AtomicU64::new(0),
            notes: AtomicPtr::new(boxed(Notes::default())),
            lock: Lock::new(),
            state: AtomicPtr::new(boxed(Swapper::new())),
        };
        let current = AtomicPtr::new(Arc::into_raw(Arc::new(first)).cast_mut());
        Ok(Reader { window, current, cold: Box::new(cold) })
    }

    #[inline]
    fn guard(&self, hazard: &'static Hazard) -> Guard<'_, P> {
        let node = reclaim::protect(&self.current, hazard);
        // SAFETY: `current` is never null.
        let node = unsafe { NonNull::new_unchecked(node) };
        Guard { node, hazard, reader: PhantomData, bound_to_thread: PhantomData }
    }

    #[cold]
    #[inline(never)]
    fn enter_slowly(&self) -> Guard<'_, P> {
        let (hazard, due) = reclaim::current_slot();
        if due {
            self.look();
            self.reap_a_part();
        }
        let guard = self.guard(hazard.unwrap_or_else(|| self.overflow_hazard()));
        if self.version_is(guard.node().version()) { guard } else { self.catch_up(guard) }
    }

    fn overflow_hazard(&self) -> &'static Hazard {
        // ORDERING: Relaxed; it only has to be something that is not null, `protect` does the rest.
        reclaim::overflow_hazard(self.current.load(Ordering::Relaxed).cast())
    }

    /// The version moved: follow it, unless another thread is at it or the last part was read just now, and enter again.
    #[cold]
    #[inline(never)]
    fn catch_up<'a>(&'a self, guard: Guard<'a, P>) -> Guard<'a, P> {
        if self.cold.rests() {
            return guard;
        }
        drop(guard);
        // ORDERING: Relaxed; a hint, the lock orders the rest.
        if self.cold.attached.load(Ordering::Relaxed) == 0 {
            self.look();
        } else if let Some(mut held) = self.lock() {
            let outcome = held.follow(Trigger::Version, Pace::InParts);
            held.note(outcome.as_ref().err());
        }
        let hazard = reclaim::current_slot().0;
        self.guard(hazard.unwrap_or_else(|| self.overflow_hazard()))
    }

    /// Follows the version to the end, if it moved and no other thread is at it.
    fn follow_at_once(&self) {
        // ORDERING: Relaxed; a hint, the lock orders the rest.
        if self.cold.attached.load(Ordering::Relaxed) != 0
            && let Some(mut held) = self.lock()
            && !self.version_is(held.current().version())
        {
            let outcome = held.follow(Trigger::Version, Pace::AtOnce);
            held.note(outcome.as_ref().err());
        }
    }

    /// Unmaps a part of what is no longer used, if there is such.
    fn reap_a_part(&self) {
        // ORDERING: Relaxed; a hint, the lock orders the rest.
        if self.cold.leaving.load(Ordering::Relaxed) == 0 {
            return;
        }
        if self.cold.rests() {
            reclaim::tick_soon();
        } else if let Some(mut held) = self.lock() {
            let begun = clock::monotonic_ns();
            held.reap(Pace::InParts);
            held.rest(begun);
        }
    }

    /// Looks whether the store is still at its path and whether what was refused can be had now, at most once a second.
    fn look(&self) {
        let (now, due) = (clock::coarse_ms(), &self.cold.next_look);
        // ORDERING: Relaxed; the exchange below lets one thread through, the lock orders the rest.
        let at = due.load(Ordering::Relaxed);
        // ORDERING: as above.
        if now < at || due.compare_exchange(at, now + LOOK_DETACHED_MS, Ordering::Relaxed, Ordering::Relaxed).is_err() {
            return;
        }
        let _ = self.look_now(Pace::InParts);
        // ORDERING: as above.
        if self.cold.attached.load(Ordering::Relaxed) != 0 {
            // ORDERING: as above.
            due.store(now + LOOK_MS, Ordering::Relaxed);
        }
    }

    fn look_now(&self, pace: Pace) -> Result<(), Error> {
        let Some(mut held) = self.lock() else { return Ok(()) };
        let outcome = match &self.cold.source {
            Source::Private => Ok(()),
            Source::Store(candidates) => held.stay_attached(candidates).and_then(|()| held.follow(Trigger::Time, pace)),
        };
        held.note(outcome.as_ref().err());
        held.reap(pace);
        outcome
    }

    fn lock(&self) -> Option<Held<'_, P>> {
        let locked = self.cold.lock.try_lock(incarnation())?;
        // ORDERING: Relaxed; guarded by the lock.
        let mut state = self.cold.state.load(Ordering::Relaxed);
        if locked == Locked::Orphaned {
            // Half done by a thread of the parent, maybe: start afresh and leave the old one where it is.
            state = boxed(Swapper::new());
            // ORDERING: Relaxed; guarded by the lock.
            self.cold.state.store(state, Ordering::Relaxed);
        }
        // SAFETY: never null, lives as long as the reader, and whoever holds the lock is alone with it.
        let state = unsafe { &mut *state };
        Some(Held { reader: self, state })
    }

    fn notes(&self) -> Notes {
        // ORDERING: Relaxed; it only has to be something that is not null.
        let hazard = reclaim::overflow_hazard(self.cold.notes.load(Ordering::Relaxed).cast());
        let notes = reclaim::protect(&self.cold.notes, hazard);
        // SAFETY: never null, and protected until the release below.
        let notes = unsafe { &*notes };
        let copy = Notes { error: notes.error.clone(), path: notes.path.clone() };
        reclaim::release(hazard);
        copy
    }
}

impl<P: Payload> Drop for Reader<P> {
    fn drop(&mut self) {
        // No guard outlives the reader, so no slot of this process holds anything of it.
        // ORDERING: Relaxed, all three; `&mut self` says that nobody else is here.
        let (state, notes) = (self.cold.state.load(Ordering::Relaxed), self.cold.notes.load(Ordering::Relaxed));
        // ORDERING: as above.
        let current = self.current.load(Ordering::Relaxed);
        // SAFETY: made by `boxed`, and not used again.
        let state = unsafe { Box::from_raw(state) };
        // SAFETY: made by `boxed`, and not used again.
        drop(unsafe { Box::from_raw(notes) });
        for notes in &state.retired_notes {
            // SAFETY: made by `boxed`, replaced, and not used again.
            drop(unsafe { Box::from_raw(*notes) });
        }
        for node in state.retired.iter().copied().chain([current]) {
            // SAFETY: made by `Arc::into_raw`; this is the count that stood for `current`.
            drop(unsafe { Arc::from_raw(node) });
        }
    }
}

impl<P: Payload> fmt::Debug for Reader<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").field("current", self.enter().node()).finish_non_exhaustive()
    }
}

/// The lock of the swapping thread, and what it guards.
struct Held<'a, P: Payload> {
    reader: &'a Reader<P>,
    state: &'a mut Swapper<P>,
}

impl<P: Payload> Held<'_, P> {
    fn current(&self) -> &Node<P> {
        // ORDERING: Relaxed; only the holder of the lock replaces it.
        let current = self.reader.current.load(Ordering::Relaxed);
        // SAFETY: never null, and only the holder of the lock retires it, through `&mut self`.
        unsafe { &*current }
    }

    /// Brings a store's control page into the window, or another one where the store was replaced.
    fn stay_attached(&mut self, candidates: &[Candidate]) -> Result<(), Error> {
        let Some(directory) = &self.state.directory else { return self.discover(candidates) };
        let here = control_id_at(&self.state.set);
        if here.as_ref().ok() == self.state.control.as_ref() && directory.is_ours() {
            return Ok(());
        }
        if here.is_ok() {
            let set = self.state.set.clone();
            let owner = candidates.iter().find(|candidate| candidate.set == set).and_then(|candidate| candidate.owner);
            let directory = Candidate { set: set.clone(), owner }.open()?;
            return self.attach(set, directory);
        }
        // The path leads nowhere: after a chroot, or because the store was deleted. The directory itself tells.
        let there = directory.control_id()?;
        if Some(there) == self.state.control { Ok(()) } else { self.show_control() }
    }

    fn discover(&mut self, candidates: &[Candidate]) -> Result<(), Error> {
        let mut tried = Vec::new();
        for candidate in candidates {
            let found = candidate.open().and_then(|directory| self.attach(candidate.set.clone(), directory));
            match found {
                Err(error) if error.io_kind().is_some_and(is_absence) => {
                    tried.push((candidate.set.clone(), "there is none".into()));
                }
                found => return found,
            }
        }
        Err(Error::NoStore { tried })
    }

    fn attach(&mut self, set: PathBuf, directory: StoreDir) -> Result<(), Error> {
        let earlier = self.state.directory.replace(directory);
        if let Err(error) = self.show_control() {
            self.state.directory = earlier;
            return Err(error);
        }
        self.state.set = set;
        // ORDERING: Relaxed; a hint, the lock orders the rest.
        self.reader.cold.attached.store(1, Ordering::Relaxed);
        Ok(())
    }

    /// Shows what is now the control page of the directory in the window.
    fn show_control(&mut self) -> Result<(), Error> {
        let Some(directory) = &self.state.directory else { return Ok(()) };
        let (file, id) = open_control(directory, OFlag::O_RDONLY)?;
        let shown = self.reader.window.show(&file, false);
        shown.map_err(|source| Error::io("map", directory.path().join(CONTROL), source))?;
        self.state.control = Some(id);
        self.state.refused = None;
        Ok(())
    }

    /// Makes current what the control page says is. An error leaves what was, and is not tried again before the version
    /// moves or (if it may pass) the next look.
    fn follow(&mut self, trigger: Trigger, pace: Pace) -> Result<(), Error> {
        if self.state.directory.is_none() {
            // The lock was an orphan's: what it knew stayed behind.
            self.follow_move()?;
        }
        let mut missing = 0;
        loop {
            let page = self.reader.window.page();
            let (version, words) = page.latch().read().ok_or_else(|| {
                Error::corrupt(self.state.set.join(CONTROL), "its version changes faster than a record can be read")
            })?;
            let Some(entry) = Entry::parse(&words) else {
                self.adopt(version, true);
                return Err(Error::corrupt(
                    self.state.set.join(CONTROL),
                    "the check word of its record does not match",
                ));
            };
            let record = match entry {
                Entry::Moved => {
                    let before = self.state.control;
                    let moved = self.follow_move();
                    if moved.is_ok() && self.state.control != before {
                        continue;
                    }
                    self.adopt(version, true);
                    return moved;
                }
                Entry::Current(record) => record,
            };
            let current = self.current();
            let has_flags = current.payload.is_some();
            let is_current = has_flags && record.same_segment(&current.record);
            if record.generation == Generation(0) {
                self.adopt(version, has_flags);
                let path = self.state.set.clone();
                return if has_flags { Ok(()) } else { Err(Error::NothingPublished { path }) };
            }
            if is_current {
                self.state.refused = None;
                self.adopt(version, false);
                return Ok(());
            }
            if let Some(refused) = &self.state.refused
                && refused.record.same_segment(&record)
                && !(refused.transient && trigger == Trigger::Time)
            {
                let reason = refused.reason.clone();
                self.adopt(version, true);
                return Err(Error::Payload(reason));
            }
            let pace = if self.may_be_behind(&record) { pace } else { Pace::AtOnce };
            let begun = clock::monotonic_ns();
            self.reap(pace);
            if self.state.incoming.is_none() && !self.state.leaving.is_empty() {
                // The generation before the current one goes before the next one comes.
                self.rest(begun);
                return Ok(());
            }
            match self.load(&record, pace) {
                Ok(Some((payload, segment))) => {
                    self.state.refused = None;
                    let mapped = &self.reader.cold.mapped;
                    self.make_current(Node::new(version, record, payload, Some(segment), mapped), pace);
                    return Ok(());
                }
                Ok(None) => {
                    self.rest(begun);
                    return Ok(());
                }
                Err(error) if error.io_kind() == Some(io::ErrorKind::NotFound) && missing < SEGMENT_RETRIES => {
                    // Overtaken between reading the record and opening the segment: the record is another by now.
                    missing += 1;
                    thread::yield_now();
                }
                Err(error) => {
                    let transient =
                        !matches!(error, Error::Corrupt { .. } | Error::Payload(_) | Error::UnknownFormat { .. });
                    self.state.refused = Some(Refused { record, reason: error.to_string(), transient });
                    self.adopt(version, true);
                    return Err(error);
                }
            }
        }
    }

    fn follow_move(&mut self) -> Result<(), Error> {
        match &self.reader.cold.source {
            Source::Store(candidates) => self.stay_attached(candidates),
            Source::Private => Ok(()),
        }
    }

    /// Whether evaluations may answer from what is current for now, while this record names something newer.
    fn may_be_behind(&mut self, record: &Record) -> bool {
        let current = self.current();
        if current.payload.is_none() {
            return false;
        }
        // What is missing first was published when the next generation was. Where that is not the one at hand, nobody knows.
        let is_next = record.generation.0 == current.record.generation.0.wrapping_add(1);
        let now = clock::monotonic_ns();
        let behind_since = *self.state.behind_since.get_or_insert_with(|| {
            let age = if is_next { clock::wall_ns().saturating_sub(record.published_at_ns) } else { u64::MAX };
            now.saturating_sub(age)
        });
        now.saturating_sub(behind_since) < BEHIND_LIMIT_NS
    }

    /// Maps the segment that a record names, reads it (on) and opens its payload; `None` while there is more to read.
    fn load(&mut self, record: &Record, pace: Pace) -> Result<Option<(P, Region)>, Error> {
        let Some(directory) = &self.state.directory else {
            return Err(Error::io("open", self.state.set.join(segment_name(record.generation)), Errno::EBADF));
        };
        let incoming = self.state.incoming.take().filter(|incoming| incoming.is_of(record));
        let (mut incoming, bytes) = match incoming {
            Some(incoming) => (incoming, pace.bytes()),
            None => {
                let incoming = Incoming::open(directory, record)?;
                // Mapping it was a part by itself.
                let bytes = if incoming.left() <= pace.bytes() { pace.bytes() } else { 0 };
                (incoming, bytes)
            }
        };
        if !incoming.read_on(bytes)? {
            self.state.incoming = Some(incoming);
            return Ok(None);
        }
        let (segment, payload) = incoming.finish();
        let payload = open_payload(payload, directory, self.current().payload.as_ref())?;
        Ok(Some((payload, segment)))
    }

    /// Keeps evaluations away for a quarter of the time that has gone into this part, unless that was spent waiting.
    fn rest(&self, begun: u64) {
        let now = clock::monotonic_ns();
        let rest = (now.saturating_sub(begun) / 4).min(LONGEST_REST_NS);
        // ORDERING: Relaxed; a hint, the lock orders the rest.
        self.reader.cold.go_on_at.store(now.saturating_add(rest), Ordering::Relaxed);
    }

    /// Nothing newer is to be had for now.
    fn caught_up(&mut self) {
        self.state.incoming = None;
        self.state.behind_since = None;
        // ORDERING: Relaxed; a hint, the lock orders the rest.
        self.reader.cold.go_on_at.store(0, Ordering::Relaxed);
    }

    /// Has evaluations answer from the current node at this version of the page.
    fn adopt(&mut self, version: u64, stands_in: bool) {
        self.caught_up();
        self.current().standing.adopt(version, stands_in);
    }

    fn make_current(&mut self, node: Node<P>, pace: Pace) {
        self.caught_up();
        let new = Arc::into_raw(Arc::new(node)).cast_mut();
        self.state.retired.push(reclaim::replace(&self.reader.current, new));
        self.reap(pace);
    }

    /// Says in the status how it went.
    fn note(&mut self, error: Option<&Error>) {
        // ORDERING: Relaxed; only the holder of the lock replaces it.
        let notes = self.reader.cold.notes.load(Ordering::Relaxed);
        // SAFETY: never null, and only the holder of the lock retires it.
        let notes = unsafe { &*notes };
        let path = self.state.directory.is_some().then_some(&self.state.set);
        let error = error.map(|error| match &self.state.refused {
            Some(Refused { record, reason, .. }) => format!("generation {} refused: {reason}", record.generation),
            None => error.to_string(),
        });
        if error != notes.error || path != notes.path.as_ref() {
            let path = path.cloned();
            let old = reclaim::replace(&self.reader.cold.notes, boxed(Notes { error, path }));
            self.state.retired_notes.push(old);
            self.reap(Pace::InParts);
        }
    }

    /// Frees what was replaced and is in no thread's hands any more.
    fn reap(&mut self, pace: Pace) {
        self.sort_out_unused();
        let Swapper { leaving, .. } = &mut *self.state;
        let mut bytes = pace.bytes();
        while let Some((node, unmapped)) = leaving.last_mut() {
            // A generation that somebody has pinned is not ours to unmap.
            let segment = node.segment.as_ref().filter(|_| Arc::strong_count(node) == 1);
            let rest = segment.map_or(0, |segment| segment.len().saturating_sub(*unmapped));
            if rest <= bytes {
                bytes -= rest;
                leaving.pop();
                continue;
            }
            if let Some(segment) = segment.filter(|_| bytes > 0) {
                segment.let_go(*unmapped, bytes);
                *unmapped += bytes;
            }
            break;
        }
        let left = !leaving.is_empty();
        if left {
            reclaim::tick_soon();
        }
        // ORDERING: Relaxed; a hint, the lock orders the rest.
        self.reader.cold.leaving.store(u64::from(left), Ordering::Relaxed);
    }

    /// Moves what no slot holds from `retired` to `leaving`, and frees old notes.
    fn sort_out_unused(&mut self) {
        let Swapper { retired, retired_notes, leaving, .. } = &mut *self.state;
        if retired.is_empty() && retired_notes.is_empty() {
            return;
        }
        reclaim::forget_threads_lost_by_fork();
        if !reclaim::heavy_fence() {
            return;
        }
        retired.retain(|&node| {
            let held = reclaim::slots_hold(node);
            if !held {
                // SAFETY: made by `Arc::into_raw`, replaced, and no thread can reach it but through a count of its own.
                leaving.push((unsafe { Arc::from_raw(node) }, 0));
            }
            held
        });
        retired_notes.retain(|&notes| {
            let held = reclaim::slots_hold(notes);
            if !held {
                // SAFETY: made by `boxed`, replaced, and no thread can reach it.
                drop(unsafe { Box::from_raw(notes) });
            }
            held
        });
    }
}

impl<P: Payload> Drop for Held<'_, P> {
    fn drop(&mut self) {
        self.reader.cold.lock.unlock();
    }
}

impl<P> Swapper<P> {
    fn new() -> Self {
        Swapper {
            directory: None,
            set: PathBuf::new(),
            control: None,
            refused: None,
            incoming: None,
            behind_since: None,
            retired: Vec::new(),
            leaving: Vec::new(),
            retired_notes: Vec::new(),
        }
    }
}

impl<P> Node<P> {
    fn new(version: u64, record: Record, payload: P, segment: Option<Region>, mapped: &Arc<AtomicU64>) -> Self {
        let counted = Some(Counted::new(mapped));
        let standing = Standing::new(version, false);
        Node { standing, record, payload: Some(payload), segment, _counted: counted }
    }

    /// Stands for "no store": its version, 1, is not that of the page of zeroes that the window begins with.
    fn detached() -> Self {
        Node {
            standing: Standing::new(1, true),
            record: Record::default(),
            payload: None,
            segment: None,
            _counted: None,
        }
    }

    #[inline]
    fn version(&self) -> u64 {
        self.standing.version()
    }
}

impl<P> fmt::Debug for Node<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node").field("generation", &self.record.generation.0).finish_non_exhaustive()
    }
}

/// Counts one node as mapped while it lives.
struct Counted(Arc<AtomicU64>);

impl Counted {
    fn new(mapped: &Arc<AtomicU64>) -> Self {
        // ORDERING: Relaxed; a figure for the status.
        mapped.fetch_add(1, Ordering::Relaxed);
        Counted(Arc::clone(mapped))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        // ORDERING: Relaxed; a figure for the status.
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The current generation, kept in place for one thread by its hazard slot. Meant for the length of an evaluation.
pub struct Guard<'a, P: Payload> {
    node: NonNull<Node<P>>,
    hazard: &'static Hazard,
    reader: PhantomData<&'a Reader<P>>,
    /// The slot is the thread's, so the guard can't go to another.
    bound_to_thread: PhantomData<*const ()>,
}

impl<P: Payload> Guard<'_, P> {
    /// What evaluations read; `None` while detached.
    #[inline]
    #[must_use]
    pub fn payload(&self) -> Option<&P> {
        self.node().payload.as_ref()
    }

    /// Number of the generation; 0 while detached.
    #[inline]
    #[must_use]
    pub fn generation(&self) -> Generation {
        self.node().record.generation
    }

    /// The record under which the generation was found. Its confirmation time is that of the first look.
    #[inline]
    #[must_use]
    pub fn record(&self) -> &Record {
        &self.node().record
    }

    /// What to keep with an answer that was read from here, for [`Reader::version_is`]. `None` where an answer must not be
    /// kept: while detached, and while this generation stands in for a newer one that was refused.
    #[inline]
    #[must_use]
    pub fn version(&self) -> Option<u64> {
        self.node().standing.lasting()
    }

    /// The same generation, for as long as it is wanted; `None` while detached.
    #[must_use]
    pub fn pin(&self) -> Option<Pinned<P>> {
        self.node().payload.as_ref()?;
        let node = self.node.as_ptr().cast_const();
        // SAFETY: `node` came out of `Arc::into_raw`, and the count that stands for `current` is not given up while the
        // hazard holds it.
        unsafe { Arc::increment_strong_count(node) };
        // SAFETY: takes over the count just added.
        Some(Pinned { node: unsafe { Arc::from_raw(node) } })
    }

    #[inline]
    fn node(&self) -> &Node<P> {
        // SAFETY: protected by the hazard until this guard is dropped.
        unsafe { self.node.as_ref() }
    }
}

impl<P: Payload> Drop for Guard<'_, P> {
    #[inline]
    fn drop(&mut self) {
        reclaim::release(self.hazard);
    }
}

impl<P: Payload> fmt::Debug for Guard<'_, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard").field("node", self.node()).finish_non_exhaustive()
    }
}

/// One generation, kept for as long as it is wanted: past swaps, and past its reader.
pub struct Pinned<P: Payload> {
    node: Arc<Node<P>>,
}

impl<P: Payload> Pinned<P> {
    /// What evaluations read.
    #[inline]
    #[must_use]
    pub fn payload(&self) -> &P {
        match &self.node.payload {
            Some(payload) => payload,
            None => unreachable!("only a node with a payload is pinned"),
        }
    }

    /// Number of the generation.
    #[inline]
    #[must_use]
    pub fn generation(&self) -> Generation {
        self.node.record.generation
    }

    /// The record under which the generation was found. Its confirmation time is that of the first look.
    #[inline]
    #[must_use]
    pub fn record(&self) -> &Record {
        &self.node.record
    }
}

impl<P: Payload> Clone for Pinned<P> {
    fn clone(&self) -> Self {
        Pinned { node: Arc::clone(&self.node) }
    }
}

impl<P: Payload> fmt::Debug for Pinned<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pinned").field("generation", &self.node.record.generation.0).finish_non_exhaustive()
    }
}

fn open_payload<P: Payload>(payload: Region, files: &dyn Files, previous: Option<&P>) -> Result<P, Error> {
    // Whatever the bytes are, they must not take the host process down.
    catch_unwind(AssertUnwindSafe(|| P::open(payload, files, previous)))
        .unwrap_or_else(|_| Err(Error::Payload("reading it failed unexpectedly (a panic)".into())))
}

/// Whether an error says that there is nothing at a path, so that the next path is tried.
fn is_absence(kind: io::ErrorKind) -> bool {
    matches!(kind, io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn record_time(ns: u64) -> Option<SystemTime> {
    (ns != 0).then(|| SystemTime::UNIX_EPOCH + Duration::from_nanos(ns))
}

fn boxed<T>(value: T) -> *mut T {
    Box::into_raw(Box::new(value))
}
