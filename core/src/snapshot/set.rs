//! Literal sets: the right side of `in` when it is a long list written in the rule.
//!
//! ```text
//! word 0   number of places - 1; the number is a power of two
//!      1   bits: 1 null, 2 false, 4 true are members
//!      2.. places, three words each: hash with the lowest bit set (0: free), byte offset, length (the highest bit: a number)
//! ```
//!
//! Texts are kept as they are, numbers as the eight bytes of the double. Offsets are relative to the bytes that hold the set: the
//! island, or a set of its own where several flags share it.

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::island::Words;
use crate::evaluate::{Value, operator::same};

const NUMBER: u32 = 1 << 31;

/// How far from its place an element may lie; the builder makes the table larger until that holds.
const MAX_PROBES: usize = 32;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Set<'a> {
    words: Words<'a>,
    start: usize,
}

impl<'a> Set<'a> {
    /// The set whose first word is `start`.
    pub(crate) const fn new(words: Words<'a>, start: u32) -> Self {
        Self { words, start: start as usize }
    }

    /// Whether `value` is a member, by `===`.
    #[inline]
    pub(crate) fn contains(&self, value: &Value<'_>) -> bool {
        match value {
            Value::Text(text) => self.find(text, 0, hash_of_text(text)),
            #[expect(clippy::cast_precision_loss, reason = "rules compute in doubles")]
            Value::Int(number) => self.find_number(*number as f64),
            Value::Float(number) => self.find_number(*number),
            Value::Null => self.bit(1),
            Value::Bool(false) => self.bit(2),
            Value::Bool(true) => self.bit(4),
            Value::List(_) | Value::Object(_) => false,
        }
    }

    #[inline(never)]
    fn find_number(&self, number: f64) -> bool {
        // -0 equals 0; NaN equals nothing, and no NaN can be written in a rule.
        let bytes = (number + 0.0).to_le_bytes();
        self.find(&bytes, NUMBER, hash(&bytes, NUMBER))
    }

    #[inline(always)]
    fn find(&self, bytes: &[u8], kind: u32, hash: u64) -> bool {
        let Some(mask) = self.words.word(self.start) else { return false };
        for probe in 0..MAX_PROBES {
            let place = low(hash).wrapping_add(probe) & mask as usize;
            let Some([found, offset, len]) = self.words.words(self.start + 2 + 3 * place) else { return false };
            if found == tag(hash) && len & NUMBER == kind {
                let member = self.words.bytes(offset, len & !NUMBER);
                if member.is_some_and(|member| same(member, bytes)) {
                    return true;
                }
            }
            if found == 0 {
                return false;
            }
        }
        false
    }

    /// Its members, in no order; for tools.
    pub(crate) fn members(&self) -> Vec<Value<'a>> {
        let bits = [(1, Value::Null), (2, Value::Bool(false)), (4, Value::Bool(true))];
        let mut members: Vec<Value<'a>> =
            bits.into_iter().filter(|(bit, _)| self.bit(*bit)).map(|(_, member)| member).collect();
        let places = self.words.word(self.start).map_or(0, |mask| mask as usize).min(self.words.0.len()) + 1;
        for place in 0..places {
            let Some([tag, offset, len]) = self.words.words(self.start + 2 + 3 * place) else { break };
            let bytes = self.words.bytes(offset, len & !NUMBER).filter(|_| tag != 0);
            match bytes {
                Some(bytes) if len & NUMBER == 0 => members.push(Value::Text(bytes)),
                Some(bytes) => {
                    members.extend(bytes.first_chunk().map(|bytes| Value::Float(f64::from_le_bytes(*bytes))))
                }
                None => {}
            }
        }
        members
    }

    /// How many bytes it takes where it lies by itself, with its texts.
    pub(crate) fn len(&self) -> usize {
        let places = self.words.word(self.start).map_or(0, |mask| mask as usize).min(self.words.0.len()) + 1;
        let end = |place| {
            let [tag, offset, len] = self.words.words(self.start + 2 + 3 * place)?;
            Some(if tag == 0 { 0 } else { offset as usize + (len & !NUMBER) as usize })
        };
        let texts = (0..places).map_while(end).max().unwrap_or(0);
        texts.max((self.start + 2 + 3 * places) * 4).next_multiple_of(16)
    }

    fn bit(&self, bit: u32) -> bool {
        self.words.word(self.start + 1).is_some_and(|bits| bits & bit != 0)
    }
}

/// Hashes start from the same seed everywhere: a set is the same bytes wherever and whenever it is compiled.
#[inline(never)]
fn hash(bytes: &[u8], kind: u32) -> u64 {
    xxh3_64_with_seed(bytes, u64::from(kind))
}

