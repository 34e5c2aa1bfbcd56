//! When to look at files again: inotify on directories, never on files, because what a path means changes by renames.
//!
//! ```text
//! watched directories = for each path: where each symbolic link on the way lies, and where the way ends
//! something happened  -> wait until it is quiet -> say so once
//! ```
//!
//! Inotify is used directly: `add_watch` gives the same descriptor for a directory that is watched already, so the set of
//! watches is simply made anew after each event, and a directory that was deleted and made again needs no bookkeeping.

use std::collections::{BTreeSet, HashSet, VecDeque};
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::{Instant, sleep_until};

/// Tells when something happened in a set of directories.
#[derive(Debug)]
pub(crate) struct Watcher {
    inotify: AsyncFd<Descriptor>,
    watched: HashSet<WatchDescriptor>,
    quiet: Duration,
    /// Something happened, and will be told of at this time.
    due: Option<Due>,
}

#[derive(Clone, Copy, Debug)]
struct Due {
    at: Instant,
    /// However much goes on, not later than this.
    at_most: Instant,
    /// A file is open and being written; that it is closed is worth waiting for.
    unfinished: bool,
}

/// How long a file that is being written is waited for, and how long a directory that is never quiet.
const PATIENCE: Duration = Duration::from_millis(500);

/// A chain of more links than this is a loop, as the kernel sees it.
const MAX_LINKS: usize = 40;

