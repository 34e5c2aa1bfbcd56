//! How many tests a runner says it ran.

use std::fmt;
use std::ops::AddAssign;

/// Tests that passed, failed and were skipped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Count {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    pub(crate) skipped: u64,
}

impl Count {
    /// Reads what a runner printed. Understood are the closing lines of `cargo test` and pytest, and the plain
    /// `N passed, N failed, N skipped` of our own scripts. A script's own closing line, when it is the last one, is its total over
    /// the runners whose lines stand above it. `None` where there is no such line at all.
    pub(crate) fn read(output: &str) -> Option<Self> {
        let last = output.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
        if let Some(total) = plain_line(last) {
            return Some(total);
        }
        let mut sum = None;
        for line in output.lines() {
            if let Some(count) = cargo_line(line).or_else(|| pytest_line(line)).or_else(|| plain_line(line)) {
                *sum.get_or_insert(Self::default()) += count;
            }
        }
        sum
    }

    pub(crate) fn total(self) -> u64 {
        self.passed + self.failed + self.skipped
    }
}

impl AddAssign for Count {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)?;
        if self.skipped > 0 {
            write!(f, ", {} skipped", self.skipped)?;
        }
        Ok(())
    }
}

/// The reasons of tests that could not run: lines `skipped: why`.
pub(crate) fn skip_reasons(output: &str) -> impl Iterator<Item = &str> {
    output.lines().map(str::trim).filter(|line| line.starts_with("skipped: "))
}

/// `test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s`
fn cargo_line(line: &str) -> Option<Count> {
    let rest = line.strip_prefix("test result: ")?;
    let (_, rest) = rest.split_once(". ")?;
    pairs(rest.split("; ").take(3))
}

/// `===== 1 failed, 5 passed, 2 skipped in 0.12s =====`, or the same without the rulers under `-q`.
fn pytest_line(line: &str) -> Option<Count> {
    let (counts, time) = line.trim_matches(['=', ' ']).rsplit_once(" in ")?;
    if !time.split(' ').next()?.ends_with('s') {
        return None;
    }
    pairs(counts.split(", "))
}

/// `12 passed, 0 failed, 1 skipped`
fn plain_line(line: &str) -> Option<Count> {
    pairs(line.trim().split(", "))
}

/// Sums up `12 passed`, `1 failed`, …; `None` where anything else stands between them.
fn pairs<'a>(parts: impl Iterator<Item = &'a str>) -> Option<Count> {
    let mut count = Count::default();
    for part in parts {
        let (number, word) = part.split_once(' ')?;
        let number: u64 = number.parse().ok()?;
        match word {
            "passed" | "xpassed" => count.passed += number,
            "failed" | "error" | "errors" => count.failed += number,
            "skipped" | "ignored" | "xfailed" => count.skipped += number,
            "warning" | "warnings" | "deselected" | "subtests passed" => {}
            _ => return None,
        }
    }
    Some(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(passed: u64, failed: u64, skipped: u64) -> Option<Count> {
        Some(Count { passed, failed, skipped })
    }

    #[test]
    fn cargo_lines_add_up() {
        let output = "running 3 tests\n\
            test result: ok. 2 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s\n\
            noise\n\
            test result: FAILED. 4 passed; 3 failed; 0 ignored; 0 measured; 9 filtered out; finished in 1.20s\n\
            error: 1 target failed:";
        assert_eq!(Count::read(output), count(6, 3, 1));
    }

    #[test]
    fn pytest_lines_are_read_with_and_without_rulers() {
        assert_eq!(Count::read("x\n===== 1 failed, 5 passed, 2 skipped, 1 warning in 0.12s =====\n"), count(5, 1, 2));
        assert_eq!(Count::read("7 passed in 65.20s (0:01:05)\n"), count(7, 0, 0));
        assert_eq!(Count::read("3 passed, 1 error in 0.10s"), count(3, 1, 0));
    }

    #[test]
    fn a_scripts_closing_line_is_its_total() {
        let output = "test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s\n\
            10 passed, 1 failed, 2 skipped\n\n";
        assert_eq!(Count::read(output), count(10, 1, 2));
    }

    #[test]
    fn other_lines_count_nothing() {
        assert_eq!(Count::read("12 passed the post\nwe built it in 3s\n"), None);
        assert_eq!(Count::read(""), None);
    }

    #[test]
    fn it_prints_as_it_reads() {
        let sum = Count { passed: 12, failed: 1, skipped: 2 };
        assert_eq!(Count::read(&sum.to_string()), Some(sum));
        assert_eq!(Count { skipped: 0, ..sum }.to_string(), "12 passed, 1 failed");
    }
}
