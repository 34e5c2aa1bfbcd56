//! `sem_ver`: semantic versions as flagd compares them.

use std::cmp::Ordering;

use super::number;
use super::value::Value;

/// `{"sem_ver": [left, operator, right]}`; `None` where anything is invalid.
pub(super) fn compare(left: &Value, operator: &Value, right: &Value) -> Option<bool> {
    let left = Version::parse(&printed(left)?)?;
    let right = Version::parse(&printed(right)?)?;
    let Value::Text(operator) = operator else { return None };
    let order = left.cmp(&right);
    Some(match operator.as_str() {
        "=" => order == Ordering::Equal,
        "!=" => order != Ordering::Equal,
        "<" => order == Ordering::Less,
        "<=" => order != Ordering::Greater,
        ">" => order == Ordering::Greater,
        ">=" => order != Ordering::Less,
        "^" => left.numbers[0] == right.numbers[0],
        "~" => left.numbers[..2] == right.numbers[..2],
        _ => return None,
    })
}

/// Text as it is; a number as Go's `%v` prints it, unless that has an exponent.
fn printed(version: &Value) -> Option<String> {
    match version {
        Value::Text(text) => Some(text.clone()),
        Value::Number(number) => {
            let magnitude = number.abs();
            let without_exponent = magnitude == 0.0 || (1e-4..1e6).contains(&magnitude);
            let sign = if *number == 0.0 && number.is_sign_negative() { "-" } else { "" };
            without_exponent.then(|| format!("{sign}{}", number::to_text(*number)))
        }
        _ => None,
    }
}

/// A version; its build metadata is checked and forgotten.
#[derive(PartialEq, Eq)]
struct Version {
    /// Major, minor, patch: decimal digits, since there is no largest one.
    numbers: [String; 3],
    /// The identifiers of the pre-release; none for a release.
    prerelease: Vec<String>,
}

impl Version {
    fn parse(text: &str) -> Option<Self> {
        let text = text.strip_prefix(['v', 'V']).unwrap_or(text);
        let (text, build) = split_off(text, '+');
        let (text, prerelease) = split_off(text, '-');
        let numbers: Vec<&str> = text.split('.').collect();
        let complete = numbers.len() == 3;
        if numbers.len() > 3 || !complete && (build.is_some() || prerelease.is_some()) {
            return None;
        }
        if !numbers.iter().all(|digits| is_number(digits)) {
            return None;
        }
        let build: Vec<&str> = build.map_or(Vec::new(), |build| build.split('.').collect());
        let prerelease: Vec<&str> = prerelease.map_or(Vec::new(), |prerelease| prerelease.split('.').collect());
        if !build.iter().all(|identifier| is_identifier(identifier)) {
            return None;
        }
        if !prerelease
            .iter()
            .all(|identifier| is_identifier(identifier) && (!is_digits(identifier) || is_number(identifier)))
        {
            return None;
        }
        let part = |index: usize| (*numbers.get(index).unwrap_or(&"0")).to_owned();
        Some(Self {
            numbers: [part(0), part(1), part(2)],
            prerelease: prerelease.into_iter().map(str::to_owned).collect(),
        })
    }
}

impl Ord for Version {
    fn cmp(&self, other: &Self) -> Ordering {
        for (a, b) in self.numbers.iter().zip(&other.numbers) {
            if a != b {
                return compare_digits(a, b);
            }
        }
        match (self.prerelease.is_empty(), other.prerelease.is_empty()) {
            (true, true) => Ordering::Equal,
            (true, false) => Ordering::Greater,
            (false, true) => Ordering::Less,
            (false, false) => compare_prereleases(&self.prerelease, &other.prerelease),
        }
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Identifier by identifier: numbers by value and below words, words by their bytes; of two alike the longer is greater.
fn compare_prereleases(a: &[String], b: &[String]) -> Ordering {
    for (a, b) in a.iter().zip(b) {
        if a != b {
            return match (is_digits(a), is_digits(b)) {
                (true, true) => compare_digits(a, b),
                (true, false) => Ordering::Less,
                (false, true) => Ordering::Greater,
                (false, false) => a.cmp(b),
            };
        }
    }
    a.len().cmp(&b.len())
}

/// Digits without leading zeros: the longer number is the greater one.
fn compare_digits(a: &str, b: &str) -> Ordering {
    a.len().cmp(&b.len()).then_with(|| a.cmp(b))
}

fn split_off(text: &str, mark: char) -> (&str, Option<&str>) {
    text.split_once(mark).map_or((text, None), |(before, after)| (before, Some(after)))
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_number(text: &str) -> bool {
    is_digits(text) && (text == "0" || !text.starts_with('0'))
}

fn is_identifier(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}