impl Watcher {
    /// A watcher of nothing yet, which is silent until files were quiet for `quiet`.
    ///
    /// # Errors
    ///
    /// Where the user has too many inotify instances.
    pub(crate) fn new(quiet: Duration) -> io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        #[expect(
            deprecated,
            reason = "its successor is unsafe; the descriptor is owned, never changes and is closed last"
        )]
        let inotify = AsyncFd::with_interest(Descriptor(inotify), Interest::READABLE)?;
        Ok(Self { inotify, watched: HashSet::new(), quiet, due: None })
    }

    /// Watches exactly these directories; returns those that cannot be watched.
    pub(crate) fn watch(&mut self, directories: &BTreeSet<PathBuf>) -> Vec<(PathBuf, io::Error)> {
        let what = AddWatchFlags::IN_CLOSE_WRITE
            | AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_MODIFY
            | AddWatchFlags::IN_MOVE
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_ATTRIB
            | AddWatchFlags::IN_DELETE_SELF
            | AddWatchFlags::IN_MOVE_SELF
            | AddWatchFlags::IN_ONLYDIR;
        let inotify = &self.inotify.get_ref().0;
        let (mut wanted, mut failed) = (HashSet::new(), Vec::new());
        for directory in directories {
            match inotify.add_watch(directory, what) {
                Ok(descriptor) => {
                    wanted.insert(descriptor);
                }
                Err(error) => failed.push((directory.clone(), error.into())),
            }
        }
        for old in self.watched.difference(&wanted) {
            // The kernel may have dropped it already, with its directory.
            let _ = inotify.rm_watch(*old);
        }
        self.watched = wanted;
        failed
    }

    /// Returns once something happened and it is quiet again. Nothing is lost when the future is dropped.
    pub(crate) async fn changed(&mut self) {
        loop {
            let due = self.due;
            let timer = async {
                match due {
                    Some(due) => sleep_until(due.at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                ready = self.inotify.readable() => {
                    let Ok(mut ready) = ready else { return };
                    let events = ready.try_io(|inotify| Ok(inotify.get_ref().0.read_events()?));
                    if let Ok(Ok(events)) = events {
                        for event in events {
                            self.happened(event.mask);
                        }
                    }
                }
                () = timer => {
                    self.due = None;
                    return;
                }
            }
        }
    }

    fn happened(&mut self, mask: AddWatchFlags) {
        let now = Instant::now();
        let begun = mask.intersects(AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MODIFY);
        let begun = begun && !mask.contains(AddWatchFlags::IN_ISDIR);
        let due = self.due.get_or_insert(Due { at: now, at_most: now + PATIENCE, unfinished: false });
        due.unfinished = begun;
        let wait = if begun { PATIENCE } else { self.quiet };
        due.at = (now + wait).min(due.at_most.max(now));
    }
}

/// The directories in which something happens whenever `path` comes to mean another file: where each symbolic link on the
/// way lies, and where the way ends, be it at the file or at the first thing that is not there. A directory that `path`
/// ends at is one of them.
pub(crate) fn directories_of(path: &Path) -> BTreeSet<PathBuf> {
    let mut directories = BTreeSet::new();
    let mut ahead: VecDeque<OsString> = path.components().map(|part| part.as_os_str().to_owned()).collect();
    let mut here = PathBuf::from("/");
    let mut links = 0;
    while let Some(part) = ahead.pop_front() {
        match Path::new(&part).components().next() {
            Some(Component::RootDir) => {
                here = PathBuf::from("/");
                continue;
            }
            Some(Component::ParentDir) => {
                here.pop();
                continue;
            }
            Some(Component::Normal(_)) => {}
            _ => continue,
        }
        let next = here.join(&part);
        match next.symlink_metadata() {
            Ok(metadata) if metadata.is_symlink() && links < MAX_LINKS => {
                links += 1;
                directories.insert(here.clone());
                let Ok(target) = next.read_link() else { return directories };
                for part in target.components().rev() {
                    ahead.push_front(part.as_os_str().to_owned());
                }
            }
            Ok(metadata) if metadata.is_dir() => here = next,
            _ => {
                directories.insert(here);
                return directories;
            }
        }
    }
    directories.insert(here);
    directories
}

/// Inotify with the one trait that tokio asks for.
#[derive(Debug)]
struct Descriptor(Inotify);

impl AsRawFd for Descriptor {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    fn set<const N: usize>(paths: [&Path; N]) -> BTreeSet<PathBuf> {
        paths.into_iter().map(Path::to_owned).collect()
    }

    #[test]
    fn every_link_on_the_way_is_watched() {
        let dir = tempfile::tempdir().expect("a directory");
        let root = dir.path().canonicalize().expect("a path");
        let (config, version) = (root.join("config"), root.join("config/..v1"));
        fs::create_dir_all(&version).expect("made");
        assert_eq!(directories_of(&config.join("f.json")), set([&config]), "not there yet");
        assert_eq!(directories_of(&root.join("x/y/f.json")), set([&root]), "the nearest that exists");
        assert_eq!(directories_of(&config), set([&config]), "a directory is its own");

        // A ConfigMap: f.json -> ..data/f.json, ..data -> ..v1
        fs::write(version.join("f.json"), "{}").expect("written");
        symlink("..v1", config.join("..data")).expect("linked");
        symlink("..data/f.json", config.join("f.json")).expect("linked");
        assert_eq!(directories_of(&config.join("f.json")), set([&config, &version]));

        // /current -> config, as deployments switch whole directories.
        symlink(&config, root.join("current")).expect("linked");
        assert_eq!(directories_of(&root.join("current/f.json")), set([&root, &config, &version]));
        assert_eq!(directories_of(&root.join("current/../f.json")), set([&root]));

        symlink("loop", root.join("loop")).expect("linked");
        assert_eq!(directories_of(&root.join("loop/f.json")), set([&root]));
    }

    async fn tells(watcher: &mut Watcher) -> bool {
        tokio::time::timeout(Duration::from_secs(30), watcher.changed()).await.is_ok()
    }

    async fn is_silent(watcher: &mut Watcher) -> bool {
        tokio::time::timeout(Duration::from_millis(50), watcher.changed()).await.is_err()
    }

    #[tokio::test]
    async fn a_change_is_told_once_and_a_new_directory_is_watched() {
        let dir = tempfile::tempdir().expect("a directory");
        let (old, file) = (dir.path().join("d"), dir.path().join("d/f.json"));
        let mut watcher = Watcher::new(Duration::from_millis(5)).expect("inotify");
        for round in 0..3 {
            assert!(watcher.watch(&directories_of(&file)).is_empty());
            fs::create_dir(&old).expect("made");
            assert!(tells(&mut watcher).await, "made, round {round}");
            assert!(watcher.watch(&directories_of(&file)).is_empty());
            fs::write(&file, "{}").expect("written");
            assert!(tells(&mut watcher).await, "written, round {round}");
            assert!(is_silent(&mut watcher).await, "told once, round {round}");
            fs::read(&file).expect("read");
            assert!(is_silent(&mut watcher).await, "reading is no change, round {round}");
            fs::remove_dir_all(&old).expect("removed");
            assert!(tells(&mut watcher).await, "removed, round {round}");
        }
    }

    #[tokio::test]
    async fn a_file_being_written_is_waited_for() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut watcher = Watcher::new(Duration::from_millis(1)).expect("inotify");
        watcher.watch(&set([dir.path()]));
        use std::io::Write;
        let mut file = fs::File::create(dir.path().join("f.json")).expect("made");
        file.write_all(b"{").expect("written");
        assert!(is_silent(&mut watcher).await, "not while it is open");
        file.write_all(b"}").expect("written");
        drop(file);
        assert!(tells(&mut watcher).await);
    }
}
