//! The store as a whole: readers and publishers in one process. Those that need processes of their own are in `processes`.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use std::{fs, thread};

mod processes;

use super::*;
use crate::{Error, State};

/// A payload of equal 64-bit words, the revision it was published under.
#[derive(Debug)]
struct Words(Region);

impl Words {
    fn value(&self) -> u64 {
        self.0.first_chunk().map_or(0, |word| u64::from_le_bytes(*word))
    }

    fn bytes(value: u64, count: usize) -> Vec<u8> {
        value.to_le_bytes().repeat(count)
    }
}

impl Payload for Words {
    fn open(bytes: Region, _files: &dyn Files, _previous: Option<&Self>) -> Result<Self, Error> {
        match bytes.first_chunk() {
            Some(b"refuseme") => Err(Error::Payload("it asks to be refused".into())),
            Some(b"panic!!!") => panic!("a payload that panics"),
            _ => Ok(Words(bytes)),
        }
    }
}

fn open(set: &Path) -> Result<Reader<Words>, Error> {
    Reader::open(&OpenOptions::new().store(set))
}

fn publisher(set: &Path) -> Publisher {
    Publisher::open(set, &PublisherOptions::default()).unwrap()
}

fn publish(publisher: &mut Publisher, value: u64) -> Generation {
    publisher.publish(&Words::bytes(value, 64), &PublishMeta { revision: value, ..PublishMeta::default() }).unwrap()
}

fn value(reader: &Reader<Words>) -> Option<u64> {
    reader.enter().payload().map(Words::value)
}

/// Does `done` until it is true; a test that hangs fails.
fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !done() {
        assert!(Instant::now() < end, "{what} did not happen");
        thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn a_reader_follows_a_publisher() {
    let directory = tempfile::tempdir().unwrap();
    let set = directory.path().join("set");
    let Err(Error::NoStore { tried }) = open(&set) else { panic!("opened what is not there") };
    assert_eq!(tried[0].0, set);

    let mut publisher = publisher(&set);
    assert!(matches!(open(&set), Err(Error::NothingPublished { .. })));
    assert_eq!(publish(&mut publisher, 10), Generation(1));
    let reader = open(&set).unwrap();
    assert_eq!(value(&reader), Some(10));
    for round in 2..50 {
        assert_eq!(publish(&mut publisher, round), Generation(round));
        let guard = reader.enter();
        assert_eq!((guard.generation(), guard.payload().map(Words::value)), (Generation(round), Some(round)));
        assert_eq!(guard.payload().unwrap().0.as_ptr().addr() % 16, 0);
    }
    let mut names: Vec<_> = fs::read_dir(set.join("v1")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["control", "lock", "segment-48", "segment-49"]);
    assert_eq!(fs::metadata(set.join("v1/segment-49")).unwrap().permissions().mode() & 0o7777, 0o444);
    publisher.heartbeat();
    let status = reader.status();
    assert_eq!((status.generation, status.revision, status.state), (49, 49, State::Fresh));
    assert!(status.daemon_alive && status.last_error.is_none() && status.generations_mapped == 1, "{status:?}");
    drop(publisher);
    assert!(!reader.status().daemon_alive);
}

#[test]
fn a_confirmation_changes_the_age_and_maps_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let mut publisher = publisher(directory.path());
    let max_age_ns = 3_600_000_000_000;
    publisher
        .publish(&Words::bytes(1, 8), &PublishMeta { upstream_confirmed_at_ns: 1, max_age_ns, revision: 1 })
        .unwrap();
    let reader = open(directory.path()).unwrap();
    assert_eq!(reader.status().state, State::Stale);
    let before = reader.enter();
    let (version, address) = (before.version().unwrap(), before.payload().unwrap().0.as_ptr());
    drop(before);
    publisher.confirm(clock::wall_ns());
    assert!(!reader.version_is(version));
    let after = reader.enter();
    assert!(reader.version_is(after.version().unwrap()));
    assert_eq!(after.payload().unwrap().0.as_ptr(), address);
    assert_eq!(after.generation(), Generation(1));
    let status = reader.status();
    assert_eq!(status.state, State::Fresh);
    assert_eq!(status.max_age, Some(Duration::from_secs(3_600)));
    publisher.set_state(WriterState::Frozen);
    assert_eq!(reader.status().state, State::Frozen);
}

