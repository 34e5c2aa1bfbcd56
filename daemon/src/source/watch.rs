//! When to look at files again: inotify on directories, never on files, because what a path means changes by renames.
//!
//! ```text
//! watched directories = for each path: where each symbolic link on the way lies, and where the way ends
//! something happened  -> wait until it is quiet -> say so once
//! a source's own name was renamed onto, and nothing is being written -> say so at once
//! ```
//!
//! A rename into place says that what is there now is whole, so nothing is gained by waiting. All else may be half of something: an editor
//! that moves the old file away before it writes the new one, a script that truncates a file and appends to it.
//!
//! Inotify is used directly: `add_watch` gives the same descriptor for a directory that is watched already, so the set of
//! watches is simply made anew after each event, and a directory that was deleted and made again needs no bookkeeping.

use std::collections::{BTreeSet, HashSet, VecDeque};
use std::ffi::{OsStr, OsString};
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
    /// A rename onto one of these is told of at once.
    names: BTreeSet<OsString>,
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

/// Where to look for changes.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Places {
    /// The directories in which something may happen.
    directories: BTreeSet<PathBuf>,
    /// What single files and the links to them are called.
    names: BTreeSet<OsString>,
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
        Ok(Self { inotify, watched: HashSet::new(), names: BTreeSet::new(), quiet, due: None })
    }

    /// Watches exactly these places; returns the directories that cannot be watched.
    pub(crate) fn watch(&mut self, places: &Places) -> Vec<(PathBuf, io::Error)> {
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
        for directory in &places.directories {
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
        self.names.clone_from(&places.names);
        failed
    }

    /// Returns once something happened and it is quiet again. Nothing is lost when the future is dropped.
    pub(crate) async fn changed(&mut self) {
        loop {
            let due = self.due;
            let timer = async {
                match due {
                    // Timers are as coarse as a millisecond.
                    Some(due) if due.at <= Instant::now() => {}
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
                            self.happened(event.mask, event.name.as_deref());
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

    fn happened(&mut self, mask: AddWatchFlags, name: Option<&OsStr>) {
        let now = Instant::now();
        let unfinished = self.due.is_some_and(|due| due.unfinished);
        let wait = self.wait(mask, name, unfinished);
        let due = self.due.get_or_insert(Due { at: now, at_most: now + PATIENCE, unfinished });
        due.unfinished = begins(mask);
        due.at = (now + wait).min(due.at_most.max(now));
    }

    /// How long to wait for more after an event that came while something was `unfinished` or not.
    fn wait(&self, mask: AddWatchFlags, name: Option<&OsStr>, unfinished: bool) -> Duration {
        let replaced = mask.contains(AddWatchFlags::IN_MOVED_TO) && name.is_some_and(|name| self.names.contains(name));
        match (begins(mask), replaced && !unfinished) {
            (true, _) => PATIENCE,
            (false, true) => Duration::ZERO,
            (false, false) => self.quiet,
        }
    }
}

/// Whether a file is open and being written, as far as an event tells.
fn begins(mask: AddWatchFlags) -> bool {
    mask.intersects(AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MODIFY) && !mask.contains(AddWatchFlags::IN_ISDIR)
}

impl Places {
    /// Wherever `path`, a single file or a directory, comes to mean another; a rename that makes it so is told of at once.
    pub(crate) fn add(&mut self, path: &Path) {
        let Self { directories, names } = self;
        each_step(path, |directory, name| {
            directories.insert(directory);
            names.extend(name);
        });
    }

    /// The same for one of several files that belong together: all is told of when it is quiet.
    pub(crate) fn add_one_of_several(&mut self, path: &Path) {
        each_step(path, |directory, _| {
            self.directories.insert(directory);
        });
    }
}

/// The directories in which something happens whenever `path` comes to mean another file, and under which name: where each symbolic link
/// on the way lies, and where the way ends, be it at the file or at the first thing that is not there. A directory that `path` ends at is
/// one of them, without a name.
fn each_step(path: &Path, mut step: impl FnMut(PathBuf, Option<OsString>)) {
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
                step(here.clone(), Some(part));
                let Ok(target) = next.read_link() else { return };
                for part in target.components().rev() {
                    ahead.push_front(part.as_os_str().to_owned());
                }
            }
            Ok(metadata) if metadata.is_dir() => here = next,
            _ => {
                return step(here, Some(part));
            }
        }
    }
    step(here, None);
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

    fn directories_of(path: &Path) -> BTreeSet<PathBuf> {
        of(path).directories
    }

    fn of(path: &Path) -> Places {
        let mut places = Places::default();
        places.add(path);
        places
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
        assert_eq!(of(&config.join("f.json")).names, ["..data", "f.json"].map(OsString::from).into());
        assert_eq!(of(&config).names, BTreeSet::new(), "files of a directory belong together");

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
            assert!(watcher.watch(&of(&file)).is_empty());
            fs::create_dir(&old).expect("made");
            assert!(tells(&mut watcher).await, "made, round {round}");
            assert!(watcher.watch(&of(&file)).is_empty());
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
        watcher.watch(&of(dir.path()));
        use std::io::Write;
        let mut file = fs::File::create(dir.path().join("f.json")).expect("made");
        file.write_all(b"{").expect("written");
        assert!(is_silent(&mut watcher).await, "not while it is open");
        file.write_all(b"}").expect("written");
        drop(file);
        assert!(tells(&mut watcher).await);
    }

    #[tokio::test]
    async fn only_a_rename_into_place_is_told_of_at_once() {
        let waits_after = |events: &[(AddWatchFlags, &str)]| {
            let mut watcher = Watcher::new(Duration::from_millis(5)).expect("inotify");
            watcher.names = BTreeSet::from(["f.json".into()]);
            let mut wait = Duration::ZERO;
            for (mask, name) in events {
                let unfinished = watcher.due.is_some_and(|due| due.unfinished);
                wait = watcher.wait(*mask, Some(OsStr::new(name)), unfinished);
                watcher.happened(*mask, Some(OsStr::new(name)));
            }
            !wait.is_zero()
        };
        let (from, to) = (AddWatchFlags::IN_MOVED_FROM, AddWatchFlags::IN_MOVED_TO);
        let (create, modify, close) =
            (AddWatchFlags::IN_CREATE, AddWatchFlags::IN_MODIFY, AddWatchFlags::IN_CLOSE_WRITE);
        assert!(!waits_after(&[(from, ".f.json.1"), (to, "f.json")]));
        assert!(!waits_after(&[(create, "n"), (modify, "n"), (close, "n"), (from, "n"), (to, "f.json")]));
        assert!(waits_after(&[(to, "other")]));
        assert!(waits_after(&[(from, "f.json"), (to, "f.json~")]), "an editor is about to write it anew");
        assert!(waits_after(&[(modify, "f.json"), (close, "f.json")]), "more may be appended");
        assert!(waits_after(&[(modify, "g.json"), (to, "f.json")]), "another is being written");
    }

    #[tokio::test]
    async fn a_rename_into_place_is_told_of_once_and_that_of_one_of_several_too() {
        let dir = tempfile::tempdir().expect("a directory");
        let (file, next) = (dir.path().join("f.json"), dir.path().join("next"));
        let mut several = Places::default();
        several.add_one_of_several(&file);
        for (places, names) in [(of(&file), 1), (several, 0)] {
            assert_eq!(places.names.len(), names);
            fs::write(&next, "{}").expect("written");
            let mut watcher = Watcher::new(Duration::from_millis(5)).expect("inotify");
            watcher.watch(&places);
            fs::rename(&next, &file).expect("renamed");
            assert!(tells(&mut watcher).await);
            assert!(is_silent(&mut watcher).await, "once");
        }
    }
}
