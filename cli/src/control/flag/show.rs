//! `flagsctl flag show`

use clap::Args;
use serde_json::{Map, Value, json};

use super::{rollout_shown, state_shown};
use crate::{
    control::{
        client::{Control, shown},
        profile::Target,
    },
    failure::{Exit, Failure},
    output::{Cell, Look, Output, Table, clip},
    value,
};

/// Show a flag, and what it does in each environment, or in the one that is named
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  flagsctl flag show new-cart\n  flagsctl flag show new-cart --env production --json"
)]
pub(crate) struct Show {
    /// The flag's key
    key: String,
    #[command(flatten)]
    target: Target,
}

pub(crate) fn run(arguments: &Show, output: &mut Output) -> Result<Exit, Failure> {
    let control = Control::open(&arguments.target)?;
    let flag = control.get(&control.in_project(&["flags", &arguments.key])?)?.body;
    let environments = match control.environment_if_any() {
        Some(environment) => vec![environment.to_owned()],
        None => {
            let listed = control.items(&control.in_project(&["environments"])?, &[], None)?;
            listed.iter().filter_map(|item| item["key"].as_str()).map(str::to_owned).collect()
        }
    };
    let mut configs = Map::new();
    for environment in environments {
        let path = control.in_project(&["environments", &environment, "flags", &arguments.key])?;
        let config = control.get(&path)?.body;
        configs.insert(environment, config);
    }
    if output.json {
        output.document(&json!({"flag": flag, "environments": configs}))?;
        return Ok(Exit::Done);
    }
    facts(&flag, output)?;
    if configs.is_empty() {
        return Ok(Exit::Done);
    }
    output.line("")?;
    let header = vec!["ENVIRONMENT", "STATE", "DEFAULT", "ROLLOUT", "TARGETING", "NEEDS", "REVISION"];
    output.table(&Table { header, rows: configs.iter().map(|(name, config)| row(name, config)).collect() })?;
    Ok(Exit::Done)
}

fn facts(flag: &Value, output: &mut Output) -> Result<(), Failure> {
    let text = |name: &str| flag[name].as_str().unwrap_or_default();
    let list = |name: &str| flag[name].as_array().into_iter().flatten().filter_map(Value::as_str);
    let variants = flag["variants"].as_object().into_iter().flatten();
    let variants: Vec<String> = variants.map(|(name, value)| format!("{name} = {value}")).collect();
    let known = vec![
        ("description", text("description").to_owned()),
        ("type", text("type").to_owned()),
        ("variants", variants.join(", ")),
        ("kind", text("kind").to_owned()),
        ("owner", text("owner").to_owned()),
        ("tags", list("tags").collect::<Vec<_>>().join(", ")),
        ("expires", flag["expiresMs"].as_i64().map(value::day).unwrap_or_default()),
    ];
    shown(output, "flag", flag, known, &flag["version"])
}

fn row(environment: &str, config: &Value) -> Vec<Cell> {
    const MOST: usize = 60;
    let state = state_shown(config);
    let look = if state == "enabled" { Look::Good } else { Look::Warn };
    let targeting = match &config["targeting"] {
        Value::Null => "-".to_owned(),
        rule => clip(&rule.to_string(), MOST),
    };
    let needs: Vec<&str> =
        config["prerequisites"].as_array().into_iter().flatten().filter_map(|needed| needed["flag"].as_str()).collect();
    vec![
        Cell::new(environment),
        Cell::new(state).look(look),
        Cell::new(config["defaultVariant"].as_str().unwrap_or("-")),
        Cell::new(rollout_shown(config)),
        Cell::new(targeting),
        Cell::new(if needs.is_empty() { "-".to_owned() } else { needs.join(", ") }),
        Cell::new(config["revision"].to_string()),
    ]
}
