//! The peers, each with the flags of `definitions` in its own terms.

pub(crate) mod datalogic;
pub(crate) mod eppo;
pub(crate) mod lmdb;
pub(crate) mod mmap_sync;
pub(crate) mod yggdrasil;

pub(crate) const LIBFLAGS: &str = "libflags";
pub(crate) const YGGDRASIL: &str = "unleash-yggdrasil";
pub(crate) const EPPO: &str = "eppo_core";
pub(crate) const DATALOGIC: &str = "datalogic-rs";
pub(crate) const MMAP_SYNC: &str = "mmap-sync";
pub(crate) const ARC_SWAP: &str = "HashMap in an ArcSwap";
pub(crate) const RWLOCK: &str = "HashMap in a RwLock";
pub(crate) const LMDB: &str = "LMDB (heed)";

use std::collections::HashMap;

use crate::definitions;

/// `number` static flags as a plain map.
pub(crate) fn map(number: usize) -> HashMap<String, bool> {
    (0..number).map(|index| (definitions::key(index), definitions::answer(index))).collect()
}
