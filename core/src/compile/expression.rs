//! A JsonLogic rule on its own, with any value as its data.

use std::fmt::Write as _;

use super::{emit::Emitter, fold::fold, rule::Rule};
use crate::{
    evaluate::{Context, List, Value, rule::Walk, scratch::Scratch},
    snapshot::{
        archive::ArchivedNamed,
        island::{Island, WORD_RULE},
        view::Shared,
    },
};

/// A compiled JsonLogic rule, evaluated by the same engine as a flag's targeting but not bound to a flag: for trying a rule out,
/// and for running the published JsonLogic table.
///
/// What belongs to a flag is absent: `$flagd.*`, the targeting key, id lists.
#[derive(Debug)]
pub struct Expression {
    island: Vec<u8>,
    arena: Vec<u8>,
    sets: Vec<ArchivedNamed>,
}

impl Expression {
    /// Compiles `rule`.
    #[must_use]
    pub fn new(rule: &Rule) -> Self {
        let folded = fold(rule);
        let compiled = Emitter::default().expression(folded.as_ref().unwrap_or(rule));
        let mut sets = compiled.sets;
        sets.sort_by_key(|set| set.name);
        let mut arena = Vec::new();
        let mut named = Vec::new();
        for set in sets {
            named.push(ArchivedNamed { name: set.name.into(), number: (arena.len() as u64).into() });
            arena.extend_from_slice(&set.bytes);
        }
        Self { island: compiled.island, arena, sets: named }
    }

    /// The rule's value with `data` as its scope, as JSON text; `None` where it is NaN or infinite, holds a whole object, or takes more memory or
    /// steps than an evaluation may.
    #[must_use]
    pub fn evaluate(&self, data: Value<'_>) -> Option<String> {
        let island = Island::new(&self.island);
        let (context, scratch) = (Context::anonymous(), Scratch::new());
        let shared = Shared::of(&self.arena, &self.sets);
        let walk = Walk::new(island, &context, &shared, Some(&scratch));
        let mut text = String::new();
        write_json(&walk.value_in(island.words.word(WORD_RULE)? as usize, Some(data)).ok()?, &mut text)?;
        Some(text)
    }
}

fn write_json(value: &Value<'_>, text: &mut String) -> Option<()> {
    match value {
        Value::Null => text.push_str("null"),
        Value::Bool(value) => write!(text, "{value}").ok()?,
        Value::Int(number) => write!(text, "{number}").ok()?,
        Value::Float(number) => {
            text.push_str(
                crate::evaluate::number::NumberText::new().format(Some(*number).filter(|number| number.is_finite())?),
            );
        }
        Value::Text(string) => text.push_str(&serde_json::to_string(std::str::from_utf8(string).ok()?).ok()?),
        Value::List(list) => write_list(list, text)?,
        Value::Object(_) => return None,
    }
    Some(())
}

fn write_list(list: &List<'_>, text: &mut String) -> Option<()> {
    text.push('[');
    for index in 0..list.len() {
        if index > 0 {
            text.push(',');
        }
        write_json(&list.element(index)?, text)?;
    }
    text.push(']');
    Some(())
}
