//! A snapshot, read in place: from a key and a context to an answer.

use std::fmt;

use rkyv::{rancor::Error as RkyvError, rend::u128_le};

use super::{
    archive::{ArchivedExtent, ArchivedNamed, ArchivedTables},
    index::{Answer, Index},
    island::{
        BROKEN, BUILDS, ENABLED, HEADER_WORDS, Island, STEPS, VARIANT_WORDS, WORD_METADATA, WORD_SET, Words, step,
    },
    list::IdList,
    set::Set,
};
use crate::evaluate::{
    Attributes, Details, ErrorCode, FlagValue, Reason, ScalarRef, Want,
    rule::{Chosen, Fault, Walk},
    scratch::Scratch,
    steps::{self, End},
};

/// A payload whose tables lie where they say.
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    arena: &'a [u8],
    index: Index<'a>,
    pub(crate) tables: &'a ArchivedTables,
    shared: Shared<'a>,
}

/// What rules find outside their island: shared sets and id lists.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shared<'a> {
    arena: &'a [u8],
    sets: &'a [ArchivedNamed],
    lists: &'a [(u64, IdList<'a>)],
}

impl<'a> Shared<'a> {
    /// Nothing.
    pub(crate) const fn none() -> Self {
        Self { arena: &[], sets: &[], lists: &[] }
    }

    /// Sets that lie in `arena` where `sets`, in the order of their names, says.
    pub(crate) const fn of(arena: &'a [u8], sets: &'a [ArchivedNamed]) -> Self {
        Self { arena, sets, lists: &[] }
    }

    /// The shared set of that name.
    pub(crate) fn set(&self, low: u32, high: u32) -> Option<Set<'a>> {
        let name = u64::from(low) | u64::from(high) << 32;
        let place = self.sets.binary_search_by_key(&name, |set| set.name.to_native()).ok()?;
        let offset = usize::try_from(self.sets.get(place)?.number.to_native()).ok()?;
        Some(Set::new(Words(self.arena.get(offset..)?), 0))
    }

    /// The id list of that name.
    pub(crate) fn list(&self, low: u32, high: u32) -> Option<IdList<'a>> {
        let name = u64::from(low) | u64::from(high) << 32;
        self.lists.iter().find(|(other, _)| *other == name).map(|(_, list)| *list)
    }
}

/// One answer, borrowed from the snapshot it comes from.
#[derive(Clone, Debug)]
pub struct Evaluation<'a> {
    /// The flag's value; `None` where the caller's default stands.
    pub value: Option<FlagValue<'a>>,
    /// The name of the variant; `None` where the caller's default stands.
    pub variant: Option<&'a str>,
    /// Why.
    pub reason: Reason,
    /// What went wrong, where `reason` is [`Reason::Error`].
    pub error: Option<ErrorCode>,
    /// The flag set's metadata overlaid by the flag's own.
    pub metadata: Metadata<'a>,
}

impl<'a> Evaluation<'a> {
    pub(crate) const fn error(error: ErrorCode) -> Self {
        Self { value: None, variant: None, reason: Reason::Error, error: Some(error), metadata: Metadata::NONE }
    }