/// The hash of a text. That of a short one is worth having in place.
#[inline(always)]
fn hash_of_text(text: &[u8]) -> u64 {
    if text.len() <= 16 { xxh3_64_with_seed(text, 0) } else { hash(text, 0) }
}

/// The low half: which place is an element's own. The same on every machine.
#[expect(clippy::cast_possible_truncation, reason = "the low half is wanted")]
const fn low(hash: u64) -> usize {
    hash as u32 as usize
}

const fn tag(hash: u64) -> u32 {
    (hash >> 32) as u32 | 1
}

/// A literal list kept once for all flags that have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SharedSet {
    /// The hash of its bytes.
    pub(crate) name: u64,
    /// Its bytes, a multiple of 16.
    pub(crate) bytes: Vec<u8>,
}

/// A member of a set that is being built.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Member<'a> {
    Null,
    Bool(bool),
    Number(f64),
    Text(&'a str),
}

/// Appends a set to `words`, and calls `text` for each byte string that it holds, with the word that wants its offset.
pub(crate) fn build(members: &[Member<'_>], words: &mut Vec<u32>, mut text: impl FnMut(usize, Vec<u8>)) {
    let mut bits = 0;
    let mut keys: Vec<(Vec<u8>, u32)> = Vec::new();
    for member in members {
        match member {
            Member::Null => bits |= 1,
            Member::Bool(false) => bits |= 2,
            Member::Bool(true) => bits |= 4,
            Member::Number(number) => keys.push(((number + 0.0).to_le_bytes().to_vec(), NUMBER)),
            Member::Text(text) => keys.push((text.as_bytes().to_vec(), 0)),
        }
    }
    keys.sort_unstable();
    keys.dedup();
    let mut size = (keys.len() * 2).next_power_of_two().max(2);
    let places = loop {
        if let Some(places) = arrange(&keys, size) {
            break places;
        }
        size *= 2;
    };
    words.extend([u32::try_from(size - 1).unwrap_or(u32::MAX), bits]);
    for place in places {
        match place.and_then(|key| keys.get(key)) {
            Some((bytes, kind)) => {
                words.extend([tag(hash(bytes, *kind)), 0, u32::try_from(bytes.len()).unwrap_or(u32::MAX) | kind]);
                text(words.len() - 2, bytes.clone());
            }
            None => words.extend([0; 3]),
        }
    }
}

/// Which key lies in which place; `None` where one would lie too far from its own.
fn arrange(keys: &[(Vec<u8>, u32)], size: usize) -> Option<Vec<Option<usize>>> {
    let mut places = vec![None; size];
    for (key, (bytes, kind)) in keys.iter().enumerate() {
        let home = low(hash(bytes, *kind));
        let free = (0..MAX_PROBES).map(|probe| home.wrapping_add(probe) & (size - 1));
        let place = free.into_iter().find(|&place| places.get(place) == Some(&None))?;
        *places.get_mut(place)? = Some(key);
    }
    Some(places)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(members: &[Member<'_>]) -> Vec<u8> {
        let mut words = Vec::new();
        let mut texts = Vec::new();
        build(members, &mut words, |word, text| texts.push((word, text)));
        let mut pool = Vec::new();
        let start = words.len() * 4;
        for (word, text) in texts {
            words[word] = u32::try_from(start + pool.len()).unwrap();
            pool.extend(text);
        }
        words.iter().flat_map(|word| word.to_le_bytes()).chain(pool).collect()
    }

    #[test]
    fn a_set_holds_its_members_and_nothing_else() {
        let names: Vec<String> =
            (0..if cfg!(miri) { 100 } else { 5000 }).map(|number| format!("user-{number}")).collect();
        let mut members: Vec<Member<'_>> = names.iter().map(|name| Member::Text(name)).collect();
        members.extend([Member::Number(0.0), Member::Number(1.5), Member::Bool(true), Member::Text("")]);
        let bytes = bytes(&members);
        let set = Set::new(Words(&bytes), 0);
        assert!(names.iter().all(|name| set.contains(&Value::from(name.as_str()))));
        for value in [Value::from(-0.0), Value::from(0), Value::from(1.5), Value::from(true), Value::from("")] {
            assert!(set.contains(&value), "{value:?}");
        }
        for value in [Value::from("user-5000"), Value::from(1), Value::from(false), Value::Null, Value::from(f64::NAN)]
        {
            assert!(!set.contains(&value), "{value:?}");
        }
        // The eight bytes of a number are no text.
        let number = 1.5_f64.to_le_bytes();
        assert!(!set.contains(&Value::Text(&number)));
    }

    #[test]
    fn any_bytes_are_a_set() {
        for len in 0..64 {
            let bytes = vec![0xff; len];
            assert!(!Set::new(Words(&bytes), 0).contains(&Value::from("a")));
        }
    }
}
