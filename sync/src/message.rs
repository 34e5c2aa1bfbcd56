//! Snapshots and changes of an environment.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::key::SecretKey;
use crate::list::List;
use crate::sealed::{self, SyncError, Trust};

const SNAPSHOT: &str = "snapshot";
const CHANGE: &str = "change";

/// Definitions by name, each as it is written.
type Definitions = BTreeMap<String, Box<RawValue>>;

/// Which state of which environment a text is of or leads to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    /// `project/environment`.
    pub environment: String,
    /// 1 at first; a later one begins when the environment is restored from a backup: revisions only grow within an epoch.
    pub epoch: u64,
    /// Counts the environment's changes.
    pub revision: u64,
    /// When it was made, milliseconds since 1970.
    pub time_ms: u64,
    /// How many flags have been removed, disabled or put into another flag set by changes that were not deliberate, in all of the epoch: it only grows. What one state has
    /// more than another is the most that went in between without somebody's word. `None`: nobody counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost: Option<u64>,
    /// Drawn at random for each revision, below 2^53. A database that lost what it had acknowledged gives a number a second time; the two states differ in this. `None`: nobody
    /// draws it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mark: Option<u64>,
}

impl Stamp {
    /// What orders the states of one environment.
    #[must_use]
    pub fn position(&self) -> (u64, u64) {
        (self.epoch, self.revision)
    }

    /// The most flags that went between an earlier state and this one without somebody's word for it; `None` where that is not known.
    #[must_use]
    pub fn lost_since(&self, earlier: &Self) -> Option<u64> {
        let same = (&self.environment, self.epoch) == (&earlier.environment, earlier.epoch);
        self.lost?.checked_sub(earlier.lost?).filter(|_| same && self.revision >= earlier.revision)
    }
}

/// All flags of an environment: a flagd definition with two further members, `$sync` and `$signature`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Snapshot {
    /// Which state this is.
    #[serde(rename = "$sync")]
    pub stamp: Stamp,
    /// Flag definitions by key, as flagd has them.
    pub flags: Definitions,
    /// Rules that flags share, by name.
    #[serde(rename = "$evaluators", default, skip_serializing_if = "BTreeMap::is_empty")]
    pub evaluators: Definitions,
    /// Id lists that flags may refer to, by name.
    #[serde(rename = "$lists", default, skip_serializing_if = "BTreeMap::is_empty")]
    pub lists: BTreeMap<String, List>,
    /// Metadata of the flag set: it comes with each flag's answers, below the flag's own.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: Definitions,
}

/// What leads from one state of an environment to the next: one transaction of the control plane.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Change {
    /// The state it leads to.
    #[serde(rename = "$sync")]
    pub stamp: Stamp,
    /// The revision that it follows on, of the same epoch.
    pub after: u64,
    /// The mark of that revision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after_mark: Option<u64>,
    /// Somebody has confirmed that many flags go at once: the blast-radius check on hosts does not hold it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub deliberate: bool,
    /// Flags that are new or others now.
    pub flags: Definitions,
    /// Keys of flags that are no more.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub removed: Vec<String>,
    /// All shared rules, where one of them changed.
    #[serde(rename = "$evaluators", default, skip_serializing_if = "Option::is_none")]
    pub evaluators: Option<Definitions>,
    /// Id lists that are new or others now; `null` for those that are no more.
    #[serde(rename = "$lists", default, skip_serializing_if = "BTreeMap::is_empty")]
    pub lists: BTreeMap<String, Option<List>>,
    /// All metadata of the flag set, where some of it changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Definitions>,
}

/// A change does not follow on a state: something in between is missing, or it is an old one, or it follows on another state of that number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// Epoch and revision of the state.
    pub at: (u64, u64),
    /// Epoch and revision that the change follows on; the same where it is another state.
    pub after: (u64, u64),
}

impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ((epoch, revision), (after_epoch, after)) = (self.at, self.after);
        if self.at == self.after {
            return write!(f, "the change follows on another revision {epoch}.{revision} than this: changes were lost");
        }
        write!(f, "the change follows on revision {after_epoch}.{after}, and this is {epoch}.{revision}")
    }
}

