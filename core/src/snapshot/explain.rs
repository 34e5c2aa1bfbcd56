//! Why a flag has the value it has: its compiled rule turned back into JsonLogic, with what each part of it came to.
//!
//! For people and tools, not for the hot path: every part is evaluated again by the same engine that evaluates the flag, and everything is
//! copied. Reads as carefully as an evaluation does: any bytes give an explanation, `None`, or one that is cut short, never a fault.
//!
//! The text is the rule's meaning, not its spelling: references are resolved, constants folded, `log` is gone, a literal list that was long is
//! sorted and without repetitions.

use std::fmt::Write as _;

use super::{
    Snapshot, SnapshotFlag,
    island::{Island, WORD_RULE, Words, op},
    view::Shared,
};
use crate::evaluate::{
    Attributes, Value,
    bucket::{self, Murmur3},
    number::NumberText,
    operator::truthy,
    rule::{Fault, Walk, bucket_of},
    scratch::Scratch,
};

/// How deep a rule is followed; the compiler admits less.
const MAX_DEPTH: u32 = 160;
/// How many nodes are turned into text for one rule or explanation.
const MAX_NODES: u32 = 4_000_000;
/// How long the text of a rule may be.
const MAX_TEXT_BYTES: usize = 64 << 20;
/// How many parts of a rule are evaluated for one explanation.
const MAX_PARTS: u32 = 10_000;
/// How much of a value is shown.
const MAX_SHOWN_ELEMENTS: usize = 256;

/// A part of a rule and what became of it in one evaluation.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Part {
    /// What it is to the part it stands in.
    pub role: Role,
    /// Where it stands in the whole rule as [`Snapshot::targeting`] writes it: a JSON pointer, "" for all of it.
    pub pointer: String,
    /// Its JsonLogic.
    pub rule: String,
    /// What it came to.
    pub outcome: Outcome,
    /// Of a `fractional`: how it chose.
    pub bucketing: Option<Bucketing>,
    /// The parts in it that tell something: literals are left out, and so are rules that run once an element.
    pub parts: Vec<Part>,
}

/// What a part of a rule is to the part it stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The whole rule.
    Targeting,
    /// A condition of an `if`.
    Condition,
    /// What an `if` gives where the condition before it holds.
    Then,
    /// What an `if` gives where no condition holds.
    Else,
    /// An argument of any other operator.
    Argument,
}

impl Role {
    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Targeting => "targeting",
            Self::Condition => "condition",
            Self::Then => "then",
            Self::Else => "else",
            Self::Argument => "argument",
        }
    }
}

/// What a part of a rule came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A value.
    Value {
        /// As JSON text; `NaN`, `Infinity` and `-Infinity` as such, an object of the context as `{…}`.
        json: String,
        /// Whether it counts as true.
        truthy: bool,
    },
    /// It was decided without it.
    Skipped,
    /// It has no value.
    Failed(&'static str),
}

/// How a `fractional` chose.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Bucketing {
    /// What was hashed; `None` where there is neither a key nor a targeting key, so that nothing is chosen.
    pub key: Option<String>,
    /// MurmurHash3 x86 32 of the key.
    pub hash: u32,
    /// The sum of the weights.
    pub total: u32,
    /// Where the hash falls: 0 ≤ place < total.
    pub place: u32,
    /// The buckets: variant as JSON text, and the first place behind it.
    pub buckets: Vec<(String, u32)>,
}

impl Bucketing {
    /// Which bucket was chosen; `None` where none was.
    #[must_use]
    pub fn chosen(&self) -> Option<usize> {
        self.key.as_ref()?;
        self.buckets.iter().position(|(_, end)| *end > self.place)
    }
}

impl Snapshot {
    /// The flag called `key`; `None` where there is none. Of several flag sets' flags with one key: the one that is evaluated without
    /// a selector.
    #[must_use]
    pub fn flag(&self, key: &[u8]) -> Option<SnapshotFlag<'_>> {
        let island = self.view().island(self.find(key)?);
        self.flags().find(|flag| flag.island_is(island))
    }

    /// A flag's targeting as JsonLogic text; `None` where it has none, or its bytes are no rule.
    #[must_use]
    pub fn targeting(&self, flag: &SnapshotFlag<'_>) -> Option<String> {
        let reader = RuleText::new(self, flag.island());
        let mut text = String::new();
        reader.write(rule_of(flag.island())?, &mut text, MAX_DEPTH)?;
        Some(text)
    }

    /// What each part of a flag's targeting comes to for `context`; `None` where it has none, or its bytes are no rule.
    #[must_use]
    pub fn explain<A: Attributes + ?Sized>(&self, flag: &SnapshotFlag<'_>, context: &A) -> Option<Part> {
        let island = flag.island();
        let text = RuleText::new(self, island);
        let left = std::cell::Cell::new(MAX_PARTS);
        let explainer = Explainer { island, text, context, shared: self.view().shared(), left: &left };
        explainer.part(rule_of(island)?, Role::Targeting, String::new(), true, MAX_DEPTH)
    }
}

