//! What the fuzzer once found, `fuzz/regressions/TARGET/`, again. (The target `c_api` is repeated in `ffi/src/calls.rs`.)

use std::fs;

use libflags_tests::fuzz;
use libflags_tests::golden;
use libflags_tests::languages::root;

#[test]
fn definitions_that_once_went_wrong() {
    repeat("definition", fuzz::definition::run);
    fuzz::definition::run(
        &fs::read(golden::folder(golden::NEWEST).join("definition.json")).expect("the golden definition"),
    );
}

#[test]
fn stores_that_once_went_wrong() {
    repeat("store", fuzz::store::run);
    let read = |name: &str| fs::read(golden::folder(golden::NEWEST).join(name)).expect("a golden file");
    let (control, segment, list) = (read("control"), read("segment-1"), read("list-8b23f8252ecc9fb4"));
    for more in 0..8 {
        fuzz::store::run(&fuzz::store::input(0x3f, more, &control, &segment, &list));
    }
}

fn repeat(target: &str, run: fn(&[u8])) {
    for entry in fs::read_dir(root().join("fuzz/regressions").join(target)).into_iter().flatten() {
        let path = entry.expect("an entry").path();
        println!("{}", path.display());
        run(&fs::read(&path).expect("an input"));
    }
}
