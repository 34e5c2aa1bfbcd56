//! The whole chain, real programs all: a control plane, what may lie between, flagsd, and a program that reads.
//!
//! flagsd and flags-control are taken from where this test lies: `cargo test --workspace` builds all three.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod between;
mod cache;
mod certificates;
mod host;
mod metadata;
mod outage;
mod plane;
mod report;
mod restore;
mod rotation;

use std::net::TcpListener;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

/// Nothing here takes so long unless it hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// A program of this workspace; `None`, with a word about it, where it is not built.
fn program(name: &str) -> Option<PathBuf> {
    let folder = std::env::current_exe().unwrap().parent().unwrap().parent().unwrap().to_owned();
    let found = Some(folder.join(name)).filter(|path| path.is_file());
    if found.is_none() {
        println!("skipped: {name} is not built (cargo build --workspace)");
    }
    found
}

fn are_built() -> bool {
    program("flagsd").is_some() && program("flags-control").is_some()
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Waits for something to become so.
#[track_caller]
fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < PATIENCE, "not in time: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}
