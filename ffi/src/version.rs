//! Which library this is.

use std::ffi::c_char;

/// The version of the interface that this header describes. It grows by one with each release that adds to it.
///
/// A program compiled with this header runs with every `libflags.so.0` whose `flags_abi_version()` is at least this number.
pub const FLAGS_ABI_VERSION: u32 = 2;

/// The version of the interface that the loaded library has; compare it with `FLAGS_ABI_VERSION`.
///
/// Never fails. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn flags_abi_version() -> u32 {
    FLAGS_ABI_VERSION
}

/// The version of the loaded library, such as "0.1.0".
///
/// Never fails, never NULL. Any thread. The text is NUL-terminated and lives as long as the library is loaded.
#[unsafe(no_mangle)]
pub extern "C" fn flags_version() -> *const c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}
