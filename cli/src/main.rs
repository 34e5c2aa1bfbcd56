//! flagsctl: looks at flags, steers flagsd, and changes what a control plane holds.
//!
//! One file a subcommand. Every command takes its parsed arguments and an [`output::Output`], and gives an [`failure::Exit`] or says why it
//! could not do its work.

#![forbid(unsafe_code)]

mod admin;
mod changes;
mod check;
mod completions;
mod confirm;
mod control;
mod diff;
mod eval;
mod failure;
mod freeze;
mod inspect;
mod list;
mod output;
mod overrides;
mod reload;
mod rollback;
mod source;
mod status;
mod value;
mod watch;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use failure::{Exit, Failure};
use output::Output;

/// Looks at feature flags, steers the flagsd that serves them on this host, and changes what a control plane holds.
#[derive(Debug, Parser)]
#[command(name = "flagsctl", version, arg_required_else_help = true, after_help = AFTER_HELP)]
struct Arguments {
    /// Print JSON, for machines; one document, or for `watch` one a line
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

const AFTER_HELP: &str = "\
Where the flags are: the directory given with --store, else $FLAGS_STORE, else the first that is there of \
/run/flags/default, $XDG_RUNTIME_DIR/flags/default and /dev/shm/flags-<uid>/default.

Exit codes:
  0  done; for diff: no difference
  1  the answer is no: diff found differences, eval answered with an error, check --strict found warnings, \
status --check found the flags stale
  2  the arguments are wrong, or check found errors
  3  it cannot be done: no store, no flagsd, a file that cannot be read, a refusal of flagsd or the control plane

Colours are used on a terminal unless NO_COLOR is set.";

#[derive(Debug, Subcommand)]
enum Command {
    Eval(eval::Eval),
    Check(check::Check),
    Status(status::StatusCommand),
    List(list::List),
    Inspect(inspect::Inspect),
    Watch(watch::Watch),
    Diff(diff::Diff),
    Rollback(rollback::Rollback),
    Freeze(freeze::Freeze),
    Unfreeze(freeze::Unfreeze),
    Override(overrides::Override),
    Confirm(confirm::Confirm),
    Reload(reload::Reload),
    #[command(name = "flag")]
    Flags(control::flag::Flags),
    #[command(name = "segment")]
    Segments(control::Segments),
    #[command(name = "env")]
    Environments(control::Environments),
    #[command(name = "project")]
    Projects(control::Projects),
    #[command(name = "token")]
    Tokens(control::Tokens),
    #[command(name = "schedule")]
    Schedules(control::Schedules),
    Log(control::Log),
    Apply(control::Apply),
    Completions(completions::Completions),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let mut output = Output::to_stdout(arguments.json);
    let outcome = run(&arguments.command, &mut output);
    let flushed = output.flush().map_err(Failure::from);
    match outcome.and_then(|exit| flushed.map(|()| exit)) {
        Ok(exit) => exit.into(),
        Err(failure) => failure.report(),
    }
}

fn run(command: &Command, output: &mut Output) -> Result<Exit, Failure> {
    match command {
        Command::Eval(arguments) => eval::run(arguments, output),
        Command::Check(arguments) => check::run(arguments, output),
        Command::Status(arguments) => status::run(arguments, output),
        Command::List(arguments) => list::run(arguments, output),
        Command::Inspect(arguments) => inspect::run(arguments, output),
        Command::Watch(arguments) => watch::run(arguments, output),
        Command::Diff(arguments) => diff::run(arguments, output),
        Command::Rollback(arguments) => rollback::run(arguments, output),
        Command::Freeze(arguments) => freeze::freeze(arguments, output),
        Command::Unfreeze(arguments) => freeze::unfreeze(arguments, output),
        Command::Override(arguments) => overrides::run(arguments, output),
        Command::Confirm(arguments) => confirm::run(arguments, output),
        Command::Reload(arguments) => reload::run(arguments, output),
        Command::Flags(arguments) => control::flag::run(arguments, output),
        Command::Segments(arguments) => control::segments(arguments, output),
        Command::Environments(arguments) => control::environments(arguments, output),
        Command::Projects(arguments) => control::projects(arguments, output),
        Command::Tokens(arguments) => control::tokens(arguments, output),
        Command::Schedules(arguments) => control::schedules(arguments, output),
        Command::Log(arguments) => control::log(arguments, output),
        Command::Apply(arguments) => control::apply(arguments, output),
        Command::Completions(arguments) => completions::run(arguments, output),
    }
}
