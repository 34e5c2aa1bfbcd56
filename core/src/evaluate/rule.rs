//! The walk over a rule.
//!
//! ```text
//! result(node) = variant | nothing          where the rule's answer is decided: if, fractional, a variant's name
//! test(node)   = true | false               where only truthiness counts: conditions, and, or, not, comparisons
//! value(node)  = any value                  everywhere else
//! ```
//!
//! Each of the three handles the operations it can decide best and leaves the rest to the next, so that
//! `{"if": [{"==": [{"var": "tier"}, "premium"]}, "on"]}` builds no intermediate value at all.
//!
//! The bytes may be anything. A child stands behind its parent, depth and steps are counted, every read is checked: what cannot be
//! read is a [`Fault`], never a panic.

use std::{
    cell::Cell,
    time::{SystemTime, UNIX_EPOCH},
};

use super::{
    bucket::{self, Murmur3},
    context::Attributes,
    number::NumberText,
    operator::{addend, contains, equal, number, ordered, same, strict_equal, substr, truthy, write_text},
    scratch::Scratch,
    semver::{self, Version},
    value::{List, Object, ObjectKind, ObjectSource, Value},
};
use crate::snapshot::{
    island::{Island, Words, literal_at, op, pair},
    set::Set,
    view::Shared,
};

/// How deep the walk may go. The compiler admits 64 levels of JSON, each at most one node deep, two where it adds one.
const MAX_DEPTH: u32 = 160;

/// How many nodes and list elements one evaluation may look at.
const MAX_STEPS: u32 = 1_000_000;

/// Why a rule has no result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The result is NaN or infinite, which JSON cannot say.
    NotANumber,
    /// The result names no variant.
    NoSuchVariant,
    /// More scratch memory, steps or depth than an evaluation may take; or bytes that are no rule.
    Exhausted,
}

/// What a rule decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Chosen {
    /// The variant at this place.
    Variant(u32),
    /// None: the default variant stands.
    Nothing,
}

/// What `var` sees: the context, or inside `map` and its like a value.
type Scope<'e> = Option<Value<'e>>;

/// One evaluation of one rule.
#[derive(Debug)]
pub(crate) struct Walk<'e, A: ?Sized> {
    island: Island<'e>,
    words: Words<'e>,
    whole: WholeContext<'e, A>,
    shared: &'e Shared<'e>,
    scratch: Option<&'e Scratch>,
    steps: Cell<u32>,
}

/// The whole context as an object: what `{"var": ""}` gives.
#[derive(Debug)]
struct WholeContext<'e, A: ?Sized>(&'e A);

impl<A: Attributes + ?Sized> ObjectSource for WholeContext<'_, A> {
    fn member(&self, name: &[u8]) -> Option<Value<'_>> {
        match name {
            b"targetingKey" => self.0.targeting_key(),
            b"$flagd" | b"$lists" => None,
            _ => self.0.attribute(name),
        }
    }
}

impl<'e, A: Attributes + ?Sized> Walk<'e, A> {
    /// Over the rule of `island`; `scratch` may be missing where the island says that the rule builds nothing.
    pub(crate) fn new(
        island: Island<'e>,
        context: &'e A,
        shared: &'e Shared<'e>,
        scratch: Option<&'e Scratch>,
    ) -> Self {
        Self { island, words: island.words, whole: WholeContext(context), shared, scratch, steps: Cell::new(MAX_STEPS) }
    }

    /// What the rule whose first node is `node` decides.
    pub(crate) fn choose(&'e self, node: usize) -> Result<Chosen, Fault> {
        self.result(node, MAX_DEPTH)
    }

    /// Whether the value of the node `node` is truthy.
    pub(crate) fn is_truthy(&'e self, node: usize) -> Result<bool, Fault> {
        self.test(node, None, MAX_DEPTH)
    }

