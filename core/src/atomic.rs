//! The only file that names `std::sync::atomic`: under `cfg(loom)` the same names are loom's, so that the latch, the
//! hazard slots and the lock are model-checked as they are written.

#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicPtr, AtomicU64, Ordering, fence};
#[cfg(not(loom))]
pub(crate) use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering, compiler_fence, fence};

/// A memory ordering that a `cfg(flags_mutant)` build weakens to `Relaxed`, to prove that a loom model notices.
///
/// Mutants replace one ordering or leave out one fence each; see `ci/loom.sh`.
macro_rules! ordering {
    ($name:literal, $order:ident) => {
        if cfg!(flags_mutant = $name) { $crate::atomic::Ordering::Relaxed } else { $crate::atomic::Ordering::$order }
    };
}
pub(crate) use ordering;
