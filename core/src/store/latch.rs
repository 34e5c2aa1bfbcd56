//! The latched seqlock: two copies of a record, and a counter whose last bit says which one is current.
//!
//! ```text
//! write(new):                                  read:
//!   n = version                                  n = version            (Acquire)   A
//!   fence(Release)                    W0         copy = record[n & 1]   (Relaxed)
//!   record[(n + 1) & 1] = new (Relaxed)          fence(Acquire)                     R1
//!   version = n + 1   (Release)       W1         again if version != n  (Relaxed)   R2
//! ```
//!
//! There is no state "being written": whatever instruction the writer dies at, `record[version & 1]` is whole, and a
//! reader never waits for a writer. It reads again only when a *complete* update went by while it was copying.
//!
//! # Why a copy that is kept is whole
//!
//! Say the reader loads `n` at A and `n` again at R2.
//!
//! *It sees no less than record `n`.* The words of record `n` were stored before W1 of the write that made the version
//! `n`; A read that value (or, the version being `n` still at R2, no later one), so W1 → A is a release–acquire pair and
//! every one of those words is visible. Mutants: `latch_version_store`, `latch_version_load`.
//!
//! *It sees no more than record `n`.* The record `n & 1` is next touched by the write that makes the version `n + 2`;
//! that write starts after the version was set to `n + 1`. Were one of its words in our copy, then its fence W0, which
//! stands between the store of `n + 1` and that word, and our fence R1, which stands between our load of that word and
//! R2, would synchronise: the store of `n + 1` happens before R2, and R2 could not have read `n`. Mutants:
//! `latch_writer_fence` (W0 left out), `latch_reader_fence` (R1 left out).
//!
//! W0 is what the textbook seqlock doesn't need, since there the odd number is stored first and fenced. Without it a
//! weakly ordered machine may show the words of write `n + 2` before the version `n + 1`.
//!
//! The counter has 64 bits: at a write per nanosecond it comes round in 584 years.
//!
//! Sources: Linux `seqcount_latch_t`; H.-J. Boehm, "Can seqlocks get along with programming language memory models?",
//! MSPC 2012.

use crate::atomic::{AtomicU64, Ordering, fence, mutant, ordering};

/// The counter and the two records, wherever they lie (a mapped control page, or a model's memory).
pub(crate) struct Latch<'a, const WORDS: usize> {
    pub(crate) version: &'a AtomicU64,
    pub(crate) records: [&'a [AtomicU64; WORDS]; 2],
}

impl<const WORDS: usize> Latch<'_, WORDS> {
    /// One attempt at a whole record with its version; `None` when an update went by meanwhile.
    pub(crate) fn try_read(&self) -> Option<(u64, [u64; WORDS])> {
        // ORDERING: A; pairs with the store of `version` in latch::write; makes the record of this version visible.
        let version = self.version.load(ordering!("latch_version_load", Acquire));
        let record = self.records[usize::from(version & 1 == 1)];
        let mut copy = [0; WORDS];
        for (word, shared) in copy.iter_mut().zip(record) {
            // ORDERING: Relaxed; the fence below and the second load of `version` tell whether the copy is whole.
            *word = shared.load(Ordering::Relaxed);
        }
        if !mutant!("latch_reader_fence") {
            // ORDERING: R1; pairs with the fence in latch::write; a word of a later write makes that write's version visible.
            fence(Ordering::Acquire);
        }
        // ORDERING: R2; Relaxed, ordered by the fence above.
        (self.version.load(Ordering::Relaxed) == version).then_some((version, copy))
    }

    /// A whole record with its version.
    ///
    /// `None` only if a thousand complete updates in a row overtook it, which no honest writer can do: the caller keeps
    /// what it has and comes back.
    pub(crate) fn read(&self) -> Option<(u64, [u64; WORDS])> {
        (0..1_000).find_map(|_| self.try_read())
    }

    /// Publishes a record and returns its version. There must be only one writer.
    pub(crate) fn write(&self, words: &[u64; WORDS]) -> u64 {
        // ORDERING: Relaxed; only this thread, or one that handed it the lock file, stores to it.
        let version = self.version.load(Ordering::Relaxed).wrapping_add(1);
        if !mutant!("latch_writer_fence") {
            // ORDERING: W0; pairs with the fence in latch::try_read; whoever sees a word stored below sees that the version
            // had already left the record it belongs to.
            fence(Ordering::Release);
        }
        let record = self.records[usize::from(version & 1 == 1)];
        for (shared, word) in record.iter().zip(words) {
            // ORDERING: Relaxed; made visible by the store of `version`.
            shared.store(*word, Ordering::Relaxed);
        }
        // ORDERING: W1; pairs with the first load in latch::try_read; makes the record visible.
        self.version.store(version, ordering!("latch_version_store", Release));
        version
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::*;
    use loom::sync::Arc;

    struct Page {
        version: AtomicU64,
        records: [[AtomicU64; 2]; 2],
    }

    impl Page {
        /// Version 0 with the record that belongs to it: both words of record `n` are `10 + n`.
        fn new() -> Self {
            let record = |word| [AtomicU64::new(word), AtomicU64::new(word)];
            Page { version: AtomicU64::new(0), records: [record(10), record(0)] }
        }

        fn latch(&self) -> Latch<'_, 2> {
            Latch { version: &self.version, records: [&self.records[0], &self.records[1]] }
        }

        fn check(&self, least: u64) -> u64 {
            match self.latch().try_read() {
                Some((version, copy)) => {
                    assert_eq!(copy, [10 + version; 2], "torn or foreign record at version {version}");
                    assert!(version >= least, "version went back");
                    version
                }
                None => least,
            }
        }
    }

    fn model(readers: usize, reads: usize) {
        loom::model(move || {
            let page = Arc::new(Page::new());
            let handles: Vec<_> = (0..readers)
                .map(|_| {
                    let page = Arc::clone(&page);
                    loom::thread::spawn(move || {
                        let mut least = 0;
                        for _ in 0..reads {
                            least = page.check(least);
                        }
                    })
                })
                .collect();
            for version in 1..=2 {
                assert_eq!(page.latch().write(&[10 + version; 2]), version);
            }
            for handle in handles {
                handle.join().unwrap();
            }
            assert_eq!(page.check(0), 2);
        });
    }

    #[test]
    fn loom_latch_one_reader() {
        model(1, 2);
    }

    #[test]
    fn loom_latch_two_readers() {
        model(2, 1);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_as_written_and_the_other_is_untouched() {
        let words = || -> [AtomicU64; 3] { std::array::from_fn(|_| AtomicU64::new(0)) };
        let (version, first, second) = (AtomicU64::new(u64::MAX), words(), words());
        let latch = Latch { version: &version, records: [&first, &second] };
        assert_eq!(latch.write(&[1, 2, 3]), 0, "the counter wraps");
        assert_eq!(latch.read(), Some((0, [1, 2, 3])));
        assert_eq!(latch.write(&[4, 5, 6]), 1);
        assert_eq!(latch.read(), Some((1, [4, 5, 6])));
        assert_eq!(first.each_ref().map(|word| word.load(Ordering::Relaxed)), [1, 2, 3]);
    }
}
