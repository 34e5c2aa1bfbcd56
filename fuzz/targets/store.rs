//! Any bytes as the files of a store.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| libflags_tests::fuzz::store::run(data));