    /// The value of the rule whose first node is `node`, with `scope` as its data.
    pub(crate) fn value_in(&'e self, node: usize, scope: Scope<'e>) -> Result<Value<'e>, Fault> {
        self.value(node, scope, MAX_DEPTH)
    }

    fn result(&'e self, node: usize, depth: u32) -> Result<Chosen, Fault> {
        let depth = self.step(depth)?;
        let (operation, count) = self.head(node)?;
        match operation {
            #[expect(clippy::cast_possible_truncation, reason = "a count has 24 bits")]
            op::VARIANT => Ok(Chosen::Variant(count as u32)),
            op::NULL => Ok(Chosen::Nothing),
            op::IF => {
                let mut at = 0;
                while at + 1 < count {
                    if self.test(self.child(node, at)?, None, depth)? {
                        return self.result(self.child(node, at + 1)?, depth);
                    }
                    at += 2;
                }
                if at < count { self.result(self.child(node, at)?, depth) } else { Ok(Chosen::Nothing) }
            }
            op::FRACTIONAL_VARIANTS => self.fractional_variants(node, count, depth),
            _ => self.chosen_by_value_of(node, depth),
        }
    }

    /// The variant that a node's value names. Out of line, since what it needs of the stack most results don't.
    #[inline(never)]
    fn chosen_by_value_of(&'e self, node: usize, depth: u32) -> Result<Chosen, Fault> {
        self.chosen_by(&self.value(node, None, depth)?)
    }

    /// The variant that a value names.
    fn chosen_by(&self, value: &Value<'e>) -> Result<Chosen, Fault> {
        let mut text = NumberText::new();
        let name = match value {
            Value::Null => return Ok(Chosen::Nothing),
            Value::Text(name) => name,
            Value::Bool(true) => &b"true"[..],
            Value::Bool(false) => &b"false"[..],
            Value::Int(_) | Value::Float(_) => {
                let number = number(value);
                if !number.is_finite() {
                    return Err(Fault::NotANumber);
                }
                text.format(number).as_bytes()
            }
            Value::List(_) | Value::Object(_) => return Err(Fault::NoSuchVariant),
        };
        let place = self.island.variant_called(name).and_then(|place| u32::try_from(place).ok());
        place.map(Chosen::Variant).ok_or(Fault::NoSuchVariant)
    }

    fn test(&'e self, node: usize, scope: Scope<'e>, depth: u32) -> Result<bool, Fault> {
        let depth = self.step(depth)?;
        let (operation, count) = self.head(node)?;
        let pair = || Ok((self.argument(node, 0, scope, depth)?, self.argument(node, 1, scope, depth)?));
        Ok(match operation {
            op::ATTRIBUTE_IS => {
                let [name, name_len, text, text_len] = self.operands(node)?;
                let text = self.bytes(text, text_len)?;
                match self.whole.0.attribute(self.bytes(name, name_len)?) {
                    Some(Value::Text(found)) => same(found, text),
                    Some(other) if count == 0 => equal(&other, &Value::Text(text)),
                    _ => false,
                }
            }
            op::AND => {
                for at in 0..count {
                    if !self.test(self.child(node, at)?, scope, depth)? {
                        return Ok(false);
                    }
                }
                count > 0
            }
            op::OR => {
                for at in 0..count {
                    if self.test(self.child(node, at)?, scope, depth)? {
                        return Ok(true);
                    }
                }
                false
            }
            op::NOT => count == 0 || !self.test(self.child(node, 0)?, scope, depth)?,
            op::TRUTHY => count > 0 && self.test(self.child(node, 0)?, scope, depth)?,
            op::EQUAL => pair().map(|(a, b)| equal(&a, &b))?,
            op::NOT_EQUAL => pair().map(|(a, b)| !equal(&a, &b))?,
            op::STRICT_EQUAL => pair().map(|(a, b)| strict_equal(&a, &b))?,
            op::STRICT_NOT_EQUAL => pair().map(|(a, b)| !strict_equal(&a, &b))?,
            op::LESS => self.ascending(node, count, scope, depth, |a, b| a < b, |a, b| a < b)?,
            op::LESS_OR_EQUAL => self.ascending(node, count, scope, depth, |a, b| a <= b, |a, b| a <= b)?,
            op::GREATER => pair().map(|(a, b)| ordered(&a, &b, |a, b| a > b, |a, b| a > b))?,
            op::GREATER_OR_EQUAL => pair().map(|(a, b)| ordered(&a, &b, |a, b| a >= b, |a, b| a >= b))?,
            op::IN => {
                let (needle, haystack) = pair()?;
                if let Value::List(list) = haystack {
                    self.steps(list.len())?;
                }
                contains(&haystack, &needle)
            }
            op::IN_TEXTS => match self.argument(node, 0, scope, depth)? {
                Value::Text(needle) => is_among(self.words, needle, node + 2, count)?,
                _ => false,
            },
            op::IN_SET => {
                let set = Set::new(self.words, self.operands::<2>(node)?[1]);
                set.contains(&self.argument(node, 0, scope, depth)?)
            }
            op::IN_SHARED => {
                let [_, low, high] = self.operands(node)?;
                let set = self.shared.set(low, high).ok_or(Fault::Exhausted)?;
                set.contains(&self.argument(node, 0, scope, depth)?)
            }
            op::IN_LIST => {
                let [_, low, high] = self.operands(node)?;
                is_listed(self.shared, [low, high], &self.argument(node, 0, scope, depth)?)?
            }
            op::ALL | op::NONE | op::SOME => {
                let list = self.argument(node, 0, scope, depth)?;
                let Value::List(list) = list else { return Ok(operation == op::NONE) };
                let rule = self.child(node, 1)?;
                // `all` looks for an element that fails, the others for one that passes.
                let sought = operation != op::ALL;
                for index in 0..list.len() {
                    let passes = self.passing(|| self.test(rule, list.element(index).or(Some(Value::Null)), depth))?;
                    if passes == sought {
                        return Ok(operation == op::SOME);
                    }
                }
                operation == op::NONE || (operation == op::ALL && !list.is_empty())
            }
            _ => truthy(&self.value_of(operation, count, node, scope, depth)?),
        })
    }

    fn value(&'e self, node: usize, scope: Scope<'e>, depth: u32) -> Result<Value<'e>, Fault> {
        let depth = self.step(depth)?;
        let (operation, count) = self.head(node)?;
        self.value_of(operation, count, node, scope, depth)
    }

    #[expect(clippy::too_many_lines, reason = "one arm an operation reads best in one place")]
    fn value_of(
        &'e self,
        operation: u8,
        count: usize,
        node: usize,
        scope: Scope<'e>,
        depth: u32,
    ) -> Result<Value<'e>, Fault> {
        Ok(match operation {
            op::ATTRIBUTE => {
                let [name, name_len, default] = self.operands(node)?;
                let found = self.whole.0.attribute(self.bytes(name, name_len)?);
                return found.map_or_else(|| self.or_default(node, default, scope, depth), Ok);
            }
            op::TARGETING_KEY => {
                let [default] = self.operands(node)?;
                let found = self.whole.0.targeting_key();
                return found.map_or_else(|| self.or_default(node, default, scope, depth), Ok);
            }
            op::PATH | op::SCOPE_PATH => {
                let [default] = self.operands(node)?;
                let start = if operation == op::PATH { Some(self.whole()) } else { scope };
                let found = self.descend(start, node + 2, count)?;
                return found.map_or_else(|| self.or_default(node, default, scope, depth), Ok);
            }
            op::NULL | op::FALSE | op::TRUE | op::NUMBER | op::TEXT | op::LITERAL_LIST | op::LITERAL_OBJECT => {
                literal_at(&self.words, node).ok_or(Fault::Exhausted)?
            }
            op::VARIANT => Value::Text(self.island.variant_name(count).ok_or(Fault::Exhausted)?),
            op::CONTEXT => self.whole(),
            op::FLAG_KEY => Value::Text(self.island.key().ok_or(Fault::Exhausted)?),
            op::TIMESTAMP => Value::Int(unix_seconds()),
            op::DYNAMIC => return self.dynamic(node, scope, depth),
            op::IF => {
                let mut at = 0;
                while at + 1 < count {
                    if self.test(self.child(node, at)?, scope, depth)? {
                        return self.value(self.child(node, at + 1)?, scope, depth);
                    }
                    at += 2;
                }
                if at < count { self.value(self.child(node, at)?, scope, depth)? } else { Value::Null }
            }
            op::AND | op::OR => {
                let mut last = Value::Null;
                for at in 0..count {
                    last = self.argument(node, at, scope, depth)?;
                    if truthy(&last) == (operation == op::OR) {
                        break;
                    }
                }
                last
            }
            op::ADD => Value::Float(self.fold(node, count, scope, depth, 0.0, |sum, value| sum + addend(value))?),
            op::MULTIPLY => {
                // One argument is read as a number and no more; starting at 1 gives the same.
                Value::Float(self.fold(node, count, scope, depth, 1.0, |product, value| product * addend(value))?)
            }
            op::MAX => Value::Float(
                self.fold(node, count, scope, depth, f64::NEG_INFINITY, |max, value| larger(max, number(value)))?,
            ),
            op::MIN => Value::Float(
                self.fold(node, count, scope, depth, f64::INFINITY, |min, value| -larger(-min, -number(value)))?,
            ),
            op::SUBTRACT => {
                let first = number(&self.argument(node, 0, scope, depth)?);
                if count < 2 {
                    Value::Float(-first)
                } else {
                    Value::Float(first - number(&self.argument(node, 1, scope, depth)?))
                }
            }
            op::DIVIDE | op::REMAINDER => {
                let a = number(&self.argument(node, 0, scope, depth)?);
                let b = number(&self.argument(node, 1, scope, depth)?);
                Value::Float(if operation == op::DIVIDE { a / b } else { a % b })
            }
            op::LIST => Value::List(List::new(self.arguments(node, count, scope, depth)?)),
            op::MAP => return self.map(node, scope, depth),
            op::FILTER => return self.filter(node, scope, depth),
            op::REDUCE => return self.reduce(node, scope, depth),
            op::MERGE => return self.merge(node, count, scope, depth),
            op::CAT => {
                let parts = self.arguments(node, count, scope, depth)?;
                let mut text = self.scratch()?.text();
                for part in parts {
                    write_text(part, &mut text, &self.steps).ok_or(Fault::Exhausted)?;
                }
                Value::Text(text.finish().ok_or(Fault::Exhausted)?)
            }
            op::SUBSTR => {
                let text = self.text_of(&self.argument(node, 0, scope, depth)?)?;
                let start = number(&self.argument(node, 1, scope, depth)?);
                let length = match count {
                    0..3 => None,
                    _ => Some(number(&self.argument(node, 2, scope, depth)?)),
                };
                Value::Text(substr(text, start, length))
            }
            op::MISSING => return self.missing(node, count, scope, depth),
            op::MISSING_SOME => return self.missing_some(node, scope, depth),
            op::FRACTIONAL => return self.fractional(node, count, scope, depth),
            op::FRACTIONAL_VARIANTS => match self.fractional_variants(node, count, depth)? {
                Chosen::Variant(place) => {
                    Value::Text(self.island.variant_name(place as usize).ok_or(Fault::Exhausted)?)
                }
                Chosen::Nothing => Value::Null,
            },
            op::SEM_VER => {
                let (left, operator, right) = (
                    self.argument(node, 0, scope, depth)?,
                    self.argument(node, 1, scope, depth)?,
                    self.argument(node, 2, scope, depth)?,
                );
                compare_versions(&left, &operator, &right).map_or(Value::Null, Value::Bool)
            }
            op::STARTS_WITH | op::ENDS_WITH => {
                match (self.argument(node, 0, scope, depth)?, self.argument(node, 1, scope, depth)?) {
                    (Value::Text(text), Value::Text(part)) if operation == op::STARTS_WITH => {
                        Value::Bool(text.starts_with(part))
                    }
                    (Value::Text(text), Value::Text(part)) => Value::Bool(text.ends_with(part)),
                    _ => Value::Null,
                }
            }
            // Whatever is left is decided by `test`; what that does not know either ends there, one level deeper.
            op::NOT..=op::ATTRIBUTE_IS | op::ALL | op::NONE | op::SOME | op::IN => {
                Value::Bool(self.test(node, scope, depth)?)
            }
            _ => return Err(Fault::Exhausted),
        })
    }

    fn map(&'e self, node: usize, scope: Scope<'e>, depth: u32) -> Result<Value<'e>, Fault> {
        let Value::List(list) = self.argument(node, 0, scope, depth)? else { return Ok(Value::List(List::new(&[]))) };
        let rule = self.child(node, 1)?;
        let mapped = self.scratch()?.values(list.len()).ok_or(Fault::Exhausted)?;
        for (index, place) in mapped.iter_mut().enumerate() {
            *place = self.value(rule, list.element(index).or(Some(Value::Null)), depth)?;
        }
        Ok(Value::List(List::new(mapped)))
    }

    fn filter(&'e self, node: usize, scope: Scope<'e>, depth: u32) -> Result<Value<'e>, Fault> {
        let Value::List(list) = self.argument(node, 0, scope, depth)? else { return Ok(Value::List(List::new(&[]))) };
        let rule = self.child(node, 1)?;
        let kept = self.scratch()?.values(list.len()).ok_or(Fault::Exhausted)?;
        let mut count = 0;
        for index in 0..list.len() {
            let element = list.element(index).unwrap_or_default();
            if self.passing(|| self.test(rule, Some(element), depth))?
                && let Some(place) = kept.get_mut(count)
            {
                *place = element;
                count += 1;
            }
        }
        Ok(Value::List(List::new(kept.get(..count).unwrap_or_default())))
    }

    fn reduce(&'e self, node: usize, scope: Scope<'e>, depth: u32) -> Result<Value<'e>, Fault> {
        let list = self.argument(node, 0, scope, depth)?;
        let mut accumulator = self.argument(node, 2, scope, depth)?;
        let Value::List(list) = list else { return Ok(accumulator) };
        let rule = self.child(node, 1)?;
        let scratch = self.scratch()?;
        for index in 0..list.len() {
            let mark = scratch.mark();
            let step: &'e mut [Value<'e>] = scratch.values(2).ok_or(Fault::Exhausted)?;
            let Some((step, _)) = step.split_first_chunk_mut::<2>() else { return Err(Fault::Exhausted) };
            *step = [list.element(index).unwrap_or_default(), accumulator];
            accumulator = self.value(rule, Some(Value::Object(Object(ObjectKind::Step(step)))), depth)?;
            if is_scalar(&accumulator) {
                // SAFETY: everything built since `mark` was for this step, and what the step gave points at none of it.
                unsafe { scratch.rewind(mark) };
            }
        }
        Ok(accumulator)
    }

    fn merge(&'e self, node: usize, count: usize, scope: Scope<'e>, depth: u32) -> Result<Value<'e>, Fault> {
        let parts = self.arguments(node, count, scope, depth)?;
        let mut len: usize = 0;
        for part in &*parts {
            let more = if let Value::List(list) = part { list.len() } else { 1 };
            len = len.checked_add(more).ok_or(Fault::Exhausted)?;
        }
        let merged = self.scratch()?.values(len).ok_or(Fault::Exhausted)?;
        let mut places = merged.iter_mut();
        for part in parts {
            match part {
                Value::List(list) => {
                    for (index, place) in places.by_ref().take(list.len()).enumerate() {
                        *place = list.element(index).unwrap_or_default();
                    }
                }
                other => {
                    if let Some(place) = places.next() {
                        *place = *other;
                    }
                }
            }
        }
        Ok(Value::List(List::new(merged)))
    }

    fn missing(&'e self, node: usize, count: usize, scope: Scope<'e>, depth: u32) -> Result<Value<'e>, Fault> {
        let arguments = self.arguments(node, count, scope, depth)?;
        let names = match &*arguments {
            [Value::List(list), ..] => *list,
            arguments => List::new(arguments),
        };
        self.missing_of(names, scope)
    }

    fn missing_some(&'e self, node: usize, scope: Scope<'e>, depth: u32) -> Result<Value<'e>, Fault> {
        let enough = number(&self.argument(node, 0, scope, depth)?);
        let names = match self.argument(node, 1, scope, depth)? {
            Value::List(list) => list,
            other => {
                let only = self.scratch()?.values(1).ok_or(Fault::Exhausted)?;
                only.fill(other);
                List::new(only)
            }
        };
        let missing = self.missing_of(names, scope)?;
        let Value::List(list) = missing else { return Ok(missing) };
        #[expect(clippy::cast_precision_loss, reason = "scratch memory holds far fewer than 2^53 names")]
        let present = (names.len() - list.len().min(names.len())) as f64;
        Ok(if present >= enough { Value::List(List::new(&[])) } else { missing })
    }

    /// Those of `names` whose value is null, absent or empty.
    fn missing_of(&'e self, names: List<'e>, scope: Scope<'e>) -> Result<Value<'e>, Fault> {
        let found = self.scratch()?.values(names.len()).ok_or(Fault::Exhausted)?;
        let mut count = 0;
        for index in 0..names.len() {
            let name = names.element(index).unwrap_or_default();
            let value = self.lookup(&name, scope)?;
            let present = !matches!(value, None | Some(Value::Null | Value::Text(b"")));
            if !present && let Some(place) = found.get_mut(count) {
                *place = name;
                count += 1;
            }
        }
        Ok(Value::List(List::new(found.get(..count).unwrap_or_default())))
    }

    /// `fractional` whose buckets or weights are computed.
    fn fractional(&'e self, node: usize, count: usize, scope: Scope<'e>, depth: u32) -> Result<Value<'e>, Fault> {
        let arguments: &'e [Value<'e>] = self.arguments(node, count, scope, depth)?;
        let (hash, buckets) = match arguments {
            [Value::Text(key), buckets @ ..] => {
                let mut hash = Murmur3::new();
                hash.write(key);
                (Some(hash), buckets)
            }
            [Value::Null, buckets @ ..] | buckets => (self.implicit_hash(), buckets),
        };
        let Some(hash) = hash else { return Ok(Value::Null) };
        let mut total: u32 = 0;
        for bucket in buckets {
            let Some((_, weight)) = bucket_of(bucket) else { return Ok(Value::Null) };
            // Neither is above 2^31-1, so the sum does not overflow.
            total += weight;
            if total > bucket::MAX_WEIGHT {
                return Ok(Value::Null);
            }
        }
        let place = bucket::place(hash.finish(), total);
        let mut sum = 0;
        for (variant, weight) in buckets.iter().filter_map(bucket_of) {
            sum += weight;
            if sum > place {
                return Ok(variant);
            }
        }
        Ok(Value::Null)
    }

    /// `fractional` whose buckets name variants with weights that the compiler has summed.
    #[inline]
    fn fractional_variants(&'e self, node: usize, count: usize, depth: u32) -> Result<Chosen, Fault> {
        let [key, total] = self.operands(node)?;
        if key != 0 {
            return self.fractional_by_key(node, count, total, depth);
        }
        self.implicit_hash().map_or(Ok(Chosen::Nothing), |hash| bucketed(self.words, node, hash))
    }

    /// The same with a key of its own.
    #[inline(never)]
    fn fractional_by_key(&'e self, node: usize, count: usize, total: u32, depth: u32) -> Result<Chosen, Fault> {
        let mut first = None;
        let Some(hash) = self.key_hash(self.child(node, 0)?, depth, &mut first)? else { return Ok(Chosen::Nothing) };
        // A key that is no text stands where a bucket would, and in front of the others it is one if it has a bucket's form.
        let (mut before, mut in_front) = (0, Value::Null);
        if let Some(first) = first {
            let Some((variant, weight)) = bucket_of(&first) else { return Ok(Chosen::Nothing) };
            (before, in_front) = (weight, variant);
        }
        let Some(total) = total.checked_add(before).filter(|total| *total <= bucket::MAX_WEIGHT) else {
            return Ok(Chosen::Nothing);
        };
        let place = bucket::place(hash.finish(), total);
        match place.checked_sub(before) {
            Some(place) => variant_at(self.words, place, node, count),
            None => self.chosen_by(&in_front),
        }
    }

    /// The hash of the key that the rule at `node` gives. `cat` is hashed piece by piece and never built. What is neither text nor null is
    /// put into `first`, and the implicit key is used.
    fn key_hash(&'e self, node: usize, depth: u32, first: &mut Option<Value<'e>>) -> Result<Option<Murmur3>, Fault> {
        let (operation, count) = self.head(node)?;
        let mut hash = Murmur3::new();
        if operation == op::CAT {
            for at in 0..count {
                let part = self.argument(node, at, None, depth)?;
                write_text(&part, &mut hash, &self.steps).ok_or(Fault::Exhausted)?;
            }
            return Ok(Some(hash));
        }
        match self.value(node, None, depth)? {
            Value::Text(key) => {
                hash.write(key);
                return Ok(Some(hash));
            }
            Value::Null => {}
            other => *first = Some(other),
        }
        Ok(self.implicit_hash())
    }

    /// The hash of flag key and targeting key; `None` without a targeting key.
    fn implicit_hash(&self) -> Option<Murmur3> {
        implicit_hash(self.island, self.whole.0)
    }

    /// `var` whose path is computed.
    fn dynamic(&'e self, node: usize, scope: Scope<'e>, depth: u32) -> Result<Value<'e>, Fault> {
        let [_, default] = self.operands(node)?;
        let path = self.argument(node, 0, scope, depth)?;
        match self.lookup(&path, scope)? {
            Some(found) => Ok(found),
            None => self.or_default(node, default, scope, depth),
        }
    }

    /// The value at a path that is known only now; `None` where there is none.
    #[inline(never)]
    fn lookup(&'e self, path: &Value<'e>, scope: Scope<'e>) -> Result<Option<Value<'e>>, Fault> {
        let path = self.text_of(path)?;
        let segments = || path.split(|&byte| byte == b'.').filter(|segment| !segment.is_empty());
        if scope.is_none() {
            let is = |names: &[&str]| segments().eq(names.iter().map(|name| name.as_bytes()));
            if is(&["targetingKey"]) {
                return Ok(self.whole.0.targeting_key());
            }
            if is(&["$flagd", "flagKey"]) {
                return Ok(self.island.key().map(Value::Text));
            }
            if is(&["$flagd", "timestamp"]) {
                return Ok(Some(Value::Int(unix_seconds())));
            }
        }
        let mut at = Some(scope.unwrap_or_else(|| self.whole()));
        for segment in segments() {
            at = at.and_then(|value| member(&value, segment));
        }
        Ok(at)
    }

    /// The value that `count` segments, whose texts the words from `segments` on name, lead to.
    fn descend(&self, start: Option<Value<'e>>, segments: usize, count: usize) -> Result<Option<Value<'e>>, Fault> {
        let mut at = start;
        for index in 0..count {
            let [offset, len] = self.words.words(segments + 2 * index).ok_or(Fault::Exhausted)?;
            let segment = self.bytes(offset, len)?;
            match at.and_then(|value| member(&value, segment)) {
                Some(value) => at = Some(value),
                None => return Ok(None),
            }
        }
        Ok(at)
    }

    fn whole(&'e self) -> Value<'e> {
        Value::Object(Object(ObjectKind::Foreign(&self.whole)))
    }

    fn or_default(&'e self, node: usize, default: u32, scope: Scope<'e>, depth: u32) -> Result<Value<'e>, Fault> {
        match default as usize {
            0 => Ok(Value::Null),
            default if default > node => self.value(default, scope, depth),
            _ => Err(Fault::Exhausted),
        }
    }

    /// A value's text as `cat` sees it.
    #[inline(never)]
    fn text_of(&'e self, value: &Value<'e>) -> Result<&'e [u8], Fault> {
        if let Value::Text(text) = value {
            return Ok(text);
        }
        let mut text = self.scratch()?.text();
        write_text(value, &mut text, &self.steps).ok_or(Fault::Exhausted)?;
        text.finish().ok_or(Fault::Exhausted)
    }

    /// `<` and `<=`: the middle of three stands between the others.
    fn ascending(
        &'e self,
        node: usize,
        count: usize,
        scope: Scope<'e>,
        depth: u32,
        texts: fn(&[u8], &[u8]) -> bool,
        numbers: fn(f64, f64) -> bool,
    ) -> Result<bool, Fault> {
        let (a, b) = (self.argument(node, 0, scope, depth)?, self.argument(node, 1, scope, depth)?);
        let first = ordered(&a, &b, texts, numbers);
        if !first || count < 3 {
            return Ok(first);
        }
        Ok(ordered(&b, &self.argument(node, 2, scope, depth)?, texts, numbers))
    }

    fn fold(
        &'e self,
        node: usize,
        count: usize,
        scope: Scope<'e>,
        depth: u32,
        start: f64,
        with: impl Fn(f64, &Value<'e>) -> f64,
    ) -> Result<f64, Fault> {
        let mut folded = start;
        for at in 0..count {
            folded = with(folded, &self.argument(node, at, scope, depth)?);
        }
        Ok(folded)
    }

    /// Runs a test and takes back the scratch memory it used.
    fn passing(&'e self, test: impl FnOnce() -> Result<bool, Fault>) -> Result<bool, Fault> {
        let Some(scratch) = self.scratch else { return test() };
        let mark = scratch.mark();
        let passes = test()?;
        // SAFETY: all that was built since `mark` was for this test, and a boolean points at none of it.
        unsafe { scratch.rewind(mark) };
        Ok(passes)
    }

    /// The arguments, evaluated, in scratch memory.
    fn arguments(
        &'e self,
        node: usize,
        count: usize,
        scope: Scope<'e>,
        depth: u32,
    ) -> Result<&'e mut [Value<'e>], Fault> {
        let values = self.scratch()?.values(count).ok_or(Fault::Exhausted)?;
        for (at, place) in values.iter_mut().enumerate() {
            *place = self.argument(node, at, scope, depth)?;
        }
        Ok(values)
    }

    #[inline]
    fn argument(&'e self, node: usize, at: usize, scope: Scope<'e>, depth: u32) -> Result<Value<'e>, Fault> {
        self.value(self.child(node, at)?, scope, depth)
    }

    /// The node of the child at `at`; it stands behind its parent.
    #[inline]
    fn child(&self, node: usize, at: usize) -> Result<usize, Fault> {
        let child = self.words.word(node + 1 + at).ok_or(Fault::Exhausted)? as usize;
        if child > node { Ok(child) } else { Err(Fault::Exhausted) }
    }

    #[inline]
    fn operands<const N: usize>(&self, node: usize) -> Result<[u32; N], Fault> {
        self.words.words(node + 1).ok_or(Fault::Exhausted)
    }

    #[inline]
    fn bytes(&self, offset: u32, len: u32) -> Result<&'e [u8], Fault> {
        self.words.bytes(offset, len).ok_or(Fault::Exhausted)
    }

    /// A node's operation and count.
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "the low 8 bits are wanted")]
    fn head(&self, node: usize) -> Result<(u8, usize), Fault> {
        let head = self.words.word(node).ok_or(Fault::Exhausted)?;
        Ok((head as u8, (head >> 8) as usize))
    }

    #[inline]
    fn step(&self, depth: u32) -> Result<u32, Fault> {
        self.steps.set(self.steps.get().checked_sub(1).ok_or(Fault::Exhausted)?);
        depth.checked_sub(1).ok_or(Fault::Exhausted)
    }

    /// Counts the elements of a list that is gone through in one go.
    fn steps(&self, count: usize) -> Result<(), Fault> {
        let count = u32::try_from(count).map_err(|_| Fault::Exhausted)?;
        self.steps.set(self.steps.get().checked_sub(count).ok_or(Fault::Exhausted)?);
        Ok(())
    }

    #[inline]
    fn scratch(&self) -> Result<&'e Scratch, Fault> {
        self.scratch.ok_or(Fault::Exhausted)
    }
}

