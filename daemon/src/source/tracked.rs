//! A source and what was last read well from it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use serde::Serialize;
use xxhash_rust::xxh3::xxh3_64;

use super::file::{self, ReadError, Stamp};
use super::{LinkReport, SourceSpec, dir};

/// One source. `D` is a parsed document.
#[derive(Debug)]
pub(crate) struct Source<D> {
    spec: SourceSpec,
    /// By path, which for a directory is the order of precedence.
    files: BTreeMap<PathBuf, TrackedFile<D>>,
    /// What is wrong with the directory itself.
    fault: Option<Fault>,
    last_success: Option<SystemTime>,
    errors: u64,
}

/// How a source, or one file of it, is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Health {
    /// Read, and what was read is a definition.
    Ok,
    /// Not there; what was last read from it stays in force.
    Missing,
    /// There, but it cannot be read or is no definition; what was last read well stays in force.
    Error,
}

/// How the text of the file at a path becomes a document; the error is a sentence.
pub(crate) type Parse<'a, D> = &'a dyn Fn(&Path, String) -> Result<D, String>;

/// What a look at a source brought.
#[derive(Debug)]
pub(crate) struct Look<D> {
    /// The documents are others than before.
    pub(crate) changed: bool,
    /// Files that were read anew and are definitions.
    pub(crate) parsed: Vec<(PathBuf, Arc<D>)>,
    /// Files whose flags went because they went.
    pub(crate) removed: Vec<PathBuf>,
    /// What is wrong now and was not before.
    pub(crate) news: Vec<String>,
    /// When to look again although nothing was reported.
    pub(crate) again: Option<Instant>,
}

/// A source as a status shows it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct SourceReport {
    /// As configured.
    pub(crate) source: String,
    pub(crate) state: Health,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<String>,
    /// Last time all of it was found good, milliseconds since 1970.
    pub(crate) last_success_ms: Option<u64>,
    /// How often something went wrong since flagsd started.
    pub(crate) errors: u64,
    pub(crate) files: Vec<FileReport>,
    /// Of a control plane.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) control: Option<LinkReport>,
}

/// One file of a source as a status shows it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct FileReport {
    pub(crate) path: PathBuf,
    pub(crate) state: Health,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<String>,
    /// What is in force was read before flagsd started, or from the file as it was earlier.
    pub(crate) last_good: bool,
}

#[derive(Debug)]
struct TrackedFile<D> {
    seen: Option<Seen>,
    document: Option<Arc<D>>,
    fault: Option<Fault>,
    gone_since: Option<Instant>,
}

/// What a file was when it was last read.
#[derive(Debug)]
struct Seen {
    stamp: Stamp,
    settled: bool,
    digest: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Fault {
    health: Health,
    message: String,
}

impl<D> Source<D> {
    pub(crate) fn new(spec: SourceSpec) -> Self {
        Self { spec, files: BTreeMap::new(), fault: None, last_success: None, errors: 0 }
    }

    pub(crate) fn spec(&self) -> &SourceSpec {
        &self.spec
    }

    /// What is in force, in rising precedence.
    pub(crate) fn documents(&self) -> impl Iterator<Item = &Arc<D>> {
        self.entries().map(|(_, document)| document)
    }

    /// The same, each with the path of its file.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (&Path, &Arc<D>)> {
        self.files.iter().filter_map(|(path, file)| Some((path.as_path(), file.document.as_ref()?)))
    }

    /// Reads everything anew at the next look, changed or not.
    pub(crate) fn forget_seen(&mut self) {
        for seen in self.files.values_mut().filter_map(|file| file.seen.as_mut()) {
            seen.settled = false;
        }
    }

    /// The files it knows, gone or not.
    pub(crate) fn paths(&self) -> impl Iterator<Item = &Path> {
        self.files.keys().map(PathBuf::as_path)
    }

    /// Whether all of it could be read and is in force as it stands there now.
    pub(crate) fn is_healthy(&self) -> bool {
        self.fault.is_none() && self.files.values().all(|file| file.fault.is_none())
    }

