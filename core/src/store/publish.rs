//! The writing side: one publisher a set.
//!
//! ```text
//! publish(payload):
//!   write .segment-N.tmp, make it read-only, rename it to segment-N     readers don't know it yet
//!   switch the control page's record to N                               now they do
//!   unlink all segments but N and N - 1                                 those who map one keep it
//! ```
//!
//! Taking the pages of a large file costs a tmpfs far more than filling them, so after a publication whoever has the time may call
//! `prepare`: it writes the segment a second time, under a temporary name. The next publication then only writes those of its
//! chunks that are others by their hash, and renames that file.
//!
//! Killed between any two instructions, it leaves what was current current: the next publisher sweeps the temporary files,
//! and goes on numbering after the newest segment it finds, whether that became current or not.
//!
//! Segments are written with `pwrite` and never through a map, so that a full file system is an error and not a signal.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{DirBuilder, File, Permissions, TryLockError};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, PermissionsExt};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat, renameat};
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, unlinkat};
use xxhash_rust::xxh3::{Xxh3Default, xxh3_64};

use super::layout::{
    CONTROL, CONTROL_BYTES, ControlPage, Entry, FORMAT_DIRECTORY, Record, SEGMENT_HEADER_BYTES, SegmentHeader,
    list_name, segment_generation, segment_name,
};
use super::region::{ControlWindow, StoreDir, open_control};
use super::{Generation, WriterState, clock};
use crate::Error;
use crate::atomic::Ordering;

/// How a publisher opens its store.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PublisherOptions {
    /// Generations are numbered from after this one at least: the last that is known from elsewhere (a last known good),
    /// so that numbers grow even where the store's directory was lost.
    pub generation_floor: Generation,
}

/// What is published along with a payload.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PublishMeta {
    /// Revision of the source it was made from; 0 where sources have none.
    pub revision: u64,
    /// When its source last confirmed that this is current, wall clock, ns since 1970; 0 for never.
    pub upstream_confirmed_at_ns: u64,
    /// Age past which readers call it stale, ns; 0 for never.
    pub max_age_ns: u64,
}

/// The one writer of a store, for as long as it lives.
#[derive(Debug)]
pub struct Publisher {
    /// Holds the `flock` that keeps others out.
    _lock: File,
    directory: StoreDir,
    window: Window,
    record: Record,
    /// Number of the last generation that was published or might have been.
    last: Generation,
    /// Generations whose segments may be in the directory.
    segments: BTreeSet<Generation>,
    /// The hashes of the chunks of what is published; empty where that is small or not known.
    chunks: Vec<u64>,
    /// A file that holds what is published.
    spare: Option<File>,
}

/// The temporary name of the file that the next segment may be made of.
const SPARE: &str = ".spare.tmp";

/// Payloads from this size on are worth a spare.
const SPARE_FROM: usize = 1 << 18;

/// How much of a spare is written anew where a byte has changed; small enough to be hashed out of the cache that the checksum
/// has just read it into.
const CHUNK: usize = 1 << 16;

/// No publisher gets here by counting; a file named so is none of ours.
const GENERATION_LIMIT: u64 = 1 << 62;

/// The control page, writable.
struct Window(ControlWindow);

impl Publisher {
    /// Opens or creates the store in a set's directory and takes its lock.
    ///
    /// A control page that is in order is used further, in place: its readers notice nothing. Otherwise a new one takes its
    /// place and the old one sends its readers to it.
    ///
    /// # Errors
    ///
    /// `Locked` while another publisher has it; `Untrusted` where the directory or its control page is not ours alone to
    /// write; `Io` for what the system refuses (a read-only or full file system, missing permission).
    pub fn open(set: &Path, options: &PublisherOptions) -> Result<Publisher, Error> {
        let path = set.join(FORMAT_DIRECTORY);
        create_directory(set, 0o755).map_err(|source| Error::io("create", set, source))?;
        create_directory(&path, 0o755).map_err(|source| Error::io("create", &path, source))?;
        let directory = StoreDir::open(set)?;
        let lock = take_lock(&path)?;
        let names = names(&path)?;
        for name in names.iter().filter(|name| name.starts_with('.') && name.ends_with(".tmp")) {
            unlink(&directory, name)?;
        }
        let segments = names.iter().filter_map(|name| segment_generation(name));
        let segments: BTreeSet<_> = segments.filter(|generation| generation.0 < GENERATION_LIMIT).collect();
        let (window, record) = open_or_replace_control(&directory)?;
        let numbered = segments.last().copied().unwrap_or_default();
        let last = record.generation.max(numbered).max(options.generation_floor);
        let mut publisher =
            Publisher { _lock: lock, directory, window, record, last, segments, chunks: Vec::new(), spare: None };
        publisher.announce();
        Ok(publisher)
    }

