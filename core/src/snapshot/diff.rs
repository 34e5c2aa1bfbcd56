//! What changed from one snapshot to the next, flag by flag.

use super::{Snapshot, SnapshotFlag};
use crate::evaluate::ScalarRef;

/// A flag that two snapshots do not have alike. At least one of `before` and `after` is there.
///
/// A flag is told from all others by its key and its flag set together, so one that moved to another set is two changes:
/// to those who select by set it left the one and came into the other.
#[derive(Clone, Copy, Debug)]
pub struct Change<'s> {
    /// Its key.
    pub key: &'s str,
    /// The flag set it is in; `None` in none.
    pub flag_set: Option<&'s str>,
    /// The flag as the older snapshot has it; `None` where it was added.
    pub before: Option<SnapshotFlag<'s>>,
    /// The flag as the newer snapshot has it; `None` where it was removed.
    pub after: Option<SnapshotFlag<'s>>,
}

/// What happened to a flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ChangeKind {
    /// Only the newer snapshot has it.
    Added,
    /// Only the older snapshot has it.
    Removed,
    /// Both have it, and it may behave otherwise: any part of it is another, or the content of an id list it refers to.
    Changed,
}

impl ChangeKind {
    /// The word for it: `added`, `removed`, `changed`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Removed => "removed",
            Self::Changed => "changed",
        }
    }
}

impl Change<'_> {
    /// What happened to it.
    #[must_use]
    pub const fn kind(&self) -> ChangeKind {
        match (&self.before, &self.after) {
            (None, _) => ChangeKind::Added,
            (Some(_), None) => ChangeKind::Removed,
            (Some(_), Some(_)) => ChangeKind::Changed,
        }
    }
}

/// The flags that `a` (the older) and `b` (the newer) do not have alike, in the order of their keys and then their flag sets.
///
/// Takes one pass over both, comparing compiled bytes: a million flags on each side, no rule looked into.
#[must_use]
pub fn diff<'s>(a: &'s Snapshot, b: &'s Snapshot) -> Vec<Change<'s>> {
    let (mut before, mut after) = (flags(a).into_iter().peekable(), flags(b).into_iter().peekable());
    let mut changes = Vec::new();
    loop {
        let order = match (before.peek(), after.peek()) {
            (Some((old, _)), Some((new, _))) => old.cmp(new),
            (Some(_), None) => std::cmp::Ordering::Less,
            (None, Some(_)) => std::cmp::Ordering::Greater,
            (None, None) => return changes,
        };
        let old = if order.is_le() { before.next() } else { None };
        let new = if order.is_ge() { after.next() } else { None };
        let (before, after) = (old.map(|(_, flag)| flag), new.map(|(_, flag)| flag));
        let same = matches!((&before, &after), (Some(before), Some(after)) if before.same_as(after));
        if let Some(((key, flag_set), _)) = old.or(new).filter(|_| !same) {
            changes.push(Change { key, flag_set, before, after });
        }
    }
}

/// The flags of a snapshot by what tells them apart, in that order.
fn flags(snapshot: &Snapshot) -> Vec<((&str, Option<&str>), SnapshotFlag<'_>)> {
    let mut flags: Vec<_> = snapshot.flags().map(|flag| ((flag.key, flag_set(&flag)), flag)).collect();
    // They come sorted, which this finds out in one pass; only bytes that nobody compiled make it sort.
    flags.sort_by_key(|(name, _)| *name);
    flags
}

