//! How long single evaluations take while updates arrive: ten a second, each a new generation of 10 000 flags.
//!
//! One clock reading before and one behind each evaluation, which come 20 000 times a second: so often that one in 10 000 is the
//! slowest of what meets an update, seldom enough that the pause between two counts. A window of a second gives a
//! percentile; the row tells the best, the median and the worst window. On a machine with other work the worst windows tell of that
//! work.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{LazyLock, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use libflags::compile::Compiler;
use libflags::definition::{Limits, Selector};
use libflags::store::{PublishMeta, Publisher, PublisherOptions};
use libflags::{Client, Context};

use crate::lab::{Lab, Target};
use crate::measure::Figures;
use crate::{Row, definitions, publish};

pub(crate) const ROWS: &[Row] = &[
    Row {
        name: "tail-meets",
        about: "p99.99 of one evaluation at 10 updates/s of 10 000 flags, in the thread that meets them",
        unit: "µs",
        target: Target::AtMost(100.0),
        measure: |lab| meets(lab)?.of(99.99).map(Some),
    },
    Row {
        name: "tail-meets-p50",
        about: "the same, median",
        unit: "µs",
        target: Target::None,
        measure: |lab| meets(lab)?.of(50.0).map(Some),
    },
    Row {
        name: "tail-meets-p99",
        about: "the same, p99",
        unit: "µs",
        target: Target::None,
        measure: |lab| meets(lab)?.of(99.0).map(Some),
    },
    Row {
        name: "tail-meets-max",
        about: "the same, the slowest of all",
        unit: "µs",
        target: Target::None,
        measure: |lab| meets(lab)?.of(100.0).map(Some),
    },
    Row {
        name: "tail-others",
        about: "p99.99 of one evaluation at 10 updates/s of 10 000 flags, in a thread beside the one that meets them",
        unit: "µs",
        target: Target::None,
        measure: |lab| others(lab)?.of(99.99).map(Some),
    },
    Row {
        name: "tail-others-p50",
        about: "the same, median",
        unit: "µs",
        target: Target::None,
        measure: |lab| others(lab)?.of(50.0).map(Some),
    },
    Row {
        name: "tail-others-p99",
        about: "the same, p99",
        unit: "µs",
        target: Target::None,
        measure: |lab| others(lab)?.of(99.0).map(Some),
    },
    Row {
        name: "tail-others-max",
        about: "the same, the slowest of all",
        unit: "µs",
        target: Target::None,
        measure: |lab| others(lab)?.of(100.0).map(Some),
    },
    Row {
        name: "tail-rare",
        about: "one evaluation in a thread that evaluates 15 times a second, 10 updates/s of 10 000 flags",
        unit: "µs",
        target: Target::None,
        measure: |lab| rare(lab).map(Some),
    },
];

const FLAGS: usize = 10_000;
/// The flag that each update turns.
const TURNED: usize = FLAGS / 2;
const UPDATES_EVERY: Duration = Duration::from_millis(100);
const EVALUATIONS_EVERY: Duration = Duration::from_micros(50);
/// Long enough that an evaluation finds what was published before it to be old.
const SELDOM: Duration = Duration::from_millis(67);

/// The times of all evaluations in µs, ascending, a window after the other.
struct Windows(Vec<Vec<f64>>);

impl Windows {
    /// What a percentile was in the best, the median and the worst window.
    fn of(&self, percent: f64) -> Result<Figures> {
        Figures::of(self.0.iter().map(|window| percentile(window, percent)).collect())
    }
}

fn percentile(sorted: &[f64], percent: f64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
    let rank = (sorted.len() as f64 * percent / 100.0).ceil();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and the length")]
    let place = (rank as usize).clamp(1, sorted.len());
    sorted[place - 1]
}

/// Measured once for all rows.
fn meets(lab: &Lab) -> Result<&'static Windows> {
    static WINDOWS: OnceLock<Windows> = OnceLock::new();
    measured(&WINDOWS, || windows(lab, "tail-meets", false))
}

fn others(lab: &Lab) -> Result<&'static Windows> {
    static WINDOWS: OnceLock<Windows> = OnceLock::new();
    measured(&WINDOWS, || windows(lab, "tail-others", true))
}

