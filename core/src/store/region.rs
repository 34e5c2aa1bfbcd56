//! Memory that comes out of files: immutable regions (segments, id lists) and the control page's address; and the store's
//! directory, through which all of them are opened and checked.
//!
//! A [`Region`] is bytes that nobody changes any more: a file of the store is written under a temporary name, made
//! read-only and renamed before any reader can know it, and its owner (root, the store's owner or ourselves; see
//! [`StoreDir`]) does not touch it again. That trust is what the owner and mode check establishes; it is also the limit
//! of it: an owner who truncates a published file under its readers faults them (`SIGBUS`).
//!
//! The control page does change, and is therefore never covered by anything but atomic words.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io;
use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::ptr::NonNull;
use std::sync::Arc;

use memmap2::{Mmap, MmapOptions};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, fstatat};
use nix::unistd::geteuid;
use rkyv::util::AlignedVec;

use super::layout::{CONTROL, CONTROL_BYTES, ControlPage, FORMAT, FORMAT_DIRECTORY};
use crate::Error;

/// The least page size of the machines that we run on: with larger pages, [`Region::let_go`] does nothing.
const PAGE_BYTES: usize = 4096;
/// The largest size of a small page on the machines that we run on.
const LARGEST_PAGE_BYTES: usize = 64 << 10;
/// The size of a huge page, where small ones have 4 KiB.
const HUGE_PAGE_BYTES: usize = 2 << 20;
/// Of Linux 6.1; the C libraries that we build with need not know it.
const MADV_COLLAPSE: libc::c_int = 25;

/// Immutable bytes, 16-aligned, shared by cheap clones; mapped from a file or held on the heap.
///
/// Reading them costs what reading a slice costs: the address stands in the region itself.
#[derive(Clone)]
pub struct Region {
    start: NonNull<u8>,
    len: usize,
    /// Keeps what `start` points into.
    owner: Arc<Backing>,
}

