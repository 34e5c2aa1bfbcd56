//! What is believed, and in which order: no text is looked into before its seal, and none that is older than what is in force is taken.

use std::fmt;

use flags_sync::{Change, EventId, Gap, Snapshot, Stamp, SyncError, Trust};

use super::Definition;

/// The state of one environment.
#[derive(Debug)]
pub(super) struct State {
    environment: String,
    trust: Trust,
    definition: Option<Definition>,
    /// What was in force before this flagsd started, where that may be newer than what it remembers.
    floor: Option<EventId>,
}

/// Why a text is not taken.
#[derive(Debug)]
pub(super) enum Refusal {
    Sync(SyncError),
    /// It is older than what is in force.
    Older {
        found: EventId,
        known: EventId,
    },
    /// Something before it is missing.
    Gap(Gap),
}

impl State {
    /// `saved` is what is remembered of it.
    pub(super) fn new(environment: String, trust: Trust, saved: Option<Definition>, floor: Option<EventId>) -> Self {
        let definition = saved.filter(|saved| saved.stamp().environment == environment);
        Self { environment, trust, definition, floor }
    }

    /// The state, if it is not older than what was in force before.
    pub(super) fn current(&self) -> Option<&Definition> {
        let reached = |known: &&Definition| self.floor.is_none_or(|floor| known.position() >= floor);
        self.definition.as_ref().filter(reached)
    }

    /// Where changes go on from.
    pub(super) fn position(&self) -> Option<EventId> {
        self.definition.as_ref().map(Definition::position)
    }

    /// Takes a whole state; whether it is another one.
    ///
    /// # Errors
    ///
    /// [`Refusal`], and nothing is changed.
    pub(super) fn take_snapshot(&mut self, text: &str) -> Result<bool, Refusal> {
        let snapshot = Snapshot::open(text, &self.environment, &self.trust).map_err(Refusal::Sync)?;
        let found = position(&snapshot.stamp);
        if let Some(known) = self.position().max(self.floor).filter(|known| found < *known) {
            return Err(Refusal::Older { found, known });
        }
        if self.position() == Some(found) {
            return Ok(false);
        }
        self.definition = Some(snapshot.into());
        Ok(true)
    }

    /// A change that follows on this state.
    ///
    /// # Errors
    ///
    /// [`Refusal`].
    pub(super) fn open_change(&self, text: &str) -> Result<Change, Refusal> {
        let change = Change::open(text, &self.environment, &self.trust).map_err(Refusal::Sync)?;
        let found = position(&change.stamp);
        match self.position() {
            Some(known) if found <= known => Err(Refusal::Older { found, known }),
            _ => Ok(change),
        }
    }

    /// Goes to the state that a change leads to.
    ///
    /// # Errors
    ///
    /// [`Refusal::Gap`], and nothing is changed.
    pub(super) fn apply(&mut self, change: Change) -> Result<(), Refusal> {
        let after = (change.stamp.epoch, change.after);
        let Some(definition) = &self.definition else { return Err(Refusal::Gap(Gap { at: (0, 0), after })) };
        self.definition = Some(definition.after(change).map_err(Refusal::Gap)?);
        Ok(())
    }
}

fn position(stamp: &Stamp) -> EventId {
    EventId { epoch: stamp.epoch, revision: stamp.revision }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sync(error) => write!(f, "{error}"),
            Self::Older { found, known } => write!(f, "revision {found} is older than {known}, which is in force"),
            Self::Gap(gap) => write!(f, "{gap}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flags_sync::SecretKey;
    use std::collections::BTreeMap;

    const ENVIRONMENT: &str = "shop/production";

    fn stamp(epoch: u64, revision: u64) -> Stamp {
        Stamp { environment: ENVIRONMENT.to_owned(), epoch, revision, time_ms: 1, lost: None, mark: None }
    }

    fn snapshot(epoch: u64, revision: u64) -> Snapshot {
        Snapshot {
            stamp: stamp(epoch, revision),
            flags: BTreeMap::new(),
            evaluators: BTreeMap::new(),
            lists: BTreeMap::new(),
            metadata: BTreeMap::new(),
        }
    }

    fn change(epoch: u64, revision: u64) -> Change {
        let (flags, removed) = (BTreeMap::new(), Vec::new());
        Change {
            stamp: stamp(epoch, revision),
            after: revision - 1,
            after_mark: None,
            deliberate: false,
            flags,
            removed,
            evaluators: None,
            lists: Default::default(),
            metadata: None,
        }
    }

    #[test]
    fn no_text_that_is_older_is_taken_be_it_signed_well() {
        let key = SecretKey::from_seed(&[1; 32]);
        let mut state =
            State::new(ENVIRONMENT.to_owned(), Trust::from(key.public()), Some(snapshot(2, 5).into()), None);
        for (epoch, revision) in [(2, 4), (1, 9)] {
            assert!(matches!(state.take_snapshot(&snapshot(epoch, revision).seal(&key)), Err(Refusal::Older { .. })));
        }
        assert!(!state.take_snapshot(&snapshot(2, 5).seal(&key)).expect("the same"));
        assert!(matches!(state.open_change(&change(2, 5).seal(&key)), Err(Refusal::Older { .. })));
        let next = state.open_change(&change(2, 7).seal(&key)).expect("is newer");
        assert!(matches!(state.apply(next), Err(Refusal::Gap(_))));
        let next = state.open_change(&change(2, 6).seal(&key)).expect("is newer");
        state.apply(next).expect("follows");
        assert_eq!(state.position().map(|at| at.to_string()).as_deref(), Some("2.6"));
        let mut other = change(2, 7);
        state.definition = Some(Snapshot { stamp: Stamp { mark: Some(1), ..stamp(2, 6) }, ..snapshot(2, 6) }.into());
        other.after_mark = Some(2);
        let other = state.open_change(&other.seal(&key)).expect("is newer");
        assert!(matches!(state.apply(other), Err(Refusal::Gap(gap)) if gap.at == gap.after), "of another 2.6");
        assert!(state.take_snapshot(&snapshot(3, 1).seal(&key)).expect("a new epoch"));
        let other = SecretKey::from_seed(&[2; 32]);
        assert!(matches!(state.take_snapshot(&snapshot(4, 1).seal(&other)), Err(Refusal::Sync(_))));
        assert!(matches!(state.open_change(&change(3, 2).seal(&other)), Err(Refusal::Sync(_))));
    }

    #[test]
    fn what_was_in_force_before_a_restart_is_gone_on_from_or_waited_for() {
        let key = SecretKey::from_seed(&[1; 32]);
        let floor = Some(EventId { epoch: 1, revision: 7 });
        let mut state = State::new(ENVIRONMENT.to_owned(), Trust::Transport, Some(snapshot(1, 5).into()), floor);
        assert!(state.current().is_none());
        assert!(matches!(state.take_snapshot(&snapshot(1, 6).seal(&key)), Err(Refusal::Older { .. })));
        for revision in 6..=7 {
            assert!(state.current().is_none());
            state.apply(change(1, revision)).expect("follows");
        }
        assert!(state.current().is_some());
        let other = State::new("shop/test".to_owned(), Trust::Transport, Some(snapshot(1, 5).into()), None);
        assert!(other.position().is_none(), "of another environment");
    }
}
