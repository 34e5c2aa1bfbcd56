//! `store-reader STORE [--threads N] [--idle N] [--pin]`: reads the flags of [`libflags_tests::numbered`] without a pause
//! until its standard input ends, and checks each answer. See [`libflags_tests::processes`] for what it says.
//!
//! `--idle`: so many more threads that evaluate once and do no more. `--pin`: keeps the first version it sees.

use std::io::{Read, Write};
use std::process::exit;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use libflags::{Client, Context};
use libflags_tests::numbered::{self, CHECKED};
use libflags_tests::processes::Progress;

fn main() -> Result<()> {
    let (mut store, mut threads, mut idle, mut pin) = (None, 1, 0, false);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut number = || arguments.next().context("a number is missing")?.parse::<usize>().context("no number");
        match argument.as_str() {
            "--threads" => threads = number()?,
            "--idle" => idle = number()?,
            "--pin" => pin = true,
            _ => store = Some(argument),
        }
    }
    let Some(store) = store else { bail!("usage: store-reader STORE [--threads N] [--idle N] [--pin]") };
    let client: &Client = Box::leak(Box::new(Client::open(Some(store.as_ref()))?));
    let pinned = pin.then(|| client.snapshot());

    let progress: &Vec<Mutex<Progress>> = Box::leak(Box::new((0..threads).map(|_| Mutex::default()).collect()));
    for _ in 0..idle {
        thread::spawn(move || {
            assert_ne!(client.int("n-0", &Context::anonymous(), -1), -1);
            loop {
                thread::park();
            }
        });
    }
    for place in progress {
        thread::spawn(move || {
            if let Err(wrong) = evaluate(client, place) {
                eprintln!("store-reader: {wrong}");
                exit(1);
            }
        });
    }

    let (end, ended) = channel::<()>();
    thread::spawn(move || {
        // Nothing is ever written there: it ends.
        let _ = std::io::stdin().read(&mut [0]);
        drop(end);
    });
    let mut output = std::io::stdout();
    while ended.recv_timeout(Duration::from_millis(5)) == Err(RecvTimeoutError::Timeout) {
        let now = progress.iter().map(|place| *place.lock().unwrap_or_else(PoisonError::into_inner));
        let sum = now.clone().map(|progress| progress.total).sum::<u64>();
        let slowest = now.clone().map(|progress| progress.slowest).min().unwrap_or_default();
        let generation = now.map(|progress| progress.generation).min().unwrap_or_default();
        writeln!(output, "progress {slowest} {generation} {sum}")?;
        output.flush()?;
    }
    if let Some(pinned) = pinned {
        numbered::check(&pinned).map_err(anyhow::Error::msg).context("the pinned version")?;
    }
    exit(0)
}

fn evaluate(client: &Client, place: &Mutex<Progress>) -> Result<(), String> {
    let nobody = Context::anonymous();
    let handle = client.flag("n-63");
    let (mut last, mut evaluations) = (0, 0);
    loop {
        let flags = client.snapshot();
        let generation = flags.generation();
        if generation < last {
            return Err(format!("generation {generation} after {last}"));
        }
        numbered::check(&flags)?;
        drop(flags);
        let (number, by_handle) = (client.int("n-0", &nobody, -1), handle.int(&nobody, -1));
        let after = client.snapshot().generation();
        for number in [number, by_handle] {
            if !numbered::is_between(number, generation, after) {
                return Err(format!("{number} between the generations {generation} and {after}"));
            }
        }
        last = generation;
        evaluations += CHECKED + 2;
        let now = Progress { slowest: evaluations, generation, total: evaluations };
        *place.lock().unwrap_or_else(PoisonError::into_inner) = now;
    }
}
