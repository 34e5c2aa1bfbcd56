//! A segment on its way to becoming current: mapped, and read through in parts before anybody evaluates from it.
//!
//! Reading a segment of 10 000 flags through takes longer than an evaluation should ever take: most of it goes into bringing
//! the pages into this process, the rest into the checksum. Nobody waits for it, since there is an older generation to
//! answer from; so each evaluation that comes by reads a part, and the one that reads the last makes it current.

use std::path::PathBuf;

use xxhash_rust::xxh3::Xxh3Default;

use super::layout::{Record, SEGMENT_HEADER_BYTES, SegmentHeader, segment_name};
use super::region::{Region, StoreDir};
use crate::Error;

/// How much one visit to the cold side does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pace {
    /// All there is to do: somebody asked for the newest.
    AtOnce,
    /// A part: an evaluation is waiting.
    InParts,
}

/// What an evaluation reads of a new segment, or unmaps of an old one.
const PART_BYTES: usize = 128 << 10;

impl Pace {
    /// How many bytes may be read or unmapped.
    pub(super) const fn bytes(self) -> usize {
        match self {
            Pace::AtOnce => usize::MAX,
            Pace::InParts => PART_BYTES,
        }
    }
}

/// A mapped segment whose payload has been read so far.
pub(super) struct Incoming {
    record: Record,
    path: PathBuf,
    segment: Region,
    payload: Region,
    read: usize,
    checksum: Xxh3Default,
}

impl Incoming {
    /// Maps the segment that a record names and checks its header.
    ///
    /// # Errors
    ///
    /// As [`StoreDir::map_file`]; `Corrupt` or `UnknownFormat` by what is in the header.
    pub(super) fn open(directory: &StoreDir, record: &Record) -> Result<Incoming, Error> {
        let name = segment_name(record.generation);
        let path = directory.path().join(&name);
        // Not populated: on a tmpfs, reading through the pages costs half of what populating does, since each fault brings in
        // the pages around it too.
        let segment = directory.map_file(&name, false)?;
        let header = SegmentHeader::parse(&segment, segment.len() as u64, &path)?;
        let named = (record.generation, record.segment_bytes, record.segment_checksum);
        if (header.generation, segment.len() as u64, header.payload_checksum) != named {
            let reason =
                format!("it is not the segment of generation {} that the control page names", record.generation);
            return Err(Error::corrupt(path, reason));
        }
        let payload = segment.tail(SEGMENT_HEADER_BYTES).unwrap_or_else(|| segment.clone());
        Ok(Incoming { record: *record, path, segment, payload, read: 0, checksum: Xxh3Default::new() })
    }

    pub(super) fn is_of(&self, record: &Record) -> bool {
        self.record.same_segment(record)
    }

    /// How many bytes are still to be read.
    pub(super) fn left(&self) -> usize {
        self.payload.len() - self.read
    }

    /// Reads so many more bytes; true once all are read and are what the record promises.
    ///
    /// # Errors
    ///
    /// `Corrupt` where they are not.
    pub(super) fn read_on(&mut self, bytes: usize) -> Result<bool, Error> {
        let rest = self.payload.get(self.read..).unwrap_or_default();
        let part = rest.get(..bytes).unwrap_or(rest);
        self.checksum.update(part);
        self.read += part.len();
        if self.left() > 0 {
            return Ok(false);
        }
        SegmentHeader::compare_checksum(self.record.segment_checksum, self.checksum.digest(), &self.path)?;
        Ok(true)
    }

    /// The whole segment, and the payload in it.
    pub(super) fn finish(self) -> (Region, Region) {
        (self.segment, self.payload)
    }
}