    /// The same, owned, with the value that `value` makes of the flag's.
    pub fn into_details<T>(self, value: impl FnOnce(Option<FlagValue<'a>>) -> T) -> Details<T> {
        Details {
            value: value(self.value),
            variant: self.variant.map(str::to_owned),
            reason: self.reason,
            error: self.error,
            metadata: self.metadata.iter().map(|(name, value)| (name.to_owned(), value.to_scalar())).collect(),
        }
    }

    const fn without_value(reason: Reason, metadata: Metadata<'a>) -> Self {
        Self { value: None, variant: None, reason, error: None, metadata }
    }
}

/// Metadata: the flag set's, overlaid by the flag's own.
#[derive(Clone, Copy)]
pub struct Metadata<'a> {
    own: (Words<'a>, u32, u32),
    set: (Words<'a>, u32),
}

impl<'a> Metadata<'a> {
    pub(crate) const NONE: Self = Self { own: (Words(&[]), 0, 0), set: (Words(&[]), 0) };

    /// Its entries: the flag's own in the order written, then those of the set that the flag's do not replace.
    pub fn iter(&self) -> impl Iterator<Item = (&'a str, ScalarRef<'a>)> + use<'a> {
        let (words, start, count) = self.own;
        let (set, set_count) = self.set;
        let own = words.metadata(start, count);
        let replaced = move |name: &str| words.metadata(start, count).any(|(own, _)| own == name);
        own.chain(set.metadata(0, set_count).filter(move |(name, _)| !replaced(name)))
    }

    /// The entry called `name`.
    #[must_use]
    pub fn entry(&self, name: &str) -> Option<ScalarRef<'a>> {
        self.iter().find(|(other, _)| *other == name).map(|(_, value)| value)
    }

    /// Whether it has no entry.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }
}

impl fmt::Debug for Metadata<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl fmt::Debug for View<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("View").field("flags", &self.tables.flags.len()).finish_non_exhaustive()
    }
}

impl<'a> View<'a> {
    /// Checks where the tables of `payload` lie. What they hold is checked as it is used.
    pub(crate) fn tables(payload: &'a [u8]) -> Result<&'a ArchivedTables, RkyvError> {
        rkyv::access::<ArchivedTables, RkyvError>(payload)
    }

    /// Over checked tables and the id lists that they name; `None` where the index cannot be one.
    pub(crate) fn new(tables: &'a ArchivedTables, lists: &'a [(u64, IdList<'a>)]) -> Option<Self> {
        let places: &'a [u128_le] = tables.places.as_slice();
        Some(Self {
            arena: tables.arena.as_slice(),
            index: Index::new(places, tables.seed.to_native(), tables.probes.to_native())?,
            tables,
            shared: Shared { arena: tables.arena.as_slice(), sets: tables.shared.as_slice(), lists },
        })
    }

    /// What the index says of `key`.
    #[inline(always)]
    pub(crate) fn find(&self, key: &[u8]) -> Option<Answer> {
        self.index.find(key)
    }

    #[inline(always)]
    pub(crate) const fn index(&self) -> &Index<'a> {
        &self.index
    }

    /// How many flags there are.
    pub(crate) fn len(&self) -> usize {
        self.tables.flags.len()
    }

    /// The islands in the order of their keys.
    pub(crate) fn islands(&self) -> impl ExactSizeIterator<Item = Island<'a>> + use<'a> {
        let (flags, arena) = (self.tables.flags.as_slice(), self.arena);
        flags.iter().map(move |extent| Island::new(part(arena, extent)))
    }

    /// The flag that lies there.
    pub(crate) fn island_at(&self, extent: &ArchivedExtent) -> Island<'a> {
        Island::new(part(self.arena, extent))
    }

    /// Evaluates the flag that `answer` stands for.
    pub(crate) fn evaluate<A: Attributes + ?Sized>(&self, answer: Answer, want: Want, context: &A) -> Evaluation<'a> {
        self.evaluate_island(self.island(answer), want, context)
    }

