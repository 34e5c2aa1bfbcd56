//! A snapshot that keeps its bytes: what a store's reader makes of a segment.

use std::fmt;

use super::{
    archive::ArchivedTables,
    index::{Answer, Index},
    island::{Island, Words},
    list::{self, IdList},
    set::SharedSet,
    view::{Evaluation, Metadata, View},
};
use crate::{
    Error,
    evaluate::{Attributes, ErrorCode, FlagValue, Want},
    store::{Files, MemoryFiles, Payload, Region, list_name},
};

/// All flags of a set, compiled: bytes that were checked once and are evaluated where they lie.
pub struct Snapshot {
    /// Points into `region` and `lists`.
    view: View<'static>,
    /// The segment's payload.
    region: Region,
    /// The id lists it names.
    lists: Box<[(u64, Region)]>,
    /// The same, as `view` reads them.
    #[expect(dead_code, reason = "kept for `view`, which points at it")]
    id_lists: Box<[(u64, IdList<'static>)]>,
}

impl Snapshot {
    /// A snapshot from bytes in this process that names no id list.
    ///
    /// # Errors
    ///
    /// [`Error::Payload`] where the bytes are no snapshot, or one with id lists.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        Self::open(Region::copy_of(bytes), &MemoryFiles::default(), None)
    }

    /// How many flags it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.view.len()
    }

    /// Whether it has none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The keys of its flags in the order of their bytes; one that several flag sets have stands once for each.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.view().islands().filter_map(|island| std::str::from_utf8(island.key()?).ok())
    }

    /// Every flag, in the order of their keys, with what makes it up: key, bytes, and the metadata of its set.
    pub fn flags(&self) -> impl Iterator<Item = SnapshotFlag<'_>> {
        let view = self.view();
        view.islands().filter_map(move |island| {
            let key = std::str::from_utf8(island.key()?).ok()?;
            Some(SnapshotFlag { key, island, metadata: view.metadata(island) })
        })
    }

    /// The flags called `key`: one of each flag set that has it.
    pub fn flags_called<'s>(&'s self, key: &'s str) -> impl Iterator<Item = SnapshotFlag<'s>> {
        let (view, extents) = (self.view(), self.tables().flags.as_slice());
        let first = extents.partition_point(|extent| view.island_at(extent).key() < Some(key.as_bytes()));
        let islands = extents.iter().skip(first).map(move |extent| view.island_at(extent));
        let called = islands.take_while(move |island| island.key() == Some(key.as_bytes()));
        called.map(move |island| SnapshotFlag { key, island, metadata: view.metadata(island) })
    }

    /// Evaluates the flag called `key` (text as bytes, usually UTF-8).
    pub fn evaluate<A: Attributes + ?Sized>(&self, key: &[u8], want: Want, context: &A) -> Evaluation<'_> {
        match self.view.find(key) {
            Some(answer) => self.view().evaluate(answer, want, context),
            None => Evaluation::error(ErrorCode::FlagNotFound),
        }
    }

    /// What the index says of `key`.
    #[inline(always)]
    pub(crate) fn find(&self, key: &[u8]) -> Option<Answer> {
        self.view.find(key)
    }

    /// The index itself, for who looks step by step.
    #[inline(always)]
    pub(crate) const fn index(&self) -> &Index<'_> {
        self.view.index()
    }

    /// The value of a flag that has been found.
    #[inline]
    pub(crate) fn answer_value<A: Attributes + ?Sized>(
        &self,
        answer: Answer,
        want: Want,
        context: &A,
    ) -> Option<FlagValue<'_>> {
        match answer.constant() {
            Some(value) => matches!(want, Want::Bool | Want::Any).then_some(FlagValue::Bool(value)),
            None => self.view().value(answer, want, context),
        }
    }

    /// The value of a boolean flag that has been found.
    #[inline]
    pub(crate) fn answer_truth<A: Attributes + ?Sized>(&self, answer: Answer, context: &A) -> Option<bool> {
        answer.constant().or_else(|| self.rule_truth(answer, context))
    }

    /// The same of one that is not constant.
    #[inline]
    pub(crate) fn rule_truth<A: Attributes + ?Sized>(&self, answer: Answer, context: &A) -> Option<bool> {
        self.view().truth(answer, context)
    }

    /// The evaluation of a flag that has been found.
    pub(crate) fn answer_evaluation<A: Attributes + ?Sized>(
        &self,
        answer: Answer,
        want: Want,
        context: &A,
    ) -> Evaluation<'_> {
        self.view().evaluate(answer, want, context)
    }

    /// Whether keys are also found behind their flag set's identifier and a NUL.
    pub(crate) fn is_qualified(&self) -> bool {
        self.tables().qualified.to_native() != 0
    }

    /// The id lists it names: name, what people call it, number of ids.
    pub fn lists(&self) -> impl Iterator<Item = (u64, &str, u64)> {
        let tables = self.tables();
        let labels = tables.list_labels.iter().map(rkyv::string::ArchivedString::as_str);
        tables.lists.iter().zip(labels).map(|(list, label)| (list.name.to_native(), label, list.number.to_native()))
    }

    /// The literal sets that flags share.
    pub(crate) fn shared_sets(&self) -> impl Iterator<Item = SharedSet> {
        let tables = self.tables();
        let arena = tables.arena.as_slice();
        tables.shared.iter().map(move |set| {
            let start = usize::try_from(set.number.to_native()).unwrap_or(usize::MAX);
            let bytes = arena.get(start..).unwrap_or_default();
            let len = super::set::Set::new(Words(bytes), 0).len().min(bytes.len());
            SharedSet { name: set.name.to_native(), bytes: bytes.get(..len).unwrap_or_default().to_vec() }
        })
    }

    /// How many bytes each part takes.
    #[must_use]
    pub fn sizes(&self) -> Sizes {
        let tables = self.tables();
        Sizes {
            payload: self.region.len(),
            islands: tables.flags.iter().map(|flag| flag.len.to_native() as usize).sum(),
            arena: tables.arena.len(),
            index: tables.places.len() * 16,
            flags: tables.flags.len(),
            sets: tables.sets.len(),
            shared_sets: tables.shared.len(),
            lists: self.lists.iter().map(|(_, region)| region.len()).sum(),
        }
    }

    pub(crate) fn tables(&self) -> &ArchivedTables {
        self.view.tables
    }

    /// The view, for no longer than `self` lives.
    #[inline]
    pub(crate) fn view(&self) -> &View<'_> {
        &self.view
    }
}

