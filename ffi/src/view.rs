//! Memory that belongs to the caller, turned into what Rust can hold.

use std::ffi::{CStr, c_char};
use std::mem::{MaybeUninit, align_of, size_of};
use std::slice;

/// The largest `struct_size` that is believed; beyond it the field was surely never set.
pub(crate) const STRUCT_SIZE_MAX: usize = 4096;

/// A NUL-terminated text without its NUL; `None` for NULL.
///
/// # Safety
/// `text` is NULL, or points to bytes that end with a NUL and do not change for `'a`.
#[inline]
pub(crate) unsafe fn terminated<'a>(text: *const c_char) -> Option<&'a [u8]> {
    if text.is_null() {
        return None;
    }
    // SAFETY: not NULL; the caller vouches for the NUL and for the lifetime.
    Some(unsafe { CStr::from_ptr(text) }.to_bytes())
}

/// A text of `length` bytes, or one that ends with a NUL where `length` is 0; `None` for NULL or an impossible length.
///
/// # Safety
/// `text` is NULL, or points to `length` bytes (to a NUL-terminated text where `length` is 0) that do not change for `'a`.
#[inline]
pub(crate) unsafe fn sized_or_terminated<'a>(text: *const c_char, length: usize) -> Option<&'a [u8]> {
    if length == 0 {
        // SAFETY: the caller vouches for a NUL-terminated text where the length is 0.
        return unsafe { terminated(text) };
    }
    // SAFETY: the caller vouches for so many bytes.
    unsafe { array(text.cast::<u8>(), length) }
}

/// `count` elements; `None` where that cannot be: NULL with a count, a misaligned pointer, more bytes than an address
/// space has.
///
/// # Safety
/// `first` is NULL, misaligned, or points to `count` elements that do not change for `'a`. `T` has no invalid bit patterns.
#[inline]
pub(crate) unsafe fn array<'a, T>(first: *const T, count: usize) -> Option<&'a [T]> {
    if count == 0 {
        return Some(&[]);
    }
    if first.is_null() || !first.addr().is_multiple_of(align_of::<T>()) || count > isize::MAX as usize / size_of::<T>()
    {
        return None;
    }
    // SAFETY: not NULL, aligned, not larger than isize::MAX; the caller vouches for the elements and the lifetime.
    Some(unsafe { slice::from_raw_parts(first, count) })
}

/// Why a struct that begins with its own size cannot be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SizeError {
    /// `struct_size` is smaller than any released version of the struct, larger than is believable, or no size that a struct
    /// can have: it would cut a field in two.
    Impossible,
    /// A later version of the struct, and a field that this library does not know is in use.
    UnknownField,
}

/// Reads a struct that begins with its own size, whatever version of it the caller was compiled with: fields that an older
/// caller does not have are zero, fields that only a newer one has must be.
///
/// # Safety
/// `from` is aligned and points to as many bytes as the `size_t` at its beginning says. All zeros is a valid `T`, and so
/// is any bytes.
pub(crate) unsafe fn versioned<T>(from: *const T, smallest: usize) -> Result<T, SizeError> {
    // SAFETY: the caller vouches for at least the `size_t` at the beginning.
    let struct_size = unsafe { from.cast::<usize>().read() };
    if !(smallest..=STRUCT_SIZE_MAX).contains(&struct_size) || !struct_size.is_multiple_of(align_of::<T>()) {
        return Err(SizeError::Impossible);
    }
    if struct_size > size_of::<T>() {
        let tail = from.cast::<u8>().wrapping_add(size_of::<T>());
        // SAFETY: the caller vouches for `struct_size` bytes, of which these are the last.
        let tail = unsafe { slice::from_raw_parts(tail, struct_size - size_of::<T>()) };
        if tail.iter().any(|&byte| byte != 0) {
            return Err(SizeError::UnknownField);
        }
    }
    let mut value = MaybeUninit::<T>::zeroed();
    let length = struct_size.min(size_of::<T>());
    // SAFETY: the caller vouches for `length` bytes at `from`, and a `T` has room for them.
    unsafe { from.cast::<u8>().copy_to_nonoverlapping(value.as_mut_ptr().cast::<u8>(), length) };
    // SAFETY: zeroed, and any bytes are a valid `T`, as the caller vouches.
    Ok(unsafe { value.assume_init() })
}

