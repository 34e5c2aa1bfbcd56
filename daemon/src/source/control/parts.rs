//! Parts of id lists: fetched, checked, kept, and built into lists that a store takes.
//!
//! ```text
//! <state>/<set>/parts-<source>/part-<sha256>                 as it came, once length and hash were right
//!                              list-<content>-<name>-<ids>   built out of parts
//! ```
//!
//! Each file is written under another name and renamed. What is named by neither the state that is in force, nor the one before, nor the one that is to come is swept.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, BufReader, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use flags_sync::list::{Merge, PartHasher};
use flags_sync::{List, Part, PartHash};
use flate2::write::MultiGzDecoder;
use hyper::StatusCode;
use hyper::header;
use libflags::definition::PreparedList;
use libflags::snapshot::IdListBuilder;
use tokio::time::Instant;

use super::ControlSpec;
use super::http::{Failure, Http, worth};
use crate::keep::replace;

/// How long is waited after something failed, on average half of it: at first and at most.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(30));

/// What a part may be longer by when it is packed, besides an eighth of it: heads and ends of the pieces that it is packed in.
const PACKED_SLACK: u64 = 64 << 10;

/// The parts and lists of one source.
#[derive(Debug)]
pub(super) struct Parts {
    dir: PathBuf,
    http: Http,
    /// What failed last, and until when nothing is tried.
    failed: Option<(Failure, Instant)>,
    failures: u64,
    wait: Duration,
    /// Files of the state that was prepared last, and of the one before; `None` while that is not known.
    used: Option<[BTreeSet<String>; 2]>,
}

/// What a state waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Missing {
    pub(super) lists: usize,
    pub(super) parts: usize,
}

impl Parts {
    /// `in_force`: the lists of the state that is, where they are all there.
    pub(super) fn new(dir: PathBuf, spec: ControlSpec, in_force: Option<&BTreeMap<String, List>>) -> Self {
        let used = in_force.and_then(|lists| {
            let mut used = part_names(lists);
            used.extend(file_names(&built(&dir, lists)?));
            Some([used, BTreeSet::new()])
        });
        Self { dir, http: Http::new(spec), failed: None, failures: 0, wait: BACKOFF.0, used }
    }

    /// When it is worth to try again, where something failed.
    pub(super) fn retry_at(&self) -> Option<Instant> {
        self.failed.as_ref().map(|(_, at)| *at)
    }

    /// How often lists could not be fetched, kept or built.
    pub(super) fn failures(&self) -> u64 {
        self.failures
    }

    /// How many of these lists are not built yet, and how many parts of them are missing.
    pub(super) fn missing(&self, lists: &BTreeMap<String, List>) -> Missing {
        let waiting: Vec<&List> = lists.values().filter(|list| find_built(&self.dir, list).is_none()).collect();
        let parts: BTreeSet<String> =
            waiting.iter().flat_map(|list| &list.parts).map(|part| part_name(&part.sha256)).collect();
        let parts = parts.iter().filter(|name| !self.dir.join(name).exists()).count();
        Missing { lists: waiting.len(), parts }
    }

    /// All lists, built; what is missing is fetched, one part at a time.
    ///
    /// # Errors
    ///
    /// What failed, now or, while it is too early to try again, before.
    pub(super) async fn prepare(
        &mut self,
        lists: &BTreeMap<String, List>,
        most_ids: usize,
        patience: Duration,
    ) -> Result<Vec<PreparedList>, Failure> {
        if let Some((failure, until)) = &self.failed
            && Instant::now() < *until
        {
            return Err(failure.clone());
        }
        let outcome = self.try_prepare(lists, most_ids, patience).await;
        match &outcome {
            Ok(_) => (self.failed, self.wait) = (None, BACKOFF.0),
            Err(failure) => {
                let wait = failure.retry_after.unwrap_or_default() + self.wait.mul_f64(fastrand::f64());
                self.failures += 1;
                self.failed = Some((failure.clone(), Instant::now() + wait));
                self.wait = (self.wait * 2).min(BACKOFF.1);
            }
        }
        outcome
    }

