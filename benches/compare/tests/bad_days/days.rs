//! The days on which the systems are asked the same.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::mmap_sync::GRACE;
use crate::roles::Role;
use crate::system::{System, Version};

/// A folder in memory, as /run is.
pub(crate) fn folder() -> Result<TempDir> {
    let memory = Path::new("/dev/shm");
    Ok(if memory.is_dir() { TempDir::new_in(memory)? } else { TempDir::new()? })
}

/// What a writer in a process of its own noticed.
struct Report {
    longest: Duration,
    gave_up_waiting: u32,
}

fn write<S: System>(folder: &Path, first: u32, count: u32, length: usize) -> Result<Report> {
    let mut writer =
        Role::start::<S>("write", folder, &[first, count, u32::try_from(length)?].map(|number| number.to_string()))?;
    let said = writer.hear()?;
    let (longest, gave_up) = said.split_once(' ').context("two numbers")?;
    ensure!(writer.child.wait()?.success(), "the writer failed");
    Ok(Report { longest: Duration::from_millis(longest.parse()?), gave_up_waiting: gave_up.parse()? })
}

pub(crate) fn write_once<S: System>(folder: &Path, version: Version) -> Result<()> {
    write::<S>(folder, version.number, 1, version.length).map(|_| ())
}

/// The bytes of all files.
fn bytes(folder: &Path) -> Result<u64> {
    let mut sum = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        sum += if entry.file_type()?.is_dir() { bytes(&entry.path())? } else { entry.metadata()?.len() };
    }
    Ok(sum)
}

fn signal(role: &Role, signal: Signal) -> Result<()> {
    Ok(kill(Pid::from_raw(role.child.id().cast_signed()), signal)?)
}

/// Twelve writers, each killed at some instant while it does nothing but write, while a reader reads.
pub(crate) fn writer_killed<S: System>() -> Result<String> {
    let folder = folder()?;
    write_once::<S>(folder.path(), Version::of(1))?;
    let mut reader = S::reader(folder.path())?;
    let mut last = 1;
    for round in 1..=12 {
        let mut writer = Role::start::<S>("write forever", folder.path(), &[(round * 1_000_000).to_string()])?;
        writer.hear()?;
        // The instant to die at is another one each time.
        for _ in 0..round * 5 {
            let now = S::read(&mut reader)?;
            ensure!(now.number >= last, "it went back from {last} to {}", now.number);
            last = now.number;
        }
        std::thread::sleep(Duration::from_micros(u64::from(round) * 377));
        signal(&writer, Signal::SIGKILL)?;
        writer.child.wait()?;
        let now = S::read(&mut reader)?;
        ensure!(now.number >= last, "it went back from {last} to {}", now.number);
        let next = Version::of(round * 1_000_000 + 900_000);
        write_once::<S>(folder.path(), next)?;
        ensure!(S::read(&mut reader)? == next, "the next writer's version does not show");
        last = next.number;
    }
    Ok("readers keep the last whole version; the next writer goes on".to_owned())
}

/// A reader that is killed in the middle of a read, and 60 writes after it.
pub(crate) fn reader_killed<S: System>() -> Result<String> {
    let calm = folder()?;
    write::<S>(calm.path(), 1, 60, 500)?;
    let folder = folder()?;
    write::<S>(folder.path(), 1, 3, 500)?;
    // Somebody else has it open throughout, as on any host: LMDB's lock file begins anew when nobody has.
    let mut bystander = S::reader(folder.path())?;
    S::read(&mut bystander)?;
    let mut holder = Role::start::<S>("hold", folder.path(), &[])?;
    ensure!(holder.hear()? == "holding", "the reader does not read");
    signal(&holder, Signal::SIGKILL)?;
    holder.child.wait()?;
    let report = write::<S>(folder.path(), 4, 60, 500)?;
    ensure!(S::read(&mut bystander)? == Version::of(63), "the last version does not show");
    let grown = bytes(folder.path())? >= bytes(calm.path())? * 4;
    match (report.gave_up_waiting, grown) {
        (0, false) => Ok("nothing: it leaves nothing behind that others see".to_owned()),
        (1, false) => {
            ensure!(report.longest >= GRACE, "it did not wait");
            Ok("one later write waits for the whole grace period, then goes on".to_owned())
        }
        (0, true) => grows_until_cleared::<S>(folder.path()),
        (times, grown) => bail!("the writer gave up {times} times, the files have grown: {grown}"),
    }
}

/// Whether it ends when the documented remedy is applied.
fn grows_until_cleared<S: System>(folder: &Path) -> Result<String> {
    // A process of its own, as a writer that looks for dead readers now and then has to be one.
    let before = bytes(folder)?;
    let found = Role::start::<S>("clear dead readers", folder, &[])?.hear()?;
    ensure!(found == "1", "{found} dead readers");
    write::<S>(folder, 100, 60, 500)?;
    ensure!(bytes(folder)? < before * 2, "it grows on: from {before} to {}", bytes(folder)?);
    Ok("the file grows with every write until somebody calls `clear_stale_readers`".to_owned())
}

