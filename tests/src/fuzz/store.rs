//! Any bytes as the files of a store: refused, or answering, and never a fault.
//!
//! | bytes of an input | are |
//! |---|---|
//! | 0 | bits: what is put right, so that more than the first check is met ([`Mend`]) |
//! | 1 | what else is done with the store |
//! | 2..4 | how many bytes at the end are the id lists' (all of them the same) |
//! | 4..452 | the control page; the rest of it is zeros |
//! | 452..580 | the segment's header |
//! | 580.. | its payload, then the id list |

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs::{self, File, Permissions};
use std::io::Write as _;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::Path;

use libflags::compile::Compiler;
use libflags::definition::{Document, Format, Limits, Selector};
use libflags::snapshot::diff;
use libflags::store::{
    Files, Payload as _, PublishMeta, Publisher, PublisherOptions, Region, SegmentFile, StoreDir, inspect_control,
};
use libflags::{Client, Context, Error, List, Object, OpenOptions, Snapshot, Value, Want};
use tempfile::TempDir;
use xxhash_rust::xxh3::xxh3_64;

use crate::processes::store_folder;

const CONTROL: std::ops::Range<usize> = 4..452;
const PAYLOAD: usize = 580;
const CONTROL_BYTES: usize = 4096;
const VERSION: usize = 128;
const RECORDS: [usize; 2] = [256, 320];

/// Checks and sizes that are made to hold: the bits of an input's first byte.
#[derive(Clone, Copy, Debug)]
pub struct Mend(u8);

impl Mend {
    /// The check word of the control page's identity.
    pub const IDENTITY: u8 = 1;
    /// The check words of its records.
    pub const RECORDS: u8 = 2;
    /// The size and checksum that records say of the segment.
    pub const SEGMENT: u8 = 4;
    /// The header's checksum.
    pub const HEADER: u8 = 8;
    /// The size and checksum that the header says of the payload.
    pub const PAYLOAD: u8 = 16;
    /// The head of the id list.
    pub const LIST: u8 = 32;
    /// Only the snapshot is read, and not from files.
    pub const IN_MEMORY: u8 = 64;

    const fn has(self, bit: u8) -> bool {
        self.0 & bit != 0
    }
}

/// Opens a store of these bytes in every way there is, and reads it.
///
/// # Panics
/// Where a store that could be opened for publishing does not serve what was published in it.
pub fn run(data: &[u8]) {
    let Some((&[mend, more, low, high], _)) = data.split_first_chunk() else { return };
    let mend = Mend(mend);
    if data.len() < PAYLOAD {
        return;
    }
    let rest = &data[PAYLOAD..];
    let list_bytes = usize::from(u16::from_le_bytes([low, high])).min(rest.len());
    let (payload, list) = rest.split_at(rest.len() - list_bytes);
    let mut list = list.to_vec();
    if mend.has(Mend::LIST) && list.len() >= 32 {
        list[..8].copy_from_slice(b"FLAGLST1");
        let places = (list.len() as u64 - 32) / 16;
        list[24..32].copy_from_slice(&places.to_le_bytes());
    }
    let names = in_memory(payload, &list);
    if !mend.has(Mend::IN_MEMORY) {
        let mut header = data[CONTROL.end..PAYLOAD].to_vec();
        let mut control = data[CONTROL].to_vec();
        mend_all(mend, &mut control, &mut header, payload);
        in_files(more, &control, &header, payload, &list, &names);
    }
}

/// An input out of a store's files; `mend` is what it asks to be put right.
#[must_use]
pub fn input(mend: u8, more: u8, control: &[u8], segment: &[u8], list: &[u8]) -> Vec<u8> {
    let [low, high, ..] = list.len().to_le_bytes();
    let mut input = vec![mend, more, low, high];
    input.extend(&control[..CONTROL.len()]);
    input.extend(segment);
    input.extend(list);
    input
}

