//! Rules: JsonLogic, and flagd's own operators, interpreted from their JSON.

use serde_json::{Map, Value as Json, json};

use super::value::Value;
use super::{bucket, semver};
use crate::engine::Subject;

/// Checks a rule as written, and puts the evaluators in the place of their `$ref`s.
///
/// What it gives is the rule with every operator's arguments in an array. An error says what is wrong with it.
pub(super) fn resolve(rule: &Json, evaluators: &Map<String, Json>) -> Result<Json, String> {
    resolve_within(rule, evaluators, &[])
}

/// What a resolved rule evaluates to.
pub(super) fn evaluate(rule: &Json, flag_key: &str, subject: &Subject) -> Value {
    Evaluation { flag_key, subject }.value(rule, Scope::Context)
}

/// The greatest whole number below which every whole number is a double: 2^53 - 1.
const MOST: f64 = 9_007_199_254_740_991.0;

/// The operators, and how few and how many arguments they take.
const OPERATORS: &[(&str, usize, usize)] = &[
    ("var", 0, 2),
    ("missing", 0, ANY),
    ("missing_some", 2, 2),
    ("if", 0, ANY),
    ("?:", 0, ANY),
    ("==", 2, 2),
    ("!=", 2, 2),
    ("===", 2, 2),
    ("!==", 2, 2),
    ("!", 0, 1),
    ("!!", 0, 1),
    ("or", 0, ANY),
    ("and", 0, ANY),
    (">", 2, 3),
    (">=", 2, 3),
    ("<", 2, 3),
    ("<=", 2, 3),
    ("max", 0, ANY),
    ("min", 0, ANY),
    ("+", 0, ANY),
    ("-", 1, 2),
    ("*", 1, ANY),
    ("/", 2, 2),
    ("%", 2, 2),
    ("map", 2, 2),
    ("filter", 2, 2),
    ("reduce", 3, 3),
    ("all", 2, 2),
    ("none", 2, 2),
    ("some", 2, 2),
    ("merge", 0, ANY),
    ("in", 2, 2),
    ("cat", 0, ANY),
    ("substr", 2, 3),
    ("log", 0, 1),
    ("fractional", 0, ANY),
    ("sem_ver", 0, ANY),
    ("starts_with", 0, ANY),
    ("ends_with", 0, ANY),
];

const ANY: usize = usize::MAX;

/// `open` are the evaluators being put in place around this rule.
fn resolve_within(rule: &Json, evaluators: &Map<String, Json>, open: &[&str]) -> Result<Json, String> {
    match rule {
        Json::Object(members) if members.len() == 1 => {
            let (operator, argument) = members.iter().next().expect("it has one member");
            if operator == "$ref" {
                let (name, body) = follow(argument, evaluators, open)?;
                return resolve_within(body, evaluators, &[open, &[name]].concat());
            }
            let (_, fewest, most) = OPERATORS
                .iter()
                .find(|(name, ..)| name == operator)
                .ok_or_else(|| format!("unknown operator {operator}"))?;
            let arguments = resolve_arguments(argument, evaluators, open)?;
            if arguments.len() < *fewest || arguments.len() > *most {
                return Err(format!("{operator} does not take {} arguments", arguments.len()));
            }
            if operator == "in" && names_a_list(&arguments[1]) {
                return Err("there are no id lists here".to_owned());
            }
            Ok(json!({operator: arguments}))
        }
        Json::Array(elements) => Ok(Json::Array(resolve_each(elements, evaluators, open)?)),
        data => check_numbers(data).map(|()| data.clone()),
    }
}

/// An operator's arguments: an array of them, or a single one without an array around it. An evaluator may stand for either.
fn resolve_arguments(argument: &Json, evaluators: &Map<String, Json>, open: &[&str]) -> Result<Vec<Json>, String> {
    match argument {
        Json::Array(arguments) => resolve_each(arguments, evaluators, open),
        Json::Object(members) if members.len() == 1 && members.contains_key("$ref") => {
            let (name, body) = follow(&members["$ref"], evaluators, open)?;
            resolve_arguments(body, evaluators, &[open, &[name]].concat())
        }
        single => Ok(vec![resolve_within(single, evaluators, open)?]),
    }
}

fn resolve_each(rules: &[Json], evaluators: &Map<String, Json>, open: &[&str]) -> Result<Vec<Json>, String> {
    rules.iter().map(|rule| resolve_within(rule, evaluators, open)).collect()
}