fn rule_of(island: Island<'_>) -> Option<usize> {
    island.words.word(WORD_RULE).map(|word| word as usize).filter(|&word| word != 0)
}

/// A node's operation and count.
#[expect(clippy::cast_possible_truncation, reason = "the low 8 bits are wanted")]
fn head(words: Words<'_>, node: usize) -> Option<(u8, usize)> {
    let head = words.word(node)?;
    // A count beyond the bytes there are ends with them.
    Some((head as u8, ((head >> 8) as usize).min(words.0.len() / 4)))
}

/// Turns nodes into text.
struct RuleText<'s> {
    snapshot: &'s Snapshot,
    island: Island<'s>,
    words: Words<'s>,
    left: std::cell::Cell<u32>,
}

impl<'s> RuleText<'s> {
    fn new(snapshot: &'s Snapshot, island: Island<'s>) -> Self {
        Self { snapshot, island, words: island.words, left: std::cell::Cell::new(MAX_NODES) }
    }

    /// Appends the JsonLogic of the node at `node`.
    fn write(&self, node: usize, text: &mut String, depth: u32) -> Option<()> {
        let depth = depth.checked_sub(1).filter(|_| text.len() < MAX_TEXT_BYTES)?;
        self.left.set(self.left.get().checked_sub(1)?);
        let (operation, count) = head(self.words, node)?;
        match operation {
            op::NULL => text.push_str("null"),
            op::FALSE => text.push_str("false"),
            op::TRUE => text.push_str("true"),
            op::NUMBER => {
                let [low, high] = self.words.words(node + 1)?;
                let number = super::island::double(low, high);
                // Which JavaScript prints without its sign, and which divides into another infinity.
                text.push_str(if number == 0.0 && number.is_sign_negative() { "-" } else { "" });
                text.push_str(NumberText::new().format(number));
            }
            op::TEXT => self.quoted(node + 1, text)?,
            op::VARIANT => quote(self.island.variant_name(count)?, text)?,
            op::LITERAL_LIST | op::LIST => self.list(node, 0..count, text, depth)?,
            op::LITERAL_OBJECT => {
                text.push('{');
                for at in 0..count {
                    comma(at, text);
                    let entry = node + 1 + 3 * at;
                    self.quoted(entry, text)?;
                    text.push_str(": ");
                    self.child(node, self.words.word(entry + 2)?, text, depth)?;
                }
                text.push('}');
            }
            op::ATTRIBUTE => {
                let [offset, len, default] = self.words.words(node + 1)?;
                self.var(node, &String::from_utf8_lossy(self.words.bytes(offset, len)?), default, text, depth)?;
            }
            op::PATH | op::SCOPE_PATH => {
                let mut path = String::new();
                for at in 0..count {
                    let [offset, len] = self.words.words(node + 2 + 2 * at)?;
                    path.push_str(if at == 0 { "" } else { "." });
                    path.push_str(&String::from_utf8_lossy(self.words.bytes(offset, len)?));
                }
                self.var(node, &path, self.words.word(node + 1)?, text, depth)?;
            }
            op::CONTEXT => self.var(node, "", 0, text, depth)?,
            op::TARGETING_KEY => self.var(node, "targetingKey", self.words.word(node + 1)?, text, depth)?,
            op::FLAG_KEY => self.var(node, "$flagd.flagKey", 0, text, depth)?,
            op::TIMESTAMP => self.var(node, "$flagd.timestamp", 0, text, depth)?,
            op::DYNAMIC => {
                let [path, default] = self.words.words(node + 1)?;
                text.push_str("{\"var\": [");
                self.child(node, path, text, depth)?;
                if default != 0 {
                    text.push_str(", ");
                    self.child(node, default, text, depth)?;
                }
                text.push_str("]}");
            }
            op::ATTRIBUTE_IS => self.attribute_is(node, if count == 0 { "==" } else { "===" }, text)?,
            op::NOT => match self.negated(node, count) {
                Some((child, operator)) => self.attribute_is(child, operator, text)?,
                None => self.call("!", node, 0..count, text, depth)?,
            },
            op::IN_TEXTS | op::IN_SET | op::IN_SHARED | op::IN_LIST => {
                text.push_str("{\"in\": [");
                self.child(node, self.words.word(node + 1)?, text, depth)?;
                text.push_str(", ");
                self.haystack(operation, count, node, text)?;
                text.push_str("]}");
            }
            op::FRACTIONAL_VARIANTS => {
                text.push_str("{\"fractional\": [");
                let key = self.words.word(node + 1)?;
                if key != 0 {
                    self.child(node, key, text, depth)?;
                }
                for (at, (variant, weight)) in self.buckets(node, count)?.into_iter().enumerate() {
                    comma(at + usize::from(key != 0), text);
                    write!(text, "[{variant}, {weight}]").ok()?;
                }
                text.push_str("]}");
            }
            _ => self.call(operator_name(operation)?, node, 0..count, text, depth)?,
        }
        Some(())
    }