    /// The set's format directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// What readers see as current; generation 0 before anything was published.
    #[must_use]
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// Publishes a payload as the next generation and gives its number.
    ///
    /// # Errors
    ///
    /// `Io` for what the system refuses (a full file system, for one). What was current stays so, and nothing of the
    /// attempt is left behind.
    pub fn publish(&mut self, payload: &[u8], meta: &PublishMeta) -> Result<Generation, Error> {
        self.publish_parts(&[payload], meta)
    }

    /// The same for a payload in several parts, which follow each other without a gap.
    ///
    /// # Errors
    ///
    /// As [`Publisher::publish`].
    pub fn publish_parts(&mut self, parts: &[&[u8]], meta: &PublishMeta) -> Result<Generation, Error> {
        let generation = Generation(self.last.0 + 1);
        let (header, chunks) = segment_header_and_chunks(parts, generation, meta);
        let name = segment_name(generation);
        step("begin");
        let header_bytes = header.encode();
        if !self.place_spare(&name, &header_bytes, parts, &chunks) {
            let all: Vec<&[u8]> = [header_bytes.as_slice()].into_iter().chain(parts.iter().copied()).collect();
            self.place(&name, &all)?;
        }
        self.chunks = chunks;
        self.segments.insert(generation);
        self.last = generation;
        step("renamed");
        let record = Record {
            generation,
            segment_bytes: header.payload_bytes + SEGMENT_HEADER_BYTES as u64,
            segment_checksum: header.payload_checksum,
            revision: meta.revision,
            published_at_ns: header.published_at_ns,
            upstream_confirmed_at_ns: meta.upstream_confirmed_at_ns,
            max_age_ns: meta.max_age_ns,
        };
        let previous = self.record.generation;
        self.switch(record);
        step("switched");
        self.sweep(previous);
        step("swept");
        Ok(generation)
    }

    /// Gets ready for the next publication, if what is published is large: it is written a second time, so that publishing what differs little
    /// from it takes little time. It costs that file's memory; to be called when there is time, and never necessary.
    pub fn prepare(&mut self) {
        if self.chunks.is_empty() || self.spare.is_some() {
            return;
        }
        // Without it, all is as if this had not been called.
        let _ = unlink(&self.directory, SPARE);
        match self.written_again() {
            Ok(spare) => self.spare = Some(spare),
            Err(_) => self.drop_spare(),
        }
    }