    async fn try_prepare(
        &mut self,
        lists: &BTreeMap<String, List>,
        most_ids: usize,
        patience: Duration,
    ) -> Result<Vec<PreparedList>, Failure> {
        let local = |error: io::Error| Failure::new(format!("id lists cannot be kept: {error}"));
        DirBuilder::new().recursive(true).mode(0o700).create(&self.dir).map_err(local)?;
        let mut now = part_names(lists);
        now.extend(
            lists.values().filter_map(|list| find_built(&self.dir, list)?.2.file_name()?.to_str().map(str::to_owned)),
        );
        // What came for a state that nobody waits for any more makes way.
        self.sweep_all_but(&now);
        for (label, list) in lists {
            if list.ids > most_ids as u64 {
                let message = format!("the id list {label:?} has {} ids, and {most_ids} is the limit", list.ids);
                return Err(Failure::new(message));
            }
            if find_built(&self.dir, list).is_some() {
                continue;
            }
            for part in &list.parts {
                if !self.dir.join(part_name(&part.sha256)).exists() {
                    self.fetch(part, patience)
                        .await
                        .map_err(|failure| failure.about(&format!("a part of the id list {label:?}")))?;
                }
            }
            let (dir, list) = (self.dir.clone(), list.clone());
            let building = tokio::task::spawn_blocking(move || build(&dir, &list)).await;
            let built = building.unwrap_or_else(|error| Err(io::Error::other(error)));
            built.map_err(|error| Failure::new(format!("the id list {label:?} cannot be built: {error}")))?;
        }
        let prepared =
            built(&self.dir, lists).ok_or_else(|| Failure::new("an id list has gone from the state directory"))?;
        now.extend(file_names(&prepared));
        let before = self.used.take().map(|[used, _]| used).unwrap_or_default();
        self.used = Some([now, before]);
        self.sweep_all_but(&BTreeSet::new());
        Ok(prepared)
    }

