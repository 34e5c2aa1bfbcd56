//! `flagsctl flag create`

use clap::Args;
use serde_json::{Value, json};

use super::about::{About, type_of};
use crate::{
    control::{
        client::{Control, WriteArguments, told},
        profile::Target,
    },
    failure::{Exit, Failure},
    output::Output,
};

/// Make a flag, disabled in every environment
#[derive(Args, Debug)]
#[command(after_help = "\
Without variants it is a boolean flag with `on` and `off`. Keys are never used again.

Examples:
  flagsctl flag create new-cart --owner checkout --expires 2027-03-01
  flagsctl flag create max-items --variant few=10 --variant many=50 --kind permanent
  flagsctl flag create build --type string --variant stable=17 --variant next=18")]
pub(crate) struct Create {
    /// The flag's key
    key: String,
    /// The type of its values [default: that of the first variant]
    #[arg(long = "type", value_name = "TYPE", value_parser = ["boolean", "string", "number", "object"])]
    flag_type: Option<String>,
    #[command(flatten)]
    about: About,
    #[command(flatten)]
    write: WriteArguments,
    #[command(flatten)]
    target: Target,
}

pub(crate) fn run(arguments: &Create, output: &mut Output) -> Result<Exit, Failure> {
    let control = Control::open(&arguments.target)?;
    let mut body = arguments.about.body(arguments.flag_type.as_deref())?;
    let first = body.get("variants").and_then(|variants| variants.as_object()?.values().next());
    if let Some(flag_type) = arguments.flag_type.as_deref().or(first.map(type_of)) {
        body.insert("type".to_owned(), json!(flag_type));
    }
    body.insert("key".to_owned(), json!(arguments.key));
    let path = control.in_project(&["flags"])?;
    let made = control.write("POST", &path, Some(&Value::Object(body)), &arguments.write, None)?.body;
    let sentence = format!(
        "{} is made in {}: {}, disabled in every environment",
        arguments.key,
        control.project_key()?,
        made["type"].as_str().unwrap_or_default()
    );
    told(output, &made, &arguments.write, &sentence)
}
