//! The project's own commands: `cargo xtask test`, `cargo xtask demo` and the rest.
#![forbid(unsafe_code)]

mod bench;
mod control;
mod count;
mod daemon;
mod demo;
mod doctor;
mod figures;
mod fuzz;
mod gen_header;
mod install;
mod instructions;
mod languages;
mod peers;
mod process;
mod readme;
mod sanitize;
mod soak;
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
    /// Shows it at work: one flag file, one flagsd, programs in four languages, edits, a kill -9.
    Demo,
    /// Measures what a flag check costs here, and with others, or what the control plane reaches; keeps a record.
    Bench(bench::Arguments),
    /// Counts the instructions of a flag check, and compares them with those accepted.
    Instructions(instructions::Arguments),
    /// Kills, stops and forks others' readers and writers as well as ours, and looks whether docs/comparison.md says what happens.
    Compare,
    /// Lets readers in four languages follow flagsd for long while everything is killed, and checks every answer.
    Soak(soak::Arguments),
    /// Looks for inputs that make something go wrong: definitions, stores, calls of the C interface.
    Fuzz(fuzz::Arguments),
    /// Runs tests under sanitizers and valgrind.
    Sanitize(sanitize::Arguments),
    /// Compiles and runs the programs in the README.
    Readme,
    /// Says which of the programs that building and testing need are here.
    Doctor,
    /// Makes the files that are generated and committed.
    Gen {
        /// Which.
        what: Generated,
        /// Only says whether the committed file is what would be made.
        #[arg(long)]
        check: bool,
    },
    /// Builds and installs the C and C++ library for compilers, pkg-config and CMake; or flagsd, or the control plane, for systemd.
    Install(install::Arguments),
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Generated {
    /// `include/flags.h`
    Header,
    /// The figures in `README.md` and `docs/design/control.md`, from the records that they name.
    Figures,
}

fn main() -> anyhow::Result<()> {
    process::end_children_on_signals()?;
    match Arguments::parse().command {
        Command::Test(arguments) => test::run(&arguments),
        Command::Demo => demo::run(),
        Command::Bench(arguments) => bench::run(&arguments),
        Command::Instructions(arguments) => instructions::run(&arguments),
        Command::Compare => peers::bad_days(),
        Command::Soak(arguments) => soak::run(&arguments),
        Command::Fuzz(arguments) => fuzz::run(&arguments),
        Command::Sanitize(arguments) => sanitize::run(&arguments),
        Command::Readme => readme::run(),
        Command::Doctor => doctor::run(),
        Command::Gen { what: Generated::Header, check } => gen_header::run(check),
        Command::Gen { what: Generated::Figures, check } => figures::generate(check),
        Command::Install(arguments) => install::run(&arguments),
    }
}
