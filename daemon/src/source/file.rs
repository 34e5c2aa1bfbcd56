//! Reading one file, whole or not at all.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, SystemTime};

use nix::libc::O_NONBLOCK;

/// Which version of a file this is, as far as its inode tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    device: u64,
    inode: u64,
    bytes: u64,
    modified_ns: i128,
    changed_ns: i128,
}

/// A file as it was read.
#[derive(Debug)]
pub(crate) struct Text {
    pub(super) stamp: Stamp,
    /// The stamp was old enough when the file was read that a later write must change it.
    pub(super) settled: bool,
    pub(super) text: String,
}

/// Why a file could not be read.
#[derive(Debug)]
pub(crate) enum ReadError {
    Missing,
    Other(String),
}

/// Kernels count file times in ticks of up to 10 ms: two writes in one tick leave equal times.
const TICK: Duration = Duration::from_millis(50);

/// How often a file is read anew because it changed while it was being read.
const ATTEMPTS: usize = 3;

/// The stamp of the file at `path`, links followed; `None` where there is none.
pub(super) fn stamp(path: &Path) -> Option<Stamp> {
    std::fs::metadata(path).ok().map(|metadata| Stamp::of(&metadata))
}

/// What tells whether the file at `path` is still what it was. One that was just written is other than itself later, so
/// that a second write in the same tick is not overlooked.
pub(crate) fn trace(path: &Path) -> Option<(Stamp, bool)> {
    stamp(path).map(|stamp| (stamp, stamp.is_older_than(TICK)))
}

/// Reads the file at `path`, at most `max_bytes` of it.
///
/// # Errors
///
/// [`ReadError::Missing`] where nothing is there; the other one where it cannot be opened or read, is no regular file, is
/// too long, is not UTF-8, or changes all the time.
pub(super) fn read(path: &Path, max_bytes: usize) -> Result<Text, ReadError> {
    for _ in 0..ATTEMPTS {
        // Without O_NONBLOCK a FIFO of that name would block the daemon.
        let mut file = OpenOptions::new().read(true).custom_flags(O_NONBLOCK).open(path)?;
        let before = file.metadata()?;
        if !before.is_file() {
            return Err(ReadError::Other("is no regular file".to_owned()));
        }
        let text = read_open(&mut file, &before, max_bytes)?;
        let stamp = Stamp::of(&before);
        if Stamp::of(&file.metadata()?) == stamp && text.len() as u64 == stamp.bytes {
            return Ok(Text { stamp, settled: stamp.is_older_than(TICK), text: into_utf8(text)? });
        }
    }
    Err(ReadError::Other("is being written".to_owned()))
}

/// The text of a small file, such as a token's; the error is a sentence.
pub(super) fn read_text(path: &Path, max_bytes: usize) -> Result<String, String> {
    read(path, max_bytes).map(|read| read.text).map_err(|error| match error {
        ReadError::Missing => "is not there".to_owned(),
        ReadError::Other(message) => message,
    })
}

fn read_open(file: &mut File, metadata: &Metadata, max_bytes: usize) -> Result<Vec<u8>, ReadError> {
    let too_long = |bytes: u64| ReadError::Other(format!("is {bytes} bytes long, at most {max_bytes} are allowed"));
    let expected = usize::try_from(metadata.len()).ok().filter(|bytes| *bytes <= max_bytes);
    let mut bytes = Vec::new();
    bytes
        .try_reserve_exact(expected.ok_or_else(|| too_long(metadata.len()))?)
        .map_err(|_| ReadError::Other("does not fit into memory".to_owned()))?;
    file.take(max_bytes as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > max_bytes {
        return Err(too_long(bytes.len() as u64));
    }
    Ok(bytes)
}

fn into_utf8(bytes: Vec<u8>) -> Result<String, ReadError> {
    String::from_utf8(bytes)
        .map_err(|error| ReadError::Other(format!("is not UTF-8 at byte {}", error.utf8_error().valid_up_to())))
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        let ns = |seconds: i64, ns: i64| i128::from(seconds) * 1_000_000_000 + i128::from(ns);
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            bytes: metadata.len(),
            modified_ns: ns(metadata.mtime(), metadata.mtime_nsec()),
            changed_ns: ns(metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    fn is_older_than(&self, age: Duration) -> bool {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos();
        let newest = self.modified_ns.max(self.changed_ns);
        i128::try_from(now).is_ok_and(|now| now - newest > i128::try_from(age.as_nanos()).unwrap_or(i128::MAX))
    }
}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound => Self::Missing,
            _ => Self::Other(format!("cannot be read: {error}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(path: &Path, max_bytes: usize) -> String {
        match read(path, max_bytes) {
            Ok(text) => panic!("read {text:?}"),
            Err(ReadError::Missing) => "missing".to_owned(),
            Err(ReadError::Other(message)) => message,
        }
    }

    #[test]
    fn what_is_no_definition_file_is_refused_by_name() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("f.json");
        assert_eq!(message(&path, 10), "missing");
        assert!(message(dir.path(), 10).contains("no regular file"));
        std::fs::write(&path, "12345678901").expect("a file");
        assert!(message(&path, 10).contains("11 bytes long, at most 10"));
        assert_eq!(read(&path, 11).expect("fits").text, "12345678901");
        std::fs::write(&path, b"ab\xff").expect("a file");
        assert!(message(&path, 10).contains("not UTF-8 at byte 2"));
        let fifo = dir.path().join("fifo.json");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).expect("a fifo");
        assert!(message(&fifo, 10).contains("no regular file"));
    }

    #[test]
    fn a_fresh_file_is_not_settled() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("f.json");
        let file = File::create(&path).expect("a file");
        assert!(!read(&path, 10).expect("is read").settled || stamp(&path).expect("is there").is_older_than(TICK));
        // The time of change cannot be set back, so only waiting settles it.
        file.set_modified(SystemTime::UNIX_EPOCH).expect("an old time");
        std::thread::sleep(TICK * 2);
        assert!(read(&path, 10).expect("is read").settled);
    }
}