enum Backing {
    Map(#[expect(dead_code, reason = "kept mapped, read through Region::start")] Mmap),
    AlignedMap(#[expect(dead_code, reason = "kept mapped, read through Region::start")] AlignedMap),
    Heap(#[expect(dead_code, reason = "kept allocated, read through Region::start")] Vec<u128>),
    Shared(#[expect(dead_code, reason = "kept allocated, read through Region::start")] Arc<AlignedVec>),
}

// SAFETY: the bytes are immutable, and what owns them may be dropped by any thread.
unsafe impl Send for Region {}
// SAFETY: as above; nothing in a region has interior mutability.
unsafe impl Sync for Region {}

impl Region {
    /// A copy of `bytes` on the heap.
    #[must_use]
    pub fn copy_of(bytes: &[u8]) -> Region {
        let words = bytes.chunks(16).map(|chunk| {
            let mut word = [0; 16];
            word[..chunk.len()].copy_from_slice(chunk);
            u128::from_le_bytes(word)
        });
        Region::from_words(words.collect(), bytes.len())
    }

    /// The first `len` bytes of 128-bit words in memory order, without a copy; a `len` past their end is cut to it.
    #[must_use]
    pub fn from_words(words: Vec<u128>, len: usize) -> Region {
        let len = len.min(size_of_val(words.as_slice()));
        // A vector's buffer stays where it is when the vector moves into the Arc.
        let start = NonNull::from(words.as_slice()).cast();
        Region { start, len, owner: Arc::new(Backing::Heap(words)) }
    }

    /// A compiled snapshot, without a copy.
    #[must_use]
    pub fn of_compiled(bytes: Arc<AlignedVec>) -> Region {
        let (start, len) = (NonNull::from(bytes.as_slice()).cast(), bytes.len());
        // An aligned vector's buffer lies outside of it, 16-aligned, and nobody can change it while it is shared.
        Region { start, len, owner: Arc::new(Backing::Shared(bytes)) }
    }

    /// The part from `offset` on, sharing the memory.
    pub(crate) fn tail(&self, offset: usize) -> Option<Region> {
        let len = self.len.checked_sub(offset)?;
        // SAFETY: offset <= len, so the address stays inside the region or one past its end.
        let start = unsafe { self.start.add(offset) };
        Some(Region { start, len, owner: Arc::clone(&self.owner) })
    }

    /// Gives pages back to the system, as unmapping them would, a part at a time: `bytes` from `offset` on, in whole pages
    /// inwards. Should anybody read them after all, they come back from the file. Without effect on the heap.
    pub(crate) fn let_go(&self, offset: usize, bytes: usize) {
        if !matches!(*self.owner, Backing::Map(_) | Backing::AlignedMap(_)) {
            return;
        }
        let end = offset.saturating_add(bytes).min(self.len);
        let first = self.start.addr().get().checked_add(offset).map(|at| at.next_multiple_of(PAGE_BYTES));
        let Some(first) = first else { return };
        let last = (self.start.addr().get() + end) / PAGE_BYTES * PAGE_BYTES;
        if first < last {
            let address = std::ptr::without_provenance_mut(first);
            // SAFETY: whole pages of a shared, read-only map of a file that is immutable: whoever reads them again finds what
            // they read before.
            unsafe { libc::madvise(address, last - first, libc::MADV_DONTNEED) };
        }
    }

    /// Has the system gather the file's pages into huge ones where it can, for whoever maps it from now on. Worth it for what is read at random and lasts: reading a list of 10
    /// million ids is mostly looking up pages (docs/design/memory.md). Takes as long as copying the file.
    pub(crate) fn gather_into_huge_pages(&self) {
        let whole = self.len / HUGE_PAGE_BYTES * HUGE_PAGE_BYTES;
        if let Backing::AlignedMap(_) = *self.owner
            && whole > 0
        {
            // SAFETY: whole pages of a map that this region keeps; the bytes in them stay what they are. Where the kernel can't (before 6.1, not on
            // a tmpfs, no huge page to be had), nothing changes.
            unsafe { libc::madvise(self.start.as_ptr().cast(), whole, MADV_COLLAPSE) };
        }
    }

    fn map(file: &File, len: usize, populate: bool) -> io::Result<Region> {
        if len >= HUGE_PAGE_BYTES && !populate {
            let map = AlignedMap::new(file, len)?;
            return Ok(Region { start: map.start, len, owner: Arc::new(Backing::AlignedMap(map)) });
        }
        let mut options = MmapOptions::new();
        options.len(len);
        if populate {
            options.populate();
        }
        // SAFETY: the file is immutable from the moment its name can be known, and its owner is trusted to keep it so (see
        // the head of this file).
        let map = unsafe { options.map(file) }?;
        let start = NonNull::from(&*map).cast();
        Ok(Region { start, len, owner: Arc::new(Backing::Map(map)) })
    }
}

impl Deref for Region {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        // SAFETY: `start` points at `len` initialised, immutable bytes, which `owner` keeps for as long as `self` lives.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl fmt::Debug for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match *self.owner {
            Backing::Map(_) | Backing::AlignedMap(_) => "mapped",
            Backing::Heap(_) | Backing::Shared(_) => "heap",
        };
        write!(f, "Region({} bytes, {kind})", self.len)
    }
}

/// A shared, read-only map of a file at an address that is a multiple of the huge page size, without which the file's huge
/// pages would be seen as small ones.
struct AlignedMap {
    start: NonNull<u8>,
    /// Whole pages.
    bytes: usize,
}

// SAFETY: an address range that nobody else unmaps.
unsafe impl Send for AlignedMap {}
// SAFETY: as above; the bytes are immutable.
unsafe impl Sync for AlignedMap {}

impl AlignedMap {
    fn new(file: &File, len: usize) -> io::Result<AlignedMap> {
        let too_large = || io::Error::from(Errno::ENOMEM);
        let bytes = len.checked_next_multiple_of(LARGEST_PAGE_BYTES).ok_or_else(too_large)?;
        let reserved = bytes.checked_add(HUGE_PAGE_BYTES).ok_or_else(too_large)?;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: a new anonymous mapping at an address of the kernel's choice.
        let around = unsafe { libc::mmap(std::ptr::null_mut(), reserved, libc::PROT_NONE, flags, -1, 0) };
        if around == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let before = around.addr().next_multiple_of(HUGE_PAGE_BYTES) - around.addr();
        let start = around.wrapping_byte_add(before);
        let flags = libc::MAP_SHARED | libc::MAP_FIXED;
        // SAFETY: replaces a part of the range that was reserved above and that nobody knows of; the file is immutable from the
        // moment its name can be known, and its owner is trusted to keep it so (see the head of this file).
        let mapped = unsafe { libc::mmap(start, len, libc::PROT_READ, flags, file.as_raw_fd(), 0) };
        let error = io::Error::last_os_error();
        let rest = HUGE_PAGE_BYTES - before;
        for (address, length) in [(around, before), (start.wrapping_byte_add(bytes), rest)] {
            if length > 0 {
                // SAFETY: the parts of the reserved range around the map.
                unsafe { libc::munmap(address, length) };
            }
        }
        match NonNull::new(start.cast()) {
            Some(start) if mapped != libc::MAP_FAILED => Ok(AlignedMap { start, bytes }),
            _ => {
                // SAFETY: the rest of the reserved range.
                unsafe { libc::munmap(start, bytes) };
                Err(error)
            }
        }
    }
}

impl Drop for AlignedMap {
    fn drop(&mut self) {
        // SAFETY: the map, and what was reserved behind it up to a whole page, belong to this value.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.bytes) };
    }
}

/// Where a payload finds the files it refers to, by name: the store's directory, or memory.
pub trait Files {
    /// The whole of one file.
    ///
    /// # Errors
    ///
    /// `Io` where it can't be opened or mapped, `Untrusted` where its owner or mode forbids using it.
    fn file(&self, name: &str) -> Result<Region, Error>;
}

/// Files that live in this process only, for a payload that was compiled here.
#[derive(Debug, Clone, Default)]
pub struct MemoryFiles(pub BTreeMap<String, Region>);

impl Files for MemoryFiles {
    fn file(&self, name: &str) -> Result<Region, Error> {
        let missing = || Error::io("open", name, io::Error::from(io::ErrorKind::NotFound));
        self.0.get(name).cloned().ok_or_else(missing)
    }
}

/// A store's format directory (`<set>/v1`), open.
///
/// All files are opened through the descriptor kept here, so neither `chroot` nor a dropped privilege stops updates, and
/// every file passes the same check: a regular file, owned by root, by the owner of this directory or by our own
/// effective user, and writable by its owner at most.
pub struct StoreDir {
    /// Closed in `drop`, if it is still ours by then.
    fd: ManuallyDrop<OwnedFd>,
    /// `<set>/v1` as it was opened.
    path: PathBuf,
    id: FileId,
    owner: u32,
}

/// What tells a file from any other on this host while it exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FileId {
    device: u64,
    inode: u64,
}

impl FileId {
    fn of(stat: &FileStat) -> Self {
        FileId { device: stat.st_dev, inode: stat.st_ino }
    }
}

impl StoreDir {
    /// Opens the format directory of a set's directory.
    ///
    /// # Errors
    ///
    /// `Io`, with the kind `NotFound` where there is none; `UnknownFormat` where only other formats' directories are
    /// there; `Untrusted` where others than its owner may write to it.
    pub fn open(set: &Path) -> Result<StoreDir, Error> {
        let path = set.join(FORMAT_DIRECTORY);
        // Without O_PATH the caller would need read permission on the directory.
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let fd = match nix::fcntl::open(&path, flags, Mode::empty()) {
            Ok(fd) => fd,
            Err(Errno::ENOENT) => return Err(other_format(set).unwrap_or(Error::io("open", path, Errno::ENOENT))),
            Err(errno) => return Err(Error::io("open", path, errno)),
        };
        let stat = fstat(&fd).map_err(|errno| Error::io("examine", &path, errno))?;
        if stat.st_mode & 0o022 != 0 {
            let reason = "a store's directory must be writable by its owner only";
            return Err(Error::Untrusted { path, uid: stat.st_uid, mode: stat.st_mode & 0o7777, reason });
        }
        Ok(StoreDir { fd: ManuallyDrop::new(fd), path, id: FileId::of(&stat), owner: stat.st_uid })
    }