fn mend_all(mend: Mend, control: &mut [u8], header: &mut [u8], payload: &[u8]) {
    if mend.has(Mend::IDENTITY) {
        let check = xxh3_64(&control[..32]);
        put(control, 32, check);
    }
    if mend.has(Mend::PAYLOAD) {
        put(header, 16, payload.len() as u64);
        put(header, 24, xxh3_64(payload));
    }
    if mend.has(Mend::SEGMENT) {
        let generation = u64_at(control, RECORDS[0]);
        put(header, 32, generation);
        for record in RECORDS {
            put(control, record, generation);
            put(control, record + 8, (128 + payload.len()) as u64);
            put(control, record + 16, xxh3_64(payload));
        }
        // What else both say.
        for (in_record, in_header) in [(24, 40), (32, 48), (40, 56), (48, 64)] {
            let word = u64_at(control, RECORDS[0] + in_record);
            put(header, in_header, word);
            put(control, RECORDS[1] + in_record, word);
        }
    }
    if mend.has(Mend::HEADER) {
        let check = xxh3_64(&header[..120]);
        put(header, 120, check);
    }
    if mend.has(Mend::RECORDS) {
        for record in RECORDS {
            let check = xxh3_64(&control[record..record + 56]);
            put(control, record + 56, check);
        }
    }
}

fn put(bytes: &mut [u8], at: usize, word: u64) {
    bytes[at..at + 8].copy_from_slice(&word.to_le_bytes());
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes[at..].first_chunk().map_or(0, |word| u64::from_le_bytes(*word))
}

/// Every file there is, with the same content; remembers which were asked for.
struct Any<'a> {
    list: &'a [u8],
    asked: RefCell<BTreeSet<String>>,
}

impl Files for Any<'_> {
    fn file(&self, name: &str) -> Result<Region, Error> {
        self.asked.borrow_mut().insert(name.to_owned());
        Ok(Region::copy_of(self.list))
    }
}

/// Reads the payload by itself, without the checksums of a segment; gives the names of the id lists it asks for.
fn in_memory(payload: &[u8], list: &[u8]) -> BTreeSet<String> {
    let files = Any { list, asked: RefCell::default() };
    let snapshot = Snapshot::open(Region::copy_of(payload), &files, None);
    if let Ok(snapshot) = &snapshot {
        read_all(snapshot);
        let again = Snapshot::open(Region::copy_of(payload), &files, Some(snapshot));
        if let Ok(again) = &again {
            let _ = diff(snapshot, again).len();
        }
        // As a last known good from before: of what is broken now, the old form goes into the new snapshot.
        let mut compiler = Compiler::new(Limits::default());
        compiler.restore(snapshot);
        let broken: Vec<String> = snapshot
            .keys()
            .filter(|key| !key.is_empty())
            .take(4)
            .map(|key| format!("{}: {{\"state\": 0}}", serde_json::json!(key)))
            .collect();
        let text = format!("{{\"flags\": {{{}}}}}", broken.join(","));
        let document = Document::parse("definition", text, Format::Json, &Limits::default());
        let document = document.expect("keys that were read as text can be written as JSON");
        if let Ok(compilation) = compiler.compile(&[document], &Selector::All)
            && let Ok(restored) = Snapshot::open(Region::copy_of(&compilation.snapshot), &files, None)
        {
            read_all(&restored);
        }
    }
    files.asked.into_inner()
}

/// Reads everything there is to read.
fn read_all(snapshot: &Snapshot) {
    let list = [Value::from(1), Value::from(2.5), Value::from("3"), Value::Null];
    let members = [("b", Value::from("x"))];
    let attributes = [
        ("tier", Value::from("gold")),
        ("email", Value::from("a@example.com")),
        ("age", Value::from(30)),
        ("id", Value::from("id-7")),
        ("list", Value::from(List::new(&list))),
        ("a", Value::from(Object::new(&members))),
    ];
    let context = Context::from_slice(Some("user-1"), &attributes);
    for flag in snapshot.flags().take(MOST_FLAGS) {
        for want in [Want::Any, Want::Int] {
            let evaluation = snapshot.evaluate(flag.key.as_bytes(), want, &context);
            let _ = (evaluation.metadata.iter().count(), format!("{:?}", evaluation.value).len());
        }
        let _ = (flag.enabled(), flag.broken(), flag.targeted(), flag.kind(), flag.default_variant());
        let _ = flag.variants().map(|(name, value)| format!("{name}{value:?}").len()).sum::<usize>();
        let _ = snapshot.targeting(&flag).map(|rule| rule.len());
        let _ = snapshot.explain(&flag, &context).is_some();
    }
    for key in ["static", "text", "set\0flag-1", ""] {
        let _ = snapshot.evaluate(key.as_bytes(), Want::Any, &context).value.is_some();
    }
    let _ = (snapshot.lists().count(), snapshot.sizes());
}

