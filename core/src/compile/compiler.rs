//! Documents in, snapshot out; what has not changed is not compiled again, and what broke keeps its last good form.
//!
//! ```text
//! compile(documents):  of each document, the flags whose text is another are read  ┐
//! apply(patches):      the flags of the patches are read                           ├─ the image is patched,
//!                                                                                  ┘  or assembled from all islands
//! ```

use std::{
    borrow::Borrow,
    collections::HashMap,
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use rkyv::util::AlignedVec;
use xxhash_rust::xxh3::xxh3_64;

use super::{
    emit::{Compiled, Emitter},
    image::{Flags, Image, Shown},
    known::{Bank, Known, Memory, State, Uses},
    read::{Fresh, Reading},
};
use crate::{
    Error, buffer,
    definition::{
        Document, Evaluators, Limits, Problem, RawFlag, Selector, Severity,
        lists::{self, ListFile, PreparedList},
    },
    snapshot::{
        BuiltIdList, IdListBuilder, Snapshot,
        index::{self, Answer},
        set::SharedSet,
    },
};

/// Compiles the definitions of a flag set, again and again as they change.
#[derive(Debug, Default)]
pub struct Compiler {
    limits: Limits,
    selector: Selector,
    /// What is known of each document, in rising precedence.
    documents: Vec<Memory>,
    bank: Bank,
    /// What was compiled last; `None` where that failed, or is to be made anew.
    image: Option<Image>,
    /// The id lists that it names.
    named_lists: Vec<CompiledList>,
    lists: HashMap<PathBuf, KnownList>,
    /// Those that the documents declare.
    used: UsedLists,
    /// Last good forms out of a snapshot from before, by flag key.
    restored: HashMap<String, Arc<Compiled>>,
    /// The id lists that the snapshot from before names, by their content's: label and number of ids. Last good forms
    /// may refer to them when their files are gone.
    named: HashMap<u64, (String, u64)>,
    /// The lists that documents were given, by content.
    prepared: HashMap<u64, PreparedList>,
}

/// What came of compiling.
#[derive(Debug)]
#[non_exhaustive]
pub struct Compilation {
    /// The snapshot, for a publisher or a reader. Drop it before compiling again, and the next one is made in its place.
    pub snapshot: Arc<AlignedVec>,
    /// How many flags it has.
    pub flags: usize,
    /// Keys of the flags that may not be as they were in the compilation before; `None`: any may.
    pub changed: Option<Vec<String>>,
    /// Everything wrong with the documents, warnings included, in their order; of [`apply`](Compiler::apply), with its patches.
    pub problems: Vec<Problem>,
    /// Flags whose definition is broken.
    pub broken: Vec<BrokenFlag>,
    /// The id lists that must lie beside the snapshot.
    pub lists: Vec<CompiledList>,
}

/// Changed flags of one document, for [`Compiler::apply`].
#[derive(Clone, Copy, Debug)]
pub struct Patch<'p> {
    /// Named like the document that changes, with the flags that are new in it or take the place of those with their keys. What else
    /// stands in it does not count: evaluators, metadata and id lists are those of the document as it was compiled.
    pub flags: &'p Document,
    /// The keys of flags that the document has no more.
    pub removed: &'p [String],
}

/// A flag whose definition is broken: its neighbours do not notice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokenFlag {
    /// Its key.
    pub key: String,
    /// The name of its document.
    pub document: String,
    /// Whether it stays in its last good form; else it answers `PARSE_ERROR`.
    pub last_good: bool,
}

/// An id list that a snapshot names.
#[derive(Clone, Debug)]
pub struct CompiledList {
    /// Its name: the hash of its content; its file is [`list_file`](crate::snapshot::list_file).
    pub name: u64,
    /// What the rules call it.
    pub label: String,
    /// How many ids it has.
    pub ids: u64,
    /// Its content, the first time it is named; after that it lies beside an earlier snapshot.
    pub built: Option<Arc<BuiltIdList>>,
    /// A file with its content, where a document was given it ready made.
    pub file: Option<PathBuf>,
}

