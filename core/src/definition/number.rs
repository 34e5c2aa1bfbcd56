//! Numbers as definitions may hold them.

/// The largest whole number that a double holds with all its neighbours: 2^53-1.
const LARGEST: f64 = 9_007_199_254_740_991.0;

/// A JSON number's value.
pub(crate) fn parse(spelling: &str) -> Result<f64, String> {
    // Few digits are the usual case, and exact.
    if spelling.len() <= 15 && spelling.bytes().all(|byte| byte.is_ascii_digit()) {
        let whole = spelling.bytes().fold(0_u64, |sum, digit| sum * 10 + u64::from(digit - b'0'));
        #[expect(clippy::cast_precision_loss, reason = "below 10^15")]
        return Ok(whole as f64);
    }
    match spelling.parse::<f64>() {
        Ok(value) if value.abs() <= LARGEST => Ok(value),
        _ => Err(format!("the number {} is beyond ±9007199254740991 (2^53-1)", shorten(spelling))),
    }
}

/// A number's text in JavaScript.
pub(crate) fn to_text(value: f64) -> String {
    let magnitude = value.abs();
    if value == 0.0 {
        "0".to_owned()
    } else if magnitude < 1e-6 {
        format!("{value:e}")
    } else if magnitude >= 1e21 {
        format!("{value:e}").replace('e', "e+")
    } else {
        format!("{value}")
    }
}

/// `text` for a message: no more than its first 60 characters.
pub(crate) fn shorten(text: &str) -> String {
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
