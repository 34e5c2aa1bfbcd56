//! `flagsctl freeze` and `flagsctl unfreeze`: whether flagsd follows its sources.

use clap::Args;

use crate::{
    admin::Admin,
    failure::{Exit, Failure},
    output::{Look, Output},
    source::StoreArguments,
};

/// Stay at what is published: changes of the sources wait
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  flagsctl freeze")]
pub(crate) struct Freeze {
    #[command(flatten)]
    store: StoreArguments,
}

/// Follow the sources again, and publish what has waited
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  flagsctl unfreeze")]
pub(crate) struct Unfreeze {
    #[command(flatten)]
    store: StoreArguments,
}

pub(crate) fn freeze(arguments: &Freeze, output: &mut Output) -> Result<Exit, Failure> {
    let answer = Admin::connect(&arguments.store)?.post("freeze", None)?;
    if output.json {
        output.document(&answer)?;
    } else {
        output.line(format!("frozen at generation {} until `flagsctl unfreeze`", answer["generation"]))?;
    }
    Ok(Exit::Done)
}

pub(crate) fn unfreeze(arguments: &Unfreeze, output: &mut Output) -> Result<Exit, Failure> {
    let answer = Admin::connect(&arguments.store)?.post("unfreeze", None)?;
    if output.json {
        output.document(&answer)?;
        return Ok(Exit::Done);
    }
    output.line(format!("following the sources again, at generation {}", answer["generation"]))?;
    for stopped in ["held", "refused"] {
        if let Some(reason) = answer[stopped]["reason"].as_str() {
            output.line(output.paint(Look::Warn, &format!("what they say now is {stopped}: {reason}")))?;
        }
    }
    Ok(Exit::Done)
}