#[derive(Debug)]
struct KnownList {
    stamp: (SystemTime, u64),
    name: u64,
    ids: u64,
    built: Option<Arc<BuiltIdList>>,
}

/// What may not be in the image yet.
#[derive(Debug, Default)]
struct Changes {
    /// More than single flags.
    all: bool,
    keys: Vec<String>,
}

/// The id lists that documents declare: file and label.
type UsedLists = Vec<(PathBuf, String)>;

impl Compiler {
    /// A compiler that remembers nothing yet.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// The limits it keeps.
    #[must_use]
    pub const fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Takes the last good forms of flags out of a snapshot from before, so that a flag that is found broken after a restart still has
    /// one.
    pub fn restore(&mut self, snapshot: &Snapshot) {
        let sets: Vec<Arc<SharedSet>> = snapshot.shared_sets().map(Arc::new).collect();
        let lists: Vec<u64> = snapshot.lists().map(|(name, _, _)| name).collect();
        self.named.extend(snapshot.lists().map(|(name, label, ids)| (name, (label.to_owned(), ids))));
        for flag in snapshot.flags().filter(|flag| !flag.broken()) {
            let what = snapshot.find(flag.key.as_bytes()).map_or(index::OTHER, Answer::what);
            let island = flag.compiled().to_vec();
            let compiled = Compiled { island, what, sets: sets.clone(), lists: lists.clone() };
            self.restored.insert(flag.key.to_owned(), Arc::new(compiled));
        }
    }

    /// Compiles documents in rising precedence: of two flags with one key and flag set the one in the later document counts, and without a
    /// selector a key means the one in the latest document that has it.
    ///
    /// # Errors
    ///
    /// [`Error::Payload`] where the result would be larger than a snapshot can be, or has more flags than the limits allow. What is wrong
    /// with a flag is no error here but a [`Problem`].
    pub fn compile<D: Borrow<Document>>(&mut self, documents: &[D], selector: &Selector) -> Result<Compilation, Error> {
        let documents: Vec<&Document> = documents.iter().map(Borrow::borrow).collect();
        let mut changes = Changes::default();
        let (mut problems, mut broken, mut used) = (Vec::new(), Vec::new(), Vec::new());
        if self.selector != *selector {
            self.selector = selector.clone();
            changes.all = true;
        }
        changes.all |=
            !self.documents.iter().map(|memory| &*memory.name).eq(documents.iter().map(|known| known.name()));
        let prepared = documents.iter().flat_map(|document| document.prepared_lists());
        self.prepared = prepared.map(|list| (list.content, list.clone())).collect();
        let mut memories = std::mem::take(&mut self.documents);
        for &document in &documents {
            problems.extend_from_slice(document.problems());
            let labels = self.load_lists(document, &mut problems, &mut used);
            let known = memories.iter().position(|memory| memory.name == document.name());
            let mut memory = known.map_or_else(|| Memory::new(document), |at| memories.remove(at));
            self.read_document(document, &mut memory, labels, &mut changes, &mut problems, &mut broken);
            self.documents.push(memory);
        }
        memories.iter().for_each(|memory| memory.flags().for_each(|(_, flag)| self.bank.give_up(flag.island)));
        self.restored = HashMap::new();
        self.used = used;
        let (snapshot, changed) = self.image(changes)?;
        Ok(Compilation { snapshot, changed, flags: self.len(), problems, broken, lists: self.hand_out_lists() })
    }

