//! Ids out of a request's body: read as they come, sorted in bounded memory.
//!
//! ```text
//! body ──► unpacked ──► ids ──► sorted runs of 16 MiB (in files without a name) ──► merged
//! ```

use std::cell::Cell;
use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Seek, Write};
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use axum::body::Body;
use axum::http::StatusCode;
use bytes::Bytes;
use flags_sync::list::{Merge, check_id};
use flate2::read::MultiGzDecoder;
use futures_util::StreamExt;
use libflags::definition::Limits;
use libflags::definition::lists::{ListError, ListFormat, read_ids_from};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::problem::Problem;
use crate::store::StoreError;

/// Bytes of the ids that are sorted in memory.
const RUN_BYTES: usize = 16 << 20;

/// Pieces of the body that wait to be read.
const WAITING: usize = 8;

/// How long a body may pause.
const PAUSE: Duration = Duration::from_secs(10);

/// What a body may be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Most {
    /// Unpacked.
    pub(crate) bytes: u64,
    pub(crate) ids: usize,
}

/// Ids in order, each once, in runs.
#[derive(Debug, Default)]
pub(crate) struct Sorted {
    runs: Vec<File>,
    bytes: Vec<u8>,
    /// Where each id of `bytes` begins and ends.
    ids: Vec<(u32, u32)>,
}

/// The lines of one run, or of a stored part.
pub(crate) type Lines = Box<dyn BufRead>;

impl Sorted {
    fn push(&mut self, id: &str) -> io::Result<()> {
        if self.bytes.len() + id.len() > RUN_BYTES {
            self.end_run()?;
        }
        let start = self.bytes.len();
        self.bytes.extend_from_slice(id.as_bytes());
        let place = |at: usize| u32::try_from(at).map_err(io::Error::other);
        self.ids.push((place(start)?, place(self.bytes.len())?));
        Ok(())
    }

    fn end_run(&mut self) -> io::Result<()> {
        let Self { bytes, ids, .. } = &mut *self;
        let text = |(start, end): (u32, u32)| bytes.get(start as usize..end as usize).unwrap_or_default();
        ids.sort_unstable_by(|one, other| text(*one).cmp(text(*other)));
        ids.dedup_by(|one, other| text(*one) == text(*other));
        let mut run = BufWriter::with_capacity(1 << 18, tempfile::tempfile()?);
        for id in ids.iter() {
            run.write_all(text(*id))?;
            run.write_all(b"\n")?;
        }
        self.runs.push(run.into_inner().map_err(io::IntoInnerError::into_error)?);
        self.bytes.clear();
        self.ids.clear();
        Ok(())
    }

    /// The runs as parts of a list, to be read from their beginnings; one reading at a time.
    pub(crate) fn lines(&mut self) -> io::Result<Vec<Lines>> {
        let again = |run: &mut File| {
            run.rewind()?;
            Ok(Box::new(BufReader::with_capacity(64 << 10, run.try_clone()?)) as Lines)
        };
        self.runs.iter_mut().map(again).collect()
    }

    /// All ids, in order.
    pub(crate) fn merge(&mut self) -> io::Result<Merge<Lines>> {
        Merge::new(self.lines()?.into_iter().map(|lines| (lines, false)))
    }
}

/// Reads and sorts what comes; nothing is stored.
///
/// # Errors
/// What is wrong with the body: 422 with the line, 413, 408, and 400 where it broke off.
pub(crate) async fn read(body: Body, format: ListFormat, packed: bool, most: Most) -> Result<Sorted, Problem> {
    let (give, take) = mpsc::channel(WAITING);
    let reading = tokio::task::spawn_blocking(move || {
        sort(Incoming { pieces: take, piece: Bytes::new(), is_whole: false }, format, packed, most)
    });
    let mut pieces = body.into_data_stream();
    loop {
        let piece = match timeout(PAUSE, pieces.next()).await {
            Ok(None) => break,
            Ok(Some(Ok(piece))) => Ok(piece),
            Ok(Some(Err(error))) => Err(io::Error::new(io::ErrorKind::ConnectionAborted, error.to_string())),
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        };
        let is_last = piece.is_err();
        // Who reads has found something wrong, and tells.
        if give.send(Some(piece)).await.is_err() || is_last {
            break;
        }
    }
    // Without this word the body has broken off.
    let _ = give.send(None).await;
    drop(give);
    reading.await.map_err(|_| StoreError::Broken("reading ids panicked".to_owned()))?
}

