//! What travels from the control plane to hosts: signed snapshots and changes of an environment's flags, and the ids of its lists.
//!
//! The control plane writes these texts, caches and relays hand them on as they are, and flagsd checks and applies them. Nothing here knows
//! of HTTP. `docs/design/sync.md` draws the protocol.
#![forbid(unsafe_code)]

mod event;
mod key;
pub mod list;
mod message;
mod sealed;

pub use event::{Event, EventId};
pub use key::{KeyError, PublicKey, SecretKey};
pub use list::{List, Part, PartHash};
pub use message::{Change, Gap, Snapshot, Stamp};
pub use sealed::{SyncError, Trust};
