//! Every byte of the control page and of the segment header. `docs/format.md` draws the same tables and is normative.
//!
//! Control page, 4096 bytes, every field a little-endian 64-bit word:
//!
//! | offset | field | written |
//! |---|---|---|
//! | 0 | magic, the bytes `FLAGSCTL` | once |
//! | 8 | format version, 1 | once |
//! | 16 | size of the page in bytes, 4096 | once |
//! | 24 | when the page was made, wall clock ns | once |
//! | 32 | XXH3-64 of the bytes 0..32 | once |
//! | 128 | `version`, the latch's counter | each update |
//! | 256 | record 0: generation, segment bytes, segment checksum, revision, published at, confirmed at, max age, check | each second update |
//! | 320 | record 1, the same | each second update |
//! | 384 | writer: instance id, process id, heartbeat (boottime ns), state | at any time |
//!
//! All other bytes are 0 and ignored. The line at 128 is the only one that an evaluation reads.

use std::mem::offset_of;
use std::path::Path;

use xxhash_rust::xxh3::xxh3_64;

use super::latch::Latch;
use super::{Generation, WriterState};
use crate::Error;
use crate::atomic::{AtomicU64, Ordering};

/// Format version of the control page and of segments; also the name of the directory they lie in.
pub const FORMAT: u32 = 1;

/// Directory of this format inside a set's directory; another format would have its own beside it.
pub const FORMAT_DIRECTORY: &str = "v1";

/// Name of the control page inside the format directory.
pub const CONTROL: &str = "control";

/// Bytes of a segment before its payload.
pub const SEGMENT_HEADER_BYTES: usize = 128;

pub(crate) const CONTROL_BYTES: usize = 4096;
pub(crate) const RECORD_WORDS: usize = 8;
const CONTROL_MAGIC: [u8; 8] = *b"FLAGSCTL";
const SEGMENT_MAGIC: [u8; 8] = *b"FLAGSSEG";
/// Generation of the record that sends readers back to the path.
const MOVED: u64 = u64::MAX;

/// The control page as it lies in memory. All of it is atomic words, so a shared reference may cover bytes that another
/// process changes.
#[repr(C, align(4096))]
pub(crate) struct ControlPage {
    identity: [AtomicU64; 5],
    _identity_reserved: [AtomicU64; 11],
    pub(crate) version: AtomicU64,
    _version_reserved: [AtomicU64; 15],
    records: [[AtomicU64; RECORD_WORDS]; 2],
    pub(crate) writer: WriterWords,
    _writer_reserved: [AtomicU64; 12],
    _reserved: [AtomicU64; 448],
}

/// What the writer says about itself. Each word is read on its own; nothing orders them.
#[repr(C)]
pub(crate) struct WriterWords {
    pub(crate) instance: AtomicU64,
    pub(crate) pid: AtomicU64,
    pub(crate) heartbeat: AtomicU64,
    pub(crate) state: AtomicU64,
}

// The table of docs/format.md; the words are in the machine's order, which must therefore be little-endian.
const _: () = {
    assert!(cfg!(target_endian = "little"), "the store's words are little-endian");
    assert!(size_of::<ControlPage>() == CONTROL_BYTES);
    assert!(offset_of!(ControlPage, identity) == 0);
    assert!(offset_of!(ControlPage, version) == 128);
    assert!(offset_of!(ControlPage, records) == 256);
    assert!(offset_of!(ControlPage, writer) == 384);
    assert!(offset_of!(WriterWords, pid) == 8);
    assert!(offset_of!(WriterWords, heartbeat) == 16);
    assert!(offset_of!(WriterWords, state) == 24);
};

