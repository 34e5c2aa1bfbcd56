//! How many lines of one kind are logged: a flood of requests is not to become a flood of lines, which fills disks and hides the rest.

use std::sync::{Mutex, PoisonError};

/// Lines that may be written in a second.
pub(crate) struct Lines {
    limit: u64,
    second: Mutex<Second>,
}

#[derive(Clone, Copy)]
struct Second {
    at: u64,
    lines: u64,
    left_out: u64,
}

impl Lines {
    pub(crate) const fn new(limit: u64) -> Self {
        Self { limit, second: Mutex::new(Second { at: 0, lines: 0, left_out: 0 }) }
    }

    /// Whether a line may be written in the second `now`; with how many were left out since the last one.
    pub(crate) fn take(&self, now: u64) -> Option<u64> {
        let mut second = self.second.lock().unwrap_or_else(PoisonError::into_inner);
        if second.at != now {
            (second.at, second.lines) = (now, 0);
        }
        if second.lines == self.limit {
            second.left_out += 1;
            return None;
        }
        second.lines += 1;
        Some(std::mem::take(&mut second.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_has_so_many_lines_and_the_next_says_what_was_left_out() {
        let lines = Lines::new(2);
        let taken: Vec<_> = [7, 7, 7, 7, 8, 8, 8, 10].map(|now| lines.take(now)).into();
        assert_eq!(taken, [Some(0), Some(0), None, None, Some(2), Some(0), None, Some(1)]);
        // A clock that is put back begins a second, too.
        assert_eq!([lines.take(3), lines.take(3), lines.take(3)], [Some(0), Some(0), None]);
    }
}