    fn written_again(&self) -> io::Result<File> {
        let (mut current, _) =
            self.directory.open_file(&segment_name(self.record.generation)).map_err(io::Error::other)?;
        let mut spare = create(&self.directory, SPARE, 0o600)?;
        reserve(&spare, usize::try_from(self.record.segment_bytes).unwrap_or(usize::MAX))?;
        let copied = io::copy(&mut current, &mut spare)?;
        if copied == self.record.segment_bytes { Ok(spare) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }

    fn drop_spare(&mut self) {
        self.spare = None;
        let _ = unlink(&self.directory, SPARE);
    }

    /// Makes the segment `name` of the spare; false, and no spare any more, where that cannot be done.
    fn place_spare(&mut self, name: &str, header: &[u8], parts: &[&[u8]], chunks: &[u64]) -> bool {
        let (Some(spare), [payload]) = (self.spare.take(), parts) else {
            self.drop_spare();
            return false;
        };
        let write = || {
            let known = self.chunks.iter().map(Some).chain(std::iter::repeat(None));
            let mut at = header.len() as u64;
            spare.write_all_at(header, 0)?;
            for ((chunk, hash), known) in payload.chunks(CHUNK).zip(chunks).zip(known) {
                if known != Some(hash) {
                    spare.write_all_at(chunk, at)?;
                }
                at += chunk.len() as u64;
            }
            spare.set_len(at)?;
            step("written");
            spare.set_permissions(Permissions::from_mode(0o444))?;
            step("protected");
            rename(&self.directory, SPARE, name).map_err(io::Error::other)
        };
        let placed = chunks.len() == payload.len().div_ceil(CHUNK) && write().is_ok();
        if !placed {
            self.drop_spare();
        }
        placed
    }

    /// Says that the source confirmed what is current, without a new generation; wall clock, ns since 1970.
    pub fn confirm(&mut self, upstream_confirmed_at_ns: u64) {
        if self.record.generation != Generation(0) {
            self.switch(Record { upstream_confirmed_at_ns, ..self.record });
        }
    }

    /// A sign of life. Readers take a publisher for dead that has not given one for five seconds.
    pub fn heartbeat(&self) {
        // ORDERING: Relaxed; stands for itself.
        self.window.0.page().writer.heartbeat.store(clock::boottime_ns(), Ordering::Relaxed);
    }

    /// Says how current the store is kept.
    pub fn set_state(&self, state: WriterState) {
        // ORDERING: Relaxed; stands for itself.
        self.window.0.page().writer.state.store(state as u64, Ordering::Relaxed);
    }

    /// Puts an id list beside the segments under a name that stands for its content; gives false if it was there already.
    ///
    /// # Errors
    ///
    /// `Io` for what the system, or `write`, refuses. Nothing of the attempt is left behind.
    pub fn publish_list(
        &mut self,
        hash: &str,
        write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> Result<bool, Error> {
        let name = list_name(hash);
        if self.directory.open_file(&name).is_ok() {
            return Ok(false);
        }
        // It may need the space.
        self.drop_spare();
        self.place_with(&name, |file| {
            let mut buffered = io::BufWriter::with_capacity(1 << 18, file);
            write(&mut buffered)?;
            buffered.flush()
        })?;
        // Where that is not to be had, look-ups are slower, that is all.
        if let Ok(list) = self.directory.map_file(&name, false) {
            list.gather_into_huge_pages();
        }
        Ok(true)
    }

    /// Unlinks the id lists that are not among `live`: the hashes that the current and the previous generation refer to.
    ///
    /// # Errors
    ///
    /// `Io` where the directory can't be read or a file not be unlinked.
    pub fn retain_lists(&mut self, live: &BTreeSet<String>) -> Result<(), Error> {
        for name in names(self.directory.path())? {
            if name.strip_prefix("list-").is_some_and(|hash| !live.contains(hash)) {
                unlink(&self.directory, &name)?;
            }
        }
        Ok(())
    }

    /// The page is ours from now on.
    fn announce(&mut self) {
        let writer = &self.window.0.page().writer;
        // ORDERING: Relaxed, all of them; each stands for itself.
        writer.instance.store(random(), Ordering::Relaxed);
        // ORDERING: as above.
        writer.state.store(WriterState::Fresh as u64, Ordering::Relaxed);
        // ORDERING: as above.
        writer.pid.store(u64::from(std::process::id()), Ordering::Relaxed);
        self.heartbeat();
    }

    fn switch(&mut self, record: Record) {
        self.window.0.page().latch().write(&Entry::Current(record).words());
        self.record = record;
    }

    /// Unlinks all segments but the current one and `previous`, which readers may be about to open.
    fn sweep(&mut self, previous: Generation) {
        let current = self.record.generation;
        let directory = &self.directory;
        // One that can't be unlinked stays on the list for the next time.
        self.segments.retain(|&generation| {
            generation == current || generation == previous || unlink(directory, &segment_name(generation)).is_err()
        });
    }

    fn place(&self, name: &str, parts: &[&[u8]]) -> Result<(), Error> {
        let bytes: usize = parts.iter().map(|part| part.len()).sum();
        self.place_with(name, |file| {
            reserve(file, bytes)?;
            step("reserved");
            let mut at = 0;
            for part in parts {
                file.write_all_at(part, at)?;
                at += part.len() as u64;
            }
            step("written");
            Ok(())
        })
    }

    /// Makes a file that nobody sees before it is whole and read-only.
    fn place_with(&self, name: &str, fill: impl FnOnce(&mut File) -> io::Result<()>) -> Result<(), Error> {
        let temporary = format!(".{name}.tmp");
        let path = self.directory.path().join(&temporary);
        let _ = unlink(&self.directory, &temporary);
        let placed = create(&self.directory, &temporary, 0o600)
            .map_err(|source| Error::io("create", &path, source))
            .and_then(|mut file| {
                step("created");
                fill(&mut file).map_err(|source| Error::io("write", &path, source))?;
                let protected = file.set_permissions(Permissions::from_mode(0o444));
                protected.map_err(|source| Error::io("protect", &path, source))?;
                step("protected");
                rename(&self.directory, &temporary, name)
            });
        if placed.is_err() {
            let _ = unlink(&self.directory, &temporary);
        }
        placed
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        if self.spare.is_some() {
            self.drop_spare();
        }
        let writer = &self.window.0.page().writer;
        // ORDERING: Relaxed; stands for itself: readers need not wait for the heartbeat to grow old.
        writer.pid.store(0, Ordering::Relaxed);
    }
}

impl std::fmt::Debug for Window {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Window")
    }
}

/// What a segment of these parts begins with, published now.
pub(super) fn segment_header(parts: &[&[u8]], generation: Generation, meta: &PublishMeta) -> SegmentHeader {
    segment_header_and_chunks(parts, generation, meta).0
}

/// The same, and the hashes of the chunks of a payload that is worth a spare, in one pass.
fn segment_header_and_chunks(parts: &[&[u8]], generation: Generation, meta: &PublishMeta) -> (SegmentHeader, Vec<u64>) {
    let mut checksum = Xxh3Default::new();
    let mut chunks = Vec::new();
    match parts {
        [payload] if payload.len() >= SPARE_FROM => chunks.extend(payload.chunks(CHUNK).map(|chunk| {
            checksum.update(chunk);
            xxh3_64(chunk)
        })),
        parts => parts.iter().for_each(|part| checksum.update(part)),
    }
    let header = SegmentHeader {
        payload_bytes: parts.iter().map(|part| part.len() as u64).sum(),
        payload_checksum: checksum.digest(),
        generation,
        revision: meta.revision,
        published_at_ns: clock::wall_ns(),
        upstream_confirmed_at_ns: meta.upstream_confirmed_at_ns,
        max_age_ns: meta.max_age_ns,
    };
    (header, chunks)
}

/// Takes the space a file will need, so that a full file system says so before anything is written.
pub(super) fn reserve(file: &File, bytes: usize) -> io::Result<()> {
    let length = libc::off_t::try_from(bytes).map_err(|_| io::Error::from(Errno::EFBIG))?;
    if length == 0 {
        return Ok(());
    }
    // SAFETY: fallocate touches no memory of ours.
    if unsafe { libc::fallocate(file.as_raw_fd(), 0, 0, length) } == 0 {
        return Ok(());
    }
    match io::Error::last_os_error() {
        // The file system can't; writing will tell.
        error if error.raw_os_error() == Some(libc::EOPNOTSUPP) => Ok(()),
        error => Err(error),
    }
}

fn open_or_replace_control(directory: &StoreDir) -> Result<(Window, Record), Error> {
    let path = directory.path().join(CONTROL);
    let window = || {
        let window = ControlWindow::anonymous(false).map_err(|source| Error::io("map", &path, source))?;
        Ok::<_, Error>(Window(window))
    };
    match open_control(directory, OFlag::O_RDWR) {
        Ok((file, _)) => {
            let window = window()?;
            window.0.show(&file, true).map_err(|source| Error::io("map", &path, source))?;
            let entry = window.0.page().latch().read().and_then(|(_, words)| Entry::parse(&words));
            if let Some(Entry::Current(record)) = entry {
                return Ok((window, record));
            }
        }
        Err(Error::Corrupt { .. } | Error::UnknownFormat { .. }) => {}
        Err(error) if error.io_kind() == Some(io::ErrorKind::NotFound) => {}
        Err(error) => return Err(error),
    }
    let old = moved_page(directory);
    if let Some(old) = &old {
        old.0.page().latch().write(&Entry::Moved.words());
    }
    step("old control page moved");
    let (window, name) = (window()?, format!(".{CONTROL}.tmp"));
    let file = create(directory, &name, 0o644).map_err(|source| Error::io("create", &path, source))?;
    let image = ControlPage::image(random(), clock::wall_ns());
    let written = reserve(&file, CONTROL_BYTES).and_then(|()| file.write_all_at(&image, 0));
    written.map_err(|source| Error::io("write", &path, source))?;
    let protected = file.set_permissions(Permissions::from_mode(0o644));
    protected.map_err(|source| Error::io("protect", &path, source))?;
    window.0.show(&file, true).map_err(|source| Error::io("map", &path, source))?;
    step("new control page written");
    rename(directory, &name, CONTROL)?;
    if let Some(old) = old {
        // Again, for those who went to the path between the two and found the old page still there.
        old.0.page().latch().write(&Entry::Moved.words());
    }
    Ok((window, Record::default()))
}

/// A control page that can't be used any more, so far as it is one, to send its readers away from it.
fn moved_page(directory: &StoreDir) -> Option<Window> {
    let (file, stat) = directory.open_checked(CONTROL, OFlag::O_RDWR).ok()?;
    // An empty file has no page to write to: it would be a signal.
    if stat.st_size <= 0 {
        return None;
    }
    let window = ControlWindow::anonymous(false).ok()?;
    window.show(&file, true).ok()?;
    Some(Window(window))
}

fn take_lock(directory: &Path) -> Result<File, Error> {
    let path = directory.join("lock");
    loop {
        let file = File::options().read(true).write(true).create(true).truncate(false).open(&path);
        let file = file.map_err(|source| Error::io("open", &path, source))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut text = [0; 16];
                let length = file.read_at(&mut text, 0).unwrap_or(0);
                let pid = std::str::from_utf8(&text[..length]).ok().and_then(|text| text.trim().parse().ok());
                return Err(Error::Locked { path, pid });
            }
            Err(TryLockError::Error(source)) => return Err(Error::io("lock", path, source)),
        }
        // A file that was deleted meanwhile locks nobody out.
        let (held, named) = (file.metadata(), std::fs::metadata(&path));
        if let (Ok(held), Ok(named)) = (held, named)
            && (held.dev(), held.ino()) == (named.dev(), named.ino())
        {
            let pid = format!("{:<15}\n", std::process::id());
            file.write_all_at(pid.as_bytes(), 0).map_err(|source| Error::io("write", &path, source))?;
            return Ok(file);
        }
    }
}

