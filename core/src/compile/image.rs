//! The snapshot's bytes: put together from islands, and patched where single flags change.
//!
//! ```text
//! assemble   arena := set metadata, islands in the order of keys, shared sets; index := all keys; archive by rkyv
//! patch key  its islands go where they were if they fit, else behind the others; extents and index places are overwritten
//! ```
//!
//! What is assembled first has no room to spare: it is the same bytes for the same flags. When a patch finds no room, all is assembled
//! anew *with* room, a sixteenth of the arena and of the flags, which later patches use up; so an image that never changes is
//! small, and one that does is assembled once in some thousand changes. It is also assembled when more than a quarter of the arena is holes, or when
//! three quarters of the index's places were ever used. Whatever is not flags (metadata, id lists, shared sets) is never patched.

use std::{cmp::Ordering, sync::Arc};

use rkyv::{rend::u128_le, util::AlignedVec};

use super::{
    compiler::CompiledList,
    emit::Emitter,
    known::{Bank, Known, Memory},
};
use crate::{
    Error, buffer,
    definition::Selector,
    snapshot::{
        archive::{ArchivedExtent, ArchivedTables, Extent, Named, Tables},
        index::{self, Answer, IndexMut},
        island::{WORD_KEY, WORD_SET, Words},
        set::SharedSet,
        view::View,
    },
};

/// Everything that an image is made from, in one place.
#[derive(Clone, Copy, Debug)]
pub(super) struct Flags<'a> {
    pub(super) documents: &'a [Memory],
    pub(super) bank: &'a Bank,
    pub(super) selector: &'a Selector,
}

/// A flag that the snapshot has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Shown {
    pub(super) document: u32,
    pub(super) slot: u32,
    set_id: Option<Arc<str>>,
}

/// A payload, and where in it everything lies.
#[derive(Debug)]
pub(super) struct Image {
    pub(super) bytes: Arc<AlignedVec>,
    /// In the order of the archive's flags.
    shown: Vec<Shown>,
    /// How many of them are in a flag set.
    in_sets: usize,
    /// Which of the archive's sets is the metadata of each document.
    set_of: Vec<u32>,
    /// Bytes of the arena that are used, and bytes there are.
    arena: (usize, usize),
    /// Bytes of the arena that nothing points at.
    holes: usize,
    /// Where the places of the index begin, and how many there are, and how many were ever used.
    places: (usize, usize),
    used: usize,
    /// Where the extents of the flags begin, and for how many there is room.
    extents: (usize, usize),
    /// Where the archive's root begins.
    root: usize,
    seed: u64,
    probes: u32,
    qualified: bool,
}

/// A patch cannot be made in place: all is to be assembled anew.
#[derive(Clone, Copy, Debug)]
pub(super) struct NoRoom;

impl<'a> Flags<'a> {
    pub(super) fn known(&self, shown: &Shown) -> Option<&'a Known> {
        self.documents.get(shown.document as usize)?.flag(shown.slot)
    }

    fn key(&self, shown: &Shown) -> &'a [u8] {
        self.known(shown).map_or(b"", |known| self.bank.key(known))
    }

    fn shows(&self, document: u32, slot: u32) -> Option<Shown> {
        let memory = self.documents.get(document as usize)?;
        let set_id = memory.flag(slot)?.set_id.clone();
        let shown = self.selector.matches(set_id.as_deref(), &memory.name);
        shown.then_some(Shown { document, slot, set_id })
    }

    /// What the snapshot shows of all documents: in the order of keys and then flag sets, of several with the same key and set
    /// the one of the latest document.
    fn shown(&self) -> Vec<Shown> {
        let mut all = Vec::with_capacity(self.documents.iter().map(Memory::len).sum());
        for (document, memory) in (0..).zip(self.documents) {
            all.extend(memory.flags().filter_map(|(slot, _)| self.shows(document, slot)));
        }
        if self.documents.len() > 1 {
            // Stable: of one key and set, the latest document's is last; each document is a sorted run already.
            all.sort_by(|a, b| self.key(a).cmp(self.key(b)).then_with(|| a.set_id.cmp(&b.set_id)));
            keep_last(&mut all, |a, b| a.set_id == b.set_id && self.key(a) == self.key(b));
        }
        all
    }

    /// The same of one key.
    fn shown_of(&self, key: &[u8]) -> Vec<Shown> {
        let mut all: Vec<Shown> = (0..)
            .zip(self.documents)
            .filter_map(|(document, memory)| self.shows(document, memory.find(key, self.bank)?))
            .collect();
        all.sort_by(|a, b| a.set_id.cmp(&b.set_id));
        keep_last(&mut all, |a, b| a.set_id == b.set_id);
        all
    }
}

