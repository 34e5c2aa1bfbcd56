//! One environment in memory: its snapshot, and the changes that led to it.

use std::collections::VecDeque;
use std::io::Write;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use flags_sync::{Change, Event, EventId, PartHash, SecretKey, Snapshot, Stamp, Trust};
use flate2::Compression;
use flate2::write::GzEncoder;
use metrics::histogram;
use tokio::sync::watch;

use super::hosts::Hosts;
use crate::clock::now_ms;

/// How many changes are kept for those who resume, and how many bytes of them.
pub(super) const KEPT: (usize, usize) = (4_096, 32 << 20);

/// An environment that hosts follow.
#[derive(Debug)]
pub(crate) struct Live {
    pub(crate) id: i64,
    pub(crate) project_id: i64,
    state: Mutex<State>,
    /// Held by who goes on to another state, which nobody else does meanwhile.
    changing: Mutex<()>,
    /// Held by who works out the text of the snapshot.
    sealing: Mutex<()>,
    /// The newest state's id.
    newest: watch::Sender<EventId>,
    /// Who has published what, as far as was told here.
    pub(crate) hosts: Hosts,
}

#[derive(Debug)]
struct State {
    /// Signs the snapshot; it has signed the changes.
    secret: Arc<SecretKey>,
    /// Shared with who seals it; changes then go on with a copy.
    snapshot: Arc<Snapshot>,
    /// Its text, once somebody has asked for it.
    sealed: Option<Arc<Sealed>>,
    changes: VecDeque<Kept>,
    kept_bytes: usize,
}

/// A change, for those who resume.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    /// The state that it follows on.
    pub(super) after: EventId,
    time_ms: u64,
    wire: Bytes,
}

impl Kept {
    /// The change's text, out of the event that it goes over the wire as.
    pub(super) fn text(&self) -> &str {
        let wire = std::str::from_utf8(&self.wire).unwrap_or_default();
        wire.split_once("data: ").map_or("", |(_, text)| text.trim_end_matches('\n'))
    }
}

/// A snapshot's text, as it goes out.
#[derive(Debug)]
pub(crate) struct Sealed {
    pub(crate) id: EventId,
    pub(crate) text: Bytes,
    /// The same as an event.
    pub(crate) wire: Bytes,
    gzip: OnceLock<Bytes>,
}

impl Sealed {
    /// The text, compressed; the first to ask waits for that.
    pub(crate) fn gzip(&self) -> Bytes {
        let compressed = self.gzip.get_or_init(|| {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
            // Into memory: there is nothing to fail.
            let _ = encoder.write_all(&self.text);
            encoder.finish().unwrap_or_default().into()
        });
        compressed.clone()
    }

    /// Whether [`gzip`](Self::gzip) answers at once.
    pub(crate) fn is_compressed(&self) -> bool {
        self.gzip.get().is_some()
    }
}

/// What brings a stream up to date.
#[derive(Debug)]
pub(crate) enum Next {
    /// Events, each as it goes over the wire, and the state that they lead to.
    Events(Vec<Bytes>, EventId),
    /// There is nothing that goes on from where the stream is.
    Whole,
    /// The stream is where this replica has yet to come: another one was faster.
    Ahead,
    Nothing,
}

impl Live {
    /// Of a state, and the texts of the changes that led to it as [`replace`](Self::replace) takes them.
    pub(crate) fn new(id: i64, project_id: i64, secret: SecretKey, snapshot: Snapshot, texts: &[String]) -> Self {
        let newest = watch::Sender::new(id_of(&snapshot.stamp));
        let state = State::new(secret, snapshot, texts);
        Self {
            id,
            project_id,
            state: Mutex::new(state),
            changing: Mutex::new(()),
            sealing: Mutex::new(()),
            newest,
            hosts: Hosts::default(),
        }
    }

    pub(crate) fn newest(&self) -> EventId {
        *self.newest.borrow()
    }

    /// Which state the newest is.
    pub(super) fn stamp(&self) -> Stamp {
        self.lock().snapshot.stamp.clone()
    }

    /// What the key is made from that signs it.
    pub(super) fn seed(&self) -> [u8; 32] {
        self.lock().secret.seed()
    }

    /// At most so many of the latest changes that are known, the newest first.
    pub(super) fn kept(&self, most: usize) -> Vec<Kept> {
        self.lock().changes.iter().rev().take(most).cloned().collect()
    }

    /// Wakes who has subscribed, though the state is the same.
    pub(crate) fn ring(&self) {
        self.newest.send_modify(|_| {});
    }

