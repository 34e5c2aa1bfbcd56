//! A flag's `targeting`, from JSON to a typed [`Rule`].
//!
//! An object with exactly one member is an operator call, or a `$ref` to an evaluator, which stands for the evaluator's
//! body wherever it occurs. An object with no member or several is data, all the way down.

use super::check::{Checker, Spot, one_of};
use super::json::Token;
use super::number;
use crate::compile::rule::{Operator, Rule};
use std::borrow::Cow;

/// What is made of a rule's result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Some operator's argument.
    Plain,
    /// It is the flag's: the name of a variant.
    Result,
    /// The right side of `in`, where an id list may stand.
    List,
}

/// However high the limit is set, no deeper: rules are read by recursion.
const DEEPEST: usize = 512;

impl<'c> Checker<'c> {
    pub(crate) fn targeting(&mut self, spot: Spot) -> Option<Rule> {
        let place = if self.variants.is_empty() { Place::Plain } else { Place::Result };
        match self.rule(spot, 1, place) {
            Rule::Null => None,
            Rule::Object(members) if members.is_empty() => None,
            rule => Some(rule),
        }
    }

    /// The rule at `spot`, which stands `depth` levels deep. Where something is wrong it is noted and a null stands in.
    pub(crate) fn rule(&mut self, spot: Spot, depth: usize, place: Place) -> Rule {
        let refs = self.refs.len();
        let rule = self.resolve(spot).map_or(Rule::Null, |spot| self.resolved(spot, depth, place));
        self.refs.truncate(refs);
        rule
    }

    /// What stands at `spot`, or at the end of the `$ref`s there. Pushes onto `refs`.
    fn resolve(&mut self, mut spot: Spot) -> Option<Spot> {
        loop {
            let tape = self.tape_of(spot)?;
            let Some(("$ref", _, name_at)) = tape.only_member(spot.node) else { return Some(spot) };
            let target = Spot { node: name_at, ..spot };
            let Some(name) = tape.text(name_at) else {
                self.error(target, format!("expected the name of an evaluator, found {}", self.kind(target)));
                return None;
            };
            let Some(index) = self.evaluators.find(name) else {
                let known = one_of(self.evaluators.names());
                let name = number::shorten(name);
                self.error(target, format!("no evaluator is called {name:?}; `$evaluators` has {known}"));
                return None;
            };
            if let Some(first) = self.refs.iter().position(|open| *open == index) {
                let mut names: Vec<_> =
                    self.refs[first..].iter().map(|open| number::shorten(self.evaluators.body(*open).name)).collect();
                names.push(number::shorten(name));
                self.error(target, format!("an evaluator that refers to itself: {}", names.join(" → ")));
                return None;
            }
            if self.refs.len() >= self.limits.rule_depth {
                let limit = self.limits.rule_depth;
                self.error(target, format!("`$ref`s nested deeper than {limit} levels, the limit"));
                return None;
            }
            self.refs.push(index);
            spot = Spot { evaluator: Some(index), node: 0 };
            if let Err(fault) = &self.evaluators.body(index).tape {
                let message = format!("the evaluator {name:?} can't be read: {}", fault.message);
                self.error(target, message);
                return None;
            }
            self.not_unicode(spot);
        }
    }

    fn resolved(&mut self, spot: Spot, depth: usize, place: Place) -> Rule {
        if !self.count(spot, depth) {
            return Rule::Null;
        }
        let Some(tape) = self.tape_of(spot) else { return Rule::Null };
        let rule = match tape.token(spot.node) {
            Token::Array => {
                let mut list = Vec::with_capacity(tape.elements(spot.node).take(self.limits.literals()).count());
                for node in tape.elements(spot.node) {
                    let element = Spot { node, ..spot };
                    if self.stopped {
                        break;
                    }
                    list.push(match tape.token(node) {
                        Token::Array | Token::Object => self.rule(element, depth + 1, Place::Plain),
                        _ if self.count_literal(element) => self.scalar(element),
                        _ => Rule::Null,
                    });
                }
                Rule::List(list)
            }
            Token::Object => match tape.only_member(spot.node) {
                Some((name, name_at, value)) => {
                    let (name_at, value) = (Spot { node: name_at, ..spot }, Spot { node: value, ..spot });
                    return self.call(name, name_at, value, depth, place);
                }
                None => self.object(spot, depth),
            },
            _ => self.scalar(spot),
        };
        // The whole targeting may be `{}`: that is none.
        if place == Place::Result && !(depth == 1 && rule == Rule::Object(Vec::new())) {
            self.check_result(&rule, spot);
        }
        rule
    }

