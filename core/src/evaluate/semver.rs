//! `sem_ver`: semantic versions as flagd compares them.
//!
//! Source: SemVer 2.0.0 §11 for the order; `golang.org/x/mod/semver` for partial versions and the leading `v`.

use std::cmp::Ordering;

/// A version, borrowed from its text: up to three numbers and a pre-release.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Version<'a> {
    numbers: [&'a [u8]; 3],
    prerelease: &'a [u8],
}

impl<'a> Version<'a> {
    /// `[vV]major[.minor[.patch[-prerelease][+build]]]`, no leading zeros; missing numbers are 0.
    pub(crate) fn parse(text: &'a [u8]) -> Option<Self> {
        let mut rest = match text {
            [b'v' | b'V', rest @ ..] => rest,
            _ => text,
        };
        let mut numbers: [&[u8]; 3] = [b"0"; 3];
        let mut found = 0;
        for number in &mut numbers {
            if found > 0 {
                match rest {
                    [b'.', after @ ..] => rest = after,
                    _ => break,
                }
            }
            let (digits, after) = rest.split_at(rest.iter().take_while(|byte| byte.is_ascii_digit()).count());
            if digits.is_empty() || (digits.len() > 1 && digits.first() == Some(&b'0')) {
                return None;
            }
            *number = digits;
            rest = after;
            found += 1;
        }
        let mut prerelease: &[u8] = b"";
        if found == 3 {
            if let [b'-', after @ ..] = rest {
                let end = after.iter().position(|&byte| byte == b'+').unwrap_or(after.len());
                (prerelease, rest) = after.split_at(end);
                if !identifiers(prerelease, true) {
                    return None;
                }
            }
            if let [b'+', build @ ..] = rest {
                if !identifiers(build, false) {
                    return None;
                }
                rest = b"";
            }
        }
        rest.is_empty().then_some(Self { numbers, prerelease })
    }

    /// SemVer's precedence; build metadata does not count.
    pub(crate) fn precedence(&self, other: &Self) -> Ordering {
        let numbers = self.numbers.iter().zip(&other.numbers).map(|(a, b)| number_order(a, b));
        numbers.fold(Ordering::Equal, Ordering::then).then_with(|| prerelease_order(self.prerelease, other.prerelease))
    }

    fn same_major(&self, other: &Self) -> bool {
        self.numbers[0] == other.numbers[0]
    }

    fn same_minor(&self, other: &Self) -> bool {
        self.same_major(other) && self.numbers[1] == other.numbers[1]
    }
}

/// `left operator right`; `None` for an operator that does not exist.
pub(crate) fn compare(left: &Version<'_>, operator: &[u8], right: &Version<'_>) -> Option<bool> {
    let order = left.precedence(right);
    Some(match operator {
        b"=" => order.is_eq(),
        b"!=" => order.is_ne(),
        b"<" => order.is_lt(),
        b"<=" => order.is_le(),
        b">" => order.is_gt(),
        b">=" => order.is_ge(),
        b"^" => left.same_major(right),
        b"~" => left.same_minor(right),
        _ => return None,
    })
}

/// Dot-separated, none empty, of letters, digits and `-`; in a pre-release no number has a leading zero.
fn identifiers(text: &[u8], prerelease: bool) -> bool {
    text.split(|&byte| byte == b'.').all(|identifier| {
        let numeric = identifier.iter().all(u8::is_ascii_digit);
        !identifier.is_empty()
            && identifier.iter().all(|&byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !(prerelease && numeric && identifier.len() > 1 && identifier.first() == Some(&b'0'))
    })
}

/// Numbers without leading zeros, of any length: the longer is the larger.
fn number_order(a: &[u8], b: &[u8]) -> Ordering {
    a.len().cmp(&b.len()).then_with(|| a.cmp(b))
}

fn prerelease_order(a: &[u8], b: &[u8]) -> Ordering {
    match (a.is_empty(), b.is_empty()) {
        (true, true) => return Ordering::Equal,
        (true, false) => return Ordering::Greater,
        (false, true) => return Ordering::Less,
        (false, false) => {}
    }
    let (mut a, mut b) = (a.split(|&byte| byte == b'.'), b.split(|&byte| byte == b'.'));
    loop {
        let (x, y) = match (a.next(), b.next()) {
            (Some(x), Some(y)) => (x, y),
            (x, y) => return x.is_some().cmp(&y.is_some()),
        };
        let order = match (x.iter().all(u8::is_ascii_digit), y.iter().all(u8::is_ascii_digit)) {
            (true, true) => number_order(x, y),
            (true, false) => Ordering::Less,
            (false, true) => Ordering::Greater,
            (false, false) => x.cmp(y),
        };
        if order.is_ne() {
            return order;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(text: &str) -> Version<'_> {
        Version::parse(text.as_bytes()).expect(text)
    }

    #[test]
    fn the_precedence_example_of_semver_holds() {
        let ascending = [
            "1.0.0-alpha",
            "1.0.0-alpha.1",
            "1.0.0-alpha.beta",
            "1.0.0-beta",
            "1.0.0-beta.2",
            "1.0.0-beta.11",
            "1.0.0-rc.1",
            "1.0.0",
            "1.0.1",
            "1.1",
            "2",
            "10",
        ];
        for (i, a) in ascending.iter().enumerate() {
            for (j, b) in ascending.iter().enumerate() {
                assert_eq!(version(a).precedence(&version(b)), i.cmp(&j), "{a} {b}");
            }
        }
    }

    #[test]
    fn what_is_no_version_is_refused() {
        for text in [
            "", "v", "1.", "1..2", "01", "1.0.0.0", "1-alpha", "1.0-rc", "1.0.0-", "1.0.0-01", "1.0.0+", "a", "-1",
            "1e+06", "vv1",
        ] {
            assert!(Version::parse(text.as_bytes()).is_none(), "{text}");
        }
        assert!(Version::parse(b"1.0.0-0a.-+001.x").is_some());
    }

    #[test]
    fn operators_compare_as_flagd_does() {
        let holds = |a, operator: &str, b| compare(&version(a), operator.as_bytes(), &version(b));
        assert_eq!(holds("v1.2.3", "=", "V1.2.3+build"), Some(true));
        assert_eq!(holds("1.9", "^", "1.10.0"), Some(true));
        assert_eq!(holds("1.9", "~", "1.10.0"), Some(false));
        assert_eq!(holds("1.2.9", "~", "1.2"), Some(true));
        assert_eq!(holds("2.0.0-alpha", "<", "2.0.0"), Some(true));
        assert_eq!(holds("1", "!=", "1.0.0"), Some(false));
        assert_eq!(holds("1", "===", "1"), None);
    }
}
