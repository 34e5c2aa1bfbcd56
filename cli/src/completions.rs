//! `flagsctl completions`: scripts that let a shell complete commands and options.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::{
    Arguments,
    failure::{Exit, Failure},
    output::Output,
};

/// Print a script that completes flagsctl's commands and options
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  flagsctl completions bash > ~/.local/share/bash-completion/completions/flagsctl
  flagsctl completions zsh > \"${fpath[1]}/_flagsctl\"
  flagsctl completions fish > ~/.config/fish/completions/flagsctl.fish")]
pub(crate) struct Completions {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

pub(crate) fn run(arguments: &Completions, output: &mut Output) -> Result<Exit, Failure> {
    // The generator panics where it cannot write, as into a closed pipe: so first into memory.
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut Arguments::command(), "flagsctl", &mut script);
    output.raw(&script)?;
    Ok(Exit::Done)
}
