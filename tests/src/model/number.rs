//! Numbers as JavaScript reads and prints them (ECMA-262: `Number::toString`, `StringToNumber`, `parseFloat`).

/// `String(number)`.
pub(super) fn to_text(number: f64) -> String {
    if number.is_nan() {
        return "NaN".to_owned();
    }
    if number == 0.0 {
        return "0".to_owned(); // -0 too
    }
    if number < 0.0 {
        return format!("-{}", to_text(-number));
    }
    if number.is_infinite() {
        return "Infinity".to_owned();
    }
    // In the specification's words: number = 0.digits × 10^point, with as few digits as tell it from its neighbours.
    // Rust's `{:e}` finds the same digits: d.ddde±x.
    let scientific = format!("{number:e}");
    let (mantissa, exponent) = scientific.split_once('e').expect("`{:e}` always prints an exponent");
    let digits = mantissa.replace('.', "");
    let point = exponent.parse::<i32>().expect("an exponent is a small integer") + 1;
    let count = i32::try_from(digits.len()).expect("a double has at most 17 digits");
    if count <= point && point <= 21 {
        return digits + &zeros(point - count);
    }
    if 0 < point && point <= 21 {
        let (whole, fraction) = digits.split_at(usize::try_from(point).expect("it is positive"));
        return format!("{whole}.{fraction}");
    }
    if -6 < point && point <= 0 {
        return format!("0.{}{digits}", zeros(-point));
    }
    let (first, rest) = digits.split_at(1);
    let dot = if rest.is_empty() { "" } else { "." };
    format!("{first}{dot}{rest}e{:+}", point - 1)
}

/// `Number(text)`.
pub(super) fn from_text(text: &str) -> f64 {
    let text = text.trim_matches(is_white_space);
    if text.is_empty() {
        return 0.0;
    }
    for (prefix, bits_a_digit) in [("0x", 4), ("0X", 4), ("0o", 3), ("0O", 3), ("0b", 1), ("0B", 1)] {
        if let Some(digits) = text.strip_prefix(prefix) {
            return from_digits(digits, bits_a_digit).unwrap_or(f64::NAN);
        }
    }
    if decimal_prefix(text) == text { decimal(text) } else { f64::NAN }
}

/// `parseFloat(text)`.
pub(super) fn parse_float(text: &str) -> f64 {
    decimal(decimal_prefix(text.trim_start_matches(is_white_space)))
}

fn zeros(count: i32) -> String {
    "0".repeat(usize::try_from(count).expect("a count is not negative"))
}

/// The longest prefix of `text` that is a `StrDecimalLiteral`; empty where there is none.
fn decimal_prefix(text: &str) -> &str {
    let digits_at = |from: usize| text[from..].bytes().take_while(u8::is_ascii_digit).count();
    let mut end = usize::from(text.starts_with(['+', '-']));
    if text[end..].starts_with("Infinity") {
        return &text[..end + "Infinity".len()];
    }
    let whole = digits_at(end);
    end += whole;
    if text[end..].starts_with('.') {
        let fraction = digits_at(end + 1);
        if whole + fraction == 0 {
            return "";
        }
        end += 1 + fraction;
    } else if whole == 0 {
        return "";
    }
    if text[end..].starts_with(['e', 'E']) {
        let sign = usize::from(text[end + 1..].starts_with(['+', '-']));
        let exponent = digits_at(end + 1 + sign);
        if exponent > 0 {
            end += 1 + sign + exponent;
        }
    }
    &text[..end]
}

/// The value of a whole `StrDecimalLiteral`; NaN of the empty text.
fn decimal(literal: &str) -> f64 {
    match literal {
        "" => f64::NAN,
        "Infinity" | "+Infinity" => f64::INFINITY,
        "-Infinity" => f64::NEG_INFINITY,
        _ => literal.parse().expect("Rust reads every decimal literal of JavaScript"),
    }
}

/// The value of digits of 1, 3 or 4 bits each, rounded once, to nearest, ties to even. `None` for anything but such digits.
fn from_digits(digits: &str, bits_a_digit: u32) -> Option<f64> {
    if digits.is_empty() {
        return None;
    }
    let mut bits = Vec::new();
    for digit in digits.chars() {
        let value = digit.to_digit(1 << bits_a_digit)?;
        bits.extend((0..bits_a_digit).rev().map(|place| value >> place & 1));
    }
    let first = bits.iter().position(|bit| *bit == 1).unwrap_or(bits.len());
    let (head, tail) = bits[first..].split_at((bits.len() - first).min(100));
    // 100 leading bits decide the rounding, but for whether anything follows them.
    let head = head.iter().fold(0_u128, |sum, bit| sum << 1 | u128::from(*bit));
    let sticky = u128::from(tail.contains(&1));
    #[expect(clippy::cast_precision_loss, reason = "the rounding is the point")]
    let rounded = (head | sticky) as f64;
    Some(rounded * 2_f64.powi(i32::try_from(tail.len()).unwrap_or(i32::MAX)))
}