    fn call(
        &self,
        operator: &str,
        node: usize,
        arguments: std::ops::Range<usize>,
        text: &mut String,
        depth: u32,
    ) -> Option<()> {
        write!(text, "{{\"{operator}\": ").ok()?;
        self.list(node, arguments, text, depth)?;
        text.push('}');
        Some(())
    }

    fn list(&self, node: usize, elements: std::ops::Range<usize>, text: &mut String, depth: u32) -> Option<()> {
        text.push('[');
        for at in elements {
            comma(at, text);
            self.child(node, self.words.word(node + 1 + at)?, text, depth)?;
        }
        text.push(']');
        Some(())
    }

    /// What the word `child` points at; it stands behind its parent.
    fn child(&self, node: usize, child: u32, text: &mut String, depth: u32) -> Option<()> {
        if child as usize > node { self.write(child as usize, text, depth) } else { None }
    }

    fn var(&self, node: usize, path: &str, default: u32, text: &mut String, depth: u32) -> Option<()> {
        text.push_str(if default == 0 { "{\"var\": " } else { "{\"var\": [" });
        quote(path.as_bytes(), text)?;
        if default != 0 {
            text.push_str(", ");
            self.child(node, default, text, depth)?;
            text.push(']');
        }
        text.push('}');
        Some(())
    }

    fn attribute_is(&self, node: usize, operator: &str, text: &mut String) -> Option<()> {
        write!(text, "{{\"{operator}\": [{{\"var\": ").ok()?;
        self.quoted(node + 1, text)?;
        text.push_str("}, ");
        self.quoted(node + 3, text)?;
        text.push_str("]}");
        Some(())
    }

    /// Of a `not` that the compiler made of a `!=`: the comparison in it, and its operator.
    fn negated(&self, node: usize, count: usize) -> Option<(usize, &'static str)> {
        let child = self.words.word(node + 1).filter(|_| count == 1)? as usize;
        match head(self.words, child).filter(|_| child > node)? {
            (op::ATTRIBUTE_IS, 0) => Some((child, "!=")),
            (op::ATTRIBUTE_IS, _) => Some((child, "!==")),
            _ => None,
        }
    }

    /// The right side of an `in` that the compiler turned into something faster.
    fn haystack(&self, operation: u8, count: usize, node: usize, text: &mut String) -> Option<()> {
        if operation == op::IN_LIST {
            let [low, high] = self.words.words(node + 2)?;
            let name = u64::from(low) | u64::from(high) << 32;
            let label = self.snapshot.lists().find(|(other, ..)| *other == name).map(|(_, label, _)| label);
            let label = format!("$lists.{}", label.map_or_else(|| format!("{name:016x}"), str::to_owned));
            return self.var(node, &label, 0, text, 1);
        }
        let mut members = Vec::new();
        if operation == op::IN_TEXTS {
            for at in 0..count {
                let mut member = String::new();
                self.quoted(node + 2 + 2 * at, &mut member)?;
                members.push(member);
            }
        } else {
            let set = if operation == op::IN_SET {
                super::set::Set::new(self.words, self.words.word(node + 2)?)
            } else {
                let [low, high] = self.words.words(node + 2)?;
                self.snapshot.view().shared().set(low, high)?
            };
            for value in set.members() {
                let mut member = String::new();
                write_value(&value, &mut member, 1);
                members.push(member);
            }
            members.sort_unstable();
        }
        self.left.set(self.left.get().checked_sub(u32::try_from(members.len()).ok()?)?);
        write!(text, "[{}]", members.join(", ")).ok()
    }

