//! Numbers and text as JavaScript converts them, which is what the JsonLogic table means by a number.
//!
//! Source: ECMA-262, "StringToNumber", "Number::toString" and `parseFloat`.

/// A number's text, as JavaScript prints it: `1`, `0.5`, `1e+21`, `NaN`, `-Infinity`.
pub(crate) struct NumberText(ryu_js::Buffer);

impl NumberText {
    pub(crate) fn new() -> Self {
        Self(ryu_js::Buffer::new())
    }

    pub(crate) fn format(&mut self, number: f64) -> &str {
        self.0.format(number)
    }
}

/// `Number(text)`; NaN where the text is no number.
pub(crate) fn to_number(text: &[u8]) -> f64 {
    let Ok(text) = std::str::from_utf8(text) else { return f64::NAN };
    let text = text.trim_matches(is_js_space);
    match text.as_bytes() {
        [] => 0.0,
        [b'0', b'x' | b'X', digits @ ..] => radix(digits, 16),
        [b'0', b'o' | b'O', digits @ ..] => radix(digits, 8),
        [b'0', b'b' | b'B', digits @ ..] => radix(digits, 2),
        bytes => {
            let len = decimal_prefix(bytes);
            if len == bytes.len() { decimal(text) } else { f64::NAN }
        }
    }
}

/// `parseFloat(text)`: the longest prefix that is a decimal number; NaN where there is none.
pub(crate) fn parse_float(text: &[u8]) -> f64 {
    // Only a valid prefix matters: what follows the number may be any bytes.
    let valid = match std::str::from_utf8(text) {
        Ok(text) => text,
        Err(error) => {
            text.get(..error.valid_up_to()).and_then(|head| std::str::from_utf8(head).ok()).unwrap_or_default()
        }
    };
    let text = valid.trim_start_matches(is_js_space);
    let len = decimal_prefix(text.as_bytes());
    text.get(..len).map_or(f64::NAN, decimal)
}

/// JavaScript's `WhiteSpace` and `LineTerminator`.
fn is_js_space(c: char) -> bool {
    matches!(
        c,
        '\u{9}'..='\u{d}' | ' ' | '\u{a0}' | '\u{1680}' | '\u{2000}'..='\u{200a}' | '\u{2028}' | '\u{2029}'
            | '\u{202f}' | '\u{205f}' | '\u{3000}' | '\u{feff}'
    )
}

/// How many bytes at the start of `bytes` are a `StrDecimalLiteral`; 0 where none are.
fn decimal_prefix(bytes: &[u8]) -> usize {
    let digits = |from: usize| bytes.iter().skip(from).take_while(|byte| byte.is_ascii_digit()).count();
    let sign = usize::from(matches!(bytes.first(), Some(b'+' | b'-')));
    if bytes.get(sign..).is_some_and(|rest| rest.starts_with(b"Infinity")) {
        return sign + b"Infinity".len();
    }
    let whole = digits(sign);
    let mut end = sign + whole;
    if bytes.get(end) == Some(&b'.') {
        let fraction = digits(end + 1);
        if whole + fraction == 0 {
            return 0;
        }
        end += 1 + fraction;
    } else if whole == 0 {
        return 0;
    }
    if matches!(bytes.get(end), Some(b'e' | b'E')) {
        let exponent_sign = usize::from(matches!(bytes.get(end + 1), Some(b'+' | b'-')));
        let exponent = digits(end + 1 + exponent_sign);
        if exponent > 0 {
            end += 1 + exponent_sign + exponent;
        }
    }
    end
}

/// The value of a whole `StrDecimalLiteral`. Rust's parser takes all of them and rounds correctly.
fn decimal(text: &str) -> f64 {
    text.parse().unwrap_or(f64::NAN)
}

fn radix(digits: &[u8], radix: u32) -> f64 {
    if digits.is_empty() {
        return f64::NAN;
    }
    let mut value = 0.0;
    for &digit in digits {
        match char::from(digit).to_digit(radix) {
            Some(digit) => value = value * f64::from(radix) + f64::from(digit),
            None => return f64::NAN,
        }
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_becomes_a_number_as_in_javascript() {
        for (text, number) in [
            ("", 0.0),
            ("  ", 0.0),
            (" 1 ", 1.0),
            ("\u{a0}1\u{feff}", 1.0),
            ("0x10", 16.0),
            ("0b11", 3.0),
            ("0o17", 15.0),
            ("-1.5e3", -1500.0),
            (".5", 0.5),
            ("5.", 5.0),
            ("+5", 5.0),
            ("Infinity", f64::INFINITY),
            ("-Infinity", f64::NEG_INFINITY),
        ] {
            assert_eq!(to_number(text.as_bytes()), number, "{text:?}");
        }
        for text in ["a", "1a", ".", "+", "-0x10", "0x", "1e", "inf", "nan", "infinity", "1_0", "--1"] {
            assert!(to_number(text.as_bytes()).is_nan(), "{text:?}");
        }
        assert!(to_number(b"1\xff").is_nan());
    }

    #[test]
    fn parse_float_takes_the_longest_prefix() {
        for (text, number) in [
            ("3.25abc", 3.25),
            (" 1e5x", 1e5),
            ("1e", 1.0),
            ("0x10", 0.0),
            ("-.5.5", -0.5),
            ("Infinityx", f64::INFINITY),
        ] {
            assert_eq!(parse_float(text.as_bytes()), number, "{text:?}");
        }
        for text in ["", "abc", ".", "-", "e5"] {
            assert!(parse_float(text.as_bytes()).is_nan(), "{text:?}");
        }
        assert_eq!(parse_float(b"2\xff"), 2.0);
    }

    #[test]
    fn numbers_print_as_in_javascript() {
        for (number, text) in [
            (1.0, "1"),
            (-0.0, "0"),
            (0.1, "0.1"),
            (1e21, "1e+21"),
            (1e20, "100000000000000000000"),
            (1e-7, "1e-7"),
            (f64::NAN, "NaN"),
        ] {
            assert_eq!(NumberText::new().format(number), text);
        }
    }
}
