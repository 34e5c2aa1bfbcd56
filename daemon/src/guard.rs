//! What is looked at before anything is published: can it be read back, does every flag answer, and how much would go.

use std::collections::{BTreeMap, BTreeSet};

use libflags::Context;
use libflags::evaluate::{ErrorCode, ScalarRef, Want};
use libflags::snapshot::{Snapshot, SnapshotFlag};
use xxhash_rust::xxh3::xxh3_64;

use crate::config::GuardSettings;

/// What matters of a snapshot when the next one comes: which flags there are, and whether they are on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Summary {
    /// In this order.
    flags: Vec<Seen>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Seen {
    /// The hash of its key.
    key: u64,
    /// The hash of what tells it from all others.
    name: u64,
    enabled: bool,
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
        let mut flags: Vec<Seen> = snapshot.flags().map(|flag| Seen::ask(snapshot, &flag)).collect();
        flags.sort_unstable();
        Self { flags }
    }

    /// The summary of a snapshot that has only flags called `keys` otherwise than this one: only they are asked.
    pub(crate) fn after(&self, snapshot: &Snapshot, keys: &BTreeSet<String>) -> Self {
        let mut changed: Vec<u64> = keys.iter().map(|key| xxh3_64(key.as_bytes())).collect();
        changed.sort_unstable();
        let now = keys.iter().flat_map(|key| snapshot.flags_called(key)).map(|flag| Seen::ask(snapshot, &flag));
        let mut now: Vec<Seen> = now.collect();
        now.sort_unstable();
        let mut flags = Vec::with_capacity(self.flags.len() + now.len());
        let (mut rest, mut now) = (self.flags.as_slice(), now.as_slice());
        for key in changed {
            let (before, from) = rest.split_at(rest.partition_point(|flag| flag.key < key));
            flags.extend_from_slice(before);
            rest = &from[from.partition_point(|flag| flag.key == key)..];
            let (these, others) = now.split_at(now.partition_point(|flag| flag.key <= key));
            flags.extend_from_slice(these);
            now = others;
        }
        flags.extend_from_slice(rest);
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
        // Both are sorted: one pass over them.
        let mut rest = after.flags.iter().peekable();
        for flag in &self.flags {
            let tells = |flag: &Seen| (flag.key, flag.name);
            while rest.next_if(|other| tells(other) < tells(flag)).is_some() {}
            match rest.peek().filter(|other| tells(other) == tells(flag)) {
                None => removed += 1,
                Some(now) => disabled += usize::from(flag.enabled && !now.enabled),
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

impl Seen {
    fn ask(snapshot: &Snapshot, flag: &SnapshotFlag<'_>) -> Self {
        let answer = snapshot.evaluate(flag.key.as_bytes(), Want::Any, &Context::anonymous());
        debug_assert!(answer.error != Some(ErrorCode::FlagNotFound), "{} is not found", flag.key);
        Self { key: xxh3_64(flag.key.as_bytes()), name: xxh3_64(name(flag).as_bytes()), enabled: flag.enabled() }
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
    use libflags::compile::Compiler;
    use libflags::definition::{Document, Format, Limits, Selector};

    const SETTINGS: GuardSettings = GuardSettings { max_loss_percent: 50, min_flags: 10 };

    fn summary(enabled: std::ops::Range<u64>, disabled: std::ops::Range<u64>) -> Summary {
        let seen = |key, enabled| Seen { key, name: key, enabled };
        let mut flags: Vec<_> =
            enabled.map(|key| seen(key, true)).chain(disabled.map(|key| seen(key, false))).collect();
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
    fn asking_changed_flags_alone_sees_what_asking_all_does() {
        let snapshot = |flags: &[(&str, &str, &str)]| {
            let flags: Vec<String> = flags
                .iter()
                .map(|(key, state, set)| {
                    format!(
                        r#""{key}": {{"state": "{state}", "variants": {{"on": true}}, "metadata": {{"flagSetId": "{set}"}}}}"#
                    )
                })
                .collect();
            let text = format!(r#"{{"flags": {{{}}}}}"#, flags.join(","));
            let document = Document::parse("f", text, Format::Json, &Limits::default()).expect("a definition");
            let compiled = Compiler::new(Limits::default()).compile(&[document], &Selector::All).expect("compiles");
            Snapshot::from_bytes(&compiled.snapshot).expect("a snapshot")
        };
        let before =
            snapshot(&[("a", "ENABLED", ""), ("b", "ENABLED", "x"), ("c", "ENABLED", ""), ("d", "ENABLED", "")]);
        let after =
            snapshot(&[("a", "DISABLED", ""), ("b", "ENABLED", "y"), ("c", "ENABLED", ""), ("e", "ENABLED", "")]);
        let keys = |keys: &[&str]| keys.iter().map(|key| (*key).to_owned()).collect::<BTreeSet<_>>();
        let of_changed = Summary::of(&before).after(&after, &keys(&["a", "b", "d", "e", "never"]));
        assert_eq!(of_changed, Summary::of(&after));
        assert_ne!(of_changed, Summary::of(&before).after(&after, &keys(&["a", "b", "d"])), "e is not asked");
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
