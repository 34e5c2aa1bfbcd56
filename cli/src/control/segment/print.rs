//! `flagsctl segment ids`

use std::io::Read;

use clap::Args;

use super::path;
use crate::{
    control::{client::Control, profile::Target},
    failure::{Exit, Failure},
    output::Output,
};

/// Print the ids of a list, in order, one a line
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  flagsctl segment ids vip --env production > vip.txt")]
pub(crate) struct Print {
    /// The segment's key
    key: String,
    #[command(flatten)]
    target: Target,
}

pub(crate) fn run(arguments: &Print, output: &mut Output) -> Result<Exit, Failure> {
    let control = Control::open(&arguments.target)?;
    let mut ids = control.download(&path(&control, &[&arguments.key, "ids"])?)?;
    let mut buffer = vec![0; 64 << 10];
    loop {
        match ids.read(&mut buffer) {
            Ok(0) => return Ok(Exit::Done),
            Ok(read) => output.raw(&buffer[..read])?,
            Err(error) => return Err(Failure::new(format!("the control plane has not sent all ids: {error}"))),
        }
    }
}
