//! Islands: one flag, compiled, in bytes that can be copied anywhere.
//!
//! An island is little-endian words and the texts they point at. Every offset in it is relative to its start and every read
//! is checked against its end, so an island can be moved by copying it, and any bytes at all are safe to evaluate.
//!
//! ```text
//! word  0      kind of value (8 bits) | bits (8) | number of variants (16)
//!       1      place of the default variant + 1; 0: none
//!       2      word of the rule; 0: none
//!       3      which metadata of the snapshot's sets; set when the island is placed
//!       4 5    key: byte offset, length
//!       6 7    own metadata: word, number of entries
//!       8 ..   variants, four words each: name (offset, length), value (two words)
//! ```
//!
//! A value's two words: a boolean (0 or 1, 0) · a number (the double, low word first) · a text or JSON text (offset, length).
//! A metadata entry is five words: name (offset, length), type (0 boolean, 1 number, 2 text), value (two words).
//!
//! A rule is a tree of nodes. A node's first word holds its operation in the low 8 bits and a count above; its operands
//! follow. A node stands before its children, so that no bytes can make a loop.

use crate::{
    definition::flag::ValueKind,
    evaluate::{FlagValue, List, Object, ScalarRef, Value, value},
};

/// Set in word 0 of a flag whose `state` is `ENABLED`.
pub(crate) const ENABLED: u32 = 1 << 8;
/// Set in word 0 of a flag whose definition is broken and never was good.
pub(crate) const BROKEN: u32 = 1 << 9;
/// Set in word 0 of a flag whose rule builds text or lists.
pub(crate) const BUILDS: u32 = 1 << 10;

pub(crate) const WORD_DEFAULT: usize = 1;
pub(crate) const WORD_RULE: usize = 2;
pub(crate) const WORD_SET: usize = 3;
pub(crate) const WORD_KEY: usize = 4;
pub(crate) const WORD_METADATA: usize = 6;
pub(crate) const HEADER_WORDS: usize = 8;
pub(crate) const VARIANT_WORDS: usize = 4;
pub(crate) const METADATA_WORDS: usize = 5;

/// How the operations of a rule are numbered. Operands, in words, stand behind each; `[x]` is the word of a child node.
pub(crate) mod op {
    pub(crate) const NULL: u8 = 0;
    pub(crate) const FALSE: u8 = 1;
    pub(crate) const TRUE: u8 = 2;
    /// low, high
    pub(crate) const NUMBER: u8 = 3;
    /// offset, length
    pub(crate) const TEXT: u8 = 4;
    /// n × \[literal\]
    pub(crate) const LITERAL_LIST: u8 = 5;
    /// n × (offset, length, \[literal\])
    pub(crate) const LITERAL_OBJECT: u8 = 6;
    /// n × \[element\]
    pub(crate) const LIST: u8 = 7;
    /// count: the variant's place
    pub(crate) const VARIANT: u8 = 8;

    /// name (offset, length), \[default\] or 0
    pub(crate) const ATTRIBUTE: u8 = 10;
    /// \[default\] or 0, n × (offset, length)
    pub(crate) const PATH: u8 = 11;
    /// \[default\] or 0, n × (offset, length); n = 0: the scope itself
    pub(crate) const SCOPE_PATH: u8 = 12;
    pub(crate) const CONTEXT: u8 = 13;
    /// \[default\] or 0
    pub(crate) const TARGETING_KEY: u8 = 14;
    pub(crate) const FLAG_KEY: u8 = 15;
    pub(crate) const TIMESTAMP: u8 = 16;
    /// \[path\], \[default\] or 0
    pub(crate) const DYNAMIC: u8 = 17;