impl std::error::Error for Gap {}

impl Snapshot {
    /// Its text, signed: one line of JSON.
    #[must_use]
    pub fn seal(&self, key: &SecretKey) -> String {
        sealed::seal(SNAPSHOT, self, key)
    }

    /// A snapshot from its text.
    ///
    /// # Errors
    /// [`SyncError`], and nothing of the text is to be used then.
    pub fn open(text: &str, environment: &str, trust: &Trust) -> Result<Self, SyncError> {
        let snapshot: Self = sealed::open(SNAPSHOT, text, trust)?;
        of(environment, &snapshot.stamp)?;
        Ok(snapshot)
    }

    /// Makes it the state that `change` leads to.
    ///
    /// # Errors
    /// [`Gap`] where the change is not of this state; nothing is changed then.
    pub fn apply(&mut self, change: Change) -> Result<(), Gap> {
        change.check_follows(&self.stamp)?;
        for key in &change.removed {
            self.flags.remove(key);
        }
        self.flags.extend(change.flags);
        if let Some(evaluators) = change.evaluators {
            self.evaluators = evaluators;
        }
        for (name, list) in change.lists {
            match list {
                Some(list) => drop(self.lists.insert(name, list)),
                None => drop(self.lists.remove(&name)),
            }
        }
        if let Some(metadata) = change.metadata {
            self.metadata = metadata;
        }
        self.stamp = change.stamp;
        Ok(())
    }

    /// The flagd definition alone, and what it says of lists: JSON, keys sorted.
    #[must_use]
    pub fn definition(&self) -> String {
        #[derive(Serialize)]
        struct Definition<'s> {
            flags: &'s Definitions,
            #[serde(rename = "$evaluators", skip_serializing_if = "BTreeMap::is_empty")]
            evaluators: &'s Definitions,
            #[serde(rename = "$lists", skip_serializing_if = "BTreeMap::is_empty")]
            lists: &'s BTreeMap<String, List>,
            #[serde(skip_serializing_if = "BTreeMap::is_empty")]
            metadata: &'s Definitions,
        }
        let Self { flags, evaluators, lists, metadata, .. } = self;
        let definition = Definition { flags, evaluators, lists, metadata };
        #[expect(clippy::expect_used, reason = "maps of texts to JSON have a JSON text")]
        serde_json::to_string(&definition).expect("plain data")
    }
}

impl Change {
    /// Its text, signed: one line of JSON.
    #[must_use]
    pub fn seal(&self, key: &SecretKey) -> String {
        sealed::seal(CHANGE, self, key)
    }

    /// A change from its text.
    ///
    /// # Errors
    /// [`SyncError`], and nothing of the text is to be used then.
    pub fn open(text: &str, environment: &str, trust: &Trust) -> Result<Self, SyncError> {
        let change: Self = sealed::open(CHANGE, text, trust)?;
        of(environment, &change.stamp)?;
        Ok(change)
    }

    /// Whether it leads on from a state. Marks are compared where both are there.
    ///
    /// # Errors
    /// [`Gap`] where it does not.
    pub fn check_follows(&self, at: &Stamp) -> Result<(), Gap> {
        let after = (self.stamp.epoch, self.after);
        let is_other = self.after_mark.zip(at.mark).is_some_and(|(one, other)| one != other);
        if at.position() != after || at.environment != self.stamp.environment || is_other {
            return Err(Gap { at: at.position(), after });
        }
        Ok(())
    }
}