    /// An operator call.
    fn call(&mut self, name: &str, name_at: Spot, value: Spot, depth: usize, place: Place) -> Rule {
        let operator = Operator::from_name(name).filter(|operator| *operator != Operator::InList);
        if operator.is_none() {
            let name = number::shorten(name);
            self.error(name_at, format!("unknown operator {name:?}; expected one of JsonLogic's or flagd's"));
        }
        let refs = self.refs.len();
        // An evaluator may stand for the arguments.
        let Some(value) = self.resolve(value) else {
            self.refs.truncate(refs);
            return Rule::Null;
        };
        let Some(tape) = self.tape_of(value) else { return Rule::Null };
        let mut arguments;
        if *tape.token(value.node) == Token::Array {
            let count = tape.elements(value.node).count();
            arguments = Vec::with_capacity(count.min(self.limits.rule_nodes));
            for (nth, node) in tape.elements(value.node).enumerate() {
                if self.stopped {
                    break;
                }
                let place = argument_place(operator, place, nth, count);
                arguments.push(self.rule(Spot { node, ..value }, depth + 1, place));
            }
        } else {
            let place = argument_place(operator, place, 0, 1);
            arguments = vec![self.resolved(value, depth + 1, place)];
        }
        self.refs.truncate(refs);
        let Some(operator) = operator else { return Rule::Null };
        if self.stopped {
            return Rule::Null;
        }
        let (fewest, most) = operator.arity();
        if arguments.len() < fewest || arguments.len() > most {
            let expected = match (fewest, most) {
                (fewest, usize::MAX) => format!("at least {fewest}"),
                (fewest, most) if fewest == most => fewest.to_string(),
                (fewest, most) => format!("{fewest} to {most}"),
            };
            let found = arguments_in_words(arguments.len());
            self.error(name_at, format!("{name:?} with {found}; expected {expected}"));
            return Rule::Null;
        }
        if operator == Operator::In
            && let Some(list) = list_name(&arguments[1])
        {
            if !self.lists.contains(list) {
                let message = format!("no id list is called {:?}; the metadata must declare it", number::shorten(list));
                self.error(self.argument(value, 1), message);
                return Rule::Null;
            }
            arguments[1] = Rule::Text(list.to_owned());
            return Rule::Call(Operator::InList, arguments);
        }
        self.lint(operator, &arguments, name_at, value, place);
        Rule::Call(operator, arguments)
    }

    /// An object that is data.
    fn object(&mut self, spot: Spot, depth: usize) -> Rule {
        let Some(tape) = self.tape_of(spot) else { return Rule::Null };
        let mut overridden = Vec::new();
        tape.repeated(spot.node, |name| overridden.push(name));
        self.repeated(spot);
        let mut members = Vec::new();
        for (name, name_at, value) in tape.members(spot.node) {
            if self.stopped {
                break;
            }
            if overridden.binary_search(&name_at).is_ok() {
                continue;
            }
            if name == "$ref" || Operator::from_name(name).is_some_and(|operator| operator != Operator::InList) {
                let message = format!("{name:?} is not applied here: this object is data, having no member or several");
                self.warn(Spot { node: name_at, ..spot }, message);
            }
            members.push((name.to_owned(), self.data(Spot { node: value, ..spot }, depth + 1)));
        }
        Rule::Object(members)
    }

    /// A value inside an object that is data: nothing in it is a rule.
    fn data(&mut self, spot: Spot, depth: usize) -> Rule {
        if !self.count(spot, depth) {
            return Rule::Null;
        }
        let Some(tape) = self.tape_of(spot) else { return Rule::Null };
        match tape.token(spot.node) {
            Token::Array => {
                let mut list = Vec::new();
                for node in tape.elements(spot.node) {
                    if self.stopped {
                        break;
                    }
                    list.push(self.data(Spot { node, ..spot }, depth + 1));
                }
                Rule::List(list)
            }
            Token::Object => self.object(spot, depth),
            _ => self.scalar(spot),
        }
    }

