//! What the compiler remembers of each document: its flags as they were last compiled, and what they depend on.
//!
//! A flag has a *slot* for as long as its document has it, so that others can point at it by number. Its island lies in the
//! [`Bank`], behind those compiled before it; its key is read there too.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use xxhash_rust::xxh3::Xxh3;

use crate::{
    buffer,
    definition::{Document, RawFlag, flag::Scalar, flag_set_id},
    snapshot::{
        island::{WORD_KEY, Words},
        set::SharedSet,
    },
};

/// One document.
#[derive(Debug, Default)]
pub(super) struct Memory {
    pub(super) name: String,
    /// The hash of all that a flag's compiled form depends on outside its own text.
    pub(super) surroundings: u64,
    /// The metadata of the set, without the lists it declares.
    pub(super) metadata: Vec<(String, Scalar)>,
    /// The evaluators, by name, as they are written.
    pub(super) evaluators: Vec<(String, String)>,
    /// The names of the id lists by what rules call them.
    pub(super) labels: HashMap<String, u64>,
    slots: Vec<Option<Known>>,
    free: Vec<u32>,
    /// How many flags are broken.
    pub(super) broken: usize,
    /// Slots in the order of the text, which is the order a document is most often read in again.
    pub(super) walk: Vec<u32>,
    /// Slots in the order of keys.
    sorted: Vec<u32>,
}

/// One flag.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub(super) island: Place,
    /// What the index says of it.
    pub(super) what: u32,
    pub(super) state: State,
    /// The hash of the text that is in force.
    pub(super) text: u64,
    pub(super) set_id: Option<Arc<str>>,
    pub(super) uses: Option<Box<Uses>>,
}

/// What an island refers to.
#[derive(Clone, Debug, Default)]
pub(super) struct Uses {
    pub(super) sets: Vec<Arc<SharedSet>>,
    /// Id lists, by name.
    pub(super) lists: Vec<u64>,
}

/// How a flag's text was found. One with problems is read again each time, since they say where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Good,
    /// Good, with warnings.
    Odd,
    /// Broken, and served in its last good form.
    LastGood,
    /// Broken, and never was good.
    Broken,
}

/// Where an island lies in the bank.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) start: usize,
    pub(super) len: u32,
}

/// Islands, one behind the other in the order they were compiled. When more than half of it is islands that nothing points at
/// any more, it is written anew.
#[derive(Debug, Default)]
pub(super) struct Bank {
    pub(super) bytes: Vec<u8>,
    waste: usize,
}

impl Known {
    pub(super) fn is_broken(&self) -> bool {
        matches!(self.state, State::LastGood | State::Broken)
    }

    /// Whether both refer to the same shared sets and id lists.
    pub(super) fn uses_the_same(&self, other: &Self) -> bool {
        let names = |known: &Self| {
            let uses = known.uses.as_deref()?;
            Some((uses.sets.iter().map(|set| set.name).collect::<Vec<_>>(), uses.lists.clone()))
        };
        names(self) == names(other)
    }
}

impl Uses {
    /// `None` for none.
    pub(super) fn of(sets: Vec<Arc<SharedSet>>, lists: Vec<u64>) -> Option<Box<Self>> {
        (!sets.is_empty() || !lists.is_empty()).then(|| Box::new(Self { sets, lists }))
    }
}

impl Bank {
    pub(super) fn island(&self, place: Place) -> &[u8] {
        self.bytes.get(place.start..place.start + place.len as usize).unwrap_or_default()
    }

    pub(super) fn key(&self, known: &Known) -> &[u8] {
        let words = Words(self.island(known.island));
        words.words(WORD_KEY).and_then(|[offset, len]| words.bytes(offset, len)).unwrap_or_default()
    }

    /// Takes an island in.
    pub(super) fn add(&mut self, island: &[u8]) -> Place {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(island);
        self.place(start)
    }

    /// Makes room for what these flags become.
    pub(super) fn make_room(&mut self, raws: &[RawFlag<'_>]) {
        // An island is about as long as the text it comes from; memory that is not touched costs nothing.
        buffer::make_room(&mut self.bytes, raws.iter().map(|raw| raw.json().len() + 64).sum());
    }

    /// Takes in what lies in another; gives where that begins here.
    pub(super) fn append(&mut self, other: &Self) -> usize {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&other.bytes);
        start
    }

    /// Where what was appended from `start` on lies.
    #[expect(clippy::cast_possible_truncation, reason = "an island is far below 4 GiB")]
    pub(super) fn place(&self, start: usize) -> Place {
        Place { start, len: (self.bytes.len() - start) as u32 }
    }

    /// Nothing points at this island any more.
    pub(super) fn give_up(&mut self, place: Place) {
        self.waste += place.len as usize;
    }

    /// Writes the bank anew where too much of it is waste.
    pub(super) fn tidy(&mut self, documents: &mut [Memory]) {
        const FEW: usize = 1 << 16;
        if self.waste <= FEW.max(self.bytes.len() / 2) {
            return;
        }
        let mut bytes = Vec::with_capacity(self.bytes.len() - self.waste);
        for known in documents.iter_mut().flat_map(|document| document.slots.iter_mut().flatten()) {
            let start = bytes.len();
            bytes.extend_from_slice(self.island(known.island));
            known.island.start = start;
        }
        *self = Self { bytes, waste: 0 };
    }
}

impl Memory {
    /// A document that nothing is known of yet.
    pub(super) fn new(document: &Document) -> Self {
        Self { name: document.name().to_owned(), ..Self::default() }
    }

