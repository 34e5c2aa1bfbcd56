//! Calls of the C interface in any order, with anything that its contract allows.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| flags_fuzzed::calls::run(data));