impl ControlPage {
    pub(crate) fn latch(&self) -> Latch<'_, RECORD_WORDS> {
        Latch { version: &self.version, records: [&self.records[0], &self.records[1]] }
    }

    pub(crate) fn created_at_ns(&self) -> u64 {
        // ORDERING: Relaxed; written before the page had a name.
        self.identity[3].load(Ordering::Relaxed)
    }

    /// The bytes of a new page whose counter starts at `version` (even) with nothing published.
    ///
    /// Pages start at random versions, so that a version seen on one page means nothing on another.
    pub(crate) fn image(version: u64, created_at_ns: u64) -> [u8; CONTROL_BYTES] {
        let mut bytes = [0; CONTROL_BYTES];
        bytes[0..8].copy_from_slice(&CONTROL_MAGIC);
        bytes[8..16].copy_from_slice(&u64::from(FORMAT).to_le_bytes());
        bytes[16..24].copy_from_slice(&(CONTROL_BYTES as u64).to_le_bytes());
        bytes[24..32].copy_from_slice(&created_at_ns.to_le_bytes());
        let check = xxh3_64(&bytes[0..32]);
        bytes[32..40].copy_from_slice(&check.to_le_bytes());
        bytes[128..136].copy_from_slice(&(version & !1).to_le_bytes());
        for record in [256, 320] {
            for (at, word) in Record::default().words().iter().enumerate() {
                bytes[record + at * 8..][..8].copy_from_slice(&word.to_le_bytes());
            }
        }
        bytes
    }

    /// Checks the words that are written once, in a copy of the page's first bytes; gives the creation time.
    ///
    /// # Errors
    ///
    /// `UnknownFormat` for a control page of another version, `Corrupt` for anything else.
    pub(crate) fn check_identity(bytes: &[u8], path: &Path) -> Result<u64, Error> {
        if bytes.len() != CONTROL_BYTES {
            let reason = format!("it has {} bytes, a control page has {CONTROL_BYTES}", bytes.len());
            return Err(Error::corrupt(path, reason));
        }
        if bytes[0..8] != CONTROL_MAGIC {
            return Err(Error::corrupt(path, "it does not begin with the magic of a control page"));
        }
        if le_u64(bytes, 32) != xxh3_64(&bytes[0..32]) {
            return Err(Error::corrupt(path, "the check word of its identity does not match"));
        }
        let format = le_u64(bytes, 8);
        if format != u64::from(FORMAT) {
            return Err(Error::UnknownFormat { path: path.into(), found: format.to_string(), supported: FORMAT });
        }
        if le_u64(bytes, 16) != CONTROL_BYTES as u64 {
            return Err(Error::corrupt(path, "its page size is not 4096"));
        }
        Ok(le_u64(bytes, 24))
    }
}

impl WriterWords {
    pub(crate) fn state(&self) -> WriterState {
        // ORDERING: Relaxed; stands for itself.
        match self.state.load(Ordering::Relaxed) {
            0 => WriterState::Fresh,
            2 => WriterState::Frozen,
            _ => WriterState::Stale,
        }
    }
}

/// One record of the control page: which segment is current, and how old what it says is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Record {
    /// Number of the generation; 0 before the first.
    pub generation: Generation,
    /// Size of the segment file, header included.
    pub segment_bytes: u64,
    /// XXH3-64 of the segment's payload.
    pub segment_checksum: u64,
    /// Revision of the source it was made from; 0 where sources have none.
    pub revision: u64,
    /// When it was published, wall clock, ns since 1970.
    pub published_at_ns: u64,
    /// When its source last confirmed that this is current, wall clock, ns since 1970; 0 for never.
    pub upstream_confirmed_at_ns: u64,
    /// Age past which it is stale, ns; 0 for never.
    pub max_age_ns: u64,
}

/// What a record's words say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Entry {
    /// The current generation, or none yet (generation 0).
    Current(Record),
    /// This page is no longer the store's: look at the path again.
    Moved,
}

impl Record {
    pub(crate) fn words(&self) -> [u64; RECORD_WORDS] {
        let mut words = [
            self.generation.0,
            self.segment_bytes,
            self.segment_checksum,
            self.revision,
            self.published_at_ns,
            self.upstream_confirmed_at_ns,
            self.max_age_ns,
            0,
        ];
        words[RECORD_WORDS - 1] = check(&words);
        words
    }

    /// Whether both name the same segment; their times may differ.
    pub(crate) fn same_segment(&self, other: &Record) -> bool {
        self.generation == other.generation
            && self.segment_bytes == other.segment_bytes
            && self.segment_checksum == other.segment_checksum
            && self.revision == other.revision
            && self.published_at_ns == other.published_at_ns
    }
}

impl Entry {
    pub(crate) fn words(&self) -> [u64; RECORD_WORDS] {
        match self {
            Entry::Current(record) => record.words(),
            Entry::Moved => Record { generation: Generation(MOVED), ..Record::default() }.words(),
        }
    }

    /// `None` where the check word does not match.
    pub(crate) fn parse(words: &[u64; RECORD_WORDS]) -> Option<Entry> {
        let [
            generation,
            segment_bytes,
            segment_checksum,
            revision,
            published_at_ns,
            upstream_confirmed_at_ns,
            max_age_ns,
            found,
        ] = *words;
        if found != check(words) {
            return None;
        }
        if generation == MOVED {
            return Some(Entry::Moved);
        }
        let generation = Generation(generation);
        Some(Entry::Current(Record {
            generation,
            segment_bytes,
            segment_checksum,
            revision,
            published_at_ns,
            upstream_confirmed_at_ns,
            max_age_ns,
        }))
    }
}

