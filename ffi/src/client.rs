//! A client: opened once, asked by every thread.

use std::ffi::{CStr, OsStr, c_char};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use libflags::OpenOptions;

use crate::context::{Checked, Context};
use crate::options::Options;
use crate::panic::guard;
use crate::status::{Status, failed};
use crate::view;

/// A reader of one store, or of one definition file. One serves a whole process: any number of threads at once, and
/// children after `fork()`.
///
/// It begins with what `flags_bool_ref()` reads without a call.
#[derive(Debug)]
// Behind a condition that always holds, so that cbindgen takes the struct for opaque: C sees a pointer to it and no more.
#[cfg_attr(all(), repr(C))]
pub struct Client {
    version: *const u64,
    number: u64,
    pub(crate) engine: libflags::Client,
}

/// Opens the store in the directory `store`, or, where that is NULL, the first there is of `$FLAGS_STORE`,
/// `/run/flags/default`, `$XDG_RUNTIME_DIR/flags/default` and `/dev/shm/flags-<uid>/default`.
///
/// `options` may be NULL. On `FLAGS_OK` `*out` is a client that you release with `flags_close()`; otherwise `*out` is
/// untouched and `flags_last_error()` says what is wrong: `FLAGS_NO_STORE` (it names the paths tried),
/// `FLAGS_NOTHING_PUBLISHED`, `FLAGS_UNTRUSTED`, `FLAGS_CORRUPT`, `FLAGS_UNKNOWN_FORMAT`, `FLAGS_IO`, and
/// `FLAGS_INVALID_ARGUMENT` for a NULL `out` or options that cannot be. Blocks for no longer than `options->timeout_ms`,
/// starts no thread. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flags_open(store: *const c_char, options: *const Options, out: *mut *mut Client) -> Status {
    guard(Status::FlagsInternal, || {
        if out.is_null() {
            return failed(Status::FlagsInvalidArgument, "out is NULL");
        }
        // SAFETY: the caller keeps what the comment of `flags_options` says for the whole call.
        let parsed = match unsafe { Options::parse(options) } {
            Ok(parsed) => parsed,
            Err(status) => return status,
        };
        // SAFETY: the caller vouches for a NUL-terminated text.
        let store = unsafe { path(store) };
        let mut options = OpenOptions::new().wait(parsed.wait).timeout(parsed.timeout);
        if let Some(store) = store {
            options = options.store(store);
        }
        let opened = match libflags::Client::open_with(&options) {
            Ok(client) => client.with_selector(&parsed.selector),
            Err(error) => return failed(Status::of(&error), error),
        };
        match opened {
            // SAFETY: `out` is not NULL; the caller vouches for a place to write a pointer to.
            Ok(client) => unsafe { hand_out(client, out) },
            // The store is good: it is the selector that cannot be.
            Err(error) => failed(Status::FlagsInvalidArgument, format_args!("options.selector: {error}")),
        }
    })
}

/// Compiles the flag definition in the file `definition_path` (JSON, or YAML by its ending) in this process: no daemon and
/// no store are needed, for tests and tools. The file is read once.
///
/// On `FLAGS_OK` `*out` is a client that you release with `flags_close()`; otherwise `*out` is untouched and
/// `flags_last_error()` says what is wrong: `FLAGS_IO` where the file cannot be read, `FLAGS_DEFINITION` where nothing in it
/// can be used, `FLAGS_INVALID_ARGUMENT` for a NULL argument. A flag that is broken by itself does not fail the file: it
/// answers `FLAGS_ERROR_PARSE_ERROR`. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flags_open_file(definition_path: *const c_char, out: *mut *mut Client) -> Status {
    guard(Status::FlagsInternal, || {
        // SAFETY: the caller vouches for a NUL-terminated text.
        let Some(definition_path) = (unsafe { path(definition_path) }) else {
            return failed(Status::FlagsInvalidArgument, "definition_path is NULL");
        };
        if out.is_null() {
            return failed(Status::FlagsInvalidArgument, "out is NULL");
        }
        match libflags::Client::from_file(definition_path) {
            // SAFETY: `out` is not NULL; the caller vouches for a place to write a pointer to.
            Ok(client) => unsafe { hand_out(client, out) },
            Err(error) => failed(Status::of(&error), error),
        }
    })
}

/// Releases a client. NULL is fine.
///
/// No other call with this client may be running or come later. Snapshots acquired from it stay good.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flags_close(client: *mut Client) {
    guard((), || {
        if !client.is_null() {
            // SAFETY: it came from `hand_out`, and the caller vouches that this is its last use.
            drop(unsafe { Box::from_raw(client) });
        }
    });
}

