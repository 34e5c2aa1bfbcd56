//! Parts of id lists in memory, as they are stored: so that hosts get the lists of an environment that does not change also while the
//! database is away, and ask it once for all of them else.
//!
//! ```text
//! chunks of a part come in order ──► kept, the part's use noted ──► beyond the bound: the part that was used longest ago goes, whole
//! ```

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use flags_sync::PartHash;
use metrics::{counter, gauge};

use crate::observe::whole;

/// What is kept of parts, up to so many bytes.
#[derive(Debug)]
pub(crate) struct PartCache {
    most_bytes: u64,
    inner: Mutex<Inner>,
}

/// Of an environment: what another one's hosts may not see is not found by its name either.
type Key = (i64, PartHash);

#[derive(Debug, Default)]
struct Inner {
    parts: HashMap<Key, Part>,
    bytes: u64,
    /// Counts uses.
    now: u64,
}

#[derive(Debug, Default)]
struct Part {
    chunks: Vec<Bytes>,
    bytes: u64,
    /// Nothing comes behind the chunks.
    is_whole: bool,
    used: u64,
}

/// What is known of a chunk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// `None` behind the last one.
    Chunk(Option<Bytes>),
    Nothing,
}

impl PartCache {
    pub(crate) fn new(most_bytes: u64) -> Self {
        Self { most_bytes, inner: Mutex::default() }
    }

    /// A chunk by its number. Counts it as used.
    pub(super) fn chunk(&self, key: Key, number: usize) -> Known {
        let mut inner = self.lock();
        inner.now += 1;
        let now = inner.now;
        let Some(part) = inner.parts.get_mut(&key) else { return Known::Nothing };
        part.used = now;
        match part.chunks.get(number) {
            Some(chunk) => Known::Chunk(Some(chunk.clone())),
            None if part.is_whole && number == part.chunks.len() => Known::Chunk(None),
            None => Known::Nothing,
        }
    }

    /// Keeps what the database says: the chunk with this number, or that there is none. Only the next one is taken.
    pub(super) fn keep(&self, key: Key, number: usize, chunk: Option<&Bytes>) {
        let mut inner = self.lock();
        inner.now += 1;
        let now = inner.now;
        let part = match inner.parts.get_mut(&key) {
            Some(part) => part,
            None if number == 0 && self.most_bytes > 0 => inner.parts.entry(key).or_default(),
            None => return,
        };
        if number != part.chunks.len() || part.is_whole {
            return;
        }
        part.used = now;
        match chunk {
            None => part.is_whole = true,
            Some(chunk) => {
                let bytes = chunk.len() as u64;
                part.chunks.push(chunk.clone());
                part.bytes += bytes;
                inner.bytes += bytes;
                inner.make_room(self.most_bytes);
            }
        }
        gauge!("flags_control_part_cache_bytes").set(whole(inner.bytes));
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn make_room(&mut self, most_bytes: u64) {
        while self.bytes > most_bytes {
            let oldest = self.parts.iter().min_by_key(|(_, part)| part.used).map(|(key, _)| *key);
            let Some(part) = oldest.and_then(|key| self.parts.remove(&key)) else { return };
            self.bytes -= part.bytes;
            counter!("flags_control_parts_evicted_total").increment(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flags_sync::list::PartHasher;

    fn key(name: &str) -> Key {
        let mut hasher = PartHasher::default();
        hasher.update(name.as_bytes());
        (1, hasher.finish())
    }

    fn chunk(letter: u8) -> Bytes {
        vec![letter; 10].into()
    }

    /// Puts a whole part of chunks of 10 bytes.
    fn put(cache: &PartCache, name: &str, chunks: u8) {
        for number in 0..chunks {
            cache.keep(key(name), number.into(), Some(&chunk(number)));
        }
        cache.keep(key(name), chunks.into(), None);
    }

    fn is_whole(cache: &PartCache, name: &str, chunks: u8) -> bool {
        let all = (0..chunks).all(|at| cache.chunk(key(name), at.into()) == Known::Chunk(Some(chunk(at))));
        all && cache.chunk(key(name), chunks.into()) == Known::Chunk(None)
    }

    #[test]
    fn what_was_used_longest_ago_makes_way() {
        let cache = PartCache::new(60);
        put(&cache, "a", 2);
        put(&cache, "b", 2);
        put(&cache, "c", 2);
        assert!(is_whole(&cache, "a", 2) && is_whole(&cache, "b", 2) && is_whole(&cache, "c", 2));
        assert!(is_whole(&cache, "a", 2));
        put(&cache, "d", 1);
        assert!(is_whole(&cache, "a", 2) && is_whole(&cache, "c", 2) && is_whole(&cache, "d", 1));
        assert_eq!(cache.chunk(key("b"), 0), Known::Nothing);
        assert_eq!(cache.chunk((2, key("a").1), 0), Known::Nothing, "another environment's");
        assert_eq!(cache.lock().bytes, 50);
    }

    #[test]
    fn what_is_too_large_is_not_kept_and_never_above_the_bound() {
        for most in [0, 9, 25] {
            let cache = PartCache::new(most);
            for number in 0..9 {
                cache.keep(key("a"), number, Some(&chunk(1)));
                assert!(cache.lock().bytes <= most, "{most}");
            }
            cache.keep(key("a"), 9, None);
            assert_eq!(cache.chunk(key("a"), 0), Known::Nothing, "{most}");
            assert!(cache.lock().parts.is_empty(), "{most}");
        }
    }

    #[test]
    fn chunks_out_of_order_are_no_part() {
        let cache = PartCache::new(100);
        cache.keep(key("a"), 1, Some(&chunk(1)));
        assert_eq!(cache.chunk(key("a"), 1), Known::Nothing);
        // Two hosts read it at once.
        for number in [0, 0, 1, 1] {
            cache.keep(key("a"), number, Some(&chunk(u8::try_from(number).unwrap())));
        }
        assert_eq!(cache.chunk(key("a"), 2), Known::Nothing, "there may be more");
        cache.keep(key("a"), 2, None);
        cache.keep(key("a"), 2, Some(&chunk(2)));
        assert!(is_whole(&cache, "a", 2));
    }
}