/// The body, for a thread that may block.
struct Incoming {
    pieces: mpsc::Receiver<Option<io::Result<Bytes>>>,
    piece: Bytes,
    /// It has come to its end: a reader asks once more after a last line that does not end.
    is_whole: bool,
}

impl Read for Incoming {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            if self.is_whole {
                return Ok(0);
            }
            match self.pieces.blocking_recv() {
                Some(Some(piece)) => self.piece = piece?,
                Some(None) => self.is_whole = true,
                // The request was dropped.
                None => return Err(io::ErrorKind::ConnectionAborted.into()),
            }
        }
        let length = to.len().min(self.piece.len());
        to[..length].copy_from_slice(&self.piece.split_to(length));
        Ok(length)
    }
}

/// Ends reading with an error as soon as there is a fault.
struct Until<R> {
    inner: R,
    left: u64,
    fault: Rc<Cell<bool>>,
}

impl<R: Read> Read for Until<R> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        if self.fault.get() {
            return Err(io::Error::other("a fault"));
        }
        let read = self.inner.read(to)?;
        self.left = self.left.checked_sub(read as u64).ok_or(io::ErrorKind::FileTooLarge)?;
        Ok(read)
    }
}

/// Reads and sorts all that comes, from a thread that may block.
///
/// # Errors
/// As [`read`].
pub(crate) fn sort(body: impl Read + 'static, format: ListFormat, packed: bool, most: Most) -> Result<Sorted, Problem> {
    let body: Box<dyn Read> = if packed { Box::new(MultiGzDecoder::new(body)) } else { Box::new(body) };
    let stop = Rc::new(Cell::new(false));
    let body = Until { inner: body, left: most.bytes, fault: Rc::clone(&stop) };
    let mut limits = Limits::default();
    limits.list_ids = most.ids;
    let (mut sorted, mut fault, mut count) = (Sorted::default(), None, 0_u64);
    let lines = BufReader::with_capacity(256 << 10, body);
    let read = read_ids_from(lines, Path::new("ids"), format, &limits, |id| {
        count += 1;
        if fault.is_some() {
            return;
        }
        fault = match check_id(id) {
            Err(what) => Some(Problem::invalid("", format!("id {count} of the body: {what}"))),
            Ok(()) => sorted.push(id).err().map(|error| no_room(&error)),
        };
        stop.set(fault.is_some());
    });
    if let Some(fault) = fault {
        return Err(fault);
    }
    match read {
        Ok(_) => {}
        Err(ListError::Line { line, message, .. }) => {
            return Err(Problem::invalid("", format!("line {line}: {message}")));
        }
        Err(ListError::Io { error, .. }) => return Err(unreadable(&error, most)),
        Err(error) => return Err(Problem::invalid("", error.to_string())),
    }
    sorted.end_run().map_err(|error| no_room(&error))?;
    Ok(sorted)
}

fn no_room(error: &io::Error) -> Problem {
    tracing::error!("ids cannot be sorted: {error}");
    Problem::no_room("there is no room to sort so many ids now")
}

fn unreadable(error: &io::Error, most: Most) -> Problem {
    match error.kind() {
        io::ErrorKind::FileTooLarge => {
            let detail = format!("the body has more than {} bytes, unpacked", most.bytes);
            Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", detail)
        }
        io::ErrorKind::TimedOut => {
            Problem::new(StatusCode::REQUEST_TIMEOUT, "timeout", "nothing more of the body came for 10 s")
        }
        io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => {
            Problem::invalid("", "the body is no whole gzip file, as it says it is")
        }
        _ => Problem::new(StatusCode::BAD_REQUEST, "unreadable", "the body broke off"),
    }
}
