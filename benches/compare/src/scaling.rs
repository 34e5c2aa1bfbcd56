//! What a second thread adds, compared in the same run with what it adds to work that shares nothing at all.

use std::hint::black_box;
use std::sync::{Barrier, RwLock};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use arc_swap::ArcSwap;
use libflags::definition::Format;
use libflags::{Client, Context};

use crate::contest::{Effort, Outcome};
use crate::measure::{Figures, count};
use crate::{Row, definitions, peer, reads};

pub(crate) const ROWS: &[Row] = &[Row {
    name: "two-threads",
    about: "what a 2nd thread adds to reading by key, over what it adds to pure computing",
    unit: "×",
    measure: two_threads,
    absent: &[(peer::DATALOGIC, "shares nothing between threads but the compiled rule")],
}];

type Inputs = [(String, bool)];

/// Makes a thread's own reader: it reads all keys and says how many flags are true.
type Reader<'a> = &'a (dyn Fn() -> Box<dyn FnMut(&Inputs) -> usize + 'a> + Sync);

fn two_threads(effort: Effort) -> Result<Vec<Outcome>> {
    let inputs = reads::inputs(1_000);
    let folder = crate::folder()?;
    let client = Client::from_definition(&definitions::static_flags(1_000), Format::Json)?;
    let yggdrasil = peer::yggdrasil::engine(&peer::yggdrasil::features(1_000, false))?;
    let eppo = peer::eppo::configuration(&peer::eppo::flags(1_000, false))?;
    peer::mmap_sync::write(&mut peer::mmap_sync::synchronizer(folder.path()), &peer::map(1_000).into())?;
    let arc_swap = ArcSwap::from_pointee(peer::map(1_000));
    let lock = RwLock::new(peer::map(1_000));
    let lmdb = peer::lmdb::Store::new(folder.path(), &peer::map(1_000))?;
    // Captured by reference in what each thread makes for itself.
    let (client, yggdrasil, eppo, arc_swap, lock, lmdb) = (&client, &yggdrasil, &eppo, &arc_swap, &lock, &lmdb);
    let contenders: [(&'static str, Reader<'_>); 7] = [
        (peer::LIBFLAGS, &|| {
            let nobody = Context::anonymous();
            reader(move |key| client.bool(key, &nobody, false))
        }),
        (peer::YGGDRASIL, &|| {
            let nobody = peer::yggdrasil::user("user-1").unwrap_or_default();
            reader(move |key| yggdrasil.is_enabled(key, &nobody, &None))
        }),
        (peer::EPPO, &|| {
            let (nobody, read) = (peer::eppo::user("user-1"), peer::eppo::reader(eppo));
            reader(move |key| read(key, &nobody))
        }),
        (peer::MMAP_SYNC, &|| {
            let mut synchronizer = peer::mmap_sync::synchronizer(folder.path());
            reader(move |key| peer::mmap_sync::is_on(&mut synchronizer, key))
        }),
        (peer::ARC_SWAP, &|| reader(|key| arc_swap.load().get(key).copied().unwrap_or(false))),
        (peer::RWLOCK, &|| reader(|key| lock.read().is_ok_and(|map| map.get(key).copied().unwrap_or(false)))),
        (peer::LMDB, &|| reader(|key| lmdb.is_on(key))),
    ];
    let mut samples = vec![Vec::new(); contenders.len()];
    for _ in 0..effort.rounds.min(11) {
        for ((name, make), samples) in contenders.iter().zip(&mut samples) {
            let reading = |threads| {
                rate(threads, effort.turn / 2, || {
                    let mut read = make();
                    let inputs = &inputs;
                    let expected = inputs.iter().filter(|(_, answer)| *answer).count();
                    move || (inputs.len(), read(inputs) == expected)
                })
            };
            let computing = |threads| rate(threads, effort.turn / 2, || compute);
            let alone = reading(1)? / computing(1)?;
            let together = reading(2)? / computing(2)?;
            ensure!(alone.is_finite() && together.is_finite(), "{name}: nothing was read");
            samples.push(together / alone);
        }
    }
    let outcomes = contenders.iter().zip(samples);
    outcomes.map(|((peer, _), samples)| Ok(Outcome { peer, figures: Figures::of_high(samples)? })).collect()
}

fn reader<'a>(mut read: impl FnMut(&str) -> bool + 'a) -> Box<dyn FnMut(&Inputs) -> usize + 'a> {
    Box::new(move |inputs| inputs.iter().filter(|(key, _)| read(black_box(key))).count())
}

/// Work that stays in registers.
fn compute() -> (usize, bool) {
    let mut state = 1_u64;
    for _ in 0..1000 {
        state = black_box(state.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(1));
    }
    (1000, true)
}

/// Calls a second of so many threads that work for `duration`. A round of work gives its number of calls, and whether they went right.
fn rate<W: FnMut() -> (usize, bool)>(threads: usize, duration: Duration, make: impl Fn() -> W + Sync) -> Result<f64> {
    let together = Barrier::new(threads);
    let one = || {
        let mut work = make();
        let mut calls = 0;
        let mut right = true;
        together.wait();
        let start = Instant::now();
        while start.elapsed() < duration {
            let (more, well) = work();
            calls += more;
            right &= well;
        }
        (count(calls) / start.elapsed().as_secs_f64(), right)
    };
    let results: Vec<(f64, bool)> = thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(one)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or((0.0, false))).collect()
    });
    ensure!(results.iter().all(|(_, right)| *right), "a wrong answer");
    Ok(results.iter().map(|(rate, _)| rate).sum())
}
