//! Constant folding: a call whose arguments are all literals is what it comes to.

use super::{
    emit::Emitter,
    rule::{Operator, Rule},
};
use crate::{
    evaluate::{Context, Value, rule::Walk, scratch::Scratch},
    snapshot::{
        island::{Island, WORD_RULE},
        view::Shared,
    },
};

/// Lists longer than this stay as they are: folding them would only make the island larger.
const MAX_ELEMENTS: usize = 256;

/// `rule` with every constant call in it replaced by its value; `None` where there is none.
pub(crate) fn fold(rule: &Rule) -> Option<Rule> {
    match rule {
        Rule::Call(operator, arguments) => {
            let folded = fold_all(arguments);
            let arguments = folded.as_deref().unwrap_or(arguments);
            if is_pure(*operator) && !arguments.is_empty() && arguments.iter().all(is_literal) {
                let call = Rule::Call(*operator, arguments.to_vec());
                if let Some(literal) = evaluate(&call) {
                    return Some(literal);
                }
            }
            folded.map(|arguments| Rule::Call(*operator, arguments))
        }
        Rule::List(elements) => fold_all(elements).map(Rule::List),
        _ => None,
    }
}

fn fold_all(rules: &[Rule]) -> Option<Vec<Rule>> {
    let mut folded: Option<Vec<Rule>> = None;
    for (at, rule) in rules.iter().enumerate() {
        if let Some(literal) = fold(rule)
            && let Some(place) = folded.get_or_insert_with(|| rules.to_vec()).get_mut(at)
        {
            *place = literal;
        }
    }
    folded
}

/// Whether an operator's result depends on its arguments alone, and its arguments are all evaluated where it stands.
fn is_pure(operator: Operator) -> bool {
    !matches!(
        operator,
        Operator::Var
            | Operator::Missing
            | Operator::MissingSome
            | Operator::Fractional
            | Operator::InList
            | Operator::Map
            | Operator::Filter
            | Operator::Reduce
            | Operator::All
            | Operator::None
            | Operator::Some
    )
}

fn is_literal(rule: &Rule) -> bool {
    match rule {
        Rule::List(elements) => elements.len() <= MAX_ELEMENTS && elements.iter().all(is_literal),
        Rule::Call(..) => false,
        _ => true,
    }
}

/// What a constant rule comes to; `None` where that cannot be written as a literal, such as NaN.
fn evaluate(rule: &Rule) -> Option<Rule> {
    let compiled = Emitter::default().expression(rule);
    if !compiled.sets.is_empty() {
        return None;
    }
    let island = Island::new(&compiled.island);
    let (context, scratch, shared) = (Context::anonymous(), Scratch::new(), Shared::none());
    let walk = Walk::new(island, &context, &shared, Some(&scratch));
    let value = walk.value_in(island.words.word(WORD_RULE)? as usize, Some(Value::Null)).ok()?;
    literal(&value)
}

fn literal(value: &Value<'_>) -> Option<Rule> {
    Some(match value {
        Value::Null => Rule::Null,
        Value::Bool(value) => Rule::Bool(*value),
        #[expect(clippy::cast_precision_loss, reason = "rules compute in doubles")]
        Value::Int(number) => Rule::Number(*number as f64),
        Value::Float(number) => Rule::Number(Some(*number).filter(|number| number.is_finite())?),
        Value::Text(text) => Rule::Text(String::from_utf8(text.to_vec()).ok()?),
        Value::List(list) => {
            let elements = (0..list.len()).map(|index| literal(&list.element(index)?));
            Rule::List(elements.collect::<Option<_>>()?)
        }
        Value::Object(_) => return None,
    })
}