    /// n × \[argument\] for all that follow, unless said otherwise
    pub(crate) const IF: u8 = 20;
    pub(crate) const AND: u8 = 21;
    pub(crate) const OR: u8 = 22;
    pub(crate) const NOT: u8 = 23;
    pub(crate) const TRUTHY: u8 = 24;
    pub(crate) const EQUAL: u8 = 25;
    pub(crate) const NOT_EQUAL: u8 = 26;
    pub(crate) const STRICT_EQUAL: u8 = 27;
    pub(crate) const STRICT_NOT_EQUAL: u8 = 28;
    pub(crate) const LESS: u8 = 29;
    pub(crate) const LESS_OR_EQUAL: u8 = 30;
    pub(crate) const GREATER: u8 = 31;
    pub(crate) const GREATER_OR_EQUAL: u8 = 32;
    /// \[needle\], n × (offset, length): a text among few texts
    pub(crate) const IN_TEXTS: u8 = 33;
    /// \[needle\], word of a set in this island
    pub(crate) const IN_SET: u8 = 34;
    /// \[needle\], name of a shared set (low, high)
    pub(crate) const IN_SHARED: u8 = 35;
    /// \[needle\], name of an id list (low, high)
    pub(crate) const IN_LIST: u8 = 36;
    /// name (offset, length), text (offset, length); count 1: strict
    pub(crate) const ATTRIBUTE_IS: u8 = 37;
    pub(crate) const ADD: u8 = 40;
    pub(crate) const MULTIPLY: u8 = 41;
    pub(crate) const SUBTRACT: u8 = 42;
    pub(crate) const DIVIDE: u8 = 43;
    pub(crate) const REMAINDER: u8 = 44;
    pub(crate) const MAX: u8 = 45;
    pub(crate) const MIN: u8 = 46;
    pub(crate) const MAP: u8 = 50;
    pub(crate) const FILTER: u8 = 51;
    pub(crate) const REDUCE: u8 = 52;
    pub(crate) const ALL: u8 = 53;
    pub(crate) const NONE: u8 = 54;
    pub(crate) const SOME: u8 = 55;
    pub(crate) const MERGE: u8 = 56;
    pub(crate) const IN: u8 = 57;
    pub(crate) const CAT: u8 = 58;
    pub(crate) const SUBSTR: u8 = 59;
    pub(crate) const MISSING: u8 = 60;
    pub(crate) const MISSING_SOME: u8 = 61;
    pub(crate) const FRACTIONAL: u8 = 62;
    /// \[key\] or 0, sum of weights, n × (running sum, variant's place + 1; 0: null)
    pub(crate) const FRACTIONAL_VARIANTS: u8 = 63;
    pub(crate) const SEM_VER: u8 = 64;
    pub(crate) const STARTS_WITH: u8 = 65;
    pub(crate) const ENDS_WITH: u8 = 66;
}

/// Words and texts, every read checked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Words<'a>(pub(crate) &'a [u8]);

impl<'a> Words<'a> {
    /// The word at `index`.
    #[inline]
    pub(crate) fn word(self, index: usize) -> Option<u32> {
        let start = index.checked_mul(4)?;
        let bytes = self.0.get(start..)?.first_chunk::<4>()?;
        Some(u32::from_le_bytes(*bytes))
    }

    /// `N` words from `index` on.
    #[inline]
    pub(crate) fn words<const N: usize>(self, index: usize) -> Option<[u32; N]> {
        let start = index.checked_mul(4)?;
        let bytes = self.0.get(start..start.checked_add(4 * N)?)?;
        let (words, _) = bytes.as_chunks::<4>();
        let mut found = [0; N];
        for (place, word) in found.iter_mut().zip(words) {
            *place = u32::from_le_bytes(*word);
        }
        Some(found)
    }

    /// `len` bytes from byte `offset` on.
    #[inline]
    pub(crate) fn bytes(self, offset: u32, len: u32) -> Option<&'a [u8]> {
        let start = offset as usize;
        self.0.get(start..start.checked_add(len as usize)?)
    }

    /// The text at `offset`; `None` too where it is not UTF-8.
    pub(crate) fn text(self, offset: u32, len: u32) -> Option<&'a str> {
        std::str::from_utf8(self.bytes(offset, len)?).ok()
    }

    fn scalar(self, entry: usize) -> Option<(&'a str, ScalarRef<'a>)> {
        let [name, name_len, kind, low, high] = self.words(entry)?;
        let value = match kind {
            0 => ScalarRef::Bool(low != 0),
            1 => ScalarRef::Number(double(low, high)),
            _ => ScalarRef::Text(self.text(low, high)?),
        };
        Some((self.text(name, name_len)?, value))
    }

    /// Metadata: `count` entries from word `start` on; entries that cannot be read are left out.
    pub(crate) fn metadata(self, start: u32, count: u32) -> impl Iterator<Item = (&'a str, ScalarRef<'a>)> {
        // A count beyond the bytes there are ends with them.
        let count = (count as usize).min(self.0.len() / (4 * METADATA_WORDS));
        (0..count).filter_map(move |index| self.scalar(start as usize + index * METADATA_WORDS))
    }
}

/// The double in two words.
#[inline]
pub(crate) fn double(low: u32, high: u32) -> f64 {
    f64::from_bits(u64::from(low) | u64::from(high) << 32)
}

/// One compiled flag.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Island<'a> {
    pub(crate) words: Words<'a>,
}

