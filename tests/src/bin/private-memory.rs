//! `private-memory STORE FLAGS`: opens a store, evaluates its flags `flag-0` to `flag-(FLAGS-1)`, and prints what memory of
//! its own that took: `private BEFORE AFTER EVALUATIONS`, in KiB. Then it waits for its standard input to end.

use std::fs;
use std::io::Read;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use libflags::{Client, Context};
use libflags_tests::processes::kib;

fn main() -> Result<()> {
    let usage = "usage: private-memory STORE FLAGS";
    let mut arguments = std::env::args().skip(1);
    let (store, flags) = (arguments.next().context(usage)?, arguments.next().context(usage)?.parse::<u64>()?);
    // What looking itself takes is not the library's.
    private_kib()?;
    let before = private_kib()?;
    let client = Client::open(Some(Path::new(&store)))?;
    let context = Context::new("user-1").with("tier", "premium");
    for number in 0..flags {
        let found = client.bool(format!("flag-{number}"), &context, false);
        ensure!(found, "flag-{number} is not on");
    }
    println!("private {before} {} {flags}", private_kib()?);
    // Nothing is ever written there: it ends.
    std::io::stdin().read_exact(&mut [0]).ok();
    Ok(())
}

/// What this process has in memory that no other has.
fn private_kib() -> Result<u64> {
    let rollup = fs::read_to_string("/proc/self/smaps_rollup")?;
    let of = |name| kib(&rollup, name).with_context(|| format!("smaps_rollup has no {name}"));
    Ok(of("Private_Clean:")? + of("Private_Dirty:")?)
}
