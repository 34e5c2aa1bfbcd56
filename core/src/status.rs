//! What a client can say about its flags: how current they are, and whether anybody keeps them so.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

/// How far the flags that a client answers from can be relied on to be current.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[repr(u8)]
pub enum State {
    /// Confirmed by their source within the maximal age.
    Fresh = 1,
    /// Older than the maximal age, or the publisher or this reader cannot keep up with their source.
    Stale = 2,
    /// Held at this generation on purpose.
    Frozen = 3,
    /// There are none: no store was found, or nothing has been published in it yet.
    Detached = 4,
}

impl State {
    /// The name, lowercase.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            State::Fresh => "fresh",
            State::Stale => "stale",
            State::Frozen => "frozen",
            State::Detached => "detached",
        }
    }
}

/// The state of a client at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Status {
    /// Directory of the set; `None` while detached, and for flags compiled in this process.
    pub path: Option<PathBuf>,
    /// Number of the generation answered from; 0 while there is none.
    pub generation: u64,
    /// Revision of the source that generation was made from; 0 where sources have none.
    pub revision: u64,
    /// When that generation was published, by the publisher's wall clock.
    pub published_at: Option<SystemTime>,
    /// When its source last confirmed it to be current, by the publisher's wall clock; `None` for never.
    pub upstream_confirmed_at: Option<SystemTime>,
    /// Time since it was last confirmed (published, where it never was); `None` while there is none.
    pub age: Option<Duration>,
    /// Age past which the publisher calls it stale; `None` for never.
    pub max_age: Option<Duration>,
    /// How far it can be relied on.
    pub state: State,
    /// Whether the publisher gave a sign of life lately.
    pub daemon_alive: bool,
    /// Why the newest generation, or the store, could not be used; `None` when all is well.
    pub last_error: Option<String>,
    /// Generations that this process holds in memory for this client: the current one, those some thread is still inside
    /// of, and those that are pinned.
    pub generations_mapped: usize,
}
