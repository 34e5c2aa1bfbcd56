//! What needs a process of its own: a signal, a fork or a lost privilege must not be able to hide in the test runner.
//!
//! Each test here starts the test program again for itself alone, with its name in `STORE_TEST_CHILD`; the child does the
//! work and ends, and the parent looks at how it ended.

use std::cell::Cell;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork, geteuid};

use super::*;

const CHILD: &str = "STORE_TEST_CHILD";
const ARGUMENT: &str = "STORE_TEST_ARGUMENT";

/// Runs `body` in a child process and passes if that exits with 0.
fn in_a_child(name: &str, body: impl FnOnce()) {
    if std::env::var_os(CHILD).is_some_and(|child| child == name) {
        // Nothing here takes minutes; a child that hangs ends by SIGALRM and so fails.
        // SAFETY: takes no pointers.
        unsafe { libc::alarm(120) };
        body();
        std::process::exit(0);
    }
    let status = start(name, "").wait_with_output().unwrap();
    let output = String::from_utf8_lossy(&status.stdout);
    if let Some(skipped) = output.lines().find(|line| line.contains("skipped: ")) {
        println!("{skipped}");
    }
    assert!(status.status.success(), "{}\n{output}\n{}", status.status, String::from_utf8_lossy(&status.stderr));
}

fn start(name: &str, argument: &str) -> Child {
    let test = format!("store::tests::processes::{name}");
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &test, "--nocapture", "--test-threads=1"])
        .env(CHILD, name)
        .env(ARGUMENT, argument)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn skip(why: &str) {
    println!("skipped: {why}");
}

/// A store with one generation of revision 1.
fn store() -> (tempfile::TempDir, Publisher) {
    let directory = tempfile::tempdir().unwrap();
    let mut publisher = publisher(directory.path());
    publish(&mut publisher, 1);
    (directory, publisher)
}

#[test]
fn no_byte_of_a_control_page_can_fault_a_reader() {
    in_a_child("no_byte_of_a_control_page_can_fault_a_reader", || {
        let (directory, publisher) = store();
        drop(publisher);
        let path = directory.path().join("v1/control");
        let good = fs::read(&path).unwrap();
        let (mut opened, mut refused) = (0, 0);
        let mut attempt = || match open(directory.path()) {
            Ok(reader) => {
                assert_eq!(value(&reader), Some(1), "an altered page can't make up a segment");
                let _ = reader.status();
                opened += 1;
            }
            Err(error) => {
                assert!(!error.to_string().is_empty());
                refused += 1;
            }
        };
        for at in 0..512 {
            for change in [0x01, 0x80, 0xff] {
                let mut altered = good.clone();
                altered[at] ^= change;
                fs::write(&path, &altered).unwrap();
                attempt();
                let _ = inspect_control(directory.path());
            }
        }
        for length in (0..130).chain([256, 320, 384, 512, 4_095]) {
            fs::write(&path, &good[..length]).unwrap();
            attempt();
            inspect_control(directory.path()).expect_err("a short page");
        }
        fs::write(&path, [good.as_slice(), b"x"].concat()).unwrap();
        attempt();
        // Identity (40 bytes), the current record (64) and its choice (1 bit of 3 changes of the version) are checked; the
        // rest is the other record, what the writer says about itself, and reserved.
        assert!(refused >= (40 + 64) * 3 && opened > 100, "{refused} refused, {opened} opened");
        fs::write(&path, &good).unwrap();
        assert_eq!(value(&open(directory.path()).unwrap()), Some(1));
    });
}

#[test]
fn no_byte_of_a_segment_can_fault_a_reader() {
    in_a_child("no_byte_of_a_segment_can_fault_a_reader", || {
        let (directory, publisher) = store();
        drop(publisher);
        let path = directory.path().join("v1/segment-1");
        let good = fs::read(&path).unwrap();
        let attempt = |bytes: &[u8]| {
            let _ = fs::remove_file(&path);
            fs::write(&path, bytes).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o444)).unwrap();
            open(directory.path()).map(|reader| value(&reader))
        };
        let mut random = 0x9e37_79b9_7f4a_7c15_u64;
        let payload = std::iter::repeat_with(|| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            128 + usize::try_from(random >> 33).unwrap() % (good.len() - 128)
        });
        for at in (0..128).chain(payload.take(400)) {
            let mut altered = good.clone();
            altered[at] ^= 0x40;
            attempt(&altered).expect_err("an altered byte");
        }
        for length in (0..=128).chain((129..good.len()).step_by(17)) {
            attempt(&good[..length]).expect_err("a short segment");
        }
        attempt(&[good.as_slice(), b"x"].concat()).expect_err("a long segment");
        assert_eq!(attempt(&good).unwrap(), Some(1));
    });
}