/// Enough to meet what one flag can hold in several ways.
const MOST_FLAGS: usize = 32;

thread_local! {
    /// One folder for all inputs: making one costs more than reading it.
    static FOLDER: TempDir = store_folder();
}

/// Puts the files where a store has them, and opens it.
fn in_files(more: u8, control: &[u8], header: &[u8], payload: &[u8], list: &[u8], names: &BTreeSet<String>) {
    FOLDER.with(|folder| {
        let set = folder.path().join("set");
        let place = set.join("v1");
        let _ = fs::remove_dir_all(&set);
        fs::create_dir_all(&place).expect("a folder");
        let segment = place.join(format!("segment-{}", u64_at(control, RECORDS[usize::from(more & 1)])));
        write(&segment, &[header, payload], 0o444);
        for name in names {
            write(&place.join(name), &[list], 0o444);
        }
        let control_file =
            write(&place.join("control"), &[control, &[0; CONTROL_BYTES - CONTROL.end + CONTROL.start]], 0o644);
        let _ = inspect_control(&set);
        let _ = SegmentFile::read(&segment).map(|file| (file.header, file.payload.len()));
        let _ = StoreDir::open(&set).map(|directory| directory.owner());

        let client = Client::open_with(&OpenOptions::new().store(&set).wait(more & 2 != 0));
        if let Ok(client) = &client {
            read_client(client);
            // The control page changes under the reader's eyes, to anything.
            let mut changed = control.to_vec();
            changed.copy_within(RECORDS[1]..RECORDS[1] + 64, RECORDS[0]);
            changed[RECORDS[0] + 8 * usize::from(more >> 5)] ^= more;
            let version = u64_at(control, VERSION).wrapping_add(u64::from(more >> 2));
            put(&mut changed, VERSION, version);
            control_file.write_all_at(&changed, 0).expect("a file of ours can be written");
            read_client(client);
        }
        if more & 4 != 0 {
            publish_over(&set, client.ok().as_ref());
        }
    });
}

fn write(path: &Path, parts: &[&[u8]], mode: u32) -> File {
    let mut file = File::create_new(path).expect("a new file");
    for part in parts {
        file.write_all(part).expect("room for a file");
    }
    file.set_permissions(Permissions::from_mode(mode)).expect("a file of ours");
    file
}

fn read_client(client: &Client) {
    let context = Context::new("user-1").with("tier", "gold").with("id", "id-7");
    for key in ["static", "flag-0", "flag-3", "nobody"] {
        let _ = (client.bool(key, &context, false), client.string(key, &context, "").len());
        let _ = client.flag(key).float(&context, 0.0);
    }
    let pinned = client.snapshot();
    let _ = (pinned.generation(), pinned.revision());
    if let Some(snapshot) = pinned.flags() {
        read_all(snapshot);
    }
    let _ = format!("{:?}", client.status());
}

/// A publisher that takes such a store over has it served afterwards, by a new client and by one that was there before.
fn publish_over(set: &Path, before: Option<&Client>) {
    let Ok(mut publisher) = Publisher::open(set, &PublisherOptions::default()) else { return };
    let text = r#"{"flags": {"published": {"state": "ENABLED", "variants": {"on": true}, "defaultVariant": "on"}}}"#;
    let document = Document::parse("definition", text, Format::Json, &Limits::default()).expect("a definition");
    let compilation = Compiler::new(Limits::default()).compile(&[document], &Selector::All).expect("a snapshot");
    let generation = publisher.publish(&compilation.snapshot, &PublishMeta::default()).expect("room for a segment");
    let client = Client::open(Some(set)).expect("what was just published can be opened");
    assert_eq!(client.snapshot().generation(), generation.0);
    assert!(client.bool("published", &Context::anonymous(), false), "a new client does not see what was published");
    if let Some(before) = before {
        // One that stands at a store whose page was replaced looks at the path about once a second.
        let _ = before.bool("published", &Context::anonymous(), false);
        let _ = before.status();
    }
}