fn create_directory(path: &Path, mode: u32) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    DirBuilder::new().mode(mode).recursive(true).create(path)?;
    // Whatever the umask is: other users' processes read here.
    std::fs::set_permissions(path, Permissions::from_mode(mode))
}

fn names(directory: &Path) -> Result<Vec<String>, Error> {
    let entries = std::fs::read_dir(directory).map_err(|source| Error::io("list", directory, source))?;
    // A name that is not UTF-8 is none of ours.
    Ok(entries.filter_map(|entry| entry.ok().map(|entry| entry.file_name())).filter_map(text).collect())
}

fn text(name: OsString) -> Option<String> {
    name.into_string().ok()
}

fn create(directory: &StoreDir, name: &str, mode: u32) -> io::Result<File> {
    let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
    Ok(File::from(openat(directory.fd(), name, flags, Mode::from_bits_truncate(mode))?))
}

fn rename(directory: &StoreDir, from: &str, to: &str) -> Result<(), Error> {
    renameat(directory.fd(), from, directory.fd(), to)
        .map_err(|errno| Error::io("rename a file to", directory.path().join(to), errno))
}

fn unlink(directory: &StoreDir, name: &str) -> Result<(), Error> {
    match unlinkat(directory.fd(), name, UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => Ok(()),
        Err(errno) => Err(Error::io("unlink", directory.path().join(name), errno)),
    }
}

