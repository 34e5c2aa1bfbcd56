//! What the operators do with values: JavaScript's conversions and comparisons as the JsonLogic table means them.

use std::cell::Cell;

use super::{
    number::{NumberText, parse_float, to_number},
    scratch::TextSink,
    value::Value,
};

/// How deep `cat` follows lists in lists: no deeper than a JSON parser would have let them be.
const MAX_TEXT_DEPTH: u32 = 128;

/// The longest text that [`same_short`] compares.
pub(crate) const SHORT: usize = 16;

/// `a == b`, without a call for the short texts that values of attributes are.
#[inline]
pub(crate) fn same(a: &[u8], b: &[u8]) -> bool {
    if a.len() != b.len() {
        return false;
    }
    match a.len() {
        0..=SHORT => same_short(a, b),
        17..=32 => a.first_chunk::<16>() == b.first_chunk::<16>() && a.last_chunk::<16>() == b.last_chunk::<16>(),
        _ => a == b,
    }
}

/// `a == b` where neither is longer than [`SHORT`].
#[inline(always)]
pub(crate) fn same_short(a: &[u8], b: &[u8]) -> bool {
    if a.len() != b.len() {
        return false;
    }
    // Two reads that may overlap cover every length from one to two of their sizes; three bytes cover one to three.
    match a.len() {
        0 => true,
        1..4 => {
            let middle = a.len() / 2;
            a.first() == b.first() && a.get(middle) == b.get(middle) && a.last() == b.last()
        }
        4..8 => a.first_chunk::<4>() == b.first_chunk::<4>() && a.last_chunk::<4>() == b.last_chunk::<4>(),
        _ => a.first_chunk::<8>() == b.first_chunk::<8>() && a.last_chunk::<8>() == b.last_chunk::<8>(),
    }
}

pub(crate) fn truthy(value: &Value<'_>) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(value) => *value,
        Value::Int(value) => *value != 0,
        Value::Float(value) => *value != 0.0 && !value.is_nan(),
        Value::Text(text) => !text.is_empty(),
        Value::List(list) => !list.is_empty(),
        Value::Object(_) => true,
    }
}

/// `Number(value)`, with null and absent as 0; lists and objects are NaN.
#[inline]
pub(crate) fn number(value: &Value<'_>) -> f64 {
    match value {
        Value::Null => 0.0,
        Value::Bool(value) => f64::from(u8::from(*value)),
        #[expect(clippy::cast_precision_loss, reason = "rules compute in doubles")]
        Value::Int(value) => *value as f64,
        Value::Float(value) => *value,
        Value::Text(text) => to_number(text),
        Value::List(_) | Value::Object(_) => f64::NAN,
    }
}

/// What `+` and `*` add and multiply: `parseFloat` of text, NaN for booleans.
pub(crate) fn addend(value: &Value<'_>) -> f64 {
    match value {
        Value::Text(text) => parse_float(text),
        Value::Bool(_) => f64::NAN,
        other => number(other),
    }
}

/// `==`.
pub(crate) fn equal(a: &Value<'_>, b: &Value<'_>) -> bool {
    match (a, b) {
        (Value::Null, Value::Null) => true,
        (Value::Null, _) | (_, Value::Null) => false,
        (Value::Text(a), Value::Text(b)) => same(a, b),
        // Two whole numbers beyond 2^53 too are compared as doubles, as every JSON reader in JavaScript would.
        _ => number(a) == number(b),
    }
}

/// `===`.
pub(crate) fn strict_equal(a: &Value<'_>, b: &Value<'_>) -> bool {
    match (a, b) {
        (Value::Null, Value::Null) => true,
        (Value::Bool(a), Value::Bool(b)) => a == b,
        (Value::Text(a), Value::Text(b)) => a == b,
        (Value::Int(_) | Value::Float(_), Value::Int(_) | Value::Float(_)) => number(a) == number(b),
        _ => false,
    }
}

/// An ordering operator: `texts` decides for two texts, `numbers` for all else.
#[inline]
pub(crate) fn ordered(
    a: &Value<'_>,
    b: &Value<'_>,
    texts: fn(&[u8], &[u8]) -> bool,
    numbers: fn(f64, f64) -> bool,
) -> bool {
    match (a, b) {
        (Value::Text(a), Value::Text(b)) => texts(a, b),
        _ => numbers(number(a), number(b)),
    }
}

/// `in` with a list or text on the right that is not known when the rule is compiled.
pub(crate) fn contains(haystack: &Value<'_>, needle: &Value<'_>) -> bool {
    match haystack {
        Value::List(list) => {
            (0..list.len()).any(|index| list.element(index).is_some_and(|element| strict_equal(&element, needle)))
        }
        Value::Text(text) => match needle {
            Value::Text(part) => find(text, part),
            Value::Bool(true) => find(text, b"true"),
            Value::Bool(false) => find(text, b"false"),
            Value::Int(_) | Value::Float(_) => find(text, NumberText::new().format(number(needle)).as_bytes()),
            Value::Null | Value::List(_) | Value::Object(_) => false,
        },
        _ => false,
    }
}

/// Whether `part` stands in `text`, in linear time whatever the two are.
fn find(text: &[u8], part: &[u8]) -> bool {
    memchr::memmem::find(text, part).is_some()
}