#[test]
fn a_detached_reader_attaches_by_itself() {
    let directory = tempfile::tempdir().unwrap();
    let reader = Reader::<Words>::open(&OpenOptions::new().store(directory.path()).wait(false)).unwrap();
    assert_eq!(value(&reader), None);
    assert!(reader.enter().version().is_none() && reader.pin().is_none());
    let status = reader.status();
    assert_eq!(status.state, State::Detached);
    assert!(status.last_error.unwrap().contains(directory.path().to_str().unwrap()));
    let mut publisher = publisher(directory.path());
    thread::sleep(Duration::from_millis(150));
    assert_eq!(value(&reader), None, "attached, nothing published");
    publish(&mut publisher, 5);
    eventually("attaching", || value(&reader) == Some(5));
    assert_eq!(reader.status().last_error, None);
}

#[test]
fn opening_waits_as_long_as_it_is_told() {
    let directory = tempfile::tempdir().unwrap();
    thread::scope(|scope| {
        let options = OpenOptions::new().store(directory.path()).timeout(Duration::from_secs(60));
        let reader = scope.spawn(move || Reader::<Words>::open(&options).map(|reader| value(&reader)));
        thread::sleep(Duration::from_millis(20));
        let mut publisher = publisher(directory.path());
        thread::sleep(Duration::from_millis(20));
        publish(&mut publisher, 9);
        assert_eq!(reader.join().unwrap().unwrap(), Some(9));
    });
}

#[test]
fn a_private_snapshot_is_replaced_under_its_readers() {
    let reader = Reader::<Words>::private(Region::copy_of(&Words::bytes(1, 8)), &MemoryFiles::default()).unwrap();
    assert_eq!(value(&reader), Some(1));
    let (version, pin) = (reader.enter().version().unwrap(), reader.pin().unwrap());
    assert!(reader.version_is(version));
    let guard = reader.enter();
    assert_eq!(reader.replace(Region::copy_of(&Words::bytes(2, 8)), &MemoryFiles::default()).unwrap(), Generation(2));
    assert_eq!(guard.payload().map(Words::value), Some(1), "a guard keeps what it has");
    drop(guard);
    assert!(!reader.version_is(version));
    assert_eq!(value(&reader), Some(2));
    assert_eq!(pin.payload().value(), 1);
    reader.replace(Region::copy_of(b"refuseme"), &MemoryFiles::default()).expect_err("refused");
    assert_eq!(value(&reader), Some(2));
    let status = reader.status();
    assert_eq!((status.generation, status.state, status.path), (2, State::Fresh, None));
    drop(reader);
    assert_eq!(pin.clone().payload().value(), 1, "a pin outlives its reader");
}

#[test]
fn a_refused_generation_leaves_the_old_one_and_is_looked_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let mut publisher = publisher(directory.path());
    publish(&mut publisher, 1);
    let reader = open(directory.path()).unwrap();
    for bad in [b"refuseme", b"panic!!!"] {
        let refused = publisher.publish(bad, &PublishMeta::default()).unwrap();
        assert_eq!(value(&reader), Some(1));
        assert_eq!(reader.enter().version(), None, "its answers must not be kept");
        let status = reader.status();
        assert_eq!((status.generation, status.state), (1, State::Stale));
        let text = status.last_error.unwrap();
        assert!(text.starts_with(&format!("generation {refused} refused: ")), "{text}");
        publisher.confirm(7);
        assert_eq!(value(&reader), Some(1));
        assert_eq!(reader.status().last_error.unwrap(), text, "the reason stays what it was");
    }
    publish(&mut publisher, 4);
    assert_eq!(value(&reader), Some(4));
    assert!(reader.enter().version().is_some());
    assert_eq!(reader.status().last_error, None);
}

/// A payload that takes many parts to read.
fn publish_large(publisher: &mut Publisher, value: u64) -> Instant {
    let begun = Instant::now();
    publisher.publish(&Words::bytes(value, LARGE_WORDS), &PublishMeta::default()).unwrap();
    begun
}

const LARGE_WORDS: usize = (3 << 20) / 8;

