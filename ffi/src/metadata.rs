//! What a definition says about a flag beside its value.

use std::ffi::c_char;
use std::mem::size_of;

use libflags::evaluate::{ScalarRef, Want};

use crate::context::Checked;
use crate::panic::guard;
use crate::snapshot::Snapshot;
use crate::status::{Status, failed};
use crate::value::{Text, Value};
use crate::view;

/// An entry of a flag's metadata. Set `struct_size` to `sizeof(flags_metadata)` (`FLAGS_METADATA_INIT` does).
///
/// Texts in it are not NUL-terminated and live in the snapshot: until `flags_snapshot_release()`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Metadata {
    /// `sizeof(flags_metadata)`.
    pub struct_size: usize,
    /// What it is called, such as "owner".
    pub name: Text,
    /// A `FLAGS_TYPE_BOOL`, `FLAGS_TYPE_DOUBLE` or `FLAGS_TYPE_STRING`.
    pub value: Value,
}

/// The first version of the struct ended here.
const SMALLEST: usize = size_of::<Metadata>();

/// The metadata of a flag, entry by entry: the flag set's, overlaid by the flag's own, in no particular order. A key that
/// names no flag has the flag set's.
///
///     flags_metadata entry = FLAGS_METADATA_INIT;
///     for (size_t i = 0; flags_snapshot_metadata(snapshot, "new-checkout", i, &entry) == FLAGS_OK; i++) { ... }
///
/// `FLAGS_NOT_FOUND` at and beyond the last; `FLAGS_INVALID_ARGUMENT` for a NULL argument or an impossible `struct_size`.
/// `*out` is written only on `FLAGS_OK`. Any number of threads at once.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flags_snapshot_metadata(
    snapshot: *const Snapshot,
    key: *const c_char,
    index: usize,
    out: *mut Metadata,
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
        // SAFETY: the caller vouches for a place to write to that begins with its size.
        if !unsafe { view::writable(out, SMALLEST) } {
            return failed(
                Status::FlagsInvalidArgument,
                "out is NULL, or its struct_size is not sizeof(flags_metadata)",
            );
        }
        let evaluation = snapshot.pinned.evaluate(key, Want::Any, &Checked::EMPTY);
        let Some((name, value)) = evaluation.metadata.iter().nth(index) else {
            // The end of a loop: nothing to remember in words.
            return Status::FlagsNotFound;
        };
        let value = match value {
            ScalarRef::Bool(value) => Value::bool(value),
            ScalarRef::Number(value) => Value::double(value),
            ScalarRef::Text(text) => Value::string(text),
        };
        let entry = Metadata { struct_size: 0, name: Text::borrowed(name), value };
        // SAFETY: `writable` said yes, and the caller vouches for so many bytes.
        unsafe { view::write_versioned(out, &entry) };
        Status::FlagsOk
    })
}
