//! The host's feature-flag daemon: reads flag definitions and publishes them, compiled, into shared memory.
//!
//! ```text
//! source ──► set ──► pipeline: compile → guard → publish → keep       admin, notify, metrics look on
//! files      waits    one flag set, in order, on one thread
//! ```
#![forbid(unsafe_code)]

mod admin;
mod clock;
mod config;
mod guard;
mod input;
mod keep;
mod log;
mod metrics;
mod notify;
mod overrides;
mod pipeline;
mod place;
mod problems;
mod run;
mod set;
mod source;
mod status;
mod texts;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use config::{Config, Flags};
use source::SourceSpec;

/// Publishes feature flags to every process on this host.
#[derive(Debug, Parser)]
#[command(name = "flagsd", version, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Follow the sources and publish what they say, until told to stop
    ///
    /// Exit code: 0 after SIGTERM or SIGINT, 1 when something failed, 2 for a bad configuration, 3 when another flagsd has
    /// the store.
    Run(Flags),
    /// Say whether the configuration is good, and what it comes to; exit code 2 if it is not
    CheckConfig(Flags),
}

/// A configuration that is not good.
const BAD_CONFIG: u8 = 2;

fn main() -> ExitCode {
    let (run, flags) = match Cli::parse().command {
        Command::Run(flags) => (true, flags),
        Command::CheckConfig(flags) => (false, flags),
    };
    let config = match Config::load(&flags) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("flagsd: {error}");
            return ExitCode::from(BAD_CONFIG);
        }
    };
    if run {
        return run::run(config, flags);
    }
    // Only here: with last-known-good flags to publish, bad files are no reason not to start.
    let mut sources = config.sets.iter().flat_map(|set| &set.sources);
    if let Err(error) = sources.try_for_each(SourceSpec::check_files) {
        eprintln!("flagsd: {error}");
        return ExitCode::from(BAD_CONFIG);
    }
    print!("{config}");
    ExitCode::SUCCESS
}