    /// The buckets of a `fractional` that names variants: variant as JSON text, and weight.
    fn buckets(&self, node: usize, count: usize) -> Option<Vec<(String, u32)>> {
        let mut before = 0;
        let bucket = |at| {
            let [sum, variant]: [u32; 2] = self.words.words(node + 3 + 2 * at)?;
            let mut name = String::new();
            match (variant as usize).checked_sub(1) {
                Some(place) => quote(self.island.variant_name(place)?, &mut name)?,
                None => name.push_str("null"),
            }
            let weight = sum.checked_sub(std::mem::replace(&mut before, sum))?;
            Some((name, weight))
        };
        (0..count).map(bucket).collect()
    }

    /// The text whose offset and length are the words at `word`, quoted.
    fn quoted(&self, word: usize, text: &mut String) -> Option<()> {
        let [offset, len] = self.words.words(word)?;
        quote(self.words.bytes(offset, len)?, text)
    }
}

/// What an operation that was compiled as it stands is called.
fn operator_name(operation: u8) -> Option<&'static str> {
    Some(match operation {
        op::IF => "if",
        op::AND => "and",
        op::OR => "or",
        op::TRUTHY => "!!",
        op::EQUAL => "==",
        op::NOT_EQUAL => "!=",
        op::STRICT_EQUAL => "===",
        op::STRICT_NOT_EQUAL => "!==",
        op::LESS => "<",
        op::LESS_OR_EQUAL => "<=",
        op::GREATER => ">",
        op::GREATER_OR_EQUAL => ">=",
        op::ADD => "+",
        op::MULTIPLY => "*",
        op::SUBTRACT => "-",
        op::DIVIDE => "/",
        op::REMAINDER => "%",
        op::MAX => "max",
        op::MIN => "min",
        op::MAP => "map",
        op::FILTER => "filter",
        op::REDUCE => "reduce",
        op::ALL => "all",
        op::NONE => "none",
        op::SOME => "some",
        op::MERGE => "merge",
        op::IN => "in",
        op::CAT => "cat",
        op::SUBSTR => "substr",
        op::MISSING => "missing",
        op::MISSING_SOME => "missing_some",
        op::FRACTIONAL => "fractional",
        op::SEM_VER => "sem_ver",
        op::STARTS_WITH => "starts_with",
        op::ENDS_WITH => "ends_with",
        _ => return None,
    })
}

fn comma(at: usize, text: &mut String) {
    if at > 0 {
        text.push_str(", ");
    }
}

fn quote(bytes: &[u8], text: &mut String) -> Option<()> {
    text.push_str(&serde_json::to_string(&String::from_utf8_lossy(bytes)).ok()?);
    Some(())
}

fn write_value(value: &Value<'_>, text: &mut String, depth: u32) {
    match value {
        Value::Null => text.push_str("null"),
        Value::Bool(value) => text.push_str(if *value { "true" } else { "false" }),
        Value::Int(number) => text.push_str(&number.to_string()),
        Value::Float(number) => text.push_str(NumberText::new().format(*number)),
        Value::Text(bytes) => {
            // Text always has a JSON form.
            let _ = quote(bytes, text);
        }
        Value::Object(_) => text.push_str("{…}"),
        Value::List(_) if depth == 0 => text.push_str("[…]"),
        Value::List(list) => {
            text.push('[');
            for at in 0..list.len().min(MAX_SHOWN_ELEMENTS) {
                comma(at, text);
                write_value(&list.element(at).unwrap_or_default(), text, depth - 1);
            }
            text.push_str(if list.len() > MAX_SHOWN_ELEMENTS { ", …]" } else { "]" });
        }
    }
}

/// Evaluates part after part.
struct Explainer<'s, 'c, A: ?Sized> {
    island: Island<'s>,
    text: RuleText<'s>,
    context: &'c A,
    shared: &'s Shared<'s>,
    left: &'c std::cell::Cell<u32>,
}