/// The evaluator that a `$ref` names, with its name.
fn follow<'e>(name: &Json, evaluators: &'e Map<String, Json>, open: &[&str]) -> Result<(&'e str, &'e Json), String> {
    let name = name.as_str().ok_or("a $ref must be text")?;
    let (name, body) = evaluators.get_key_value(name).ok_or_else(|| format!("no evaluator {name}"))?;
    if open.contains(&name.as_str()) {
        return Err(format!("evaluator {name} refers to itself"));
    }
    Ok((name, body))
}

/// Whether a resolved rule is `{"var": "$lists.NAME"}`.
fn names_a_list(rule: &Json) -> bool {
    rule["var"]
        .as_array()
        .is_some_and(|path| path.len() == 1 && path[0].as_str().is_some_and(|path| path.starts_with("$lists.")))
}

/// Numbers must lie within ±(2^53-1).
pub(super) fn check_numbers(data: &Json) -> Result<(), String> {
    match data {
        Json::Number(number) if number.as_f64().is_none_or(|number| number.abs() > MOST) => {
            Err(format!("{number} is too large"))
        }
        Json::Array(elements) => elements.iter().try_for_each(check_numbers),
        Json::Object(members) => members.values().try_for_each(check_numbers),
        _ => Ok(()),
    }
}

/// What `var` looks into.
#[derive(Clone, Copy)]
enum Scope<'a> {
    /// At the top of a rule: the evaluation context.
    Context,
    /// Within `map`, `filter`, `reduce`, `all`, `none` and `some`: an element.
    Element(&'a Value),
}

struct Evaluation<'a> {
    flag_key: &'a str,
    subject: &'a Subject,
}