    /// Evaluates a flag.
    pub(crate) fn evaluate_island<A: Attributes + ?Sized>(
        &self,
        island: Island<'a>,
        want: Want,
        context: &A,
    ) -> Evaluation<'a> {
        let metadata = self.metadata(island);
        let decision = self.decide(island, context);
        let Some(place) = decision.place() else {
            return match decision.error() {
                Some(error) => Evaluation { metadata, ..Evaluation::error(error) },
                None => Evaluation::without_value(decision.reason(), metadata),
            };
        };
        let Some(value) = island.value(place) else {
            return Evaluation { metadata, ..Evaluation::error(ErrorCode::General) };
        };
        let Some(value) = coerce(value, want) else {
            return Evaluation { metadata, ..Evaluation::error(ErrorCode::TypeMismatch) };
        };
        let variant = island.variant_name(place).and_then(|name| std::str::from_utf8(name).ok());
        Evaluation { value: Some(value), variant, reason: decision.reason(), error: None, metadata }
    }

    /// The value alone, for callers that ask for nothing else.
    #[inline]
    pub(crate) fn value<A: Attributes + ?Sized>(
        &self,
        answer: Answer,
        want: Want,
        context: &A,
    ) -> Option<FlagValue<'a>> {
        let island = self.island(answer);
        coerce(island.value(self.decide(island, context).place()?)?, want)
    }

    /// The value of a boolean flag.
    #[inline]
    pub(crate) fn truth<A: Attributes + ?Sized>(&self, answer: Answer, context: &A) -> Option<bool> {
        let island = self.island(answer);
        let decision = self.decide(island, context);
        decision.truth().or_else(|| island.truth(decision.place()?))
    }

    /// A flag's metadata over its set's.
    pub(crate) fn metadata(&self, island: Island<'a>) -> Metadata<'a> {
        let own =
            island.words.words(WORD_METADATA).map_or((Words(&[]), 0, 0), |[start, count]| (island.words, start, count));
        let set = island.words.word(WORD_SET).and_then(|set| self.tables.sets.get(set as usize)).map(|extent| {
            let start = extent.offset.to_native() as usize;
            (Words(self.arena.get(start..).unwrap_or_default()), extent.len.to_native())
        });
        Metadata { own, set: set.unwrap_or((Words(&[]), 0)) }
    }

    fn decide<A: Attributes + ?Sized>(&self, island: Island<'a>, context: &A) -> Decision {
        let Some([head, default, rule]) = island.words.words(0) else { return Decision::nothing(Why::General) };
        if head & (ENABLED | BROKEN) != ENABLED {
            return Decision::nothing(if head & BROKEN != 0 { Why::ParseError } else { Why::Disabled });
        }
        if rule == 0 {
            return Decision { variant: default, why: if default != 0 { Why::Static } else { Why::Default } };
        }
        let mut node = rule;
        if head & STEPS != 0 {
            let first = HEADER_WORDS + VARIANT_WORDS * (head >> 16) as usize;
            let test = |node| self.test(island, head, node, context);
            match steps::walk(island.words, first, context, &self.shared, test) {
                Ok(End::Variant(place)) => {
                    return Decision { variant: place.wrapping_add(1), why: Why::TargetingMatch };
                }
                Ok(End::Default) => return Decision { variant: default, why: Why::Default },
                Ok(End::Node(other)) => node = other,
                Err(_) => return Decision::nothing(Why::General),
            }
        }
        match self.choose(island, head, node as usize, context) {
            Ok(Chosen::Variant(place)) => Decision { variant: place.saturating_add(1), why: Why::TargetingMatch },
            Ok(Chosen::Nothing) => Decision { variant: default, why: Why::Default },
            Err(Fault::NotANumber) => Decision::nothing(Why::ParseError),
            Err(Fault::NoSuchVariant | Fault::Exhausted) => Decision::nothing(Why::General),
        }
    }

    /// What a node of the rule's tree decides.
    #[inline(never)]
    fn choose<A: Attributes + ?Sized>(
        &self,
        island: Island<'a>,
        head: u32,
        node: usize,
        context: &A,
    ) -> Result<Chosen, Fault> {
        if head & BUILDS == 0 {
            Walk::new(island, context, &self.shared, None).choose(node)
        } else {
            self.choose_building(island, node, context)
        }
    }

    /// Of its own, so that only rules that build something pay for the stack it takes.
    #[inline(never)]
    fn choose_building<A: Attributes + ?Sized>(
        &self,
        island: Island<'a>,
        node: usize,
        context: &A,
    ) -> Result<Chosen, Fault> {
        let scratch = Scratch::new();
        Walk::new(island, context, &self.shared, Some(&scratch)).choose(node)
    }

    /// Whether the value of a node of the rule's tree is truthy.
    #[inline(never)]
    fn test<A: Attributes + ?Sized>(
        &self,
        island: Island<'a>,
        head: u32,
        node: usize,
        context: &A,
    ) -> Result<bool, Fault> {
        if head & BUILDS == 0 {
            Walk::new(island, context, &self.shared, None).is_truthy(node)
        } else {
            self.test_building(island, node, context)
        }
    }

    #[inline(never)]
    fn test_building<A: Attributes + ?Sized>(
        &self,
        island: Island<'a>,
        node: usize,
        context: &A,
    ) -> Result<bool, Fault> {
        let scratch = Scratch::new();
        Walk::new(island, context, &self.shared, Some(&scratch)).is_truthy(node)
    }

    pub(crate) const fn shared(&self) -> &Shared<'a> {
        &self.shared
    }

    #[inline]
    pub(crate) fn island(&self, answer: Answer) -> Island<'a> {
        Island::new(self.arena.get(answer.island()..).unwrap_or_default())
    }
}

