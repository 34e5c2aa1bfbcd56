//! The C face of libflags: `libflags.so` and `libflags.a`.
//!
//! The contract with callers is written once, in the comments of this crate that cbindgen copies into `include/flags.h`;
//! `docs/abi.md` says what may change and what may not. Three rules hold for every function here:
//!
//! - its body runs inside [`panic::guard`], so nothing ever unwinds into C;
//! - a pointer is checked for NULL, and a number from C is parsed into an enum, in release builds too;
//! - an output is written only when the function returns [`FLAGS_OK`](status::Status::FlagsOk).
//!
//! A C type lives in the file of its name.

// What a caller has to keep is said in the words of C, for the readers of flags.h: a section about Rust's unsafe would be
// noise there. In short it is: every pointer is NULL or valid for what the comment says, for as long as it says.
#![expect(clippy::missing_safety_doc, reason = "the comments are the C header's, and state the contract in C terms")]

#[cfg(any(test, fuzzing))]
pub mod calls;
pub mod client;
pub mod client_status;
pub mod context;
pub mod flag_ref;
pub mod metadata;
pub mod options;
mod panic;
pub mod result;
pub mod snapshot;
pub mod status;
pub mod value;
pub mod version;
mod view;
