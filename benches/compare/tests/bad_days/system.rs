//! What every system can do.

use std::path::Path;

use anyhow::Result;

/// What is stored: so many numbers, all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Version {
    pub(crate) number: u32,
    pub(crate) length: usize,
}

impl Version {
    /// What is kept on most days.
    pub(crate) fn of(number: u32) -> Self {
        Self { number, length: 500 }
    }

    /// Reads a list back; an error where it mixes versions.
    pub(crate) fn from_list(list: impl IntoIterator<Item = u32>) -> Result<Self> {
        let mut list = list.into_iter();
        let number = list.next().unwrap_or_default();
        let rest: Vec<u32> = list.collect();
        anyhow::ensure!(rest.iter().all(|other| *other == number), "a mixture of versions");
        Ok(Self { number, length: rest.len() + 1 })
    }
}

/// What a write took notice of.
#[derive(Default)]
pub(crate) struct Written {
    /// The writer found readers that did not end, and went on without them.
    pub(crate) gave_up_waiting: bool,
}

/// A way to hand one process' data to others through files.
pub(crate) trait System {
    const NAME: &'static str;
    type Writer;
    type Reader;

    fn writer(folder: &Path) -> Result<Self::Writer>;

    fn write(writer: &mut Self::Writer, version: Version) -> Result<Written>;

    fn reader(folder: &Path) -> Result<Self::Reader>;

    fn read(reader: &mut Self::Reader) -> Result<Version>;

    /// Begins to read, calls `meanwhile`, and says what it reads then in what it has begun with. Dropped within `meanwhile` by a
    /// forked child, see `end_inherited`.
    fn hold(reader: &mut Self::Reader, meanwhile: impl FnOnce() -> Result<Meanwhile>) -> Result<Version>;

    /// Does what the system's documentation advises against readers that died, and says how many it found.
    fn clear_dead_readers(_: &Self::Writer) -> Result<usize> {
        Ok(0)
    }

    /// Opens the files anew in a forked child, whose parent has them open.
    fn reopen(folder: &Path) -> Result<Version> {
        Self::read(&mut Self::reader(folder)?)
    }
}

/// What a holder of a read does when `meanwhile` is over.
pub(crate) enum Meanwhile {
    /// Reads what it holds, and lets go of it.
    ReadOn,
    /// Lets go of it, as a forked child does that has no use for what its parent was reading.
    LetGo,
}
