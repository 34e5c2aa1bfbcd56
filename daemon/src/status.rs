//! What a status shows. Its JSON is described in `docs/operations.md`.

use std::path::PathBuf;

use serde::Serialize;
use serde_json::Value;

use crate::keep::{Frozen, Kept};
use crate::metrics::Counters;
use crate::source::SourceReport;

/// All of it.
#[derive(Debug, Serialize)]
pub(crate) struct Status {
    pub(crate) version: &'static str,
    pub(crate) pid: u32,
    pub(crate) started_ms: u64,
    pub(crate) uptime_seconds: u64,
    pub(crate) state_dir: Option<PathBuf>,
    pub(crate) sets: Vec<SetStatus>,
}

/// One flag set.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct SetStatus {
    pub(crate) name: String,
    pub(crate) store: PathBuf,
    pub(crate) selector: Option<String>,
    pub(crate) state: SetState,
    /// 0 before anything was published.
    pub(crate) generation: u64,
    pub(crate) revision: u64,
    pub(crate) flags: u64,
    pub(crate) published_ms: Option<u64>,
    /// When the sources last said that what is published is current.
    pub(crate) confirmed_ms: Option<u64>,
    pub(crate) age_seconds: Option<f64>,
    pub(crate) max_age_seconds: f64,
    pub(crate) sources: Vec<SourceReport>,
    /// Each problem as `check` prints it, the first [`MOST_SHOWN`].
    pub(crate) problems: Vec<Value>,
    pub(crate) problem_count: usize,
    pub(crate) broken: Vec<BrokenFlag>,
    pub(crate) broken_count: usize,
    /// Why what the sources say is not published.
    pub(crate) refused: Option<Trouble>,
    pub(crate) held: Option<HeldChange>,
    /// Why it could not be written to the store; it is tried again.
    pub(crate) publish_error: Option<Trouble>,
    /// Why it could not be written to the state directory.
    pub(crate) keep_error: Option<Trouble>,
    pub(crate) frozen: Option<Frozen>,
    /// The sources say something else than what is published, and that waits for `unfreeze`.
    pub(crate) changes_waiting: bool,
    pub(crate) overrides: Vec<OverrideReport>,
    /// What `rollback` can go back to, the newest first.
    pub(crate) kept: Vec<Kept>,
    #[serde(skip)]
    pub(crate) counters: Counters,
    /// Every source was looked at, and something is published.
    pub(crate) ready: bool,
}

/// How many problems, flags and keys a status names at most.
pub(crate) const MOST_SHOWN: usize = 100;

/// As the store's control page says.
#[derive(Clone, Copy, Debug, Default, Serialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(crate) enum SetState {
    /// Confirmed by its sources within the maximal age.
    Fresh,
    /// Not so.
    #[default]
    Stale,
    /// An operator froze it.
    Frozen,
}

impl SetState {
    /// The word for it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Fresh => "fresh",
            Self::Stale => "stale",
            Self::Frozen => "frozen",
        }
    }
}

/// Something that went wrong, since when.
#[derive(Clone, Debug, Serialize, PartialEq)]
pub(crate) struct Trouble {
    pub(crate) reason: String,
    pub(crate) since_ms: u64,
}

/// A flag whose definition is broken.
#[derive(Clone, Debug, Serialize, PartialEq, Eq)]
pub(crate) struct BrokenFlag {
    pub(crate) key: String,
    /// `last-good` or `parse-error`.
    pub(crate) served: &'static str,
}

/// A change that waits for `confirm`.
#[derive(Clone, Debug, Serialize, PartialEq)]
pub(crate) struct HeldChange {
    pub(crate) reason: String,
    pub(crate) since_ms: u64,
    pub(crate) flags_before: usize,
    pub(crate) flags_after: usize,
    pub(crate) removed_count: usize,
    pub(crate) disabled_count: usize,
    /// The first of them.
    pub(crate) removed: Vec<String>,
    pub(crate) disabled: Vec<String>,
}

/// A flag whose value is an operator's word.
#[derive(Clone, Debug, Serialize, PartialEq)]
pub(crate) struct OverrideReport {
    pub(crate) key: String,
    pub(crate) value: Value,
    pub(crate) since_ms: u64,
    /// Why it is not in force.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<String>,
}