/// Check word of a record: XXH3-64 of its other seven words, little-endian.
fn check(words: &[u64; RECORD_WORDS]) -> u64 {
    let mut bytes = [0; (RECORD_WORDS - 1) * 8];
    for (slot, word) in bytes.chunks_exact_mut(8).zip(words) {
        slot.copy_from_slice(&word.to_le_bytes());
    }
    xxh3_64(&bytes)
}

/// The first 128 bytes of a segment file.
///
/// | offset | size | field |
/// |---|---|---|
/// | 0 | 8 | magic, the bytes `FLAGSSEG` |
/// | 8 | 4 | format version, 1 |
/// | 12 | 4 | size of the header, 128: where the payload starts |
/// | 16 | 8 | size of the payload |
/// | 24 | 8 | XXH3-64 of the payload |
/// | 32 | 8 | generation |
/// | 40 | 8 | revision of the source |
/// | 48 | 8 | published at, wall clock ns |
/// | 56 | 8 | confirmed by its source at, wall clock ns; 0 never |
/// | 64 | 8 | max age, ns; 0 none |
/// | 72 | 8 | flags, 0: a reader refuses a bit it doesn't know |
/// | 80 | 40 | 0 |
/// | 120 | 8 | XXH3-64 of the bytes 0..120 |
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SegmentHeader {
    /// Size of the payload; the file has 128 bytes more.
    pub payload_bytes: u64,
    /// XXH3-64 of the payload.
    pub payload_checksum: u64,
    /// Number of the generation.
    pub generation: Generation,
    /// Revision of the source it was made from; 0 where sources have none.
    pub revision: u64,
    /// When it was published, wall clock, ns since 1970.
    pub published_at_ns: u64,
    /// When its source had last confirmed it as it was written, wall clock, ns since 1970; 0 for never.
    pub upstream_confirmed_at_ns: u64,
    /// Age past which it is stale, ns; 0 for never.
    pub max_age_ns: u64,
}

impl SegmentHeader {
    pub(crate) fn encode(&self) -> [u8; SEGMENT_HEADER_BYTES] {
        let mut bytes = [0; SEGMENT_HEADER_BYTES];
        bytes[0..8].copy_from_slice(&SEGMENT_MAGIC);
        bytes[8..12].copy_from_slice(&FORMAT.to_le_bytes());
        bytes[12..16].copy_from_slice(&128u32.to_le_bytes());
        let fields = [
            self.payload_bytes,
            self.payload_checksum,
            self.generation.0,
            self.revision,
            self.published_at_ns,
            self.upstream_confirmed_at_ns,
            self.max_age_ns,
        ];
        for (slot, field) in bytes[16..72].chunks_exact_mut(8).zip(fields) {
            slot.copy_from_slice(&field.to_le_bytes());
        }
        let check = xxh3_64(&bytes[..120]);
        bytes[120..].copy_from_slice(&check.to_le_bytes());
        bytes
    }

    /// Reads a header out of the first bytes of a segment file of `file_bytes` bytes.
    ///
    /// # Errors
    ///
    /// `UnknownFormat` for a segment of another version, `Corrupt` for anything else.
    pub(crate) fn parse(bytes: &[u8], file_bytes: u64, path: &Path) -> Result<SegmentHeader, Error> {
        let corrupt = |reason: String| Err(Error::corrupt(path, reason));
        let Some(bytes) = bytes.get(..SEGMENT_HEADER_BYTES) else {
            return corrupt(format!("it has {file_bytes} bytes, a segment's header has {SEGMENT_HEADER_BYTES}"));
        };
        if bytes[0..8] != SEGMENT_MAGIC {
            return corrupt("it does not begin with the magic of a segment".into());
        }
        if le_u64(bytes, 120) != xxh3_64(&bytes[..120]) {
            return corrupt("the checksum of its header does not match".into());
        }
        let (format, header_bytes) = (le_u64(bytes, 8) & 0xffff_ffff, le_u64(bytes, 8) >> 32);
        if format != u64::from(FORMAT) {
            return Err(Error::UnknownFormat { path: path.into(), found: format.to_string(), supported: FORMAT });
        }
        if header_bytes != SEGMENT_HEADER_BYTES as u64 {
            return corrupt(format!("its header says it has {header_bytes} bytes, not {SEGMENT_HEADER_BYTES}"));
        }
        let header = SegmentHeader {
            payload_bytes: le_u64(bytes, 16),
            payload_checksum: le_u64(bytes, 24),
            generation: Generation(le_u64(bytes, 32)),
            revision: le_u64(bytes, 40),
            published_at_ns: le_u64(bytes, 48),
            upstream_confirmed_at_ns: le_u64(bytes, 56),
            max_age_ns: le_u64(bytes, 64),
        };
        if le_u64(bytes, 72) != 0 {
            return corrupt(format!("it uses features this library doesn't know (flags {:#x})", le_u64(bytes, 72)));
        }
        if header.payload_bytes.checked_add(SEGMENT_HEADER_BYTES as u64) != Some(file_bytes) {
            let payload_bytes = header.payload_bytes;
            return corrupt(format!("it has {file_bytes} bytes, its header promises a payload of {payload_bytes}"));
        }
        Ok(header)
    }