/// How many bytes the parts of a snapshot take, and how many there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Sizes {
    /// Bytes of the whole payload.
    pub payload: usize,
    /// Bytes of the flags' islands.
    pub islands: usize,
    /// Bytes of islands, shared literal sets and set metadata together.
    pub arena: usize,
    /// Bytes of the index.
    pub index: usize,
    /// Number of flags.
    pub flags: usize,
    /// Number of definition files whose metadata is kept.
    pub sets: usize,
    /// Number of literal sets shared between flags.
    pub shared_sets: usize,
    /// Bytes of the id list files.
    pub lists: usize,
}

/// One flag of a snapshot.
#[derive(Clone, Copy, Debug)]
pub struct SnapshotFlag<'a> {
    /// Its key.
    pub key: &'a str,
    island: Island<'a>,
    /// Its metadata, over its set's.
    pub metadata: Metadata<'a>,
}

impl<'a> SnapshotFlag<'a> {
    /// The bytes it was compiled into. Two flags with the same bytes and metadata behave alike.
    #[must_use]
    pub fn compiled(&self) -> &'a [u8] {
        // Word 3 says where the set's metadata lies and may differ between equal flags: it is left out of comparisons.
        self.island.words.0
    }

    /// Whether both behave alike.
    #[must_use]
    pub fn same_as(&self, other: &SnapshotFlag<'_>) -> bool {
        const SET: std::ops::Range<usize> = 12..16;
        let (a, b) = (self.compiled(), other.compiled());
        a.len() == b.len()
            && a.get(..SET.start) == b.get(..SET.start)
            && a.get(SET.end..) == b.get(SET.end..)
            && self.metadata.iter().eq(other.metadata.iter())
    }

    pub(crate) const fn island(&self) -> Island<'a> {
        self.island
    }

    /// Whether it is the one that begins where `island` does.
    pub(crate) fn island_is(&self, island: Island<'_>) -> bool {
        std::ptr::eq(self.island.words.0.as_ptr(), island.words.0.as_ptr())
    }

    /// Whether its `state` is `ENABLED`.
    #[must_use]
    pub fn enabled(&self) -> bool {
        self.island.head().is_some_and(|head| head & super::island::ENABLED != 0)
    }

    /// Whether its definition is broken and never was good: it answers `PARSE_ERROR`.
    #[must_use]
    pub fn broken(&self) -> bool {
        self.island.head().is_some_and(|head| head & super::island::BROKEN != 0)
    }

    /// Whether it has targeting.
    #[must_use]
    pub fn targeted(&self) -> bool {
        self.island.words.word(super::island::WORD_RULE).is_some_and(|rule| rule != 0)
    }

    /// The type of its value; `None` where it is broken.
    #[must_use]
    pub fn kind(&self) -> Option<crate::definition::flag::ValueKind> {
        if self.broken() { None } else { self.island.kind() }
    }

    /// Its variants in the order written: name and value.
    pub fn variants(&self) -> impl Iterator<Item = (&'a str, FlagValue<'a>)> + use<'a> {
        let island = self.island;
        let count = island.head().map_or(0, |head| (head >> 16) as usize);
        (0..count).filter_map(move |place| {
            Some((std::str::from_utf8(island.variant_name(place)?).ok()?, island.value(place)?))
        })
    }

    /// The name of its default variant.
    #[must_use]
    pub fn default_variant(&self) -> Option<&'a str> {
        std::str::from_utf8(self.island.variant_name(self.island.default_variant()?)?).ok()
    }
}

