//! mmap-sync: one archived value in two mapped files, switched by the writer. The flags are a map with their values.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, anyhow};
use bytecheck::CheckBytes;
use mmap_sync::synchronizer::Synchronizer;
use rkyv::{Archive, Deserialize, Serialize};

#[derive(Archive, Serialize, Deserialize)]
#[archive_attr(derive(CheckBytes))]
pub(crate) struct Flags {
    values: HashMap<String, bool>,
}

impl From<HashMap<String, bool>> for Flags {
    fn from(values: HashMap<String, bool>) -> Self {
        Self { values }
    }
}

impl From<Flags> for HashMap<String, bool> {
    fn from(flags: Flags) -> Self {
        flags.values
    }
}

/// Readers let go of what they read within a call, so no writer has to wait.
const GRACE: Duration = Duration::from_secs(1);

pub(crate) fn synchronizer(folder: &Path) -> Synchronizer {
    Synchronizer::new(folder.join("flags").as_os_str())
}

pub(crate) fn write(synchronizer: &mut Synchronizer, flags: &Flags) -> Result<()> {
    synchronizer.write(flags, GRACE).map_err(|error| anyhow!("{error}"))?;
    Ok(())
}

/// Reads the current version and looks the key up in it, unchecked as its documentation recommends for speed.
pub(crate) fn is_on(synchronizer: &mut Synchronizer, key: &str) -> bool {
    // SAFETY: the bytes were written by `write` of this very type and version, and the result is dropped long before the
    // writer's grace period ends.
    let flags = unsafe { synchronizer.read::<Flags>(false) };
    flags.is_ok_and(|flags| flags.values.get(key).copied().unwrap_or(false))
}
