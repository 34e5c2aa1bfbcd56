//! When a certificate ends: the one thing of it that is read here, by walking its DER as far as that.
//!
//! ```text
//! SEQUENCE  certificate
//! └ SEQUENCE  what is signed
//!   ├ [0]  version, may be absent
//!   ├ INTEGER  serial number
//!   ├ SEQUENCE  algorithm
//!   ├ SEQUENCE  issuer
//!   └ SEQUENCE  validity
//!     ├ UTCTime or GeneralizedTime  not before
//!     └ UTCTime or GeneralizedTime  not after  ◄──
//! ```
//!
//! Source: RFC 5280, sections 4.1 and 4.1.2.5; ITU-T X.690 for lengths.

const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// The last second, since 1970, in which a certificate (DER) is good; `None` where it is not made as it has to be.
pub(crate) fn expiry_s(certificate: &[u8]) -> Option<i64> {
    let (certificate, _) = expect(SEQUENCE, certificate)?;
    let (mut rest, _) = expect(SEQUENCE, certificate)?;
    if rest.first() == Some(&VERSION) {
        (_, _, rest) = element(rest)?;
    }
    for _ in ["serial number", "algorithm", "issuer"] {
        (_, _, rest) = element(rest)?;
    }
    let (validity, _) = expect(SEQUENCE, rest)?;
    let (_, _, rest) = element(validity)?;
    let (tag, time, _) = element(rest)?;
    second(tag, std::str::from_utf8(time).ok()?)
}

/// The content of an element of this tag, and what follows it.
fn expect(tag: u8, der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (found, content, rest) = element(der)?;
    (found == tag).then_some((content, rest))
}

/// Tag and content of an element, and what follows it.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[tag, length], rest) = der.split_first_chunk::<2>()?;
    let (length, rest) = match length {
        0..=0x7f => (usize::from(length), rest),
        // So many bytes of length follow. Nothing here is longer than 4 of them can say.
        0x81..=0x84 => {
            let (bytes, rest) = rest.split_at_checked(usize::from(length - 0x80))?;
            (bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

/// `YYMMDDHHMMSSZ` or `YYYYMMDDHHMMSSZ`, the only forms that certificates may have.
fn second(tag: u8, time: &str) -> Option<i64> {
    let digits = time.strip_suffix('Z').filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))?;
    let (year, rest) = match (tag, digits.len()) {
        (UTC_TIME, 12) => {
            let year: i64 = digits[..2].parse().ok()?;
            (if year < 50 { 2000 + year } else { 1900 + year }, &digits[2..])
        }
        (GENERALIZED_TIME, 14) => (digits[..4].parse().ok()?, &digits[4..]),
        _ => return None,
    };
    let part = |at: usize, range: std::ops::RangeInclusive<i64>| {
        rest[at..at + 2].parse::<i64>().ok().filter(|part| range.contains(part))
    };
    let day = day(year, part(0, 1..=12)?, part(2, 1..=31)?);
    Some(day * 86_400 + part(4, 0..=23)? * 3_600 + part(6, 0..=59)? * 60 + part(8, 0..=60)?)
}

/// Days since 1970 of a date of the Gregorian calendar. Years are counted from March, so that the day that is there or not is the last.
fn day(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let of_years = year * 365 + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    /// The 1st of March of the year 0 is so many days before 1970.
    const TO_1970: i64 = 719_468;
    of_years + (153 * month + 2) / 5 + day - 1 - TO_1970
}

#[cfg(test)]
mod tests {
    use super::*;

    fn der(tag: u8, content: &[u8]) -> Vec<u8> {
        let length = content.len();
        let mut der = match length {
            0..=0x7f => vec![tag, u8::try_from(length).expect("short")],
            _ => [&[tag, 0x82][..], &u16::try_from(length).expect("short").to_be_bytes()].concat(),
        };
        der.extend_from_slice(content);
        der
    }

    fn certificate(version: bool, not_after: &[u8]) -> Vec<u8> {
        let mut signed = if version { der(VERSION, &der(2, &[2])) } else { Vec::new() };
        signed.extend(der(2, &[1, 2, 3]));
        signed.extend(der(SEQUENCE, &[6, 0]));
        // Long enough for a length of several bytes.
        signed.extend(der(SEQUENCE, &[5; 300]));
        signed.extend(der(SEQUENCE, &[&der(UTC_TIME, b"700101000000Z"), not_after].concat()));
        signed.extend(der(SEQUENCE, &[0; 90]));
        der(SEQUENCE, &[der(SEQUENCE, &signed), der(SEQUENCE, &[0; 9])].concat())
    }

    #[test]
    fn the_end_is_found() {
        // `date -u -d '…' +%s`
        for (tag, time, second) in [
            (UTC_TIME, "261123090507Z", 1_795_424_707),
            (UTC_TIME, "000229235959Z", 951_868_799),
            (UTC_TIME, "491231235959Z", 2_524_607_999),
            (UTC_TIME, "500101000000Z", -631_152_000),
            (GENERALIZED_TIME, "20500101000000Z", 2_524_608_000),
            (GENERALIZED_TIME, "99991231235959Z", 253_402_300_799),
            (GENERALIZED_TIME, "20000301000000Z", 951_868_800),
        ] {
            for version in [true, false] {
                assert_eq!(expiry_s(&certificate(version, &der(tag, time.as_bytes()))), Some(second), "{time}");
            }
        }
    }

    #[test]
    fn what_is_no_certificate_has_no_end() {
        let good = certificate(true, &der(UTC_TIME, b"261123090507Z"));
        let end = good.windows(13).position(|window| window == b"261123090507Z").expect("it is in there") + 13;
        for cut in 0..good.len() {
            assert_eq!(expiry_s(&good[..cut]), None, "cut at {cut}");
        }
        for at in 0..end {
            let mut other = good.clone();
            other[at] ^= 0x80;
            // Any answer will do, and an end of it.
            let _ = expiry_s(&other);
        }
        for (tag, time) in [
            (UTC_TIME, "261323090507Z"),
            (UTC_TIME, "2611230905Z"),
            (UTC_TIME, "261123090507"),
            (UTC_TIME, "2611230905+7Z"),
            (GENERALIZED_TIME, "261123090507Z"),
            (4, "261123090507Z"),
        ] {
            assert_eq!(expiry_s(&certificate(true, &der(tag, time.as_bytes()))), None, "{time}");
        }
        assert_eq!(expiry_s(&[SEQUENCE, 0x80, 0, 0]), None);
        assert_eq!(expiry_s(&[SEQUENCE, 0x84, 0xff, 0xff, 0xff, 0xff]), None);
    }
}
