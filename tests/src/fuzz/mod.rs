//! What the fuzzer calls with bytes of its choice. A finding is a panic, a fault, a hang or a sanitizer's word.
//!
//! `fuzz/` makes programs of these under libFuzzer (`cargo xtask fuzz`); the everyday tests give them the inputs that once found
//! something, `fuzz/regressions/`. The third target, calls of the C interface, is `ffi/src/calls.rs`.

pub mod definition;
pub mod store;