    /// `<set>/v1`, as it was opened.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// User id of the directory's owner.
    #[must_use]
    pub fn owner(&self) -> u32 {
        self.owner
    }

    /// Opens a file for reading and checks that it is to be trusted; gives its size too.
    ///
    /// # Errors
    ///
    /// `Io` where it can't be opened, `Untrusted` where its owner or mode forbids using it.
    pub fn open_file(&self, name: &str) -> Result<(File, u64), Error> {
        let (file, stat) = self.open_checked(name, OFlag::O_RDONLY)?;
        Ok((file, u64::try_from(stat.st_size).unwrap_or(0)))
    }

    /// Maps the whole of a file, after the same check.
    ///
    /// # Errors
    ///
    /// As [`StoreDir::open_file`].
    pub fn map_file(&self, name: &str, populate: bool) -> Result<Region, Error> {
        let (file, bytes) = self.open_file(name)?;
        if bytes == 0 {
            return Ok(Region::from_words(Vec::new(), 0));
        }
        let path = || self.path.join(name);
        let len = usize::try_from(bytes).map_err(|_| Error::io("map", path(), Errno::EFBIG))?;
        Region::map(&file, len, populate).map_err(|source| Error::io("map", path(), source))
    }

    pub(crate) fn open_checked(&self, name: &str, access: OFlag) -> Result<(File, FileStat), Error> {
        let path = || self.path.join(name);
        if !self.is_ours() {
            // A program that closes descriptors it doesn't know (daemons do) may have had it reused for anything.
            return Err(Error::io("open", path(), Errno::EBADF));
        }
        // A fifo or device put there must not block or act; it is refused below.
        let flags = access | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
        let fd = openat(&*self.fd, name, flags, Mode::empty()).map_err(|errno| match errno {
            Errno::ELOOP => Error::io("follow the symbolic link", path(), errno),
            _ => Error::io("open", path(), errno),
        })?;
        let stat = fstat(&fd).map_err(|errno| Error::io("examine", path(), errno))?;
        check_trust(&stat, self.owner, geteuid().as_raw()).map_err(|reason| Error::Untrusted {
            path: path(),
            uid: stat.st_uid,
            mode: stat.st_mode & 0o7777,
            reason,
        })?;
        Ok((File::from(fd), stat))
    }