impl Payload for Snapshot {
    fn open(region: Region, files: &dyn Files, previous: Option<&Self>) -> Result<Self, Error> {
        // SAFETY: a region's bytes are immutable and stay where they are as long as it or a clone of it lives; `region` moves
        // into the same value as everything made from these bytes, which is handed out for no longer than that value lives.
        let bytes: &'static [u8] = unsafe { std::mem::transmute::<&[u8], &'static [u8]>(&region) };
        let tables = View::tables(bytes).map_err(|error| Error::Payload(format!("not a snapshot: {error}")))?;
        let mut lists = Vec::with_capacity(tables.lists.len());
        for list in tables.lists.iter() {
            let name = list.name.to_native();
            let mapped = previous.and_then(|previous| previous.lists.iter().find(|(other, _)| *other == name));
            let list = match mapped {
                Some((_, region)) => region.clone(),
                None => files.file(&list_file(name))?,
            };
            lists.push((name, list));
        }
        let mut id_lists = Vec::with_capacity(lists.len());
        for (name, list) in &lists {
            // SAFETY: as above; the list's region moves into the same value.
            let bytes: &'static [u8] = unsafe { std::mem::transmute::<&[u8], &'static [u8]>(list) };
            let list = IdList::new(bytes);
            id_lists.push((*name, list.ok_or_else(|| Error::Payload(format!("{} is no id list", list_file(*name))))?));
        }
        let (lists, id_lists) = (lists.into_boxed_slice(), id_lists.into_boxed_slice());
        // SAFETY: the box's contents stay where they are when the box moves, and it moves into the same value.
        let known =
            unsafe { std::mem::transmute::<&[(u64, IdList<'static>)], &'static [(u64, IdList<'static>)]>(&id_lists) };
        let view = View::new(tables, known).ok_or_else(|| Error::Payload("its index is no index".to_owned()))?;
        Ok(Self { view, region, lists, id_lists })
    }
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot")
            .field("flags", &self.len())
            .field("bytes", &self.region.len())
            .finish_non_exhaustive()
    }
}

/// The file of the id list called `name`.
#[must_use]
pub fn list_file(name: u64) -> String {
    list_name(&format!("{name:016x}"))
}

/// How many ids the id list in `bytes` says it has.
#[must_use]
pub fn list_len(bytes: &[u8]) -> Option<u64> {
    IdList::new(bytes).and_then(|_| list::count(bytes))
}