#[test]
fn files_of_the_wrong_owner_mode_or_kind_are_refused() {
    let (directory, publisher) = store();
    drop(publisher);
    let v1 = directory.path().join("v1");
    let untrusted = |what: &str| match open(directory.path()) {
        Err(error @ Error::Untrusted { .. }) => error.to_string(),
        other => panic!("{what}: {other:?}"),
    };
    for name in ["control", "segment-1", ""] {
        let path = v1.join(name);
        let mode = fs::metadata(&path).unwrap().permissions();
        for bad in [0o20, 0o2] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode.mode() | bad)).unwrap();
            let text = untrusted(name);
            assert!(text.contains(v1.join(name).to_str().unwrap().trim_end_matches('/')), "{text}");
            assert!(text.contains("mode 0") && text.contains(&format!("uid {}", geteuid())), "{text}");
        }
        fs::set_permissions(&path, mode).unwrap();
    }
    if geteuid().is_root() {
        std::os::unix::fs::chown(v1.join("segment-1"), Some(54_321), None).unwrap();
        assert!(untrusted("foreign").contains("uid 54321"));
        std::os::unix::fs::chown(v1.join("segment-1"), Some(0), None).unwrap();
    } else {
        skip("a foreign owner needs root");
    }
    fs::rename(v1.join("segment-1"), v1.join("elsewhere")).unwrap();
    symlink("elsewhere", v1.join("segment-1")).unwrap();
    assert!(open(directory.path()).unwrap_err().to_string().contains("symbolic link"));
    fs::remove_file(v1.join("segment-1")).unwrap();
    nix::unistd::mkfifo(&v1.join("segment-1"), nix::sys::stat::Mode::from_bits_truncate(0o444)).unwrap();
    assert!(untrusted("a fifo").contains("regular file"));
    fs::remove_file(v1.join("segment-1")).unwrap();
    fs::rename(v1.join("elsewhere"), v1.join("segment-1")).unwrap();
    assert_eq!(value(&open(directory.path()).unwrap()), Some(1));
}

#[test]
fn another_format_beside_ours_is_named() {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir(directory.path().join("v7")).unwrap();
    match open(directory.path()) {
        Err(Error::UnknownFormat { found, supported, .. }) => assert_eq!((found.as_str(), supported), ("v7", 1)),
        other => panic!("{other:?}"),
    }
    let mut publisher = publisher(directory.path());
    publish(&mut publisher, 1);
    assert_eq!(value(&open(directory.path()).unwrap()), Some(1), "formats live side by side");
}

#[test]
fn a_read_only_directory_is_an_error_for_the_publisher_alone() {
    in_a_child("a_read_only_directory_is_an_error_for_the_publisher_alone", || {
        let (directory, publisher) = store();
        drop(publisher);
        for path in [directory.path().to_path_buf(), directory.path().join("v1")] {
            fs::set_permissions(&path, fs::Permissions::from_mode(0o555)).unwrap();
        }
        fs::set_permissions(directory.path().join("v1/lock"), fs::Permissions::from_mode(0o444)).unwrap();
        fs::set_permissions(directory.path().join("v1/control"), fs::Permissions::from_mode(0o444)).unwrap();
        if geteuid().is_root() {
            nix::unistd::setuid(nix::unistd::Uid::from_raw(65_534)).unwrap();
        }
        let error = Publisher::open(directory.path(), &PublisherOptions::default()).unwrap_err();
        assert!(matches!(error, Error::Io { .. }), "{error}");
        assert_eq!(value(&open(directory.path()).unwrap()), Some(1));
    });
}

