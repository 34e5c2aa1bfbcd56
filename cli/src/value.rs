//! Flag values, metadata, sizes and times as people and machines read them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use libflags::{FlagValue, Metadata, ScalarRef, definition::flag::ValueKind, snapshot::SnapshotFlag};
use serde_json::{Map, Value, json};

/// A flag's value as JSON.
pub(crate) fn to_json(value: FlagValue<'_>) -> Value {
    match value {
        FlagValue::Bool(value) => Value::Bool(value),
        FlagValue::Int(value) => Value::from(value),
        FlagValue::Float(value) => number(value),
        FlagValue::Text(text) => Value::from(text),
        // Compiled from JSON, so it is; should it not be after all, it is shown as it is.
        FlagValue::Json(text) => serde_json::from_str(text).unwrap_or_else(|_| Value::from(text)),
    }
}

/// A flag's value for people: a text is quoted, JSON is as written.
pub(crate) fn shown(value: FlagValue<'_>) -> String {
    match value {
        FlagValue::Json(text) => text.to_owned(),
        value => to_json(value).to_string(),
    }
}

/// A number as JSON: whole ones without a fraction.
fn number(number: f64) -> Value {
    #[expect(clippy::cast_possible_truncation, reason = "whole and within ±2^53")]
    if number.fract() == 0.0 && number.abs() <= 9_007_199_254_740_992.0 {
        Value::from(number as i64)
    } else {
        Value::from(number)
    }
}

/// Metadata as a JSON object.
pub(crate) fn metadata(metadata: Metadata<'_>) -> Map<String, Value> {
    let entry = |(name, value): (&str, ScalarRef<'_>)| {
        let value = match value {
            ScalarRef::Bool(value) => Value::Bool(value),
            ScalarRef::Number(value) => number(value),
            ScalarRef::Text(text) => Value::from(text),
        };
        (name.to_owned(), value)
    };
    metadata.iter().map(entry).collect()
}

/// What a flag's values are called, as in OpenFeature.
pub(crate) const fn kind(kind: Option<ValueKind>) -> &'static str {
    match kind {
        Some(ValueKind::Bool) => "boolean",
        Some(ValueKind::Text) => "string",
        Some(ValueKind::Number) => "number",
        Some(ValueKind::Json) => "object",
        None => "unknown",
    }
}

/// `enabled`, `disabled` or `broken`.
pub(crate) fn state(flag: &SnapshotFlag<'_>) -> &'static str {
    if flag.broken() {
        "broken"
    } else if flag.enabled() {
        "enabled"
    } else {
        "disabled"
    }
}

/// The default variant and its value.
pub(crate) fn default<'s>(flag: &SnapshotFlag<'s>) -> Option<(&'s str, Option<FlagValue<'s>>)> {
    let name = flag.default_variant()?;
    let value = flag.variants().find(|(variant, _)| *variant == name).map(|(_, value)| value);
    Some((name, value))
}

/// The default variant for people: `on (true)`, `-` without one.
pub(crate) fn default_shown(flag: &SnapshotFlag<'_>) -> String {
    match default(flag) {
        Some((name, Some(value))) => format!("{name} ({})", shown(value)),
        Some((name, None)) => name.to_owned(),
        None => "-".to_owned(),
    }
}

/// A flag for machines.
pub(crate) fn flag(flag: &SnapshotFlag<'_>) -> Value {
    json!({
        "key": flag.key,
        "flagSetId": libflags::snapshot::flag_set(flag),
        "type": kind(flag.kind()),
        "state": state(flag),
        "defaultVariant": flag.default_variant(),
        "defaultValue": default(flag).and_then(|(_, value)| value).map(to_json),
        "targeted": flag.targeted(),
    })
}

/// `17`, `1.2 KiB`, `3.4 MiB`.
pub(crate) fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    #[expect(clippy::cast_precision_loss, reason = "two digits are shown")]
    let mut number = bytes as f64 / 1024.0;
    let mut unit = 0;
    while number >= 1024.0 && unit + 1 < UNITS.len() {
        number /= 1024.0;
        unit += 1;
    }
    format!("{number:.1} {}", UNITS[unit])
}

/// `12 ms`, `3.4 s`, `5 min 6 s`, `7 h 8 min`, `9 d 10 h`.
pub(crate) fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0 => format!("{} ms", duration.as_millis()),
        1..60 => format!("{:.1} s", duration.as_secs_f64()),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3600..86400 => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
        _ => format!("{} d {} h", seconds / 86400, seconds / 3600 % 24),
    }
}

/// A moment in UTC, such as `2026-01-31T23:59:59Z`; of a time before 1970, that of 1970.
pub(crate) fn time(at: SystemTime) -> String {
    let seconds = at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let (days, of_day) = (seconds / 86400, seconds % 86400);
    let (year, month, day) = civil(days);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", of_day / 3600, of_day / 60 % 60, of_day % 60)
}

/// The same of nanoseconds since 1970; `None` of 0, which stands for never.
pub(crate) fn time_ns(ns: u64) -> Option<String> {
    (ns != 0).then(|| time(UNIX_EPOCH + Duration::from_nanos(ns)))
}

/// The same of milliseconds since 1970.
pub(crate) fn time_ms(ms: i64) -> String {
    time(UNIX_EPOCH + Duration::from_millis(u64::try_from(ms).unwrap_or(0)))
}

