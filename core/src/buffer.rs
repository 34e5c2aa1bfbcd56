//! Large buffers that are filled at once: in huge pages where the system gives them on request.
//!
//! Filling a buffer for the first time costs a page fault every 4 KiB, which is a third of the time that compiling 100 000
//! flags takes (docs/design/loading.md). Only extents that lie in the buffer whole are asked for, so that it takes no more memory than it would.

use nix::libc;
use rkyv::util::AlignedVec;

/// The size, and alignment, of a huge page where small ones have 4 KiB.
const HUGE_PAGE_BYTES: usize = 2 << 20;

/// A vector with room for so many.
pub(crate) fn with_room<T>(items: usize) -> Vec<T> {
    let mut vec = Vec::new();
    make_room(&mut vec, items);
    vec
}

/// Room for so many more.
pub(crate) fn make_room<T>(vec: &mut Vec<T>, items: usize) {
    let before = vec.capacity();
    vec.reserve(items);
    if vec.capacity() != before {
        advise(vec.as_ptr().cast(), vec.capacity().saturating_mul(size_of::<T>()));
    }
}

/// A copy of a text.
pub(crate) fn text(of: &str) -> String {
    let mut text = String::with_capacity(of.len());
    advise(text.as_ptr(), text.capacity());
    text.push_str(of);
    text
}

/// An aligned vector with room for so many bytes.
pub(crate) fn aligned(bytes: usize) -> AlignedVec {
    let vec = AlignedVec::with_capacity(bytes);
    advise(vec.as_ptr(), vec.capacity());
    vec
}

fn advise(start: *const u8, bytes: usize) {
    let before = start.addr().next_multiple_of(HUGE_PAGE_BYTES) - start.addr();
    let whole = bytes.saturating_sub(before) / HUGE_PAGE_BYTES * HUGE_PAGE_BYTES;
    if whole > 0 {
        let extents = start.wrapping_add(before).cast_mut().cast();
        // SAFETY: whole pages inside of one allocation; the advice changes no byte of them, and outlives the buffer as no more than
        // that. Where the kernel does not take it (no huge pages, none wanted), nothing changes.
        unsafe { libc::madvise(extents, whole, libc::MADV_HUGEPAGE) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_buffer_is_like_any_other() {
        for bytes in [0, 1, 4096, HUGE_PAGE_BYTES, 3 * HUGE_PAGE_BYTES + 1] {
            let mut words = with_room::<u64>(bytes / 8);
            assert!(words.capacity() >= bytes / 8);
            words.extend((0..).take(bytes / 8));
            make_room(&mut words, bytes / 8);
            assert!(words.iter().copied().eq((0..).take(bytes / 8)) && words.capacity() >= bytes / 8 * 2);
            assert!(aligned(bytes).capacity() >= bytes);
            let long = "ä".repeat(bytes / 2);
            assert_eq!(text(&long), long);
        }
    }
}