fn keep_last(shown: &mut Vec<Shown>, same: impl Fn(&Shown, &Shown) -> bool) {
    shown.reverse();
    shown.dedup_by(|a, b| same(a, b));
    shown.reverse();
}

impl Image {
    /// Puts the parts together; with room for more where `roomy`. `lists` is asked once it is known which flags there are.
    pub(super) fn assemble(
        flags: Flags<'_>,
        limit: usize,
        roomy: bool,
        lists: impl FnOnce(&[Shown]) -> Vec<CompiledList>,
    ) -> Result<(Self, Vec<CompiledList>), Error> {
        let shown = flags.shown();
        if shown.len() > limit {
            return Err(Error::Payload(format!("{} flags, at most {limit} are allowed", shown.len())));
        }
        let lists = lists(&shown);
        let islands: usize = shown.iter().filter_map(|shown| Some(flags.known(shown)?.island.len as usize)).sum();
        let room = if roomy { (islands / 16).max(1 << 14).next_multiple_of(16) } else { 0 };
        let mut arena = buffer::with_room(islands + room + (1 << 12));
        // Every flag set's metadata once, ahead of the flags that point at it.
        let mut sets = Vec::new();
        let set_of: Vec<u32> = flags
            .documents
            .iter()
            .map(|memory| {
                if memory.metadata.is_empty() {
                    return Ok(u32::MAX);
                }
                let bytes = Emitter::default().set_metadata(&memory.metadata);
                sets.push(Extent { offset: narrow(arena.len())?, len: narrow(memory.metadata.len())? });
                arena.extend_from_slice(&bytes);
                narrow(sets.len() - 1)
            })
            .collect::<Result<_, Error>>()?;
        let mut extents = Vec::with_capacity(shown.len() + shown.len() / 16);
        let mut answers = Vec::with_capacity(shown.len());
        let mut shared: Vec<&Arc<SharedSet>> = Vec::new();
        for flag in &shown {
            let Some(known) = flags.known(flag) else { continue };
            let (at, island) = (narrow(arena.len())?, flags.bank.island(known.island));
            arena.extend_from_slice(island);
            let set = set_of.get(flag.document as usize).copied().unwrap_or(u32::MAX);
            point_at_set(arena.get_mut(at as usize..).unwrap_or_default(), set);
            extents.push(Extent { offset: at, len: narrow(island.len())? });
            answers.push(Answer::new(known.what, at));
            shared.extend(known.uses.iter().flat_map(|uses| &uses.sets));
        }
        shared.sort_by_key(|set| set.name);
        shared.dedup_by_key(|set| set.name);
        let mut named = Vec::with_capacity(shared.len());
        for set in shared {
            named.push(Named { name: set.name, number: narrow(arena.len())?.into() });
            arena.extend_from_slice(&set.bytes);
        }
        let used = arena.len();
        arena.resize(used + room, 0);
        narrow(arena.len())?;
        if roomy {
            extents.resize(shown.len() + (shown.len() / 16).max(64), Extent { offset: 0, len: 0 });
        }
        let in_sets = shown.iter().filter(|flag| flag.set_id.is_some()).count();
        let qualified = in_sets > 0;
        let built = build_index(flags, &shown, &answers, qualified);
        let keys = built.places.iter().filter(|place| **place != 0).count();
        let (seed, probes) = (built.seed, built.probes);
        let tables = Tables {
            arena,
            places: built.places,
            flags: extents,
            sets,
            shared: named,
            lists: lists.iter().map(|list| Named { name: list.name, number: list.ids }).collect(),
            list_labels: lists.iter().map(|list| list.label.clone()).collect(),
            seed,
            probes,
            qualified: u32::from(qualified),
        };
        let bytes = archive(&tables).map_err(|error| Error::Payload(error.to_string()))?;
        let mut image = Self {
            shown,
            in_sets,
            set_of,
            arena: (used, used + room),
            holes: 0,
            used: keys,
            seed,
            probes,
            qualified,
            ..Self::locate(bytes).map_err(|error| Error::Payload(error.to_string()))?
        };
        image.write_counts();
        Ok((image, lists))
    }