    /// Looks at what it names and reads what changed.
    ///
    /// A file that is missing or no definition keeps its last document. A file that goes from a directory takes its
    /// flags with it after `grace`, so that an editor which deletes and writes anew does no harm; when the last one
    /// goes, all keep theirs, as when the directory itself does.
    pub(crate) fn look(&mut self, parse: Parse<'_, D>, max_bytes: usize, grace: Duration) -> Look<D> {
        let mut look = Look { changed: false, parsed: Vec::new(), removed: Vec::new(), news: Vec::new(), again: None };
        let present = match &self.spec {
            SourceSpec::File(path) => BTreeSet::from([path.clone()]),
            // It has no files to look at.
            SourceSpec::Control(_) => return look,
            SourceSpec::Dir(path) => match dir::list(path) {
                Ok(present) if !present.is_empty() => {
                    self.fault = None;
                    present
                }
                other => {
                    let fault = match other {
                        Ok(_) => Fault { health: Health::Missing, message: "has no .json or .yaml file".to_owned() },
                        Err(error) => error.into(),
                    };
                    note(&mut self.fault, fault, path, &mut self.errors, &mut look.news);
                    return look;
                }
            },
        };
        for path in &present {
            let file = self.files.entry(path.clone()).or_default();
            file.gone_since = None;
            match file.look(path, parse, max_bytes) {
                Ok(Some(document)) => {
                    look.changed = true;
                    look.parsed.push((path.clone(), document));
                }
                Ok(None) => {}
                Err(fault) => note(&mut file.fault, fault, path, &mut self.errors, &mut look.news),
            }
        }
        let now = Instant::now();
        self.files.retain(|path, file| {
            if present.contains(path) {
                return true;
            }
            file.seen = None;
            let gone_at = *file.gone_since.get_or_insert(now) + grace;
            if gone_at <= now {
                look.changed |= file.document.is_some();
                look.removed.push(path.clone());
                return false;
            }
            look.again = Some(look.again.map_or(gone_at, |again| again.min(gone_at)));
            let fault = Fault { health: Health::Missing, message: "is not there".to_owned() };
            note(&mut file.fault, fault, path, &mut self.errors, &mut look.news);
            true
        });
        if self.is_healthy() {
            self.last_success = Some(SystemTime::now());
        }
        look
    }

    /// Puts in force what an earlier flagsd had read, wherever nothing can be read now. Call it after the first look.
    ///
    /// Returns whether it changed anything.
    pub(crate) fn fall_back_on(&mut self, saved: Vec<(PathBuf, Arc<D>)>) -> bool {
        let gone = self.fault.is_some() || matches!(self.spec, SourceSpec::File(_));
        let mut changed = false;
        for (path, document) in saved {
            if !gone && !self.files.contains_key(&path) {
                continue;
            }
            let fault = self.fault.clone();
            let file = self.files.entry(path).or_insert_with(|| TrackedFile { fault, ..TrackedFile::default() });
            if file.document.is_none() {
                file.document = Some(document);
                changed = true;
            }
        }
        changed
    }

    pub(crate) fn report(&self) -> SourceReport {
        let worst =
            self.files.values().filter_map(|file| file.fault.as_ref()).chain(&self.fault).max_by_key(|f| f.health);
        let file = |(path, file): (&PathBuf, &TrackedFile<D>)| FileReport {
            path: path.clone(),
            state: file.fault.as_ref().map_or(Health::Ok, |fault| fault.health),
            error: file.fault.as_ref().map(|fault| fault.message.clone()),
            last_good: file.fault.is_some() && file.document.is_some(),
        };
        SourceReport {
            source: self.spec.to_string(),
            state: worst.map_or(Health::Ok, |fault| fault.health),
            error: self.fault.as_ref().or(worst).map(|fault| fault.message.clone()),
            last_success_ms: self.last_success.map(crate::clock::unix_ms),
            errors: self.errors,
            files: self.files.iter().map(file).collect(),
            control: None,
        }
    }
}

impl<D> TrackedFile<D> {
    /// Reads the file if it changed; the document, if it is another one.
    fn look(&mut self, path: &Path, parse: Parse<'_, D>, max_bytes: usize) -> Result<Option<Arc<D>>, Fault> {
        let now = file::stamp(path);
        if let Some(seen) = &self.seen
            && seen.settled
            && now == Some(seen.stamp)
        {
            return Ok(None);
        }
        let read = match file::read(path, max_bytes) {
            Ok(read) => read,
            Err(error) => {
                self.seen = None;
                return Err(error.into());
            }
        };
        let digest = xxh3_64(read.text.as_bytes());
        let same = self.seen.as_ref().is_some_and(|seen| seen.digest == digest);
        self.seen = Some(Seen { stamp: read.stamp, settled: read.settled, digest });
        if same {
            return Ok(None);
        }
        match parse(path, read.text) {
            Ok(document) => {
                let document = Arc::new(document);
                self.document = Some(Arc::clone(&document));
                self.fault = None;
                Ok(Some(document))
            }
            Err(message) => Err(Fault { health: Health::Error, message }),
        }
    }
}

/// Remembers a fault, and says so where it is a new one.
fn note(place: &mut Option<Fault>, fault: Fault, path: &Path, errors: &mut u64, news: &mut Vec<String>) {
    if place.as_ref() != Some(&fault) {
        *errors += 1;
        news.push(format!("{} {}", path.display(), fault.message));
        *place = Some(fault);
    }
}

