//! What is looked at before anything is published: can it be read back, does every flag answer, and how much would go.

use std::collections::BTreeMap;

use libflags::Context;
use libflags::evaluate::{ErrorCode, ScalarRef, Want};
use libflags::snapshot::{Snapshot, SnapshotFlag};
use xxhash_rust::xxh3::xxh3_64;

use crate::config::GuardSettings;

/// What matters of a snapshot when the next one comes: which flags there are, and whether they are on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Summary {
    /// By hash of the key, sorted.
    flags: Vec<(u64, bool)>,
}

/// A change that takes away more than it may.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Loss {
    pub(crate) before: usize,
    pub(crate) after: usize,
    pub(crate) removed: usize,
    pub(crate) disabled: usize,
    pub(crate) max_percent: u8,
}

impl Summary {
    /// Asks every flag for its value, with an empty context: none may do harm to who asks.
    pub(crate) fn of(snapshot: &Snapshot) -> Self {
        let nobody = Context::anonymous();
        let mut flags: Vec<(u64, bool)> = snapshot
            .flags()
            .map(|flag| {
                let answer = snapshot.evaluate(flag.key.as_bytes(), Want::Any, &nobody);
                debug_assert!(answer.error != Some(ErrorCode::FlagNotFound), "{} is not found", flag.key);
                (xxh3_64(name(&flag).as_bytes()), flag.enabled())
            })
            .collect();
        flags.sort_unstable();
        Self { flags }
    }

    pub(crate) fn len(&self) -> usize {
        self.flags.len()
    }

    /// What `after` takes away, if that is more than `settings` let pass.
    pub(crate) fn loss(&self, after: &Self, settings: &GuardSettings) -> Option<Loss> {
        if self.flags.len() < settings.min_flags {
            return None;
        }
        let (mut removed, mut disabled) = (0, 0);
        for (key, enabled) in &self.flags {
            match after.flags.binary_search_by_key(key, |(key, _)| *key) {
                Err(_) => removed += 1,
                Ok(at) => {
                    let now = after.flags.get(at).is_some_and(|(_, enabled)| *enabled);
                    disabled += usize::from(*enabled && !now);
                }
            }
        }
        let too_much = (removed + disabled) * 100 > self.flags.len() * usize::from(settings.max_loss_percent);
        too_much.then_some(Loss {
            before: self.flags.len(),
            after: after.flags.len(),
            removed,
            disabled,
            max_percent: settings.max_loss_percent,
        })
    }
}

impl std::fmt::Display for Loss {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { before, removed, disabled, max_percent, .. } = self;
        write!(
            f,
            "it removes {removed} and disables {disabled} of {before} flags, more than {max_percent} %; \
             `flagsctl confirm` publishes it"
        )
    }
}

/// Which flags a change removes and which it disables, by name, sorted.
pub(crate) fn names(before: &Snapshot, after: &Snapshot) -> (Vec<String>, Vec<String>) {
    let after: BTreeMap<String, bool> = after.flags().map(|flag| (name(&flag), flag.enabled())).collect();
    let (mut removed, mut disabled) = (Vec::new(), Vec::new());
    for flag in before.flags() {
        let name = name(&flag);
        match after.get(&name) {
            None => removed.push(name),
            Some(false) if flag.enabled() => disabled.push(name),
            Some(_) => {}
        }
    }
    removed.sort_unstable();
    disabled.sort_unstable();
    (removed, disabled)
}

/// What tells a flag from all others: its key, and where it is in a flag set, that.
fn name(flag: &SnapshotFlag<'_>) -> String {
    match flag.metadata.entry("flagSetId") {
        Some(ScalarRef::Text(set)) if !set.is_empty() => format!("{} ({set})", flag.key),
        _ => flag.key.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: GuardSettings = GuardSettings { max_loss_percent: 50, min_flags: 10 };

    fn summary(enabled: std::ops::Range<u64>, disabled: std::ops::Range<u64>) -> Summary {
        let mut flags: Vec<_> = enabled.map(|key| (key, true)).chain(disabled.map(|key| (key, false))).collect();
        flags.sort_unstable();
        Summary { flags }
    }

    #[test]
    fn more_than_half_is_held() {
        let before = summary(0..10, 10..12);
        let loss = |after: &Summary| before.loss(after, &SETTINGS).map(|loss| (loss.removed, loss.disabled));
        assert_eq!(loss(&before), None);
        assert_eq!(loss(&summary(6..12, 0..0)), None, "exactly half");
        assert_eq!(loss(&summary(7..12, 0..0)), Some((7, 0)));
        assert_eq!(loss(&summary(0..3, 3..12)), Some((0, 7)), "those that were disabled do not count");
        assert_eq!(loss(&summary(0..4, 4..8)), Some((4, 4)));
        assert_eq!(loss(&summary(100..200, 0..0)), Some((12, 0)), "others in their place are no comfort");
    }

    #[test]
    fn few_flags_are_never_held_and_the_share_is_configurable() {
        assert_eq!(summary(0..9, 0..0).loss(&Summary::default(), &SETTINGS), None);
        let lenient = GuardSettings { max_loss_percent: 100, ..SETTINGS };
        assert_eq!(summary(0..20, 0..0).loss(&Summary::default(), &lenient), None);
        let strict = GuardSettings { max_loss_percent: 0, ..SETTINGS };
        assert!(summary(0..20, 0..0).loss(&summary(1..20, 0..0), &strict).is_some());
    }
}