impl Evaluation<'_> {
    fn value(&self, rule: &Json, scope: Scope<'_>) -> Value {
        match rule {
            Json::Object(members) if members.len() == 1 => {
                let (operator, arguments) = members.iter().next().expect("it has one member");
                let arguments = arguments.as_array().expect("a resolved rule has its arguments in an array");
                self.call(operator, arguments, scope)
            }
            Json::Array(elements) => Value::List(elements.iter().map(|element| self.value(element, scope)).collect()),
            data => Value::from_json(data),
        }
    }

    fn call(&self, operator: &str, arguments: &[Json], scope: Scope<'_>) -> Value {
        // The first six decide which of their arguments are evaluated, the next six in which scope.
        match operator {
            "if" | "?:" => return self.choose(arguments, scope),
            "and" => return self.first_or_last(arguments, scope, |value| !value.is_truthy()),
            "or" => return self.first_or_last(arguments, scope, Value::is_truthy),
            "var" => {
                let path = arguments.first().map_or(Value::Null, |path| self.value(path, scope));
                let default = || arguments.get(1).map_or(Value::Null, |default| self.value(default, scope));
                return self.look_up(&path, scope).unwrap_or_else(default);
            }
            "map" => {
                let elements = self.value(&arguments[0], scope).elements();
                return Value::List(elements.iter().map(|e| self.value(&arguments[1], Scope::Element(e))).collect());
            }
            "filter" => {
                let mut elements = self.value(&arguments[0], scope).elements();
                elements.retain(|element| self.value(&arguments[1], Scope::Element(element)).is_truthy());
                return Value::List(elements);
            }
            "all" | "none" | "some" => {
                let elements = self.value(&arguments[0], scope).elements();
                let holds = |element: &Value| self.value(&arguments[1], Scope::Element(element)).is_truthy();
                return Value::Bool(match operator {
                    "all" => !elements.is_empty() && elements.iter().all(holds),
                    "none" => !elements.iter().any(holds),
                    _ => elements.iter().any(holds),
                });
            }
            "reduce" => {
                let mut accumulator = self.value(&arguments[2], scope);
                for current in self.value(&arguments[0], scope).elements() {
                    let scope = Value::Object(vec![("current".into(), current), ("accumulator".into(), accumulator)]);
                    accumulator = self.value(&arguments[1], Scope::Element(&scope));
                }
                return accumulator;
            }
            _ => {}
        }
        let values: Vec<Value> = arguments.iter().map(|argument| self.value(argument, scope)).collect();
        let number = |index: usize| values[index].to_number();
        match operator {
            "==" => Value::Bool(values[0].loosely_equals(&values[1])),
            "!=" => Value::Bool(!values[0].loosely_equals(&values[1])),
            "===" => Value::Bool(values[0].strictly_equals(&values[1])),
            "!==" => Value::Bool(!values[0].strictly_equals(&values[1])),
            "!" => Value::Bool(!values.first().is_some_and(Value::is_truthy)),
            "!!" => Value::Bool(values.first().is_some_and(Value::is_truthy)),
            "<" => Value::Bool(values.windows(2).all(|pair| is_less(&pair[0], &pair[1]))),
            "<=" => Value::Bool(values.windows(2).all(|pair| is_less_or_equal(&pair[0], &pair[1]))),
            ">" => Value::Bool(is_less(&values[1], &values[0])),
            ">=" => Value::Bool(is_less_or_equal(&values[1], &values[0])),
            "max" => Value::Number(values.iter().map(Value::to_number).fold(f64::NEG_INFINITY, greater)),
            "min" => Value::Number(-values.iter().map(|value| -value.to_number()).fold(f64::NEG_INFINITY, greater)),
            "+" => Value::Number(values.iter().map(Value::to_summand).fold(0.0, |sum, value| sum + value)),
            "*" => Value::Number(values.iter().map(Value::to_summand).fold(1.0, |product, value| product * value)),
            "-" if values.len() == 1 => Value::Number(-number(0)),
            "-" => Value::Number(number(0) - number(1)),
            "/" => Value::Number(number(0) / number(1)),
            "%" => Value::Number(number(0) % number(1)), // Rust's, like JavaScript's, has the sign of the dividend
            "merge" => Value::List(values.into_iter().flat_map(as_list).collect()),
            "missing" => {
                let names = match values.first() {
                    Some(Value::List(names)) => names.clone(),
                    _ => values,
                };
                Value::List(self.missing(names, scope))
            }
            "missing_some" => {
                let names = as_list(values[1].clone());
                let missing = self.missing(names.clone(), scope);
                #[expect(clippy::cast_precision_loss, reason = "no list is that long")]
                let present = (names.len() - missing.len()) as f64;
                Value::List(if present >= number(0) { Vec::new() } else { missing })
            }
            "in" => Value::Bool(is_in(&values[0], &values[1])),
            "cat" => Value::Text(values.iter().map(Value::to_text).collect()),
            "substr" => Value::Text(part(&values[0].to_text(), number(1), values.get(2).map(Value::to_number))),
            "log" => values.into_iter().next().unwrap_or(Value::Null),
            "fractional" => self.fractional(&values),
            "sem_ver" => match &values[..] {
                [left, operator, right] => semver::compare(left, operator, right).map_or(Value::Null, Value::Bool),
                _ => Value::Null,
            },
            "starts_with" => match &values[..] {
                [Value::Text(text), Value::Text(start)] => Value::Bool(text.starts_with(start.as_str())),
                _ => Value::Null,
            },
            "ends_with" => match &values[..] {
                [Value::Text(text), Value::Text(end)] => Value::Bool(text.ends_with(end.as_str())),
                _ => Value::Null,
            },
            unknown => unreachable!("{unknown} was refused when the rule was resolved"),
        }
    }

    /// `if`: condition, result, condition, result, …, and perhaps a last result.
    fn choose(&self, arguments: &[Json], scope: Scope<'_>) -> Value {
        match arguments {
            [] => Value::Null,
            [last] => self.value(last, scope),
            [condition, result, rest @ ..] => {
                if self.value(condition, scope).is_truthy() {
                    self.value(result, scope)
                } else {
                    self.choose(rest, scope)
                }
            }
        }
    }

    /// The first operand that `decides`, else the last one; null of none.
    fn first_or_last(&self, arguments: &[Json], scope: Scope<'_>, decides: impl Fn(&Value) -> bool) -> Value {
        let mut last = Value::Null;
        for argument in arguments {
            last = self.value(argument, scope);
            if decides(&last) {
                break;
            }
        }
        last
    }

    /// What lies at `path`; `None` where it is absent.
    fn look_up(&self, path: &Value, scope: Scope<'_>) -> Option<Value> {
        let path = path.to_text();
        let segments: Vec<&str> = path.split('.').filter(|segment| !segment.is_empty()).collect();
        let context;
        let (mut found, rest) = match (scope, &segments[..]) {
            (Scope::Element(element), segments) => (element, segments),
            (Scope::Context, ["$flagd", "flagKey"]) => return Some(Value::Text(self.flag_key.to_owned())),
            (Scope::Context, ["$flagd", "timestamp"]) => {
                #[expect(clippy::cast_precision_loss, reason = "rules compute in doubles")]
                return Some(Value::Number(self.subject.unix_seconds as f64));
            }
            (Scope::Context, ["$flagd" | "$lists", ..]) => return None,
            (Scope::Context, ["targetingKey", rest @ ..]) => {
                context = Value::from_json(self.subject.targeting_key.as_ref().filter(|key| !key.is_null())?);
                (&context, rest)
            }
            (Scope::Context, segments) => {
                context = self.whole_context();
                (&context, segments)
            }
        };
        for segment in rest {
            found = found.step(segment)?;
        }
        Some(found.clone())
    }

    /// The context as an object. What no attribute can stand in for is the evaluator's here too.
    fn whole_context(&self) -> Value {
        let mut attributes = self.subject.attributes.clone();
        for reserved in ["targetingKey", "$flagd", "$lists"] {
            attributes.remove(reserved);
        }
        if let Some(key) = self.subject.targeting_key.as_ref().filter(|key| !key.is_null()) {
            attributes.insert("targetingKey".to_owned(), key.clone());
        }
        Value::from_json(&Json::Object(attributes))
    }

    /// Those of `names` whose value is null, absent or the empty text.
    fn missing(&self, mut names: Vec<Value>, scope: Scope<'_>) -> Vec<Value> {
        names.retain(|name| match self.look_up(name, scope) {
            None | Some(Value::Null) => true,
            Some(Value::Text(text)) => text.is_empty(),
            Some(_) => false,
        });
        names
    }

    fn fractional(&self, values: &[Value]) -> Value {
        let buckets = match values {
            [Value::Text(key), buckets @ ..] => return bucket::choose(key, buckets),
            [Value::Null, buckets @ ..] => buckets,
            buckets => buckets,
        };
        match &self.subject.targeting_key {
            Some(Json::String(key)) if !key.is_empty() => bucket::choose(&format!("{}{key}", self.flag_key), buckets),
            _ => Value::Null,
        }
    }
}

