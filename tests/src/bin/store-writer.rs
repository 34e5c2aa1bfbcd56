//! `store-writer STORE [--count N] [--die-at STEP]`: publishes the flags of [`libflags_tests::numbered`] as fast as it can
//! until its standard input ends, or N times. See [`libflags_tests::processes`] for what it says.
//!
//! `--die-at STEP`: kills itself with SIGKILL at this step of the publication after those N.

use std::cell::Cell;
use std::fs;
use std::io::{Read, Write};
use std::path::Path;
use std::rc::Rc;
use std::sync::mpsc::{TryRecvError, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use libflags::store::{PublishMeta, Publisher, PublisherOptions, fault};
use libflags_tests::numbered::Payloads;
use nix::sys::signal::{Signal, raise};

fn main() -> Result<()> {
    let (mut store, mut count, mut fatal) = (None, None, None);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--count" => count = Some(arguments.next().context("a number is missing")?.parse::<u64>()?),
            "--die-at" => fatal = Some(arguments.next().context("a step is missing")?),
            _ => store = Some(argument),
        }
    }
    let Some(store) = store else { bail!("usage: store-writer STORE [--count N] [--die-at STEP]") };
    let published = Rc::new(Cell::new(0));
    if let Some(fatal) = fatal.clone() {
        let (published, whole) = (Rc::clone(&published), count.unwrap_or_default());
        fault::on_step(move |step| {
            if step == fatal && published.get() >= whole {
                // What follows is never reached, so whether it was sent needs no look.
                let _ = raise(Signal::SIGKILL);
            }
        });
    }

    let (end, ended) = channel::<()>();
    thread::spawn(move || {
        // Nothing is ever written there: it ends.
        let _ = std::io::stdin().read(&mut [0]);
        drop(end);
    });
    let mut publisher = Publisher::open(Path::new(&store), &PublisherOptions::default())?;
    let mut next = newest(&publisher)? + 1;
    let mut payloads = Payloads::default();
    let mut output = std::io::stdout();
    let mut reported = Instant::now();
    while ended.try_recv() == Err(TryRecvError::Empty) && (fatal.is_some() || count != Some(published.get())) {
        let generation = publisher.publish(payloads.of(next), &PublishMeta { revision: next, ..Default::default() })?;
        ensure!(generation.0 == next, "published as {generation}, not as {next}");
        published.set(published.get() + 1);
        next += 1;
        if reported.elapsed() > Duration::from_millis(5) {
            reported = Instant::now();
            writeln!(output, "progress {0} {generation} {0}", published.get())?;
            output.flush()?;
        }
    }
    writeln!(output, "progress {0} {1} {0}", published.get(), next - 1)?;
    Ok(())
}

/// The newest generation there is, whether or not it became current.
fn newest(publisher: &Publisher) -> Result<u64> {
    let mut newest = publisher.record().generation.0;
    for entry in fs::read_dir(publisher.path())? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let number = name.strip_prefix("segment-").and_then(|digits| digits.parse().ok());
        newest = newest.max(number.unwrap_or_default());
    }
    Ok(newest)
}
