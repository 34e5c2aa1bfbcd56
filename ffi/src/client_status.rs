//! How fresh the flags are that a client answers from.

use std::ffi::c_char;
use std::mem::size_of;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use libflags::{State as CoreState, Status as CoreStatus};

use crate::client::Client;
use crate::panic::guard;
use crate::status::{Status, failed};
use crate::view;

/// What a store says of itself. A later library may answer ones that this header does not name.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// There is no store yet: every answer is the fallback.
    Detached = 0,
    /// The flags are as their source has them, as far as is known.
    Fresh = 1,
    /// The source has not confirmed the flags for longer than it promised to, or a newer version was refused; the last good
    /// one answers.
    Stale = 2,
    /// The operator has stopped changes.
    Frozen = 3,
}

/// How fresh a client's flags are. Set `struct_size` to `sizeof(flags_client_status)` (`FLAGS_CLIENT_STATUS_INIT` does).
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct ClientStatus {
    /// `sizeof(flags_client_status)`.
    pub struct_size: usize,
    /// The version in use; it grows with each change. 0 while there is none.
    pub generation: u64,
    /// What the source calls that version; 0 where it has no numbers.
    pub revision: u64,
    /// When it was published, in nanoseconds since 1970-01-01T00:00:00Z.
    pub published_at_ns: u64,
    /// When the source last confirmed it, in nanoseconds since 1970-01-01T00:00:00Z; 0 for never.
    pub confirmed_at_ns: u64,
    /// For how long it has not been confirmed (since it was published, where it never was), in nanoseconds.
    pub age_ns: u64,
    /// The age at which it counts as stale, in nanoseconds; 0 for never.
    pub max_age_ns: u64,
    /// How many versions this process holds in memory for this client: the current one, and those that are still in use.
    pub generations_mapped: u64,
    /// How far it can be relied on to be current.
    pub state: State,
    /// Whether the daemon that publishes the store has shown a sign of life lately. Flags answer without it just as well.
    pub daemon_alive: bool,
    /// Why the newest version, or the store, could not be used; "" when all is well. NUL-terminated, cut off where it has no
    /// room.
    pub problem: [c_char; 256],
}

/// The first version of the struct ended here.
const SMALLEST: usize = size_of::<ClientStatus>();

/// How fresh a client's flags are, at this moment.
///
/// `FLAGS_INVALID_ARGUMENT` for a NULL `client` or `out`, or an impossible `out->struct_size`; only then is `*out` untouched.
/// Any number of threads at once. Not for a hot path: it may look at files.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flags_get_status(client: *const Client, out: *mut ClientStatus) -> Status {
    guard(Status::FlagsInternal, || {
        // SAFETY: the caller vouches for a client that is not closed.
        let Some(client) = (unsafe { client.as_ref() }) else {
            return failed(Status::FlagsInvalidArgument, "client is NULL");
        };
        // SAFETY: the caller vouches for a place to write to that begins with its size.
        if !unsafe { view::writable(out, SMALLEST) } {
            let why = "out is NULL, or its struct_size is not sizeof(flags_client_status)";
            return failed(Status::FlagsInvalidArgument, why);
        }
        let status = ClientStatus::of(&client.engine.status());
        // SAFETY: `writable` said yes, and the caller vouches for so many bytes.
        unsafe { view::write_versioned(out, &status) };
        Status::FlagsOk
    })
}

impl ClientStatus {
    fn of(status: &CoreStatus) -> Self {
        Self {
            struct_size: 0,
            generation: status.generation,
            revision: status.revision,
            published_at_ns: wall_ns(status.published_at),
            confirmed_at_ns: wall_ns(status.upstream_confirmed_at),
            age_ns: nanoseconds(status.age),
            max_age_ns: nanoseconds(status.max_age),
            generations_mapped: status.generations_mapped as u64,
            state: match status.state {
                CoreState::Fresh => State::Fresh,
                CoreState::Frozen => State::Frozen,
                CoreState::Detached => State::Detached,
                // `State` may grow: one that C has no number for yet is not to be relied on.
                _ => State::Stale,
            },
            daemon_alive: status.daemon_alive,
            problem: cut(status.last_error.as_deref().unwrap_or_default()),
        }
    }
}

fn wall_ns(time: Option<SystemTime>) -> u64 {
    nanoseconds(time.and_then(|time| time.duration_since(UNIX_EPOCH).ok()))
}

fn nanoseconds(duration: Option<Duration>) -> u64 {
    duration.map_or(0, |duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX))
}

/// As much of a text as has room, ended by a NUL and cut between characters.
fn cut<const ROOM: usize>(text: &str) -> [c_char; ROOM] {
    let end = (0..ROOM).rev().find(|&end| text.is_char_boundary(end)).unwrap_or(0);
    let mut place = [0; ROOM];
    let to = place.as_mut_ptr().cast::<u8>();
    // SAFETY: `end` is a boundary in the text and below ROOM; a c_char is a byte, signed or not.
    unsafe { text.as_ptr().copy_to_nonoverlapping(to, end) };
    place
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_cut_between_characters() {
        let bytes = |place: [c_char; 4]| place.map(|byte| u8::try_from(byte).unwrap_or(0xFF));
        assert_eq!(bytes(cut("ab")), *b"ab\0\0");
        assert_eq!(bytes(cut("abcdef")), *b"abc\0");
        assert_eq!(bytes(cut("abé")), *b"ab\0\0");
    }

    #[test]
    fn times_are_nanoseconds() {
        assert_eq!(wall_ns(None), 0);
        assert_eq!(wall_ns(Some(UNIX_EPOCH + Duration::from_micros(1))), 1000);
        assert_eq!(nanoseconds(Some(Duration::MAX)), u64::MAX);
    }
}