    /// Where the tables lie in an archive.
    fn locate(bytes: AlignedVec) -> Result<Self, rkyv::rancor::Error> {
        let tables = View::tables(&bytes)?;
        let start = |address: *const u8| address.addr() - bytes.as_ptr().addr();
        let places = (start(tables.places.as_ptr().cast()), tables.places.len());
        let extents = (start(tables.flags.as_ptr().cast()), tables.flags.len());
        let root = start(std::ptr::from_ref(tables).cast());
        Ok(Self {
            bytes: Arc::new(bytes),
            shown: Vec::new(),
            in_sets: 0,
            set_of: Vec::new(),
            arena: (0, 0),
            holes: 0,
            places,
            used: 0,
            extents,
            root,
            seed: 0,
            probes: 0,
            qualified: false,
        })
    }

    /// How many flags it has.
    pub(super) fn len(&self) -> usize {
        self.shown.len()
    }

    /// Takes over what `flags` say of `key`. On an error the image is of no use any more.
    pub(super) fn patch(&mut self, key: &[u8], flags: Flags<'_>) -> Result<(), NoRoom> {
        let range = self.range(key);
        let (first, new) = (range.start, flags.shown_of(key));
        let old: Vec<Shown> = self.shown.get(range).map(<[Shown]>::to_vec).unwrap_or_default();
        let in_sets = |shown: &[Shown]| shown.iter().filter(|flag| flag.set_id.is_some()).count();
        self.in_sets = self.in_sets + in_sets(&new) - in_sets(&old);
        if self.qualified != (self.in_sets > 0) {
            return Err(NoRoom);
        }
        // The islands and their extents.
        for (at, flag) in (first..).zip(&new) {
            if at < first + old.len() {
                self.put(at, flag, flags)?;
            } else {
                self.open(at)?;
                self.shown.insert(at, flag.clone());
                self.put(at, flag, flags)?;
            }
        }
        for _ in new.len()..old.len() {
            self.close(first + new.len());
            self.shown.remove(first + new.len());
        }
        // The index: of each flag behind its set, and of the key alone what the latest document says.
        let mut answers = Vec::with_capacity(new.len());
        for (at, flag) in (first..).zip(&new) {
            let (known, [offset, _]) = (flags.known(flag).ok_or(NoRoom)?, self.extent(at));
            answers.push(Answer::new(known.what, offset));
        }
        if self.qualified {
            let name = |flag: &Shown| qualified_key(flag.set_id.as_deref(), key);
            for gone in old.iter().filter(|flag| new.iter().all(|other| other.set_id != flag.set_id)) {
                self.index(&name(gone), None, true)?;
            }
            for (flag, answer) in new.iter().zip(&answers) {
                let there = old.iter().any(|other| other.set_id == flag.set_id);
                self.index(&name(flag), Some(*answer), there)?;
            }
        }
        let plain = latest(new.iter().zip(answers));
        if plain.is_some() || !old.is_empty() {
            self.index(key, plain, !old.is_empty())?;
        }
        self.write_counts();
        let (used, room) = self.arena;
        if self.holes > used / 4 || used > room { Err(NoRoom) } else { Ok(()) }
    }

    /// The flags shown under `key`.
    fn range(&self, key: &[u8]) -> std::ops::Range<usize> {
        let order = |at: usize| self.key(at).cmp(key);
        let first = partition(self.shown.len(), |at| order(at) == Ordering::Less);
        let end = first + (first..self.shown.len()).take_while(|&at| order(at) == Ordering::Equal).count();
        first..end
    }