/// Mounts a file system of `kilobytes` over `path`, for this process alone; false, and a word why, where that is not allowed.
fn mount_small(path: &Path, kilobytes: usize) -> bool {
    // SAFETY: changes the mount namespace of this child process only.
    if unsafe { libc::unshare(libc::CLONE_NEWNS) } != 0 {
        skip("a mount namespace of its own is not allowed here");
        return false;
    }
    let mount = |source: Option<&str>, target: &Path, kind: &str, flags: libc::c_ulong, data: &str| {
        let text = |text: &str| std::ffi::CString::new(text).unwrap();
        let (source, target) = (source.map(text), text(target.to_str().unwrap()));
        let (kind, data) = (text(kind), text(data));
        let source = source.as_ref().map_or(std::ptr::null(), |source| source.as_ptr());
        // SAFETY: all strings live until the call returns.
        unsafe { libc::mount(source, target.as_ptr(), kind.as_ptr(), flags, data.as_ptr().cast()) == 0 }
    };
    let mounted = mount(None, Path::new("/"), "none", libc::MS_REC | libc::MS_PRIVATE, "")
        && mount(Some("tmpfs"), path, "tmpfs", 0, &format!("size={kilobytes}k,mode=755"));
    if !mounted {
        skip("mounting a tmpfs is not allowed here");
    }
    mounted
}

