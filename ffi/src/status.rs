//! What a function that can fail returns, and the words for it.

use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char};
use std::fmt;
use std::mem::MaybeUninit;

use crate::panic::guard;

/// What a function that can fail returns. Numbers are never reused; a later library may return ones that this header does
/// not name, so treat everything but `FLAGS_OK` as a failure. `flags_last_error()` tells the particulars.
///
/// cbindgen:rename-all=ScreamingSnakeCase
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It worked.
    FlagsOk = 0,
    /// An argument cannot be: NULL where it must not be, an unknown number, an impossible `struct_size`.
    FlagsInvalidArgument = 1,
    /// There is no store in any of the places where one is looked for, which `flags_last_error()` names.
    FlagsNoStore = 2,
    /// There is a store, but nothing has been published in it yet.
    FlagsNothingPublished = 3,
    /// A file of the store belongs to somebody, or may be written by somebody, who is not to be trusted.
    FlagsUntrusted = 4,
    /// A file of the store is torn, cut short or altered.
    FlagsCorrupt = 5,
    /// There is a store, in a format that this library does not know.
    FlagsUnknownFormat = 6,
    /// The system refused something: a file that cannot be read, too many open files, no memory to map.
    FlagsIo = 7,
    /// A flag definition that cannot be used at all; `flags_last_error()` says where and why.
    FlagsDefinition = 8,
    /// There is nothing at this place: `flags_snapshot_metadata` beyond the last entry.
    FlagsNotFound = 9,
    /// A defect of this library, contained. Please report it.
    FlagsInternal = 10,
}

impl Status {
    /// Every status, for the table in docs/abi.md and the words below.
    #[cfg(test)]
    pub(crate) const ALL: [Self; 11] = [
        Self::FlagsOk,
        Self::FlagsInvalidArgument,
        Self::FlagsNoStore,
        Self::FlagsNothingPublished,
        Self::FlagsUntrusted,
        Self::FlagsCorrupt,
        Self::FlagsUnknownFormat,
        Self::FlagsIo,
        Self::FlagsDefinition,
        Self::FlagsNotFound,
        Self::FlagsInternal,
    ];

    /// The status for an error of the engine.
    pub(crate) fn of(error: &libflags::Error) -> Self {
        use libflags::{Error, definition::DefinitionError};
        match error {
            Error::NoStore { .. } => Self::FlagsNoStore,
            Error::NothingPublished { .. } => Self::FlagsNothingPublished,
            Error::Untrusted { .. } => Self::FlagsUntrusted,
            Error::Corrupt { .. } | Error::Payload(_) => Self::FlagsCorrupt,
            Error::UnknownFormat { .. } => Self::FlagsUnknownFormat,
            Error::Definition(DefinitionError::Io { .. }) => Self::FlagsIo,
            Error::Definition(_) => Self::FlagsDefinition,
            // Only who publishes meets `Locked`. A kind that C has no number for yet is the system's most likely.
            _ => Self::FlagsIo,
        }
    }

    const fn words(number: u32) -> &'static CStr {
        match number {
            0 => c"ok",
            1 => c"invalid argument",
            2 => c"no store",
            3 => c"nothing published",
            4 => c"store not trusted",
            5 => c"store corrupt",
            6 => c"unknown format",
            7 => c"input or output failed",
            8 => c"invalid flag definition",
            9 => c"not found",
            10 => c"internal error",
            _ => c"unknown status",
        }
    }
}

/// Words for a status, such as "no store"; for a number that is none, "unknown status".
///
/// Never fails, never NULL. Any thread. The text is NUL-terminated and lives as long as the library is loaded.
#[unsafe(no_mangle)]
pub extern "C" fn flags_status_text(status: MaybeUninit<Status>) -> *const c_char {
    // SAFETY: C has no uninitialised parameters, and an initialised enum of C is 32 bits that are all valid as u32.
    let number = unsafe { status.as_ptr().cast::<u32>().read() };
    Status::words(number).as_ptr()
}

/// What went wrong in the last call of this thread that returned a status other than `FLAGS_OK`, in a sentence for a log,
/// such as "no store at /run/flags/default, /dev/shm/flags-1000/default". "" where none did.
///
/// Never fails, never NULL. Each thread has its own. The text is NUL-terminated and lives until the next failing call of
/// this thread, or the thread's end. The words may change from release to release.
#[unsafe(no_mangle)]
pub extern "C" fn flags_last_error() -> *const c_char {
    guard(c"".as_ptr(), || {
        LAST_ERROR.try_with(|last| last.borrow().as_deref().map_or(c"".as_ptr(), CStr::as_ptr)).unwrap_or(c"".as_ptr())
    })
}

