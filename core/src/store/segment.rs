//! Single files, outside of a publisher and a reader: a segment kept as last known good, and what tools want to see.

use std::fs::{File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use nix::fcntl::OFlag;

use super::layout::{CONTROL, Entry, Record, SEGMENT_HEADER_BYTES, SegmentHeader};
use super::publish::segment_header;
use super::region::{ControlWindow, Region, StoreDir, open_control};
use super::{Generation, PublishMeta, WriterState, clock};
use crate::Error;
use crate::atomic::Ordering;

/// A segment in a file of its own: header and payload, checked.
#[derive(Debug, Clone)]
pub struct SegmentFile {
    /// What stands before the payload.
    pub header: SegmentHeader,
    /// The payload, as it was handed to the publisher.
    pub payload: Region,
}

impl SegmentFile {
    /// Reads a segment file and checks all of it. It is copied, so the file may change or vanish afterwards.
    ///
    /// # Errors
    ///
    /// `Io` where it can't be read; `Corrupt` or `UnknownFormat` by what is in it.
    pub fn read(path: &Path) -> Result<SegmentFile, Error> {
        let bytes = std::fs::read(path).map_err(|source| Error::io("read", path, source))?;
        let header = SegmentHeader::parse(&bytes, bytes.len() as u64, path)?;
        header.check_payload(&bytes[SEGMENT_HEADER_BYTES..], path)?;
        Ok(SegmentFile { header, payload: Region::copy_of(&bytes[SEGMENT_HEADER_BYTES..]) })
    }

    /// Writes a segment file that is there whole after a power failure, or not at all; an older one is replaced.
    ///
    /// # Errors
    ///
    /// `Io` for what the system refuses; an older file of that name stays as it was.
    pub fn write(
        path: &Path,
        payload: &[u8],
        generation: Generation,
        meta: &PublishMeta,
    ) -> Result<SegmentHeader, Error> {
        let header = segment_header(&[payload], generation, meta);
        let temporary = path.with_extension("tmp");
        let written = write_durably(&temporary, &[&header.encode(), payload])
            .and_then(|()| std::fs::rename(&temporary, path))
            .and_then(|()| File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all());
        written.map(|()| header).map_err(|source| {
            let _ = std::fs::remove_file(&temporary);
            Error::io("write", path, source)
        })
    }
}

fn write_durably(path: &Path, parts: &[&[u8]]) -> io::Result<()> {
    let _ = std::fs::remove_file(path);
    let mut file = File::create_new(path)?;
    for part in parts {
        file.write_all(part)?;
    }
    file.set_permissions(Permissions::from_mode(0o444))?;
    file.sync_all()
}

/// What a control page says at one moment, for people and tools.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct ControlSummary {
    /// When the page was made, wall clock, ns since 1970.
    pub created_at_ns: u64,
    /// The latch's counter.
    pub version: u64,
    /// The current record; `None` if the page says that the store has moved, or the record is damaged.
    pub current: Option<Record>,
    /// Whether the page says that the store has moved.
    pub moved: bool,
    /// Random number of the publisher's start.
    pub instance: u64,
    /// Process id of the publisher; 0 if it has ended in order.
    pub pid: u64,
    /// Time since the publisher's last sign of life; `None` if there was none since the host started.
    pub heartbeat_age: Option<Duration>,
    /// What the publisher says about its sources.
    pub state: WriterState,
}

/// Looks at the control page in a set's directory, without following it further.
///
/// # Errors
///
/// As opening a reader, but for the segment, which is not looked at.
pub fn inspect_control(set: &Path) -> Result<ControlSummary, Error> {
    let directory = StoreDir::open(set)?;
    let path = directory.path().join(CONTROL);
    let (file, _) = open_control(&directory, OFlag::O_RDONLY)?;
    let window = ControlWindow::anonymous(false).map_err(|source| Error::io("map", &path, source))?;
    window.show(&file, false).map_err(|source| Error::io("map", &path, source))?;
    let page = window.page();
    let unreadable = || Error::corrupt(&path, "its version changes faster than a record can be read");
    let (version, words) = page.latch().read().ok_or_else(unreadable)?;
    let entry = Entry::parse(&words);
    // ORDERING: Relaxed, here and below; each word stands for itself.
    let heartbeat = page.writer.heartbeat.load(Ordering::Relaxed);
    Ok(ControlSummary {
        created_at_ns: page.created_at_ns(),
        version,
        current: match entry {
            Some(Entry::Current(record)) => Some(record),
            _ => None,
        },
        moved: entry == Some(Entry::Moved),
        // ORDERING: as above.
        instance: page.writer.instance.load(Ordering::Relaxed),
        // ORDERING: as above.
        pid: page.writer.pid.load(Ordering::Relaxed),
        heartbeat_age: if heartbeat == 0 { None } else { clock::boottime_ns().checked_sub(heartbeat) }
            .map(Duration::from_nanos),
        state: page.writer.state(),
    })
}