fn names(publisher: &Publisher) -> BTreeSet<String> {
    let names = fs::read_dir(publisher.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.collect()
}

#[test]
fn a_full_file_system_leaves_the_last_good_generation() {
    in_a_child("a_full_file_system_leaves_the_last_good_generation", || {
        let directory = tempfile::tempdir().unwrap();
        if !mount_small(directory.path(), 256) {
            return;
        }
        let mut publisher = publisher(directory.path());
        publish(&mut publisher, 1);
        let reader = open(directory.path()).unwrap();
        for _ in 0..3 {
            let error = publisher.publish(&vec![7; 1 << 20], &PublishMeta::default()).unwrap_err();
            assert_eq!(error.io_kind(), Some(std::io::ErrorKind::StorageFull), "{error}");
            publisher
                .publish_list("big", |file| (0..1 << 10).try_for_each(|_| file.write_all(&[7; 1 << 10])))
                .expect_err("a list that is too big");
            assert_eq!((value(&reader), reader.status().last_error), (Some(1), None));
        }
        assert_eq!(names(&publisher).len(), 3, "control, lock and the segment: {:?}", names(&publisher));
        publish(&mut publisher, 2);
        assert_eq!(value(&reader), Some(2));
    });
}

#[test]
fn a_full_file_system_costs_the_spare_and_nothing_else() {
    in_a_child("a_full_file_system_costs_the_spare_and_nothing_else", || {
        /// A payload that is worth a spare; the file system has room for three of them and a half.
        const KILOBYTES: usize = 512;
        let directory = tempfile::tempdir().unwrap();
        if !mount_small(directory.path(), KILOBYTES * 7 / 2) {
            return;
        }
        let mut publisher = publisher(directory.path());
        let try_to_publish = |publisher: &mut Publisher, value: u64, kilobytes: usize| {
            publisher.publish(&Words::bytes(value, kilobytes << 7), &PublishMeta::default()).map_err(|e| e.io_kind())
        };
        let is = |names: BTreeSet<String>, segments: &[&str]| {
            let expected = segments.iter().chain(&["control", "lock", "filler"]).map(|name| (*name).to_owned());
            assert_eq!(names, expected.collect());
        };
        let full = Err(Some(std::io::ErrorKind::StorageFull));
        let filler = directory.path().join("v1/filler");
        let fill = |kilobytes| fs::write(&filler, vec![1; kilobytes << 10]).unwrap();
        fill(0);
        assert_eq!(try_to_publish(&mut publisher, 1, KILOBYTES), Ok(Generation(1)));
        let reader = open(directory.path()).unwrap();
        // A large segment is looked through a part at each check.
        let follows = |now| eventually("the new generation", || value(&reader) == Some(now));

        // No room for the spare: as if it had not been asked for.
        fill(KILOBYTES * 9 / 4);
        publisher.prepare();
        is(names(&publisher), &["segment-1"]);
        assert_eq!(try_to_publish(&mut publisher, 2, KILOBYTES), full);
        is(names(&publisher), &["segment-1"]);
        fill(0);
        assert_eq!(try_to_publish(&mut publisher, 2, KILOBYTES), Ok(Generation(2)));
        follows(2);

        // A spare has the room that its segment takes, however full the file system is.
        publisher.prepare();
        is(names(&publisher), &["segment-1", "segment-2", ".spare.tmp"]);
        fill(KILOBYTES * 3 / 8);
        assert_eq!(try_to_publish(&mut publisher, 3, KILOBYTES), Ok(Generation(3)));
        follows(3);

        // The spare is too small for the next segment, and there is no room for more, with it or without.
        publisher.prepare();
        is(names(&publisher), &["segment-2", "segment-3", ".spare.tmp"]);
        for _ in 0..2 {
            assert_eq!(try_to_publish(&mut publisher, 4, KILOBYTES * 2), full);
            is(names(&publisher), &["segment-2", "segment-3"]);
            assert_eq!((value(&reader), reader.status().last_error), (Some(3), None));
        }

        // The spare gives up its room where the next segment needs another file.
        publisher.prepare();
        let half = Words::bytes(4, KILOBYTES << 6);
        publisher.publish_parts(&[&half, &half], &PublishMeta::default()).unwrap();
        is(names(&publisher), &["segment-3", "segment-4"]);
        follows(4);
        drop(publisher);
        assert!(!directory.path().join("v1/.spare.tmp").exists());
    });
}

#[test]
fn updates_go_on_after_chroot() {
    in_a_child("updates_go_on_after_chroot", || {
        let (directory, mut publisher) = store();
        let reader = open(directory.path()).unwrap();
        let jail = tempfile::tempdir().unwrap();
        if let Err(errno) = nix::unistd::chroot(jail.path()) {
            return skip(&format!("chroot is not allowed here ({errno})"));
        }
        std::env::set_current_dir("/").unwrap();
        assert!(!directory.path().exists());
        publish(&mut publisher, 2);
        assert_eq!(value(&reader), Some(2));
        thread::sleep(Duration::from_millis(1_100));
        assert_eq!(reader.status().last_error, None, "looking at the path does no harm");
        publish(&mut publisher, 3);
        assert_eq!(value(&reader), Some(3));
        // What they clean up after themselves is out of reach.
        std::mem::forget((directory, jail));
    });
}

#[test]
fn closed_and_reused_descriptors_are_noticed() {
    in_a_child("closed_and_reused_descriptors_are_noticed", || {
        let (directory, mut publisher) = store();
        let before = fs::read_dir("/proc/self/fd").unwrap().count();
        let reader = open(directory.path()).unwrap();
        assert_eq!(fs::read_dir("/proc/self/fd").unwrap().count(), before + 1, "one descriptor is kept");
        let directories = fs::read_dir("/proc/self/fd").unwrap().filter_map(|entry| {
            let entry = entry.unwrap();
            let fd: i32 = entry.file_name().to_str().unwrap().parse().unwrap();
            (fs::read_link(entry.path()).ok()? == directory.path().join("v1")).then_some(fd)
        });
        let fd = directories.max().unwrap();
        // As a daemon closes what it doesn't know; then something else gets the number.
        let other = fs::File::open("/").unwrap();
        // SAFETY: replaces a descriptor whose owner checks that it is its own before it uses or closes it.
        assert_eq!(unsafe { libc::dup2(other.as_raw_fd(), fd) }, fd);
        publish(&mut publisher, 2);
        eventually("reopening", || {
            let _ = reader.status();
            value(&reader) == Some(2)
        });
        drop(reader);
        // SAFETY: only asks whether the descriptor is open.
        assert_ne!(unsafe { libc::fcntl(fd, libc::F_GETFD) }, -1, "a foreign descriptor was closed");
    });
}

/// Refuses system calls to the calling thread: those numbers fail with EPERM.
fn forbid(numbers: &[libc::c_long]) -> bool {
    let statement = |code: u32, k: u32| libc::sock_filter { code: u16::try_from(code).unwrap(), jt: 0, jf: 0, k };
    // Load the number of the system call, the first word of seccomp_data.
    let mut program = vec![statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0)];
    for number in numbers {
        let number = u32::try_from(*number).unwrap();
        let equal = statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, number);
        program.push(libc::sock_filter { jf: 1, ..equal });
        program.push(statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ERRNO | libc::EPERM.cast_unsigned()));
    }
    program.push(statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW));
    let program = libc::sock_fprog { len: u16::try_from(program.len()).unwrap(), filter: program.as_ptr().cast_mut() };
    // SAFETY: takes no pointers.
    if unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) } != 0 {
        return false;
    }
    // SAFETY: `program` and what it points at live until the call returns.
    unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) == 0 }
}

