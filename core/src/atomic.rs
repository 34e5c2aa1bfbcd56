//! The only file that names `std::sync::atomic`: under `cfg(loom)` the same names are loom's, so that the latch, the
//! hazard slots and the lock are model-checked as they are written.

#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicPtr, AtomicU64, Ordering, fence};
#[cfg(not(loom))]
pub(crate) use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering, compiler_fence, fence};

/// Whether this build is the mutant of that name, which leaves out one fence or weakens one ordering: a loom model must
/// then fail, which proves that it is needed. Chosen by `cfg(flags_mutant = "name")`, or, in a build with
/// `cfg(flags_mutant = "chosen")`, by `FLAGS_MUTANT` as the models are run; see `ci/loom.sh`.
macro_rules! mutant {
    ($name:literal) => {
        cfg!(flags_mutant = $name) || $crate::atomic::is_chosen_mutant($name)
    };
}

/// A memory ordering that the mutant of that name weakens to `Relaxed`.
macro_rules! ordering {
    ($name:literal, $order:ident) => {
        if $crate::atomic::mutant!($name) {
            $crate::atomic::Ordering::Relaxed
        } else {
            $crate::atomic::Ordering::$order
        }
    };
}
pub(crate) use {mutant, ordering};

#[cfg(flags_mutant = "chosen")]
pub(crate) fn is_chosen_mutant(name: &str) -> bool {
    static CHOSEN: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();
    CHOSEN.get_or_init(|| std::env::var("FLAGS_MUTANT").ok()).as_deref() == Some(name)
}

#[cfg(not(flags_mutant = "chosen"))]
#[inline(always)]
pub(crate) const fn is_chosen_mutant(_name: &str) -> bool {
    false
}
