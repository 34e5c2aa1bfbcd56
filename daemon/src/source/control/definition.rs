//! What an environment's flags are at one state: a value that is cheap to copy, and to go on from by a change.
//!
//! ```text
//! definition ──(change)──► definition ──(change)──► definition       each shares all that did not change with the one before
//!     └── text, document: made only where somebody asks for all of it
//! ```

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use flags_sync::{Change, EventId, Gap, List, Snapshot, Stamp};
use libflags::definition::{DefinitionError, Document, Format, Limits, PreparedList};
use serde_json::value::RawValue;

use super::shared::SharedMap;

/// All flags of an environment at one state.
#[derive(Clone, Debug)]
pub(crate) struct Definition(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    id: u64,
    stamp: Stamp,
    flags: SharedMap<Arc<RawValue>>,
    shared: Arc<Shared>,
    /// Its lists, built, once they are here.
    prepared: OnceLock<Vec<PreparedList>>,
    /// Bytes of the flags in the text, without what stands between them.
    flags_bytes: usize,
    /// All of it taken apart, once somebody has asked for that.
    document: OnceLock<Arc<Document>>,
}

/// What flags have in common, as the text has it.
#[derive(Clone, Debug, Default, serde::Serialize, serde::Deserialize)]
#[serde(default)]
struct Shared {
    #[serde(rename = "$evaluators", skip_serializing_if = "BTreeMap::is_empty")]
    evaluators: BTreeMap<String, Box<RawValue>>,
    #[serde(rename = "$lists", skip_serializing_if = "BTreeMap::is_empty")]
    lists: BTreeMap<String, List>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    metadata: BTreeMap<String, Box<RawValue>>,
}

/// What tells each definition of this process from all others.
static IDS: AtomicU64 = AtomicU64::new(1);

impl Definition {
    /// Out of its text, as it was remembered.
    ///
    /// # Errors
    ///
    /// Where it is no text of a definition.
    pub(crate) fn from_text(text: &str, stamp: Stamp) -> serde_json::Result<Self> {
        #[derive(serde::Deserialize)]
        struct Parts {
            flags: BTreeMap<String, Box<RawValue>>,
            #[serde(rename = "$evaluators", default)]
            evaluators: BTreeMap<String, Box<RawValue>>,
            #[serde(rename = "$lists", default)]
            lists: BTreeMap<String, List>,
            #[serde(default)]
            metadata: BTreeMap<String, Box<RawValue>>,
        }
        let Parts { flags, evaluators, lists, metadata } = serde_json::from_str(text)?;
        Ok(Snapshot { stamp, flags, evaluators, lists, metadata }.into())
    }

    /// Equal for no two states.
    pub(crate) fn id(&self) -> u64 {
        self.0.id
    }

    pub(crate) fn stamp(&self) -> &Stamp {
        &self.0.stamp
    }

    pub(crate) fn position(&self) -> EventId {
        EventId { epoch: self.0.stamp.epoch, revision: self.0.stamp.revision }
    }

    /// How many flags it has.
    pub(crate) fn len(&self) -> usize {
        self.0.flags.len()
    }

    /// The definition of a flag.
    pub(crate) fn flag(&self, key: &str) -> Option<&RawValue> {
        self.0.flags.get(key).map(|flag| &**flag)
    }