#[test]
fn a_filter_that_forbids_opening_leaves_the_old_generation() {
    in_a_child("a_filter_that_forbids_opening_leaves_the_old_generation", || {
        let (directory, mut publisher) = store();
        let reader = open(directory.path()).unwrap();
        // The filter is this thread's alone.
        thread::scope(|scope| {
            let (ready, filtered) = std::sync::mpsc::channel();
            let (go_on, published) = std::sync::mpsc::channel();
            let reader = &reader;
            let filtered_thread = scope.spawn(move || {
                #[cfg(target_arch = "x86_64")]
                let forbidden = forbid(&[libc::SYS_openat, libc::SYS_open, libc::SYS_membarrier]);
                #[cfg(not(target_arch = "x86_64"))]
                let forbidden = forbid(&[libc::SYS_openat, libc::SYS_membarrier]);
                ready.send(()).unwrap();
                if !forbidden {
                    return skip("seccomp filters are not allowed here");
                }
                published.recv().unwrap();
                assert_eq!(value(reader), Some(1));
                let status = reader.status();
                assert_eq!((status.generation, status.state), (1, State::Stale));
                let text = status.last_error.unwrap();
                assert!(text.contains("generation 2 refused") && text.contains("segment-2"), "{text}");
            });
            filtered.recv().unwrap();
            publish(&mut publisher, 2);
            let _ = go_on.send(());
            filtered_thread.join().unwrap();
        });
        // A thread that may still open gets it at the next look.
        eventually("the next look", || {
            let _ = reader.status();
            value(&reader) == Some(2)
        });
    });
}

#[test]
fn a_filter_that_forbids_membarrier_delays_freeing_and_breaks_nothing() {
    in_a_child("a_filter_that_forbids_membarrier_delays_freeing_and_breaks_nothing", || {
        let (directory, mut publisher) = store();
        let reader = open(directory.path()).unwrap();
        if !forbid(&[libc::SYS_membarrier]) {
            return skip("seccomp filters are not allowed here");
        }
        publish(&mut publisher, 2);
        assert_eq!(value(&reader), Some(2));
        publish(&mut publisher, 3);
        assert_eq!(value(&reader), Some(3));
        eventually("freeing", || {
            thread::sleep(Duration::from_millis(100));
            reader.status().generations_mapped == 1
        });
        publish(&mut publisher, 4);
        assert_eq!((value(&reader), reader.status().generations_mapped), (Some(4), 1));
    });
}

/// A payload that takes as long to open as it is told.
struct Slow(u64);

static OPENING: AtomicBool = AtomicBool::new(false);
static MAY_OPEN: AtomicBool = AtomicBool::new(true);

impl Payload for Slow {
    fn open(bytes: Region, files: &dyn Files, _previous: Option<&Self>) -> Result<Self, Error> {
        OPENING.store(true, Ordering::SeqCst);
        while !MAY_OPEN.load(Ordering::SeqCst) {
            thread::sleep(Duration::from_millis(1));
        }
        Ok(Slow(Words::open(bytes, files, None)?.value()))
    }
}