/// What an evaluation came to, before anybody asks for a value. Two words, so that it is handed over in registers.
#[derive(Clone, Copy)]
struct Decision {
    /// The variant's place + 1; 0 where the caller's default stands. Above it what a step's target says of it.
    variant: u32,
    why: Why,
}

#[derive(Clone, Copy)]
enum Why {
    Static,
    TargetingMatch,
    Default,
    Disabled,
    ParseError,
    General,
}

impl Decision {
    #[inline]
    const fn nothing(why: Why) -> Self {
        Self { variant: 0, why }
    }

    #[inline]
    fn place(self) -> Option<usize> {
        // One more bit than a place: that of the last possible one + 1 is taken for a place there is not.
        ((self.variant & step::PLACE) as usize).checked_sub(1)
    }

    /// The value of a boolean variant, where the step that led to it said it.
    #[inline]
    fn truth(self) -> Option<bool> {
        (self.variant & step::BOOLEAN != 0).then_some(self.variant & step::TRUE != 0)
    }

    const fn reason(self) -> Reason {
        match self.why {
            Why::Static => Reason::Static,
            Why::TargetingMatch => Reason::TargetingMatch,
            Why::Default => Reason::Default,
            Why::Disabled => Reason::Disabled,
            Why::ParseError | Why::General => Reason::Error,
        }
    }

    const fn error(self) -> Option<ErrorCode> {
        match self.why {
            Why::ParseError => Some(ErrorCode::ParseError),
            Why::General => Some(ErrorCode::General),
            _ => None,
        }
    }
}

/// `value` as the type that is wanted, where that loses nothing.
#[inline]
fn coerce(value: FlagValue<'_>, want: Want) -> Option<FlagValue<'_>> {
    match (want, value) {
        (Want::Any, value) => Some(value),
        (Want::Int, FlagValue::Float(number)) => whole(number).map(FlagValue::Int),
        (Want::Bool, FlagValue::Bool(_))
        | (Want::Float, FlagValue::Float(_))
        | (Want::Text, FlagValue::Text(_))
        | (Want::Json, FlagValue::Json(_)) => Some(value),
        _ => None,
    }
}

/// The whole number that `number` is, if it is one and within ±(2^53-1), as the compiler makes sure.
#[inline]
fn whole(number: f64) -> Option<i64> {
    const LIMIT: f64 = 9_007_199_254_740_991.0;
    #[expect(clippy::cast_possible_truncation, reason = "whole and within ±(2^53-1)")]
    (number.fract() == 0.0 && number.abs() <= LIMIT).then_some(number as i64)
}

/// The bytes of an extent; none where it reaches past the arena.
fn part<'a>(arena: &'a [u8], extent: &ArchivedExtent) -> &'a [u8] {
    let start = extent.offset.to_native() as usize;
    arena.get(start..).and_then(|rest| rest.get(..extent.len.to_native() as usize)).unwrap_or_default()
}
