//! Id lists: what a signed text says of them, and the ids themselves, in parts that anybody may keep and hand on.
//!
//! ```text
//! "$lists": {"staff": {"ids": 3, "parts": [{"sha256": "…", "bytes": 12, "ids": 4}, {"sha256": "…", "bytes": 3, "ids": 1, "removes": true}]}}
//!
//! a part: one id a line, in ascending order of their bytes, each line ended by a line feed:   a1\nb2\nc3\n
//! ```
//!
//! What a later part says of an id counts. The text is signed and names each part by its SHA-256, so nobody who keeps or
//! hands on a part has to be trusted.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fmt;
use std::io::{self, BufRead, Read};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};

/// The longest id, in bytes.
pub const ID_BYTES: usize = 1_024;

/// What hosts are told of a list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct List {
    /// How many ids it has.
    pub ids: u64,
    /// What it is made of, the oldest first.
    pub parts: Vec<Part>,
}

/// A part of a list.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Part {
    /// Its name and what it has to be.
    pub sha256: PartHash,
    /// How long it is.
    pub bytes: u64,
    /// How many ids are in it.
    pub ids: u64,
    /// Whether its ids are taken out of what the parts before it make.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub removes: bool,
}

/// The SHA-256 of a part: 64 hexadecimal digits, lower case.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartHash([u8; 32]);

/// A text is no [`PartHash`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoHash;

impl fmt::Display for NoHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a part is named by 64 hexadecimal digits in lower case")
    }
}

impl std::error::Error for NoHash {}

impl FromStr for PartHash {
    type Err = NoHash;

    fn from_str(text: &str) -> Result<Self, NoHash> {
        let digit = |byte: u8| match byte {
            b'0'..=b'9' => Ok(byte - b'0'),
            b'a'..=b'f' => Ok(byte - b'a' + 10),
            _ => Err(NoHash),
        };
        let mut hash = [0; 32];
        let (pairs, rest) = text.as_bytes().as_chunks::<2>();
        if pairs.len() != hash.len() || !rest.is_empty() {
            return Err(NoHash);
        }
        for (byte, [high, low]) in hash.iter_mut().zip(pairs) {
            *byte = digit(*high)? * 16 + digit(*low)?;
        }
        Ok(Self(hash))
    }
}

impl fmt::Display for PartHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for PartHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for PartHash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for PartHash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Works out the name of a part as its bytes come.
#[derive(Clone, Debug, Default)]
pub struct PartHasher(Sha256);

impl PartHasher {
    /// The next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The name of all of them.
    #[must_use]
    pub fn finish(self) -> PartHash {
        PartHash(self.0.finalize().into())
    }
}

impl List {
    /// What names its content: two lists of the same parts have the same ids.
    #[must_use]
    pub fn content(&self) -> PartHash {
        let mut hash = PartHasher::default();
        for part in &self.parts {
            hash.update(&part.sha256.0);
            hash.update(&[u8::from(part.removes)]);
        }
        hash.finish()
    }
}

/// Why a text can't be an id.
///
/// # Errors
/// A fragment such as `an id has at most 1024 bytes`.
pub fn check_id(id: &str) -> Result<(), &'static str> {
    if id.is_empty() {
        return Err("an id has at least one character");
    }
    if id.len() > ID_BYTES {
        return Err("an id has at most 1024 bytes");
    }
    if id.bytes().any(|byte| byte < 0x20 || byte == 0x7f) {
        return Err("an id has no control characters in it");
    }
    Ok(())
}

/// Reads the ids of one part, in order.
#[derive(Debug)]
pub struct PartReader<R> {
    lines: R,
    id: Vec<u8>,
    before: Vec<u8>,
    started: bool,
}

impl<R: BufRead> PartReader<R> {
    /// Of a part's bytes.
    pub fn new(lines: R) -> Self {
        Self { lines, id: Vec::new(), before: Vec::new(), started: false }
    }

    /// The next id; `None` at the end.
    ///
    /// # Errors
    /// What reading fails with, and `InvalidData` for what is no part.
    pub fn next_id(&mut self) -> io::Result<Option<&[u8]>> {
        std::mem::swap(&mut self.id, &mut self.before);
        self.id.clear();
        if self.lines.by_ref().take(ID_BYTES as u64 + 1).read_until(b'\n', &mut self.id)? == 0 {
            return Ok(None);
        }
        let invalid = |what: &str| Err(io::Error::new(io::ErrorKind::InvalidData, what));
        if self.id.pop() != Some(b'\n') || self.id.is_empty() {
            return invalid("no part of a list: an empty, unended or too long line");
        }
        if std::mem::replace(&mut self.started, true) && self.id <= self.before {
            return invalid("no part of a list: its ids are not in order");
        }
        Ok(Some(&self.id))
    }
}