/// Whether `needle` is one of the `count` texts that the words from `texts` on point at.
#[inline]
pub(crate) fn is_among(words: Words<'_>, needle: &[u8], texts: usize, count: usize) -> Result<bool, Fault> {
    for index in 0..count {
        let [offset, len] = words.words(texts + 2 * index).ok_or(Fault::Exhausted)?;
        if same(words.bytes(offset, len).ok_or(Fault::Exhausted)?, needle) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether `id` is in the id list of that name (low, high): a text, or a number as text.
#[inline]
pub(crate) fn is_listed(shared: &Shared<'_>, [low, high]: [u32; 2], id: &Value<'_>) -> Result<bool, Fault> {
    let mut text = NumberText::new();
    let id = match id {
        Value::Text(id) => id,
        Value::Int(_) | Value::Float(_) => text.format(number(id)).as_bytes(),
        _ => return Ok(false),
    };
    Ok(shared.list(low, high).ok_or(Fault::Exhausted)?.contains(id))
}

/// The variant that a key's hash chooses among the buckets of the `FRACTIONAL_VARIANTS` at `node`, for a key that is none of its arguments.
#[inline]
pub(crate) fn bucketed(words: Words<'_>, node: usize, hash: Murmur3) -> Result<Chosen, Fault> {
    let [head, _, total] = words.words(node).ok_or(Fault::Exhausted)?;
    if total > bucket::MAX_WEIGHT {
        return Ok(Chosen::Nothing);
    }
    variant_at(words, bucket::place(hash.finish(), total), node, (head >> 8) as usize)
}

/// The variant of the first of `count` buckets whose running sum is beyond `place`.
#[inline]
fn variant_at(words: Words<'_>, place: u32, node: usize, count: usize) -> Result<Chosen, Fault> {
    let buckets = words.pairs(node + 3, count).ok_or(Fault::Exhausted)?;
    // Where a key falls cannot be foretold, so few buckets are counted without a branch for each.
    let chosen = if count <= FEW_BUCKETS {
        buckets.iter().map(|bucket| usize::from(pair(bucket)[0] <= place)).sum()
    } else {
        buckets.partition_point(|bucket| pair(bucket)[0] <= place)
    };
    let variant = buckets.get(chosen).map_or(0, |bucket| pair(bucket)[1]);
    Ok(variant.checked_sub(1).map_or(Chosen::Nothing, Chosen::Variant))
}

/// Up to how many buckets are looked at one by one.
const FEW_BUCKETS: usize = 8;

/// The hash of flag key and targeting key; `None` without a targeting key.
fn implicit_hash<A: Attributes + ?Sized>(island: Island<'_>, context: &A) -> Option<Murmur3> {
    let Some(Value::Text(targeting_key @ [_, ..])) = context.targeting_key() else { return None };
    let mut hash = Murmur3::new();
    hash.write(island.key()?);
    hash.write(targeting_key);
    Some(hash)
}

/// A member of an object by name, or an element of a list by index.
fn member<'e>(value: &Value<'e>, segment: &[u8]) -> Option<Value<'e>> {
    match value {
        Value::Object(object) => object.member(segment),
        Value::List(list) => {
            let index = std::str::from_utf8(segment).ok().filter(|_| segment.iter().all(u8::is_ascii_digit))?;
            list.element(index.parse().ok()?)
        }
        _ => None,
    }
}

