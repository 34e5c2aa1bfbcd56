//! Id lists: who is in, by the million, in one immutable file that every generation and every process shares.
//!
//! ```text
//! byte 0   "FLAGLST1"
//!      8   number of ids, u64
//!     16   number of homes, u64
//!     24   number of places, u64: the homes, and what the last run needs behind them
//!     32   places, 16 bytes each: XXH3-128 of an id with seed 0 (0 stands for "free"; a hash of 0 is stored as 1)
//! ```
//!
//! The home of a hash is its upper half scaled to the number of homes; it lies there or in one of the places right behind, in
//! ascending order, so that building is one sort. Any bytes are a list: a lookup reads at most [`MAX_PROBES`] places, each checked.
//! Two ids of the same hash cannot be told apart: for 10 million ids the chance that one other id is taken for a member is below 2^-104.

use std::io::{self, Write};

use xxhash_rust::xxh3::{Xxh3, xxh3_128};

const MAGIC: [u8; 8] = *b"FLAGLST1";
const HEADER_BYTES: usize = 32;
const PLACE_BYTES: usize = 16;

/// How many places one lookup may read. With three places for two ids a run this long does not happen; the builder makes
/// the table larger until that holds.
const MAX_PROBES: usize = 128;

/// An id list, read in place.
#[derive(Clone, Copy, Debug)]
pub(crate) struct IdList<'a> {
    homes: u64,
    places: &'a [[u8; PLACE_BYTES]],
}

impl<'a> IdList<'a> {
    /// The list in `bytes`; `None` where they do not begin like one.
    pub(crate) fn new(bytes: &'a [u8]) -> Option<Self> {
        let (header, rest) = bytes.split_at_checked(HEADER_BYTES)?;
        let places = rest.as_chunks::<PLACE_BYTES>().0;
        let whole = header.starts_with(&MAGIC) && number(header, 24)? == places.len() as u64;
        Some(Self { homes: number(header, 16).filter(|_| whole)?, places })
    }

    /// Whether `id` is in it.
    #[inline]
    pub(crate) fn contains(&self, id: &[u8]) -> bool {
        let hash = hash(id);
        let home = home(hash, self.homes);
        for place in self.places.get(home..).unwrap_or_default().iter().take(MAX_PROBES) {
            let found = u128::from_le_bytes(*place);
            if found == hash {
                return true;
            }
            // Places are in ascending order, so the first larger one ends the search, as does a free one.
            if found == 0 || found > hash {
                return false;
            }
        }
        false
    }
}

/// How many ids the list in `bytes` says it has.
pub(crate) fn count(bytes: &[u8]) -> Option<u64> {
    number(bytes, 8)
}

fn number(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn hash(id: &[u8]) -> u128 {
    xxh3_128(id).max(1)
}

#[inline]
#[expect(
    clippy::cast_possible_truncation,
    reason = "scaled below `homes`; bytes that say more are checked like any others"
)]
fn home(hash: u128, homes: u64) -> usize {
    (((hash >> 64) * u128::from(homes)) >> 64) as usize
}

/// Collects ids and becomes the bytes of a list.
#[derive(Debug, Default)]
pub struct IdListBuilder {
    hashes: Vec<u128>,
}

impl IdListBuilder {
    /// An empty list.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an id. Adding one twice is adding it once.
    pub fn push(&mut self, id: &[u8]) {
        self.hashes.push(hash(id));
    }

    /// Sorts, and hands out the finished list.
    #[must_use]
    pub fn finish(mut self) -> BuiltIdList {
        self.hashes.sort_unstable();
        self.hashes.dedup();
        let mut content = Xxh3::new();
        for hash in &self.hashes {
            content.update(&hash.to_le_bytes());
        }
        let mut homes = self.hashes.len() as u64 + self.hashes.len() as u64 / 2 + 1;
        while Places::new(&self.hashes, homes).any(|(place, home)| place - home >= MAX_PROBES) {
            homes *= 2;
        }
        BuiltIdList { name: content.digest(), hashes: self.hashes, homes }
    }
}

/// Where sorted hashes go: each into its home or the first place behind the one before it. Yields place and home.
struct Places<'a> {
    hashes: std::slice::Iter<'a, u128>,
    homes: u64,
    next: usize,
}