    /// Compiles changed flags of documents that were compiled before, and leaves all others alone: the work is that of the changes,
    /// not of the set.
    ///
    /// # Errors
    ///
    /// As [`compile`](Self::compile), and [`Error::Payload`] where a patch names a document that was not compiled, or id lists would have to
    /// be read again after [`forget_lists`](Self::forget_lists); nothing is changed then, and whole documents are to be compiled.
    pub fn apply(&mut self, patches: &[Patch<'_>]) -> Result<Compilation, Error> {
        let place = |patch: &Patch<'_>| {
            let known = self.documents.iter().position(|memory| memory.name == patch.flags.name());
            known.ok_or_else(|| {
                Error::Payload(format!("{} was not compiled, so it cannot be patched", patch.flags.name()))
            })
        };
        let places = patches.iter().map(place).collect::<Result<Vec<usize>, Error>>()?;
        if self.image.is_none() && !self.used.is_empty() {
            let message = "id lists are to be read again, which takes whole documents";
            return Err(Error::Payload(message.to_owned()));
        }
        let mut changes = Changes::default();
        let (mut problems, mut broken) = (Vec::new(), Vec::new());
        for (patch, place) in patches.iter().zip(places) {
            problems.extend_from_slice(patch.flags.problems());
            let Some(memory) = self.documents.get_mut(place) else { continue };
            let mut memory = std::mem::take(memory);
            self.patch_document(patch, &mut memory, &mut changes, &mut problems);
            if let Some(place) = self.documents.get_mut(place) {
                *place = memory;
            }
        }
        for memory in self.documents.iter().filter(|memory| memory.broken > 0) {
            broken.extend(memory.flags().filter(|(_, flag)| flag.is_broken()).map(|(_, flag)| BrokenFlag {
                key: String::from_utf8_lossy(self.bank.key(flag)).into_owned(),
                document: memory.name.clone(),
                last_good: flag.state == State::LastGood,
            }));
        }
        let (snapshot, changed) = self.image(changes)?;
        Ok(Compilation { snapshot, changed, flags: self.len(), problems, broken, lists: self.hand_out_lists() })
    }

    fn len(&self) -> usize {
        self.image.as_ref().map_or(0, Image::len)
    }

    /// Reads what has changed of a document.
    fn read_document(
        &mut self,
        document: &Document,
        memory: &mut Memory,
        labels: HashMap<String, u64>,
        changes: &mut Changes,
        problems: &mut Vec<Problem>,
        broken: &mut Vec<BrokenFlag>,
    ) {
        let (surroundings, metadata) = memory.surround(document, labels);
        changes.all |= !surroundings || !metadata;
        let mut walk = Vec::with_capacity(document.flags().len());
        let mut seen = 0;
        let expected = if memory.len() == 0 { document.flags().len() } else { 0 };
        let mut raws: Vec<RawFlag<'_>> = buffer::with_room(expected);
        let mut todo: Vec<Todo> = buffer::with_room(expected);
        let mut steps = Steps::default();
        for raw in document.flags() {
            let text = xxh3_64(raw.json().as_bytes());
            let slot = steps.next(raw.key().as_bytes(), memory, &self.bank);
            seen += usize::from(slot.is_some());
            let same = |flag: &Known| surroundings && flag.state == State::Good && flag.text == text;
            if !slot.and_then(|slot| memory.flag(slot)).is_some_and(same) {
                todo.push(Todo { slot, text, at: walk.len() });
                raws.push(raw);
            }
            walk.push(slot.unwrap_or(u32::MAX));
        }
        if seen < memory.len() {
            let mut kept: Vec<u32> = walk.clone();
            kept.sort_unstable();
            let gone = memory.flags().map(|(slot, _)| slot).filter(|slot| kept.binary_search(slot).is_err());
            self.remove(gone.collect(), memory, changes);
        }
        let labels = std::mem::take(&mut memory.labels);
        let limits = self.limits.clone();
        let reading = Reading::of(document, &labels, &limits);
        self.read(&reading, &raws, &todo, memory, changes, problems, &mut walk);
        drop(reading);
        memory.labels = labels;
        for (raw, todo) in raws.iter().zip(&todo) {
            let flag = walk.get(todo.at).and_then(|slot| memory.flag(*slot));
            if let Some(flag) = flag.filter(|flag| flag.is_broken()) {
                let (key, document) = (raw.key().to_owned(), document.name().to_owned());
                broken.push(BrokenFlag { key, document, last_good: flag.state == State::LastGood });
            }
        }
        memory.walk = walk;
    }