fn of(environment: &str, stamp: &Stamp) -> Result<(), SyncError> {
    if stamp.environment == environment {
        return Ok(());
    }
    Err(SyncError::OtherEnvironment { found: stamp.environment.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::list::{Part, PartHasher};

    const ENVIRONMENT: &str = "shop/production";

    fn raw(text: &str) -> Box<RawValue> {
        RawValue::from_string(text.to_owned()).expect("JSON")
    }

    fn stamp(revision: u64) -> Stamp {
        Stamp {
            environment: ENVIRONMENT.to_owned(),
            epoch: 1,
            revision,
            time_ms: 1_700_000_000_000,
            lost: None,
            mark: None,
        }
    }

    fn snapshot() -> Snapshot {
        // Both a flag that looks like a seal and one that is not ASCII.
        let flags = [("a", r#"{"state":"ENABLED","variants":{"on":true}}"#), ("é", r#"{"x":",\"$signature\":\""}"#)];
        let flags = flags.map(|(key, text)| (key.to_owned(), raw(text))).into();
        let metadata = BTreeMap::from([("flagSetId".to_owned(), raw("\"shop\""))]);
        Snapshot { stamp: stamp(7), flags, evaluators: BTreeMap::new(), lists: lists(3), metadata }
    }

    fn lists(ids: u64) -> BTreeMap<String, List> {
        let part = Part { sha256: PartHasher::default().finish(), bytes: 9, ids, removes: ids > 3 };
        ["staff", "gone"].map(|name| (name.to_owned(), List { ids, parts: vec![part.clone()] })).into()
    }

    fn change(revision: u64) -> Change {
        let flags = BTreeMap::from([("b".to_owned(), raw("{}"))]);
        let removed = vec!["a".to_owned()];
        let mut lists: BTreeMap<_, _> = lists(4).into_iter().map(|(name, list)| (name, Some(list))).collect();
        lists.insert("gone".to_owned(), None);
        Change {
            stamp: stamp(revision),
            after: revision - 1,
            after_mark: None,
            deliberate: false,
            flags,
            removed,
            evaluators: None,
            lists,
            metadata: (revision > 8).then(BTreeMap::new),
        }
    }

    fn keys() -> (SecretKey, Trust) {
        let secret = SecretKey::from_seed(&[1; 32]);
        let trust = Trust::from(secret.public());
        (secret, trust)
    }

    #[test]
    fn a_sealed_text_says_what_went_in() {
        let (secret, trust) = keys();
        let text = snapshot().seal(&secret);
        let opened = Snapshot::open(&text, ENVIRONMENT, &trust).expect("ours");
        assert_eq!(opened.definition(), snapshot().definition());
        assert_eq!((opened.stamp, &opened.lists), (snapshot().stamp, &lists(3)));
        assert_eq!(opened.metadata.len(), 1);
        let text = change(8).seal(&secret);
        let opened = Change::open(&text, ENVIRONMENT, &trust).expect("ours");
        assert_eq!((opened.after, opened.removed), (7, vec!["a".to_owned()]));
    }

    #[test]
    fn any_other_byte_and_any_cut_is_refused() {
        let (secret, trust) = keys();
        let text = snapshot().seal(&secret);
        for at in 0..text.len() {
            if let Some(cut) = text.get(..at) {
                assert!(Snapshot::open(cut, ENVIRONMENT, &trust).is_err(), "cut at {at}");
            }
            let mut other = text.clone().into_bytes();
            other[at] ^= 1;
            if let Ok(other) = String::from_utf8(other) {
                assert!(Snapshot::open(&other, ENVIRONMENT, &trust).is_err(), "byte {at}");
            }
        }
        assert!(Snapshot::open(&format!("{text}\n"), ENVIRONMENT, &trust).is_err());
    }

    #[test]
    fn another_key_kind_or_environment_is_refused() {
        let (secret, trust) = keys();
        let other = Trust::from(SecretKey::from_seed(&[2; 32]).public());
        let text = snapshot().seal(&secret);
        assert!(matches!(Snapshot::open(&text, ENVIRONMENT, &other), Err(SyncError::BadSignature)));
        assert!(matches!(Change::open(&text, ENVIRONMENT, &trust), Err(SyncError::BadSignature)));
        assert!(matches!(Snapshot::open(&text, "shop/test", &trust), Err(SyncError::OtherEnvironment { .. })));
        assert!(Snapshot::open(&text, ENVIRONMENT, &Trust::Transport).is_ok());
        assert!(matches!(Snapshot::open("{}", ENVIRONMENT, &Trust::Transport), Err(SyncError::Unsigned)));
    }

    #[test]
    fn any_of_several_keys_is_believed_and_none_but_these() {
        let [one, other, third] = [1, 2, 3].map(|seed| SecretKey::from_seed(&[seed; 32]));
        let both = Trust::Keys(vec![one.public(), other.public()]);
        for (key, is_believed) in [(&one, true), (&other, true), (&third, false)] {
            assert_eq!(Snapshot::open(&snapshot().seal(key), ENVIRONMENT, &both).is_ok(), is_believed);
            assert_eq!(Change::open(&change(8).seal(key), ENVIRONMENT, &both).is_ok(), is_believed);
        }
        let nobody = Trust::Keys(Vec::new());
        assert!(matches!(Snapshot::open(&snapshot().seal(&one), ENVIRONMENT, &nobody), Err(SyncError::BadSignature)));
    }

    #[test]
    fn what_went_without_a_word_is_the_difference_of_two_counts() {
        let at = |epoch, revision, lost| Stamp { epoch, lost, ..stamp(revision) };
        let since = |later: Stamp, earlier: Stamp| later.lost_since(&earlier);
        assert_eq!(since(at(1, 9, Some(7)), at(1, 3, Some(5))), Some(2));
        assert_eq!(since(at(1, 3, Some(5)), at(1, 3, Some(5))), Some(0));
        assert_eq!(since(at(1, 9, Some(7)), at(1, 3, None)), None);
        assert_eq!(since(at(1, 9, None), at(1, 3, Some(5))), None);
        assert_eq!(since(at(2, 9, Some(7)), at(1, 3, Some(5))), None, "counted anew");
        assert_eq!(since(at(1, 3, Some(7)), at(1, 9, Some(5))), None, "not later");
        assert_eq!(since(at(1, 9, Some(4)), at(1, 3, Some(5))), None, "it only grows");
        let other = Stamp { environment: "shop/test".to_owned(), ..at(1, 3, Some(5)) };
        assert_eq!(since(at(1, 9, Some(7)), other), None);
    }

    #[test]
    fn a_text_of_somebody_who_does_not_count_says_nothing_of_it() {
        let (secret, trust) = keys();
        let mut counted = snapshot();
        counted.stamp.lost = Some(3);
        let text = counted.seal(&secret);
        assert_eq!(Snapshot::open(&text, ENVIRONMENT, &trust).expect("ours").stamp.lost, Some(3));
        let text = snapshot().seal(&secret);
        assert!(!text.contains("lost"), "{text}");
        assert_eq!(Snapshot::open(&text, ENVIRONMENT, &trust).expect("ours").stamp.lost, None);
    }

    #[test]
    fn changes_apply_in_order_only() {
        let mut state = snapshot();
        assert_eq!(state.apply(change(9)), Err(Gap { at: (1, 7), after: (1, 8) }));
        state.apply(change(8)).expect("the next one");
        assert_eq!(state.flags.keys().collect::<Vec<_>>(), ["b", "é"]);
        assert_eq!(state.stamp.revision, 8);
        assert_eq!((state.lists["staff"].ids, state.lists.get("gone")), (4, None));
        assert!(state.apply(change(8)).is_err(), "not twice");
        assert_eq!(state.metadata["flagSetId"].get(), "\"shop\"", "stays where a change says nothing of it");
        state.apply(change(9)).expect("the next one");
        assert!(state.metadata.is_empty(), "all of it is what a change says");
        let mut restored = change(10);
        restored.stamp.epoch = 2;
        assert!(state.apply(restored).is_err(), "not across epochs");
        for (mark, after_mark, follows) in [(Some(1), Some(2), false), (Some(1), Some(1), true), (None, Some(1), true)]
        {
            let mut state = snapshot();
            state.stamp.mark = mark;
            let result = state.apply(Change { after_mark, ..change(8) });
            assert_eq!(result.is_ok(), follows, "{mark:?} {after_mark:?}");
            assert!(follows || result.is_err_and(|gap| gap.to_string().contains("another revision 1.7")));
        }
    }
}