    /// Tells of each new state.
    pub(crate) fn subscribe(&self) -> watch::Receiver<EventId> {
        self.newest.subscribe()
    }

    /// The newest state that was there at a time, as far back as changes are known; before that nothing is.
    pub(crate) fn as_of(&self, time_ms: u64) -> EventId {
        let state = self.lock();
        let mut at = id_of(&state.snapshot.stamp);
        if state.snapshot.stamp.time_ms <= time_ms {
            return at;
        }
        for kept in state.changes.iter().rev() {
            if kept.time_ms <= time_ms {
                return at;
            }
            at = kept.after;
        }
        EventId { epoch: 0, revision: 0 }
    }

    /// How many streams follow.
    pub(crate) fn streams(&self) -> usize {
        self.newest.receiver_count()
    }

    /// Takes the text of the next change.
    ///
    /// Returns false where it does not go on from here: everything has to be read anew then.
    pub(crate) fn advance(&self, text: &str) -> bool {
        let _one = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let at = self.stamp();
        // From our own database, and signed by ourselves.
        let Ok(change) = Change::open(text, &at.environment, &Trust::Transport) else { return false };
        let (after, id) = (id_of(&at), id_of(&change.stamp));
        // Declared before the lock is taken: where this is the last of an old state, its many flags are freed after the lock.
        let sealing;
        let mut state = self.lock();
        if Arc::get_mut(&mut state.snapshot).is_none() {
            // Copying what is being sealed takes a while, and streams go on meanwhile.
            sealing = Arc::clone(&state.snapshot);
            drop(state);
            let copy = Arc::new(Snapshot::clone(&sealing));
            state = self.lock();
            state.snapshot = copy;
        }
        if Arc::make_mut(&mut state.snapshot).apply(change).is_err() {
            return false;
        }
        state.sealed = None;
        let time_ms = state.snapshot.stamp.time_ms;
        let since_ms = u64::try_from(now_ms()).unwrap_or(0).saturating_sub(time_ms);
        histogram!("flags_control_follow_seconds").record(Duration::from_millis(since_ms));
        let wire = Bytes::from(Event::Change(text).to_wire(id));
        state.kept_bytes += wire.len();
        state.changes.push_back(Kept { after, time_ms, wire });
        while state.changes.len() > KEPT.0 || state.kept_bytes > KEPT.1 {
            let Some(oldest) = state.changes.pop_front() else { break };
            state.kept_bytes -= oldest.wire.len();
        }
        drop(state);
        self.newest.send_replace(id);
        true
    }

    /// Takes another state than the changes would have led to, another key, or both. `texts` are of the changes that led to it and that this key has signed, in
    /// order, for those who resume: what a process that has just started does not know.
    pub(crate) fn replace(&self, secret: SecretKey, snapshot: Snapshot, texts: &[String]) {
        let id = id_of(&snapshot.stamp);
        let state = State::new(secret, snapshot, texts);
        let _one = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        // Before anybody is woken: who needs the last of the changes alone gets no more.
        let old = std::mem::replace(&mut *self.lock(), state);
        drop(old); // many flags, after the lock
        self.newest.send_replace(id);
    }

    /// The current snapshot; works out its text if it is the first to ask, which takes milliseconds for many flags.
    pub(crate) fn sealed(&self) -> Arc<Sealed> {
        // One at a time, and the state is free meanwhile: streams go on, and a change goes on with a copy.
        let _one = self.sealing.lock().unwrap_or_else(PoisonError::into_inner);
        let (secret, snapshot) = {
            let state = self.lock();
            if let Some(sealed) = &state.sealed {
                return Arc::clone(sealed);
            }
            (Arc::clone(&state.secret), Arc::clone(&state.snapshot))
        };
        let text = snapshot.seal(&secret);
        let id = id_of(&snapshot.stamp);
        let wire = Bytes::from(Event::Snapshot(&text).to_wire(id));
        let sealed = Arc::new(Sealed { id, text: Bytes::from(text), wire, gzip: OnceLock::new() });
        let mut state = self.lock();
        if id_of(&state.snapshot.stamp) == id && Arc::ptr_eq(&state.secret, &secret) {
            state.sealed = Some(Arc::clone(&sealed));
        }
        sealed
    }

    /// What [`sealed`](Self::sealed) gives, if somebody has asked for it.
    pub(crate) fn if_sealed(&self) -> Option<Arc<Sealed>> {
        self.lock().sealed.clone()
    }

    /// Whether its lists are made of this part now.
    pub(super) fn names_part(&self, sha256: PartHash) -> bool {
        let state = self.lock();
        state.snapshot.lists.values().any(|list| list.parts.iter().any(|part| part.sha256 == sha256))
    }

