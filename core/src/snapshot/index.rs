//! The index: from a flag's key to its answer, one cache line away.
//!
//! A place is 16 bytes, read as one little-endian number:
//!
//! ```text
//! bits  0 ..   3   what is there: 0 nothing · 1 a flag that is false for everybody · 2 true for everybody · 3 any other flag
//!       4 ..  31   where the flag's island lies, in units of 16 bytes
//!      32 .. 127   the upper 96 bits of the key's hash
//! ```
//!
//! The hash is XXH3-128 of the key's bytes with the snapshot's seed; its low bits choose the place, and a key lies there or in one of the
//! places right behind. Keys are not compared: 96 bits of a seeded hash stand for them. The builder takes another seed where
//! two keys of one snapshot share them. A key that no flag has is taken for one that a flag has with a chance below n / 2^96, which for a million
//! flags is 2^-76.

use rkyv::rend::u128_le;
use xxhash_rust::xxh3::xxh3_128_with_seed;

pub(crate) const NOTHING: u32 = 0;
pub(crate) const ALWAYS_FALSE: u32 = 1;
pub(crate) const ALWAYS_TRUE: u32 = 2;
pub(crate) const OTHER: u32 = 3;

/// Keys of so many bytes are hashed in place; the hash of others would be in their way.
pub(crate) const SHORT_KEY: usize = 16;

/// How far from its place a key may lie.
const MAX_PROBES: u32 = 64;

/// What the index says of a key: the low 32 bits of its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Answer(pub(crate) u32);

impl Answer {
    /// "No flag has this key", for caches.
    pub(crate) const ABSENT: Self = Self(0xf);

    pub(crate) const fn new(what: u32, island: u32) -> Self {
        Self(what | (island / 16) << 4)
    }

    /// What is there.
    #[inline]
    pub(crate) const fn what(self) -> u32 {
        self.0 & 0xf
    }

    /// The value of a boolean flag that is the same for everybody.
    #[inline]
    pub(crate) fn constant(self) -> Option<bool> {
        // Which of the two it is must not become a branch, since nobody could foretell it.
        matches!(self.what(), ALWAYS_FALSE | ALWAYS_TRUE).then_some(self.what() == ALWAYS_TRUE)
    }

    /// Where the island lies, in bytes from the arena's start.
    #[inline]
    pub(crate) const fn island(self) -> usize {
        (self.0 >> 4) as usize * 16
    }
}

/// The index, read in place.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Index<'a> {
    places: &'a [u128_le],
    seed: u64,
    probes: u32,
}

impl<'a> Index<'a> {
    /// `None` where the number of places is no power of two.
    pub(crate) fn new(places: &'a [u128_le], seed: u64, probes: u32) -> Option<Self> {
        places.len().is_power_of_two().then_some(Self { places, seed, probes: probes.min(MAX_PROBES) })
    }

    /// What it says of `key`; `None` where no flag has it.
    #[inline(always)]
    pub(crate) fn find(&self, key: &[u8]) -> Option<Answer> {
        let hash = if key.len() <= SHORT_KEY { self.hash_of_short(key) } else { hash_of_long(key, self.seed) };
        // Most keys lie in the place that is their own.
        match self.look_first(hash)? {
            Look::Found(answer) => Some(answer),
            Look::Other => self.find_further(hash),
        }
    }

    /// The hash of a key of at most [`SHORT_KEY`] bytes.
    #[inline(always)]
    pub(crate) fn hash_of_short(&self, key: &[u8]) -> u128 {
        xxh3_128_with_seed(key, self.seed)
    }

    #[inline(never)]
    fn find_further(&self, hash: u128) -> Option<Answer> {
        self.look_further(hash)
    }

    /// What it says of the key of that hash behind its own place.
    #[inline(always)]
    pub(crate) fn look_further(&self, hash: u128) -> Option<Answer> {
        for probe in 1..self.probes {
            if let Look::Found(answer) = self.look(hash, probe)? {
                return Some(answer);
            }
        }
        None
    }

    /// What is in the own place of the key of that hash; `None` where nothing is.
    #[inline(always)]
    pub(crate) fn look_first(&self, hash: u128) -> Option<Look> {
        self.look(hash, 0)
    }

