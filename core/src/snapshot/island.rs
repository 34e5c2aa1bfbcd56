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
//!
//! Most rules are also there as steps, right behind the variants: the same decision as a chain of questions, each of which names the next
//! one for yes and for no. That is what evaluation follows; the tree answers what is no step, and tells people what the rule is.
//!
//! ```text
//! word  0      operation (8 bits) | argument (24)
//!       1 2    what comes next if it is so, and if not: a target
//!       3 4    the attribute that is looked at: name (offset, length); offset 0: the targeting key
//!       5 6    operands
//!       7      0, or a third operand
//! ```
//!
//! A target is a kind in the upper two bits (0 a step's word, larger than the step's own · 1 the variant at a place · 2 the default variant
//! · 3 a node of the tree that decides) and a number in the others. A variant's place has the lower 16 bits; bit 16 says that it is a boolean
//! and bit 17 which.

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

/// Set in word 0 of a flag whose rule is there as steps too.
pub(crate) const STEPS: u32 = 1 << 11;

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

/// How the operations of steps are numbered, with their operands.
pub(crate) mod step {
    /// How many words a step has.
    pub(crate) const WORDS: usize = 8;

    /// text (offset, length); argument 1: strictly
    pub(crate) const IS: u8 = 1;
    /// number (low, high); argument: a comparison
    pub(crate) const COMPARE: u8 = 2;
    pub(crate) const TRUTHY: u8 = 3;
    /// text (offset, length)
    pub(crate) const STARTS_WITH: u8 = 4;
    /// text (offset, length)
    pub(crate) const ENDS_WITH: u8 = 5;
    /// word of texts (offset, length); argument: how many
    pub(crate) const IN_TEXTS: u8 = 6;
    /// word of a set in this island
    pub(crate) const IN_SET: u8 = 7;
    /// name of a shared set (low, high)
    pub(crate) const IN_SHARED: u8 = 8;
    /// name of an id list (low, high)
    pub(crate) const IN_LIST: u8 = 9;
    /// word of a node of the tree: whether its value is truthy; no attribute
    pub(crate) const TEST: u8 = 10;

    /// Leads to the variant of a bucket of the `FRACTIONAL_VARIANTS` that target 1 is, by the targeting key; the hash of the flag's key as
    /// far as it goes stands where other steps have attribute and operands: word 5 state, 6 tail, 7 length.
    pub(crate) const BUCKET: u8 = 11;
    /// Leads to target 1.
    pub(crate) const GO: u8 = 12;

    /// The comparisons of [`COMPARE`]; for a boolean the number is 0 or 1, for null nothing.
    pub(crate) const EQUAL: u32 = 0;
    pub(crate) const LESS: u32 = 1;
    pub(crate) const LESS_OR_EQUAL: u32 = 2;
    pub(crate) const GREATER: u32 = 3;
    pub(crate) const GREATER_OR_EQUAL: u32 = 4;
    pub(crate) const STRICTLY_NUMBER: u32 = 5;
    pub(crate) const STRICTLY_BOOL: u32 = 6;
    pub(crate) const NULL: u32 = 7;

    /// A target's kind, in its upper two bits.
    pub(crate) const TO_STEP: u32 = 0;
    pub(crate) const TO_VARIANT: u32 = 1 << 30;
    pub(crate) const TO_DEFAULT: u32 = 2 << 30;
    pub(crate) const TO_NODE: u32 = 3 << 30;
    pub(crate) const KIND: u32 = 3 << 30;

    /// Of a target that is a variant: its place, and, where it is a boolean, that it is one and which.
    pub(crate) const PLACE: u32 = 0xffff;
    pub(crate) const BOOLEAN: u32 = 1 << 16;
    pub(crate) const TRUE: u32 = 1 << 17;
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
        let (words, _) = self.0.get(start..)?.as_chunks::<4>();
        Some(words.first_chunk::<N>()?.map(u32::from_le_bytes))
    }

    /// `count` pairs of words from `index` on.
    #[inline]
    pub(crate) fn pairs(self, index: usize, count: usize) -> Option<&'a [[u8; 8]]> {
        let (pairs, _) = self.0.get(index.checked_mul(4)?..)?.as_chunks::<8>();
        pairs.get(..count)
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

/// The words of a pair.
#[inline]
pub(crate) fn pair(bytes: &[u8; 8]) -> [u32; 2] {
    let [a, b, c, d, e, f, g, h] = *bytes;
    [u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h])]
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

    /// The value of the variant at `place`, where it is a boolean.
    #[inline]
    pub(crate) fn truth(self, place: usize) -> Option<bool> {
        let [_, _, value, _] = self.variant(place)?;
        (self.head()? & 0xff == ValueKind::Bool as u32).then_some(value != 0)
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
    /// By reference, to keep a value that holds this small.
    words: &'a Words<'a>,
    node: u32,
    count: u32,
}

impl<'a> Literals<'a> {
    pub(crate) const fn len(&self) -> usize {
        self.count as usize
    }

    pub(crate) fn element(&self, index: usize) -> Option<Value<'a>> {
        if index >= self.len() {
            return None;
        }
        self.literal(1 + index)
    }

    pub(crate) fn member(&self, name: &[u8]) -> Option<Value<'a>> {
        (0..self.len()).find_map(|index| {
            let entry = 1 + 3 * index;
            let [offset, len] = self.words.words(self.node as usize + entry)?;
            (self.words.bytes(offset, len)? == name).then(|| self.literal(entry + 2)).flatten()
        })
    }

    /// The literal that the word at `at` of the node points at. It stands behind its parent.
    fn literal(&self, at: usize) -> Option<Value<'a>> {
        let node = self.words.word(self.node as usize + at)?;
        if node <= self.node {
            return None;
        }
        literal_at(self.words, node as usize)
    }
}

/// The literal whose node is at `node`; `None` where that is no literal.
#[expect(clippy::cast_possible_truncation, reason = "the low 8 bits are wanted; a count has 24")]
pub(crate) fn literal_at<'a>(words: &'a Words<'a>, node: usize) -> Option<Value<'a>> {
    let head = words.word(node)?;
    // A count beyond the bytes there are ends with them.
    let literals = || {
        let count = (head >> 8).min((words.0.len() / 4) as u32);
        Some(Literals { words, node: u32::try_from(node).ok()?, count })
    };
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
        op::LITERAL_LIST => Value::List(List(value::ListKind::Literal(literals()?))),
        op::LITERAL_OBJECT => Value::Object(Object(value::ObjectKind::Literal(literals()?))),
        _ => return None,
    })
}
