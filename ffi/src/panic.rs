//! The border no panic crosses.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs `body`, and answers `otherwise` should it panic.
///
/// A panic here is a defect of this library, and the host process must outlive it. Unwind safety is not in question: what
/// the closures borrow from C is read only, and the engine's own state is atomic words that every reader checks anew.
#[inline(always)]
pub(crate) fn guard<R>(otherwise: R, body: impl FnOnce() -> R) -> R {
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(answer) => answer,
        Err(payload) => {
            // Dropping the payload could panic a second time.
            std::mem::forget(payload);
            otherwise
        }
    }
}

#[cfg(test)]
mod tests {
    use super::guard;

    #[test]
    fn a_panic_becomes_the_other_answer() {
        assert_eq!(guard(1, || 2), 2);
        assert_eq!(guard(1, || panic!("a panic that the test wants")), 1);
    }
}
