//! Snapshots: all flags of a set, compiled, as bytes that are read where they lie.

pub(crate) mod archive;
mod diff;
mod explain;
pub(crate) mod index;
pub(crate) mod island;
pub(crate) mod list;
mod payload;
pub(crate) mod set;
pub(crate) mod view;

pub use diff::{Change, ChangeKind, diff, flag_set};
pub use explain::{Bucketing, Outcome, Part, Role};
pub use list::{BuiltIdList, IdListBuilder};
pub use payload::{Sizes, Snapshot, SnapshotFlag, list_file, list_len};
pub use view::{Evaluation, Metadata};
