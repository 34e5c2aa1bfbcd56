//! Timing in batches.
//!
//! A batch is a few hundred microseconds of calls under one pair of clock readings; its figure is the time of one call. On a
//! shared machine single batches are disturbed, so a row is told by the best, the median and the 99th percentile of many
//! batches.

use std::hint::black_box;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

/// How long a row is measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Effort {
    /// Time spent on a row of nanoseconds.
    pub(crate) duration: Duration,
    /// How often something slow (a load, a publication) is repeated.
    pub(crate) repeats: usize,
}

impl Effort {
    pub(crate) const FULL: Self = Self { duration: Duration::from_millis(1500), repeats: 60 };
    /// Just enough to see that a row works and answers right.
    pub(crate) const CHECK: Self = Self { duration: Duration::from_millis(5), repeats: 2 };
}

/// What was measured, in the row's unit.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Figures {
    pub(crate) best: f64,
    pub(crate) median: f64,
    pub(crate) p99: f64,
    pub(crate) samples: usize,
}

impl Figures {
    /// One figure that needs no statistics, such as a count.
    pub(crate) fn exact(value: f64) -> Self {
        Self { best: value, median: value, p99: value, samples: 1 }
    }

    /// `samples` may come in any order; there is at least one. Small is good.
    pub(crate) fn of(mut samples: Vec<f64>) -> Result<Self> {
        ensure!(!samples.is_empty(), "nothing was measured");
        samples.sort_by(f64::total_cmp);
        let at = |share: usize| samples[(samples.len() - 1) * share / 100];
        Ok(Self { best: at(0), median: at(50), p99: at(99), samples: samples.len() })
    }

    /// The same where large is good: `best` is the largest, and 99 of 100 samples are no smaller than `p99`.
    pub(crate) fn of_high(samples: Vec<f64>) -> Result<Self> {
        let low = Self::of(samples.into_iter().map(|sample| -sample).collect())?;
        Ok(low.times(-1.0))
    }

    /// The same in another unit.
    pub(crate) fn times(self, factor: f64) -> Self {
        Self { best: self.best * factor, median: self.median * factor, p99: self.p99 * factor, ..self }
    }
}

/// The time of one `read`, in nanoseconds, over `inputs` in their order, again and again. Every answer is compared with its
/// expectation before anything is timed, and while timing the number of true answers is.
pub(crate) fn reads<I>(effort: Effort, inputs: &[(I, bool)], mut read: impl FnMut(&I) -> bool) -> Result<Figures> {
    const BATCH: Duration = Duration::from_micros(400);
    ensure!(!inputs.is_empty(), "nothing to read");
    for (position, (input, expected)) in inputs.iter().enumerate() {
        ensure!(read(input) == *expected, "input {position} is not answered {expected}");
    }
    let mut batch = |chunk: &[(I, bool)], passes: usize| {
        let mut trues = 0;
        let start = Instant::now();
        for _ in 0..passes {
            for (input, _) in chunk {
                trues += usize::from(read(black_box(input)));
            }
        }
        (start.elapsed(), trues)
    };
    // A chunk is what one batch reads: a part of many inputs, or all of a few, several times.
    let probe = &inputs[..inputs.len().min(1000)];
    let (time, _) = batch(probe, 1);
    let one = time.as_secs_f64() / count(probe.len());
    let wanted = BATCH.as_secs_f64() / one.max(1e-10);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a positive number of thousands")]
    let wanted = wanted as usize;
    let length = wanted.clamp(1, inputs.len());
    let passes = (wanted / length).max(1);
    let chunks: Vec<(&[(I, bool)], usize)> = inputs
        .chunks(length)
        .map(|chunk| (chunk, passes * chunk.iter().filter(|(_, expected)| *expected).count()))
        .collect();
    let mut samples = Vec::new();
    let end = Instant::now() + effort.duration;
    for (chunk, expected) in chunks.iter().cycle() {
        let (time, trues) = batch(chunk, passes);
        ensure!(trues == *expected, "answers changed while timing: {trues} true, not {expected}");
        samples.push(time.as_secs_f64() * 1e9 / count(chunk.len() * passes));
        if Instant::now() >= end {
            break;
        }
    }
    Figures::of(samples)
}

/// The time of one `act` in nanoseconds; `check` says whether what it gave is right, untimed.
pub(crate) fn repeats<T>(
    times: usize,
    mut act: impl FnMut(usize) -> Result<T>,
    mut check: impl FnMut(usize, T) -> bool,
) -> Result<Figures> {
    let mut samples = Vec::with_capacity(times);
    for turn in 0..times {
        let start = Instant::now();
        let given = act(turn)?;
        let time = start.elapsed();
        ensure!(check(turn, given), "turn {turn} gave a wrong answer");
        samples.push(time.as_secs_f64() * 1e9);
    }
    Figures::of(samples)
}

/// A number of things as a float.
pub(crate) fn count(number: usize) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
    let number = number as f64;
    number
}

/// A small generator of numbers that look random and are the same in every run (xorshift64*).
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    /// A number below `end`.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let high = u128::from(self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)) * (end as u128);
        #[expect(clippy::cast_possible_truncation, reason = "the high half of the product is below `end`")]
        let number = (high >> 64) as usize;
        number
    }

    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_order_statistics() {
        let figures = Figures::of((0..=100).rev().map(f64::from).collect()).unwrap();
        assert_eq!((figures.best, figures.median, figures.p99, figures.samples), (0.0, 50.0, 99.0, 101));
        assert!(Figures::of(Vec::new()).is_err());
    }

    #[test]
    fn a_wrong_answer_is_never_timed() {
        let inputs = [(1, true), (2, false)];
        assert!(reads(Effort::CHECK, &inputs, |number| number % 2 == 1).is_ok());
        assert!(reads(Effort::CHECK, &inputs, |_| true).is_err());
    }

    #[test]
    fn an_answer_that_changes_is_noticed() {
        let mut calls = 0;
        let result = reads(Effort::CHECK, &[((), true)], |()| {
            calls += 1;
            calls < 50
        });
        assert!(result.is_err());
    }

    #[test]
    fn a_shuffle_keeps_all() {
        let mut items: Vec<usize> = (0..1000).collect();
        Random::new(7).shuffle(&mut items);
        assert_ne!(items[..10], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
        items.sort_unstable();
        assert!(items.iter().copied().eq(0..1000));
    }
}