    /// Takes note of all but the flags; says whether what flags depend on is as it was, and whether the metadata is.
    pub(super) fn surround(&mut self, document: &Document, labels: HashMap<String, u64>) -> (bool, bool) {
        let surroundings = surroundings(document, &labels);
        let same = (self.surroundings == surroundings, self.metadata == document.metadata());
        if !same.0 {
            self.surroundings = surroundings;
            let owned = |(name, body): (&str, &str)| (name.to_owned(), body.to_owned());
            self.evaluators = document.raw_evaluators().map(owned).collect();
            self.labels = labels;
        }
        if !same.1 {
            self.metadata = document.metadata().to_vec();
        }
        same
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub(super) fn flag(&self, slot: u32) -> Option<&Known> {
        self.slots.get(slot as usize)?.as_ref()
    }

    pub(super) fn flags(&self) -> impl Iterator<Item = (u32, &Known)> {
        self.sorted.iter().filter_map(|&slot| Some((slot, self.flag(slot)?)))
    }

    /// The slot of a key.
    pub(super) fn find(&self, key: &[u8], bank: &Bank) -> Option<u32> {
        let at = self.rank(key, bank).ok()?;
        self.sorted.get(at).copied()
    }

    fn rank(&self, key: &[u8], bank: &Bank) -> Result<usize, usize> {
        self.sorted.binary_search_by(|&slot| self.flag(slot).map_or(b"".as_slice(), |flag| bank.key(flag)).cmp(key))
    }

    /// Puts another form of a flag in the place of the one in `slot`.
    pub(super) fn replace(&mut self, slot: u32, mut known: Known, bank: &mut Bank) {
        let Some(before) = self.slots.get_mut(slot as usize).and_then(Option::as_mut) else { return };
        if known.island != before.island && bank.island(known.island) == bank.island(before.island) {
            bank.give_up(std::mem::replace(&mut known.island, before.island));
        } else if known.island != before.island {
            bank.give_up(before.island);
        }
        self.broken = self.broken + usize::from(known.is_broken()) - usize::from(before.is_broken());
        *before = known;
    }

    /// Takes in flags that are not there; gives their slots.
    pub(super) fn insert(&mut self, flags: Vec<Known>, bank: &Bank) -> Vec<u32> {
        const FEW: usize = 16;
        let (few, sorted) = (flags.len() <= FEW, self.sorted.len());
        buffer::make_room(&mut self.slots, flags.len().saturating_sub(self.free.len()));
        self.sorted.reserve(flags.len());
        let slots = flags.into_iter().map(|known| self.insert_one(known, bank, few)).collect();
        if !few {
            self.sort(sorted, bank);
        }
        slots
    }

    fn insert_one(&mut self, known: Known, bank: &Bank, in_order: bool) -> u32 {
        let rank = in_order.then(|| self.rank(bank.key(&known), bank).unwrap_or_else(|rank| rank));
        self.broken += usize::from(known.is_broken());
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None => {
                self.slots.push(None);
                u32::try_from(self.slots.len() - 1).unwrap_or(u32::MAX)
            }
        };
        if let Some(place) = self.slots.get_mut(slot as usize) {
            *place = Some(known);
        }
        match rank {
            Some(rank) => self.sorted.insert(rank, slot),
            None => self.sorted.push(slot),
        }
        slot
    }

    /// Takes flags out. They stay in `walk`, whose gaps do no harm.
    pub(super) fn remove(&mut self, slots: &[u32], bank: &mut Bank) {
        if let [slot] = slots {
            let rank = self.flag(*slot).and_then(|flag| self.rank(bank.key(flag), bank).ok());
            rank.map(|rank| self.sorted.remove(rank));
        } else {
            let gone: HashSet<u32> = slots.iter().copied().collect();
            self.sorted.retain(|slot| !gone.contains(slot));
        }
        for &slot in slots {
            if let Some(known) = self.slots.get_mut(slot as usize).and_then(Option::take) {
                self.free.push(slot);
                self.broken -= usize::from(known.is_broken());
                bank.give_up(known.island);
            }
        }
    }

    /// Puts the order of keys right where it was right up to the `sorted`th flag.
    fn sort(&mut self, sorted: usize, bank: &Bank) {
        let mut order = std::mem::take(&mut self.sorted);
        if let Some(new) = order.get_mut(sorted..) {
            sort_by_key(new, |&slot| self.flag(slot).map_or(b"".as_slice(), |flag| bank.key(flag)));
        }
        if sorted > 0 && sorted < order.len() {
            // Two runs, which a stable sort merges.
            order.sort_by_key(|&slot| self.flag(slot).map_or(b"".as_slice(), |flag| bank.key(flag)));
        }
        self.sorted = order;
    }
}

/// Sorts by keys that often begin alike: the eight bytes behind what all have in common stand for a key where they tell.
fn sort_by_key<'k, T: Copy>(items: &mut [T], key: impl Fn(&T) -> &'k [u8]) {
    if items.is_sorted_by_key(&key) {
        return;
    }
    let first = items.first().map_or(b"".as_slice(), &key);
    let common = |other: &[u8], len: usize| first.iter().zip(other).take(len).take_while(|(a, b)| a == b).count();
    let shared = items.iter().fold(first.len(), |len, item| common(key(item), len));
    let mut keyed: Vec<(u64, T)> = items
        .iter()
        .map(|item| {
            let mut eight = [0; 8];
            let rest = key(item).get(shared..).unwrap_or_default();
            rest.iter().zip(&mut eight).for_each(|(from, to)| *to = *from);
            (u64::from_be_bytes(eight), *item)
        })
        .collect();
    keyed.sort_unstable_by(|(a, one), (b, other)| a.cmp(b).then_with(|| key(one).cmp(key(other))));
    for (item, (_, sorted)) in items.iter_mut().zip(keyed) {
        *item = sorted;
    }
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