thread_local! {
    /// Freed when the thread ends; glibc keeps a library whose threads have this still to do loaded through `dlclose`.
    static LAST_ERROR: RefCell<Option<CString>> = const { RefCell::new(None) };
}

/// Remembers why a call fails, and passes its status on.
#[cold]
pub(crate) fn failed(status: Status, why: impl fmt::Display) -> Status {
    let mut text = why.to_string().into_bytes();
    text.retain(|&byte| byte != 0);
    if let Ok(text) = CString::new(text) {
        // A thread in the middle of its end has nobody left to read it.
        let _ = LAST_ERROR.try_with(|last| last.replace(Some(text)));
    }
    status
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_has_words() {
        for (number, status) in Status::ALL.into_iter().enumerate() {
            assert_eq!(status as usize, number);
            // SAFETY: never NULL and NUL-terminated, as its comment says.
            let words = unsafe { CStr::from_ptr(flags_status_text(MaybeUninit::new(status))) };
            assert_ne!(words, c"unknown status", "{status:?}");
        }
        let last = u32::try_from(Status::ALL.len()).expect("a small number");
        assert_eq!(Status::words(last), c"unknown status");
    }

    #[test]
    fn the_last_error_is_the_threads_own() {
        // SAFETY: never NULL and NUL-terminated, as its comment says.
        let text = || unsafe { CStr::from_ptr(flags_last_error()) }.to_owned();
        assert_eq!(text(), c"".to_owned());
        assert_eq!(failed(Status::FlagsIo, "a\0b"), Status::FlagsIo);
        assert_eq!(text(), c"ab".to_owned());
        let other = std::thread::spawn(text).join().expect("no panic");
        assert_eq!(other, c"".to_owned());
    }

    /// The table in docs/abi.md has every status and every kind of error, and says of each what the code does.
    #[test]
    fn the_table_of_errors_is_right() {
        use libflags::{Error, definition::DefinitionError};
        let path = std::path::PathBuf::from("a");
        let io = || std::io::Error::from(std::io::ErrorKind::NotFound);
        let errors = [
            ("NoStore", Error::NoStore { tried: Vec::new() }),
            ("NothingPublished", Error::NothingPublished { path: path.clone() }),
            ("Untrusted", Error::Untrusted { path: path.clone(), uid: 1, mode: 0o666, reason: "a" }),
            ("Corrupt", Error::Corrupt { path: path.clone(), reason: String::new() }),
            ("Payload", Error::Payload(String::new())),
            ("UnknownFormat", Error::UnknownFormat { path: path.clone(), found: String::new(), supported: 1 }),
            ("Io", Error::Io { action: "open", path: path.clone(), source: io() }),
            ("Locked", Error::Locked { path: path.clone(), pid: None }),
            ("Definition(Io)", Error::Definition(DefinitionError::Io { path, error: io() })),
            ("Definition", Error::Definition(DefinitionError::NotUtf8 { file: String::new(), line: 1, column: 1 })),
        ];

        let page =
            std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/abi.md")).expect("docs/abi.md");
        let header =
            std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../include/flags.h")).expect("flags.h");
        let rows: Vec<[String; 3]> = page
            .lines()
            .skip_while(|line| !line.starts_with("| core `Error`"))
            .skip(2)
            .take_while(|line| line.starts_with('|'))
            .map(|line| {
                let mut cells = line.split('|').skip(1).map(|cell| cell.trim().trim_matches('`').to_owned());
                std::array::from_fn(|_| cells.next().expect("a cell"))
            })
            .collect();
        for (kind, error) in &errors {
            let row = rows.iter().find(|row| row[0] == *kind).unwrap_or_else(|| panic!("{kind} has no row"));
            assert_eq!(row[2], (Status::of(error) as u32).to_string(), "{kind}");
        }
        for [kind, name, number] in &rows {
            assert!(kind.is_empty() || errors.iter().any(|(known, _)| known == kind), "no such kind: {kind}");
            assert!(header.contains(&format!("    {name} = {number},\n")), "no such status: {name} = {number}");
        }
        for status in Status::ALL {
            assert!(rows.iter().any(|row| row[2] == (status as u32).to_string()), "{status:?} has no row");
        }
    }
}