/// The flag set a flag is in: `flagSetId` of its metadata; `None` where that is absent, empty or no text.
#[must_use]
pub fn flag_set<'s>(flag: &SnapshotFlag<'s>) -> Option<&'s str> {
    match flag.metadata.entry("flagSetId") {
        Some(ScalarRef::Text(id)) if !id.is_empty() => Some(id),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        compile::Compiler,
        definition::{Document, Format, Limits, Selector},
    };

    fn snapshot(documents: &[&str]) -> Snapshot {
        let limits = Limits::default();
        let parse = |(number, text): (usize, &&str)| {
            Document::parse(&format!("{number}.json"), *text, Format::Json, &limits).expect("a definition")
        };
        let documents: Vec<Document> = documents.iter().enumerate().map(parse).collect();
        let compiled = Compiler::new(limits).compile(&documents, &Selector::All).expect("compiles");
        Snapshot::from_bytes(&compiled.snapshot).expect("a snapshot")
    }

    fn named(a: &Snapshot, b: &Snapshot) -> Vec<String> {
        let name = |change: &Change<'_>| match change.flag_set {
            Some(set) => format!("{} {} in {set}", change.kind().as_str(), change.key),
            None => format!("{} {}", change.kind().as_str(), change.key),
        };
        diff(a, b).iter().map(name).collect()
    }

    fn flag(default: &str) -> String {
        format!(r#"{{"state": "ENABLED", "variants": {{"on": true, "off": false}}, "defaultVariant": "{default}"}}"#)
    }

    #[test]
    fn a_snapshot_is_like_itself_however_its_flags_were_ordered() {
        let (on, off) = (flag("on"), flag("off"));
        let a = snapshot(&[&format!(r#"{{"flags": {{"a": {on}, "b": {off}}}}}"#)]);
        let b = snapshot(&[&format!(r#"{{"flags": {{"b": {off}, "a": {on}}}}}"#)]);
        assert_eq!(named(&a, &b), Vec::<String>::new());
        assert_eq!(named(&a, &a), Vec::<String>::new());
    }

    #[test]
    fn added_removed_and_changed_come_in_the_order_of_keys() {
        let (on, off) = (flag("on"), flag("off"));
        let a = snapshot(&[&format!(r#"{{"flags": {{"a": {on}, "b": {off}, "d": {on}}}}}"#)]);
        let b = snapshot(&[&format!(r#"{{"flags": {{"b": {on}, "c": {on}, "d": {on}, "e": {off}}}}}"#)]);
        assert_eq!(named(&a, &b), ["removed a", "changed b", "added c", "added e"]);
        assert_eq!(named(&b, &a), ["added a", "changed b", "removed c", "removed e"]);
        let changed = diff(&a, &b)[1];
        assert_eq!(changed.before.and_then(|flag| flag.default_variant()), Some("off"));
        assert_eq!(changed.after.and_then(|flag| flag.default_variant()), Some("on"));
        let empty = snapshot(&[r#"{"flags": {}}"#]);
        assert_eq!(named(&empty, &a).len(), 3);
        assert_eq!(named(&empty, &empty), Vec::<String>::new());
    }

    #[test]
    fn a_flag_is_its_key_in_its_set() {
        let set = |id: &str, default: &str| {
            let flag = flag(default);
            format!(r#"{{"metadata": {{"flagSetId": "{id}"}}, "flags": {{"k": {flag}}}}}"#)
        };
        let a = snapshot(&[&set("one", "on"), &set("two", "on")]);
        let b = snapshot(&[&set("one", "on"), &set("two", "off")]);
        assert_eq!(named(&a, &b), ["changed k in two"]);
        let moved = snapshot(&[&set("one", "on"), &set("three", "on")]);
        assert_eq!(named(&a, &moved), ["added k in three", "removed k in two"]);
        assert_eq!(named(&a, &snapshot(&[&set("one", "on"), &set("", "on")])), ["added k", "removed k in two"]);
    }

    #[test]
    fn metadata_of_the_set_is_part_of_a_flag_and_its_place_is_not() {
        let with = |metadata: &str, other: &str| {
            let flag = flag("on");
            let first = format!(r#"{{"metadata": {{{other}}}, "flags": {{"a": {flag}}}}}"#);
            let second = format!(r#"{{"metadata": {{{metadata}}}, "flags": {{"k": {flag}}}}}"#);
            snapshot(&[&first, &second])
        };
        // Without metadata the first set has no place of its own, and the second moves up.
        let (a, b) = (with(r#""owner": "x""#, ""), with(r#""owner": "x""#, r#""v": 1"#));
        assert_eq!(named(&a, &b), ["changed a"]);
        assert_eq!(named(&a, &with(r#""owner": "y""#, "")), ["changed k"]);
    }
}