/// Whether a caller's output struct, which begins with its own size, can be written.
///
/// # Safety
/// `to` is NULL or aligned and points to a `size_t`.
#[inline]
pub(crate) unsafe fn writable<T>(to: *const T, smallest: usize) -> bool {
    if to.is_null() {
        return false;
    }
    // SAFETY: the caller vouches for the `size_t` at the beginning.
    let struct_size = unsafe { to.cast::<usize>().read() };
    (smallest..=STRUCT_SIZE_MAX).contains(&struct_size)
}

/// Writes as much of `value` as the caller's version of the struct has room for, and leaves its `struct_size` as it is.
///
/// # Safety
/// [`writable`] said yes to `to`, which points to as many bytes as its `size_t` says.
#[inline]
pub(crate) unsafe fn write_versioned<T>(to: *mut T, value: &T) {
    let header = size_of::<usize>();
    // SAFETY: `writable` read it before.
    let struct_size = unsafe { to.cast::<usize>().read() };
    let length = struct_size.min(size_of::<T>()) - header;
    let source = std::ptr::from_ref(value).cast::<u8>().wrapping_add(header);
    let target = to.cast::<u8>().wrapping_add(header);
    // SAFETY: both have at least `header + length` bytes; one is the caller's memory, the other ours.
    unsafe { source.copy_to_nonoverlapping(target, length) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[repr(C)]
    #[derive(Debug, PartialEq)]
    struct Two {
        struct_size: usize,
        first: u64,
        second: u64,
    }

    #[repr(C)]
    struct Three {
        struct_size: usize,
        first: u64,
        second: u64,
        third: u64,
    }

    #[test]
    fn structs_of_older_and_newer_callers_are_read() {
        let older = Two { struct_size: 16, first: 1, second: 2 };
        // SAFETY: 16 bytes and more are there.
        let read = unsafe { versioned::<Two>(&older, 16) };
        assert_eq!(read, Ok(Two { struct_size: 16, first: 1, second: 0 }));

        for (third, expected) in [(0, Ok(())), (7, Err(SizeError::UnknownField))] {
            let newer = Three { struct_size: size_of::<Three>(), first: 1, second: 2, third };
            // SAFETY: `struct_size` bytes are there.
            let read = unsafe { versioned::<Two>((&raw const newer).cast(), 16) };
            assert_eq!(read.map(|_| ()), expected);
        }
        for struct_size in [0, 15, 17, 23, STRUCT_SIZE_MAX + 1, usize::MAX] {
            let wrong = Two { struct_size, first: 1, second: 2 };
            // SAFETY: the size is refused before anything beyond it is read.
            assert_eq!(unsafe { versioned::<Two>(&wrong, 16) }, Err(SizeError::Impossible));
        }
    }

    #[test]
    fn only_what_the_caller_has_room_for_is_written() {
        let mut older = Two { struct_size: 16, first: 0, second: 99 };
        let value = Two { struct_size: 0, first: 5, second: 6 };
        // SAFETY: 16 bytes and more are there.
        unsafe { write_versioned(&mut older, &value) };
        assert_eq!(older, Two { struct_size: 16, first: 5, second: 99 });
    }

    #[test]
    fn arrays_that_cannot_be_are_refused() {
        let one = 1_u64;
        let first = &raw const one;
        // SAFETY: NULL, misaligned and oversized arrays are refused unread; the others exist.
        let read = |first, count| unsafe { array::<u64>(first, count) };
        assert_eq!(read(std::ptr::null(), 0), Some(&[][..]));
        assert_eq!(read(std::ptr::null(), 1), None);
        assert_eq!(read(first.wrapping_byte_add(1), 1), None);
        assert_eq!(read(first, usize::MAX), None);
        assert_eq!(read(first, 1), Some(&[1_u64][..]));
    }
}