#[test]
fn a_large_generation_is_read_in_parts_and_the_old_one_answers_meanwhile() {
    let directory = tempfile::tempdir().unwrap();
    let mut publisher = publisher(directory.path());
    publish_large(&mut publisher, 1);
    let reader = open(directory.path()).unwrap();
    let mut seen_in_parts = 0;
    for round in 2..30 {
        let published = publish_large(&mut publisher, round);
        let (mut evaluations, mut last) = (0, value(&reader));
        // On a machine with other work so long may have passed that the rest was due at once.
        if published.elapsed() < Duration::from_millis(10) {
            assert_eq!(last, Some(round - 1), "more than a part was read");
            let version = reader.enter().version().unwrap();
            assert!(!reader.version_is(version), "what is read from the old one is not to be kept as the newest");
            seen_in_parts += 1;
        }
        while last != Some(round) {
            assert_eq!(last, Some(round - 1));
            last = value(&reader);
            evaluations += 1;
        }
        let guard = reader.enter();
        assert!(guard.version().is_some_and(|version| reader.version_is(version)), "after {evaluations} evaluations");
        assert!(guard.payload().unwrap().0.chunks_exact(8).all(|word| word == round.to_le_bytes()));
    }
    if seen_in_parts == 0 {
        println!("skipped: this machine was too busy to see a generation half read");
    }
    eventually("unmapping the old ones by evaluating alone", || {
        value(&reader);
        mapped_segments(directory.path()) == 1
    });
}

#[test]
fn whoever_asks_for_the_newest_gets_it_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let mut publisher = publisher(directory.path());
    publish_large(&mut publisher, 1);
    let reader = open(directory.path()).unwrap();
    for round in (2..32).step_by(5) {
        publish_large(&mut publisher, round);
        assert_eq!(reader.pin().unwrap().payload().value(), round);
        publish_large(&mut publisher, round + 1);
        value(&reader);
        let status = reader.status();
        assert_eq!((status.generation, status.generations_mapped), (round + 1, 1));
        assert_eq!(value(&reader), Some(round + 1));
        publish_large(&mut publisher, round + 2);
        thread::sleep(Duration::from_millis(11));
        assert_eq!(value(&reader), Some(round + 2), "published long ago");
        publish_large(&mut publisher, 0);
        publish_large(&mut publisher, round + 4);
        assert_eq!(value(&reader), Some(round + 4), "how long ago the first of two was published, nobody knows");
    }
}

#[test]
fn a_newer_generation_takes_the_place_of_one_half_read() {
    let directory = tempfile::tempdir().unwrap();
    let mut publisher = publisher(directory.path());
    publish_large(&mut publisher, 1);
    let reader = open(directory.path()).unwrap();
    for round in (2..30).step_by(2) {
        publish_large(&mut publisher, round);
        value(&reader);
        let published = publish_large(&mut publisher, round + 1);
        while value(&reader) != Some(round + 1) {
            assert!(published.elapsed() < Duration::from_secs(60), "it does not arrive");
        }
    }
    assert_eq!(reader.status().generations_mapped, 1);
    assert_eq!(mapped_segments(directory.path()), 1);
}

#[test]
fn a_large_generation_that_is_damaged_is_refused_wherever_the_damage_is() {
    use std::os::unix::fs::FileExt;
    let directory = tempfile::tempdir().unwrap();
    let mut publisher = publisher(directory.path());
    publish_large(&mut publisher, 1);
    let reader = open(directory.path()).unwrap();
    for (generation, at) in (2..).zip([128, 127 << 10, 129 << 10, 1 << 20, (3 << 20) + 127]) {
        publish_large(&mut publisher, 9);
        let path = directory.path().join(format!("v1/segment-{generation}"));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        fs::File::options().write(true).open(&path).unwrap().write_all_at(&[0xee], at).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o444)).unwrap();
        eventually("refusing", || {
            assert_eq!(value(&reader), Some(1));
            reader.enter().version().is_none()
        });
        let text = reader.status().last_error.unwrap();
        assert!(text.starts_with(&format!("generation {generation} refused: ")) && text.contains("checksum"), "{text}");
    }
}

fn mapped_segments(set: &Path) -> usize {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let own = set.to_str().unwrap();
    maps.lines().filter(|line| line.contains(own) && line.contains("segment-")).count()
}