    fn key(&self, at: usize) -> &[u8] {
        let [offset, len] = self.extent(at);
        let island = Words(self.bytes.get(offset as usize..(offset + len) as usize).unwrap_or_default());
        island.words(WORD_KEY).and_then(|[offset, len]| island.bytes(offset, len)).unwrap_or_default()
    }

    /// Makes `flag`'s island the one of the flag at `at`.
    fn put(&mut self, at: usize, flag: &Shown, flags: Flags<'_>) -> Result<(), NoRoom> {
        let known = flags.known(flag).ok_or(NoRoom)?;
        let island = flags.bank.island(known.island);
        let set = self.set_of.get(flag.document as usize).copied().unwrap_or(u32::MAX);
        let [mut offset, len] = self.extent(at);
        if island.len() > len as usize {
            let (used, room) = &mut self.arena;
            if *used + island.len() > *room {
                return Err(NoRoom);
            }
            offset = u32::try_from(*used).map_err(|_| NoRoom)?;
            *used += island.len();
            self.holes += len as usize;
        } else {
            self.holes += len as usize - island.len();
        }
        self.set_extent(at, [offset, known.island.len]);
        let start = offset as usize;
        let bytes = Arc::make_mut(&mut self.bytes);
        let place = bytes.get_mut(start..start + island.len()).ok_or(NoRoom)?;
        place.copy_from_slice(island);
        point_at_set(place, set);
        if let Some(shown) = self.shown.get_mut(at) {
            shown.clone_from(flag);
        }
        Ok(())
    }

    /// Makes room for one more extent at `at`, of nothing yet.
    fn open(&mut self, at: usize) -> Result<(), NoRoom> {
        if self.shown.len() >= self.extents.1 {
            return Err(NoRoom);
        }
        let (from, end) = (self.extents.0 + at * EXTENT, self.extents.0 + self.shown.len() * EXTENT);
        Arc::make_mut(&mut self.bytes).copy_within(from..end, from + EXTENT);
        self.set_extent(at, [0, 0]);
        Ok(())
    }

    /// Takes the extent at `at` out.
    fn close(&mut self, at: usize) {
        let [_, len] = self.extent(at);
        self.holes += len as usize;
        let (to, end) = (self.extents.0 + at * EXTENT, self.extents.0 + self.shown.len() * EXTENT);
        Arc::make_mut(&mut self.bytes).copy_within(to + EXTENT..end, to);
        self.set_extent(self.shown.len() - 1, [0, 0]);
    }

    fn extent(&self, at: usize) -> [u32; 2] {
        let start = self.extents.0 + at * EXTENT;
        let bytes = self.bytes.get(start..start + EXTENT).and_then(|bytes| bytes.as_chunks::<4>().0.first_chunk::<2>());
        bytes.map_or([0, 0], |words| words.map(u32::from_le_bytes))
    }

    fn set_extent(&mut self, at: usize, words: [u32; 2]) {
        let start = self.extents.0 + at * EXTENT;
        if let Some(bytes) = Arc::make_mut(&mut self.bytes).get_mut(start..start + EXTENT) {
            let (words_of, _) = bytes.as_chunks_mut::<4>();
            words_of.iter_mut().zip(words).for_each(|(place, word)| *place = word.to_le_bytes());
        }
    }

    /// Puts `answer` into the index, or takes `key` out of it.
    fn index(&mut self, key: &[u8], answer: Option<Answer>, there: bool) -> Result<(), NoRoom> {
        let (start, count) = self.places;
        let places = Arc::make_mut(&mut self.bytes).get_mut(start..start + count * 16).ok_or(NoRoom)?;
        let mut index = IndexMut::new(places.as_chunks_mut().0, self.seed, self.probes).ok_or(NoRoom)?;
        match (answer, there) {
            (Some(answer), true) => index.replace(key, answer).ok_or(NoRoom)?,
            (Some(answer), false) => self.used += usize::from(index.insert(key, answer).ok_or(NoRoom)?),
            (None, true) => self.used -= usize::from(index.remove(key).ok_or(NoRoom)?),
            (None, false) => {}
        }
        self.probes = index.probes();
        if self.used > count / 4 * 3 { Err(NoRoom) } else { Ok(()) }
    }