impl<A: Attributes + ?Sized> Explainer<'_, '_, A> {
    /// The part whose node is `node`; `reached` says whether it took part in the decision.
    fn part(&self, node: usize, role: Role, pointer: String, reached: bool, depth: u32) -> Option<Part> {
        let depth = depth.checked_sub(1)?;
        self.left.set(self.left.get().checked_sub(1)?);
        let mut rule = String::new();
        self.text.write(node, &mut rule, MAX_DEPTH)?;
        if !reached {
            let outcome = Outcome::Skipped;
            return Some(Part { role, pointer, rule, outcome, bucketing: None, parts: Vec::new() });
        }
        let outcome = self.outcome(node);
        let (operation, count) = head(self.text.words, node)?;
        let (mut parts, mut bucketing) = (Vec::new(), None);
        match operation {
            op::IF => self.branches(node, count, &pointer, depth, &mut parts)?,
            op::AND | op::OR => {
                let mut reached = true;
                for at in 0..count {
                    let pointer = self.below(&pointer, operation, at);
                    let part = self.part(self.node_at(node, at)?, Role::Argument, pointer, reached, depth)?;
                    reached &=
                        matches!(part.outcome, Outcome::Value { truthy, .. } if truthy == (operation == op::AND));
                    parts.push(part);
                }
            }
            op::ATTRIBUTE_IS => parts.push(self.attribute(node, &pointer, if count == 0 { "==" } else { "===" })?),
            op::NOT if self.text.negated(node, count).is_some() => {
                let (child, operator) = self.text.negated(node, count)?;
                parts.push(self.attribute(child, &pointer, operator)?);
            }
            op::IN_TEXTS | op::IN_SET | op::IN_SHARED | op::IN_LIST => {
                self.argument(node, 0, format!("{pointer}/in/0"), depth, &mut parts)?;
            }
            op::FRACTIONAL_VARIANTS => {
                if self.text.words.word(node + 1)? != 0 {
                    self.argument(node, 0, format!("{pointer}/fractional/0"), depth, &mut parts)?;
                }
                bucketing = self.bucketing_of_variants(node, count);
            }
            // The rules of these run once an element, which is no part of the whole.
            op::MAP | op::FILTER | op::ALL | op::NONE | op::SOME => {
                self.argument(node, 0, self.below(&pointer, operation, 0), depth, &mut parts)?;
            }
            op::REDUCE => {
                for at in [0, 2] {
                    self.argument(node, at, self.below(&pointer, operation, at), depth, &mut parts)?;
                }
            }
            op::LIST => {
                for at in 0..count {
                    self.argument(node, at, format!("{pointer}/{at}"), depth, &mut parts)?;
                }
            }
            _ if operator_name(operation).is_some() || operation == op::NOT => {
                for at in 0..count {
                    self.argument(node, at, self.below(&pointer, operation, at), depth, &mut parts)?;
                }
                if operation == op::FRACTIONAL {
                    bucketing = self.bucketing_of_values(node, count);
                }
            }
            _ => {}
        }
        Some(Part { role, pointer, rule, outcome, bucketing, parts })
    }

    fn branches(&self, node: usize, count: usize, pointer: &str, depth: u32, parts: &mut Vec<Part>) -> Option<()> {
        let (mut reached, mut chosen) = (true, false);
        for at in 0..count {
            let role = match at {
                _ if at % 2 == 1 => Role::Then,
                _ if at + 1 == count => Role::Else,
                _ => Role::Condition,
            };
            let takes_part = if role == Role::Then { chosen } else { reached };
            let part = self.part(self.node_at(node, at)?, role, format!("{pointer}/if/{at}"), takes_part, depth)?;
            if role == Role::Condition {
                chosen = matches!(part.outcome, Outcome::Value { truthy: true, .. });
                // A condition that fails ends the evaluation as one that holds does.
                reached &= matches!(part.outcome, Outcome::Value { truthy: false, .. });
            }
            parts.push(part);
        }
        Some(())
    }

    /// An argument, unless it is a literal.
    fn argument(&self, node: usize, at: usize, pointer: String, depth: u32, parts: &mut Vec<Part>) -> Option<()> {
        let child = self.node_at(node, at)?;
        let (operation, _) = head(self.text.words, child)?;
        if !matches!(operation, op::NULL..=op::LITERAL_OBJECT | op::VARIANT) {
            parts.push(self.part(child, Role::Argument, pointer, true, depth)?);
        }
        Some(())
    }

    /// The attribute that an `ATTRIBUTE_IS` compares, which has no node of its own.
    fn attribute(&self, node: usize, pointer: &str, operator: &str) -> Option<Part> {
        let [offset, len] = self.text.words.words(node + 1)?;
        let name = self.text.words.bytes(offset, len)?;
        let mut rule = "{\"var\": ".to_owned();
        quote(name, &mut rule)?;
        rule.push('}');
        let outcome = outcome_of(Ok(self.context.attribute(name).unwrap_or_default()));
        let pointer = format!("{pointer}/{operator}/0");
        Some(Part { role: Role::Argument, pointer, rule, outcome, bucketing: None, parts: Vec::new() })
    }

    fn outcome(&self, node: usize) -> Outcome {
        let scratch = Scratch::new();
        let walk = Walk::new(self.island, self.context, self.shared, Some(&scratch));
        outcome_of(walk.value_in(node, None))
    }