    /// The state that a change leads to.
    ///
    /// # Errors
    ///
    /// [`Gap`] where the change does not follow on this state.
    pub(crate) fn after(&self, change: Change) -> Result<Self, Gap> {
        let Inner { stamp, flags, shared, prepared, flags_bytes, .. } = &*self.0;
        change.check_follows(stamp)?;
        let (mut flags, mut flags_bytes) = (flags.clone(), *flags_bytes);
        for key in &change.removed {
            flags_bytes -= flags.remove(key).map_or(0, |old| bytes(key, &old));
        }
        for (key, flag) in change.flags {
            flags_bytes += bytes(&key, &flag);
            flags_bytes -= flags.insert(&key, flag.into()).map_or(0, |old| bytes(&key, &old));
        }
        let prepared = if change.lists.is_empty() { prepared.get().cloned() } else { None };
        let mut shared = Arc::clone(shared);
        if change.evaluators.is_some() || change.metadata.is_some() || !change.lists.is_empty() {
            let shared = Arc::make_mut(&mut shared);
            if let Some(evaluators) = change.evaluators {
                shared.evaluators = evaluators;
            }
            if let Some(metadata) = change.metadata {
                shared.metadata = metadata;
            }
            for (name, list) in change.lists {
                match list {
                    Some(list) => drop(shared.lists.insert(name, list)),
                    None => drop(shared.lists.remove(&name)),
                }
            }
        }
        let after = Self::new(change.stamp, flags, shared, flags_bytes);
        if let Some(prepared) = prepared {
            after.set_prepared(prepared);
        }
        Ok(after)
    }

    /// The flagd definition: JSON, keys sorted; as [`Snapshot::definition`].
    pub(crate) fn text(&self) -> String {
        let mut text = String::with_capacity(self.text_bytes());
        text.push_str(START);
        for (at, (key, flag)) in self.0.flags.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            // Into memory: there is nothing to fail.
            let _ = write!(text, "{comma}{}:{}", quoted(key), flag.get());
        }
        text.push('}');
        text.push_str(&self.shared_text());
        text.push('}');
        text
    }

    /// How long the text is.
    pub(crate) fn text_bytes(&self) -> usize {
        let commas = self.len().saturating_sub(1);
        START.len() + self.0.flags_bytes + commas + "}".len() + self.shared_text().len() + "}".len()
    }

    /// The text taken apart, under this name; made once, and kept as long as this state is of interest.
    ///
    /// # Errors
    ///
    /// Where it is beyond the limits.
    pub(crate) fn document(&self, name: &str, limits: &Limits) -> Result<Arc<Document>, DefinitionError> {
        if let Some(document) = self.0.document.get() {
            return Ok(Arc::clone(document));
        }
        let lists = self.0.prepared.get().cloned().unwrap_or_default();
        let document = Arc::new(Document::parse(name, self.text(), Format::Json, limits)?.with_lists(lists));
        if !self.is_prepared() {
            // It is another one once its lists are here.
            return Ok(document);
        }
        Ok(Arc::clone(self.0.document.get_or_init(|| document)))
    }

    /// Whether somebody has asked for all of it.
    #[cfg(test)]
    pub(crate) fn has_document(&self) -> bool {
        self.0.document.get().is_some()
    }

    /// What is said of the id lists that flags may refer to.
    pub(super) fn lists(&self) -> &BTreeMap<String, List> {
        &self.0.shared.lists
    }

    /// Whether it can be compiled: its lists are here.
    pub(super) fn is_prepared(&self) -> bool {
        self.0.shared.lists.is_empty() || self.0.prepared.get().is_some()
    }

    /// Its lists are here.
    pub(super) fn set_prepared(&self, lists: Vec<PreparedList>) {
        let _ = self.0.prepared.set(lists);
    }

    /// Whether both say the same, whichever states they are of.
    pub(crate) fn says_the_same(&self, other: &Self) -> bool {
        let flags = |definition: &Self| definition.0.flags.clone();
        let same_text = |one: &RawValue, other: &RawValue| one.get() == other.get();
        self.id() == other.id()
            || (self.len() == other.len()
                && self.shared_text() == other.shared_text()
                && flags(self)
                    .iter()
                    .zip(flags(other).iter())
                    .all(|(one, other)| one.0 == other.0 && same_text(one.1, other.1)))
    }

    /// What flags share, as members that follow on others.
    fn shared_text(&self) -> String {
        #[expect(clippy::expect_used, reason = "maps of texts to plain data have a JSON text")]
        let text = serde_json::to_string(&*self.0.shared).expect("plain data");
        match text.strip_prefix('{').and_then(|text| text.strip_suffix('}')) {
            None | Some("") => String::new(),
            Some(members) => format!(",{members}"),
        }
    }

    fn new(stamp: Stamp, flags: SharedMap<Arc<RawValue>>, shared: Arc<Shared>, flags_bytes: usize) -> Self {
        let id = IDS.fetch_add(1, Ordering::Relaxed);
        Self(Arc::new(Inner {
            id,
            stamp,
            flags,
            shared,
            prepared: OnceLock::new(),
            flags_bytes,
            document: OnceLock::new(),
        }))
    }
}