    fn patch_document(
        &mut self,
        patch: &Patch<'_>,
        memory: &mut Memory,
        changes: &mut Changes,
        problems: &mut Vec<Problem>,
    ) {
        let gone = patch.removed.iter().filter_map(|key| memory.find(key.as_bytes(), &self.bank));
        let mut gone: Vec<u32> = gone.collect();
        gone.sort_unstable();
        gone.dedup();
        self.remove(gone, memory, changes);
        let raws: Vec<RawFlag<'_>> = patch.flags.flags().collect();
        let todo: Vec<Todo> = raws
            .iter()
            .enumerate()
            .map(|(at, raw)| Todo {
                slot: memory.find(raw.key().as_bytes(), &self.bank),
                text: xxh3_64(raw.json().as_bytes()),
                at,
            })
            .collect();
        let mut walk = vec![u32::MAX; raws.len()];
        let (labels, metadata) = (std::mem::take(&mut memory.labels), std::mem::take(&mut memory.metadata));
        let written = std::mem::take(&mut memory.evaluators);
        let limits = self.limits.clone();
        let evaluators = Evaluators::new(written.iter().map(|(name, body)| (&**name, 0, &**body)), &limits);
        let reading = Reading::new(evaluators, &labels, &metadata, &limits);
        self.read(&reading, &raws, &todo, memory, changes, problems, &mut walk);
        drop(reading);
        (memory.labels, memory.metadata, memory.evaluators) = (labels, metadata, written);
    }