impl<'a> Island<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self { words: Words(bytes) }
    }

    /// Word 0: kind, bits, number of variants.
    #[inline]
    pub(crate) fn head(self) -> Option<u32> {
        self.words.word(0)
    }

    pub(crate) fn key(self) -> Option<&'a [u8]> {
        let [offset, len] = self.words.words(WORD_KEY)?;
        self.words.bytes(offset, len)
    }

    pub(crate) fn kind(self) -> Option<ValueKind> {
        Some(match self.head()? & 0xff {
            1 => ValueKind::Bool,
            2 => ValueKind::Text,
            3 => ValueKind::Number,
            4 => ValueKind::Json,
            _ => return None,
        })
    }

    /// The name of the variant at `place`.
    pub(crate) fn variant_name(self, place: usize) -> Option<&'a [u8]> {
        let [offset, len, _, _] = self.variant(place)?;
        self.words.bytes(offset, len)
    }

    /// The place of the variant called `name`.
    pub(crate) fn variant_called(self, name: &[u8]) -> Option<usize> {
        let count = (self.head()? >> 16) as usize;
        (0..count).find(|&place| self.variant_name(place) == Some(name))
    }

    /// The value of the variant at `place`.
    #[inline]
    pub(crate) fn value(self, place: usize) -> Option<FlagValue<'a>> {
        let [_, _, low, high] = self.variant(place)?;
        Some(match self.kind()? {
            ValueKind::Bool => FlagValue::Bool(low != 0),
            ValueKind::Number => FlagValue::Float(double(low, high)),
            ValueKind::Text => FlagValue::Text(self.words.text(low, high)?),
            ValueKind::Json => FlagValue::Json(self.words.text(low, high)?),
        })
    }

    /// The place of the default variant.
    #[inline]
    pub(crate) fn default_variant(self) -> Option<usize> {
        (self.words.word(WORD_DEFAULT)? as usize).checked_sub(1)
    }

    #[inline]
    fn variant(self, place: usize) -> Option<[u32; VARIANT_WORDS]> {
        if place >= (self.head()? >> 16) as usize {
            return None;
        }
        self.words.words(HEADER_WORDS + place * VARIANT_WORDS)
    }
}

/// A literal list or object of a rule, read in place.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Literals<'a> {
    words: Words<'a>,
    node: usize,
    count: usize,
}

impl<'a> Literals<'a> {
    /// The one whose first word is `node`; a count beyond the bytes there are ends with them.
    pub(crate) fn new(words: Words<'a>, node: usize, count: usize) -> Self {
        Self { words, node, count: count.min(words.0.len() / 4) }
    }

    pub(crate) const fn len(&self) -> usize {
        self.count
    }

    pub(crate) fn element(&self, index: usize) -> Option<Value<'a>> {
        if index >= self.count {
            return None;
        }
        literal(self.words, self.node, self.node + 1 + index)
    }

    pub(crate) fn member(&self, name: &[u8]) -> Option<Value<'a>> {
        (0..self.count).find_map(|index| {
            let entry = self.node + 1 + 3 * index;
            let [offset, len] = self.words.words(entry)?;
            (self.words.bytes(offset, len)? == name).then(|| literal(self.words, self.node, entry + 2)).flatten()
        })
    }
}

/// The literal that the word at `at`, part of the node at `parent`, points at. It stands behind its parent.
fn literal(words: Words<'_>, parent: usize, at: usize) -> Option<Value<'_>> {
    let node = words.word(at)? as usize;
    if node <= parent {
        return None;
    }
    literal_at(words, node)
}

/// The literal whose node is at `node`; `None` where that is no literal.
#[expect(clippy::cast_possible_truncation, reason = "the low 8 bits are wanted")]
pub(crate) fn literal_at(words: Words<'_>, node: usize) -> Option<Value<'_>> {
    let head = words.word(node)?;
    let count = (head >> 8) as usize;
    Some(match head as u8 {
        op::NULL => Value::Null,
        op::FALSE => Value::Bool(false),
        op::TRUE => Value::Bool(true),
        op::NUMBER => {
            let [low, high] = words.words(node + 1)?;
            Value::Float(double(low, high))
        }
        op::TEXT => {
            let [offset, len] = words.words(node + 1)?;
            Value::Text(words.bytes(offset, len)?)
        }
        op::LITERAL_LIST => Value::List(List(value::ListKind::Literal(Literals::new(words, node, count)))),
        op::LITERAL_OBJECT => Value::Object(Object(value::ObjectKind::Literal(Literals::new(words, node, count)))),
        _ => return None,
    })
}