    /// Removes what neither `these` nor a state in use names.
    fn sweep_all_but(&self, these: &BTreeSet<String>) {
        let Some([used, before]) = &self.used else { return };
        let Ok(entries) = fs::read_dir(&self.dir) else { return };
        for entry in entries.filter_map(Result::ok) {
            let name = entry.file_name();
            if !name.to_str().is_some_and(|name| [these, used, before].iter().any(|names| names.contains(name))) {
                // What can't be removed now is tried again with the next state.
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    async fn fetch(&mut self, part: &Part, patience: Duration) -> Result<(), Failure> {
        let headers = [(header::ACCEPT_ENCODING, "gzip".to_owned())];
        let mut answer = self.http.get(&format!("parts/{}", part.sha256), &headers, &[StatusCode::OK]).await?;
        let packed = match answer.header(&header::CONTENT_ENCODING) {
            None | Some("identity") => false,
            Some("gzip") => true,
            Some(other) => return Err(Failure::new(format!("it is encoded as {other:?}, which was not asked for"))),
        };
        let failed = |error: io::Error| Failure::new(error.to_string());
        let temporary = self.dir.join(format!(".{}.new", part_name(&part.sha256)));
        let _remover = Remover(&temporary);
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary);
        let checked = Checked { file: file.map_err(failed)?, hasher: PartHasher::default(), left: part.bytes };
        let (started, mut came) = (Instant::now(), 0);
        let checked = if packed {
            let mut unpacker = MultiGzDecoder::new(checked);
            while let Some(bytes) = answer.next(started + patience + worth(came)).await? {
                came += bytes.len();
                // Nothing can be packed for ever: pieces that hold nothing would keep us as long as somebody sends them.
                if came as u64 > part.bytes + part.bytes / 8 + PACKED_SLACK {
                    return Err(Failure::new("packed, it is longer than what was signed for can be"));
                }
                unpacker.write_all(&bytes).map_err(failed)?;
            }
            unpacker.finish().map_err(failed)?
        } else {
            let mut checked = checked;
            while let Some(bytes) = answer.next(started + patience + worth(came)).await? {
                came += bytes.len();
                checked.write_all(&bytes).map_err(failed)?;
            }
            checked
        };
        if checked.left != 0 {
            return Err(Failure::new(format!("it is {} bytes shorter than was signed for", checked.left)));
        }
        if checked.hasher.finish() != part.sha256 {
            return Err(Failure::new("it is not what was signed for: its SHA-256 is another"));
        }
        checked.file.sync_data().map_err(failed)?;
        fs::rename(&temporary, self.dir.join(part_name(&part.sha256))).map_err(failed)
    }
}

/// All lists, where each was built before.
pub(super) fn built(dir: &Path, lists: &BTreeMap<String, List>) -> Option<Vec<PreparedList>> {
    let prepared = |(label, list): (&String, &List)| {
        let (content, ids, file) = find_built(dir, list)?;
        Some(PreparedList { label: label.clone(), content, ids, file })
    };
    lists.iter().map(prepared).collect()
}

/// Name of the content, number of ids, and file.
fn find_built(dir: &Path, list: &List) -> Option<(u64, u64, PathBuf)> {
    let start = format!("list-{}-", list.content());
    let mut names = fs::read_dir(dir).ok()?.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names.find_map(|name| {
        let (content, ids) = name.strip_prefix(&start)?.split_once('-')?;
        Some((u64::from_str_radix(content, 16).ok()?, ids.parse().ok()?, dir.join(&name)))
    })
}

/// Builds a list out of its parts, which are checked once more: a disk may have lost something since they came.
fn build(dir: &Path, list: &List) -> io::Result<()> {
    let mut hashers = Vec::with_capacity(list.parts.len());
    let mut texts = Vec::with_capacity(list.parts.len());
    for part in &list.parts {
        let hasher = Rc::new(RefCell::new(PartHasher::default()));
        let file = Hashed { file: File::open(dir.join(part_name(&part.sha256)))?, hasher: Rc::clone(&hasher) };
        texts.push((BufReader::with_capacity(256 << 10, file), part.removes));
        hashers.push((hasher, part.sha256));
    }
    let mut builder = IdListBuilder::new();
    let read = (|| {
        let mut merge = Merge::new(texts)?;
        while let Some(id) = merge.next_id()? {
            builder.push(id);
        }
        io::Result::Ok(())
    })();
    let mut damaged = false;
    for (hasher, sha256) in hashers {
        if hasher.borrow().clone().finish() != sha256 {
            damaged = true;
            fs::remove_file(dir.join(part_name(&sha256)))?;
        }
    }
    if damaged {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a part was damaged; it is fetched again"));
    }
    read?;
    let built = builder.finish();
    if built.len() as u64 != list.ids {
        let message = format!("its parts come to {} ids, and not to {}", built.len(), list.ids);
        return Err(io::Error::new(io::ErrorKind::InvalidData, message));
    }
    let name = format!("list-{}-{:016x}-{}", list.content(), built.name(), list.ids);
    replace(dir, &name, |file| {
        let mut buffered = io::BufWriter::with_capacity(256 << 10, file);
        built.write_to(&mut buffered)?;
        buffered.flush()
    })
}

fn file_names(lists: &[PreparedList]) -> impl Iterator<Item = String> {
    lists.iter().filter_map(|list| Some(list.file.file_name()?.to_str()?.to_owned()))
}

fn part_names(lists: &BTreeMap<String, List>) -> BTreeSet<String> {
    lists.values().flat_map(|list| &list.parts).map(|part| part_name(&part.sha256)).collect()
}

fn part_name(sha256: &PartHash) -> String {
    format!("part-{sha256}")
}

/// Removes a file that was not renamed.
struct Remover<'p>(&'p Path);

impl Drop for Remover<'_> {
    fn drop(&mut self) {
        let _ = fs::remove_file(self.0);
    }
}

/// A file that takes no more than it should, and knows what it took.
struct Checked {
    file: File,
    hasher: PartHasher,
    left: u64,
}

impl Write for Checked {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() as u64 > self.left {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it is longer than was signed for"));
        }
        self.file.write_all(bytes)?;
        self.hasher.update(bytes);
        self.left -= bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A file whose bytes are hashed as they are read.
struct Hashed {
    file: File,
    hasher: Rc<RefCell<PartHasher>>,
}

impl Read for Hashed {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(to)?;
        self.hasher.borrow_mut().update(to.get(..read).unwrap_or_default());
        Ok(read)
    }
}