impl<D> Default for TrackedFile<D> {
    fn default() -> Self {
        Self { seen: None, document: None, fault: None, gone_since: None }
    }
}

impl From<ReadError> for Fault {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Missing => Self { health: Health::Missing, message: "is not there".to_owned() },
            ReadError::Other(message) => Self { health: Health::Error, message },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const GRACE: Duration = Duration::from_secs(3_600);

    /// A document is text that does not begin with `!`.
    fn parse(_: &Path, text: String) -> Result<String, String> {
        if text.starts_with('!') { Err("no definition".to_owned()) } else { Ok(text) }
    }

    fn look(source: &mut Source<String>, grace: Duration) -> Look<String> {
        source.look(&parse, 100, grace)
    }

    fn texts(source: &Source<String>) -> Vec<&str> {
        source.documents().map(|document| document.as_str()).collect()
    }

    #[test]
    fn a_file_keeps_its_last_good_document() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("f.json");
        let mut source = Source::new(SourceSpec::File(path.clone()));
        assert!(!look(&mut source, GRACE).changed);
        assert_eq!(source.report().state, Health::Missing);

        fs::write(&path, "one").expect("written");
        assert!(look(&mut source, GRACE).changed);
        assert!(!look(&mut source, GRACE).changed, "nothing new");
        assert_eq!((texts(&source), source.is_healthy()), (vec!["one"], true));

        fs::write(&path, "!two").expect("written");
        let found = look(&mut source, GRACE);
        assert_eq!((found.changed, found.news.len()), (false, 1));
        assert_eq!(look(&mut source, GRACE).news.len(), 0, "said once");
        assert_eq!((texts(&source), source.report().state), (vec!["one"], Health::Error));

        fs::remove_file(&path).expect("removed");
        assert!(!look(&mut source, Duration::ZERO).changed);
        assert_eq!((texts(&source), source.report().state), (vec!["one"], Health::Missing));
        assert!(source.report().files[0].last_good);

        fs::write(&path, "one").expect("written");
        look(&mut source, GRACE);
        assert_eq!((texts(&source), source.is_healthy()), (vec!["one"], true));
    }

    #[test]
    fn the_same_length_in_the_same_tick_is_seen() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("f.json");
        let mut source = Source::new(SourceSpec::File(path.clone()));
        for round in 0..100 {
            fs::write(&path, format!("{round:04}")).expect("written");
            assert!(look(&mut source, GRACE).changed, "round {round}");
            assert_eq!(texts(&source), [format!("{round:04}")]);
        }
    }

    #[test]
    fn a_directory_gives_its_files_in_order_and_forgets_removed_ones_after_the_grace() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut source = Source::new(SourceSpec::Dir(dir.path().to_owned()));
        look(&mut source, GRACE);
        assert_eq!(source.report().state, Health::Missing);
        for name in ["20.json", "10.yaml", ".30.json", "40.txt"] {
            fs::write(dir.path().join(name), name).expect("written");
        }
        assert!(look(&mut source, GRACE).changed);
        assert_eq!(texts(&source), ["10.yaml", "20.json"]);

        fs::remove_file(dir.path().join("10.yaml")).expect("removed");
        let found = look(&mut source, GRACE);
        assert!(!found.changed && found.again.is_some() && !source.is_healthy());
        assert_eq!(texts(&source), ["10.yaml", "20.json"]);
        assert!(look(&mut source, Duration::ZERO).changed);
        assert_eq!((texts(&source), source.is_healthy()), (vec!["20.json"], true));

        fs::remove_file(dir.path().join("20.json")).expect("removed");
        assert!(!look(&mut source, Duration::ZERO).changed, "the last one keeps its flags");
        assert_eq!((texts(&source), source.report().state), (vec!["20.json"], Health::Missing));
    }

    #[test]
    fn what_was_saved_stands_in_for_what_cannot_be_read() {
        let dir = tempfile::tempdir().expect("a directory");
        let (good, bad, gone) = (dir.path().join("a.json"), dir.path().join("b.json"), dir.path().join("c.json"));
        fs::write(&good, "a").expect("written");
        fs::write(&bad, "!").expect("written");
        let saved = || [&good, &bad, &gone].map(|path| (path.clone(), Arc::new("saved".to_owned()))).to_vec();
        let mut source = Source::new(SourceSpec::Dir(dir.path().to_owned()));
        look(&mut source, GRACE);
        assert!(source.fall_back_on(saved()));
        assert_eq!(texts(&source), ["a", "saved"], "a file that went while flagsd was away is gone");

        let mut source = Source::new(SourceSpec::Dir(dir.path().join("absent")));
        look(&mut source, GRACE);
        assert!(source.fall_back_on(saved()));
        assert_eq!((texts(&source).len(), source.report().state), (3, Health::Missing));
    }
}