/// The ids of a list, in order, out of its parts: only a line of each part is in memory.
#[derive(Debug)]
pub struct Merge<R> {
    parts: Vec<(PartReader<R>, bool)>,
    /// The next id of each part that has one, the newest part first among the same ids.
    heads: BinaryHeap<Reverse<(Vec<u8>, Reverse<usize>)>>,
    id: Vec<u8>,
}

impl<R: BufRead> Merge<R> {
    /// Of parts, the oldest first, each with whether it removes.
    ///
    /// # Errors
    /// As [`next_id`](Self::next_id).
    pub fn new(parts: impl IntoIterator<Item = (R, bool)>) -> io::Result<Self> {
        let parts: Vec<_> = parts.into_iter().map(|(lines, removes)| (PartReader::new(lines), removes)).collect();
        let mut merge = Self { heads: BinaryHeap::with_capacity(parts.len()), parts, id: Vec::new() };
        for at in 0..merge.parts.len() {
            merge.pull(at, Vec::new())?;
        }
        Ok(merge)
    }

    fn pull(&mut self, at: usize, mut room: Vec<u8>) -> io::Result<()> {
        if let Some((part, _)) = self.parts.get_mut(at)
            && let Some(id) = part.next_id()?
        {
            room.clear();
            room.extend_from_slice(id);
            self.heads.push(Reverse((room, Reverse(at))));
        }
        Ok(())
    }

    /// The next id that is in the list; `None` at the end.
    ///
    /// # Errors
    /// As [`PartReader::next_id`].
    pub fn next_id(&mut self) -> io::Result<Option<&[u8]>> {
        while let Some(Reverse((id, Reverse(newest)))) = self.heads.pop() {
            let removes = self.parts.get(newest).is_some_and(|(_, removes)| *removes);
            self.id.clear();
            self.id.extend_from_slice(&id);
            self.pull(newest, id)?;
            // What older parts say of it.
            while self.heads.peek().is_some_and(|Reverse((id, _))| *id == self.id) {
                if let Some(Reverse((id, Reverse(at)))) = self.heads.pop() {
                    self.pull(at, id)?;
                }
            }
            if !removes {
                return Ok(Some(&self.id));
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    fn part(ids: &BTreeSet<String>) -> Vec<u8> {
        ids.iter().flat_map(|id| [id.as_bytes(), b"\n"].concat()).collect()
    }

    fn merged(parts: &[(Vec<u8>, bool)]) -> io::Result<Vec<String>> {
        let mut merge = Merge::new(parts.iter().map(|(bytes, removes)| (bytes.as_slice(), *removes)))?;
        let mut ids = Vec::new();
        while let Some(id) = merge.next_id()? {
            ids.push(String::from_utf8(id.to_vec()).expect("UTF-8"));
        }
        Ok(ids)
    }

    proptest! {
        #[test]
        fn later_parts_count(parts in prop::collection::vec((prop::collection::btree_set("[ab é]{1,3}", 0..12), any::<bool>()), 0..6)) {
            let mut expected = BTreeSet::new();
            for (ids, removes) in &parts {
                if *removes {
                    expected.retain(|id| !ids.contains(id));
                } else {
                    expected.extend(ids.iter().cloned());
                }
            }
            let parts: Vec<_> = parts.iter().map(|(ids, removes)| (part(ids), *removes)).collect();
            prop_assert_eq!(merged(&parts).expect("good parts"), expected.into_iter().collect::<Vec<_>>());
        }
    }

    #[test]
    fn what_is_no_part_is_found_out() {
        let long = [vec![b'x'; ID_BYTES + 1], b"\n".to_vec()].concat();
        for bytes in [&b"b\na\n"[..], b"a\na\n", b"a\n\nb\n", b"a", b"\n", &long] {
            let error = merged(&[(bytes.to_vec(), false)]).expect_err("no part");
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{bytes:?}");
        }
        let longest = [vec![b'x'; ID_BYTES], b"\n".to_vec()].concat();
        assert!(merged(&[(longest, false)]).is_ok_and(|ids| ids.len() == 1));
    }

    #[test]
    fn a_hash_is_its_digits_and_nothing_else_is_one() {
        let mut hasher = PartHasher::default();
        hasher.update(b"abc");
        let digits = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(hasher.finish().to_string(), digits);
        assert_eq!(digits.parse::<PartHash>().map(|hash| hash.to_string()).as_deref(), Ok(digits));
        let capital = digits.to_uppercase();
        for wrong in ["", "../../etc/passwd", &digits[1..], &format!("{digits}0"), &capital] {
            assert_eq!(wrong.parse::<PartHash>(), Err(NoHash), "{wrong}");
        }
    }

    #[test]
    fn hostile_ids_are_refused() {
        for bad in ["", "a\nb", "\0", "a\tb", "\u{7f}", &"x".repeat(ID_BYTES + 1)] {
            assert!(check_id(bad).is_err(), "{bad:?}");
        }
        for good in ["1", " a ", "é'; DROP TABLE segment; --", "../..", &"x".repeat(ID_BYTES)] {
            assert!(check_id(good).is_ok(), "{good:?}");
        }
    }
}