    fn scalar(&mut self, spot: Spot) -> Rule {
        let Some(tape) = self.tape_of(spot) else { return Rule::Null };
        match tape.token(spot.node) {
            Token::Bool(value) => Rule::Bool(*value),
            Token::Text(text) => Rule::Text(text.as_ref().to_owned()),
            Token::Number(spelling) => match number::parse(spelling) {
                Ok(value) => Rule::Number(value),
                Err(message) => {
                    self.error(spot, message);
                    Rule::Null
                }
            },
            Token::Null | Token::Array | Token::Object => Rule::Null,
        }
    }

    /// Whether one more rule, `depth` levels deep, is within the limits.
    fn count(&mut self, spot: Spot, depth: usize) -> bool {
        self.nodes += 1;
        let limit = self.limits.rule_depth.min(DEEPEST);
        if self.stopped {
        } else if depth > limit {
            self.stopped = true;
            self.error(spot, format!("a rule nested deeper than {limit} levels, the limit"));
        } else if self.nodes > self.limits.rule_nodes {
            self.stopped = true;
            let limit = self.limits.rule_nodes;
            self.error(spot, format!("a rule of more than {limit} values and operators, the limit"));
        }
        !self.stopped
    }

    /// Whether one more scalar in a literal list is within the limits.
    fn count_literal(&mut self, spot: Spot) -> bool {
        self.literals += 1;
        if self.literals > self.limits.literals() && !self.stopped {
            self.stopped = true;
            let limit = self.limits.literals();
            self.error(
                spot,
                format!("lists of more than {limit} values in a rule, the limit; an id list can hold them"),
            );
        }
        !self.stopped
    }

    /// Where the argument `nth` of a call stands: `arguments` is the array of them, or the only one.
    fn argument(&self, arguments: Spot, nth: usize) -> Spot {
        let node = self.tape_of(arguments).and_then(|tape| tape.elements(arguments.node).nth(nth));
        Spot { node: node.unwrap_or(arguments.node), ..arguments }
    }

    /// Warns of what is allowed but hardly meant.
    fn lint(&mut self, operator: Operator, arguments: &[Rule], name_at: Spot, value: Spot, place: Place) {
        match operator {
            Operator::Var => self.lint_var(arguments, value, place),
            Operator::Fractional => self.lint_fractional(arguments, name_at, value, place),
            Operator::SemVer => self.lint_sem_ver(arguments, name_at, value),
            Operator::StartsWith | Operator::EndsWith => {
                let name = operator.name();
                if arguments.len() != 2 {
                    let found = arguments_in_words(arguments.len());
                    self.warn(name_at, format!("{name:?} with {found} is always null; expected 2"));
                }
                for (nth, argument) in arguments.iter().enumerate().take(2) {
                    if !matches!(argument, Rule::Text(_) | Rule::Call(..)) {
                        let message = format!("{name:?} of anything but two texts is null; expected text");
                        self.warn(self.argument(value, nth), message);
                    }
                }
            }
            _ => {}
        }
        if place == Place::Result && gives_boolean(operator) {
            let named = |name: &str| self.variants.iter().any(|variant| variant.name == name);
            if !named("true") || !named("false") {
                let names = self.variant_names();
                let name = operator.name();
                self.warn(
                    name_at,
                    format!("{name:?} gives true or false, but not both name a variant; expected {names}"),
                );
            }
        }
    }

    fn lint_var(&mut self, arguments: &[Rule], value: Spot, place: Place) {
        let Some(Rule::Text(path)) = arguments.first() else { return };
        if !path.starts_with('$') {
            return;
        }
        let first = path.split('.').next();
        if first == Some("$flagd") && !matches!(&**path, "$flagd.flagKey" | "$flagd.timestamp") {
            let message =
                format!("{:?} is always absent; expected $flagd.flagKey or $flagd.timestamp", number::shorten(path));
            self.warn(self.argument(value, 0), message);
        }
        if first == Some("$lists") && !(place == Place::List && arguments.len() == 1) {
            let message = "an id list is always absent here; expected it as the right side of \"in\"".to_owned();
            self.warn(self.argument(value, 0), message);
        }
    }