    /// Checks the payload that follows the header.
    ///
    /// # Errors
    ///
    /// `Corrupt` where the checksum doesn't match.
    pub(crate) fn check_payload(&self, payload: &[u8], path: &Path) -> Result<(), Error> {
        SegmentHeader::compare_checksum(self.payload_checksum, xxh3_64(payload), path)
    }

    /// Compares the checksum that a header promises with the one that was found.
    ///
    /// # Errors
    ///
    /// `Corrupt` where they differ.
    pub(crate) fn compare_checksum(promised: u64, found: u64, path: &Path) -> Result<(), Error> {
        if found != promised {
            let reason = format!("the checksum of its payload is {found:016x}, its header promises {promised:016x}");
            return Err(Error::corrupt(path, reason));
        }
        Ok(())
    }
}

/// Name of a generation's segment inside the format directory.
pub(crate) fn segment_name(generation: Generation) -> String {
    format!("segment-{}", generation.0)
}

/// The generation whose segment has this name.
pub(crate) fn segment_generation(name: &str) -> Option<Generation> {
    let digits = name.strip_prefix("segment-")?;
    let generation = Generation(digits.parse().ok()?);
    (segment_name(generation) == name).then_some(generation)
}

/// Name of the file of an id list inside the format directory.
#[must_use]
pub fn list_name(hash: &str) -> String {
    format!("list-{hash}")
}

