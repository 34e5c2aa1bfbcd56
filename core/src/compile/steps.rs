//! From a rule to its steps: conditions become questions about one attribute each, and `if`, `and`, `or` and `!` become which question comes
//! next.

use super::rule::{Operator, Rule};
use crate::snapshot::island::step;

/// Beyond so many steps a rule is left to its tree.
const MAX_STEPS: usize = 64;

/// The steps of a rule, in order; they stand for nothing but names and places yet.
#[derive(Debug, Default)]
pub(super) struct Steps<'r> {
    /// Last first, since each is made when it is known what comes after it.
    reversed: Vec<Step<'r>>,
}

/// One question.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step<'r> {
    pub(super) question: Question<'r>,
    pub(super) yes: Target<'r>,
    pub(super) no: Target<'r>,
}

/// What is asked.
#[derive(Clone, Copy, Debug)]
pub(super) enum Question<'r> {
    /// Whether an attribute equals a text.
    Is { attribute: &'r str, text: &'r str, strict: bool },
    /// How an attribute compares with a number; the comparisons are those of [`step`].
    Compare { attribute: &'r str, comparison: u32, number: f64 },
    /// Whether an attribute is truthy.
    Truthy { attribute: &'r str },
    /// Whether an attribute begins or ends with a text.
    Affix { operation: u8, attribute: &'r str, text: &'r str },
    /// Whether an attribute is among what the `in` of the rule lists.
    In { attribute: &'r str, rule: &'r Rule },
    /// Whether the value of a rule is truthy.
    Test { rule: &'r Rule },
    /// None: it is the `fractional` that is the step's target, which may do without the tree.
    Fraction { rule: &'r Rule },
}

/// What comes next.
#[derive(Clone, Copy, Debug)]
pub(super) enum Target<'r> {
    /// The step that so many come after, counted from the end.
    Step(usize),
    /// The variant at a place.
    Variant(usize),
    /// The default variant.
    Default,
    /// What the rule's own tree decides.
    Rule(&'r Rule),
}

impl<'r> Steps<'r> {
    /// The steps of a whole rule; `None` where it is no decision, or has too many. `variant` gives the place that a literal names.
    pub(super) fn of(rule: &'r Rule, variant: &dyn Fn(&Rule) -> Option<usize>) -> Option<Self> {
        let mut steps = Self::default();
        match steps.result(rule, variant)? {
            Target::Step(_) => Some(steps),
            _ => None,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.reversed.len()
    }

    /// The steps in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Step<'r>> {
        self.reversed.iter().rev()
    }

    /// The rules whose nodes in the tree the steps refer to.
    pub(super) fn rules(&self) -> impl Iterator<Item = &'r Rule> {
        self.reversed.iter().flat_map(|step| {
            let asked = match step.question {
                Question::In { rule, .. } | Question::Test { rule } | Question::Fraction { rule } => Some(rule),
                _ => None,
            };
            let targets = [step.yes, step.no].map(|target| match target {
                Target::Rule(rule) => Some(rule),
                _ => None,
            });
            asked.into_iter().chain(targets.into_iter().flatten())
        })
    }

    /// The place of a target's step, counted from the first.
    pub(super) fn place(&self, from_the_end: usize) -> usize {
        self.reversed.len().saturating_sub(from_the_end + 1)
    }

    fn result(&mut self, rule: &'r Rule, variant: &dyn Fn(&Rule) -> Option<usize>) -> Option<Target<'r>> {
        Some(match rule {
            Rule::Null => Target::Default,
            Rule::Text(_) | Rule::Bool(_) | Rule::Number(_) => {
                variant(rule).map_or(Target::Rule(rule), Target::Variant)
            }
            Rule::Call(Operator::If | Operator::Ternary, arguments) => {
                let (pairs, last) = arguments.as_chunks::<2>();
                let mut next = match last {
                    [last] => self.result(last, variant)?,
                    _ => Target::Default,
                };
                for [condition, result] in pairs.iter().rev() {
                    let then = self.result(result, variant)?;
                    next = self.condition(condition, then, next)?;
                }
                next
            }
            Rule::Call(Operator::Log, arguments) if arguments.len() == 1 => self.result(arguments.first()?, variant)?,
            Rule::Call(Operator::Fractional, _) => {
                self.ask(Question::Fraction { rule }, Target::Rule(rule), Target::Rule(rule))?
            }
            other => Target::Rule(other),
        })
    }

    /// Where to begin to ask whether `rule` is truthy, to get to `yes` or to `no`; `None` where there are too many steps.
    fn condition(&mut self, rule: &'r Rule, yes: Target<'r>, no: Target<'r>) -> Option<Target<'r>> {
        let Rule::Call(operator, arguments) = rule else { return self.ask(Question::Test { rule }, yes, no) };
        match (operator, arguments.as_slice()) {
            (Operator::And, [first @ .., last]) => {
                let mut next = self.condition(last, yes, no)?;
                for argument in first.iter().rev() {
                    next = self.condition(argument, next, no)?;
                }
                Some(next)
            }
            (Operator::Or, [first @ .., last]) => {
                let mut next = self.condition(last, yes, no)?;
                for argument in first.iter().rev() {
                    next = self.condition(argument, yes, next)?;
                }
                Some(next)
            }
            (Operator::Not, [argument]) => self.condition(argument, no, yes),
            (Operator::Truthy | Operator::Log, [argument]) => self.condition(argument, yes, no),
            (Operator::NotEqual | Operator::StrictNotEqual, [left, right]) => {
                let strict = *operator == Operator::StrictNotEqual;
                match equality(left, right, strict) {
                    Some(question) => self.ask(question, no, yes),
                    None => self.ask(Question::Test { rule }, yes, no),
                }
            }
            (Operator::Less | Operator::LessOrEqual, [low @ Rule::Number(_), middle, high @ Rule::Number(_)]) => {
                match (order(*operator, low, middle), order(*operator, middle, high)) {
                    (Some(above), Some(below)) => {
                        let below = self.ask(below, yes, no)?;
                        self.ask(above, below, no)
                    }
                    _ => self.ask(Question::Test { rule }, yes, no),
                }
            }
            _ => self.ask(question(*operator, arguments, rule), yes, no),
        }
    }

    fn ask(&mut self, question: Question<'r>, yes: Target<'r>, no: Target<'r>) -> Option<Target<'r>> {
        if self.reversed.len() >= MAX_STEPS {
            return None;
        }
        self.reversed.push(Step { question, yes, no });
        Some(Target::Step(self.reversed.len() - 1))
    }
}

/// The question that a call is by itself.
fn question<'r>(operator: Operator, arguments: &'r [Rule], rule: &'r Rule) -> Question<'r> {
    let special = match (operator, arguments) {
        (Operator::Equal, [left, right]) => equality(left, right, false),
        (Operator::StrictEqual, [left, right]) => equality(left, right, true),
        (Operator::Less | Operator::LessOrEqual, [left, right])
        | (Operator::Greater | Operator::GreaterOrEqual, [left, right] | [left, right, _]) => {
            order(operator, left, right)
        }
        (Operator::Var, _) => attribute(rule).map(|attribute| Question::Truthy { attribute }),
        (Operator::In | Operator::InList, [needle, _]) => {
            attribute(needle).map(|attribute| Question::In { attribute, rule })
        }
        (Operator::StartsWith, [text, Rule::Text(affix)]) => {
            attribute(text).map(|attribute| Question::Affix { operation: step::STARTS_WITH, attribute, text: affix })
        }
        (Operator::EndsWith, [text, Rule::Text(affix)]) => {
            attribute(text).map(|attribute| Question::Affix { operation: step::ENDS_WITH, attribute, text: affix })
        }
        _ => None,
    };
    special.unwrap_or(Question::Test { rule })
}

/// An attribute and a literal, whichever way round.
fn equality<'r>(left: &'r Rule, right: &'r Rule, strict: bool) -> Option<Question<'r>> {
    let (attribute, literal) = match attribute(left) {
        Some(attribute) => (attribute, right),
        None => (attribute(right)?, left),
    };
    let compare = |comparison, number| Some(Question::Compare { attribute, comparison, number });
    match literal {
        Rule::Text(text) => Some(Question::Is { attribute, text, strict }),
        Rule::Number(number) => compare(if strict { step::STRICTLY_NUMBER } else { step::EQUAL }, *number),
        Rule::Bool(value) => {
            compare(if strict { step::STRICTLY_BOOL } else { step::EQUAL }, f64::from(u8::from(*value)))
        }
        Rule::Null => compare(step::NULL, 0.0),
        _ => None,
    }
}

/// An attribute and a number, whichever way round.
fn order<'r>(operator: Operator, left: &'r Rule, right: &'r Rule) -> Option<Question<'r>> {
    let (attribute, comparison, number) = match (left, right) {
        (left, Rule::Number(number)) => {
            let comparison = match operator {
                Operator::Less => step::LESS,
                Operator::LessOrEqual => step::LESS_OR_EQUAL,
                Operator::Greater => step::GREATER,
                _ => step::GREATER_OR_EQUAL,
            };
            (attribute(left)?, comparison, *number)
        }
        (Rule::Number(number), right) => {
            let comparison = match operator {
                Operator::Less => step::GREATER,
                Operator::LessOrEqual => step::GREATER_OR_EQUAL,
                Operator::Greater => step::LESS,
                _ => step::LESS_OR_EQUAL,
            };
            (attribute(right)?, comparison, *number)
        }
        _ => return None,
    };
    Some(Question::Compare { attribute, comparison, number })
}

/// The name of the attribute that a rule is; `targetingKey` is one. A path, a default or what only the evaluator knows is none.
fn attribute(rule: &Rule) -> Option<&str> {
    let Rule::Call(Operator::Var, arguments) = rule else { return None };
    match arguments.as_slice() {
        [Rule::Text(name)] | [Rule::Text(name), Rule::Null] => {
            let plain = !name.is_empty() && !name.contains('.') && !matches!(name.as_str(), "$flagd" | "$lists");
            plain.then_some(name)
        }
        _ => None,
    }
}