    fn node_at(&self, node: usize, at: usize) -> Option<usize> {
        self.text.words.word(node + 1 + at).map(|child| child as usize).filter(|&child| child > node)
    }

    fn below(&self, pointer: &str, operation: u8, at: usize) -> String {
        // `/` stands for division: RFC 6901 writes it ~1.
        let operator = operator_name(operation).unwrap_or("!").replace('/', "~1");
        format!("{pointer}/{operator}/{at}")
    }

    fn bucketing_of_variants(&self, node: usize, count: usize) -> Option<Bucketing> {
        let mut buckets = self.text.buckets(node, count)?;
        let mut key = self.implicit_key();
        if self.text.words.word(node + 1)? != 0 {
            let scratch = Scratch::new();
            let walk = Walk::new(self.island, self.context, self.shared, Some(&scratch));
            match walk.value_in(self.node_at(node, 0)?, None).ok()? {
                Value::Text(text) => key = Some(text.to_vec()),
                Value::Null => {}
                // What is neither text nor null stands where a bucket would.
                first => {
                    let (variant, weight) = bucket_of(&first)?;
                    buckets.insert(0, (shown(&variant), weight));
                }
            }
        }
        bucketing(key, &buckets)
    }

    fn bucketing_of_values(&self, node: usize, count: usize) -> Option<Bucketing> {
        let scratch = Scratch::new();
        let walk = Walk::new(self.island, self.context, self.shared, Some(&scratch));
        let (mut key, mut buckets) = (self.implicit_key(), Vec::new());
        for at in 0..count {
            match walk.value_in(self.node_at(node, at)?, None).ok()? {
                Value::Text(text) if at == 0 => key = Some(text.to_vec()),
                Value::Null if at == 0 => {}
                bucket => {
                    let (variant, weight) = bucket_of(&bucket)?;
                    buckets.push((shown(&variant), weight));
                }
            }
        }
        bucketing(key, &buckets)
    }

    /// Flag key and targeting key.
    fn implicit_key(&self) -> Option<Vec<u8>> {
        let Some(Value::Text(targeting_key @ [_, ..])) = self.context.targeting_key() else { return None };
        Some([self.island.key()?, targeting_key].concat())
    }
}

fn outcome_of(value: Result<Value<'_>, Fault>) -> Outcome {
    match value {
        Ok(value) => Outcome::Value { json: shown(&value), truthy: truthy(&value) },
        Err(Fault::NotANumber) => Outcome::Failed("it is not a number"),
        Err(Fault::NoSuchVariant) => Outcome::Failed("it names no variant"),
        Err(Fault::Exhausted) => Outcome::Failed("it takes more memory or steps than an evaluation may"),
    }
}

fn shown(value: &Value<'_>) -> String {
    let mut text = String::new();
    write_value(value, &mut text, 8);
    text
}