#[test]
fn a_child_forked_in_the_middle_of_an_update_goes_on_by_itself() {
    in_a_child("a_child_forked_in_the_middle_of_an_update_goes_on_by_itself", || {
        let (directory, mut publisher) = store();
        let reader = Reader::<Slow>::open(&OpenOptions::new().store(directory.path())).unwrap();
        let value = |reader: &Reader<Slow>| reader.enter().payload().map(|payload| payload.0);
        assert_eq!(value(&reader), Some(1));
        let (done, is_inside) = (AtomicBool::new(false), AtomicBool::new(false));
        thread::scope(|scope| {
            // One thread stays inside an evaluation, one in the middle of the swap.
            let inside = scope.spawn(|| {
                let guard = reader.enter();
                is_inside.store(true, Ordering::SeqCst);
                while !done.load(Ordering::SeqCst) {
                    thread::sleep(Duration::from_millis(1));
                }
                assert_eq!(guard.payload().unwrap().0, 1);
            });
            eventually("entering", || is_inside.load(Ordering::SeqCst));
            MAY_OPEN.store(false, Ordering::SeqCst);
            OPENING.store(false, Ordering::SeqCst);
            publish(&mut publisher, 2);
            let swapping = scope.spawn(|| value(&reader));
            eventually("swapping", || OPENING.load(Ordering::SeqCst));
            assert_eq!(value(&reader), Some(1), "others go on with the old one meanwhile");

            // SAFETY: the C library's allocator survives a fork, and nothing else of the parent's threads is needed.
            match unsafe { fork() }.unwrap() {
                ForkResult::Child => {
                    MAY_OPEN.store(true, Ordering::SeqCst);
                    let ok = value(&reader) == Some(2)
                        && thread::scope(|scope| scope.spawn(|| value(&reader)).join().unwrap()) == Some(2)
                        && reader.status().last_error.is_none();
                    // SAFETY: leaves without running anything of the parent's.
                    unsafe { libc::_exit(i32::from(!ok)) }
                }
                ForkResult::Parent { child } => {
                    assert_eq!(waitpid(child, None).unwrap(), WaitStatus::Exited(child, 0));
                }
            }
            MAY_OPEN.store(true, Ordering::SeqCst);
            assert_eq!(swapping.join().unwrap(), Some(2));
            // A child forked now forgets the thread that is inside, and frees what it held.
            // SAFETY: as above.
            match unsafe { fork() }.unwrap() {
                ForkResult::Child => {
                    publish(&mut publisher, 3);
                    let ok = value(&reader) == Some(3) && reader.status().generations_mapped == 1;
                    // SAFETY: leaves without running anything of the parent's.
                    unsafe { libc::_exit(i32::from(!ok)) }
                }
                ForkResult::Parent { child } => {
                    assert_eq!(waitpid(child, None).unwrap(), WaitStatus::Exited(child, 0));
                }
            }
            assert_eq!(value(&reader), Some(3));
            assert_eq!(reader.status().generations_mapped, 2, "the one that a thread is inside of stays");
            done.store(true, Ordering::SeqCst);
            inside.join().unwrap();
        });
    });
}

static SIGNALLED: OnceLock<Reader<Words>> = OnceLock::new();
thread_local! {
    static HANDLED: Cell<u64> = const { Cell::new(0) };
}

extern "C" fn evaluate_in_a_handler(_signal: libc::c_int) {
    if let Some(reader) = SIGNALLED.get() {
        let guard = reader.enter();
        let whole = guard.payload().is_some_and(|words| words.0.chunks_exact(8).all(|word| word == &words.0[..8]));
        if !whole {
            std::process::abort();
        }
        HANDLED.set(HANDLED.get() + 1);
    }
}

#[test]
fn evaluations_in_signal_handlers_interrupt_evaluations() {
    in_a_child("evaluations_in_signal_handlers_interrupt_evaluations", || {
        let (directory, mut publisher) = store();
        let reader = SIGNALLED.get_or_init(|| open(directory.path()).unwrap());
        let action = SigAction::new(SigHandler::Handler(evaluate_in_a_handler), SaFlags::SA_RESTART, SigSet::empty());
        // SAFETY: the handler evaluates, which may interrupt anything, and counts.
        unsafe { sigaction(Signal::SIGUSR1, &action) }.unwrap();
        // SAFETY: takes no pointers.
        let evaluating = unsafe { libc::pthread_self() };
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::SeqCst) {
                    // SAFETY: the thread lives until this one was joined.
                    unsafe { libc::pthread_kill(evaluating, libc::SIGUSR1) };
                    thread::yield_now();
                }
            });
            scope.spawn(|| {
                for round in 2..500 {
                    publish(&mut publisher, round);
                    thread::yield_now();
                }
            });
            let mut last = 0;
            while HANDLED.get() < 2_000 || last < 499 {
                let guard = reader.enter();
                assert!(guard.generation().0 >= last, "a generation went back");
                last = guard.generation().0;
            }
            done.store(true, Ordering::SeqCst);
        });
        assert_eq!(value(reader), Some(499));
    });
}