impl<'a> Places<'a> {
    fn new(hashes: &'a [u128], homes: u64) -> Self {
        Self { hashes: hashes.iter(), homes, next: 0 }
    }
}

impl Iterator for Places<'_> {
    type Item = (usize, usize);

    fn next(&mut self) -> Option<(usize, usize)> {
        let home = home(*self.hashes.next()?, self.homes);
        let place = home.max(self.next);
        self.next = place + 1;
        Some((place, home))
    }
}

/// A finished id list: its name, made from its content, and its bytes on demand.
#[derive(Debug)]
pub struct BuiltIdList {
    name: u64,
    hashes: Vec<u128>,
    homes: u64,
}

impl BuiltIdList {
    /// Its name: XXH3-64 of its sorted hashes. The same ids make the same name, whatever their order.
    #[must_use]
    pub const fn name(&self) -> u64 {
        self.name
    }

    /// How many different ids it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.hashes.len()
    }

    /// Whether it has none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.hashes.is_empty()
    }

    /// How many bytes it takes.
    #[must_use]
    pub fn byte_len(&self) -> usize {
        HEADER_BYTES + self.places() * PLACE_BYTES
    }

    fn places(&self) -> usize {
        let used = Places::new(&self.hashes, self.homes).last().map_or(0, |(place, _)| place + 1);
        used.max(usize::try_from(self.homes).unwrap_or(usize::MAX))
    }

    /// Writes the list.
    ///
    /// # Errors
    ///
    /// What `to` refuses to take.
    pub fn write_to(&self, to: &mut dyn Write) -> io::Result<()> {
        let places = self.places();
        to.write_all(&MAGIC)?;
        for number in [self.hashes.len() as u64, self.homes, places as u64] {
            to.write_all(&number.to_le_bytes())?;
        }
        let mut written = 0;
        for ((place, _), hash) in Places::new(&self.hashes, self.homes).zip(&self.hashes) {
            write_free(to, place - written)?;
            to.write_all(&hash.to_le_bytes())?;
            written = place + 1;
        }
        write_free(to, places - written)
    }

    /// The list's bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.byte_len());
        // A vector takes everything.
        let _ = self.write_to(&mut bytes);
        bytes
    }
}

fn write_free(to: &mut dyn Write, count: usize) -> io::Result<()> {
    (0..count).try_for_each(|_| to.write_all(&[0; PLACE_BYTES]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_holds_its_ids_and_nothing_else() {
        // Under miri a look-up takes a millisecond.
        let many = if cfg!(miri) { 500 } else { 50_000 };
        for len in [0, 1, 2, many / 50, many] {
            let mut builder = IdListBuilder::new();
            for number in 0..len {
                builder.push(format!("user-{number}").as_bytes());
            }
            builder.push(b"user-0");
            let built = builder.finish();
            assert_eq!(built.len(), len.max(1));
            let bytes = built.to_bytes();
            assert_eq!(bytes.len(), built.byte_len());
            assert_eq!(count(&bytes), Some(built.len() as u64));
            let list = IdList::new(&bytes).expect("a list");
            assert!((0..len).all(|number| list.contains(format!("user-{number}").as_bytes())));
            assert!(!(len.max(1)..len + many).any(|number| list.contains(format!("user-{number}").as_bytes())));
        }
    }

    #[test]
    fn the_name_is_the_content() {
        let name = |ids: [&str; 2]| {
            let mut builder = IdListBuilder::new();
            ids.iter().for_each(|id| builder.push(id.as_bytes()));
            builder.finish().name()
        };
        assert_eq!(name(["a", "b"]), name(["b", "a"]));
        assert_ne!(name(["a", "b"]), name(["a", "c"]));
    }

    #[test]
    fn any_bytes_behind_a_header_are_a_list() {
        assert!(IdList::new(b"").is_none());
        assert!(IdList::new(&[0xff; 64]).is_none());
        let mut bytes = MAGIC.to_vec();
        for number in [9, u64::MAX, 4] {
            bytes.extend(u64::to_le_bytes(number));
        }
        bytes.extend([0xee; 4 * PLACE_BYTES]);
        let list = IdList::new(&bytes).expect("the number of places is right");
        assert!((0..1000).all(|number| !list.contains(format!("{number}").as_bytes())));
    }
}