    fn lint_sem_ver(&mut self, arguments: &[Rule], name_at: Spot, value: Spot) {
        let [left, operator, right] = arguments else {
            let found = arguments_in_words(arguments.len());
            self.warn(name_at, format!("\"sem_ver\" with {found} is always null; expected 3"));
            return;
        };
        for (nth, version) in [(0, left), (2, right)] {
            let valid = match version {
                Rule::Text(text) => is_version(text),
                Rule::Number(number) => {
                    let magnitude = number.abs();
                    (magnitude == 0.0 || (1e-4..1e6).contains(&magnitude)) && is_version(&number::to_text(*number))
                }
                Rule::Call(..) => true,
                _ => false,
            };
            if !valid {
                let spot = self.argument(value, nth);
                let found = self.kind(spot);
                self.warn(
                    spot,
                    format!("{found} is no version, so \"sem_ver\" is always null; expected such as \"1.2.3\""),
                );
            }
        }
        const OPERATORS: [&str; 8] = ["=", "!=", "<", "<=", ">", ">=", "^", "~"];
        let valid = match operator {
            Rule::Text(text) => OPERATORS.contains(&&**text),
            Rule::Call(..) => true,
            _ => false,
        };
        if !valid {
            let spot = self.argument(value, 1);
            let (found, known) = (self.kind(spot), one_of(OPERATORS.into_iter()));
            self.warn(spot, format!("{found} compares no versions, so \"sem_ver\" is always null; expected {known}"));
        }
    }

    fn lint_fractional(&mut self, arguments: &[Rule], name_at: Spot, value: Spot, place: Place) {
        // What is computed may turn out to be anything; only what is written out is looked at.
        let key_given = matches!(arguments.first(), Some(Rule::Text(_) | Rule::Null | Rule::Call(..)));
        let buckets = &arguments[usize::from(key_given)..];
        if buckets.is_empty() {
            self.warn(name_at, "\"fractional\" without buckets is always null; expected [VARIANT, WEIGHT]".to_owned());
            return;
        }
        let mut sum = Some(0.0);
        for (nth, bucket) in buckets.iter().enumerate() {
            let spot = self.argument(value, nth + usize::from(key_given));
            let parts = match bucket {
                Rule::List(parts) if !parts.is_empty() => parts,
                Rule::Call(..) => {
                    sum = None;
                    continue;
                }
                _ => {
                    sum = None;
                    self.warn(
                        spot,
                        "not a bucket, so \"fractional\" is always null; expected [VARIANT, WEIGHT]".to_owned(),
                    );
                    continue;
                }
            };
            match &parts[0] {
                Rule::List(_) | Rule::Object(_) => {
                    let message = "a bucket of no variant; expected the name of a variant first".to_owned();
                    self.warn(self.argument(spot, 0), message);
                }
                name if place == Place::Result => self.check_result(name, self.argument(spot, 0)),
                _ => {}
            }
            let weight = match parts.get(1) {
                None | Some(Rule::Null) => 1.0,
                Some(Rule::Number(weight)) => *weight,
                Some(Rule::Call(..)) => {
                    sum = None;
                    continue;
                }
                Some(_) => f64::NAN,
            };
            let spot = self.argument(spot, 1);
            if weight < 0.0 {
                self.warn(spot, format!("the weight {} counts as 0; expected 0 or more", number::to_text(weight)));
            } else if weight.is_nan() || weight.fract() != 0.0 || weight > LARGEST_SUM {
                sum = None;
                let found = self.kind(spot);
                let message = format!(
                    "{found} is no weight, so \"fractional\" is always null; expected a whole number up to 2147483647"
                );
                self.warn(spot, message);
            }
            sum = sum.map(|sum| sum + weight.max(0.0));
        }
        match sum {
            Some(0.0) => {
                let message = "weights that sum up to 0, so \"fractional\" is always null; expected one above 0";
                self.warn(name_at, message.to_owned());
            }
            Some(sum) if sum > LARGEST_SUM => {
                let sum = number::to_text(sum);
                let message = format!(
                    "weights that sum up to {sum}, so \"fractional\" is always null; expected 2147483647 at most"
                );
                self.warn(name_at, message);
            }
            _ => {}
        }
    }