/// The steps of a publication, in order.
const STEPS: [&str; 8] = ["begin", "created", "reserved", "written", "protected", "renamed", "switched", "swept"];
/// Those of a control page's replacement.
const CONTROL_STEPS: [&str; 2] = ["old control page moved", "new control page written"];

#[test]
fn a_publisher_killed_at_any_step_is_not_noticed_by_readers() {
    const NAME: &str = "a_publisher_killed_at_any_step_is_not_noticed_by_readers";
    if std::env::var_os(CHILD).is_some_and(|child| child == NAME) {
        // Argument: the directory, the step to die at (or none), and the revision to publish.
        let argument = std::env::var(ARGUMENT).unwrap();
        let [set, fatal, revision] = argument.split('\n').collect::<Vec<_>>().try_into().unwrap();
        let fatal = fatal.to_owned();
        fault::on_step(move |step| {
            if step == fatal {
                nix::sys::signal::kill(nix::unistd::getpid(), Signal::SIGKILL).unwrap();
            }
        });
        let mut publisher = publisher(Path::new(set));
        publish(&mut publisher, revision.parse().unwrap());
        std::process::exit(0);
    }

    let (directory, first) = store();
    drop(first);
    let reader = open(directory.path()).unwrap();
    let run = |step: &str, revision: u64| {
        let child = start(NAME, &format!("{}\n{step}\n{revision}", directory.path().display()));
        child.wait_with_output().unwrap().status
    };
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let (mut last, mut reads) = (0, 0u64);
            while !done.load(Ordering::Relaxed) {
                let guard = reader.enter();
                let words = guard.payload().unwrap();
                assert!(words.0.chunks_exact(8).all(|word| word == words.value().to_le_bytes()), "torn");
                assert!(guard.generation().0 >= last, "a generation went back");
                last = guard.generation().0;
                reads += 1;
                drop(guard);
                if reads % 1_000 == 0 {
                    thread::yield_now();
                }
            }
        });
        let mut revision = 1;
        for step in STEPS {
            revision += 1;
            assert_eq!(run(step, revision).signal(), Some(libc::SIGKILL), "{step}");
            let switched = ["switched", "swept"].contains(&step);
            let expected = if switched { revision } else { revision - 1 };
            eventually(step, || value(&reader) == Some(expected));
            assert_eq!(open(directory.path()).map(|fresh| value(&fresh)).unwrap(), Some(expected), "{step}");
            assert!(!reader.status().last_error.is_some_and(|error| error.contains("refused")));
            revision += 1;
            assert!(run("", revision).success(), "the next publisher after {step}");
            eventually("the next generation", || value(&reader) == Some(revision));
            let names = fs::read_dir(directory.path().join("v1")).unwrap();
            let names: Vec<_> = names.map(|entry| entry.unwrap().file_name()).collect();
            assert!(names.len() <= 4, "left behind after {step}: {names:?}");
        }
        for step in CONTROL_STEPS {
            let control = fs::File::options().write(true).open(directory.path().join("v1/control")).unwrap();
            control.write_all_at(b"damaged!", 24).unwrap();
            assert_eq!(run(step, 0).signal(), Some(libc::SIGKILL), "{step}");
            revision += 1;
            assert!(run("", revision).success(), "the next publisher after {step}");
            eventually("the new control page", || {
                let _ = reader.status();
                value(&reader) == Some(revision)
            });
        }
        done.store(true, Ordering::Relaxed);
    });
}

#[test]
fn ended_threads_give_their_slots_back() {
    in_a_child("ended_threads_give_their_slots_back", || {
        let (directory, mut publisher) = store();
        let reader = open(directory.path()).unwrap();
        for _ in 0..200 {
            thread::scope(|scope| scope.spawn(|| assert_eq!(value(&reader), Some(1))).join().unwrap());
        }
        assert!(reclaim::slot_count() < 20, "{} slots", reclaim::slot_count());
        // A guard that is never dropped costs its thread's slot and its generation, and nobody else anything.
        thread::scope(|scope| scope.spawn(|| std::mem::forget(reader.enter())).join().unwrap());
        thread::scope(|scope| scope.spawn(|| assert_eq!(value(&reader), Some(1))).join().unwrap());
        publish(&mut publisher, 2);
        assert_eq!((value(&reader), reader.status().generations_mapped), (Some(2), 2));
    });
}