    /// What is in the place `probe` places behind a key's own; `None` where nothing is, or there is no such place.
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "the low bits are wanted")]
    fn look(&self, hash: u128, probe: u32) -> Option<Look> {
        let at = (hash as usize).wrapping_add(probe as usize) & self.places.len().wrapping_sub(1);
        let place = self.places.get(at)?.to_native();
        let answer = Answer(place as u32);
        if place >> 32 == hash >> 32 && answer.what() != NOTHING {
            return Some(Look::Found(answer));
        }
        (place != 0).then_some(Look::Other)
    }
}

/// What lies in a place that is not empty.
pub(crate) enum Look {
    /// The key that is looked for.
    Found(Answer),
    /// Something else.
    Other,
}

#[inline(never)]
fn hash_of_long(key: &[u8], seed: u64) -> u128 {
    xxh3_128_with_seed(key, seed)
}

/// A finished index.
#[derive(Debug)]
pub(crate) struct Built {
    pub(crate) places: Vec<u128>,
    pub(crate) seed: u64,
    pub(crate) probes: u32,
}

/// Builds an index of different keys, starting from `seed` and going on from it until no two keys collide.
pub(crate) fn build<'k>(keys: impl ExactSizeIterator<Item = (&'k [u8], Answer)> + Clone, seed: u64) -> Built {
    let mut seed = seed;
    let mut size = (keys.len() * 2).next_power_of_two().max(2);
    loop {
        match arrange(keys.clone(), seed, size) {
            Ok((places, probes)) => return Built { places, seed, probes },
            Err(Crowded::SameHash) => seed = seed.wrapping_add(1),
            Err(Crowded::TooFar) => size *= 2,
        }
    }
}

enum Crowded {
    SameHash,
    TooFar,
}

/// An index that is changed key by key. It lies in bytes that no reader has yet.
#[derive(Debug)]
pub(crate) struct IndexMut<'a> {
    places: &'a mut [[u8; 16]],
    seed: u64,
    probes: u32,
}

impl<'a> IndexMut<'a> {
    /// `None` where the number of places is no power of two.
    pub(crate) fn new(places: &'a mut [[u8; 16]], seed: u64, probes: u32) -> Option<Self> {
        places.len().is_power_of_two().then_some(Self { places, seed, probes: probes.min(MAX_PROBES) })
    }

    /// How many places one look-up may read by now.
    pub(crate) const fn probes(&self) -> u32 {
        self.probes
    }

    /// Gives a key that is there another answer.
    #[must_use]
    pub(crate) fn replace(&mut self, key: &[u8], answer: Answer) -> Option<()> {
        let hash = xxh3_128_with_seed(key, self.seed);
        let at = self.position(hash)?;
        self.set(at, hash >> 32 << 32 | u128::from(answer.0));
        Some(())
    }

    /// Puts in a key that is not there; says whether a place that was never used was. `None`, with nothing changed, where it
    /// cannot be told from another key or would lie too far from its place: another seed or size is needed.
    #[must_use]
    pub(crate) fn insert(&mut self, key: &[u8], answer: Answer) -> Option<bool> {
        let hash = xxh3_128_with_seed(key, self.seed);
        let mut free = None;
        for probe in 0..MAX_PROBES {
            let (at, place) = self.nth(hash, probe);
            if what(place) == NOTHING {
                free = free.or(Some((at, probe)));
            } else if place >> 32 == hash >> 32 {
                return None;
            }
            if place == 0 {
                break;
            }
        }
        let (at, probe) = free?;
        let fresh = self.at(at) == 0;
        self.set(at, hash >> 32 << 32 | u128::from(answer.0));
        self.probes = self.probes.max(probe + 1);
        Some(fresh)
    }

    /// Takes out a key that is there. Its place is given up (kind 0, its hash stays) so that look-ups of other keys go on past it;
    /// where none can, it is free again, which this says.
    #[must_use]
    pub(crate) fn remove(&mut self, key: &[u8]) -> Option<bool> {
        let hash = xxh3_128_with_seed(key, self.seed);
        let at = self.position(hash)?;
        let last = self.at(at.wrapping_add(1) & (self.places.len() - 1)) == 0;
        self.set(at, if last { 0 } else { hash >> 32 << 32 });
        Some(last)
    }

    fn position(&self, hash: u128) -> Option<usize> {
        for probe in 0..self.probes {
            let (at, place) = self.nth(hash, probe);
            if place >> 32 == hash >> 32 && what(place) != NOTHING {
                return Some(at);
            }
            if place == 0 {
                break;
            }
        }
        None
    }

