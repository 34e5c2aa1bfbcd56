//! The project's own commands: `cargo xtask test`, `cargo xtask demo` and the rest.
#![forbid(unsafe_code)]

mod count;
mod doctor;
mod process;
mod test;

use clap::{Parser, Subcommand};

/// The project's own commands.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs every check and test there is and says how many passed.
    Test(test::Arguments),
    /// Says which of the programs that building and testing need are here.
    Doctor,
}

fn main() -> anyhow::Result<()> {
    process::end_children_on_signals()?;
    match Arguments::parse().command {
        Command::Test(arguments) => test::run(&arguments),
        Command::Doctor => doctor::run(),
    }
}
