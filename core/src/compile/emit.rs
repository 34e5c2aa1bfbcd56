//! From a checked flag to an island.
//!
//! All that can be decided once is decided here: paths are split, a variant's name becomes its place, weights become running
//! sums, long literal lists become sets, and the common shapes (`var == "text"`, `in` a few texts) become single operations.

use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64;

use super::{
    rule::{Operator, Rule},
    steps::{Question, Steps, Target},
};
use crate::{
    definition::flag::{Flag, Scalar, ValueKind, VariantValue},
    evaluate::{
        bucket::{MAX_WEIGHT, Murmur3, weight},
        number::NumberText,
    },
    snapshot::{
        index,
        island::{
            BROKEN, BUILDS, ENABLED, HEADER_WORDS, METADATA_WORDS, STEPS, VARIANT_WORDS, WORD_DEFAULT, WORD_KEY,
            WORD_METADATA, WORD_RULE, op, step,
        },
        set::{self, Member, SharedSet},
    },
};

/// Up to how many texts `in` compares one by one.
const FEW_TEXTS: usize = 8;

/// From how many members on a literal list is kept once for all flags that have it.
const SHARED_FROM: usize = 64;

/// A compiled flag.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Compiled {
    /// The island, a multiple of 16 bytes.
    pub(crate) island: Vec<u8>,
    /// What the index says of the flag.
    pub(crate) what: u32,
    /// The shared sets it refers to.
    pub(crate) sets: Vec<Arc<SharedSet>>,
    /// The id lists it refers to, by name.
    pub(crate) lists: Vec<u64>,
}

/// What `var` sees where a rule stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Scope {
    /// The context.
    Top,
    /// An element of `map` and its like; or, for a rule on its own, any value as its data.
    Element,
}

/// What belongs to an island but does not lie in it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Emitted {
    /// What the index says of the flag.
    pub(crate) what: u32,
    /// The shared sets it refers to.
    pub(crate) sets: Vec<Arc<SharedSet>>,
    /// The id lists it refers to, by name.
    pub(crate) lists: Vec<u64>,
}

/// What a step's question is about, besides the attribute.
enum Operands<'a> {
    Text(&'a str),
    Words([u32; 2]),
    /// That of the flag's key.
    Hash([u32; 3]),
}