/// The value of a boolean flag for a context.
///
/// Never fails: `fallback` is the answer where the client is NULL or has no store yet, `key` is NULL or names no flag (a key
/// that is not UTF-8 never does), the flag is disabled, of another type or broken, or the context cannot be.
/// `flags_evaluate()` tells which. `context` may be NULL. Any number of threads at once; takes no lock, allocates nothing,
/// and makes no system call but when a new version of the flags has arrived.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flags_bool(
    client: *const Client,
    key: *const c_char,
    context: *const Context,
    fallback: bool,
) -> bool {
    guard(fallback, || {
        // SAFETY: the caller keeps what the header says of the three for the whole call.
        match unsafe { question(client, key, context) } {
            Some((client, key, context)) => client.bool(key, &context, fallback),
            None => fallback,
        }
    })
}

/// The value of a number flag for a context, where it is whole; all else as `flags_bool()`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flags_int(
    client: *const Client,
    key: *const c_char,
    context: *const Context,
    fallback: i64,
) -> i64 {
    guard(fallback, || {
        // SAFETY: the caller keeps what the header says of the three for the whole call.
        match unsafe { question(client, key, context) } {
            Some((client, key, context)) => client.int(key, &context, fallback),
            None => fallback,
        }
    })
}

/// The value of a number flag for a context; all else as `flags_bool()`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flags_double(
    client: *const Client,
    key: *const c_char,
    context: *const Context,
    fallback: f64,
) -> f64 {
    guard(fallback, || {
        // SAFETY: the caller keeps what the header says of the three for the whole call.
        match unsafe { question(client, key, context) } {
            Some((client, key, context)) => client.float(key, &context, fallback),
            None => fallback,
        }
    })
}

/// The value of a string flag for a context, copied into `buf`.
///
/// Returns how many bytes the whole value has, its NUL not counted, whatever there was room for; as with `snprintf`, a
/// return value of `cap` or more means that it was cut off. With a `cap` above 0 what is written always ends with a NUL, and
/// is never cut inside a UTF-8 character. `buf` may be NULL where `cap` is 0, to ask for the length; the flag may change
/// before the second call. A NULL `fallback` counts as "". `fallback` may lie in `buf`.
///
/// Never fails; when the answer is the fallback, and all else, as `flags_bool()`. To read without a copy, see
/// `flags_evaluate()`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flags_string(
    client: *const Client,
    key: *const c_char,
    context: *const Context,
    fallback: *const c_char,
    buf: *mut c_char,
    cap: usize,
) -> usize {
    // SAFETY: the caller keeps what the header says.
    let copy = |text: Option<&str>| unsafe { copy_out(text, fallback, buf, cap) };
    guard(None, || {
        // SAFETY: the caller keeps what the header says of the three for the whole call.
        let (client, key, context) = unsafe { question(client, key, context) }?;
        Some(client.with_string(key, &context, copy))
    })
    .unwrap_or_else(|| copy(None))
}

/// The value of an object flag for a context, as compact JSON text such as `{"a":[1,2]}`, copied into `buf`; all else as
/// `flags_string()`. `fallback` is copied as it is, JSON or not.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flags_json(
    client: *const Client,
    key: *const c_char,
    context: *const Context,
    fallback: *const c_char,
    buf: *mut c_char,
    cap: usize,
) -> usize {
    // SAFETY: the caller keeps what the header says.
    let copy = |text: Option<&str>| unsafe { copy_out(text, fallback, buf, cap) };
    guard(None, || {
        // SAFETY: the caller keeps what the header says of the three for the whole call.
        let (client, key, context) = unsafe { question(client, key, context) }?;
        Some(client.with_object(key, &context, copy))
    })
    .unwrap_or_else(|| copy(None))
}

/// A client, a key and a context to ask the engine with; `None` where one of them cannot be.
///
/// # Safety
/// Each is NULL, or what the header says, for `'a`.
#[inline(always)]
pub(crate) unsafe fn question<'a>(
    client: *const Client,
    key: *const c_char,
    context: *const Context,
) -> Option<(&'a libflags::Client, &'a [u8], Checked<'a>)> {
    // SAFETY: the caller vouches for a client that is not closed.
    let client = unsafe { client.as_ref() }?;
    // SAFETY: the caller vouches for a NUL-terminated text.
    let key = unsafe { view::terminated(key) }?;
    // SAFETY: the caller vouches for the context.
    let context = unsafe { Checked::new(context) }?;
    Some((&client.engine, key, context))
}

