//! A flag looked up once a version, for the hottest paths.

use std::cell::UnsafeCell;
use std::ffi::c_char;
use std::mem::{align_of, size_of};

use libflags::FlagCache;

use crate::client::Client;
use crate::context::{Checked, Context};
use crate::panic::guard;
use crate::view;

/// A flag that is looked up once for each version of the flags instead of once for each call. Make it static:
///
///     static flags_ref new_checkout = FLAGS_REF_INIT("new-checkout");
///
/// Shared by all threads; needs no release. Used with a second client it is right as well, only slower. It must not be copied
/// or moved while in use, nor kept for a library that is unloaded and loaded again; children after `fork()` have their own.
#[repr(C)]
#[derive(Debug)]
pub struct FlagRef {
    /// The flag's key, for as long as the `flags_ref` is used.
    pub key: *const c_char,
    /// How many bytes the key has, or 0 where it ends with a NUL.
    pub key_length: usize,
    /// The library's own; zero at first.
    pub cache: UnsafeCell<[u64; 4]>,
}

const _: () = {
    assert!(size_of::<FlagCache>() <= size_of::<[u64; 4]>());
    assert!(align_of::<FlagCache>() <= align_of::<FlagRef>());
};

/// The value of the boolean flag that `ref` stands for. `fallback` where `ref` is NULL; all else as `flags_bool()`.
///
/// With GCC and Clang this is an inline function (see the end of this header) that answers without a call where the flag is known to be the same for
/// everybody; define `FLAGS_NO_INLINE` before including the header to do without.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flags_bool_ref(
    client: *const Client,
    r#ref: *mut FlagRef,
    context: *const Context,
    fallback: bool,
) -> bool {
    guard(fallback, || {
        // SAFETY: the caller vouches for a client that is not closed.
        let Some(client) = (unsafe { client.as_ref() }) else { return fallback };
        if !r#ref.is_aligned() {
            return fallback;
        }
        // SAFETY: aligned; the caller vouches for a `flags_ref`, of which only the cache changes, through atomic operations.
        let Some(reference) = (unsafe { r#ref.as_ref() }) else { return fallback };
        // SAFETY: it has room for a `FlagCache`, and is one: C made it all zeros, and all zeros are an empty one.
        let cache = unsafe { &*reference.cache.get().cast::<FlagCache>() };
        let (key, length) = (reference.key, reference.key_length);
        // SAFETY: the caller vouches for the key.
        let Some(key) = (unsafe { view::sized_or_terminated(key, length) }) else { return fallback };
        // SAFETY: the caller vouches for the context.
        let Some(context) = (unsafe { Checked::new(context) }) else { return fallback };
        client.engine.bool_cached(cache, key, &context, fallback)
    })
}

/// What the inline `flags_bool_ref()` calls where it cannot answer by itself. Not for programs.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flags_bool_ref_slow(
    client: *const Client,
    r#ref: *mut FlagRef,
    context: *const Context,
    fallback: bool,
) -> bool {
    // SAFETY: the caller keeps what the header says of `flags_bool_ref`.
    unsafe { flags_bool_ref(client, r#ref, context, fallback) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The words that the inline `flags_bool_ref()` of the header reads.
    #[test]
    fn the_cache_is_what_the_header_takes_it_for() {
        let text = r#"{"flags": {
            "on": {"state": "ENABLED", "variants": {"on": true}, "defaultVariant": "on"},
            "off": {"state": "ENABLED", "variants": {"off": false}, "defaultVariant": "off"}
        }}"#;
        let client = libflags::Client::from_definition(text, libflags::definition::Format::Json).expect("a definition");
        let (version, number) = client.face();
        for (key, value, what) in [("on", true, 2), ("off", false, 1)] {
            let cache = FlagCache::new();
            let context = libflags::Context::anonymous();
            assert_eq!(client.bool_cached(&cache, key.as_bytes(), &context, !value), value);
            // SAFETY: two initialised words, and nobody writes to them.
            let [owner, word] = unsafe { (&raw const cache).cast::<[u64; 2]>().read() };
            // SAFETY: the client lives, and nobody publishes.
            let version = unsafe { version.read() };
            assert_eq!((owner, word >> 32, word & 15), (number, version & 0xFFFF_FFFF, what));
        }
    }

    #[test]
    fn an_empty_cache_is_all_zeros() {
        let empty = FlagCache::new();
        // SAFETY: the cache is made of atomic integers: every byte of it is initialised.
        let bytes = unsafe { std::slice::from_raw_parts((&raw const empty).cast::<u8>(), size_of::<FlagCache>()) };
        assert!(bytes.iter().all(|&byte| byte == 0), "FLAGS_REF_INIT makes zeros");
    }
}
