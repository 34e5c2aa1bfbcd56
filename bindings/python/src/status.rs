//! How far a client's flags can be relied on to be current.

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use libflags::State;
use pyo3::prelude::*;

/// How far a client's flags can be relied on to be current, at one moment.
#[pyclass(frozen, get_all, module = "libflags")]
#[derive(Debug)]
pub(crate) struct Status {
    /// ``"fresh"``, ``"stale"``, ``"frozen"`` or ``"detached"``.
    state: &'static str,
    /// Directory of the set.
    path: Option<PathBuf>,
    /// Number of the generation answered from.
    generation: u64,
    /// Revision of the source that generation was made from.
    revision: u64,
    /// When that generation was published, in seconds since 1970.
    published_at: Option<f64>,
    /// When its source last confirmed it to be current, in seconds since 1970.
    confirmed_at: Option<f64>,
    /// Seconds since it was last confirmed.
    age_seconds: Option<f64>,
    /// Age in seconds past which it is stale.
    max_age_seconds: Option<f64>,
    /// Whether the publisher gave a sign of life lately.
    daemon_alive: bool,
    /// Why the newest generation, or the store, could not be used.
    last_error: Option<String>,
    /// Generations that this process holds in memory for this client.
    generations_mapped: usize,
}

impl Status {
    pub(crate) fn new(status: libflags::Status) -> Self {
        Self {
            state: status.state.as_str(),
            generation: status.generation,
            revision: status.revision,
            published_at: status.published_at.and_then(unix_seconds),
            confirmed_at: status.upstream_confirmed_at.and_then(unix_seconds),
            age_seconds: status.age.map(|age| age.as_secs_f64()),
            max_age_seconds: status.max_age.map(|age| age.as_secs_f64()),
            daemon_alive: status.daemon_alive,
            last_error: status.last_error,
            generations_mapped: status.generations_mapped,
            path: status.path,
        }
    }
}

#[pymethods]
impl Status {
    /// Whether there are flags to answer from: the state is not ``"detached"``.
    #[getter]
    fn attached(&self) -> bool {
        self.state != State::Detached.as_str()
    }

    fn __repr__(&self) -> String {
        let Self { state, generation, revision, daemon_alive, .. } = self;
        let daemon_alive = if *daemon_alive { "True" } else { "False" };
        format!("<libflags.Status {state} generation={generation} revision={revision} daemon_alive={daemon_alive}>")
    }
}

fn unix_seconds(time: SystemTime) -> Option<f64> {
    Some(time.duration_since(UNIX_EPOCH).ok()?.as_secs_f64())
}
