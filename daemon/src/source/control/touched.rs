//! What changes have touched since the set was last given a definition: so it gets a patch, not the whole.

use std::collections::BTreeSet;

use flags_sync::Change;
use libflags::definition::{Document, Format, Limits};

use super::Definition;

/// Which flags may be others than in the definition that the set has.
#[derive(Debug, Default)]
pub(crate) struct Touched {
    /// That definition; `None` where more may be another than single flags.
    since: Option<Definition>,
    keys: BTreeSet<String>,
}

/// What leads from one definition to another: some flags, and nothing else.
#[derive(Debug)]
pub(crate) struct Patch {
    /// [`Definition::id`]s.
    pub(crate) from: u64,
    pub(crate) to: u64,
    /// The flags that are new or others now, under the definition's name.
    pub(crate) flags: Document,
    /// The same, and the flags that are no more.
    pub(crate) change: Change,
}

impl Touched {
    /// Nothing, since this definition was given.
    pub(crate) fn nothing_since(definition: &Definition) -> Self {
        Self { since: Some(definition.clone()), keys: BTreeSet::new() }
    }

    /// Everything may be another.
    pub(crate) fn all() -> Self {
        Self::default()
    }

    pub(crate) fn note(&mut self, change: &Change) {
        if change.evaluators.is_some() || !change.lists.is_empty() || change.metadata.is_some() {
            // Rules and lists are compiled into the flags that refer to them, and metadata is every flag's.
            *self = Self::all();
        }
        if self.since.is_some() {
            self.keys.extend(change.flags.keys().chain(&change.removed).cloned());
        }
    }

    /// What leads to `definition`, if that is a patch: the whole of it would be a document within the limits then.
    pub(crate) fn patch(&self, definition: &Definition, name: &str, limits: &Limits) -> Option<Patch> {
        let since = self.since.as_ref()?;
        if definition.len() > limits.flags || definition.text_bytes() > limits.document_bytes {
            // Its document says what is wrong.
            return None;
        }
        let (mut flags, mut removed) = (std::collections::BTreeMap::new(), Vec::new());
        for key in &self.keys {
            match definition.flag(key) {
                Some(flag) => drop(flags.insert(key.clone(), flag.to_owned())),
                None => removed.push(key.clone()),
            }
        }
        let (stamp, since_stamp) = (definition.stamp().clone(), since.stamp());
        let change = Change {
            stamp,
            after: since_stamp.revision,
            after_mark: since_stamp.mark,
            deliberate: false,
            flags,
            removed,
            evaluators: None,
            lists: std::collections::BTreeMap::new(),
            metadata: None,
        };
        let text = format!("{{\"flags\":{}}}", serde_json::to_string(&change.flags).ok()?);
        let flags = Document::parse(name, text, Format::Json, limits).ok()?;
        Some(Patch { from: since.id(), to: definition.id(), flags, change })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flags_sync::{Snapshot, Stamp};
    use serde_json::value::RawValue;
    use std::collections::BTreeMap;

    fn stamp(revision: u64) -> Stamp {
        Stamp { environment: "a/b".to_owned(), epoch: 1, revision, time_ms: 0, lost: None, mark: None }
    }

    fn flags(flags: &[(&str, &str)]) -> BTreeMap<String, Box<RawValue>> {
        let flag =
            |(key, text): &(&str, &str)| ((*key).to_owned(), RawValue::from_string((*text).to_owned()).expect("JSON"));
        flags.iter().map(flag).collect()
    }

    fn change(revision: u64, new: &[(&str, &str)], removed: &[&str]) -> Change {
        let removed = removed.iter().map(|key| (*key).to_owned()).collect();
        Change {
            stamp: stamp(revision),
            after: revision - 1,
            after_mark: None,
            deliberate: false,
            flags: flags(new),
            removed,
            evaluators: None,
            lists: BTreeMap::new(),
            metadata: None,
        }
    }

    #[test]
    fn several_changes_are_one_patch_of_what_is_so_after_them() {
        let snapshot = Snapshot {
            stamp: stamp(1),
            flags: flags(&[("a", "1"), ("b", "2")]),
            evaluators: flags(&[]),
            lists: BTreeMap::new(),
            metadata: BTreeMap::new(),
        };
        let first = Definition::from(snapshot);
        let mut touched = Touched::nothing_since(&first);
        let mut now = first.clone();
        for change in [change(2, &[("a", "3"), ("c", "4")], &["b"]), change(3, &[("b", "5")], &["a", "x"])] {
            touched.note(&change);
            now = now.after(change).expect("follows");
        }
        let limits = Limits::default();
        let patch = touched.patch(&now, "name", &limits).expect("a patch");
        assert_eq!((patch.from, patch.to), (first.id(), now.id()));
        assert_eq!(patch.flags.text(), r#"{"flags":{"b":5,"c":4}}"#);
        assert_eq!((patch.change.after, &patch.change.removed), (1, &vec!["a".to_owned(), "x".to_owned()]));
        assert_eq!(first.after(patch.change).expect("follows").text(), now.text());

        let mut small = limits.clone();
        small.flags = 1;
        assert!(touched.patch(&now, "name", &small).is_none(), "too many flags");
        small = limits.clone();
        small.document_bytes = now.text().len() - 1;
        assert!(touched.patch(&now, "name", &small).is_none(), "too long");
        let (mut evaluators, mut metadata) = (change(4, &[], &[]), change(4, &[], &[]));
        evaluators.evaluators = Some(flags(&[]));
        metadata.metadata = Some(flags(&[]));
        for more in [evaluators, metadata] {
            let mut touched = Touched::nothing_since(&first);
            touched.note(&more);
            assert!(touched.patch(&now, "name", &limits).is_none(), "more than flags");
        }
        assert!(Touched::all().patch(&now, "name", &limits).is_none());
    }
}
