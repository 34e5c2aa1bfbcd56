//! A publication that is made of what was written ahead is the same as any other.

use std::{fs, path::Path};

use libflags::store::{PublishMeta, Publisher, PublisherOptions, SegmentFile};

#[test]
fn a_segment_made_of_a_spare_is_a_segment() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut publisher = Publisher::open(folder.path(), &PublisherOptions::default()).expect("opened");
    let mut payload: Vec<u8> = (0..1_000_000_u32).map(|at| (at % 251) as u8).collect();
    let mut publish = |payload: &[u8], spare: bool| {
        let generation = publisher.publish(payload, &PublishMeta::default()).expect("published");
        assert!(!names(folder.path()).contains(&SPARE.to_owned()), "it was used up");
        let path = publisher.path().join(format!("segment-{}", generation.0));
        assert!(fs::metadata(&path).expect("is there").permissions().readonly());
        assert!(*SegmentFile::read(&path).expect("whole").payload == *payload, "generation {}", generation.0);
        let before = path.with_file_name(format!("segment-{}", generation.0 - 1));
        let before = before.exists().then(|| SegmentFile::read(&before).expect("whole as ever").payload.to_vec());
        if spare {
            publisher.prepare();
            publisher.prepare();
            assert!(names(folder.path()).contains(&SPARE.to_owned()));
        }
        before
    };
    publish(&payload, true);
    for turn in 0..20_usize {
        let first = payload.clone();
        match turn % 5 {
            // A few bytes, none, all; longer, and shorter than what was written ahead.
            0 => payload[turn * 40_000] ^= 0xff,
            1 => {}
            2 => payload.iter_mut().for_each(|byte| *byte = byte.wrapping_add(1)),
            3 => payload.resize(payload.len() + 100_000, 7),
            _ => payload.truncate(payload.len() - 150_000),
        }
        assert!(publish(&payload, turn % 7 != 0).as_ref() == Some(&first), "turn {turn}");
    }
    publish(b"too small to be worth it", false);
    publisher.prepare();
    assert!(!names(folder.path()).contains(&SPARE.to_owned()));
}

#[test]
fn a_spare_goes_with_its_publisher() {
    let folder = tempfile::tempdir().expect("a folder");
    let payload = vec![1; 1 << 20];
    let open = || Publisher::open(folder.path(), &PublisherOptions::default()).expect("opened");
    let mut publisher = open();
    publisher.publish(&payload, &PublishMeta::default()).expect("published");
    publisher.prepare();
    drop(publisher);
    assert!(!names(folder.path()).contains(&SPARE.to_owned()));
    // Or, after a kill, when the next one comes.
    fs::write(folder.path().join("v1").join(SPARE), "left behind").expect("written");
    drop(open());
    assert!(!names(folder.path()).contains(&SPARE.to_owned()));
}

const SPARE: &str = ".spare.tmp";

fn names(set: &Path) -> Vec<String> {
    let entries = fs::read_dir(set.join("v1")).expect("listed");
    entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect()
}
