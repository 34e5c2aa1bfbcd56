//! Readers that are killed or stopped while the publisher publishes: it and the other readers notice nothing, and nothing
//! is left behind.

use std::process::Command;
use std::thread;
use std::time::Duration;

use libflags::store::{PublishMeta, Publisher, PublisherOptions};
use libflags_tests::languages::Languages;
use libflags_tests::numbered::{CYCLE, Payloads};
use libflags_tests::processes::{Watchdog, Worker, all_go_on, eventually, leftovers, store_folder};

const ROUNDS: u64 = 400;
const VICTIMS: u32 = 4;

#[test]
fn killed_and_stopped_readers_are_noticed_by_nobody() {
    let _watchdog = Watchdog::start(Duration::from_secs(900));
    let languages = Languages::build();
    let folder = store_folder();
    let set = folder.path();
    let mut publisher = Publisher::open(set, &PublisherOptions::default()).expect("a publisher");
    let (mut payloads, mut generation) = (Payloads::default(), 0);
    // Compiled before there is anybody to compete with.
    for number in 0..CYCLE {
        payloads.of(number);
    }
    let mut publish = || {
        generation += 1;
        let meta = PublishMeta { revision: generation, ..PublishMeta::default() };
        let published = publisher.publish(payloads.of(generation), &meta).expect("nothing hinders the publisher");
        assert_eq!(published.0, generation);
        generation
    };
    publish();

    let rust = |name: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_store-reader"));
        command.arg(set);
        Worker::start(name, command)
    };
    let c = || {
        languages.c("reader").map(|mut program| {
            program.arg(set).arg("1");
            program
        })
    };
    let mut witnesses = vec![rust("witness")];
    if let Err(why) = c() {
        println!("skipped: readers in C: {why}");
    }
    let victim = |number: u64| match c() {
        Ok(program) if number % 2 == 1 => Worker::start("victim in C", program),
        _ => rust("victim in Rust"),
    };
    let mut victims: Vec<(Worker, bool)> = (0..u64::from(VICTIMS)).map(|number| (victim(number), false)).collect();
    all_go_on(&mut witnesses, 1);

    let (mut random, mut kills, mut stops, mut killed_stopped) = (Random(0x5eed), 0, 0, 0);
    for round in 0..ROUNDS {
        publish();
        thread::sleep(Duration::from_micros(random.below(5_000).into()));
        let chosen = random.below(VICTIMS) as usize;
        let (worker, is_stopped) = &mut victims[chosen];
        match random.below(6) {
            // At any moment of its life, from before it has opened the store on.
            0 => {
                killed_stopped += u64::from(*is_stopped);
                let fresh = (victim(round), false);
                std::mem::replace(&mut victims[chosen], fresh).0.kill();
                kills += 1;
            }
            1 | 2 if *is_stopped => {
                worker.go_on();
                *is_stopped = false;
            }
            1 | 2 => {
                worker.stop();
                *is_stopped = true;
                stops += 1;
            }
            _ => {}
        }
        if round % 40 == 39 {
            all_go_on(&mut witnesses, round + 2);
        }
    }
    assert!(kills > 0 && stops > 0 && killed_stopped > 0, "{kills} {stops} {killed_stopped}");

    // Those that slept through hundreds of generations hold none of those between, and go on with the newest.
    for (worker, is_stopped) in &mut victims {
        if *is_stopped {
            worker.go_on();
        }
        eventually("a victim's return", || worker.progress().generation == ROUNDS + 1);
        let held = worker.memory().generations;
        assert!(held.contains(&(ROUNDS + 1)) && held.len() <= 3, "{held:?}");
    }
    all_go_on(&mut witnesses, ROUNDS + 1);
    let evaluations: u64 = witnesses.into_iter().map(|witness| witness.finish().total).sum();
    for (worker, _) in victims {
        worker.finish();
    }
    drop(publisher);
    assert_eq!(leftovers(set), Vec::<String>::new());
    Publisher::open(set, &PublisherOptions::default()).expect("no dead reader holds the lock");
    println!("{ROUNDS} updates, {kills} readers killed ({killed_stopped} while stopped), {stops} stopped");
    println!("{evaluations} evaluations of a witness, each right");
}

/// A fixed row of numbers without a pattern (xorshift64*).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u32) -> u32 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let [.., a, b, c, d] = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes();
        u32::from_le_bytes([a, b, c, d]) % limit
    }
}