#[test]
fn evaluations_nest_and_pins_outlive_swaps() {
    let directory = tempfile::tempdir().unwrap();
    let mut publisher = publisher(directory.path());
    publish(&mut publisher, 1);
    let reader = open(directory.path()).unwrap();
    let mut guards = Vec::new();
    for round in 1..20 {
        guards.push(reader.enter());
        publish(&mut publisher, round + 1);
    }
    for (guard, round) in guards.iter().zip(1..) {
        assert_eq!(guard.payload().map(Words::value), Some(round), "each guard keeps its own");
    }
    let pin = guards[3].pin().unwrap();
    // In another order than they came.
    guards.swap(0, 7);
    drop(guards);
    assert_eq!(value(&reader), Some(20));
    publish(&mut publisher, 21);
    assert_eq!(value(&reader), Some(21));
    assert_eq!(reader.status().generations_mapped, 2, "the current one and the pinned one");
    let guard = reader.enter();
    publish(&mut publisher, 22);
    assert_eq!(value(&reader), Some(22));
    drop(guard);
    assert_eq!(reader.status().generations_mapped, 2, "what no thread is inside of any more does not wait for a swap");
    drop(reader);
    assert_eq!(thread::spawn(move || pin.payload().value()).join().unwrap(), 4);
}

#[test]
fn a_second_publisher_is_refused_and_a_later_one_goes_on_in_place() {
    let directory = tempfile::tempdir().unwrap();
    let mut first = publisher(directory.path());
    publish(&mut first, 1);
    let inode = || fs::metadata(directory.path().join("v1/control")).unwrap().ino();
    let (reader, before, instance) = (open(directory.path()).unwrap(), inode(), inspect(directory.path()).instance);
    match Publisher::open(directory.path(), &PublisherOptions::default()) {
        Err(Error::Locked { pid, .. }) => assert_eq!(pid, Some(std::process::id())),
        other => panic!("{other:?}"),
    }
    assert_eq!(inspect(directory.path()).instance, instance);
    drop(first);
    let mut second = publisher(directory.path());
    assert_eq!(publish(&mut second, 2), Generation(2));
    assert_eq!(inode(), before, "the control page is used further");
    assert_ne!(inspect(directory.path()).instance, instance);
    assert_eq!(value(&reader), Some(2));
    drop(second);
    let floor = PublisherOptions { generation_floor: Generation(100) };
    let mut third = Publisher::open(directory.path(), &floor).unwrap();
    assert_eq!(publish(&mut third, 3), Generation(101));
    assert_eq!(value(&reader), Some(3));
}

fn inspect(set: &Path) -> ControlSummary {
    inspect_control(set).unwrap()
}

#[test]
fn a_damaged_control_page_is_replaced_and_sends_its_readers_on() {
    use std::os::unix::fs::FileExt;
    let directory = tempfile::tempdir().unwrap();
    let control = directory.path().join("v1/control");
    let mut first = publisher(directory.path());
    publish(&mut first, 1);
    let reader = open(directory.path()).unwrap();
    drop(first);
    let before = fs::metadata(&control).unwrap().ino();
    fs::File::options().write(true).open(&control).unwrap().write_all_at(b"nonsense", 24).unwrap();
    let mut second = publisher(directory.path());
    assert_ne!(fs::metadata(&control).unwrap().ino(), before);
    assert_eq!(value(&reader), Some(1), "until there is something newer");
    assert_eq!(publish(&mut second, 2), Generation(2), "numbers go on");
    assert_eq!(value(&reader), Some(2), "found without waiting for a clock");
}

#[test]
fn a_store_deleted_and_made_anew_is_found() {
    let directory = tempfile::tempdir().unwrap();
    let set = directory.path().join("set");
    let mut first = publisher(&set);
    publish(&mut first, 1);
    let reader = open(&set).unwrap();
    fs::remove_dir_all(&set).unwrap();
    eventually("noticing", || reader.status().last_error.is_some());
    assert_eq!((value(&reader), reader.status().state), (Some(1), State::Stale));
    drop(first);
    let mut second = publisher(&set);
    publish(&mut second, 2);
    // By evaluating alone.
    eventually("finding the new store", || (0..10_000).any(|_| value(&reader) == Some(2)));
    assert_eq!(reader.status().last_error, None);
    publish(&mut second, 3);
    assert_eq!(value(&reader), Some(3));
}

