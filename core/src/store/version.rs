//! Whether a generation in hand is still the newest: the page's version, and a process' own words about what it holds.

use crate::atomic::{AtomicU64, Ordering, ordering};

/// The newest version there is.
#[inline]
pub(crate) fn newest(page: &AtomicU64) -> u64 {
    // ORDERING: pairs with latch::write and version::advance; whoever was told of a version sees it here, and finds in
    // `current` what a private reader put there before it.
    page.load(ordering!("version_load", Acquire))
}

/// Says on a private page that what `current` points at has been replaced.
pub(crate) fn advance(page: &AtomicU64) {
    // ORDERING: Relaxed; only the holder of the reader's lock stores to it.
    let next = page.load(Ordering::Relaxed).wrapping_add(1);
    // ORDERING: pairs with version::newest; whoever sees it finds what was made current before.
    page.store(next, ordering!("version_store", Release));
}

/// What a process says of a generation that it holds.
pub(crate) struct Standing {
    /// The page's version at which it was last found to be what to answer from.
    version: AtomicU64,
    /// 1 while it stands in for a newer one that was refused.
    stands_in: AtomicU64,
}

impl Standing {
    pub(crate) fn new(version: u64, stands_in: bool) -> Self {
        Standing { version: AtomicU64::new(version), stands_in: AtomicU64::new(u64::from(stands_in)) }
    }

    /// Has evaluations answer from it at this version of the page.
    pub(crate) fn adopt(&self, version: u64, stands_in: bool) {
        // ORDERING: pairs with Standing::lasting; who finds it cleared sees that the version it was set for is not the
        // page's any more.
        self.stands_in.store(u64::from(stands_in), ordering!("standing_flag_store", Release));
        // ORDERING: pairs with Standing::lasting; whoever sees the version sees whether it may be given out.
        self.version.store(version, ordering!("standing_version_store", Release));
    }

    #[inline]
    pub(crate) fn version(&self) -> u64 {
        // ORDERING: Relaxed; compared only. What the generation holds was made visible by reclaim::protect.
        self.version.load(Ordering::Relaxed)
    }

    /// The version to keep with an answer that was read from it; `None` while it stands in for another.
    #[inline]
    pub(crate) fn lasting(&self) -> Option<u64> {
        // ORDERING: pairs with Standing::adopt; makes the flag below visible.
        let version = self.version.load(ordering!("standing_version_load", Acquire));
        // ORDERING: pairs with Standing::adopt; where it was cleared for a later version, that one shows on the page.
        (self.stands_in.load(ordering!("standing_flag_load", Acquire)) == 0).then_some(version)
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::*;
    use loom::sync::Arc;

    /// Version 1 is refused, version 2 is good: nobody keeps an answer as version 1's, unless it is out of date already.
    #[test]
    fn loom_standing() {
        loom::model(|| {
            let shared = Arc::new((AtomicU64::new(1), Standing::new(0, false)));
            let readers: Vec<_> = (0..2)
                .map(|_| {
                    let shared = Arc::clone(&shared);
                    loom::thread::spawn(move || {
                        let (page, standing) = &*shared;
                        if standing.lasting() == Some(1) {
                            // ORDERING: Relaxed; what was seen of `standing` must have shown it.
                            assert_eq!(
                                page.load(Ordering::Relaxed),
                                2,
                                "what stands in was taken for what was refused"
                            );
                        }
                    })
                })
                .collect();
            let (page, standing) = &*shared;
            standing.adopt(1, true);
            advance(page);
            standing.adopt(2, false);
            for reader in readers {
                reader.join().unwrap();
            }
            assert_eq!(standing.lasting(), Some(2));
        });
    }
}