/// `None` where the weights are none, so that nothing is chosen whatever the key.
fn bucketing(key: Option<Vec<u8>>, buckets: &[(String, u32)]) -> Option<Bucketing> {
    let mut end: u32 = 0;
    let mut ends = Vec::with_capacity(buckets.len());
    for (variant, weight) in buckets {
        end = end.checked_add(*weight).filter(|end| *end <= bucket::MAX_WEIGHT)?;
        ends.push((variant.clone(), end));
    }
    if end == 0 {
        return None;
    }
    let mut hash = Murmur3::new();
    hash.write(key.as_deref().unwrap_or_default());
    let hash = hash.finish();
    let key = key.map(|key| String::from_utf8_lossy(&key).into_owned());
    Some(Bucketing { key, hash, total: end, place: bucket::place(hash, end), buckets: ends })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Context,
        compile::Compiler,
        definition::{Document, Format, Limits, Selector},
        evaluate::{Object, Want},
    };

    fn snapshot(targeting: &str) -> Snapshot {
        let text = format!(
            r#"{{"flags": {{"k": {{"state": "ENABLED", "variants": {{"on": true, "off": false}},
                "defaultVariant": "off", "targeting": {targeting}}}}}}}"#
        );
        let limits = Limits::default();
        let document = Document::parse("f", text, Format::Json, &limits).expect("a definition");
        let compiled = Compiler::new(limits).compile(&[document], &Selector::All).expect("compiles");
        assert!(compiled.broken.is_empty(), "{:?}", compiled.problems);
        Snapshot::from_bytes(&compiled.snapshot).expect("a snapshot")
    }

    fn explain(snapshot: &Snapshot, context: &Context<'_>) -> Part {
        snapshot.explain(&snapshot.flag(b"k").expect("there"), context).expect("it has targeting")
    }

    #[test]
    fn a_rule_comes_back_as_it_was_written() {
        for rule in [
            r#"{"if": [{"==": [{"var": "tier"}, "premium"]}, "on", {"!=": [{"var": "a"}, "b"]}, "off", null]}"#,
            r#"{"if": [{"===": [{"var": ["tier", "x"]}, "premium"]}, "on"]}"#,
            r#"{"if": [{"in": [{"var": "country"}, ["CH", "FR"]]}, "on"]}"#,
            r#"{"if": [{"in": [{"var": "n"}, [1, 2, null, true]]}, "on"]}"#,
            r#"{"if": [{"and": [{">": [{"var": "user.age"}, 18]}, {"!": [{"var": "blocked"}]}]}, "on", "off"]}"#,
            r#"{"fractional": [{"var": "targetingKey"}, ["on", 25], ["off", 75]]}"#,
            r#"{"fractional": [["on", 1], [null, 2]]}"#,
            r#"{"if": [{"some": [{"var": "list"}, {"==": [{"var": ""}, {"var": "x.y"}]}]}, "on"]}"#,
            r#"{"if": [{"sem_ver": [{"var": "version"}, ">=", "1.2.3"]}, {"cat": ["o", {"var": "n"}]}]}"#,
            r#"{"if": [{"<": [1, {"var": "a"}, 3]}, {"var": {"var": "which"}}]}"#,
            r#"{"if": [{"/": [{"var": "$flagd.timestamp"}, 2]}, {"merge": [{"var": "a"}, [{"var": "b"}]]}]}"#,
        ] {
            let snapshot = snapshot(rule);
            let flag = snapshot.flag(b"k").expect("there");
            let text = snapshot.targeting(&flag).expect("a rule");
            // `var` of a path that is computed is written with its argument in a list.
            let expected = rule.replace(r#"{"var": {"var": "which"}}"#, r#"{"var": [{"var": "which"}]}"#);
            if rule.contains("null, true") {
                assert_eq!(text, r#"{"if": [{"in": [{"var": "n"}, [1, 2, null, true]]}, "on"]}"#);
            } else {
                assert_eq!(text, expected);
            }
            // And what comes back means the same again.
            let again = self::snapshot(&text);
            assert_eq!(again.targeting(&again.flag(b"k").expect("there")).as_deref(), Some(text.as_str()));
        }
    }

    #[test]
    fn long_lists_come_back_sorted() {
        let ids: Vec<String> = (0..100).map(|number| format!("\"u{number:03}\"")).collect();
        for count in [20, 100] {
            let rule = format!(r#"{{"if": [{{"in": [{{"var": "id"}}, [{}]]}}, "on"]}}"#, ids[..count].join(", "));
            let snapshot = snapshot(&rule);
            assert_eq!(snapshot.targeting(&snapshot.flag(b"k").expect("there")), Some(rule));
        }
    }

    #[test]
    fn the_branch_that_matched_is_told() {
        let snapshot = snapshot(
            r#"{"if": [{"==": [{"var": "tier"}, "premium"]}, "on", {"in": [{"var": "country"}, ["CH"]]}, "on", "off"]}"#,
        );
        let part = explain(&snapshot, &Context::new("u").with("tier", "basic").with("country", "CH"));
        let roles: Vec<(&str, &str, bool)> = part
            .parts
            .iter()
            .map(|part| (part.role.as_str(), part.pointer.as_str(), part.outcome == Outcome::Skipped))
            .collect();
        assert_eq!(
            roles,
            [
                ("condition", "/if/0", false),
                ("then", "/if/1", true),
                ("condition", "/if/2", false),
                ("then", "/if/3", false),
                ("else", "/if/4", true),
            ]
        );
        let value = |part: &Part| match &part.outcome {
            Outcome::Value { json, .. } => json.clone(),
            other => format!("{other:?}"),
        };
        assert_eq!(value(&part), "\"on\"");
        assert_eq!(value(&part.parts[0]), "false");
        assert_eq!(
            (value(&part.parts[0].parts[0]), &*part.parts[0].parts[0].rule),
            ("\"basic\"".into(), r#"{"var": "tier"}"#)
        );
        assert_eq!(value(&part.parts[2].parts[0]), "\"CH\"");
        let part = explain(&snapshot, &Context::anonymous());
        assert_eq!(value(&part.parts[2].parts[0]), "null");
        assert_eq!((part.parts[4].role, value(&part.parts[4])), (Role::Else, "\"off\"".into()));
    }

    #[test]
    fn and_and_or_stop_where_they_are_decided() {
        let snapshot =
            snapshot(r#"{"if": [{"and": [{"var": "a"}, {"or": [{"var": "b"}, {"var": "c"}]}, {"var": "d"}]}, "on"]}"#);
        let part = explain(&snapshot, &Context::anonymous().with("a", 1).with("b", true).with("d", false));
        let and = &part.parts[0];
        assert_eq!(and.parts[1].parts[1].outcome, Outcome::Skipped);
        assert_eq!(and.parts[2].pointer, "/if/0/and/2");
        assert_eq!(and.parts[2].outcome, Outcome::Value { json: "false".into(), truthy: false });
        let part = explain(&snapshot, &Context::anonymous());
        assert!(part.parts[0].parts[1..].iter().all(|part| part.outcome == Outcome::Skipped));
    }

    #[test]
    fn buckets_agree_with_the_evaluation() {
        for rule in [
            r#"{"fractional": [["on", 50], ["off", 50]]}"#,
            r#"{"fractional": [{"cat": [{"var": "targetingKey"}, "x"]}, ["on", 1], ["off", 9], [null, 5]]}"#,
            r#"{"fractional": [{"var": "absent"}, ["on", {"+": [{"var": "w"}, 1]}], ["off", 3]]}"#,
        ] {
            let snapshot = snapshot(rule);
            // Under miri each takes seconds.
            for user in 0..if cfg!(miri) { 5 } else { 200 } {
                let user = format!("user-{user}");
                let context = Context::new(&user).with("w", 2);
                let bucketing = explain(&snapshot, &context).bucketing.expect("it chooses");
                let chosen = bucketing.chosen().map(|at| bucketing.buckets[at].0.trim_matches('"'));
                let answer = snapshot.evaluate(b"k", Want::Any, &context);
                // A null variant leaves it to the default, which is `off` here.
                let expected = if chosen == Some("null") { Some("off") } else { chosen };
                assert_eq!(answer.variant, expected, "{rule} {user} {bucketing:?}");
                assert!(bucketing.place < bucketing.total);
            }
        }
        let part = explain(&snapshot(r#"{"fractional": [["on", 1]]}"#), &Context::anonymous());
        assert_eq!(part.bucketing.and_then(|bucketing| bucketing.chosen()), None);
    }

    #[test]
    fn what_is_explained_is_what_is_answered() {
        let snapshot = snapshot(
            r#"{"if": [{"missing": ["a", "b"]}, {"cat": ["o", {"var": "rest"}]}, {"+": [{"var": "a"}, "x"]}]}"#,
        );
        let rest = Context::anonymous().with("rest", "ff");
        assert_eq!(explain(&snapshot, &rest).outcome, Outcome::Value { json: "\"off\"".into(), truthy: true });
        let both = Context::anonymous().with("a", 1).with("b", Object::new(&[]));
        assert_eq!(explain(&snapshot, &both).outcome, Outcome::Value { json: "NaN".into(), truthy: false });
    }

    #[test]
    fn any_bytes_are_explained_or_not() {
        let text = r#"{"flags": {"k": {"state": "ENABLED", "variants": {"on": true}, "defaultVariant": "on", "targeting":
            {"if": [{"and": [{"==": [{"var": "a"}, "x"]}, {"in": [{"var": "b"}, [1, 2, 3]]}]},
                    {"fractional": [{"var": "c"}, ["on", 1], [null, 2]]}, {"merge": [{"var": ["d.e", {"cat": [1]}]}]}]}}}}"#;
        let limits = Limits::default();
        let document = Document::parse("f", text, Format::Json, &limits).expect("a definition");
        let compiled = Compiler::new(limits).compile(&[document], &Selector::All).expect("compiles");
        let mut compiled = compiled.snapshot.to_vec();
        let context = Context::new("u").with("a", "x").with("b", 2);
        let mut explained = 0;
        for at in 0..compiled.len() {
            for value in [0, 1, 0x40, 0xff] {
                let before = std::mem::replace(&mut compiled[at], value);
                if let Ok(snapshot) = Snapshot::from_bytes(&compiled) {
                    for flag in snapshot.flags() {
                        let _ = snapshot.targeting(&flag);
                        explained += usize::from(snapshot.explain(&flag, &context).is_some());
                    }
                }
                compiled[at] = before;
            }
        }
        assert!(explained > 0, "the rule itself is explained wherever the change does not touch it");
    }
}
