//! Daemons and clients upgrade in any order: stores of other format versions beside ours and in our place, and today's
//! reader and publisher on files of each released format.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

use libflags::store::layout::FORMAT;
use libflags::store::{PublishMeta, Publisher, PublisherOptions, SegmentFile, inspect_control};
use libflags::{Client, Context, Error, OpenOptions, State};
use libflags_tests::golden;
use libflags_tests::numbered::{self, Payloads};
use libflags_tests::processes::{Watchdog, eventually, leftovers, store_folder};
use serde_json::Value as Json;
use xxhash_rust::xxh3::xxh3_64;

fn publisher(set: &Path) -> Publisher {
    Publisher::open(set, &PublisherOptions::default()).expect("a publisher")
}

/// Publishes the flags of a generation as that generation.
fn publish(publisher: &mut Publisher, generation: u64) {
    let published = publisher.publish(Payloads::default().of(generation), &PublishMeta::default());
    assert_eq!(published.expect("published").0, generation);
}

fn number(client: &Client) -> i64 {
    client.int("n-0", &Context::anonymous(), -1)
}

/// A store of a format to come, of which we know nothing but its folder.
fn pretend_next_format(set: &Path) {
    let folder = set.join("v2");
    fs::create_dir_all(&folder).expect("a folder");
    for name in ["control", "segment-9", ".segment-10.tmp", "list-0123456789abcdef", "lock"] {
        fs::write(folder.join(name), b"who knows").expect("a file");
    }
}

fn assert_next_format_untouched(set: &Path) {
    let names = fs::read_dir(set.join("v2")).expect("the folder").map(|entry| entry.expect("an entry").path());
    let mut count = 0;
    for path in names {
        assert_eq!(fs::read(&path).expect("the file"), b"who knows", "{}", path.display());
        count += 1;
    }
    assert_eq!(count, 5);
}

/// Gives a file of the store another format version, all else in order.
fn alter_format(path: &Path, format: u64, checked: usize) {
    fs::set_permissions(path, Permissions::from_mode(0o644)).expect("our file");
    let file = File::options().read(true).write(true).open(path).expect("the file");
    let mut bytes = vec![0; checked];
    file.read_exact_at(&mut bytes, 0).expect("its beginning");
    let word = u64::from_le_bytes(bytes[8..16].try_into().expect("eight bytes"));
    bytes[8..16].copy_from_slice(&(word - u64::from(FORMAT) + format).to_le_bytes());
    bytes.extend_from_slice(&xxh3_64(&bytes).to_le_bytes());
    file.write_all_at(&bytes, 0).expect("the change");
    fs::set_permissions(path, Permissions::from_mode(0o444)).expect("our file");
}

#[test]
fn a_store_of_only_another_format_is_named_and_waited_for() {
    let _watchdog = Watchdog::start(Duration::from_secs(600));
    let folder = store_folder();
    let set = folder.path();
    pretend_next_format(set);
    match Client::open(Some(set)) {
        Err(Error::UnknownFormat { path, found, supported }) => {
            assert_eq!((path.as_path(), found.as_str(), supported), (set, "v2", FORMAT));
        }
        other => panic!("{other:?}"),
    }
    let text = Client::open(Some(set)).expect_err("refused").to_string();
    assert!(text.contains(&set.display().to_string()) && text.contains("v2"), "{text}");

    // A client may be there before its daemon.
    let client = Client::open_with(&OpenOptions::new().store(set).wait(false)).expect("a detached client");
    assert_eq!((number(&client), client.status().state), (-1, State::Detached));
    let problem = client.status().last_error.expect("it says why");
    assert!(problem.contains("v2"), "{problem}");
    publish(&mut publisher(set), 1);
    eventually("the daemon of our format", || number(&client) == 1);
    assert_eq!(client.status().last_error, None);
}

#[test]
fn formats_lie_side_by_side() {
    let folder = store_folder();
    let set = folder.path();
    publish(&mut publisher(set), 1);
    let client = Client::open(Some(set)).expect("a client");
    pretend_next_format(set);
    for generation in 2..10 {
        // Each time another publisher, which cleans up after the one before it.
        publish(&mut publisher(set), generation);
        assert_eq!(numbered::check(&client.snapshot()), Ok(()));
        assert_eq!(client.snapshot().generation(), generation);
        let fresh = Client::open(Some(set)).expect("a client");
        assert_eq!(fresh.snapshot().generation(), generation);
    }
    assert_eq!(leftovers(set), Vec::<String>::new());
    assert_next_format_untouched(set);
}

#[test]
fn a_segment_of_another_format_is_refused_and_the_old_one_stays() {
    let folder = store_folder();
    let set = folder.path();
    let mut publisher = publisher(set);
    publish(&mut publisher, 1);
    let client = Client::open(Some(set)).expect("a client");
    assert_eq!(number(&client), 1);
    publish(&mut publisher, 2);
    alter_format(&set.join("v1/segment-2"), 2, 120);
    assert_eq!(number(&client), 1);
    let status = client.status();
    assert_eq!((status.generation, status.state), (1, State::Stale));
    let problem = status.last_error.expect("it says why");
    assert!(problem.contains("segment-2") && problem.contains("format version 2"), "{problem}");
    match Client::open(Some(set)) {
        Err(Error::UnknownFormat { path, found, .. }) => {
            assert_eq!((path, found.as_str()), (set.join("v1/segment-2"), "2"));
        }
        other => panic!("{other:?}"),
    }
    publish(&mut publisher, 3);
    assert_eq!((number(&client), client.status().last_error), (3, None));
}