    /// Warns where a literal that is the rule's result names no variant.
    fn check_result(&mut self, rule: &Rule, spot: Spot) {
        let name: Cow<'_, str> = match rule {
            Rule::Null | Rule::Call(..) => return,
            Rule::Bool(true) => "true".into(),
            Rule::Bool(false) => "false".into(),
            Rule::Number(value) => number::to_text(*value).into(),
            Rule::Text(text) => text.as_str().into(),
            Rule::List(_) | Rule::Object(_) => {
                let (found, names) = (self.kind(spot), self.variant_names());
                self.warn(spot, format!("{found} as result names no variant; expected {names}"));
                return;
            }
        };
        if !self.variants.iter().any(|variant| variant.name == name) {
            let names = self.variant_names();
            self.warn(spot, format!("{:?} names no variant; expected {names}", number::shorten(&name)));
        }
    }
}

const LARGEST_SUM: f64 = 2_147_483_647.0;

fn arguments_in_words(count: usize) -> String {
    if count == 1 { "1 argument".to_owned() } else { format!("{count} arguments") }
}

/// What is made of an operator's argument, given what is made of the operator's result.
fn argument_place(operator: Option<Operator>, place: Place, nth: usize, count: usize) -> Place {
    match (operator, place) {
        (Some(Operator::In), _) if nth == 1 => Place::List,
        // Conditions and results in turn, with an odd one at the end for `else`.
        (Some(Operator::If | Operator::Ternary), Place::Result) if nth % 2 == 1 || nth + 1 == count => Place::Result,
        (Some(Operator::And | Operator::Or), Place::Result) if nth + 1 == count => Place::Result,
        _ => Place::Plain,
    }
}

/// The id list that the right side of an `in` means, if it means one.
fn list_name(rule: &Rule) -> Option<&str> {
    match rule {
        Rule::Call(Operator::Var, arguments) => match arguments.as_slice() {
            [Rule::Text(path)] => path.strip_prefix("$lists."),
            _ => None,
        },
        _ => None,
    }
}

fn gives_boolean(operator: Operator) -> bool {
    matches!(
        operator,
        Operator::Equal
            | Operator::NotEqual
            | Operator::StrictEqual
            | Operator::StrictNotEqual
            | Operator::Not
            | Operator::Truthy
            | Operator::Less
            | Operator::LessOrEqual
            | Operator::Greater
            | Operator::GreaterOrEqual
            | Operator::In
            | Operator::All
            | Operator::Some
            | Operator::None
            | Operator::StartsWith
            | Operator::EndsWith
            | Operator::SemVer
    )
}

/// Whether `sem_ver` reads `text` as a version: one `v` or `V`, one to three numbers, `-prerelease` and `+build` only after three.
fn is_version(text: &str) -> bool {
    let text = text.strip_prefix(['v', 'V']).unwrap_or(text);
    let core_end = text.find(['-', '+']).unwrap_or(text.len());
    let (core, rest) = text.split_at(core_end);
    let whole = |part: &str| {
        !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()) && (part == "0" || !part.starts_with('0'))
    };
    let parts = core.split('.').count();
    if parts > 3 || !core.split('.').all(whole) {
        return false;
    }
    if rest.is_empty() {
        return true;
    }
    let identifier =
        |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    let (prerelease, build) = match rest.split_once('+') {
        Some((prerelease, build)) => (prerelease, Some(build)),
        None => (rest, None),
    };
    let prerelease_good = prerelease.strip_prefix('-').is_none_or(|prerelease| {
        prerelease.split('.').all(|part| {
            let digits = part.bytes().all(|byte| byte.is_ascii_digit());
            identifier(part) && (!digits || whole(part))
        })
    });
    parts == 3 && prerelease_good && build.is_none_or(|build| build.split('.').all(identifier))
}