    /// What a stream that is at `at` gets next.
    pub(crate) fn next(&self, at: Option<EventId>) -> Next {
        let state = self.lock();
        let newest = id_of(&state.snapshot.stamp);
        let Some(at) = at else { return Next::Whole };
        if at == newest {
            return Next::Nothing;
        }
        if at.epoch == newest.epoch && at.revision > newest.revision {
            return Next::Ahead;
        }
        // The newest are at the end, and most streams need only those.
        let missed = state.changes.iter().rev().position(|kept| kept.after == at);
        let Some(missed) = missed else { return Next::Whole };
        let from = state.changes.len() - 1 - missed;
        Next::Events(state.changes.iter().skip(from).map(|kept| kept.wire.clone()).collect(), newest)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn new(secret: SecretKey, snapshot: Snapshot, texts: &[String]) -> Self {
        let environment = &snapshot.stamp.environment;
        let mut leads_to = id_of(&snapshot.stamp);
        let (mut changes, mut kept_bytes) = (VecDeque::new(), 0);
        for text in texts.iter().rev() {
            // From our own database. What does not lead here is of no use to anybody, nor is what came before it.
            let Ok(change) = Change::open(text, environment, &Trust::Transport) else { break };
            if id_of(&change.stamp) != leads_to {
                break;
            }
            let wire = Bytes::from(Event::Change(text).to_wire(leads_to));
            leads_to = EventId { epoch: change.stamp.epoch, revision: change.after };
            kept_bytes += wire.len();
            changes.push_front(Kept { after: leads_to, time_ms: change.stamp.time_ms, wire });
        }
        Self { secret: Arc::new(secret), snapshot: Arc::new(snapshot), sealed: None, changes, kept_bytes }
    }
}

fn id_of(stamp: &Stamp) -> EventId {
    EventId { epoch: stamp.epoch, revision: stamp.revision }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn stamp(revision: u64) -> Stamp {
        Stamp { environment: "shop/test".to_owned(), epoch: 1, revision, time_ms: 0, lost: None, mark: None }
    }

    fn live() -> Live {
        live_at(1, &[])
    }

    fn live_at(revision: u64, texts: &[String]) -> Live {
        Live::new(1, 1, SecretKey::from_seed(&[3; 32]), snapshot(revision), texts)
    }

    fn snapshot(revision: u64) -> Snapshot {
        let (flags, evaluators, lists, metadata) = Default::default();
        Snapshot { stamp: stamp(revision), flags, evaluators, lists, metadata }
    }

    fn change(revision: u64) -> String {
        let flags = BTreeMap::from([(format!("flag-{revision}"), serde_json::value::RawValue::NULL.to_owned())]);
        let change = Change {
            stamp: stamp(revision),
            after: revision - 1,
            after_mark: None,
            deliberate: false,
            flags,
            removed: Vec::new(),
            evaluators: None,
            lists: BTreeMap::new(),
            metadata: None,
        };
        change.seal(&SecretKey::from_seed(&[3; 32]))
    }

    fn id(revision: u64) -> EventId {
        EventId { epoch: 1, revision }
    }

    #[test]
    fn a_stream_gets_what_it_missed_and_no_more() {
        let live = live();
        assert!(matches!(live.next(None), Next::Whole));
        assert!(matches!(live.next(Some(id(1))), Next::Nothing));
        for revision in 2..=4 {
            assert!(live.advance(&change(revision)));
        }
        let Next::Events(events, at) = live.next(Some(id(2))) else { panic!("two events") };
        assert_eq!((events.len(), at), (2, id(4)));
        assert!(events[0].starts_with(b"event: change\nid: 1.3\n"));
        assert!(matches!(live.next(Some(id(9))), Next::Ahead));
        assert!(matches!(live.next(Some(EventId { epoch: 2, revision: 3 })), Next::Whole));
    }

    #[test]
    fn a_change_that_is_kept_is_told_by_its_text() {
        let live = live();
        assert!(live.advance(&change(2)) && live.advance(&change(3)));
        let texts: Vec<_> = live.kept(9).iter().map(|kept| kept.text().to_owned()).collect();
        assert_eq!(texts, [change(3), change(2)]);
        assert_eq!(live.kept(1).len(), 1);
    }

    #[test]
    fn what_does_not_follow_is_not_taken() {
        let live = live();
        assert!(!live.advance(&change(3)));
        assert!(!live.advance("{}"));
        assert_eq!(live.newest(), id(1));
        assert!(live.advance(&change(2)));
        assert_eq!(live.newest(), id(2));
    }

    #[test]
    fn the_snapshot_is_of_the_newest_state() {
        let live = live();
        let first = live.sealed();
        assert!(Arc::ptr_eq(&first, &live.sealed()) && live.if_sealed().is_some(), "worked out once");
        live.advance(&change(2));
        let second = live.sealed();
        assert_eq!((first.id, second.id), (id(1), id(2)));
        let text = std::str::from_utf8(&second.text).expect("text");
        let trust = Trust::from(SecretKey::from_seed(&[3; 32]).public());
        let snapshot = Snapshot::open(text, "shop/test", &trust).expect("signed");
        assert_eq!(snapshot.flags.len(), 1);
    }

    #[test]
    fn what_is_being_sealed_stays_as_it_is_and_changes_go_on() {
        let live = live();
        assert!(live.advance(&change(2)));
        let sealing = Arc::clone(&live.lock().snapshot);
        for revision in 3..=5 {
            assert!(live.advance(&change(revision)));
        }
        assert!(!live.advance(&change(9)));
        assert_eq!((sealing.stamp.revision, sealing.flags.len()), (2, 1));
        assert!(matches!(live.next(Some(id(2))), Next::Events(events, at) if events.len() == 3 && at == id(5)));
        let sealed = live.sealed();
        let text = std::str::from_utf8(&sealed.text).expect("text");
        let snapshot = Snapshot::open(text, "shop/test", &Trust::Transport).expect("ours");
        assert_eq!((snapshot.stamp.revision, snapshot.flags.len()), (5, 4));
        assert_eq!(Arc::strong_count(&live.lock().snapshot), 1, "let go of");
    }

    #[test]
    fn streams_changes_and_sealing_at_once_see_whole_states() {
        let live = Arc::new(live());
        std::thread::scope(|scope| {
            let seals = scope.spawn(|| {
                let mut last = 1;
                while last < 400 {
                    let sealed = live.sealed();
                    let text = std::str::from_utf8(&sealed.text).expect("text");
                    let snapshot = Snapshot::open(text, "shop/test", &Trust::Transport).expect("ours");
                    assert_eq!(snapshot.flags.len() as u64 + 1, snapshot.stamp.revision, "a flag a revision");
                    assert!(snapshot.stamp.revision >= last);
                    last = snapshot.stamp.revision;
                }
            });
            let stream = scope.spawn(|| {
                let mut at = id(1);
                while at != id(400) {
                    match live.next(Some(at)) {
                        Next::Events(events, newest) => {
                            assert_eq!(events.len() as u64, newest.revision - at.revision);
                            at = newest;
                        }
                        Next::Nothing => {}
                        other => panic!("{other:?} at {at}"),
                    }
                }
            });
            for revision in 2..=400 {
                assert!(live.advance(&change(revision)));
            }
            seals.join().expect("no panic");
            stream.join().expect("no panic");
        });
    }

    #[test]
    fn what_led_here_is_taken_from_where_it_leads_here() {
        let live = live_at(9, &[change(4), change(6), change(7), change(8), change(9)]);
        assert!(matches!(live.next(Some(id(4))), Next::Whole), "a gap");
        let Next::Events(events, at) = live.next(Some(id(5))) else { panic!("four events") };
        assert_eq!((events.len(), at), (4, id(9)));
        assert!(live.advance(&change(10)));
        assert!(matches!(live.next(Some(id(5))), Next::Events(events, _) if events.len() == 5));
    }

    #[test]
    fn after_a_rotation_nothing_is_of_the_old_key() {
        let live = live_at(4, &[change(2), change(3), change(4)]);
        let streams = live.subscribe();
        assert!(live.sealed().text.len() > 1, "worked out by the old key");
        live.replace(SecretKey::from_seed(&[4; 32]), snapshot(5), &[change(5)]);
        assert!(streams.has_changed().expect("it is there"));
        assert!(matches!(live.next(Some(id(4))), Next::Events(events, _) if events.len() == 1));
        assert!(matches!(live.next(Some(id(3))), Next::Whole));
        let trust = Trust::from(SecretKey::from_seed(&[4; 32]).public());
        let text = live.sealed().text.clone();
        assert!(Snapshot::open(std::str::from_utf8(&text).expect("text"), "shop/test", &trust).is_ok());
    }

    #[test]
    fn old_changes_are_let_go() {
        let live = live();
        for revision in 2..=(KEPT.0 as u64 + 10) {
            assert!(live.advance(&change(revision)));
        }
        assert!(matches!(live.next(Some(id(1))), Next::Whole));
        assert!(matches!(live.next(Some(id(KEPT.0 as u64))), Next::Events(..)));
    }
}