/// Writes `text`, or else `fallback`, into the caller's buffer, and gives the length of the whole.
///
/// # Safety
/// `fallback` is NULL or NUL-terminated; `buf` has room for `cap` bytes, or is NULL.
unsafe fn copy_out(text: Option<&str>, fallback: *const c_char, buf: *mut c_char, cap: usize) -> usize {
    let (source, length) = match text {
        Some(text) => (text.as_ptr().cast::<c_char>(), text.len()),
        None if fallback.is_null() => (c"".as_ptr(), 0),
        // SAFETY: the caller vouches for a NUL-terminated text.
        None => (fallback, unsafe { CStr::from_ptr(fallback) }.count_bytes()),
    };
    if buf.is_null() || cap == 0 {
        return length;
    }
    // SAFETY: called with an index below `length`, of which `source` has so many bytes.
    let byte = |index: usize| unsafe { source.cast::<u8>().wrapping_add(index).read() };
    let mut end = length.min(cap - 1);
    if end < length {
        // A continuation byte begins with the bits 10; a character has at most three of them. Text that is not UTF-8 is cut
        // where the room ends.
        let start = (0..4).map_while(|back| end.checked_sub(back)).find(|&index| byte(index) & 0xC0 != 0x80);
        end = start.unwrap_or(end);
    }
    // SAFETY: `end` is less than `cap` and not more than `length`; source and buffer may overlap.
    unsafe { source.copy_to(buf, end) };
    // SAFETY: `end` is less than `cap`.
    unsafe { buf.wrapping_add(end).write(0) };
    length
}

/// The path that a C text names; `None` for NULL.
///
/// # Safety
/// `text` is NULL, or NUL-terminated and unchanged for `'a`.
unsafe fn path<'a>(text: *const c_char) -> Option<&'a Path> {
    // SAFETY: as above.
    unsafe { view::terminated(text) }.map(|bytes| Path::new(OsStr::from_bytes(bytes)))
}

/// Gives an opened client to C.
///
/// # Safety
/// `out` is a place to write a pointer to.
unsafe fn hand_out(engine: libflags::Client, out: *mut *mut Client) -> Status {
    let (version, number) = engine.face();
    // SAFETY: as above.
    unsafe { out.write(Box::into_raw(Box::new(Client { version, number, engine }))) };
    Status::FlagsOk
}

#[cfg(test)]
mod tests {
    use super::*;

    fn copied(text: Option<&str>, fallback: &CStr, cap: usize) -> (usize, Vec<u8>) {
        let mut buffer = vec![0x55_u8; cap];
        // SAFETY: the buffer has room for `cap` bytes.
        let length = unsafe { copy_out(text, fallback.as_ptr(), buffer.as_mut_ptr().cast(), cap) };
        let written = buffer.iter().position(|&byte| byte == 0).map_or(cap, |end| end);
        buffer.truncate(written);
        (length, buffer)
    }

    #[test]
    fn text_is_cut_between_characters() {
        assert_eq!(copied(Some("abc"), c"", 4), (3, b"abc".to_vec()));
        assert_eq!(copied(Some("abc"), c"", 3), (3, b"ab".to_vec()));
        assert_eq!(copied(Some("aé"), c"", 3), (3, b"a".to_vec()));
        assert_eq!(copied(Some("aé"), c"", 4), (3, "aé".as_bytes().to_vec()));
        assert_eq!(copied(Some("a🦀b"), c"", 5), (6, b"a".to_vec()));
        assert_eq!(copied(Some("a🦀b"), c"", 6), (6, "a🦀".as_bytes().to_vec()));
        assert_eq!(copied(Some("é"), c"", 1), (2, Vec::new()));
        assert_eq!(copied(None, c"fallback", 5), (8, b"fall".to_vec()));
        // Not UTF-8, and all continuation bytes.
        assert_eq!(copied(None, c"\x80\x80\x80\x80\x80\x80", 6), (6, vec![0x80; 5]));
        assert_eq!(copied(Some("abc"), c"", 0), (3, Vec::new()));
    }

    #[test]
    fn a_null_buffer_asks_for_the_length() {
        let null = std::ptr::null_mut;
        // SAFETY: nothing is written where there is no buffer.
        let length = |text, cap| unsafe { copy_out(text, std::ptr::null(), null(), cap) };
        assert_eq!(length(Some("abc"), 10), 3);
        assert_eq!(length(None, 0), 0);
    }

    #[test]
    fn a_fallback_may_lie_in_the_buffer() {
        let mut buffer = *b"..abc\0....";
        let start = buffer.as_mut_ptr().cast::<c_char>();
        // SAFETY: the text ends inside the buffer.
        let length = unsafe { copy_out(None, start.wrapping_add(2), start, buffer.len()) };
        assert_eq!((length, &buffer[..4]), (3, &b"abc\0"[..]));
    }
}