fn measured(
    windows: &'static OnceLock<Windows>,
    measure: impl FnOnce() -> Result<Windows>,
) -> Result<&'static Windows> {
    if let Some(windows) = windows.get() {
        return Ok(windows);
    }
    let measured = measure()?;
    Ok(windows.get_or_init(|| measured))
}

fn windows(lab: &Lab, store: &str, beside_another: bool) -> Result<Windows> {
    let length = lab.effort.duration * 2 / 3;
    let number = (lab.effort.repeats / 5).max(1);
    while_updated(lab, store, |client, done| {
        thread::scope(|scope| {
            if beside_another {
                // Evaluates so often that it is there first, nearly always.
                scope.spawn(|| {
                    while !done.load(Ordering::Relaxed) {
                        read(client);
                    }
                });
            }
            let windows = (0..number).map(|_| window(client, length)).collect();
            done.store(true, Ordering::Relaxed);
            Ok(Windows(windows))
        })
    })
}

fn window(client: &Client, length: Duration) -> Vec<f64> {
    let mut times = Vec::with_capacity(1 << 16);
    let begun = Instant::now();
    let mut due = begun;
    while due < begun + length || times.is_empty() {
        while Instant::now() < due {
            std::hint::spin_loop();
        }
        let start = Instant::now();
        read(client);
        let end = Instant::now();
        times.push((end - start).as_secs_f64() * 1e6);
        due = (due + EVALUATIONS_EVERY).max(end);
    }
    times.sort_by(f64::total_cmp);
    times
}

fn rare(lab: &Lab) -> Result<Figures> {
    let number = lab.effort.repeats * 3;
    while_updated(lab, "tail-rare", |client, done| {
        let mut times = Vec::new();
        for _ in 0..number {
            thread::sleep(SELDOM);
            let start = Instant::now();
            read(client);
            times.push(start.elapsed().as_secs_f64() * 1e6);
        }
        done.store(true, Ordering::Relaxed);
        Figures::of(times)
    })
}

fn read(client: &Client) -> bool {
    static KEY: LazyLock<String> = LazyLock::new(|| definitions::key(TURNED));
    client.bool(&*KEY, &Context::anonymous(), false)
}

/// Publishes ten generations a second until `measure` says that it is done, and sees to it that they arrived.
fn while_updated<T: Send>(
    lab: &Lab,
    name: &str,
    measure: impl FnOnce(&Client, &AtomicBool) -> Result<T> + Send,
) -> Result<T> {
    let store = lab.folder(name)?;
    let text = definitions::static_flags(FLAGS);
    let compiled = |text: &str| -> Result<Vec<u8>> {
        let document = publish::document(text, None)?;
        Ok(Compiler::new(Limits::default()).compile(&[document], &Selector::All)?.snapshot.to_vec())
    };
    let payloads = [compiled(&definitions::with_one_turned(&text, TURNED))?, compiled(&text)?];
    let mut publisher = Publisher::open(&store, &PublisherOptions::default())?;
    publisher.publish(&payloads[0], &PublishMeta::default())?;
    let client = Client::open(Some(&store))?;
    let right = definitions::answer(TURNED);
    ensure!(read(&client) != right, "the first version does not show");
    let (done, published) = (AtomicBool::new(false), AtomicU64::new(1));
    thread::scope(|scope| {
        let updates = scope.spawn(|| -> Result<()> {
            while !done.load(Ordering::Relaxed) {
                let turn = published.load(Ordering::Relaxed);
                publisher.publish(&payloads[usize::from(turn % 2 == 1)], &PublishMeta::default())?;
                published.store(turn + 1, Ordering::Relaxed);
                thread::sleep(UPDATES_EVERY);
            }
            Ok(())
        });
        let measured = measure(&client, &done);
        done.store(true, Ordering::Relaxed);
        updates.join().ok().context("the publishing thread panicked")??;
        let shown = right == published.load(Ordering::Relaxed).is_multiple_of(2);
        let end = Instant::now() + Duration::from_secs(10);
        while read(&client) != shown {
            ensure!(Instant::now() < end, "the last update does not arrive");
        }
        measured
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_order_statistics() {
        let times: Vec<f64> = (1..=10_000).map(f64::from).collect();
        assert_eq!(percentile(&times, 50.0), 5_000.0);
        assert_eq!(percentile(&times, 99.99), 9_999.0);
        assert_eq!(percentile(&times, 100.0), 10_000.0);
        assert_eq!(percentile(&times[..1], 99.0), 1.0);
    }
}
