//! `flagsctl override`: a flag's value by an operator's word.

use clap::Args;
use serde_json::Value;

use crate::{
    admin::Admin,
    failure::{Exit, Failure},
    output::Output,
    source::StoreArguments,
};

/// Give a flag a value on this host, whatever its sources say
///
/// The flag is then enabled and without targeting, and every status shows it. The value is the name of one of its variants, or a value of
/// the flag's type.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  flagsctl override new-cart=off
  flagsctl override max-items=25
  flagsctl override 'theme={\"dark\": true}'
  flagsctl override --clear new-cart")]
pub(crate) struct Override {
    /// The flag's key and its value
    #[arg(value_name = "KEY=VALUE", required_unless_present = "clear", value_parser = assignment)]
    assignment: Option<(String, String)>,
    /// Take the override of this flag away
    #[arg(long, value_name = "KEY", conflicts_with = "assignment")]
    clear: Option<String>,
    #[command(flatten)]
    store: StoreArguments,
}

/// `NAME=VALUE` taken apart.
pub(crate) fn assignment(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("expected KEY=VALUE".to_owned()),
    }
}

pub(crate) fn run(arguments: &Override, output: &mut Output) -> Result<Exit, Failure> {
    let admin = Admin::connect(&arguments.store)?;
    let (answer, done) = match (&arguments.assignment, &arguments.clear) {
        // Whether `true` is a value or a variant's name is flagsd's to know: it has the definition.
        (Some((key, value)), _) => {
            (admin.set_override(key, Some(&Value::from(value.as_str())))?, format!("{key} is now {value}"))
        }
        (None, Some(key)) => (admin.set_override(key, None)?, format!("{key} is what its sources say again")),
        (None, None) => return Err(Failure::Usage("expected KEY=VALUE or --clear KEY".to_owned())),
    };
    if output.json {
        output.document(&answer)?;
    } else {
        output.line(format!("{done}, in generation {}", answer["generation"]))?;
    }
    Ok(Exit::Done)
}