    /// What the control page's name stands for now, seen from this directory.
    pub(crate) fn control_id(&self) -> Result<FileId, Error> {
        let stat = fstatat(&*self.fd, CONTROL, AtFlags::AT_SYMLINK_NOFOLLOW);
        stat.map(|stat| FileId::of(&stat)).map_err(|errno| Error::io("examine", self.path.join(CONTROL), errno))
    }

    /// Whether the descriptor is still the directory that was opened.
    pub(crate) fn is_ours(&self) -> bool {
        fstat(&*self.fd).is_ok_and(|stat| FileId::of(&stat) == self.id)
    }

    pub(crate) fn fd(&self) -> impl AsFd + '_ {
        &*self.fd
    }
}

impl Files for StoreDir {
    fn file(&self, name: &str) -> Result<Region, Error> {
        self.map_file(name, false)
    }
}

impl Drop for StoreDir {
    fn drop(&mut self) {
        // Never close a descriptor that by now belongs to somebody else.
        if self.is_ours() {
            // SAFETY: `fd` is not used again.
            unsafe { ManuallyDrop::drop(&mut self.fd) };
        }
    }
}

impl fmt::Debug for StoreDir {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreDir").field("path", &self.path).field("fd", &self.fd.as_raw_fd()).finish_non_exhaustive()
    }
}

fn check_trust(stat: &FileStat, directory_owner: u32, own: u32) -> Result<(), &'static str> {
    if SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT != SFlag::S_IFREG {
        return Err("it is not a regular file");
    }
    if ![0, directory_owner, own].contains(&stat.st_uid) {
        return Err("it belongs neither to root, nor to the owner of its directory, nor to this process' user");
    }
    if stat.st_mode & 0o022 != 0 {
        return Err("others than its owner may write to it");
    }
    Ok(())
}

/// The error for a set directory that has only other formats in it.
fn other_format(set: &Path) -> Option<Error> {
    let mut found: Vec<String> = std::fs::read_dir(set)
        .ok()?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.strip_prefix('v').is_some_and(|digits| digits.parse::<u32>().is_ok()))
        .collect();
    found.sort();
    let found = found.join(", ");
    (!found.is_empty()).then(|| Error::UnknownFormat { path: set.into(), found, supported: FORMAT })
}

/// What the path of a control page stands for now, from the root of the file system.
pub(crate) fn control_id_at(set: &Path) -> io::Result<FileId> {
    let path = set.join(FORMAT_DIRECTORY).join(CONTROL);
    nix::sys::stat::lstat(&path).map(|stat| FileId::of(&stat)).map_err(io::Error::from)
}

/// One page of address space at which a control page is seen; another control page can be brought to the same address.
///
/// That the address never changes lets an evaluation read the version without protecting anything: the page behind it
/// may be exchanged at any moment, but there is always one.
pub(crate) struct ControlWindow {
    page: NonNull<ControlPage>,
}

// SAFETY: the window is an address at which atomic words are mapped until it is dropped.
unsafe impl Send for ControlWindow {}
// SAFETY: as above; exchanging the page is one system call that the kernel makes atomic towards page faults.
unsafe impl Sync for ControlWindow {}

