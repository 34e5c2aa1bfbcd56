//! `cargo xtask soak`: readers in four languages follow flagsd for long, while everything is killed; every answer is checked.
//!
//! `tests/src/bin/soak.rs` is what does it; here everything that it needs is built.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Result, ensure};

use crate::languages::Build;
use crate::process::{self, Program};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// How long.
    #[arg(long, default_value_t = 30)]
    minutes: u64,
    /// The same in seconds.
    #[arg(long, conflicts_with = "minutes")]
    seconds: Option<u64>,
    /// Repeats the definitions, and what happens to whom, of another run.
    #[arg(long)]
    seed: Option<u64>,
    /// Runs what is shipped, optimised and without the library's own assertions.
    #[arg(long)]
    shipped: bool,
    /// Writes the report there too.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let build = if arguments.shipped { Build::DIST } else { Build::DEBUG };
    build.packages(&["libflags-ffi", "libflags-python", "flagsd"])?;
    // Apart: the tests' features are not to get into what is shipped.
    Build::DEBUG.packages(&["libflags-tests"])?;
    let folder = process::scratch("soak")?;
    let (c, cpp) = (folder.join("in-c"), folder.join("in-cpp"));
    build.compile(&process::root().join("tests/c/soak.c"), &c)?;
    build.compile(&process::root().join("tests/cpp/soak.cpp"), &cpp)?;
    let seconds = arguments.seconds.unwrap_or(arguments.minutes * 60);
    let seed = arguments.seed.unwrap_or_else(|| {
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        // Short enough to be typed.
        u64::from(since_1970.subsec_nanos()) ^ since_1970.as_secs() & 0xffff
    });
    let mut command = Command::new(Build::DEBUG.file("soak"));
    command.arg("--seconds").arg(seconds.to_string()).arg("--seed").arg(seed.to_string());
    command.arg("--flagsd").arg(build.file("flagsd")).arg("--c").arg(c).arg("--cpp").arg(cpp);
    command.arg("--python-path").arg(build.python_path()?);
    if let Some(path) = &arguments.json {
        command.arg("--json").arg(path);
    }
    let mut soak = Program::start("soak", command.stdin(Stdio::null()))?;
    // It ends by itself; what it waits for on the way adds up to minutes at the very most.
    let status = soak.wait(Duration::from_secs(seconds + 900))?;
    ensure!(status.success(), "the soak failed: {status}");
    println!("1 passed, 0 failed");
    Ok(())
}
