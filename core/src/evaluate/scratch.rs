//! The fixed memory in which one evaluation builds intermediate text and lists.
//!
//! Evaluation allocates nothing, so what a rule builds on its way (`cat`, `map`, `merge` …) lies in a block on the stack of the
//! evaluating thread. Parts are handed out front to back, each once, and taken back all together.

use std::{
    cell::{Cell, UnsafeCell},
    fmt,
    mem::{self, MaybeUninit},
};

use super::value::Value;

/// How much one evaluation may build, in bytes.
pub(crate) const SCRATCH_BYTES: usize = 16 * 1024;

const WORDS: usize = SCRATCH_BYTES / 8;

/// The block. Only rules that need it reserve it.
pub(crate) struct Scratch {
    block: UnsafeCell<[MaybeUninit<u64>; WORDS]>,
    /// How many bytes at the front are handed out.
    used: Cell<usize>,
}

impl Scratch {
    pub(crate) const fn new() -> Self {
        Self { block: UnsafeCell::new([MaybeUninit::uninit(); WORDS]), used: Cell::new(0) }
    }

    /// Room for `len` values, all null; `None` where that is more than is left.
    #[expect(clippy::mut_from_ref, reason = "an arena: each part is handed out once")]
    pub(crate) fn values<'s, 'v: 's>(&'s self, len: usize) -> Option<&'s mut [Value<'v>]> {
        const { assert!(mem::align_of::<Value<'_>>() <= 8) };
        let start = self.used.get().next_multiple_of(8);
        let end = start.checked_add(len.checked_mul(size_of::<Value<'_>>())?)?;
        if end > SCRATCH_BYTES {
            return None;
        }
        self.used.set(end);
        // SAFETY: start <= end <= SCRATCH_BYTES, so the pointer stays within the block or one past its end.
        let first = unsafe { self.block.get().cast::<u8>().add(start) }.cast::<Value<'v>>();
        for index in 0..len {
            // SAFETY: index < len, and the block has room for `len` values behind `start`, as checked above.
            let place = unsafe { first.add(index) };
            // SAFETY: in bounds as above and aligned: the block is aligned to 8 and so is `start`; a value needs no
            // more (asserted above). Nobody else has this part: `used` has moved past it.
            unsafe { place.write(Value::Null) };
        }
        // SAFETY: `len` values have just been written there. The part is handed out once while `self` is borrowed: `rewind`
        // is unsafe and its callers vouch that nothing built since is looked at again. `Value` needs no drop.
        Some(unsafe { std::slice::from_raw_parts_mut(first, len) })
    }

    /// A text that grows at the end of what is in use. Nothing else may be taken before it is finished.
    pub(crate) fn text(&self) -> TextBuilder<'_> {
        TextBuilder { scratch: self, start: self.used.get(), full: false }
    }

    /// How much is in use, for [`rewind`](Self::rewind).
    pub(crate) fn mark(&self) -> usize {
        self.used.get()
    }

    /// Takes back all that was handed out since `mark`.
    ///
    /// # Safety
    ///
    /// Nothing handed out since then may be looked at again.
    pub(crate) unsafe fn rewind(&self, mark: usize) {
        self.used.set(mark);
    }
}

impl fmt::Debug for Scratch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scratch").field("used", &self.used.get()).finish_non_exhaustive()
    }
}

/// Where the text of values goes: a scratch text, or a hash.
pub(crate) trait TextSink {
    fn write(&mut self, bytes: &[u8]);
}

impl TextSink for super::bucket::Murmur3 {
    #[inline]
    fn write(&mut self, bytes: &[u8]) {
        Self::write(self, bytes);
    }
}

/// A text being built.
#[derive(Debug)]
pub(crate) struct TextBuilder<'s> {
    scratch: &'s Scratch,
    start: usize,
    full: bool,
}

impl<'s> TextBuilder<'s> {
    /// The text; `None` where it did not fit.
    pub(crate) fn finish(self) -> Option<&'s [u8]> {
        if self.full {
            return None;
        }
        let len = self.scratch.used.get() - self.start;
        // SAFETY: `start` was `used` once, which never passes the end of the block.
        let first = unsafe { self.scratch.block.get().cast::<u8>().add(self.start) };
        // SAFETY: the bytes from `start` to `used` were written by `write`, lie in the block, and are handed out once, here.
        Some(unsafe { std::slice::from_raw_parts(first, len) })
    }
}

impl TextSink for TextBuilder<'_> {
    fn write(&mut self, bytes: &[u8]) {
        let used = self.scratch.used.get();
        let Some(end) = used.checked_add(bytes.len()).filter(|&end| end <= SCRATCH_BYTES && !self.full) else {
            self.full = true;
            return;
        };
        // SAFETY: used <= end <= SCRATCH_BYTES.
        let place = unsafe { self.scratch.block.get().cast::<u8>().add(used) };
        // SAFETY: `bytes` is readable, the block has room up to `end`, and the two cannot overlap: what lies behind `used` is
        // nobody's, and `bytes` is somebody's.
        unsafe { place.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
        self.scratch.used.set(end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_do_not_overlap_and_end_at_the_limit() {
        let scratch = Scratch::new();
        let mut text = scratch.text();
        text.write(b"abc");
        text.write(b"def");
        let text = text.finish().expect("six bytes fit");
        let values = scratch.values(3).expect("three values fit");
        values[2] = Value::Int(7);
        let mut other = scratch.text();
        other.write(b"xyz");
        assert_eq!(other.finish(), Some(&b"xyz"[..]));
        assert_eq!(text, b"abcdef");
        assert!(matches!(values, [Value::Null, Value::Null, Value::Int(7)]));
        assert!(scratch.values(SCRATCH_BYTES).is_none());
        assert!(scratch.values(usize::MAX).is_none());
        let mut long = scratch.text();
        long.write(&[b'x'; SCRATCH_BYTES]);
        long.write(b"y");
        assert_eq!(long.finish(), None, "a text that does not fit is no text, not a part of one");
    }
}
