//! What a second thread or process adds, compared in the same run with what it adds to work that shares nothing at all.

use std::hint::black_box;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use libflags::{Client, Context};

use crate::Row;
use crate::lab::{Lab, Target};
use crate::measure::{self, Figures};
use crate::{definitions, processes, read};

pub(crate) const ROWS: &[Row] = &[
    Row {
        name: "two-threads",
        about: "what a 2nd thread adds to reading by key, over what it adds to pure computing",
        unit: "×",
        target: Target::AtLeast(0.97),
        measure: |lab| two_threads(lab).map(Some),
    },
    Row {
        name: "two-processes",
        about: "what a 2nd process adds to reading by key, over what it adds to pure computing",
        unit: "×",
        target: Target::AtLeast(0.97),
        measure: |lab| two_processes(lab).map(Some),
    },
];

/// Calls a second of `work`, done for `duration` in rounds.
fn rate(duration: Duration, mut work: impl FnMut() -> usize) -> f64 {
    let start = Instant::now();
    let mut calls = 0;
    loop {
        calls += work();
        let time = start.elapsed();
        if time >= duration {
            return measure::count(calls) / time.as_secs_f64();
        }
    }
}

/// The rate of reading a store of 1 000 static flags by key; an error where an answer is wrong.
pub(crate) fn reading_rate(client: &Client, duration: Duration) -> Result<f64> {
    let inputs = read::static_inputs(1_000);
    let context = Context::anonymous();
    let expected = inputs.iter().filter(|(_, answer)| *answer).count();
    let mut right = true;
    let rate = rate(duration, || {
        let trues = inputs.iter().filter(|(key, _)| client.bool(black_box(key), &context, false)).count();
        right &= trues == expected;
        inputs.len()
    });
    ensure!(right, "a wrong answer");
    Ok(rate)
}

/// The rate of work that stays in registers.
pub(crate) fn computing_rate(duration: Duration) -> f64 {
    let mut state = 1_u64;
    rate(duration, || {
        for _ in 0..1000 {
            state = black_box(state.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(1));
        }
        1000
    })
}

/// How long each side of a comparison runs, and how often they are compared.
pub(crate) fn rounds(lab: &Lab) -> (usize, Duration) {
    (lab.effort.repeats.min(15), (lab.effort.duration / 10).max(Duration::from_millis(5)))
}

fn two_threads(lab: &Lab) -> Result<Figures> {
    let client = lab.client("static-1000", || definitions::static_flags(1_000))?;
    let (times, duration) = rounds(lab);
    let both = |work: &(dyn Fn() -> Result<f64> + Sync)| -> Result<f64> {
        let together = Barrier::new(2);
        let run = || {
            together.wait();
            work()
        };
        thread::scope(|scope| {
            let other = scope.spawn(run);
            let mine = run()?;
            Ok(mine + other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?)
        })
    };
    let reading = || reading_rate(&client, duration);
    let computing = || Ok(computing_rate(duration));
    gains(times, || Ok(reading()? / computing()?), || Ok(both(&reading)? / both(&computing)?))
}

fn two_processes(lab: &Lab) -> Result<Figures> {
    let store = lab.store("static-1000", || definitions::static_flags(1_000))?;
    let (times, duration) = rounds(lab);
    let mut readers = [processes::Worker::start("read", &store, 0)?, processes::Worker::start("read", &store, 0)?];
    let mut computers =
        [processes::Worker::start("compute", &store, 0)?, processes::Worker::start("compute", &store, 0)?];
    let mut ratio = |workers: usize| -> Result<f64> {
        let rates = |all: &mut [processes::Worker]| -> Result<f64> {
            for worker in &mut all[..workers] {
                worker.ask(duration)?;
            }
            all[..workers].iter_mut().map(processes::Worker::answer).sum()
        };
        Ok(rates(&mut readers)? / rates(&mut computers)?)
    };
    let mut samples = Vec::new();
    for _ in 0..times {
        let one = ratio(1)?;
        samples.push(ratio(2)? / one);
    }
    Figures::of_high(samples)
}

/// The gain of two over one, where `one` and `two` give reading relative to computing.
fn gains(times: usize, one: impl Fn() -> Result<f64>, two: impl Fn() -> Result<f64>) -> Result<Figures> {
    let mut samples = Vec::new();
    for _ in 0..times {
        let alone = one()?;
        samples.push(two()? / alone);
    }
    Figures::of_high(samples)
}
