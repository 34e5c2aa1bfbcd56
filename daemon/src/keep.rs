//! What survives a reboot: the last published generations of a set, the last good text of its sources, and what an
//! operator decided (frozen, overrides).
//!
//! ```text
//! <state>/<set>/lock             held while a flagsd runs on it
//!               operator.json    frozen, overrides
//!               segment-<N>      generation N, as a segment file of the store
//!               list-<content>   id lists that kept segments refer to
//!               uses-<N>         which ones generation N refers to, where it does
//!               source-<hash>    last good text of one file of a source, as JSON
//!               changes-<hash>   of a control plane: what has changed since that text, one line of JSON a change
//!               unsettled        there while texts newer than these may be published; which revisions, of control planes
//! ```
//!
//! Each file is written under another name, flushed, and renamed, so that it is there whole or not at all. A file that is
//! damaged nevertheless is passed over with a warning, never trusted: segments hold length and checksums.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use flags_sync::{Change, EventId, Stamp};
use libflags::snapshot::list_file;
use libflags::store::{Generation, PublishMeta, SegmentFile};
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use xxhash_rust::xxh3::xxh3_64;

use crate::clock::unix_ms;
use crate::source::SourceSpec;

/// The directory of one set under the state directory.
#[derive(Debug)]
pub(crate) struct Keep {
    dir: PathBuf,
    generations: usize,
    _lock: Flock<File>,
}

/// Why there is no [`Keep`].
#[derive(Debug)]
pub(crate) enum KeepError {
    /// Another flagsd has it.
    Locked(PathBuf),
    /// It cannot be written; flagsd works without.
    Io(PathBuf, io::Error),
}

/// What an operator decided. It holds over restarts.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[serde(default)]
pub(crate) struct Operator {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) frozen: Option<Frozen>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) overrides: BTreeMap<String, Override>,
}

/// Changes of the sources wait until the set is unfrozen.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
pub(crate) struct Frozen {
    pub(crate) since_ms: u64,
    /// `freeze` or `rollback`.
    pub(crate) by: FrozenBy,
}

/// What froze a set.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(crate) enum FrozenBy {
    Freeze,
    Rollback,
}

/// A flag's value by an operator's word.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
pub(crate) struct Override {
    /// The name of a variant, or a value of the flag's type.
    pub(crate) value: Value,
    pub(crate) since_ms: u64,
}

/// What a directory tells of a kept generation.
#[derive(Clone, Debug, Serialize, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) generation: u64,
    pub(crate) saved_ms: u64,
    pub(crate) bytes: u64,
}

#[derive(Debug, Deserialize, Serialize)]
struct SavedText {
    source: String,
    path: PathBuf,
    text: String,
    /// Of a control plane: which state this is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    stamp: Option<Stamp>,
}

/// The last good text of one file, or of an environment of a control plane.
#[derive(Debug)]
pub(crate) struct Text {
    pub(crate) path: PathBuf,
    pub(crate) text: String,
    pub(crate) stamp: Option<Stamp>,
    /// What came after it, in order; at the beginning there may be some that are in the text.
    pub(crate) changes: Vec<Change>,
}

