//! Readers in Rust, C and Python while the writer is killed at every step of a publication, and started again: no torn or
//! mixed answer, no generation going back, no reader waiting for a writer that is dead.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use libflags::store::inspect_control;
use libflags_tests::languages::Languages;
use libflags_tests::processes::{Watchdog, Worker, all_go_on, eventually, leftovers, store_folder};
use nix::sys::signal::Signal;

/// The steps of a publication, in order.
const STEPS: [&str; 8] = ["begin", "created", "reserved", "written", "protected", "renamed", "switched", "swept"];
/// Those of a control page's replacement.
const CONTROL_STEPS: [&str; 2] = ["old control page moved", "new control page written"];
/// How often each of them.
const ROUNDS: u64 = 3;
/// And how often at any instruction.
const KILLS_FROM_OUTSIDE: u64 = 24;

#[test]
fn readers_in_three_languages_never_notice_a_killed_writer() {
    let _watchdog = Watchdog::start(Duration::from_secs(900));
    let languages = Languages::build();
    let folder = store_folder();
    let set = folder.path();
    publish(set, 1);

    let mut readers = Vec::new();
    for number in 1..=2 {
        let mut rust = Command::new(env!("CARGO_BIN_EXE_store-reader"));
        rust.arg(set).args(["--threads", "2"]);
        readers.push(Worker::start(format!("Rust reader {number}"), rust));
        for (language, program) in [("C", languages.c("reader")), ("Python", languages.python("reader"))] {
            match program {
                Ok(mut program) => {
                    program.arg(set).arg("2");
                    readers.push(Worker::start(format!("{language} reader {number}"), program));
                }
                Err(why) => println!("skipped: readers in {language}: {why}"),
            }
        }
    }
    all_go_on(&mut readers, 1);

    let mut kills = 0;
    let mut die = |step: &str, whole: u64| {
        let mut command = writer(set);
        command.args(["--die-at", step, "--count", &whole.to_string()]);
        let status = Worker::start(format!("writer to die at \"{step}\""), command).wait();
        assert_eq!(status.signal(), Some(Signal::SIGKILL as i32), "{step}: {status}");
        kills += 1;
    };

    for round in 0..ROUNDS {
        for step in STEPS {
            let before = current(set);
            die(step, round);
            // Each starts where the one before it died, and cleans up after it.
            let switched = ["switched", "swept"].contains(&step);
            assert_eq!(current(set) > before + round, switched, "{step}");
            all_go_on(&mut readers, current(set));
        }
    }
    for _ in 0..ROUNDS {
        for step in CONTROL_STEPS {
            let before = current(set);
            let control = File::options().write(true).open(set.join("v1/control")).expect("the control page");
            control.write_all_at(b"damaged!", 24).expect("damage");
            die(step, 0);
            all_go_on(&mut readers, before);
            publish(set, 1);
            assert!(current(set) > before, "numbers go on with another control page");
            all_go_on(&mut readers, current(set));
        }
    }
    for kill in 0..KILLS_FROM_OUTSIDE {
        let before = current(set);
        let writer = Worker::start("writer to be killed", writer(set));
        eventually("a publication", || current(set) > before);
        // Into a publication, and wherever the two processes happen to be.
        thread::sleep(Duration::from_micros(kill * 131 % 3_000));
        writer.kill();
        kills += 1;
        all_go_on(&mut readers, current(set));
    }
    publish(set, 3);
    all_go_on(&mut readers, current(set));
    assert_eq!(leftovers(set), Vec::<String>::new());

    for reader in readers {
        let name = reader.name().to_owned();
        println!("{name}: {} evaluations, each right", reader.finish().total);
    }
    let steps = STEPS.len() + CONTROL_STEPS.len();
    println!("{kills} writers killed, at {steps} steps {ROUNDS} times each and {KILLS_FROM_OUTSIDE} times anywhere");
    println!("generation {} at the end", current(set));
}

fn writer(set: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_store-writer"));
    command.arg(set);
    command
}

/// Publishes so many generations, and ends in order.
fn publish(set: &Path, count: u64) {
    let mut command = writer(set);
    command.args(["--count", &count.to_string()]);
    let status = Worker::start("writer", command).wait();
    assert!(status.success(), "{status}");
}

fn current(set: &Path) -> u64 {
    let control = inspect_control(set).expect("a control page");
    control.current.expect("a whole record").generation.0
}