fn le_u64(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        Record {
            generation: Generation(7),
            segment_bytes: 1_128,
            segment_checksum: 3,
            revision: 4,
            published_at_ns: 5,
            upstream_confirmed_at_ns: 6,
            max_age_ns: 8,
        }
    }

    #[test]
    fn a_record_survives_its_words_and_no_word_can_be_changed() {
        let words = record().words();
        assert_eq!(Entry::parse(&words), Some(Entry::Current(record())));
        assert_eq!(Entry::parse(&Entry::Moved.words()), Some(Entry::Moved));
        for at in 0..RECORD_WORDS {
            for bit in 0..64 {
                let mut torn = words;
                torn[at] ^= 1 << bit;
                assert_eq!(Entry::parse(&torn), None, "word {at} bit {bit}");
            }
        }
    }

    #[test]
    fn a_header_survives_its_bytes_and_no_byte_can_be_changed() {
        let header = SegmentHeader {
            payload_bytes: 1_000,
            payload_checksum: 1,
            generation: Generation(2),
            revision: 3,
            published_at_ns: 4,
            upstream_confirmed_at_ns: 5,
            max_age_ns: 6,
        };
        let bytes = header.encode();
        let path = Path::new("segment-2");
        assert_eq!(SegmentHeader::parse(&bytes, 1_128, path).unwrap(), header);
        for at in 0..bytes.len() {
            for change in [1u8, 0x80, 0xff] {
                let mut altered = bytes;
                altered[at] ^= change;
                SegmentHeader::parse(&altered, 1_128, path).expect_err("an altered header");
            }
            SegmentHeader::parse(&bytes[..at], at as u64, path).expect_err("a short header");
        }
        SegmentHeader::parse(&bytes, 1_127, path).expect_err("a short file");
    }

    #[test]
    fn a_page_image_is_checked_in_every_byte_that_is_written_once() {
        let path = Path::new("control");
        let image = ControlPage::image(77, 5);
        assert_eq!(ControlPage::check_identity(&image, path).unwrap(), 5);
        assert_eq!(le_u64(&image, 128), 76, "a new page starts at an even version");
        for at in 0..40 {
            let mut altered = image;
            altered[at] ^= 1;
            ControlPage::check_identity(&altered, path).expect_err("an altered identity");
        }
        ControlPage::check_identity(&image[..4095], path).expect_err("a short page");
    }

    /// The rows `| offset | size | field |` of the table in docs/format.md that follows `after`, without what is reserved; asserts
    /// that they cover all `bytes` bytes without a gap.
    fn documented(after: &str, bytes: usize) -> Vec<(String, usize)> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/format.md");
        let text = std::fs::read_to_string(&path).unwrap();
        let (_, rest) = text.split_once(after).unwrap();
        let (_, table) = rest.split_once("| offset | size | field |").unwrap();
        let (mut end, mut fields) = (0, Vec::new());
        for line in table.lines().skip(2).take_while(|line| line.starts_with('|')) {
            let cells: Vec<&str> = line.split('|').map(str::trim).collect();
            let (offset, name) = (cells[1].parse::<usize>().unwrap(), cells[3]);
            assert_eq!(offset, end, "{name} after {after}: a gap, or a byte twice");
            // A payload is as long as it is.
            end += cells[2].parse::<usize>().unwrap_or(0);
            if name != "reserved" && name != "payload" {
                fields.push((name.to_owned(), offset));
            }
        }
        assert_eq!(end, bytes, "the table after {after} ends early");
        fields
    }

    fn named<const N: usize>(fields: [(&str, usize); N]) -> Vec<(String, usize)> {
        fields.map(|(name, offset)| (name.to_owned(), offset)).into()
    }

    #[test]
    fn the_documented_control_page_is_ours() {
        let (identity, records) = (offset_of!(ControlPage, identity), offset_of!(ControlPage, records));
        let writer = offset_of!(ControlPage, writer);
        let ours = named([
            ("magic", identity),
            ("format version", identity + 8),
            ("size of the page", identity + 16),
            ("made at", identity + 24),
            ("check", identity + 32),
            ("version", offset_of!(ControlPage, version)),
            ("record 0", records),
            ("record 1", records + RECORD_WORDS * 8),
            ("instance id", writer + offset_of!(WriterWords, instance)),
            ("publisher's process id", writer + offset_of!(WriterWords, pid)),
            ("heartbeat", writer + offset_of!(WriterWords, heartbeat)),
            ("state", writer + offset_of!(WriterWords, state)),
        ]);
        assert_eq!(documented("## The control page", CONTROL_BYTES), ours);
    }

    #[test]
    fn the_documented_record_is_ours() {
        let record = record();
        let words = record.words();
        let at = |value: u64| words.iter().position(|&word| word == value).unwrap() * 8;
        let ours = named([
            ("generation", at(record.generation.0)),
            ("size of the segment file", at(record.segment_bytes)),
            ("checksum of the segment's payload", at(record.segment_checksum)),
            ("revision of the source", at(record.revision)),
            ("published at", at(record.published_at_ns)),
            ("confirmed at", at(record.upstream_confirmed_at_ns)),
            ("max age", at(record.max_age_ns)),
            ("check", at(check(&words))),
        ]);
        assert_eq!(documented("A **record**:", RECORD_WORDS * 8), ours);
    }

    #[test]
    fn the_documented_segment_header_is_ours() {
        let header = SegmentHeader {
            payload_bytes: 1_000,
            payload_checksum: 21,
            generation: Generation(22),
            revision: 23,
            published_at_ns: 24,
            upstream_confirmed_at_ns: 25,
            max_age_ns: 26,
        };
        let bytes = header.encode();
        let at = |value: u64| (0..16).map(|word| word * 8).find(|&at| le_u64(&bytes, at) == value).unwrap();
        let ours = named([
            ("magic", at(u64::from_le_bytes(SEGMENT_MAGIC))),
            ("format version", 8),
            ("size of the header", 12),
            ("size of the payload", at(1_000)),
            ("checksum of the payload", at(21)),
            ("generation", at(22)),
            ("revision of the source", at(23)),
            ("published at", at(24)),
            ("confirmed at", at(25)),
            ("max age", at(26)),
            ("flags", 72),
            ("check", at(xxh3_64(&bytes[..120]))),
        ]);
        assert_eq!(le_u64(&bytes, 8), u64::from(FORMAT) | 128 << 32);
        assert_eq!(documented("## A segment", SEGMENT_HEADER_BYTES), ours);
    }

    #[test]
    fn names_are_parsed_only_as_they_are_written() {
        assert_eq!(segment_generation("segment-12"), Some(Generation(12)));
        for name in ["segment-012", "segment-+1", "segment-", "segment-1.tmp", ".segment-1", "list-1"] {
            assert_eq!(segment_generation(name), None, "{name}");
        }
    }
}