/// ECMA-262's `WhiteSpace` and `LineTerminator`.
fn is_white_space(character: char) -> bool {
    matches!(
        character,
        '\t' | '\n' | '\u{b}' | '\u{c}' | '\r' | ' ' | '\u{a0}' | '\u{1680}' | '\u{2000}'
            ..='\u{200a}' | '\u{2028}' | '\u{2029}' | '\u{202f}' | '\u{205f}' | '\u{3000}' | '\u{feff}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_print_as_in_javascript() {
        let cases = [
            (0.0, "0"),
            (-0.0, "0"),
            (1.0, "1"),
            (-1.5, "-1.5"),
            (0.1, "0.1"),
            (0.1 + 0.2, "0.30000000000000004"),
            (1e21, "1e+21"),
            (1e20, "100000000000000000000"),
            (123_456_789_012_345_680_000.0, "123456789012345680000"),
            (1.5e300, "1.5e+300"),
            (1e-6, "0.000001"),
            (1e-7, "1e-7"),
            (1.25e-7, "1.25e-7"),
            (5e-324, "5e-324"),
            (f64::MAX, "1.7976931348623157e+308"),
            (f64::INFINITY, "Infinity"),
            (f64::NEG_INFINITY, "-Infinity"),
            (f64::NAN, "NaN"),
            (9_007_199_254_740_991.0, "9007199254740991"),
            (100.0, "100"),
            (-1e-7, "-1e-7"),
        ];
        for (number, text) in cases {
            assert_eq!(to_text(number), text);
        }
    }

    #[test]
    fn text_reads_as_in_javascript() {
        let cases = [
            ("", 0.0, f64::NAN),
            (" \t\n\u{a0}\u{feff}", 0.0, f64::NAN),
            ("12", 12.0, 12.0),
            (" 12 ", 12.0, 12.0),
            ("12px", f64::NAN, 12.0),
            ("px", f64::NAN, f64::NAN),
            (".5", 0.5, 0.5),
            ("5.", 5.0, 5.0),
            (".", f64::NAN, f64::NAN),
            ("-", f64::NAN, f64::NAN),
            ("+1", 1.0, 1.0),
            ("--1", f64::NAN, f64::NAN),
            ("1e3", 1000.0, 1000.0),
            ("1e", f64::NAN, 1.0),
            ("1e+", f64::NAN, 1.0),
            ("1.5.5", f64::NAN, 1.5),
            ("0x10", 16.0, 0.0),
            ("0X1f", 31.0, 0.0),
            ("0b101", 5.0, 0.0),
            ("0o17", 15.0, 0.0),
            ("0x", f64::NAN, 0.0),
            ("0xg", f64::NAN, 0.0),
            ("-0x10", f64::NAN, 0.0),
            ("0b2", f64::NAN, 0.0),
            ("Infinity", f64::INFINITY, f64::INFINITY),
            ("-Infinity", f64::NEG_INFINITY, f64::NEG_INFINITY),
            ("Infinityx", f64::NAN, f64::INFINITY),
            ("infinity", f64::NAN, f64::NAN),
            ("inf", f64::NAN, f64::NAN),
            ("nan", f64::NAN, f64::NAN),
            ("1_000", f64::NAN, 1.0),
            ("1e400", f64::INFINITY, f64::INFINITY),
            ("\u{85}1", f64::NAN, f64::NAN),
            ("٣", f64::NAN, f64::NAN),
            ("1\u{3000}", 1.0, 1.0),
            ("e5", f64::NAN, f64::NAN),
            (".e5", f64::NAN, f64::NAN),
            // One bit past the 53 kept, tied and not tied.
            ("0x20000000000001", 9_007_199_254_740_992.0, 0.0),
            ("0x20000000000003", 9_007_199_254_740_996.0, 0.0),
            ("0x200000000000010000000000000000000000001", 9_007_199_254_740_994.0 * 2_f64.powi(100), 0.0),
        ];
        for (text, number, prefix) in cases {
            assert!(same(from_text(text), number), "Number({text:?}) gave {}", from_text(text));
            assert!(same(parse_float(text), prefix), "parseFloat({text:?}) gave {}", parse_float(text));
        }
    }

    fn same(a: f64, b: f64) -> bool {
        a == b || a.is_nan() && b.is_nan()
    }
}
