//! Snapshots: all flags of a set, compiled, as bytes that are read where they lie.

pub(crate) mod archive;
pub(crate) mod index;
pub(crate) mod island;
pub(crate) mod list;
pub(crate) mod set;
pub(crate) mod view;

pub use list::{BuiltIdList, IdListBuilder};
pub use view::{Evaluation, Metadata};
