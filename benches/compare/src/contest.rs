//! Timing in turns.
//!
//! All contenders of a row are set up first, and each shows that its answers are right. Then they take turns of some tens of
//! milliseconds, many rounds of them, so that whatever else the machine does meets all alike. A turn is measured in batches, as
//! in `benches/src/measure.rs`.

use std::hint::black_box;
use std::ops::Range;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use crate::measure::{Figures, count};

/// How long a row is measured.
#[derive(Clone, Copy)]
pub(crate) struct Effort {
    /// A contender's turn.
    pub(crate) turn: Duration,
    pub(crate) rounds: usize,
    /// How often something slow is repeated.
    pub(crate) repeats: usize,
}

impl Effort {
    pub(crate) const FULL: Self = Self { turn: Duration::from_millis(40), rounds: 25, repeats: 15 };
    /// Just enough to see that everybody works and answers right.
    pub(crate) const CHECK: Self = Self { turn: Duration::from_millis(1), rounds: 1, repeats: 2 };
}

/// What a contender took.
pub(crate) struct Outcome {
    pub(crate) peer: &'static str,
    pub(crate) figures: Figures,
}

/// Somebody who answers a list of questions.
pub(crate) struct Contender<'a> {
    peer: &'static str,
    expected: Vec<bool>,
    /// Answers these questions and says how many answers are true.
    answer: Box<dyn FnMut(Range<usize>) -> usize + 'a>,
}

impl<'a> Contender<'a> {
    /// `read` answers each of `inputs`, which come with the right answers.
    pub(crate) fn new<I: 'a>(
        peer: &'static str,
        inputs: Vec<(I, bool)>,
        mut read: impl FnMut(&I) -> bool + 'a,
    ) -> Self {
        let expected = inputs.iter().map(|(_, expected)| *expected).collect();
        // One indirect call a batch; the loop itself is compiled with `read` inside.
        let answer = move |range: Range<usize>| {
            let mut trues = 0;
            for (input, _) in &inputs[range] {
                trues += usize::from(read(black_box(input)));
            }
            trues
        };
        Self { peer, expected, answer: Box::new(answer) }
    }

    /// Compares every answer with its expectation.
    fn prove(&mut self) -> Result<()> {
        for (position, expected) in self.expected.iter().enumerate() {
            let answer = (self.answer)(position..position + 1) == 1;
            ensure!(answer == *expected, "{}: question {position} is not answered {expected}", self.peer);
        }
        Ok(())
    }

    /// Nanoseconds a question, of a batch.
    fn batch(&mut self, range: &Range<usize>, passes: usize) -> Result<f64> {
        let expected = self.expected[range.clone()].iter().filter(|expected| **expected).count() * passes;
        let mut trues = 0;
        let start = Instant::now();
        for _ in 0..passes {
            trues += (self.answer)(range.clone());
        }
        let time = start.elapsed();
        ensure!(trues == expected, "{}: answers changed while timing: {trues} true, not {expected}", self.peer);
        Ok(time.as_secs_f64() * 1e9 / count(range.len() * passes))
    }
}

/// Lets the contenders take turns; what each took, in nanoseconds a question.
pub(crate) fn hold(effort: Effort, mut contenders: Vec<Contender<'_>>) -> Result<Vec<Outcome>> {
    const BATCH_NS: f64 = 400_000.0;
    struct Turns {
        length: usize,
        passes: usize,
        next: usize,
        samples: Vec<f64>,
    }
    let mut all = Vec::new();
    for contender in &mut contenders {
        contender.prove()?;
        let questions = contender.expected.len();
        let one = contender.batch(&(0..questions.min(1000)), 1)?;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a positive number of thousands")]
        let wanted = (BATCH_NS / one.max(0.1)) as usize;
        let length = wanted.clamp(1, questions);
        all.push(Turns { length, passes: (wanted / length).max(1), next: 0, samples: Vec::new() });
    }
    for _ in 0..effort.rounds {
        for (contender, turns) in contenders.iter_mut().zip(&mut all) {
            let end = Instant::now() + effort.turn;
            loop {
                let range = turns.next..(turns.next + turns.length).min(contender.expected.len());
                turns.next = if range.end == contender.expected.len() { 0 } else { range.end };
                turns.samples.push(contender.batch(&range, turns.passes)?);
                if Instant::now() >= end {
                    break;
                }
            }
        }
    }
    let outcomes = contenders.iter().zip(all);
    outcomes
        .map(|(contender, turns)| Ok(Outcome { peer: contender.peer, figures: Figures::of(turns.samples)? }))
        .collect()
}

/// Somebody who does one slow thing: it gives the time of doing it once, having looked that what came of it is right.
pub(crate) type Slow<'a> = (&'static str, Box<dyn FnMut(usize) -> Result<Duration> + 'a>);

/// Lets each do its thing in turns; what each took, in milliseconds.
pub(crate) fn repeat(repeats: usize, mut contenders: Vec<Slow<'_>>) -> Result<Vec<Outcome>> {
    let mut samples = vec![Vec::new(); contenders.len()];
    for turn in 0..repeats {
        for ((peer, act), samples) in contenders.iter_mut().zip(&mut samples) {
            let time = act(turn).with_context(|| format!("{peer}, turn {turn}"))?;
            samples.push(time.as_secs_f64() * 1e3);
        }
    }
    let outcomes = contenders.iter().zip(samples);
    outcomes.map(|((peer, _), samples)| Ok(Outcome { peer, figures: Figures::of(samples)? })).collect()
}