/// A reader that is stopped in the middle of a read for longer than any writer waits, and then reads on.
pub(crate) fn reader_stopped<S: System>() -> Result<String> {
    let (calm, folder) = (folder()?, folder()?);
    write::<S>(calm.path(), 1, 60, 500)?;
    write_once::<S>(folder.path(), Version::of(1))?;
    let mut holder = Role::start::<S>("hold", folder.path(), &[])?;
    ensure!(holder.hear()? == "holding", "the reader does not read");
    signal(&holder, Signal::SIGSTOP)?;
    write::<S>(folder.path(), 2, 60, 500)?;
    let grown = bytes(folder.path())? >= bytes(calm.path())? * 4;
    signal(&holder, Signal::SIGCONT)?;
    holder.say("go on")?;
    match (holder.hear()?.as_str(), grown) {
        ("1", false) => Ok("it reads on in the version it began with".to_owned()),
        ("1", true) => {
            Ok("it reads on in the version it began with; until then the file grows with every write".to_owned())
        }
        (_, false) => Ok(
            "what it was reading is overwritten under it after the grace period: it reads another version or a mixture"
                .to_owned(),
        ),
        (other, true) => bail!("it reads {other}, and the files have grown"),
    }
}

/// A program that opens, forks and goes on in both processes, and one that forks in the middle of a read.
pub(crate) fn fork<S: System>() -> Result<String> {
    let folder = folder()?;
    write_once::<S>(folder.path(), Version::of(1))?;
    let mut idle = Role::start::<S>("fork", folder.path(), &[])?;
    ensure!(idle.hear()? == "forked", "it does not fork");
    write_once::<S>(folder.path(), Version::of(2))?;
    idle.say("read")?;
    let (inherited, anew, parent) = (idle.hear()?, idle.hear()?, idle.hear()?);
    ensure!((inherited.as_str(), parent.as_str()) == ("2", "2"), "child {inherited}, parent {parent}");

    let mut reading = Role::start::<S>("fork while reading", folder.path(), &[])?;
    ensure!(reading.hear()? == "the child is gone", "it does not fork");
    let report = write::<S>(folder.path(), 3, 60, 500)?;
    reading.say("read on")?;
    let held = reading.hear()?;
    ensure!(reading.hear()? == "done", "it does not end");
    let after = write::<S>(folder.path(), 100, 4, 500)?;
    let waits = report.gave_up_waiting + after.gave_up_waiting;
    match (held.as_str(), anew.as_str(), waits) {
        ("2", "2", 0) => Ok("both go on, also from the middle of a read".to_owned()),
        (_, "2", 1..) if held != "2" => {
            Ok("both go on; forked in the middle of a read, the count of readers is wrong: the parent's \
            version is overwritten under it, and a writer waits for its grace period"
                .to_owned())
        }
        (_, "a mixture or nothing", 0) if held != "2" => {
            Ok("documented as not allowed: the child can read with what it \
            inherited, cannot open anew, and forked in the middle of a read it takes the parent's version from under it"
                .to_owned())
        }
        _ => bail!("held: {held}, opened anew: {anew}, waits: {waits}"),
    }
}

/// A small file system that another file fills, and then not any more.
pub(crate) fn full_disk<S: System>() -> Result<String> {
    const LONG: usize = 20_000;
    let around = folder()?;
    let disk = around.path().join("disk");
    fs::create_dir(&disk)?;
    let Some(_mounted) = Mounted::new(&disk)? else {
        return Ok("skipped: only root can mount a small file system".to_owned());
    };
    let folder = disk.join("store");
    fs::create_dir(&folder)?;
    write_once::<S>(&folder, Version::of(1))?;
    let mut reader = S::reader(&folder)?;
    ensure!(S::read(&mut reader)? == Version::of(1), "the first version does not show");
    let filler = disk.join("filler");
    // Until nothing fits any more; the error is what is wanted.
    let filled = fs::write(&filler, vec![1; 32 << 20]);
    ensure!(filled.is_err(), "the disk is too large to be filled");
    let mut writer = Role::start::<S>("write", &folder, &["2".to_owned(), "1".to_owned(), LONG.to_string()])?;
    let status = writer.child.wait()?;
    let refused = status.code() == Some(1);
    let kept = S::read(&mut reader)? == Version::of(1);
    fs::remove_file(&filler)?;
    let next = Version { number: 3, length: LONG };
    write_once::<S>(&folder, next)?;
    let goes_on = S::read(&mut reader)? == next;
    drop(reader);
    ensure!(refused && kept && goes_on, "refused: {refused} ({status}), kept: {kept}, goes on: {goes_on}");
    Ok("the writer gets an error, readers keep the last version; with room again, it goes on".to_owned())
}

/// A file system of some MiB in memory.
struct Mounted<'a>(&'a Path);

impl<'a> Mounted<'a> {
    fn new(place: &'a Path) -> Result<Option<Self>> {
        if !nix::unistd::geteuid().is_root() {
            return Ok(None);
        }
        let output =
            Command::new("mount").args(["-t", "tmpfs", "-o", "size=16m,mode=755", "tmpfs"]).arg(place).output()?;
        Ok(output.status.success().then_some(Self(place)))
    }
}

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.0).status();
    }
}