    /// The place that is looked at as the nth, and what is there.
    fn nth(&self, hash: u128, probe: u32) -> (usize, u128) {
        let at = (hash as usize).wrapping_add(probe as usize) & (self.places.len() - 1);
        (at, self.at(at))
    }

    fn at(&self, at: usize) -> u128 {
        self.places.get(at).map_or(0, |place| u128::from_le_bytes(*place))
    }

    fn set(&mut self, at: usize, value: u128) {
        if let Some(place) = self.places.get_mut(at) {
            *place = value.to_le_bytes();
        }
    }
}

fn arrange<'k>(
    keys: impl Iterator<Item = (&'k [u8], Answer)>,
    seed: u64,
    size: usize,
) -> Result<(Vec<u128>, u32), Crowded> {
    let mut places = vec![0_u128; size];
    let mut probes = 1;
    for (key, answer) in keys {
        let hash = xxh3_128_with_seed(key, seed);
        let mut at = hash as usize;
        for probe in 1.. {
            if probe > MAX_PROBES {
                return Err(Crowded::TooFar);
            }
            let Some(place) = places.get_mut(at & (size - 1)) else { return Err(Crowded::TooFar) };
            if *place == 0 {
                *place = hash >> 32 << 32 | u128::from(answer.0);
                probes = probes.max(probe);
                break;
            }
            if *place >> 32 == hash >> 32 {
                return Err(Crowded::SameHash);
            }
            at = at.wrapping_add(1);
        }
    }
    Ok((places, probes))
}

/// What a place says is there.
#[expect(clippy::cast_possible_truncation, reason = "the low bits are wanted")]
const fn what(place: u128) -> u32 {
    place as u32 & 0xf
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Under miri a look-up takes a millisecond.
    const MANY: u32 = if cfg!(miri) { 200 } else { 20_000 };

    #[test]
    fn keys_are_found_and_others_are_not() {
        for count in [0_u32, 1, 2, MANY / 20, MANY] {
            let keys: Vec<String> = (0..count).map(|number| format!("flag-{number}")).collect();
            let answers = (0..count).map(|number| Answer::new(OTHER, number * 16));
            let entries: Vec<_> = keys.iter().map(String::as_bytes).zip(answers).collect();
            let built = build(entries.iter().copied(), 7);
            let places: Vec<u128_le> = built.places.iter().map(|&place| place.into()).collect();
            let index = Index::new(&places, built.seed, built.probes).expect("a power of two");
            assert!(entries.iter().all(|&(key, answer)| index.find(key) == Some(answer)));
            assert!(!(0..MANY).any(|number| index.find(format!("other-{number}").as_bytes()).is_some()));
        }
    }

    #[test]
    fn a_changed_index_finds_what_a_map_does() {
        use std::collections::HashMap;
        let key = |number: u32| format!("flag-{number}").into_bytes();
        let mut places = vec![[0_u8; 16]; 512];
        let (mut map, mut probes) = (HashMap::new(), 1);
        let mut random = 1_u32;
        for turn in 0..MANY {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let (number, answer) = ((random >> 8) % 300, Answer::new(OTHER, turn * 16));
            let mut index = IndexMut::new(&mut places, 7, probes).expect("a power of two");
            match map.contains_key(&number) {
                true if random & 1 == 0 => {
                    map.remove(&number);
                    index.remove(&key(number)).expect("it is there");
                }
                true => {
                    map.insert(number, answer);
                    index.replace(&key(number), answer).expect("it is there");
                }
                false => {
                    assert_eq!(index.remove(&key(number)), None);
                    if index.insert(&key(number), answer).is_some() {
                        map.insert(number, answer);
                    }
                }
            }
            probes = index.probes();
            if turn % 100 == 0 {
                let places: Vec<u128_le> = places.iter().map(|place| u128::from_le_bytes(*place).into()).collect();
                let index = Index::new(&places, 7, probes).expect("a power of two");
                assert!((0..300).all(|number| index.find(&key(number)) == map.get(&number).copied()));
            }
        }
        assert!(map.len() > if cfg!(miri) { 20 } else { 100 });
    }

    #[test]
    fn any_places_are_an_index() {
        let places = [u128_le::from_native(u128::MAX); 4];
        let index = Index::new(&places, 0, u32::MAX).expect("a power of two");
        assert_eq!(index.find(b"a"), None);
        assert!(Index::new(&[], 0, 1).is_none());
        assert!(Index::new(&places[..3], 0, 1).is_none());
    }
}