fn random() -> u64 {
    let mut bytes = [0; 8];
    // SAFETY: `bytes` is writable for its length.
    let filled = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
    if usize::try_from(filled) == Ok(bytes.len()) {
        u64::from_le_bytes(bytes)
    } else {
        clock::wall_ns().wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ u64::from(std::process::id())
    }
}

/// A step of a publication is done: where crash tests kill the process.
#[cfg(not(any(test, feature = "fault-injection")))]
#[inline(always)]
fn step(_name: &'static str) {}

#[cfg(any(test, feature = "fault-injection"))]
pub(super) use injection::step;

/// Calls into a test between the steps of a publication.
#[cfg(any(test, feature = "fault-injection"))]
pub mod injection {
    use std::cell::RefCell;

    type Hook = Box<dyn FnMut(&'static str)>;

    thread_local! {
        static HOOK: RefCell<Option<Hook>> = const { RefCell::new(None) };
    }

    /// Has `hook` called, in this thread, with the name of each step of a publication as it is done.
    pub fn on_step(hook: impl FnMut(&'static str) + 'static) {
        HOOK.set(Some(Box::new(hook)));
    }

    pub(crate) fn step(name: &'static str) {
        HOOK.with_borrow_mut(|hook| {
            if let Some(hook) = hook {
                hook(name);
            }
        });
    }
}
