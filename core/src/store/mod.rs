//! Published generations in a directory, and a pinned view of the current one.
//!
//! A [`Publisher`] (one a set, usually flagsd) writes a *segment* file for each generation and then switches the record of
//! the *control page*; any number of [`Reader`]s, in any number of processes, map both read-only and notice the switch by
//! one load. What a segment's payload means is the [`Payload`]'s business.
//!
//! - [`layout`]: every byte of the two files (`docs/format.md` draws them)
//! - `latch`: how a record is read whole without ever waiting for the writer
//! - `region`: mapped memory, and the directory through which every file is opened and checked
//! - `publish`, `reader`: the two sides
//! - `incoming`: a new segment, read through in parts
//! - `reclaim`, `list`: when the memory of an old generation may go
//! - `version`: whether what a process holds is the newest
//! - `segment`: single segment files, for a last known good and for tools

pub(crate) mod latch;
mod list;
pub(crate) mod reclaim;
pub(crate) mod version;

#[cfg(not(loom))]
pub(crate) mod clock;
#[cfg(not(loom))]
mod incoming;
#[cfg(not(loom))]
pub mod layout;
#[cfg(not(loom))]
pub(crate) mod process;
#[cfg(not(loom))]
mod publish;
#[cfg(not(loom))]
mod reader;
#[cfg(not(loom))]
mod region;
#[cfg(not(loom))]
mod segment;

#[cfg(not(loom))]
pub use self::{
    layout::{Record, SegmentHeader, list_name},
    publish::{PublishMeta, Publisher, PublisherOptions},
    reader::{Guard, OpenOptions, Payload, Pinned, Reader},
    region::{Files, MemoryFiles, Region, StoreDir},
    segment::{ControlSummary, SegmentFile, inspect_control},
};

#[cfg(all(not(loom), any(test, feature = "fault-injection")))]
pub use self::publish::injection as fault;
#[cfg(all(not(loom), test))]
mod tests;

/// Number of a published generation: grows by one with each, from 1; 0 is "none yet".
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Generation(pub u64);

impl std::fmt::Display for Generation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// What the publisher says about how current its store is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[repr(u64)]
pub enum WriterState {
    /// It follows its sources.
    #[default]
    Fresh = 0,
    /// It has lost a source, or could not publish what it got.
    Stale = 1,
    /// It was told to stay at this generation.
    Frozen = 2,
}