#[test]
fn a_control_page_of_another_format_is_named_and_replaced_by_our_publisher() {
    let _watchdog = Watchdog::start(Duration::from_secs(600));
    let folder = store_folder();
    let set = folder.path();
    publish(&mut publisher(set), 1);
    let client = Client::open(Some(set)).expect("a client");
    alter_format(&set.join("v1/control"), 2, 32);
    match Client::open(Some(set)) {
        Err(Error::UnknownFormat { path, found, .. }) => {
            assert_eq!((path, found.as_str()), (set.join("v1/control"), "2"));
        }
        other => panic!("{other:?}"),
    }
    fs::set_permissions(set.join("v1/control"), Permissions::from_mode(0o644)).expect("our file");
    publish(&mut publisher(set), 2);
    // Who had the page mapped is sent on to the new one.
    eventually("the new page", || number(&client) == 2);
    assert_eq!(Client::open(Some(set)).expect("a client").snapshot().generation(), 2);
}

/// Puts a released format's files where a store is.
fn golden_store(set: &Path, name: &str) -> io::Result<()> {
    let folder = set.join(format!("v{FORMAT}"));
    fs::create_dir(&folder)?;
    fs::set_permissions(&folder, Permissions::from_mode(0o755))?;
    for entry in fs::read_dir(golden::folder(name))? {
        let entry = entry?;
        let name = entry.file_name();
        if ["control", "segment-", "list-"].iter().any(|prefix| name.to_string_lossy().starts_with(prefix)) {
            let to = folder.join(&name);
            fs::write(&to, fs::read(entry.path())?)?;
            fs::set_permissions(&to, Permissions::from_mode(if name == "control" { 0o644 } else { 0o444 }))?;
        }
    }
    Ok(())
}

#[test]
fn golden_files_are_read_and_answer_as_recorded() {
    golden::FOLDERS.into_iter().for_each(is_read_and_answers_as_recorded);
}

fn is_read_and_answers_as_recorded(name: &str) {
    let folder = store_folder();
    golden_store(folder.path(), name).expect("a copy of the golden files");
    let control = inspect_control(folder.path()).expect("the golden control page");
    let record = control.current.expect("a whole record");
    assert_eq!((record.generation.0, record.revision, control.moved), (1, golden::REVISION, false));

    let client = Client::open(Some(folder.path())).expect("a client");
    let flags = client.snapshot();
    assert_eq!((flags.generation(), flags.revision()), (1, golden::REVISION));
    let recorded = fs::read_to_string(golden::folder(name).join("answers.json")).expect("the recorded answers");
    let recorded: Vec<Json> = serde_json::from_str(&recorded).expect("JSON");
    for question in &recorded {
        assert_eq!(golden::answer(&flags, question), question["answer"], "{question}");
    }
    println!("{name}: {} recorded answers given again", recorded.len());
    assert!(recorded.len() > 200);
    // Of every kind.
    for word in [
        "STATIC",
        "TARGETING_MATCH",
        "DEFAULT",
        "DISABLED",
        "FLAG_NOT_FOUND",
        "PARSE_ERROR",
        "TYPE_MISMATCH",
        "GENERAL",
    ] {
        let has = |question: &Json| question["answer"]["reason"] == word || question["answer"]["error"] == word;
        assert!(recorded.iter().any(has), "no answer is {word}");
    }

    // Today's publisher goes on in it, and its readers notice only the change.
    let mut publisher = publisher(folder.path());
    publish(&mut publisher, 2);
    assert_eq!((number(&client), flags.generation()), (2, 1));
    assert_eq!(golden::answer(&flags, &recorded[0]), recorded[0]["answer"]);
}

#[test]
fn the_same_definition_makes_the_same_bytes() {
    let folder = golden::folder(golden::NEWEST);
    let segment = SegmentFile::read(&folder.join("segment-1")).expect("the golden segment");
    assert_eq!((segment.header.generation.0, segment.header.revision), (1, golden::REVISION));
    // Wherever the definition lies.
    let elsewhere = store_folder();
    for name in ["definition.json", "ids.txt"] {
        fs::copy(folder.join(name), elsewhere.path().join(name)).expect("a copy");
    }
    let compile = |folder: &Path| golden::compile(folder).expect("a snapshot");
    let (one, other) = (compile(&folder), compile(elsewhere.path()));
    assert_eq!(one.snapshot.as_slice(), other.snapshot.as_slice(), "compiling is deterministic");
    let differs = one.snapshot.iter().zip(segment.payload.iter()).position(|(new, golden)| new != golden);
    assert!(
        differs.is_none() && one.snapshot.len() == segment.payload.len(),
        "today's compiler makes {} bytes where the golden segment has {}, different from byte {differs:?} on: either a \
         defect, or a new folder in golden::FOLDERS and cargo run -p libflags-tests --bin make-golden",
        one.snapshot.len(),
        segment.payload.len(),
    );
    assert_eq!(one.lists.len(), 1);
    for list in &one.lists {
        let golden = fs::read(folder.join(format!("list-{:016x}", list.name))).expect("the golden id list");
        assert_eq!(list.built.as_ref().expect("made anew").to_bytes(), golden);
    }
}