/// Writes the text of `value` as `cat` sees it; `steps` is how many more list elements may be looked at, `None` says they
/// ran out.
pub(crate) fn write_text(value: &Value<'_>, sink: &mut impl TextSink, steps: &Cell<u32>) -> Option<()> {
    write_text_at(value, sink, steps, MAX_TEXT_DEPTH)
}

fn write_text_at(value: &Value<'_>, sink: &mut impl TextSink, steps: &Cell<u32>, depth: u32) -> Option<()> {
    match value {
        Value::Null => {}
        Value::Bool(true) => sink.write(b"true"),
        Value::Bool(false) => sink.write(b"false"),
        Value::Int(_) | Value::Float(_) => sink.write(NumberText::new().format(number(value)).as_bytes()),
        Value::Text(text) => sink.write(text),
        Value::Object(_) => sink.write(b"[object Object]"),
        Value::List(list) => {
            let depth = depth.checked_sub(1)?;
            for index in 0..list.len() {
                steps.set(steps.get().checked_sub(1)?);
                if index > 0 {
                    sink.write(b",");
                }
                write_text_at(&list.element(index).unwrap_or_default(), sink, steps, depth)?;
            }
        }
    }
    Some(())
}

/// The part of `text` that `substr` picks; `start` and `length` count code points.
pub(crate) fn substr(text: &[u8], start: f64, length: Option<f64>) -> &[u8] {
    let whole = |number: f64| if number.is_nan() { 0.0 } else { number.trunc() };
    let count = code_points(text);
    #[expect(clippy::cast_precision_loss, reason = "texts are far shorter than 2^53")]
    let total = count as f64;
    let start = whole(start);
    let start = if start < 0.0 { (total + start).max(0.0) } else { start.min(total) };
    let left = total - start;
    let take = match length.map(whole) {
        None => left,
        Some(length) if length < 0.0 => (left + length).max(0.0),
        Some(length) => length.min(left),
    };
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "within 0 ..= total")]
    let (start, take) = (start as usize, take as usize);
    let first = byte_of(text, start);
    let rest = text.get(first..).unwrap_or_default();
    rest.get(..byte_of(rest, take)).unwrap_or_default()
}

/// Code points, and bytes that belong to none, in `text`.
fn code_points(text: &[u8]) -> usize {
    let mut count = 0;
    let mut rest = text;
    while let Some(len) = code_point_len(rest) {
        rest = rest.get(len..).unwrap_or_default();
        count += 1;
    }
    count
}

/// Where the code point number `index` starts.
fn byte_of(text: &[u8], index: usize) -> usize {
    let mut at = 0;
    for _ in 0..index {
        match code_point_len(text.get(at..).unwrap_or_default()) {
            Some(len) => at += len,
            None => break,
        }
    }
    at
}

/// How long the first code point is; a byte that starts none is one of its own.
fn code_point_len(text: &[u8]) -> Option<usize> {
    let len = match text.first()? {
        0xc2..=0xdf => 2,
        0xe0..=0xef => 3,
        0xf0..=0xf4 => 4,
        _ => return Some(1),
    };
    Some(if text.get(..len).is_some_and(|head| std::str::from_utf8(head).is_ok()) { len } else { 1 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn substr_counts_code_points() {
        let cut = |start, length| String::from_utf8(substr("aé€😀z".as_bytes(), start, length).to_vec()).unwrap();
        assert_eq!(cut(1.0, Some(2.0)), "é€");
        assert_eq!(cut(-2.0, None), "😀z");
        assert_eq!(cut(-9.0, Some(1.0)), "a");
        assert_eq!(cut(1.0, Some(-1.0)), "é€😀");
        assert_eq!(cut(4.0, Some(-3.0)), "");
        assert_eq!(cut(f64::NAN, Some(f64::INFINITY)), "aé€😀z");
        assert_eq!(cut(f64::INFINITY, None), "");
        assert_eq!(substr(b"\xff\xfeab", 1.0, Some(2.0)), b"\xfea");
    }

    #[test]
    fn texts_of_every_length_are_told_apart() {
        let text: Vec<u8> = (0..40).collect();
        let copy = text.clone();
        for len in 0..text.len() {
            assert!(same(&text[..len], &copy[..len]));
            assert!(!same(&text[..len], &text[..=len]));
            assert!(len > SHORT || same_short(&text[..len], &copy[..len]));
            assert!(len > SHORT || !same_short(&text[..len], &text[..=len]));
            for at in 0..len {
                let mut other = text[..len].to_vec();
                other[at] ^= 1;
                assert!(!same(&text[..len], &other), "{len} {at}");
                assert!(len > SHORT || !same_short(&text[..len], &other), "{len} {at}");
            }
        }
    }

    #[test]
    fn a_needle_in_text_is_converted_unless_it_is_nothing() {
        let text = Value::from("a1true");
        for (needle, found) in [
            (Value::from(1), true),
            (Value::from(true), true),
            (Value::Null, false),
            (Value::from(""), true),
            (Value::from("x"), false),
        ] {
            assert_eq!(contains(&text, &needle), found, "{needle:?}");
        }
    }
}
