//! The clocks of the store, as nanoseconds.

use nix::time::{ClockId, clock_gettime};

/// Wall clock, ns since 1970.
pub(crate) fn wall_ns() -> u64 {
    ns(ClockId::CLOCK_REALTIME)
}

/// Time since boot, sleep included: the same for every process of the host.
pub(crate) fn boottime_ns() -> u64 {
    ns(ClockId::CLOCK_BOOTTIME)
}

pub(crate) fn monotonic_ns() -> u64 {
    ns(ClockId::CLOCK_MONOTONIC)
}

/// Monotonic time to within a timer tick (1 to 10 ms), for a few nanoseconds.
pub(crate) fn coarse_ms() -> u64 {
    ns(ClockId::CLOCK_MONOTONIC_COARSE) / 1_000_000
}

/// 0 if the kernel has no such clock; all it could do is make something look old.
fn ns(clock: ClockId) -> u64 {
    clock_gettime(clock).map_or(0, |time| {
        let part = |value: i64| u64::try_from(value).unwrap_or(0);
        part(time.tv_sec()).saturating_mul(1_000_000_000).saturating_add(part(time.tv_nsec()))
    })
}