/// The day, in UTC, of milliseconds since 1970.
pub(crate) fn day(ms: i64) -> String {
    time_ms(ms).chars().take_while(|letter| *letter != 'T').collect()
}

/// The milliseconds from 1970 to the beginning of a day, in UTC.
///
/// # Errors
/// A text for the user, where `text` is no day from 1970 on.
pub(crate) fn day_ms(text: &str) -> Result<i64, String> {
    const DAY_MS: i64 = 86_400_000;
    let wrong = || format!("{text:?} is no day: YYYY-MM-DD is expected");
    let year: i64 = text.get(..4).and_then(|year| year.parse().ok()).ok_or_else(wrong)?;
    // Days are as good as sorted: it is not before the year's first day by the average, nor 400 after that.
    let first = (year - 1970) * 146_097 / 400 - 1;
    let days = first.max(0)..first + 400;
    days.map(|days| days * DAY_MS).find(|ms| day(*ms) == text).ok_or_else(wrong)
}

/// Milliseconds since 1970 of a moment: a day, a day and a time (UTC), or a while from now such as `90m`, `12h` or `7d`.
///
/// # Errors
/// A text for the user, where `text` is none of these.
pub(crate) fn moment_ms(text: &str) -> Result<i64, String> {
    let wrong = || format!("{text:?} is no time: YYYY-MM-DD, YYYY-MM-DDTHH:MM[:SS]Z, or a while such as 90m, 12h, 7d");
    let unit = match text.chars().last() {
        Some('s') => 1_000,
        Some('m') => 60_000,
        Some('h') => 3_600_000,
        Some('d') => 86_400_000,
        _ => 0,
    };
    if unit > 0 {
        let number: u32 = text.get(..text.len() - 1).and_then(|number| number.parse().ok()).ok_or_else(wrong)?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        return Ok(i64::try_from(now.as_millis()).unwrap_or(i64::MAX).saturating_add(i64::from(number) * unit));
    }
    let Some((day, time)) = text.split_once('T') else { return day_ms(text).map_err(|_| wrong()) };
    let time = time.strip_suffix('Z').ok_or_else(wrong)?;
    let mut parts = time.split(':').map(|part| part.parse::<i64>().ok().filter(|_| part.len() == 2));
    let mut part = |most: i64| parts.next().flatten().filter(|part| (0..most).contains(part));
    let (hour, minute) = (part(24).ok_or_else(wrong)?, part(60).ok_or_else(wrong)?);
    let second = if time.len() > 5 { part(60).ok_or_else(wrong)? } else { 0 };
    if parts.next().is_some() {
        return Err(wrong());
    }
    Ok(day_ms(day).map_err(|_| wrong())? + (hour * 3_600 + minute * 60 + second) * 1_000)
}

/// Year, month and day of a day counted from 1970-01-01.
///
/// Source: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", `civil_from_days`.
const fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year_of_era + era * 400 + if month <= 2 { 1 } else { 0 }, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_sizes_and_durations() {
        let at = |seconds| time(UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(at(0), "1970-01-01T00:00:00Z");
        assert_eq!(at(951_782_399), "2000-02-28T23:59:59Z");
        assert_eq!(at(951_868_800), "2000-03-01T00:00:00Z");
        assert_eq!(at(1_700_000_000), "2023-11-14T22:13:20Z");
        assert_eq!(time_ns(0), None);
        for (text, seconds) in [("1970-01-01", 0), ("2000-02-29", 951_782_400), ("2023-12-31", 1_703_980_800)] {
            assert_eq!(day_ms(text), Ok(seconds * 1000));
            assert_eq!(day(seconds * 1000 + 86_399_999), text);
        }
        for wrong in ["2023-02-29", "1969-12-31", "2023-1-1", "tomorrow", "", "2023-12-31T", "é"] {
            assert!(day_ms(wrong).is_err(), "{wrong}");
        }
        for (text, seconds) in
            [("2000-02-29", 951_782_400), ("2000-02-29T00:01Z", 951_782_460), ("2000-02-28T23:59:59Z", 951_782_399)]
        {
            assert_eq!(moment_ms(text), Ok(seconds * 1000));
        }
        let soon = moment_ms("2h").expect("a moment") - moment_ms("60m").expect("a moment");
        assert!((3_590_000..=3_600_000).contains(&soon), "{soon}");
        for wrong in
            ["2000-02-29T00:01", "2000-02-29T24:00Z", "2000-02-29T1:00Z", "2000-02-29T00:00:00:00Z", "h", "-1h", "é"]
        {
            assert!(moment_ms(wrong).is_err(), "{wrong}");
        }
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(1536), "1.5 KiB");
        assert_eq!(bytes(5 << 30), "5.0 GiB");
        assert_eq!(duration(Duration::from_millis(12)), "12 ms");
        assert_eq!(duration(Duration::from_millis(3400)), "3.4 s");
        assert_eq!(duration(Duration::from_secs(306)), "5 min 6 s");
        assert_eq!(duration(Duration::from_secs(200_000)), "2 d 7 h");
        assert_eq!(number(3.0), json!(3));
        assert_eq!(number(-2.5), json!(-2.5));
    }
}