impl Keep {
    /// Opens, and where needed makes, the directory of the set `set` under `state_dir`.
    ///
    /// # Errors
    ///
    /// [`KeepError::Locked`] while another flagsd has it, else [`KeepError::Io`].
    pub(crate) fn open(state_dir: &Path, set: &str, generations: usize) -> Result<Self, KeepError> {
        let dir = state_dir.join(set);
        let failed = |error| KeepError::Io(dir.clone(), error);
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir).map_err(failed)?;
        let lock = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(dir.join("lock"));
        let lock = match Flock::lock(lock.map_err(failed)?, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => lock,
            Err((_, nix::errno::Errno::EWOULDBLOCK)) => return Err(KeepError::Locked(dir)),
            Err((_, error)) => return Err(failed(error.into())),
        };
        Ok(Self { dir, generations, _lock: lock })
    }

    /// The directory.
    pub(crate) fn path(&self) -> &Path {
        &self.dir
    }

    /// What the operator last decided; nothing, with a warning, where that cannot be read.
    pub(crate) fn operator(&self) -> Operator {
        let path = self.dir.join("operator.json");
        match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).unwrap_or_else(|error| {
                tracing::warn!(path = %path.display(), %error, "operator's decisions are lost: not frozen, no overrides");
                Operator::default()
            }),
            Err(_) => Operator::default(),
        }
    }

    /// Remembers what the operator decided.
    ///
    /// # Errors
    ///
    /// Where it cannot be written.
    pub(crate) fn save_operator(&self, operator: &Operator) -> io::Result<()> {
        self.write("operator.json", &serde_json::to_vec_pretty(operator)?)
    }

    /// Keeps a generation, and forgets the oldest ones.
    ///
    /// # Errors
    ///
    /// Where it cannot be written; what was kept before is then kept still.
    pub(crate) fn save(&self, generation: u64, payload: &[u8], meta: &PublishMeta) -> Result<(), libflags::Error> {
        SegmentFile::write(&self.segment_path(generation), payload, Generation(generation), meta)?;
        for old in self.numbers().into_iter().rev().skip(self.generations) {
            let path = self.segment_path(old);
            if let Err(error) = fs::remove_file(&path) {
                tracing::warn!(path = %path.display(), %error, "an old generation cannot be forgotten");
            }
            let _ = fs::remove_file(self.dir.join(uses_name(old)));
        }
        Ok(())
    }

    /// What is kept, the newest first.
    pub(crate) fn list(&self) -> Vec<Kept> {
        let of = |generation: u64| {
            let metadata = fs::metadata(self.segment_path(generation)).ok()?;
            Some(Kept { generation, saved_ms: unix_ms(metadata.modified().ok()?), bytes: metadata.len() })
        };
        self.numbers().into_iter().rev().filter_map(of).collect()
    }

    /// The number of the newest generation that was ever kept, damaged or not; 0 where there is none.
    pub(crate) fn newest(&self) -> u64 {
        self.numbers().last().copied().unwrap_or(0)
    }

    /// A kept generation.
    ///
    /// # Errors
    ///
    /// Where there is none of that number, or it is damaged.
    pub(crate) fn load(&self, generation: u64) -> Result<SegmentFile, libflags::Error> {
        SegmentFile::read(&self.segment_path(generation))
    }

    /// Keeps copies of the id lists that a generation refers to, out of the store's directory `from`, and forgets those
    /// that no kept generation refers to. Call it before [`save`](Self::save).
    ///
    /// # Errors
    ///
    /// Where one cannot be read or written.
    pub(crate) fn save_lists(&self, generation: u64, lists: &BTreeSet<u64>, from: &Path) -> io::Result<()> {
        for list in lists {
            let name = list_file(*list);
            if !self.dir.join(&name).exists() {
                let mut from = File::open(from.join(&name))?;
                self.write_with(&name, |file| io::copy(&mut from, file).map(drop))?;
            }
        }
        if !lists.is_empty() {
            self.write(&uses_name(generation), &serde_json::to_vec(lists)?)?;
        }
        let mut used = lists.clone();
        used.extend(self.numbers().into_iter().flat_map(|generation| self.uses(generation)));
        for name in self.names().iter().filter(|name| name.starts_with("list-")) {
            if !used.iter().any(|list| list_file(*list) == *name) {
                fs::remove_file(self.dir.join(name))?;
            }
        }
        Ok(())
    }

    /// The id lists that a kept generation refers to: name and file.
    pub(crate) fn lists(&self, generation: u64) -> Vec<(u64, PathBuf)> {
        self.uses(generation).into_iter().map(|list| (list, self.dir.join(list_file(list)))).collect()
    }

    fn uses(&self, generation: u64) -> BTreeSet<u64> {
        let bytes = fs::read(self.dir.join(uses_name(generation))).ok();
        bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
    }

    /// Remembers the text of one file of a source.
    ///
    /// # Errors
    ///
    /// Where it cannot be written.
    pub(crate) fn save_text(
        &self,
        source: &SourceSpec,
        path: &Path,
        text: &str,
        stamp: Option<&Stamp>,
    ) -> io::Result<()> {
        let source_name = source.to_string();
        let saved =
            SavedText { source: source_name, path: path.to_owned(), text: text.to_owned(), stamp: stamp.cloned() };
        self.write(&text_name(source, path), &serde_json::to_vec(&saved)?)?;
        // Killed before this, the changes are found to be in the text.
        match fs::remove_file(self.dir.join(changes_name(source, path))) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Remembers a change of such a text, and returns how many bytes of changes there are.
    ///
    /// # Errors
    ///
    /// Where it cannot be written; what was remembered before is then as it was, and the text is to be remembered whole.
    pub(crate) fn append_change(&self, source: &SourceSpec, path: &Path, change: &Change) -> io::Result<u64> {
        let mut line = serde_json::to_vec(change)?;
        line.push(b'\n');
        let name = self.dir.join(changes_name(source, path));
        let mut file = OpenOptions::new().append(true).create(true).mode(0o600).open(name)?;
        file.write_all(&line)?;
        file.sync_data()?;
        Ok(file.metadata()?.len())
    }

    /// The changes after a text; of a last one that was not written whole nothing is left.
    fn changes(&self, source: &SourceSpec, path: &Path) -> Vec<Change> {
        let text = fs::read(self.dir.join(changes_name(source, path))).unwrap_or_default();
        text.split(|byte| *byte == b'\n').map_while(|line| serde_json::from_slice(line).ok()).collect()
    }

    /// Remembers, before something is published, that the texts are not yet what it is made of, and which states of control planes are
    /// in it, by source. Whether that can be written is no matter: it tells apart what happens within milliseconds.
    pub(crate) fn set_unsettled(&self, positions: &BTreeMap<String, (u64, u64)>) {
        // Not flushed: it is for who is killed, not for who loses power, and with that what was published.
        let positions = if positions.is_empty() { Ok(Vec::new()) } else { serde_json::to_vec(positions) };
        let _ = positions.map(|positions| fs::write(self.dir.join("unsettled"), positions));
    }

    /// The texts are what is published.
    pub(crate) fn set_settled(&self) {
        let _ = fs::remove_file(self.dir.join("unsettled"));
    }

    /// Which state of a control plane was about to be published when a flagsd ended before it had remembered the text.
    pub(crate) fn unsettled_position(&self, source: &SourceSpec) -> Option<EventId> {
        let bytes = fs::read(self.dir.join("unsettled")).ok()?;
        let positions: BTreeMap<String, (u64, u64)> = serde_json::from_slice(&bytes).ok()?;
        let (epoch, revision) = *positions.get(&source.to_string())?;
        Some(EventId { epoch, revision })
    }

    /// Whether a flagsd ended after it published and before it had remembered the texts.
    pub(crate) fn is_unsettled(&self) -> bool {
        self.dir.join("unsettled").exists()
    }

    /// The texts last remembered of a source, in the order of their paths.
    pub(crate) fn texts(&self, source: &SourceSpec) -> Vec<Text> {
        let of_source = format!("source-{:016x}-", xxh3_64(source.to_string().as_bytes()));
        let mut texts = Vec::new();
        for name in self.names().iter().filter(|name| name.starts_with(&of_source)) {
            let path = self.dir.join(name);
            match fs::read(&path).and_then(|bytes| Ok(serde_json::from_slice::<SavedText>(&bytes)?)) {
                Ok(SavedText { path, text, stamp, .. }) => {
                    let changes = self.changes(source, &path);
                    texts.push(Text { path, text, stamp, changes });
                }
                Err(error) => tracing::warn!(path = %path.display(), %error, "a saved source cannot be read"),
            }
        }
        texts.sort_by(|one, other| one.path.cmp(&other.path));
        texts
    }

    /// Forgets all texts but those of these files of sources.
    pub(crate) fn forget_other_texts<'a>(&self, files: impl Iterator<Item = (&'a SourceSpec, &'a Path)>) {
        let used: BTreeSet<String> =
            files.flat_map(|(source, path)| [text_name(source, path), changes_name(source, path)]).collect();
        let is_text = |name: &str| name.starts_with("source-") || name.starts_with("changes-");
        for name in self.names().iter().filter(|name| is_text(name) && !used.contains(*name)) {
            let _ = fs::remove_file(self.dir.join(name));
        }
    }

    fn segment_path(&self, generation: u64) -> PathBuf {
        self.dir.join(format!("segment-{generation}"))
    }

    fn numbers(&self) -> BTreeSet<u64> {
        self.names().iter().filter_map(|name| name.strip_prefix("segment-")?.parse().ok()).collect()
    }

    fn names(&self) -> Vec<String> {
        let Ok(entries) = fs::read_dir(&self.dir) else { return Vec::new() };
        entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect()
    }

    fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.write_with(name, |file| file.write_all(bytes))
    }

    fn write_with(&self, name: &str, fill: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
        replace(&self.dir, name, fill)
    }
}

