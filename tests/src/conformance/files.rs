//! Where the published suites lie. They are no part of the project: where they are absent their tests say so and pass.

use std::env;
use std::path::{Path, PathBuf};

/// The folder of published suites: `$FLAGS_CONFORMANCE`, or the `shared/conformance` nearest above this package.
/// `None`, and a line on the standard output saying that `what` is skipped, where there is none.
#[must_use]
pub fn published(what: &str) -> Option<PathBuf> {
    if let Some(folder) = env::var_os("FLAGS_CONFORMANCE") {
        return Some(folder.into());
    }
    let above = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
    let found = above.map(|folder| folder.join("shared/conformance")).find(|folder| folder.is_dir());
    if found.is_none() {
        println!("skipped: {what}: no folder shared/conformance above this package, and FLAGS_CONFORMANCE is not set");
    }
    found
}

/// One of the project's own vector files.
#[must_use]
pub fn own(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors").join(name)
}