impl From<Snapshot> for Definition {
    fn from(snapshot: Snapshot) -> Self {
        let flags_bytes = snapshot.flags.iter().map(|(key, flag)| bytes(key, flag)).sum();
        let flags = snapshot.flags.into_iter().map(|(key, flag)| (key, Arc::from(flag))).collect();
        let Snapshot { stamp, evaluators, lists, metadata, .. } = snapshot;
        Self::new(stamp, flags, Arc::new(Shared { evaluators, lists, metadata }), flags_bytes)
    }
}

const START: &str = "{\"flags\":{";

/// How much of the text a flag is.
fn bytes(key: &str, flag: &RawValue) -> usize {
    quoted(key).len() + ":".len() + flag.get().len()
}

fn quoted(key: &str) -> String {
    #[expect(clippy::expect_used, reason = "any text has a JSON text")]
    serde_json::to_string(key).expect("plain data")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(revision: u64) -> Stamp {
        Stamp { environment: "a/b".to_owned(), epoch: 1, revision, time_ms: 0, lost: None, mark: None }
    }

    fn raw(text: String) -> Box<RawValue> {
        RawValue::from_string(text).expect("JSON")
    }

    fn empty() -> Snapshot {
        let (flags, evaluators, lists, metadata) = Default::default();
        Snapshot { stamp: stamp(1), flags, evaluators, lists, metadata }
    }

    #[test]
    fn whatever_changes_come_its_text_is_that_of_the_snapshot() {
        let mut random = fastrand::Rng::with_seed(3);
        let mut snapshot = empty();
        let mut definition = Definition::from(snapshot.clone());
        for revision in 2..1_500 {
            let key = |random: &mut fastrand::Rng| format!("\u{e4}\"{}\n", random.u32(..400));
            let flags = (0..random.usize(..4)).map(|_| (key(&mut random), raw(random.u64(..).to_string()))).collect();
            let removed = (0..random.usize(..4)).map(|_| key(&mut random)).collect();
            let mut sometimes = || {
                (random.u8(..20) == 0)
                    .then(|| (0..random.u8(..3)).map(|n| (n.to_string(), raw(random.u16(..).to_string()))).collect())
            };
            let (evaluators, metadata) = (sometimes(), sometimes());
            let change = Change {
                stamp: stamp(revision),
                after: revision - 1,
                after_mark: None,
                deliberate: false,
                flags,
                removed,
                evaluators,
                lists: BTreeMap::new(),
                metadata,
            };
            let before = definition.clone();
            definition = before.after(change.clone()).expect("follows");
            assert_eq!(before.text(), snapshot.definition(), "what was shared stays");
            snapshot.apply(change.clone()).expect("follows");
            assert_eq!(definition.text(), snapshot.definition());
            assert_eq!(definition.text_bytes(), definition.text().len());
            assert_eq!((definition.len(), definition.stamp()), (snapshot.flags.len(), &snapshot.stamp));
            assert_eq!(definition.says_the_same(&before), definition.text() == before.text());
            assert!(definition.after(change).is_err(), "not twice");
        }
        assert!(definition.len() > 100);
        assert!(definition.says_the_same(&Definition::from(snapshot)));
    }

    #[test]
    fn a_document_is_made_once_and_kept_with_its_state() {
        let definition = Definition::from(empty());
        let limits = Limits::default();
        let document = definition.document("name", &limits).expect("good");
        assert!(Arc::ptr_eq(&document, &definition.clone().document("name", &limits).expect("good")));
        let mut small = Limits::default();
        small.document_bytes = 5;
        assert!(Definition::from(empty()).document("name", &small).is_err());
    }
}
