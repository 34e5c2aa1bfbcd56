//! `flagsctl flag rollout`

use clap::Args;
use serde_json::{Map, Value, json};

use super::{reconfigure, rollout_shown, told_later};
use crate::{
    control::{
        client::{ChangeArguments, Control, told},
        profile::Target,
        schedule::When,
    },
    failure::{Exit, Failure},
    output::Output,
};

/// Give variants to shares of those of whom the targeting says nothing
#[derive(Args, Debug)]
#[command(after_help = "\
Shares are weights; they are percentages where they add up to 100. Whoever is in a share stays there while the shares do, and
while a share grows. A number alone is a percentage of a boolean flag's `true`.

Examples:
  flagsctl flag rollout new-cart 25%
  flagsctl flag rollout theme light=50 dark=45 none=5 --by accountId
  flagsctl flag rollout new-cart --off")]
pub(crate) struct Rollout {
    /// The flag's key
    key: String,
    /// A variant and its weight, or a percentage
    #[arg(value_name = "VARIANT=WEIGHT | PERCENT%", required_unless_present = "off", conflicts_with = "off")]
    shares: Vec<String>,
    /// The attribute that decides who is who [default: as it is, targetingKey at first]
    #[arg(long, value_name = "ATTRIBUTE", conflicts_with = "off")]
    by: Option<String>,
    /// Without shares: everybody else gets the default variant
    #[arg(long)]
    off: bool,
    #[command(flatten)]
    when: When,
    #[command(flatten)]
    change: ChangeArguments,
    #[command(flatten)]
    target: Target,
}

pub(crate) fn run(arguments: &Rollout, output: &mut Output) -> Result<Exit, Failure> {
    let control = Control::open(&arguments.target)?;
    let key = &arguments.key;
    let shares = match arguments.shares.as_slice() {
        [] => None,
        [percent] if percent.ends_with('%') => {
            let flag = control.get(&control.in_project(&["flags", key])?)?.body;
            Some(of_percent(percent, &flag)?)
        }
        shares => Some(shares.iter().map(|share| weight(share)).collect::<Result<Map<_, _>, _>>()?),
    };
    if shares.as_ref().is_some_and(|shares| shares.len() < arguments.shares.len()) {
        return Err(Failure::Usage("a variant is named twice".to_owned()));
    }
    let done = reconfigure(&control, key, &arguments.change, &arguments.when, |config| {
        let by = arguments.by.clone().map(Value::from).or_else(|| config.get("rollout")?.get("by").cloned());
        match shares {
            None => drop(config.remove("rollout")),
            Some(shares) => {
                let mut rollout = json!({"variants": shares});
                if let Some(by) = by {
                    rollout["by"] = by;
                }
                config.insert("rollout".to_owned(), rollout);
            }
        }
        Ok(())
    })?;
    if let Some(sentence) = told_later(key, &done, &arguments.when) {
        return told(output, &done.body, &arguments.change.write, &sentence);
    }
    let (place, revision) = (control.place()?, &done.body["revision"]);
    let sentence = if arguments.off {
        format!("{key} is rolled out to nobody in {place}, at revision {revision}")
    } else {
        let disabled = if done.body["state"] == "ENABLED" { "" } else { "; it is disabled there" };
        format!("{key} is rolled out in {place}: {}, at revision {revision}{disabled}", rollout_shown(&done.body))
    };
    told(output, &done.body, &arguments.change.write, &sentence)
}

fn weight(share: &str) -> Result<(String, Value), Failure> {
    let parsed = share.split_once('=').and_then(|(name, weight)| Some((name, weight.parse::<u32>().ok()?)));
    match parsed {
        Some((name, weight)) if !name.is_empty() => Ok((name.to_owned(), json!(weight))),
        _ => Err(Failure::Usage(format!("{share:?}: expected VARIANT=WEIGHT with a whole number"))),
    }
}

fn of_percent(percent: &str, flag: &Value) -> Result<Map<String, Value>, Failure> {
    let wrong = || Failure::Usage(format!("{percent:?}: expected 0% to 100%, a whole number; weights can be finer"));
    let number: u32 = percent.trim_end_matches('%').parse().map_err(|_| wrong())?;
    let rest = 100_u32.checked_sub(number).ok_or_else(wrong)?;
    let named = |wanted: bool| {
        let mut named = flag["variants"].as_object().into_iter().flatten().filter(|(_, value)| **value == wanted);
        named.next().map(|(name, _)| name.clone()).filter(|_| named.next().is_none())
    };
    match (named(true), named(false)) {
        (Some(on), Some(off)) => Ok(Map::from_iter([(on, json!(number)), (off, json!(rest))])),
        _ => Err(Failure::Usage("a percentage needs a flag with one variant for true and one for false".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentage_is_of_true() {
        let flag = json!({"variants": {"yes": true, "no": false}});
        assert_eq!(of_percent("25%", &flag).ok().map(Value::Object), Some(json!({"yes": 25, "no": 75})));
        assert!(of_percent("101%", &flag).is_err());
        assert!(of_percent("2.5%", &flag).is_err());
        assert!(of_percent("5%", &json!({"variants": {"few": 1, "many": 2}})).is_err());
        assert!(weight("on=1").is_ok() && weight("=1").is_err() && weight("on=-1").is_err());
    }
}
