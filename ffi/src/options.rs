//! How a client is opened.

use std::ffi::c_char;
use std::mem::{MaybeUninit, offset_of};
use std::time::Duration;

use libflags::definition::Selector;

use crate::status::{Status, failed};
use crate::view::{self, SizeError};

/// How `flags_open` opens a store. Start from `FLAGS_OPTIONS_INIT`, so that fields of later versions have their defaults.
///
/// Copied by `flags_open`: nothing of it needs to outlive the call.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// `sizeof(flags_options)`.
    pub struct_size: usize,
    /// Whether a store must be there: with `true` (so `FLAGS_OPTIONS_INIT`, and NULL for the options) `flags_open` returns
    /// `FLAGS_NO_STORE` where there is none, at once or after `timeout_ms`. With `false` it returns a client at once, which
    /// answers fallbacks until a store appears and attaches to it by itself.
    pub wait: MaybeUninit<bool>,
    /// With `wait`: for how many milliseconds to look for a store before giving up. 0 is to look once.
    pub timeout_ms: u32,
    /// Which flags of the store are seen: "flagSetId=checkout" for those of a flag set, "flagSetId=" for those in none; NULL
    /// for all. NUL-terminated UTF-8.
    pub selector: *const c_char,
}

/// What a caller has to have: beyond it the defaults hold.
const SMALLEST: usize = offset_of!(Options, selector);

/// Options as Rust knows them.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Parsed {
    pub(crate) wait: bool,
    pub(crate) timeout: Duration,
    pub(crate) selector: Selector,
}

impl Options {
    /// Reads what C gave as options.
    ///
    /// # Safety
    /// `options` is NULL, or points to a `flags_options` that keeps what its comment says for the duration of the call.
    pub(crate) unsafe fn parse(options: *const Self) -> Result<Parsed, Status> {
        if options.is_null() {
            return Ok(Parsed { wait: true, timeout: Duration::ZERO, selector: Selector::All });
        }
        if !options.is_aligned() {
            return Err(failed(Status::FlagsInvalidArgument, "options is not aligned"));
        }
        // SAFETY: the caller vouches for `struct_size` bytes; zeros and any other bytes are a valid struct.
        let options = unsafe { view::versioned(options, SMALLEST) }.map_err(|error| {
            failed(
                Status::FlagsInvalidArgument,
                match error {
                    SizeError::Impossible => "options.struct_size is not sizeof(flags_options)",
                    SizeError::UnknownField => "options has a field set that this version of libflags does not know",
                },
            )
        })?;
        // SAFETY: `versioned` initialised every byte, and any byte is a valid u8.
        let wait = unsafe { options.wait.as_ptr().cast::<u8>().read() } != 0;
        // SAFETY: the caller vouches for the text.
        let selector = match unsafe { view::terminated(options.selector) }.map(str::from_utf8) {
            None => Selector::All,
            Some(Err(_)) => return Err(failed(Status::FlagsInvalidArgument, "options.selector is not UTF-8")),
            Some(Ok(text)) => Selector::parse(text)
                .map_err(|error| failed(Status::FlagsInvalidArgument, format_args!("options.selector: {error}")))?,
        };
        Ok(Parsed { wait, timeout: Duration::from_millis(options.timeout_ms.into()), selector })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_parsed() {
        let options = Options {
            struct_size: size_of::<Options>(),
            wait: MaybeUninit::new(false),
            timeout_ms: 1500,
            selector: c"flagSetId=a".as_ptr(),
        };
        let older = Options { struct_size: SMALLEST, ..options };
        let default = Parsed { wait: true, timeout: Duration::ZERO, selector: Selector::All };
        let parsed =
            Parsed { wait: false, timeout: Duration::from_millis(1500), selector: Selector::FlagSet("a".into()) };
        // SAFETY: NULL is allowed.
        assert_eq!(unsafe { Options::parse(std::ptr::null()) }, Ok(default));
        // SAFETY: a whole struct with a text that lives as long as the program.
        assert_eq!(unsafe { Options::parse(&options) }.as_ref(), Ok(&parsed));
        // SAFETY: as above.
        assert_eq!(unsafe { Options::parse(&older) }, Ok(Parsed { selector: Selector::All, ..parsed }));
    }

    #[test]
    fn options_that_cannot_be_are_refused() {
        let options =
            Options { struct_size: 0, wait: MaybeUninit::new(true), timeout_ms: 0, selector: c"\xff".as_ptr() };
        for struct_size in [0, SMALLEST - 1, usize::MAX, size_of::<Options>()] {
            let wrong = Options { struct_size, ..options };
            // SAFETY: the size is refused before anything is read; the last is whole, its selector is not UTF-8.
            assert_eq!(unsafe { Options::parse(&wrong) }, Err(Status::FlagsInvalidArgument), "{struct_size}");
        }
    }
}
