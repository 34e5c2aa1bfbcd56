//! What a segment's payload is: an rkyv archive of a few flat tables.
//!
//! Every table is made of numbers, which have no invalid bit patterns, so checking an archive means checking where its tables
//! lie; what the numbers say is checked when they are used.

use rkyv::{Archive, Serialize};

/// The tables. The field order is part of the format: what stands first lies first, so the arena starts at byte 0 of the payload and
/// the places of the index, being 16 bytes long and so aligned, each lie within one cache line.
#[derive(Archive, Serialize, Debug)]
pub(crate) struct Tables {
    /// Islands, shared sets and the metadata of flag sets, each starting at a multiple of 16.
    pub(crate) arena: Vec<u8>,
    /// The index by key: a power of two of places.
    pub(crate) places: Vec<u128>,
    /// Of each flag, in the order of their keys: where its island lies, and how long it is.
    pub(crate) flags: Vec<Extent>,
    /// Of each flag set: where its metadata lies, and the number of its entries.
    pub(crate) sets: Vec<Extent>,
    /// Shared sets in the order of their names.
    pub(crate) shared: Vec<Named>,
    /// Id lists in the order of their names; the list itself is the file `list-<name>`.
    pub(crate) lists: Vec<Named>,
    /// What people call the id lists, in the same order.
    pub(crate) list_labels: Vec<String>,
    /// Seeds the hash of keys.
    pub(crate) seed: u64,
    /// How many places one lookup may read.
    pub(crate) probes: u32,
    /// 1 where every key is also indexed behind its flag set's identifier and a NUL, for selectors.
    pub(crate) qualified: u32,
}

/// A part of the arena.
#[derive(Archive, Serialize, Clone, Copy, Debug)]
#[rkyv(derive(Debug))]
pub(crate) struct Extent {
    /// Bytes from the arena's start.
    pub(crate) offset: u32,
    /// Bytes; of a flag set's metadata, the number of its entries.
    pub(crate) len: u32,
}

/// Something called by the hash of its content.
#[derive(Archive, Serialize, Clone, Copy, Debug)]
#[rkyv(derive(Debug))]
pub(crate) struct Named {
    pub(crate) name: u64,
    /// Of a shared set: where in the arena it lies. Of an id list: how many ids it has.
    pub(crate) number: u64,
}

// docs/format.md gives these sizes; a change of either is a change of the format.
const _: () = assert!(size_of::<ArchivedTables>() == 72);
const _: () = assert!(size_of::<ArchivedExtent>() == 8 && size_of::<ArchivedNamed>() == 16);
