//! One version of the flags, held for as long as it is needed.

use std::ffi::c_char;
use std::mem::MaybeUninit;

use libflags::Pinned;
use libflags::evaluate::Want;

use crate::client::Client;
use crate::context::{Checked, Context};
use crate::panic::guard;
use crate::result::{ErrorCode, EvaluationResult, SMALLEST};
use crate::status::{Status, failed};
use crate::value::Type;
use crate::view;

/// One version of the flags: every read from it is of that version, whatever is published meanwhile.
#[derive(Debug)]
pub struct Snapshot {
    pub(crate) pinned: Pinned,
}

/// Holds on to the current version of the flags, for several reads that must fit together (a request), or to read texts
/// without a copy.
///
/// Release it with `flags_snapshot_release()`, soon: it keeps its version in memory. It may outlive its client, and any
/// number of threads may use it at once. NULL only for a NULL client, or on a defect of this library. While there is no store
/// it is empty: `flags_evaluate()` answers `FLAGS_ERROR_PROVIDER_NOT_READY` from it, for as long as it lives.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flags_snapshot_acquire(client: *const Client) -> *mut Snapshot {
    guard(std::ptr::null_mut(), || {
        // SAFETY: the caller vouches for a client that is not closed.
        match unsafe { client.as_ref() } {
            Some(client) => Box::into_raw(Box::new(Snapshot { pinned: client.engine.snapshot() })),
            None => std::ptr::null_mut(),
        }
    })
}

/// Lets go of a version. NULL is fine.
///
/// No other call with this snapshot may be running or come later, and texts that came from it are gone.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flags_snapshot_release(snapshot: *mut Snapshot) {
    guard((), || {
        if !snapshot.is_null() {
            // SAFETY: it came from `flags_snapshot_acquire`, and the caller vouches that this is its last use.
            drop(unsafe { Box::from_raw(snapshot) });
        }
    });
}

/// The generation that a snapshot holds: it grows with each change, and is 0 for NULL and while there is no store.
///
/// Never fails. Any number of threads at once.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flags_snapshot_generation(snapshot: *const Snapshot) -> u64 {
    guard(0, || {
        // SAFETY: the caller vouches for a snapshot that is not released.
        unsafe { snapshot.as_ref() }.map_or(0, |snapshot| snapshot.pinned.generation())
    })
}

/// The value of a flag for a context, with its variant, its reason and what may be wrong.
///
/// `want` is `FLAGS_TYPE_BOOL`, `_INT`, `_DOUBLE`, `_STRING` or `_JSON`, or `FLAGS_TYPE_NONE` for whatever the flag has.
/// `context` may be NULL. An evaluation that has no value (no such flag, disabled, another type, broken, no store yet, a
/// context that cannot be) is an answer as well: `FLAGS_OK` with `FLAGS_TYPE_NONE` as the value's type.
///
/// `FLAGS_INVALID_ARGUMENT` for a NULL `snapshot`, `key` or `out`, another `want`, or an impossible `out->struct_size`; only
/// then is `*out` untouched. Any number of threads at once; takes no lock, allocates nothing and makes no system call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flags_evaluate(
    snapshot: *const Snapshot,
    key: *const c_char,
    want: MaybeUninit<Type>,
    context: *const Context,
    out: *mut EvaluationResult,
) -> Status {
    guard(Status::FlagsInternal, || {
        // SAFETY: the caller vouches for a snapshot that is not released.
        let Some(snapshot) = (unsafe { snapshot.as_ref() }) else {
            return failed(Status::FlagsInvalidArgument, "snapshot is NULL");
        };
        // SAFETY: the caller vouches for a NUL-terminated text.
        let Some(key) = (unsafe { view::terminated(key) }) else {
            return failed(Status::FlagsInvalidArgument, "key is NULL");
        };
        let want = match Type::parse(want) {
            Some(Type::None) => Want::Any,
            Some(Type::Bool) => Want::Bool,
            Some(Type::Int) => Want::Int,
            Some(Type::Double) => Want::Float,
            Some(Type::String) => Want::Text,
            Some(Type::Json) => Want::Json,
            Some(Type::List | Type::Object) | None => {
                return failed(Status::FlagsInvalidArgument, "want is not a type that a flag can have");
            }
        };
        // SAFETY: the caller vouches for a place to write to that begins with its size.
        if !unsafe { view::writable(out, SMALLEST) } {
            return failed(Status::FlagsInvalidArgument, "out is NULL, or its struct_size is not sizeof(flags_result)");
        }
        // SAFETY: the caller keeps what the header says of the context for the whole call.
        let result = match unsafe { Checked::new(context) } {
            Some(context) => EvaluationResult::of(&snapshot.pinned.evaluate(key, want, &context)),
            None => EvaluationResult::wrong(ErrorCode::InvalidContext),
        };
        // SAFETY: `writable` said yes, and the caller vouches for so many bytes.
        unsafe { view::write_versioned(out, &result) };
        Status::FlagsOk
    })
}