    /// Reads flags and remembers what came of them; `walk` learns the slots of those that had none.
    #[expect(clippy::too_many_arguments, reason = "what is read, what is known, and what is found")]
    fn read(
        &mut self,
        reading: &Reading<'_>,
        raws: &[RawFlag<'_>],
        todo: &[Todo],
        memory: &mut Memory,
        changes: &mut Changes,
        problems: &mut Vec<Problem>,
        walk: &mut [u32],
    ) {
        let read = reading.flags(raws, &mut self.bank);
        let files = self.lists.values().map(|list| list.name);
        let lists: Vec<u64> = files.chain(self.named.keys().copied()).chain(self.prepared.keys().copied()).collect();
        let expected = if memory.len() == 0 { raws.len() } else { 0 };
        let (mut new, mut places) = (buffer::with_room(expected), buffer::with_room(expected));
        // Most often all flags are new, or a few of many.
        let everything = todo.len() > memory.len() / 4 + 64;
        changes.all |= everything;
        for ((raw, todo), outcome) in raws.iter().zip(todo).zip(read) {
            let known = match outcome {
                Ok(fresh) => known(fresh, todo.text, problems),
                Err(found) => {
                    problems.extend(found);
                    let before = todo.slot.and_then(|slot| memory.flag(slot)).cloned();
                    self.broken(raw.key(), before, reading, todo.text, &lists)
                }
            };
            match todo.slot.and_then(|slot| Some((slot, memory.flag(slot)?))) {
                Some((slot, before)) => {
                    let same = before.what == known.what
                        && before.set_id == known.set_id
                        && self.bank.island(before.island) == self.bank.island(known.island);
                    changes.all |= !before.uses_the_same(&known);
                    if !same && !changes.all {
                        changes.keys.push(raw.key().to_owned());
                    }
                    memory.replace(slot, known, &mut self.bank);
                }
                None => {
                    changes.all |= known.uses.is_some();
                    if !changes.all {
                        changes.keys.push(raw.key().to_owned());
                    }
                    new.push(known);
                    places.push(todo.at);
                }
            }
        }
        for (slot, at) in memory.insert(new, &self.bank).into_iter().zip(places) {
            if let Some(place) = walk.get_mut(at) {
                *place = slot;
            }
        }
    }

    /// A flag that is broken: in its last good form, if it has one.
    fn broken(&mut self, key: &str, before: Option<Known>, reading: &Reading<'_>, text: u64, lists: &[u64]) -> Known {
        let usable = |used: &[u64]| used.iter().all(|list| lists.contains(list));
        let set_id = before.as_ref().map_or_else(|| reading.set_id.clone(), |before| before.set_id.clone());
        let good = before.filter(|before| before.state != State::Broken);
        if let Some(good) = good {
            if usable(good.uses.as_deref().map_or(&[], |uses| &uses.lists)) {
                // It lies where it lay, and `replace` sees that.
                return Known { state: State::LastGood, text, ..good };
            }
        } else if let Some(good) = self.restored.get(key).filter(|good| usable(&good.lists)) {
            let (island, what) = (self.bank.add(&good.island), good.what);
            let uses = Uses::of(good.sets.clone(), good.lists.clone());
            return Known { island, what, state: State::LastGood, text, set_id, uses };
        }
        let broken = Emitter::default().broken(key);
        let island = self.bank.add(&broken.island);
        Known { island, what: broken.what, state: State::Broken, text, set_id, uses: None }
    }

    fn remove(&mut self, slots: Vec<u32>, memory: &mut Memory, changes: &mut Changes) {
        if slots.is_empty() {
            return;
        }
        changes.all |= slots.len() > memory.len() / 4 + 64;
        for flag in slots.iter().filter_map(|slot| memory.flag(*slot)) {
            changes.all |= flag.uses.is_some();
            if !changes.all {
                changes.keys.push(String::from_utf8_lossy(self.bank.key(flag)).into_owned());
            }
        }
        memory.remove(&slots, &mut self.bank);
    }

    /// Brings the image up to date; gives its bytes, and which flags may be others than they were.
    fn image(&mut self, changes: Changes) -> Result<(Arc<AlignedVec>, Option<Vec<String>>), Error> {
        self.bank.tidy(&mut self.documents);
        let Self { documents, bank, selector, lists, named, prepared, used, limits, image: image_before, .. } =
            &mut *self;
        let flags = Flags { documents, bank, selector };
        let limit = limits.flags;
        let mut image = image_before.take();
        // After a compilation that failed nobody knows what has changed since the one before.
        let single = image.is_some() && !changes.all;
        if let Some(patched) = &mut image
            && (!single || changes.keys.iter().any(|key| patched.patch(key.as_bytes(), flags).is_err()))
        {
            image = None;
        }
        let image = match image.filter(|image| image.len() <= limit) {
            Some(image) => image,
            None => {
                let lists = |shown: &[Shown]| lists_of(flags, shown, (used, prepared), lists, named);
                let (image, lists) = Image::assemble(flags, limit, single, lists)?;
                self.named_lists = lists;
                image
            }
        };
        let bytes = Arc::clone(&image.bytes);
        self.image = Some(image);
        Ok((bytes, single.then_some(changes.keys)))
    }

    /// Reads the id lists that a document declares where they have changed; gives their names by what rules call them.
    fn load_lists(
        &mut self,
        document: &Document,
        problems: &mut Vec<Problem>,
        used: &mut Vec<(PathBuf, String)>,
    ) -> HashMap<String, u64> {
        let prepared = document.prepared_lists().iter().map(|list| (list.label.clone(), list.content));
        if document.lists().is_empty() {
            return prepared.collect();
        }
        let directory = Path::new(document.name()).parent().unwrap_or(Path::new("."));
        let (files, found) = lists::resolve(document, directory);
        problems.extend(found);
        let mut names = HashMap::new();
        for ListFile { name, path } in files {
            if let Err(message) = self.load_list(&path) {
                problems.push(list_problem(document, &name, message));
            }
            if let Some(known) = self.lists.get(&path) {
                names.insert(name.clone(), known.name);
                used.push((path, name));
            }
        }
        names.extend(prepared);
        names
    }

    /// Reads an id list if its file has changed; on an error what was known of it stays.
    fn load_list(&mut self, path: &Path) -> Result<(), String> {
        let stamp = stamp(path).map_err(|error| format!("{}: {error}", path.display()))?;
        if self.lists.get(path).is_some_and(|known| known.stamp == stamp) {
            return Ok(());
        }
        let mut builder = IdListBuilder::new();
        lists::read_ids(path, &self.limits, |id| builder.push(id.as_bytes())).map_err(|error| error.to_string())?;
        let built = builder.finish();
        let (name, ids) = (built.name(), built.len() as u64);
        self.lists.insert(path.to_owned(), KnownList { stamp, name, ids, built: Some(Arc::new(built)) });
        Ok(())
    }

    /// The id lists of the image; each is handed out with its content once.
    fn hand_out_lists(&mut self) -> Vec<CompiledList> {
        let lists = self.named_lists.clone();
        self.named_lists.iter_mut().for_each(|list| list.built = None);
        lists
    }

    /// Forgets which id lists have been handed out, so that the next compilation hands them all out again: for a
    /// store that was emptied.
    pub fn forget_lists(&mut self) {
        self.image = None;
        self.lists.clear();
        self.named.clear();
    }
}

/// A flag on its way from the text to its slot.
#[derive(Clone, Copy, Debug)]
struct Todo {
    slot: Option<u32>,
    text: u64,
    /// Its place in the walk.
    at: usize,
}

/// Finds the slots of flags that most often come in the order in which they came before.
#[derive(Debug, Default)]
struct Steps {
    at: usize,
}

impl Steps {
    fn next(&mut self, key: &[u8], memory: &Memory, bank: &Bank) -> Option<u32> {
        /// How far ahead a flag is sought after others were taken out.
        const AHEAD: usize = 64;
        let expected = memory.walk.get(self.at).copied();
        let hit = expected.filter(|slot| memory.flag(*slot).is_some_and(|flag| bank.key(flag) == key));
        if hit.is_some() {
            self.at += 1;
            return hit;
        }
        let slot = memory.find(key, bank)?;
        let ahead = memory.walk.iter().skip(self.at).take(AHEAD).position(|other| *other == slot);
        self.at += ahead.map_or(0, |ahead| ahead + 1);
        Some(slot)
    }
}

fn known(fresh: Fresh, text: u64, problems: &mut Vec<Problem>) -> Known {
    let state = if fresh.warnings.is_empty() { State::Good } else { State::Odd };
    problems.extend(fresh.warnings);
    Known { island: fresh.island, what: fresh.what, state, text, set_id: fresh.set_id, uses: fresh.uses }
}

/// The id lists that flags refer to, in the order of their names.
fn lists_of(
    flags: Flags<'_>,
    shown: &[Shown],
    (used, prepared): (&[(PathBuf, String)], &HashMap<u64, PreparedList>),
    known: &mut HashMap<PathBuf, KnownList>,
    named: &mut HashMap<u64, (String, u64)>,
) -> Vec<CompiledList> {
    let uses = shown.iter().filter_map(|flag| flags.known(flag)?.uses.as_deref());
    let mut wanted: Vec<u64> = uses.flat_map(|uses| uses.lists.iter().copied()).collect();
    wanted.sort_unstable();
    wanted.dedup();
    let mut lists: Vec<CompiledList> = Vec::new();
    for (path, label) in used {
        let Some(known) = known.get_mut(path) else { continue };
        if wanted.binary_search(&known.name).is_ok() && lists.iter().all(|list| list.name != known.name) {
            let (label, built) = (label.clone(), known.built.take());
            lists.push(CompiledList { name: known.name, label, ids: known.ids, built, file: None });
        }
    }
    for name in wanted {
        if lists.iter().any(|list| list.name == name) {
            continue;
        }
        if let Some(PreparedList { label, ids, file, .. }) = prepared.get(&name) {
            lists.push(CompiledList { name, label: label.clone(), ids: *ids, built: None, file: Some(file.clone()) });
        } else if let Some((label, ids)) = named.get(&name) {
            lists.push(CompiledList { name, label: label.clone(), ids: *ids, built: None, file: None });
        }
    }
    lists.sort_by_key(|list| list.name);
    *named = lists.iter().map(|list| (list.name, (list.label.clone(), list.ids))).collect();
    lists
}

fn list_problem(document: &Document, name: &str, message: String) -> Problem {
    let pointer = format!("/metadata/list.{}", name.replace('~', "~0").replace('/', "~1"));
    let (line, column) = document.locate(&pointer).unwrap_or((1, 1));
    Problem { severity: Severity::Error, file: document.name().to_owned(), line, column, flag: None, pointer, message }
}

fn stamp(path: &Path) -> io::Result<(SystemTime, u64)> {
    let metadata = fs::metadata(path)?;
    Ok((metadata.modified()?, metadata.len()))
}
