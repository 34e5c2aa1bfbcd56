//! `flagsctl flag set`

use std::io::Read;

use clap::{ArgGroup, Args};
use serde_json::{Map, Value, json};

use super::{
    about::{About, literal},
    reconfigure, told_later,
};
use crate::{
    control::{
        client::{ChangeArguments, Control, told},
        profile::Target,
        schedule::When,
    },
    failure::{Exit, Failure},
    output::Output,
    overrides::assignment,
};

/// Change what a flag is in all environments, or what it does in one
#[derive(Args, Debug)]
#[command(
    group = ArgGroup::new("here").multiple(true).conflicts_with("about"),
    after_help = "\
What is not named stays. The two groups have revisions of their own, so one call changes one of them.

Examples:
  flagsctl flag set new-cart --owner checkout --tag cart --tag 2027
  flagsctl flag set new-cart --env production --default on
  flagsctl flag set new-cart --env production --targeting '{\"if\": [{\"==\": [{\"var\": \"tier\"}, \"premium\"]}, \"on\"]}'
  flagsctl flag set new-cart --env production --targeting @rule.json --comment 'premium first'
  flagsctl flag set new-cart --env production --needs new-search=on")]
pub(crate) struct Set {
    /// The flag's key
    key: String,
    #[command(flatten)]
    about: About,
    #[command(flatten)]
    here: Here,
    #[command(flatten)]
    when: When,
    #[command(flatten)]
    change: ChangeArguments,
    #[command(flatten)]
    target: Target,
}

/// What a flag does in one environment.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "In one environment")]
#[group(skip)]
struct Here {
    /// The variant that is served where nothing else is said
    #[arg(long = "default", value_name = "VARIANT", group = "here", conflicts_with = "no_default")]
    default_variant: Option<String>,
    /// Where nothing else is said, programs get their own default
    #[arg(long, group = "here")]
    no_default: bool,
    /// A flagd rule as JSON; @FILE reads a file, @- standard input
    #[arg(long, value_name = "RULE", group = "here", conflicts_with = "no_targeting")]
    targeting: Option<String>,
    /// Take the rule away
    #[arg(long, group = "here")]
    no_targeting: bool,
    /// A flag that has to serve one of these variants; those named replace all there were
    #[arg(long, value_name = "FLAG=VARIANT[,VARIANT]", value_parser = assignment, group = "here", conflicts_with = "no_needs")]
    needs: Vec<(String, String)>,
    /// It needs no other flag
    #[arg(long, group = "here")]
    no_needs: bool,
    /// The variant that is served where a needed flag does not fit [default: the one whose value is false]
    #[arg(long, value_name = "VARIANT", group = "here")]
    off_variant: Option<String>,
    /// What programs get with each answer: JSON if it can be, else text; null takes it away
    #[arg(long, value_name = "NAME=VALUE", value_parser = assignment, group = "here")]
    metadata: Vec<(String, String)>,
}

pub(crate) fn run(arguments: &Set, output: &mut Output) -> Result<Exit, Failure> {
    let control = Control::open(&arguments.target)?;
    let (key, change) = (&arguments.key, &arguments.change);
    let path = control.in_project(&["flags", key])?;
    let mut about = arguments.about.body(None)?;
    if about.contains_key("variants") {
        // Only the flag's type tells whether 17 is a number.
        let flag = control.get(&path)?.body;
        about = arguments.about.body(flag["type"].as_str())?;
    }
    if !about.is_empty() {
        if arguments.when.at.is_some() {
            return Err(Failure::Usage(
                "only what a flag does in an environment can be changed --at a time".to_owned(),
            ));
        }
        let done = control.write("PATCH", &path, Some(&Value::Object(about)), &change.write, change.if_revision)?.body;
        let sentence = format!("{key} is changed in {}, at revision {}", control.project_key()?, done["version"]);
        return told(output, &done, &change.write, &sentence);
    }
    let here = arguments.here.changes()?;
    if here.is_empty() && arguments.here.metadata.is_empty() {
        return Err(Failure::Usage("nothing is named that should change".to_owned()));
    }
    let done = reconfigure(&control, key, change, &arguments.when, |config| {
        for (name, value) in here {
            config.insert(name, value);
        }
        if !arguments.here.metadata.is_empty() {
            let metadata = config.entry("metadata").or_insert_with(|| json!({}));
            for (name, text) in &arguments.here.metadata {
                match (literal(text, false), metadata.as_object_mut()) {
                    (Value::Null, Some(metadata)) => drop(metadata.remove(name)),
                    (value, Some(metadata)) => drop(metadata.insert(name.clone(), value)),
                    _ => {}
                }
            }
        }
        Ok(())
    })?;
    let now = format!("{key} is changed in {}, at revision {}", control.place()?, done.body["revision"]);
    let sentence = told_later(key, &done, &arguments.when).unwrap_or(now);
    told(output, &done.body, &change.write, &sentence)
}

impl Here {
    /// The members of a configuration that are to be others, all but the metadata.
    fn changes(&self) -> Result<Map<String, Value>, Failure> {
        let mut changes = Map::new();
        if self.no_default {
            changes.insert("defaultVariant".to_owned(), Value::Null);
        }
        if let Some(variant) = &self.default_variant {
            changes.insert("defaultVariant".to_owned(), json!(variant));
        }
        if self.no_targeting {
            changes.insert("targeting".to_owned(), Value::Null);
        }
        if let Some(rule) = &self.targeting {
            changes.insert("targeting".to_owned(), read_rule(rule)?);
        }
        if self.no_needs || !self.needs.is_empty() {
            let needed = |(flag, variants): &(String, String)| {
                let variants: Vec<&str> = variants.split(',').collect();
                json!({"flag": flag, "variants": variants})
            };
            changes.insert("prerequisites".to_owned(), self.needs.iter().map(needed).collect());
        }
        if let Some(variant) = &self.off_variant {
            changes.insert("offVariant".to_owned(), json!(variant));
        }
        Ok(changes)
    }
}

/// A rule that is given as an argument: as JSON, or as `@FILE`.
pub(in crate::control) fn read_rule(argument: &str) -> Result<Value, Failure> {
    let text = match argument.strip_prefix('@') {
        None => argument.to_owned(),
        Some("-") => {
            let mut text = String::new();
            let read = std::io::stdin().read_to_string(&mut text);
            read.map_err(|error| Failure::new(format!("cannot read the rule from standard input: {error}")))?;
            text
        }
        Some(path) => {
            std::fs::read_to_string(path).map_err(|error| Failure::new(format!("cannot read {path}: {error}")))?
        }
    };
    serde_json::from_str(&text).map_err(|error| Failure::Usage(format!("the rule is not JSON: {error}")))
}