    /// Writes what the root says of all this: the number of flags and the longest probe.
    fn write_counts(&mut self) {
        let (flags, probes) = (u32::try_from(self.shown.len()).unwrap_or(u32::MAX), self.probes);
        let root = self.root;
        let bytes = Arc::make_mut(&mut self.bytes);
        let mut write = |at: usize, word: u32| {
            if let Some(place) = bytes.get_mut(root + at..).and_then(<[u8]>::first_chunk_mut::<4>) {
                *place = word.to_le_bytes();
            }
        };
        // A vector is a relative pointer and a length (docs/format.md).
        write(std::mem::offset_of!(ArchivedTables, flags) + 4, flags);
        write(std::mem::offset_of!(ArchivedTables, probes), probes);
    }
}

const EXTENT: usize = size_of::<ArchivedExtent>();

/// Writes which set's metadata an island's flag has.
fn point_at_set(island: &mut [u8], set: u32) {
    if let Some(word) = island.get_mut(4 * WORD_SET..).and_then(<[u8]>::first_chunk_mut::<4>) {
        *word = set.to_le_bytes();
    }
}

/// The first of `count` for which `before` does not hold.
fn partition(count: usize, before: impl Fn(usize) -> bool) -> usize {
    let (mut low, mut high) = (0, count);
    while low < high {
        let middle = low.midpoint(high);
        if before(middle) { low = middle + 1 } else { high = middle }
    }
    low
}

/// The archive, in memory taken once.
fn archive(tables: &Tables) -> Result<AlignedVec, rkyv::rancor::Error> {
    let tables_bytes = tables.arena.len() + tables.places.len() * size_of::<u128_le>() + tables.flags.len() * EXTENT;
    rkyv::api::high::to_bytes_in(tables, buffer::aligned(tables_bytes + (1 << 12)))
}

/// Of several flags of one key, what the key alone means: the flag of the latest document.
fn latest<'s>(flags: impl Iterator<Item = (&'s Shown, Answer)>) -> Option<Answer> {
    flags.max_by_key(|(flag, _)| flag.document).map(|(_, answer)| answer)
}

/// The index: each key means the flag of the latest document that has it; behind a flag set's identifier and a NUL, the flag of that
/// set. A flag in no set is behind the NUL alone.
fn build_index(flags: Flags<'_>, shown: &[Shown], answers: &[Answer], qualified: bool) -> index::Built {
    let mut all: Vec<(&[u8], Answer)> = buffer::with_room(shown.len() * if qualified { 2 } else { 1 });
    let mut rest = shown.iter().map(|flag| (flags.key(flag), flag)).zip(answers).peekable();
    while let Some(((key, flag), answer)) = rest.next() {
        let (mut document, mut answer) = (flag.document, *answer);
        while let Some(((_, other), other_answer)) = rest.next_if(|((other, _), _)| *other == key) {
            if other.document >= document {
                (document, answer) = (other.document, *other_answer);
            }
        }
        all.push((key, answer));
    }
    let mut names: Vec<(Vec<u8>, Answer)> = Vec::new();
    if qualified {
        let name = |flag: &Shown| qualified_key(flag.set_id.as_deref(), flags.key(flag));
        names.extend(shown.iter().zip(answers).map(|(flag, answer)| (name(flag), *answer)));
    }
    all.extend(names.iter().map(|(key, answer)| (key.as_slice(), *answer)));
    index::build(all.iter().copied(), 0)
}

/// How a flag is looked for with a selector.
fn qualified_key(set_id: Option<&str>, key: &[u8]) -> Vec<u8> {
    let mut qualified = set_id.unwrap_or_default().as_bytes().to_vec();
    qualified.push(0);
    qualified.extend_from_slice(key);
    qualified
}

fn narrow(number: usize) -> Result<u32, Error> {
    // rkyv's 32-bit relative pointers reach 2 GiB.
    const LIMIT: usize = 1 << 31;
    let narrowed = u32::try_from(number).ok().filter(|_| number < LIMIT);
    narrowed.ok_or_else(|| {
        Error::Payload("the flags compile to more than 2 GiB, which is more than a snapshot can be".to_owned())
    })
}
