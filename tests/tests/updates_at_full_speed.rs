//! A publisher that updates as fast as it can while processes read: nothing crashes, memory is flat, and no process holds
//! more generations than its threads are inside of.
//!
//! `FLAGS_TEST_SECONDS=60` makes it a minute instead of a few seconds.

use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use libflags::store::inspect_control;
use libflags_tests::languages::Languages;
use libflags_tests::numbered::CYCLE;
use libflags_tests::processes::{Memory, Watchdog, Worker, eventually, leftovers, store_folder};

/// A reader, and how many generations it may hold.
struct Reader {
    worker: Worker,
    bound: usize,
    most: usize,
    /// Its memory once everything was there that there will be.
    at_first: Memory,
}

#[test]
fn memory_stays_flat_and_few_generations_stay_mapped() {
    let seconds = std::env::var("FLAGS_TEST_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(5);
    let _watchdog = Watchdog::start(Duration::from_secs(900 + 4 * seconds));
    let languages = Languages::build();
    let folder = store_folder();
    let set = folder.path();
    let mut writer = Command::new(env!("CARGO_BIN_EXE_store-writer"));
    writer.arg(set);
    let mut writer = Worker::start("writer", writer);
    eventually("the first generation", || generation(set) > 0);

    let mut readers = Vec::new();
    let mut start = |name: &str, command: Command, bound: usize| {
        let worker = Worker::start(name, command);
        readers.push(Reader { worker, bound, most: 0, at_first: Memory::default() });
    };
    // A thread that reads holds the generation it is inside of; the one that swaps holds the next, too.
    start("Rust, 1 thread and 8 idle", rust(set, &["--threads", "1", "--idle", "8"]), 2);
    start("Rust, 2 threads", rust(set, &["--threads", "2"]), 3);
    start("Rust, 1 thread, 2 idle and a pin", rust(set, &["--threads", "1", "--idle", "2", "--pin"]), 3);
    for (language, program, bound) in [("C", languages.c("reader"), 3), ("Python", languages.python("reader"), 2)] {
        match program {
            Ok(mut program) => {
                program.arg(set).arg((bound - 1).to_string());
                start(&format!("{language}, {} threads", bound - 1), program, bound);
            }
            Err(why) => println!("skipped: readers in {language}: {why}"),
        }
    }
    for reader in &mut readers {
        let name = reader.worker.name().to_owned();
        eventually(&format!("{name} reading"), || {
            assert!(reader.worker.is_running(), "{name} has ended");
            reader.worker.progress().slowest > 10_000
        });
    }
    // From here on the writer compiles nothing any more.
    eventually("every payload", || writer.progress().total > CYCLE + 10);
    let writer_at_first = writer.memory();
    for reader in &mut readers {
        reader.at_first = reader.worker.memory();
    }
    let (begin, first) = (Instant::now(), generation(set));
    let mut looks = 0;
    while begin.elapsed() < Duration::from_secs(seconds) {
        thread::sleep(Duration::from_millis(20));
        assert!(writer.is_running(), "the writer has ended");
        for reader in &mut readers {
            assert!(reader.worker.is_running(), "{} has ended", reader.worker.name());
            let held = reader.worker.memory().generations;
            reader.most = reader.most.max(held.len());
            assert!(held.len() <= reader.bound, "{} holds {held:?}", reader.worker.name());
            looks += 1;
        }
    }
    let updates = generation(set) - first;
    assert!(updates > 0);
    flat("the writer", &writer_at_first, &writer.memory());
    println!("{updates} updates in {:.1} s, {looks} looks at readers", begin.elapsed().as_secs_f64());
    writer.finish();
    let last = generation(set);
    for reader in readers {
        let Reader { worker, bound, most, at_first } = reader;
        let name = worker.name().to_owned();
        eventually(&format!("{name} at generation {last}"), || worker.progress().generation == last);
        let memory = worker.memory();
        flat(&name, &at_first, &memory);
        let evaluations = worker.finish().total;
        let (from, to) = (at_first.anonymous_kib, memory.anonymous_kib);
        println!("{name}: {evaluations} evaluations, {most} of at most {bound} generations, {from} → {to} KiB");
    }
    assert_eq!(leftovers(set), Vec::<String>::new());
}

/// Fails where a process has grown.
fn flat(name: &str, from: &Memory, to: &Memory) {
    // An allocator may still take a page here and there, or a new arena.
    assert!(to.anonymous_kib <= from.anonymous_kib + 2_048, "{name} grew: {from:?} {to:?}");
    assert!(to.mappings <= from.mappings + 8, "{name} maps ever more: {from:?} {to:?}");
    assert!(to.files <= from.files + 2, "{name} opens ever more: {from:?} {to:?}");
}

fn rust(set: &Path, options: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_store-reader"));
    command.arg(set).args(options);
    command
}

/// The current generation; 0 before the first.
fn generation(set: &Path) -> u64 {
    inspect_control(set).ok().and_then(|control| control.current).map_or(0, |record| record.generation.0)
}