/// A bucket's variant and weight; `None` where the value is no bucket.
pub(crate) fn bucket_of<'e>(bucket: &Value<'e>) -> Option<(Value<'e>, u32)> {
    let Value::List(list) = bucket else { return None };
    let variant = list.element(0).filter(|variant| !matches!(variant, Value::List(_) | Value::Object(_)))?;
    let weight = match list.element(1) {
        None | Some(Value::Null) => 1,
        Some(value @ (Value::Int(_) | Value::Float(_))) => bucket::weight(number(&value))?,
        Some(_) => return None,
    };
    Some((variant, weight))
}

/// `sem_ver`. Out of line, so that what it needs is on the stack only meanwhile and not at each level of a rule.
#[inline(never)]
fn compare_versions(left: &Value<'_>, operator: &Value<'_>, right: &Value<'_>) -> Option<bool> {
    let Value::Text(operator) = operator else { return None };
    let (mut left_text, mut right_text) = (NumberText::new(), NumberText::new());
    semver::compare(&version(left, &mut left_text)?, operator, &version(right, &mut right_text)?)
}

/// A `sem_ver` operand: text, or a number that Go's `%v` prints without an exponent.
fn version<'e>(value: &Value<'e>, text: &'e mut NumberText) -> Option<Version<'e>> {
    match value {
        Value::Text(text) => Version::parse(text),
        Value::Int(_) | Value::Float(_) => {
            let number = number(value);
            // Go prints -0 as "-0", which is no version.
            let plain = number.to_bits() == 0 || (1e-4..1e6).contains(&number.abs());
            Version::parse(plain.then(|| text.format(number))?.as_bytes())
        }
        _ => None,
    }
}

/// `Math.max` of two: NaN if either is.
fn larger(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() { f64::NAN } else { a.max(b) }
}

/// Whether a value points at nothing.
fn is_scalar(value: &Value<'_>) -> bool {
    matches!(value, Value::Null | Value::Bool(_) | Value::Int(_) | Value::Float(_))
}

/// Now, in whole seconds since 1970. Read through the vDSO, so without a system call.
fn unix_seconds() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
