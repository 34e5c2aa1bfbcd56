//! mmap-sync, as its documentation has it: one writer, readers that let go within the writer's grace period.

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use ::mmap_sync::synchronizer::Synchronizer;
use anyhow::{Result, anyhow, ensure};
use bytecheck::CheckBytes;
use rkyv::{Archive, Deserialize, Serialize};

use crate::days;
use crate::system::{Meanwhile, System, Version, Written};

pub(crate) struct MmapSync;

#[derive(Archive, Serialize, Deserialize)]
#[archive_attr(derive(CheckBytes))]
struct Numbers {
    list: Vec<u32>,
}

/// How long a writer waits for readers.
pub(crate) const GRACE: Duration = Duration::from_secs(1);

fn synchronizer(folder: &Path) -> Synchronizer {
    Synchronizer::new(folder.join("numbers").as_os_str())
}

impl System for MmapSync {
    const NAME: &'static str = "mmap-sync";
    type Writer = Synchronizer;
    type Reader = Synchronizer;

    fn writer(folder: &Path) -> Result<Synchronizer> {
        Ok(synchronizer(folder))
    }

    fn write(writer: &mut Synchronizer, version: Version) -> Result<Written> {
        let numbers = Numbers { list: vec![version.number; version.length] };
        let (_, gave_up_waiting) = writer.write(&numbers, GRACE).map_err(|error| anyhow!("{error}"))?;
        Ok(Written { gave_up_waiting })
    }

    fn reader(folder: &Path) -> Result<Synchronizer> {
        Ok(synchronizer(folder))
    }

    fn read(reader: &mut Synchronizer) -> Result<Version> {
        // SAFETY: `Numbers` is what `write` wrote, checked, and the result is dropped at once.
        let numbers = unsafe { reader.read::<Numbers>(true) }.map_err(|error| anyhow!("{error}"))?;
        Version::from_list(numbers.list.iter().copied())
    }

    fn hold(reader: &mut Synchronizer, meanwhile: impl FnOnce() -> Result<Meanwhile>) -> Result<Version> {
        // SAFETY: not kept on purpose: this is what a reader does that is stopped between two instructions. The list that it
        // holds is of the same length in every version, and of plain numbers.
        let numbers = unsafe { reader.read::<Numbers>(true) }.map_err(|error| anyhow!("{error}"))?;
        match meanwhile()? {
            Meanwhile::ReadOn => Version::from_list(numbers.list.iter().copied()),
            Meanwhile::LetGo => Ok(Version::of(0)),
        }
    }
}

/// What a program had before its second field came first.
#[derive(Archive, Serialize, Deserialize)]
#[archive_attr(derive(CheckBytes))]
struct Old {
    percent: u32,
    limit: u32,
}

#[derive(Archive, Serialize, Deserialize)]
#[archive_attr(derive(CheckBytes))]
struct New {
    limit: u32,
    percent: u32,
}

/// A value whose type has other fields in the reader, and a data file that is cut short.
pub(crate) fn foreign_format() -> Result<String> {
    let folder = days::folder()?;
    synchronizer(folder.path()).write(&Old { percent: 5, limit: 1_000 }, GRACE).map_err(|error| anyhow!("{error}"))?;
    let mut reader = synchronizer(folder.path());
    // SAFETY: both types are two plain numbers, and it is checked that the bytes are such.
    let read = unsafe { reader.read::<New>(true) }.map_err(|error| anyhow!("{error}"));
    let misread = read.is_ok_and(|new| (new.limit, new.percent) == (5, 1_000));
    let file = File::options().write(true).open(folder.path().join("numbers_data_0"))?;
    file.set_len(4)?;
    let mut later = synchronizer(folder.path());
    // SAFETY: as above.
    let cut_short = unsafe { later.read::<New>(true) }.is_err();
    ensure!(cut_short, "a file that is cut short is not refused");
    ensure!(misread, "another type is noticed");
    Ok("not noticed: a reader whose type has the same fields in another order reads one for the other, checked or not; a file cut short \
        is refused"
        .to_owned())
}