#[test]
fn id_lists_lie_beside_the_segments_and_are_shared() {
    struct Listed(Region);
    impl Payload for Listed {
        fn open(bytes: Region, files: &dyn Files, previous: Option<&Self>) -> Result<Self, Error> {
            match previous {
                Some(previous) => Ok(Listed(previous.0.clone())),
                None => Ok(Listed(files.file(std::str::from_utf8(&bytes).unwrap())?)),
            }
        }
    }
    let directory = tempfile::tempdir().unwrap();
    let mut publisher = publisher(directory.path());
    assert!(publisher.publish_list("abc", |file| file.write_all(b"members")).unwrap());
    assert!(!publisher.publish_list("abc", |_| unreachable!("it is there")).unwrap());
    publisher.publish_list("bad", |_| Err(std::io::Error::other("no"))).expect_err("the writer failed");
    publisher.publish(layout::list_name("abc").as_bytes(), &PublishMeta::default()).unwrap();
    let reader = Reader::<Listed>::open(&OpenOptions::new().store(directory.path())).unwrap();
    let address = reader.enter().payload().unwrap().0.as_ptr();
    publisher.publish(b"anything", &PublishMeta::default()).unwrap();
    publisher.retain_lists(&BTreeSet::new()).unwrap();
    let guard = reader.enter();
    assert_eq!((guard.generation(), &*guard.payload().unwrap().0), (Generation(2), b"members".as_slice()));
    assert_eq!(guard.payload().unwrap().0.as_ptr(), address, "mapped once");
    let names: BTreeSet<_> = fs::read_dir(publisher.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(!names.iter().any(|name| name.to_str().unwrap().contains("list")), "{names:?}");
}

#[test]
fn a_segment_file_is_written_whole_and_read_with_all_checks() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("good.segment");
    let meta = PublishMeta { revision: 4, upstream_confirmed_at_ns: 5, max_age_ns: 6 };
    SegmentFile::write(&path, b"first", Generation(1), &meta).unwrap();
    let header = SegmentFile::write(&path, b"payload", Generation(3), &meta).unwrap();
    let read = SegmentFile::read(&path).unwrap();
    assert_eq!((read.header, &*read.payload), (header, b"payload".as_slice()));
    assert_eq!((header.generation, header.revision, header.max_age_ns), (Generation(3), 4, 6));
    let bytes = fs::read(&path).unwrap();
    let altered = directory.path().join("altered");
    for at in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 0x10;
        fs::write(&altered, &changed).unwrap();
        SegmentFile::read(&altered).expect_err("an altered byte");
        fs::write(&altered, &bytes[..at]).unwrap();
        SegmentFile::read(&altered).expect_err("a short file");
    }
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2, "no temporary file is left");
}

#[test]
fn updates_at_full_speed_keep_answers_whole_and_memory_flat() {
    let directory = tempfile::tempdir().unwrap();
    let mut publisher = publisher(directory.path());
    publish(&mut publisher, 1);
    let reader = open(directory.path()).unwrap();
    let done = AtomicBool::new(false);
    let rounds = 1_500;
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let mut last = 0;
                while !done.load(Ordering::Relaxed) {
                    let guard = reader.enter();
                    let payload = guard.payload().unwrap();
                    let value = payload.value();
                    assert!(payload.0.chunks_exact(8).all(|word| word == value.to_le_bytes()), "torn");
                    assert!(guard.generation().0 >= last, "a generation went back");
                    last = guard.generation().0;
                }
            });
        }
        // An idle thread that has evaluated once must not keep anything.
        scope.spawn(|| {
            assert!(value(&reader).is_some());
            while !done.load(Ordering::Relaxed) {
                thread::sleep(Duration::from_millis(1));
            }
        });
        for round in 2..rounds {
            publish(&mut publisher, round);
            if round % 100 == 0 {
                let mapped = reader.status().generations_mapped;
                assert!(mapped <= 1 + 4 + 1, "{mapped} generations mapped, with 4 threads");
            }
        }
        done.store(true, Ordering::Relaxed);
    });
    publish(&mut publisher, rounds);
    assert_eq!(value(&reader), Some(rounds));
    assert_eq!(reader.status().generations_mapped, 1);
    assert_eq!(mapped_segments(directory.path()), 1);
}
