//! A bar on stderr, where that is a terminal.

use std::{
    io::{self, IsTerminal, Write},
    time::{Duration, Instant},
};

use crate::value;

/// How often the bar is drawn; what is done before the first time has none.
const EVERY: Duration = Duration::from_millis(100);
/// Letters in the bar.
const WIDTH: u64 = 24;

/// How much was sent.
#[derive(Debug)]
pub(super) struct Progress {
    sent: u64,
    /// Bytes that there are, where that is known.
    total: Option<u64>,
    begun: Instant,
    drawn: Instant,
    is_drawn: bool,
    is_on_terminal: bool,
}

impl Progress {
    pub(super) fn begin(total: Option<u64>) -> Self {
        let now = Instant::now();
        let is_on_terminal = io::stderr().is_terminal();
        Self { sent: 0, total, begun: now, drawn: now, is_drawn: false, is_on_terminal }
    }

    pub(super) fn advance(&mut self, bytes: u64) {
        self.sent += bytes;
        let is_due = self.drawn.elapsed() >= EVERY || (self.is_drawn && bytes == 0);
        if self.is_on_terminal && is_due {
            (self.drawn, self.is_drawn) = (Instant::now(), true);
            // Where stderr is closed there is nobody to tell.
            let _ = write!(io::stderr().lock(), "\r{}\x1b[K", line(self.sent, self.total, self.begun.elapsed()));
        }
    }

    pub(super) fn is_at_the_begin(&self) -> bool {
        self.sent == 0
    }

    /// Begins anew.
    pub(super) fn again(&mut self) {
        (self.sent, self.begun) = (0, Instant::now());
    }

    /// Takes the bar away, and says how many bytes were sent.
    pub(super) fn end(&mut self) -> u64 {
        if std::mem::take(&mut self.is_drawn) {
            let _ = write!(io::stderr().lock(), "\r\x1b[K");
        }
        self.sent
    }
}

/// `[######------------------] 25 %, 1.0 MiB of 4.0 MiB, 2.0 MiB/s`; of unknown length `1.0 MiB, 2.0 MiB/s`.
fn line(sent: u64, total: Option<u64>, elapsed: Duration) -> String {
    let millis = elapsed.as_millis().max(1);
    let rate = u64::try_from(u128::from(sent) * 1000 / millis).unwrap_or(u64::MAX);
    let (shown, rate) = (value::bytes(sent), value::bytes(rate));
    let Some(total) = total.filter(|total| *total > 0) else { return format!("{shown}, {rate}/s") };
    // A file may have grown meanwhile.
    let of = |whole: u64| u64::try_from(u128::from(sent.min(total)) * u128::from(whole) / u128::from(total));
    let (full, percent) = (of(WIDTH).unwrap_or(WIDTH), of(100).unwrap_or(100));
    let bar: String = (0..WIDTH).map(|at| if at < full { '#' } else { '-' }).collect();
    format!("[{bar}] {percent} %, {shown} of {}, {rate}/s", value::bytes(total))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_says_how_much_of_what_and_how_fast() {
        let (mib, half) = (1 << 20, Duration::from_millis(500));
        let quarter = "[######------------------] 25 %, 1.0 MiB of 4.0 MiB, 2.0 MiB/s";
        assert_eq!(line(mib, Some(4 * mib), half), quarter);
        assert_eq!(line(mib, None, half), "1.0 MiB, 2.0 MiB/s");
        let more = line(3 * mib, Some(mib), Duration::ZERO);
        assert!(more.starts_with("[########################] 100 %, 3.0 MiB of 1.0 MiB, "), "{more}");
        assert_eq!(line(0, Some(0), half), "0 B, 0 B/s");
    }
}
