//! Documents in, snapshot out; what has not changed is not compiled again, and what broke keeps its last good form.

use std::{
    borrow::Borrow,
    collections::HashMap,
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use rkyv::util::AlignedVec;
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use super::{
    emit::{Compiled, Emitter},
    fold::fold,
};
use crate::{
    Error,
    definition::{
        Document, Flag, Limits, ListNames, Problem, RawFlag, Selector, Severity, flag_set_id,
        lists::{self, ListFile},
    },
    snapshot::{
        BuiltIdList, IdListBuilder, Snapshot,
        archive::{Extent, Named, Tables},
        index::{self, Answer},
        island::WORD_SET,
        set::SharedSet,
    },
};

/// Compiles the definitions of a flag set, again and again as they change.
#[derive(Debug, Default)]
pub struct Compiler {
    limits: Limits,
    /// What is known of each document, by its name.
    documents: HashMap<String, Memory>,
    lists: HashMap<PathBuf, KnownList>,
    /// Last good forms out of a snapshot from before, by flag key.
    restored: HashMap<String, Arc<Compiled>>,
    /// The id lists that the snapshot from before names, by their content's: label and number of ids. Last good forms
    /// may refer to them when their files are gone.
    named: HashMap<u64, (String, u64)>,
    /// How many times it has compiled.
    round: u64,
}

/// What came of compiling.
#[derive(Debug)]
#[non_exhaustive]
pub struct Compilation {
    /// The snapshot, for a publisher or a reader.
    pub snapshot: AlignedVec,
    /// How many flags it has.
    pub flags: usize,
    /// Everything wrong with the documents, warnings included, in their order.
    pub problems: Vec<Problem>,
    /// Flags whose definition is broken.
    pub broken: Vec<BrokenFlag>,
    /// The id lists that must lie beside the snapshot.
    pub lists: Vec<CompiledList>,
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
}

#[derive(Debug, Default)]
struct Memory {
    /// The hash of all that a flag's compiled form depends on outside its own text.
    surroundings: u64,
    flags: HashMap<String, FlagMemory>,
}

#[derive(Debug)]
struct FlagMemory {
    /// The hash of the flag's text. A flag with problems is read again each time, since they say where it stands.
    text: Option<u64>,
    set_id: Option<Arc<str>>,
    good: Option<Arc<Compiled>>,
    /// The compile in which it was last seen.
    seen: u64,
}

#[derive(Debug)]
struct KnownList {
    stamp: (SystemTime, u64),
    name: u64,
    ids: u64,
    built: Option<Arc<BuiltIdList>>,
}

/// One flag on its way into the snapshot.
#[derive(Debug)]
struct Entry<'d> {
    key: &'d str,
    set_id: Option<Arc<str>>,
    document: usize,
    compiled: Arc<Compiled>,
}

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
        self.round += 1;
        let mut problems = Vec::new();
        let mut broken = Vec::new();
        let mut entries = Vec::with_capacity(documents.iter().map(|document| document.flags().len()).sum());
        let mut used = Vec::new();
        for (number, &document) in documents.iter().enumerate() {
            problems.extend_from_slice(document.problems());
            let labels = self.load_lists(document, &mut problems, &mut used);
            let first = entries.len();
            self.compile_document(number, document, &labels, &mut entries, &mut problems, &mut broken);
            let kept = entries.split_off(first);
            entries.extend(kept.into_iter().filter(|entry| selector.matches(entry.set_id.as_deref(), document.name())));
        }
        self.documents.retain(|name, _| documents.iter().any(|document| document.name() == name));
        self.restored = HashMap::new();
        entries.sort_by(|a, b| (a.key, &a.set_id, a.document).cmp(&(b.key, &b.set_id, b.document)));
        keep_last(&mut entries);
        if entries.len() > self.limits.flags {
            return Err(Error::Payload(format!("{} flags, at most {} are allowed", entries.len(), self.limits.flags)));
        }
        let lists = self.lists_of(&entries, used);
        let snapshot = assemble(&documents, &entries, &lists)?;
        Ok(Compilation { snapshot, flags: entries.len(), problems, broken, lists })
    }

    /// Compiles what has changed of one document.
    fn compile_document<'d>(
        &mut self,
        number: usize,
        document: &'d Document,
        labels: &HashMap<String, u64>,
        entries: &mut Vec<Entry<'d>>,
        problems: &mut Vec<Problem>,
        broken: &mut Vec<BrokenFlag>,
    ) {
        let surroundings = surroundings(document, labels);
        let memory = self.documents.entry(document.name().to_owned()).or_default();
        let unchanged = memory.surroundings == surroundings;
        memory.surroundings = surroundings;
        let seen = self.round;
        let (evaluators, names) = (document.evaluators(&self.limits), labels.keys().cloned().collect::<ListNames>());
        let known: Vec<u64> = self.lists.values().map(|list| list.name).chain(self.named.keys().copied()).collect();
        for raw in document.flags() {
            let text = xxh3_64(raw.json().as_bytes());
            if let Some(flag) = memory.flags.get_mut(raw.key()) {
                flag.seen = seen;
                if unchanged && flag.text == Some(text) {
                    if let Some(compiled) = &flag.good {
                        let (set_id, compiled) = (flag.set_id.clone(), Arc::clone(compiled));
                        entries.push(Entry { key: raw.key(), set_id, document: number, compiled });
                    }
                    continue;
                }
            }
            let outcome = Flag::parse(&raw, &evaluators, &names, &self.limits);
            let flag = match outcome {
                Ok(checked) => {
                    let compiled = Arc::new(emit(&checked.flag, labels));
                    let set_id = flag_set_id(document.metadata(), &checked.flag.metadata).map(Arc::from);
                    let text = checked.warnings.is_empty().then_some(text);
                    problems.extend(checked.warnings);
                    FlagMemory { text, set_id, good: Some(compiled), seen }
                }
                Err(found) => {
                    problems.extend(found);
                    let previous = memory.flags.remove(raw.key());
                    let set_id = match &previous {
                        Some(flag) => flag.set_id.clone(),
                        None => flag_set_id(document.metadata(), &[]).map(Arc::from),
                    };
                    let good = previous.and_then(|flag| flag.good).or_else(|| self.restored.get(raw.key()).cloned());
                    let good = good.filter(|good| good.lists.iter().all(|list| known.contains(list)));
                    let last_good = good.is_some();
                    let document = document.name().to_owned();
                    broken.push(BrokenFlag { key: raw.key().to_owned(), document, last_good });
                    if !last_good {
                        entries.push(broken_entry(&raw, set_id.clone(), number));
                    }
                    FlagMemory { text: None, set_id, good, seen }
                }
            };
            if let Some(compiled) = &flag.good {
                let (set_id, compiled) = (flag.set_id.clone(), Arc::clone(compiled));
                entries.push(Entry { key: raw.key(), set_id, document: number, compiled });
            }
            memory.flags.insert(raw.key().to_owned(), flag);
        }
        if memory.flags.len() > document.flags().len() {
            memory.flags.retain(|_, flag| flag.seen == seen);
        }
    }

    /// Reads the id lists that a document declares where they have changed; gives their names by what rules call them.
    fn load_lists(
        &mut self,
        document: &Document,
        problems: &mut Vec<Problem>,
        used: &mut Vec<(PathBuf, String)>,
    ) -> HashMap<String, u64> {
        if document.lists().is_empty() {
            return HashMap::new();
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

    /// The id lists that the flags refer to, in the order of their names; each is handed out with its content once.
    fn lists_of(&mut self, entries: &[Entry<'_>], used: Vec<(PathBuf, String)>) -> Vec<CompiledList> {
        let mut wanted: Vec<u64> = entries.iter().flat_map(|entry| entry.compiled.lists.iter().copied()).collect();
        wanted.sort_unstable();
        wanted.dedup();
        let mut lists: Vec<CompiledList> = Vec::new();
        for (path, label) in used {
            let Some(known) = self.lists.get_mut(&path) else { continue };
            if wanted.binary_search(&known.name).is_ok() && lists.iter().all(|list| list.name != known.name) {
                lists.push(CompiledList { name: known.name, label, ids: known.ids, built: known.built.take() });
            }
        }
        for name in wanted {
            if let Some((label, ids)) = self.named.get(&name)
                && lists.iter().all(|list| list.name != name)
            {
                lists.push(CompiledList { name, label: label.clone(), ids: *ids, built: None });
            }
        }
        lists.sort_by_key(|list| list.name);
        self.named = lists.iter().map(|list| (list.name, (list.label.clone(), list.ids))).collect();
        lists
    }

    /// Forgets which id lists have been handed out, so that the next compilation hands them all out again: for a
    /// store that was emptied.
    pub fn forget_lists(&mut self) {
        self.lists.clear();
        self.named.clear();
    }
}

fn emit(flag: &Flag, labels: &HashMap<String, u64>) -> Compiled {
    let lists = |label: &str| labels.get(label).copied();
    match flag.targeting.as_ref().and_then(fold) {
        Some(folded) => {
            let flag = Flag { targeting: Some(folded), ..flag.clone() };
            Emitter::default().flag(&flag, &lists)
        }
        None => Emitter::default().flag(flag, &lists),
    }
}

fn broken_entry<'d>(raw: &RawFlag<'d>, set_id: Option<Arc<str>>, document: usize) -> Entry<'d> {
    Entry { key: raw.key(), set_id, document, compiled: Arc::new(Emitter::default().broken(raw.key())) }
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

/// The hash of what flags share: evaluators, id lists, and the flag set they are in.
fn surroundings(document: &Document, labels: &HashMap<String, u64>) -> u64 {
    let mut hash = Xxh3::new();
    let mut part = |bytes: &[u8]| {
        hash.update(&(bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    };
    for (name, body) in document.raw_evaluators() {
        part(name.as_bytes());
        part(body.as_bytes());
    }
    let mut labels: Vec<(&String, &u64)> = labels.iter().collect();
    labels.sort_unstable();
    for (label, name) in labels {
        part(label.as_bytes());
        part(&name.to_le_bytes());
    }
    part(flag_set_id(document.metadata(), &[]).unwrap_or_default().as_bytes());
    hash.digest()
}

/// Of entries with one key and flag set, which lie side by side, keeps the last.
fn keep_last(entries: &mut Vec<Entry<'_>>) {
    entries.reverse();
    entries.dedup_by(|a, b| a.key == b.key && a.set_id == b.set_id);
    entries.reverse();
}

/// Puts the parts together.
fn assemble(documents: &[&Document], entries: &[Entry<'_>], lists: &[CompiledList]) -> Result<AlignedVec, Error> {
    let mut arena = Vec::with_capacity(entries.iter().map(|entry| entry.compiled.island.len()).sum());
    // Every flag set's metadata once, ahead of the flags that point at it.
    let mut sets = Vec::new();
    let set_of: Vec<u32> = documents
        .iter()
        .map(|document| {
            if document.metadata().is_empty() {
                return Ok(u32::MAX);
            }
            let bytes = Emitter::default().set_metadata(document.metadata());
            sets.push(Extent { offset: offset(&arena)?, len: narrow(document.metadata().len())? });
            arena.extend_from_slice(&bytes);
            narrow(sets.len() - 1)
        })
        .collect::<Result<_, Error>>()?;
    let mut flags = Vec::with_capacity(entries.len());
    let mut answers = Vec::with_capacity(entries.len());
    for entry in entries {
        let (at, island) = (offset(&arena)?, &entry.compiled.island);
        arena.extend_from_slice(island);
        let set = set_of.get(entry.document).copied().unwrap_or(u32::MAX);
        if let Some(word) = arena.get_mut(at as usize + 4 * WORD_SET..).and_then(<[u8]>::first_chunk_mut::<4>) {
            *word = set.to_le_bytes();
        }
        flags.push(Extent { offset: at, len: narrow(island.len())? });
        answers.push(Answer::new(entry.compiled.what, at));
    }
    let mut shared_sets: Vec<&Arc<SharedSet>> = entries.iter().flat_map(|entry| &entry.compiled.sets).collect();
    shared_sets.sort_by_key(|set| set.name);
    shared_sets.dedup_by_key(|set| set.name);
    let mut shared = Vec::with_capacity(shared_sets.len());
    for set in shared_sets {
        shared.push(Named { name: set.name, number: offset(&arena)?.into() });
        arena.extend_from_slice(&set.bytes);
    }
    let qualified = entries.iter().any(|entry| entry.set_id.is_some());
    let built = build_index(entries, &answers, qualified);
    let tables = Tables {
        arena,
        places: built.places,
        flags,
        sets,
        shared,
        lists: lists.iter().map(|list| Named { name: list.name, number: list.ids }).collect(),
        list_labels: lists.iter().map(|list| list.label.clone()).collect(),
        seed: built.seed,
        probes: built.probes,
        qualified: u32::from(qualified),
    };
    rkyv::to_bytes::<rkyv::rancor::Error>(&tables).map_err(|error| Error::Payload(error.to_string()))
}

/// The index: each key means the flag of the latest document that has it; behind a flag set's identifier and a NUL, the flag of that
/// set. A flag in no set is behind the NUL alone.
fn build_index(entries: &[Entry<'_>], answers: &[Answer], qualified: bool) -> index::Built {
    let mut keys: Vec<(Vec<u8>, Answer)> = Vec::new();
    let mut plain: Vec<(&[u8], Answer)> = Vec::with_capacity(entries.len());
    let mut flags = entries.iter().zip(answers).peekable();
    while let Some((first, answer)) = flags.next() {
        let (mut latest, mut answer) = (first.document, *answer);
        while let Some((other, other_answer)) = flags.next_if(|(other, _)| other.key == first.key) {
            if other.document >= latest {
                (latest, answer) = (other.document, *other_answer);
            }
        }
        plain.push((first.key.as_bytes(), answer));
    }
    if qualified {
        for (entry, answer) in entries.iter().zip(answers) {
            keys.push((qualified_key(entry.set_id.as_deref(), entry.key.as_bytes()), *answer));
        }
    }
    let all: Vec<(&[u8], Answer)> =
        plain.into_iter().chain(keys.iter().map(|(key, answer)| (key.as_slice(), *answer))).collect();
    index::build(all.iter().copied(), 0)
}

/// How a flag is looked for with a selector.
fn qualified_key(set_id: Option<&str>, key: &[u8]) -> Vec<u8> {
    let mut qualified = set_id.unwrap_or_default().as_bytes().to_vec();
    qualified.push(0);
    qualified.extend_from_slice(key);
    qualified
}

/// Where the next part of the arena will lie.
fn offset(arena: &[u8]) -> Result<u32, Error> {
    narrow(arena.len())
}

fn narrow(number: usize) -> Result<u32, Error> {
    // rkyv's 32-bit relative pointers reach 2 GiB.
    const LIMIT: usize = 1 << 31;
    let narrowed = u32::try_from(number).ok().filter(|_| number < LIMIT);
    narrowed.ok_or_else(|| {
        Error::Payload("the flags compile to more than 2 GiB, which is more than a snapshot can be".to_owned())
    })
}