/// Compiles flags, one after the other, in buffers it keeps.
#[derive(Debug, Default)]
pub(crate) struct Emitter<'a> {
    words: Vec<u32>,
    /// The texts, one after the other.
    pool: Vec<u8>,
    /// Where in the pool a text lies, to have each once.
    texts: Vec<(&'a [u8], u32)>,
    /// Words that hold a place in the pool and want an offset in the island.
    fixups: Vec<usize>,
    sets: Vec<Arc<SharedSet>>,
    lists: Vec<u64>,
    builds: bool,
    variants: Vec<&'a str>,
    /// The hash of the flag's key as far as it goes: what comes before the targeting key in a `fractional`.
    key_hash: [u32; 3],
    /// The rules that steps refer to, with their nodes once they have one.
    nodes: Vec<(&'a Rule, u32)>,
}

impl<'a> Emitter<'a> {
    /// Appends the island of `flag` to `islands`; `lists` knows the names of id lists by what the rules call them. Gives the buffers
    /// back, for the next flag.
    pub(crate) fn flag<'b>(
        mut self,
        flag: &'a Flag,
        lists: &dyn Fn(&str) -> Option<u64>,
        islands: &mut Vec<u8>,
    ) -> (Emitted, Emitter<'b>) {
        let mut hash = Murmur3::new();
        hash.write(flag.key.as_bytes());
        self.key_hash = hash.parts();
        self.header(&flag.key, flag.kind, if flag.enabled { ENABLED } else { 0 }, flag.variants.len());
        self.set_word(WORD_DEFAULT, flag.default_variant.map_or(0, |place| small(place) + 1));
        for variant in &flag.variants {
            self.text(&variant.name);
            match &variant.value {
                VariantValue::Bool(value) => self.words.extend([u32::from(*value), 0]),
                VariantValue::Number(number) => self.double(*number),
                VariantValue::Text(text) | VariantValue::Json(text) => self.text(text),
            }
        }
        self.variants.extend(flag.variants.iter().map(|variant| variant.name.as_str()));
        if let Some(rule) = &flag.targeting {
            let steps = Steps::of(rule, &|literal| self.variant_called(&literal_text(literal)?));
            let first = self.words.len();
            if let Some(steps) = &steps {
                self.words.resize(first + steps.len() * step::WORDS, 0);
                self.nodes.extend(steps.rules().map(|rule| (rule, 0)));
            }
            let node = self.result(rule, lists);
            self.set_word(WORD_RULE, node);
            if let Some(steps) = &steps {
                self.steps(first, steps);
            }
        }
        self.set_word(WORD_METADATA, self.next_word());
        self.set_word(WORD_METADATA + 1, small(flag.metadata.len()));
        self.metadata(&flag.metadata);
        let constant = match flag.default_variant.and_then(|place| flag.variants.get(place)) {
            Some(variant) if flag.enabled && flag.targeting.is_none() => match variant.value {
                VariantValue::Bool(false) => index::ALWAYS_FALSE,
                VariantValue::Bool(true) => index::ALWAYS_TRUE,
                _ => index::OTHER,
            },
            _ => index::OTHER,
        };
        let emitted = self.finish_into(constant, islands);
        (emitted, self.recycled())
    }

    /// The island of a flag that is broken and never was good.
    pub(crate) fn broken(mut self, key: &'a str) -> Compiled {
        self.header(key, ValueKind::Bool, BROKEN, 0);
        self.finish(index::OTHER)
    }

    /// The metadata of a flag set, and the number of its entries.
    pub(crate) fn set_metadata(mut self, metadata: &'a [(String, Scalar)]) -> Vec<u8> {
        self.metadata(metadata);
        self.finish(index::OTHER).island
    }

    /// An island that holds nothing but `rule`, with any value as its data; for [`Expression`](super::Expression).
    pub(crate) fn expression(mut self, rule: &'a Rule) -> Compiled {
        self.header("", ValueKind::Bool, ENABLED, 0);
        let node = self.rule(rule, Scope::Element, &|_| None);
        self.set_word(WORD_RULE, node);
        self.finish(index::OTHER)
    }

    fn header(&mut self, key: &'a str, kind: ValueKind, bits: u32, variants: usize) {
        self.words.resize(HEADER_WORDS, 0);
        self.set_word(0, kind as u32 | bits | small(variants) << 16);
        let offset = self.pooled(key.as_bytes());
        self.set_word(WORD_KEY, offset);
        self.fixups.push(WORD_KEY);
        self.set_word(WORD_KEY + 1, small(key.len()));
    }

    fn finish(mut self, what: u32) -> Compiled {
        let mut island = Vec::new();
        let Emitted { what, sets, lists } = self.finish_into(what, &mut island);
        Compiled { island, what, sets, lists }
    }

    /// Appends the island to `islands`.
    fn finish_into(&mut self, what: u32, islands: &mut Vec<u8>) -> Emitted {
        if self.builds
            && let Some(head) = self.words.first_mut()
        {
            *head |= BUILDS;
        }
        let start = small(self.words.len() * 4);
        for &word in &self.fixups {
            if let Some(word) = self.words.get_mut(word) {
                *word += start;
            }
        }
        let len = (self.words.len() * 4 + self.pool.len()).next_multiple_of(16);
        let end = islands.len() + len;
        let start = islands.len();
        islands.resize(end, 0);
        let (words, texts) = islands.get_mut(start..).unwrap_or_default().split_at_mut(self.words.len() * 4);
        words.as_chunks_mut().0.iter_mut().zip(&self.words).for_each(|(place, word)| *place = word.to_le_bytes());
        texts.iter_mut().zip(&self.pool).for_each(|(place, byte)| *place = *byte);
        Emitted { what, sets: std::mem::take(&mut self.sets), lists: std::mem::take(&mut self.lists) }
    }

    /// The buffers, empty: `collect` keeps a vector's memory where only a lifetime differs.
    fn recycled<'b>(mut self) -> Emitter<'b> {
        self.words.clear();
        self.pool.clear();
        self.texts.clear();
        self.fixups.clear();
        self.variants.clear();
        Emitter {
            words: self.words,
            pool: self.pool,
            texts: self.texts.into_iter().map(|_| (b"".as_slice(), 0)).collect(),
            fixups: self.fixups,
            sets: Vec::new(),
            lists: Vec::new(),
            builds: false,
            key_hash: [0; 3],
            nodes: Vec::new(),
            variants: self.variants.into_iter().map(|_| "").collect(),
        }
    }

    fn metadata(&mut self, metadata: &'a [(String, Scalar)]) {
        self.words.reserve(metadata.len() * METADATA_WORDS);
        for (name, value) in metadata {
            self.text(name);
            match value {
                Scalar::Bool(value) => self.words.extend([0, u32::from(*value), 0]),
                Scalar::Number(number) => {
                    self.words.push(1);
                    self.double(*number);
                }
                Scalar::Text(text) => {
                    self.words.push(2);
                    self.text(text);
                }
            }
        }
    }

    /// Writes the steps from word `first` on, where there is room for them; the tree is there already.
    fn steps(&mut self, first: usize, steps: &Steps<'a>) {
        for (index, step) in steps.iter().enumerate() {
            let at = first + index * step::WORDS;
            let (head, attribute, operands) = self.question(&step.question);
            self.set_word(at, head);
            let targets = [step.yes, step.no].map(|target| match target {
                Target::Step(place) => step::TO_STEP | small(first + steps.place(place) * step::WORDS),
                Target::Variant(place) => step::TO_VARIANT | self.boolean(place) | small(place),
                Target::Default => step::TO_DEFAULT,
                Target::Rule(rule) => step::TO_NODE | self.node_of(rule),
            });
            self.set_words(at + 1, targets);
            if let Some(attribute) = attribute.filter(|name| *name != "targetingKey") {
                self.set_text(at + 3, attribute);
            }
            match operands {
                Operands::Text(text) => self.set_text(at + 5, text),
                Operands::Words(words) => self.set_words(at + 5, words),
                Operands::Hash([state, tail, len]) => {
                    self.set_words(at + 5, [state, tail]);
                    self.set_word(at + 7, len);
                }
            }
        }
        self.set_word(0, self.words.first().copied().unwrap_or_default() | STEPS);
    }

    /// What a target says of a variant besides its place.
    fn boolean(&self, place: usize) -> u32 {
        let word = |at: usize| self.words.get(at).copied().unwrap_or_default();
        if word(0) & 0xff != ValueKind::Bool as u32 {
            return 0;
        }
        let value = word(HEADER_WORDS + place * VARIANT_WORDS + 2);
        step::BOOLEAN | if value != 0 { step::TRUE } else { 0 }
    }

    /// A question's first word, attribute and operands.
    fn question(&self, question: &Question<'a>) -> (u32, Option<&'a str>, Operands<'a>) {
        let head = |operation: u8, argument: u32| u32::from(operation) | argument << 8;
        match *question {
            Question::Is { attribute, text, strict } => {
                (head(step::IS, u32::from(strict)), Some(attribute), Operands::Text(text))
            }
            Question::Compare { attribute, comparison, number } => {
                (head(step::COMPARE, comparison), Some(attribute), Operands::Words(halves(number.to_bits())))
            }
            Question::Truthy { attribute } => (head(step::TRUTHY, 0), Some(attribute), Operands::Words([0; 2])),
            Question::Affix { operation, attribute, text } => {
                (head(operation, 0), Some(attribute), Operands::Text(text))
            }
            Question::In { attribute, rule } => {
                // What the tree compiled the list to.
                let node = self.node_of(rule);
                let word = |at: u32| self.words.get((node + at) as usize).copied().unwrap_or_default();
                #[expect(clippy::cast_possible_truncation, reason = "the low 8 bits are wanted")]
                let (operation, count) = (word(0) as u8, word(0) >> 8);
                let (head, operands) = match operation {
                    op::IN_TEXTS => (head(step::IN_TEXTS, count), [node + 2, 0]),
                    op::IN_SET => (head(step::IN_SET, 0), [word(2), 0]),
                    op::IN_SHARED => (head(step::IN_SHARED, 0), [word(2), word(3)]),
                    op::IN_LIST => (head(step::IN_LIST, 0), [word(2), word(3)]),
                    _ => return (head(step::TEST, 0), None, Operands::Words([node, 0])),
                };
                (head, Some(attribute), Operands::Words(operands))
            }
            Question::Test { rule } => (head(step::TEST, 0), None, Operands::Words([self.node_of(rule), 0])),
            Question::Fraction { rule } => {
                let node = self.node_of(rule) as usize;
                let word = |at: usize| self.words.get(at).copied().unwrap_or_default();
                if word(node) & 0xff == u32::from(op::FRACTIONAL_VARIANTS) && word(node + 1) == 0 {
                    (head(step::BUCKET, 0), None, Operands::Hash(self.key_hash))
                } else {
                    (head(step::GO, 0), None, Operands::Words([0; 2]))
                }
            }
        }
    }

    /// The node of a rule that a step refers to.
    fn node_of(&self, rule: &Rule) -> u32 {
        self.nodes.iter().find(|(other, _)| std::ptr::eq(*other, rule)).map_or(0, |(_, node)| *node)
    }

    fn remember(&mut self, rule: &Rule, node: u32) {
        for (other, place) in &mut self.nodes {
            if std::ptr::eq(*other, rule) {
                *place = node;
            }
        }
    }

    /// A rule where its result chooses the variant.
    fn result(&mut self, rule: &'a Rule, lists: &dyn Fn(&str) -> Option<u64>) -> u32 {
        let node = self.result_node(rule, lists);
        self.remember(rule, node);
        node
    }

    fn result_node(&mut self, rule: &'a Rule, lists: &dyn Fn(&str) -> Option<u64>) -> u32 {
        match rule {
            Rule::Text(name) => {
                if let Some(place) = self.variant_called(name) {
                    return self.node(op::VARIANT, place);
                }
            }
            Rule::Bool(_) | Rule::Number(_) => {
                if let Some(place) = literal_text(rule).and_then(|name| self.variant_called(&name)) {
                    return self.node(op::VARIANT, place);
                }
            }
            Rule::Call(Operator::If | Operator::Ternary, arguments) => {
                let node = self.reserve(op::IF, arguments.len());
                for (at, argument) in arguments.iter().enumerate() {
                    // Conditions and results take turns; a last one alone is a result.
                    let child = if at % 2 == 1 || at + 1 == arguments.len() {
                        self.result(argument, lists)
                    } else {
                        self.rule(argument, Scope::Top, lists)
                    };
                    self.patch(node, at, child);
                }
                return node;
            }
            Rule::Call(Operator::Fractional, arguments) => {
                if let Some(node) = self.fractional_variants(arguments, lists) {
                    return node;
                }
            }
            Rule::Call(Operator::Log, arguments) => {
                if let [argument] = arguments.as_slice() {
                    return self.result(argument, lists);
                }
            }
            _ => {}
        }
        self.rule(rule, Scope::Top, lists)
    }

    fn rule(&mut self, rule: &'a Rule, scope: Scope, lists: &dyn Fn(&str) -> Option<u64>) -> u32 {
        let node = self.rule_node(rule, scope, lists);
        self.remember(rule, node);
        node
    }

    fn rule_node(&mut self, rule: &'a Rule, scope: Scope, lists: &dyn Fn(&str) -> Option<u64>) -> u32 {
        match rule {
            Rule::List(elements) if !elements.iter().all(is_literal) => {
                self.builds = true;
                self.call(op::LIST, elements, scope, lists)
            }
            Rule::Call(operator, arguments) => self.operator(*operator, arguments, scope, lists),
            literal => self.literal(literal),
        }
    }

    fn literal(&mut self, rule: &'a Rule) -> u32 {
        match rule {
            Rule::Bool(false) => self.node(op::FALSE, 0),
            Rule::Bool(true) => self.node(op::TRUE, 0),
            Rule::Number(number) => {
                let node = self.node(op::NUMBER, 0);
                self.double(*number);
                node
            }
            Rule::Text(text) => {
                let node = self.node(op::TEXT, 0);
                self.text(text);
                node
            }
            Rule::List(elements) => {
                let node = self.reserve(op::LITERAL_LIST, elements.len());
                for (at, element) in elements.iter().enumerate() {
                    let child = self.literal(element);
                    self.patch(node, at, child);
                }
                node
            }
            Rule::Object(members) => {
                let node = self.node(op::LITERAL_OBJECT, members.len());
                for (name, _) in members {
                    self.text(name);
                    self.words.push(0);
                }
                for (at, (_, value)) in members.iter().enumerate() {
                    let child = self.literal(value);
                    self.patch(node, 3 * at + 2, child);
                }
                node
            }
            // A call is no literal and does not get here.
            Rule::Null | Rule::Call(..) => self.node(op::NULL, 0),
        }
    }

    fn operator(
        &mut self,
        operator: Operator,
        arguments: &'a [Rule],
        scope: Scope,
        lists: &dyn Fn(&str) -> Option<u64>,
    ) -> u32 {
        let operation = match operator {
            Operator::Var => return self.var(arguments, scope, lists),
            Operator::Equal | Operator::StrictEqual => {
                if let Some((name, text)) = attribute_is(arguments).filter(|_| scope == Scope::Top) {
                    return self.attribute_is(name, text, operator == Operator::StrictEqual);
                }
                if operator == Operator::Equal { op::EQUAL } else { op::STRICT_EQUAL }
            }
            Operator::NotEqual | Operator::StrictNotEqual => {
                if let Some((name, text)) = attribute_is(arguments).filter(|_| scope == Scope::Top) {
                    let node = self.reserve(op::NOT, 1);
                    let child = self.attribute_is(name, text, operator == Operator::StrictNotEqual);
                    self.patch(node, 0, child);
                    return node;
                }
                if operator == Operator::NotEqual { op::NOT_EQUAL } else { op::STRICT_NOT_EQUAL }
            }
            Operator::In => match arguments {
                [needle, Rule::List(elements)] if elements.iter().all(is_literal) => {
                    return self.in_literals(needle, elements, scope, lists);
                }
                _ => op::IN,
            },
            Operator::InList => {
                let name = match arguments {
                    [_, Rule::Text(name)] => lists(name),
                    _ => None,
                };
                // The definition stage admits only lists that there are; without one nobody is in it.
                let (Some(needle), Some(name)) = (arguments.first(), name) else { return self.node(op::FALSE, 0) };
                if !self.lists.contains(&name) {
                    self.lists.push(name);
                }
                let node = self.reserve(op::IN_LIST, 3);
                self.set_operands(node, 1, halves(name));
                let child = self.rule(needle, scope, lists);
                self.patch(node, 0, child);
                return node;
            }
            Operator::SemVer if arguments.len() != 3 => return self.node(op::NULL, 0),
            Operator::StartsWith | Operator::EndsWith if arguments.len() != 2 => return self.node(op::NULL, 0),
            Operator::Log => {
                return match arguments.first() {
                    Some(argument) => self.rule(argument, scope, lists),
                    None => self.node(op::NULL, 0),
                };
            }
            Operator::Greater | Operator::GreaterOrEqual => {
                let operation = if operator == Operator::Greater { op::GREATER } else { op::GREATER_OR_EQUAL };
                return self.call(operation, arguments.get(..2).unwrap_or(arguments), scope, lists);
            }
            Operator::If | Operator::Ternary => op::IF,
            Operator::Not => op::NOT,
            Operator::Truthy => op::TRUTHY,
            Operator::Or => op::OR,
            Operator::And => op::AND,
            Operator::Less => op::LESS,
            Operator::LessOrEqual => op::LESS_OR_EQUAL,
            Operator::Max => op::MAX,
            Operator::Min => op::MIN,
            Operator::Add => op::ADD,
            Operator::Subtract => op::SUBTRACT,
            Operator::Multiply => op::MULTIPLY,
            Operator::Divide => op::DIVIDE,
            Operator::Remainder => op::REMAINDER,
            Operator::SemVer => op::SEM_VER,
            Operator::StartsWith => op::STARTS_WITH,
            Operator::EndsWith => op::ENDS_WITH,
            Operator::Map => op::MAP,
            Operator::Filter => op::FILTER,
            Operator::Reduce => op::REDUCE,
            Operator::All => op::ALL,
            Operator::None => op::NONE,
            Operator::Some => op::SOME,
            Operator::Merge => op::MERGE,
            Operator::Cat => op::CAT,
            Operator::Substr => op::SUBSTR,
            Operator::Missing => op::MISSING,
            Operator::MissingSome => op::MISSING_SOME,
            Operator::Fractional => op::FRACTIONAL,
        };
        self.builds |= matches!(
            operation,
            op::MAP
                | op::FILTER
                | op::REDUCE
                | op::MERGE
                | op::CAT
                | op::SUBSTR
                | op::MISSING
                | op::MISSING_SOME
                | op::FRACTIONAL
        );
        self.call(operation, arguments, scope, lists)
    }

    /// An operation and its arguments; the second of `map` and its like sees the elements.
    fn call(&mut self, operation: u8, arguments: &'a [Rule], scope: Scope, lists: &dyn Fn(&str) -> Option<u64>) -> u32 {
        let each = matches!(operation, op::MAP | op::FILTER | op::REDUCE | op::ALL | op::NONE | op::SOME);
        let node = self.reserve(operation, arguments.len());
        for (at, argument) in arguments.iter().enumerate() {
            let child = self.rule(argument, if each && at == 1 { Scope::Element } else { scope }, lists);
            self.patch(node, at, child);
        }
        node
    }

    fn var(&mut self, arguments: &'a [Rule], scope: Scope, lists: &dyn Fn(&str) -> Option<u64>) -> u32 {
        let path = match arguments.first() {
            None | Some(Rule::Null) => Some(Vec::new()),
            Some(Rule::Text(path)) => Some(path.split('.').filter(|segment| !segment.is_empty()).collect()),
            Some(_) => None,
        };
        let default = arguments.get(1);
        let Some(path) = path else {
            self.builds = true; // a path that is no text is made one
            let node = self.reserve(op::DYNAMIC, 2);
            if let Some(path) = arguments.first() {
                let child = self.rule(path, scope, lists);
                self.patch(node, 0, child);
            }
            return self.with_default(node, 1, default, scope, lists);
        };
        match (scope, path.as_slice()) {
            (Scope::Top, []) => self.node(op::CONTEXT, 0),
            (Scope::Top, ["$flagd", "flagKey"]) => self.node(op::FLAG_KEY, 0),
            (Scope::Top, ["$flagd", "timestamp"]) => self.node(op::TIMESTAMP, 0),
            (Scope::Top, ["$flagd" | "$lists", ..]) => match default {
                Some(default) => self.rule(default, scope, lists),
                None => self.node(op::NULL, 0),
            },
            (Scope::Top, ["targetingKey"]) => {
                let node = self.reserve(op::TARGETING_KEY, 1);
                self.with_default(node, 0, default, scope, lists)
            }
            (Scope::Top, [name]) => {
                let node = self.node(op::ATTRIBUTE, 0);
                self.text(name);
                self.words.push(0);
                self.with_default(node, 2, default, scope, lists)
            }
            (scope, path) => {
                let node = self.node(if scope == Scope::Top { op::PATH } else { op::SCOPE_PATH }, path.len());
                self.words.push(0);
                for segment in path {
                    self.text(segment);
                }
                self.with_default(node, 0, default, scope, lists)
            }
        }
    }

    fn with_default(
        &mut self,
        node: u32,
        at: usize,
        default: Option<&'a Rule>,
        scope: Scope,
        lists: &dyn Fn(&str) -> Option<u64>,
    ) -> u32 {
        if let Some(default) = default.filter(|default| **default != Rule::Null) {
            let child = self.rule(default, scope, lists);
            self.patch(node, at, child);
        }
        node
    }

    fn attribute_is(&mut self, name: &'a str, text: &'a str, strict: bool) -> u32 {
        let node = self.node(op::ATTRIBUTE_IS, usize::from(strict));
        self.text(name);
        self.text(text);
        node
    }

    fn in_literals(
        &mut self,
        needle: &'a Rule,
        elements: &'a [Rule],
        scope: Scope,
        lists: &dyn Fn(&str) -> Option<u64>,
    ) -> u32 {
        // A list or object equals nothing, so as an element it is not there.
        let members: Vec<Member<'a>> = elements.iter().filter_map(member).collect();
        if members.len() <= FEW_TEXTS && members.iter().all(|member| matches!(member, Member::Text(_))) {
            let node = self.node(op::IN_TEXTS, members.len());
            self.words.push(0);
            for element in elements {
                if let Rule::Text(text) = element {
                    self.text(text);
                }
            }
            let child = self.rule(needle, scope, lists);
            self.patch(node, 0, child);
            return node;
        }
        if members.len() >= SHARED_FROM {
            let shared = shared_set(&members);
            let node = self.reserve(op::IN_SHARED, 3);
            self.set_operands(node, 1, halves(shared.name));
            if self.sets.iter().all(|other| other.name != shared.name) {
                self.sets.push(Arc::new(shared));
            }
            let child = self.rule(needle, scope, lists);
            self.patch(node, 0, child);
            return node;
        }
        let node = self.reserve(op::IN_SET, 2);
        let start = self.next_word();
        self.patch(node, 1, start);
        let (pool, fixups) = (&mut self.pool, &mut self.fixups);
        let mut places = Vec::new();
        set::build(&members, &mut self.words, |word, text| {
            places.push((word, small(pool.len())));
            pool.extend_from_slice(&text);
        });
        for (word, offset) in places {
            if let Some(place) = self.words.get_mut(word) {
                *place = offset;
            }
            fixups.push(word);
        }
        let child = self.rule(needle, scope, lists);
        self.patch(node, 0, child);
        node
    }

    /// `fractional` whose buckets all name variants with known weights; `None` where they do not.
    fn fractional_variants(&mut self, arguments: &'a [Rule], lists: &dyn Fn(&str) -> Option<u64>) -> Option<u32> {
        let (key, buckets) = match arguments {
            [Rule::Null, buckets @ ..] => (None, buckets),
            [key @ (Rule::Text(_) | Rule::Call(..)), buckets @ ..] => (Some(key), buckets),
            buckets => (None, buckets),
        };
        let mut sums = Vec::with_capacity(buckets.len());
        let mut sum: u32 = 0;
        for bucket in buckets {
            let Rule::List(bucket) = bucket else { return None };
            let weight = match bucket.get(1) {
                None | Some(Rule::Null) => 1,
                Some(Rule::Number(number)) => weight(*number)?,
                Some(_) => return None,
            };
            let variant = match bucket.first()? {
                Rule::Null => 0,
                name => small(self.variant_called(&literal_text(name)?)?) + 1,
            };
            sum += weight;
            if sum > MAX_WEIGHT {
                return None;
            }
            sums.push((sum, variant));
        }
        let node = self.node(op::FRACTIONAL_VARIANTS, sums.len());
        self.words.extend([0, sum]);
        self.words.extend(sums.into_iter().flat_map(|(sum, variant)| [sum, variant]));
        if let Some(key) = key {
            let child = match key {
                // Hashed piece by piece, so it builds nothing.
                Rule::Call(Operator::Cat, parts) => self.call(op::CAT, parts, Scope::Top, lists),
                key => self.rule(key, Scope::Top, lists),
            };
            self.patch(node, 0, child);
        }
        Some(node)
    }

    fn variant_called(&self, name: &str) -> Option<usize> {
        self.variants.iter().position(|variant| *variant == name)
    }

    /// A node without its operands.
    fn node(&mut self, operation: u8, count: usize) -> u32 {
        let node = self.next_word();
        self.words.push(u32::from(operation) | small(count) << 8);
        node
    }

    /// A node with room for `count` operands.
    fn reserve(&mut self, operation: u8, count: usize) -> u32 {
        let node = self.node(operation, count);
        self.words.resize(self.words.len() + count, 0);
        node
    }

    fn patch(&mut self, node: u32, at: usize, word: u32) {
        self.set_word(node as usize + 1 + at, word);
    }

    fn set_operands(&mut self, node: u32, at: usize, words: [u32; 2]) {
        self.set_words(node as usize + 1 + at, words);
    }

    fn set_word(&mut self, at: usize, word: u32) {
        if let Some(place) = self.words.get_mut(at) {
            *place = word;
        }
    }

    fn set_words(&mut self, at: usize, words: [u32; 2]) {
        for (index, word) in words.into_iter().enumerate() {
            self.set_word(at + index, word);
        }
    }

    /// Sets two words: a text's offset, once that is known, and its length.
    fn set_text(&mut self, at: usize, text: &'a str) {
        let offset = self.pooled(text.as_bytes());
        self.fixups.push(at);
        self.set_words(at, [offset, small(text.len())]);
    }

    fn next_word(&self) -> u32 {
        small(self.words.len())
    }

    fn double(&mut self, number: f64) {
        self.words.extend(halves(number.to_bits()));
    }

    /// Two words: a text's offset, once that is known, and its length.
    fn text(&mut self, text: &'a str) {
        let offset = self.pooled(text.as_bytes());
        self.fixups.push(self.words.len());
        self.words.extend([offset, small(text.len())]);
    }

    /// Where in the pool a text lies. A flag has few texts: looking through them is faster than a hash table.
    fn pooled(&mut self, text: &'a [u8]) -> u32 {
        const REMEMBERED: usize = 64;
        if let Some((_, offset)) = self.texts.iter().find(|(other, _)| *other == text) {
            return *offset;
        }
        let offset = small(self.pool.len());
        self.pool.extend_from_slice(text);
        if self.texts.len() < REMEMBERED {
            self.texts.push((text, offset));
        }
        offset
    }
}