/// Writes a file whole: under another name, flushed, then renamed. What failed leaves nothing behind.
pub(crate) fn replace(dir: &Path, name: &str, fill: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
    let temporary = dir.join(format!(".{name}.new"));
    let written = (|| {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        fill(&mut file)?;
        file.sync_data()?;
        fs::rename(&temporary, dir.join(name))
    })();
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written
}

fn uses_name(generation: u64) -> String {
    format!("uses-{generation}")
}

fn text_name(source: &SourceSpec, path: &Path) -> String {
    format!("source-{}", hash_of(source, path))
}

fn changes_name(source: &SourceSpec, path: &Path) -> String {
    format!("changes-{}", hash_of(source, path))
}

fn hash_of(source: &SourceSpec, path: &Path) -> String {
    let (source, path) = (source.to_string(), path.as_os_str().as_encoded_bytes());
    format!("{:016x}-{:016x}", xxh3_64(source.as_bytes()), xxh3_64(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keep(dir: &Path) -> Keep {
        Keep::open(dir, "s", 3).expect("opens")
    }

    #[test]
    fn generations_are_kept_and_the_oldest_forgotten() {
        let dir = tempfile::tempdir().expect("a directory");
        let keep = keep(dir.path());
        assert_eq!((keep.newest(), keep.list()), (0, vec![]));
        let meta = PublishMeta { upstream_confirmed_at_ns: 9, ..PublishMeta::default() };
        for generation in 8..=12 {
            keep.save(generation, format!("bytes\nof {generation}").as_bytes(), &meta).expect("saved");
        }
        assert_eq!(keep.list().iter().map(|kept| kept.generation).collect::<Vec<_>>(), [12, 11, 10]);
        let kept = keep.load(11).expect("is kept");
        assert_eq!(&*kept.payload, b"bytes\nof 11");
        assert_eq!((kept.header.generation, kept.header.upstream_confirmed_at_ns), (Generation(11), 9));
        assert!(keep.load(9).is_err());
    }

    #[test]
    fn no_damaged_generation_is_ever_loaded() {
        let dir = tempfile::tempdir().expect("a directory");
        let keep = keep(dir.path());
        keep.save(1, b"the bytes", &PublishMeta::default()).expect("saved");
        let path = dir.path().join("s/segment-1");
        let good = fs::read(&path).expect("is there");
        fs::remove_file(&path).expect("removed");
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x11;
            fs::write(&path, &bad).expect("written");
            assert!(keep.load(1).is_err(), "byte {at}");
            fs::write(&path, &good[..at]).expect("written");
            assert!(keep.load(1).is_err(), "cut at {at}");
        }
        assert_eq!(keep.newest(), 1, "its number is not used again");
    }

    #[test]
    fn id_lists_stay_as_long_as_a_kept_generation_refers_to_them() {
        let dir = tempfile::tempdir().expect("a directory");
        let keep = keep(dir.path());
        let store = tempfile::tempdir().expect("a directory");
        for list in 1..=2 {
            fs::write(store.path().join(list_file(list)), format!("ids {list}")).expect("written");
        }
        let save = |generation, lists: &[u64]| {
            keep.save_lists(generation, &lists.iter().copied().collect(), store.path()).expect("saved");
            keep.save(generation, b"x", &PublishMeta::default()).expect("saved");
        };
        save(1, &[1, 2]);
        for generation in 2..=3 {
            save(generation, &[2]);
        }
        let lists = keep.lists(1);
        assert_eq!(lists.iter().map(|(list, _)| *list).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(fs::read(&lists[0].1).expect("is there"), b"ids 1");
        save(4, &[]);
        save(5, &[]);
        assert!(!lists[0].1.exists(), "generation 1 is forgotten");
        assert!(lists[1].1.exists(), "generation 3 is kept");
    }

    #[test]
    fn a_second_one_is_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        let first = keep(dir.path());
        assert!(matches!(Keep::open(dir.path(), "s", 3), Err(KeepError::Locked(_))));
        drop(first);
        keep(dir.path());
    }

    #[test]
    fn decisions_and_texts_come_back() {
        let dir = tempfile::tempdir().expect("a directory");
        let keep = keep(dir.path());
        assert_eq!(keep.operator(), Operator::default());
        let mut operator =
            Operator { frozen: Some(Frozen { since_ms: 5, by: FrozenBy::Rollback }), ..Operator::default() };
        operator.overrides.insert("k".to_owned(), Override { value: Value::Bool(true), since_ms: 6 });
        keep.save_operator(&operator).expect("saved");
        assert_eq!(keep.operator(), operator);

        let (one, two) = (SourceSpec::File("/a".into()), SourceSpec::Dir("/b".into()));
        keep.save_text(&one, Path::new("/a"), "text \u{1f600}", None).expect("saved");
        keep.save_text(&two, Path::new("/b/x"), "x", None).expect("saved");
        keep.save_text(&two, Path::new("/b/y"), "y", None).expect("saved");
        let texts = |source| keep.texts(source).into_iter().map(|saved| saved.text).collect::<Vec<_>>();
        assert_eq!(
            (texts(&one), texts(&two)),
            (vec!["text \u{1f600}".to_owned()], vec!["x".to_owned(), "y".to_owned()])
        );
        let stamp = Stamp { environment: "a/b".to_owned(), epoch: 1, revision: 2, time_ms: 3, lost: None, mark: None };
        keep.save_text(&two, Path::new("/b/x"), "x", Some(&stamp)).expect("saved");
        assert_eq!(keep.texts(&two)[0].stamp.as_ref(), Some(&stamp));
        let change = |revision| {
            let stamp = Stamp { revision, ..stamp.clone() };
            let (flags, removed) = (BTreeMap::new(), vec![revision.to_string()]);
            Change {
                stamp,
                after: revision - 1,
                after_mark: None,
                deliberate: false,
                flags,
                removed,
                evaluators: None,
                lists: BTreeMap::new(),
                metadata: None,
            }
        };
        let changes = || keep.texts(&two)[0].changes.iter().map(|change| change.removed.clone()).collect::<Vec<_>>();
        let first = keep.append_change(&two, Path::new("/b/x"), &change(3)).expect("saved");
        assert!(keep.append_change(&two, Path::new("/b/x"), &change(4)).expect("saved") > first);
        assert_eq!(changes(), [["3"], ["4"]]);
        let name = dir.path().join("s").join(changes_name(&two, Path::new("/b/x")));
        let whole = fs::read(&name).expect("is there");
        for end in usize::try_from(first).expect("fits") + 1..whole.len() - 1 {
            fs::write(&name, &whole[..end]).expect("written");
            assert_eq!(changes(), [["3"]], "a torn one is none");
        }
        keep.save_text(&two, Path::new("/b/x"), "x", Some(&change(4).stamp)).expect("saved");
        assert_eq!((changes(), name.exists()), (vec![], false));
        keep.append_change(&two, Path::new("/b/x"), &change(5)).expect("saved");
        keep.set_unsettled(&BTreeMap::from([(two.to_string(), (1, 3))]));
        let reopened = |source| (keep.is_unsettled(), keep.unsettled_position(source));
        assert_eq!(reopened(&two), (true, Some(EventId { epoch: 1, revision: 3 })));
        assert_eq!(reopened(&one), (true, None));
        keep.set_settled();
        assert_eq!(reopened(&two), (false, None));
        keep.forget_other_texts([(&two, Path::new("/b/y")), (&two, Path::new("/b/z"))].into_iter());
        assert_eq!((texts(&one), texts(&two)), (vec![], vec!["y".to_owned()]));
        assert!(!name.exists());
    }
}