impl ControlWindow {
    /// A window on a private page of zeroes, writable only if asked for.
    pub(crate) fn anonymous(writable: bool) -> io::Result<ControlWindow> {
        let protection = if writable { libc::PROT_READ | libc::PROT_WRITE } else { libc::PROT_READ };
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: a new anonymous mapping at an address of the kernel's choice.
        let page = unsafe { libc::mmap(std::ptr::null_mut(), CONTROL_BYTES, protection, flags, -1, 0) };
        match NonNull::new(page) {
            Some(mapped) if page != libc::MAP_FAILED => Ok(ControlWindow { page: mapped.cast() }),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Brings the control page of an open file, already checked to be one, to this address.
    pub(crate) fn show(&self, file: &File, writable: bool) -> io::Result<()> {
        let protection = if writable { libc::PROT_READ | libc::PROT_WRITE } else { libc::PROT_READ };
        let flags = libc::MAP_SHARED | libc::MAP_FIXED | libc::MAP_POPULATE;
        let (address, fd) = (self.page.as_ptr().cast(), file.as_raw_fd());
        // SAFETY: replaces exactly the mapping that this window owns. Whoever holds a reference to the page sees atomic words
        // before and after; the kernel exchanges the mapping under its lock, so there is no moment without one.
        let shown = unsafe { libc::mmap(address, CONTROL_BYTES, protection, flags, fd, 0) };
        if shown == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    #[inline]
    pub(crate) fn page(&self) -> &ControlPage {
        // SAFETY: a page of atomic words is mapped here for as long as `self` lives; any bits are valid ones.
        unsafe { self.page.as_ref() }
    }
}

impl Drop for ControlWindow {
    fn drop(&mut self) {
        // SAFETY: the mapping belongs to this window, and no reference outlives it.
        unsafe { libc::munmap(self.page.as_ptr().cast(), CONTROL_BYTES) };
    }
}

/// Opens a directory's control page and checks the words that never change.
///
/// # Errors
///
/// As [`StoreDir::open_file`], and `Corrupt` or `UnknownFormat` by what is in it.
pub(crate) fn open_control(directory: &StoreDir, access: OFlag) -> Result<(File, FileId), Error> {
    let (file, stat) = directory.open_checked(CONTROL, access)?;
    let path = directory.path().join(CONTROL);
    let mut bytes = [0; CONTROL_BYTES];
    let size = usize::try_from(stat.st_size).unwrap_or(usize::MAX);
    let bytes = &mut bytes[..size.min(CONTROL_BYTES)];
    file.read_exact_at(bytes, 0).map_err(|source| Error::io("read", &path, source))?;
    if size > CONTROL_BYTES {
        return Err(Error::corrupt(path, format!("it has {size} bytes, a control page has {CONTROL_BYTES}")));
    }
    ControlPage::check_identity(bytes, &path)?;
    Ok((file, FileId::of(&stat)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_region_holds_its_bytes_aligned_and_shares_them() {
        for len in [0usize, 1, 15, 16, 17, 4_096, 4_097] {
            let bytes: Vec<u8> = (0..len).map(|at| u8::try_from(at % 251).unwrap()).collect();
            let region = Region::copy_of(&bytes);
            assert_eq!(*region, *bytes);
            assert_eq!(region.as_ptr().addr() % 16, 0);
            let tail = region.tail(len / 2).unwrap();
            drop(region);
            assert_eq!(*tail, bytes[len / 2..]);
            assert!(tail.tail(len + 1).is_none());
        }
        assert_eq!(Region::from_words(vec![1], 99).len(), 16, "never past the words");
    }

    #[test]
    fn a_large_map_is_aligned_holds_the_file_and_goes_without_a_trace() {
        let shared = Path::new("/dev/shm");
        let folder = if shared.is_dir() { tempfile::tempdir_in(shared) } else { tempfile::tempdir() }.unwrap();
        let path = folder.path().join("large");
        let words = |len: usize| (0..len.div_ceil(8) as u64).flat_map(u64::to_le_bytes).take(len).collect::<Vec<u8>>();
        for len in
            [HUGE_PAGE_BYTES - 1, HUGE_PAGE_BYTES, HUGE_PAGE_BYTES + 1, 3 * HUGE_PAGE_BYTES - 4096, (5 << 20) + 7]
        {
            std::fs::write(&path, words(len)).unwrap();
            let maps = || std::fs::read_to_string("/proc/self/maps").unwrap();
            let of_file = |maps: &str| maps.lines().filter(|line| line.contains(path.to_str().unwrap())).count();
            let region = Region::map(&File::open(&path).unwrap(), len, false).unwrap();
            assert!(len < HUGE_PAGE_BYTES || region.as_ptr().addr().is_multiple_of(HUGE_PAGE_BYTES));
            assert_eq!(of_file(&maps()), 1);
            assert_eq!(*region, *words(len));
            region.gather_into_huge_pages();
            assert_eq!(*region, *words(len), "gathered");
            region.let_go(0, len / 2);
            region.let_go(len / 2, len);
            assert_eq!(*region, *words(len), "let go and read again");
            drop(region);
            assert_eq!(of_file(&maps()), 0);
        }
    }
}