/// `a < b`; any NaN makes it false.
fn is_less(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Text(a), Value::Text(b)) => a.as_bytes() < b.as_bytes(),
        (a, b) => a.to_number() < b.to_number(),
    }
}

/// `a <= b`; any NaN makes it false.
fn is_less_or_equal(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Text(a), Value::Text(b)) => a.as_bytes() <= b.as_bytes(),
        (a, b) => a.to_number() <= b.to_number(),
    }
}

/// JavaScript's `Math.max` of two: NaN if either is, and 0 above -0.
fn greater(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() {
        f64::NAN
    } else if a == b {
        if a.is_sign_negative() { b } else { a }
    } else if a > b {
        a
    } else {
        b
    }
}

/// Whether `needle` is part of a text, or an element of a list.
fn is_in(needle: &Value, haystack: &Value) -> bool {
    match (needle, haystack) {
        (needle, Value::List(elements)) => elements.iter().any(|element| element.strictly_equals(needle)),
        (Value::Text(_) | Value::Number(_) | Value::Bool(_), Value::Text(text)) => text.contains(&needle.to_text()),
        _ => false,
    }
}

fn as_list(value: Value) -> Vec<Value> {
    match value {
        Value::List(elements) => elements,
        single => vec![single],
    }
}

/// `substr`: from `start` (negative: from the end) so many characters as `length` says (negative: all but so many).
fn part(text: &str, start: f64, length: Option<f64>) -> String {
    let characters: Vec<char> = text.chars().collect();
    #[expect(clippy::cast_precision_loss, reason = "no text is that long")]
    let count = characters.len() as f64;
    let whole = |number: f64| if number.is_nan() { 0.0 } else { number.trunc() };
    let start = whole(start);
    let first = if start < 0.0 { (count + start).max(0.0) } else { start.min(count) };
    let end = match length.map(whole) {
        None => count,
        Some(length) if length < 0.0 => (count + length).max(first),
        Some(length) => (first + length).min(count),
    };
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "0 <= first <= end <= count, all whole"
    )]
    let range = first as usize..end as usize;
    characters[range].iter().collect()
}