/// `{"==": [{"var": "name"}, "text"]}`, whichever way round: name and text.
fn attribute_is(arguments: &[Rule]) -> Option<(&str, &str)> {
    let (arguments, text) = match arguments {
        [Rule::Call(Operator::Var, arguments), Rule::Text(text)]
        | [Rule::Text(text), Rule::Call(Operator::Var, arguments)] => (arguments, text),
        _ => return None,
    };
    match arguments.as_slice() {
        [Rule::Text(name)] if !name.is_empty() && !name.contains('.') => {
            let reserved = matches!(name.as_str(), "targetingKey" | "$flagd" | "$lists");
            (!reserved).then_some((name, text))
        }
        _ => None,
    }
}

fn is_literal(rule: &Rule) -> bool {
    match rule {
        Rule::List(elements) => elements.iter().all(is_literal),
        Rule::Call(..) => false,
        _ => true,
    }
}

fn member(rule: &Rule) -> Option<Member<'_>> {
    Some(match rule {
        Rule::Null => Member::Null,
        Rule::Bool(value) => Member::Bool(*value),
        Rule::Number(number) => Member::Number(*number),
        Rule::Text(text) => Member::Text(text),
        Rule::List(_) | Rule::Object(_) | Rule::Call(..) => return None,
    })
}

/// The text by which a literal names a variant.
fn literal_text(rule: &Rule) -> Option<String> {
    match rule {
        Rule::Text(text) => Some(text.clone()),
        Rule::Bool(value) => Some(value.to_string()),
        Rule::Number(number) => Some(NumberText::new().format(*number).to_owned()),
        _ => None,
    }
}

fn shared_set(members: &[Member<'_>]) -> SharedSet {
    let mut words = Vec::new();
    let mut texts = Vec::new();
    set::build(members, &mut words, |word, text| texts.push((word, text)));
    let mut pool = Vec::new();
    let start = words.len() * 4;
    for (word, text) in texts {
        if let Some(place) = words.get_mut(word) {
            *place = small(start + pool.len());
        }
        pool.extend_from_slice(&text);
    }
    let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    bytes.extend_from_slice(&pool);
    bytes.resize(bytes.len().next_multiple_of(16), 0);
    SharedSet { name: xxh3_64(&bytes), bytes }
}

#[expect(clippy::cast_possible_truncation, reason = "halves")]
const fn halves(word: u64) -> [u32; 2] {
    [word as u32, (word >> 32) as u32]
}

/// A number that the definition stage's limits keep small: an island is far below 4 GiB.
fn small(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
