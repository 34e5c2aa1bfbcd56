//! `flagsctl eval`: a flag's value for a context, and how it came to it.

use std::{
    io::Read,
    path::{Path, PathBuf},
};

use clap::{Args, ValueEnum};
use libflags::{
    ErrorCode, Evaluation, Object, Reason, Snapshot, Want,
    definition::Selector,
    snapshot::{Bucketing, Outcome, Part, Role, SnapshotFlag, flag_set},
};
use serde_json::{Map, Value, json};

use crate::{
    failure::{Exit, Failure},
    output::{Cell, Look, Output, clip},
    source::{Flags, SourceArguments},
    value,
};

/// Evaluate a flag for a context, and tell which rule matched
///
/// The context is a JSON object as OpenFeature has it: `targetingKey` and attributes. Of --context-file, --context, --targeting-key and --attr the
/// later in this order counts.
#[derive(Args, Debug)]
#[command(after_help = "\
Exit codes: 0 the flag has a value (or leaves it to the caller), 1 the reason is ERROR.

Examples:
  flagsctl eval new-cart
  flagsctl eval new-cart --context '{\"targetingKey\": \"user-1\", \"tier\": \"premium\"}'
  flagsctl eval new-cart -k user-1 --attr tier=premium --attr age=42
  flagsctl eval new-cart --file flags.json -k user-1 --json
  flagsctl eval new-cart -k user-1 --value        # the value alone, for scripts")]
pub(crate) struct Eval {
    /// The flag's key
    key: String,
    #[command(flatten)]
    source: SourceArguments,
    /// The context: a JSON object
    #[arg(long, short, value_name = "JSON")]
    context: Option<String>,
    /// The context in a file; `-` is standard input
    #[arg(long, value_name = "FILE")]
    context_file: Option<PathBuf>,
    /// The targeting key
    #[arg(long, short = 'k', value_name = "KEY")]
    targeting_key: Option<String>,
    /// An attribute; the value is JSON if it can be, else text
    #[arg(long, short, value_name = "NAME=VALUE", value_parser = attribute)]
    attr: Vec<(String, Value)>,
    /// The type to ask for
    #[arg(long = "type", value_enum, default_value_t = Type::Any)]
    want: Type,
    /// Only flags of one flag set: `flagSetId=ID`, or `flagSetId=` for those in none
    #[arg(long, value_name = "SELECTOR")]
    selector: Option<Selector>,
    /// Print the value alone, as JSON (a string without quotes)
    #[arg(long, conflicts_with = "json")]
    value: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Type {
    Any,
    Boolean,
    Integer,
    Float,
    String,
    Object,
}

fn attribute(text: &str) -> Result<(String, Value), String> {
    let (name, value) = text.split_once('=').ok_or("expected NAME=VALUE")?;
    if name.is_empty() {
        return Err("expected a name before the `=`".to_owned());
    }
    Ok((name.to_owned(), serde_json::from_str(value).unwrap_or_else(|_| Value::from(value))))
}

pub(crate) fn run(arguments: &Eval, output: &mut Output) -> Result<Exit, Failure> {
    let context = arguments.read_context()?;
    let context = Object::foreign(&context);
    let (client, flags) = arguments.source.open()?;
    let client = match &arguments.selector {
        Some(selector) => client.with_selector(selector)?,
        None => client,
    };
    let pinned = client.snapshot();
    let want = match arguments.want {
        Type::Any => Want::Any,
        Type::Boolean => Want::Bool,
        Type::Integer => Want::Int,
        Type::Float => Want::Float,
        Type::String => Want::Text,
        Type::Object => Want::Json,
    };
    let answer = pinned.evaluate(&arguments.key, want, &context);
    let explained = pinned.flags().and_then(|snapshot| {
        let flag = arguments.find(snapshot)?;
        Some(Explained {
            flag,
            rule: snapshot.targeting(&flag),
            part: snapshot.explain(&flag, &context).filter(|_| flag.enabled() && !flag.broken()),
        })
    });
    let exit = if answer.reason == Reason::Error { Exit::No } else { Exit::Done };
    if arguments.value {
        match answer.value.map(value::to_json) {
            Some(Value::String(text)) => output.line(text)?,
            Some(value) => output.line(value.to_string())?,
            None => return Err(no_value(&answer, &arguments.key)),
        }
        return Ok(exit);
    }
    let from = match &arguments.source.file {
        Some(file) => From::File(file),
        None => {
            From::Store { path: client.status().path, generation: pinned.generation(), revision: pinned.revision() }
        }
    };
    if output.json {
        output.document(&as_json(&arguments.key, &answer, explained.as_ref(), &from))?;
    } else {
        people(arguments, &answer, explained.as_ref(), &from, &flags, pinned.flags(), output)?;
    }
    Ok(exit)
}

/// The flag, its rule, and what became of it.
struct Explained<'s> {
    flag: SnapshotFlag<'s>,
    rule: Option<String>,
    part: Option<Part>,
}

enum From<'a> {
    File(&'a Path),
    Store { path: Option<PathBuf>, generation: u64, revision: u64 },
}

impl Eval {
    fn read_context(&self) -> Result<Map<String, Value>, Failure> {
        let mut context = Map::new();
        if let Some(path) = &self.context_file {
            let failed = |error| Failure::new(format!("cannot read {}: {error}", path.display()));
            let mut text = String::new();
            if path.as_os_str() == "-" {
                std::io::stdin().read_to_string(&mut text).map_err(failed)?;
            } else {
                text = std::fs::read_to_string(path).map_err(failed)?;
            }
            context.extend(object(&text, &path.display().to_string())?);
        }
        if let Some(text) = &self.context {
            context.extend(object(text, "--context")?);
        }
        if let Some(key) = &self.targeting_key {
            context.insert("targetingKey".to_owned(), Value::from(key.as_str()));
        }
        context.extend(self.attr.iter().cloned());
        Ok(context)
    }

    /// The flag that is evaluated.
    fn find<'s>(&self, snapshot: &'s Snapshot) -> Option<SnapshotFlag<'s>> {
        let set = match &self.selector {
            None | Some(Selector::All) => return snapshot.flag(self.key.as_bytes()),
            Some(Selector::FlagSet(id)) => Some(id.as_str()),
            Some(_) => None,
        };
        snapshot.flags().find(|flag| flag.key == self.key && flag_set(flag) == set)
    }
}

fn object(text: &str, name: &str) -> Result<Map<String, Value>, Failure> {
    match serde_json::from_str(text) {
        Ok(Value::Object(context)) => Ok(context),
        Ok(_) => Err(Failure::Usage(format!("{name} is no JSON object, such as {{\"targetingKey\": \"user-1\"}}"))),
        Err(error) => Err(Failure::Usage(format!("{name} is no JSON: {error}"))),
    }
}

fn no_value(answer: &Evaluation<'_>, key: &str) -> Failure {
    let why = answer.error.map_or(answer.reason.as_str(), ErrorCode::as_str);
    Failure::new(format!("flag {key:?} has no value here: {why}")).hint("without --value it is explained")
}

fn as_json(key: &str, answer: &Evaluation<'_>, explained: Option<&Explained<'_>>, from: &From<'_>) -> Value {
    json!({
        "key": key,
        "value": answer.value.map(value::to_json),
        "variant": answer.variant,
        "reason": answer.reason.as_str(),
        "errorCode": answer.error.map(ErrorCode::as_str),
        "metadata": value::metadata(answer.metadata),
        "flag": explained.map(|explained| value::flag(&explained.flag)),
        "source": match from {
            From::File(file) => json!({"file": file}),
            From::Store { path, generation, revision } => {
                json!({"store": path, "generation": generation, "revision": revision})
            }
        },
        "targeting": explained.and_then(|explained| explained.rule.as_ref()).map(|rule| embedded(rule)),
        "matched": explained.and_then(|explained| explained.part.as_ref()).map(matched),
        "explanation": explained.and_then(|explained| explained.part.as_ref()).map(part_json),
    })
}

/// JSON text as JSON; what is none, such as NaN, as text.
fn embedded(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| Value::from(text))
}

fn part_json(part: &Part) -> Value {
    let mut json = json!({
        "role": part.role.as_str(), "pointer": part.pointer, "rule": embedded(&part.rule),
    });
    let (name, outcome) = match &part.outcome {
        Outcome::Value { json, .. } => ("value", embedded(json)),
        Outcome::Skipped => ("skipped", Value::Bool(true)),
        Outcome::Failed(why) => ("failed", Value::from(*why)),
    };
    json[name] = outcome;
    if let Some(bucketing) = &part.bucketing {
        let buckets: Vec<Value> =
            bucketing.buckets.iter().map(|(variant, end)| json!({"variant": embedded(variant), "end": end})).collect();
        json["bucketing"] = json!({
            "key": bucketing.key, "hash": bucketing.hash, "total": bucketing.total, "place": bucketing.place,
            "buckets": buckets, "chosen": bucketing.chosen(),
        });
    }
    if !part.parts.is_empty() {
        json["parts"] = part.parts.iter().map(part_json).collect();
    }
    json
}

fn people(
    arguments: &Eval,
    answer: &Evaluation<'_>,
    explained: Option<&Explained<'_>>,
    from: &From<'_>,
    flags: &Flags,
    snapshot: Option<&Snapshot>,
    output: &mut Output,
) -> Result<(), Failure> {
    let key = output.paint(Look::Bold, &Cell::new(&arguments.key).plain());
    match answer.value {
        Some(value) => output.line(format!("{key} = {}", Cell::new(value::shown(value)).plain()))?,
        None => output.line(format!("{key} has no value: the caller's default stands"))?,
    }
    let mut facts = Vec::new();
    if let Some(variant) = answer.variant {
        facts.push(("variant", Cell::new(variant)));
    }
    let look = if answer.reason == Reason::Error { Look::Bad } else { Look::Plain };
    let error = answer.error.map(|error| format!(", {}", error.as_str())).unwrap_or_default();
    facts.push(("reason", Cell::new(format!("{}{error}", answer.reason.as_str())).look(look)));
    facts.push(("because", Cell::new(because(answer, explained))));
    if let Some(explained) = explained {
        let flag = &explained.flag;
        let about =
            format!("{}, {}, default {}", value::kind(flag.kind()), value::state(flag), value::default_shown(flag));
        facts.push(("flag", Cell::new(about)));
    }
    for (name, value) in value::metadata(answer.metadata) {
        facts.push(("metadata", Cell::new(format!("{name} = {value}"))));
    }
    facts.push((
        "from",
        Cell::new(match from {
            From::File(file) => file.display().to_string(),
            From::Store { path, generation, .. } => {
                let path = path.as_deref().unwrap_or(Path::new("?"));
                format!("{}, generation {generation}", path.display())
            }
        }),
    ));
    output.facts(&facts)?;
    if let Some(part) = explained.and_then(|explained| explained.part.as_ref()) {
        output.line("")?;
        for way in matched(part) {
            output.line(output.paint(Look::Good, &format!("matched: {way}")))?;
        }
        print(part, 0, output)?;
    }
    let broken = flags.problems.iter().filter(|problem| problem.flag.as_deref() == Some(&arguments.key));
    for (at, problem) in broken.enumerate() {
        if at == 0 {
            output.line("")?;
        }
        output.line(problem.to_string())?;
    }
    if answer.error == Some(ErrorCode::FlagNotFound)
        && let Some(near) =
            snapshot.map(|snapshot| alike(snapshot.keys(), &arguments.key)).filter(|near| !near.is_empty())
    {
        output.line(format!("\ndid you mean {}?", near.join(", ")))?;
    }
    Ok(())
}

/// The reason in words.
fn because(answer: &Evaluation<'_>, explained: Option<&Explained<'_>>) -> String {
    let targeted = explained.is_some_and(|explained| explained.flag.targeted());
    let failed = explained.and_then(|explained| explained.part.as_ref()).map(|part| &part.outcome);
    match (answer.reason, answer.error) {
        (Reason::Static, _) => "it has no targeting: everybody gets the default variant".to_owned(),
        (Reason::Default, _) if targeted => match answer.variant {
            Some(_) => "targeting chose no variant, so the default variant stands".to_owned(),
            None => "targeting chose no variant, and there is no default variant".to_owned(),
        },
        (Reason::Default, _) => "it has no targeting and no default variant".to_owned(),
        (Reason::TargetingMatch, _) => "targeting chose the variant".to_owned(),
        (Reason::Disabled, _) => "its state is DISABLED".to_owned(),
        (_, Some(ErrorCode::FlagNotFound)) => "no flag has this key".to_owned(),
        (_, Some(ErrorCode::TypeMismatch)) => "its value is not of the type that was asked for".to_owned(),
        (_, Some(ErrorCode::ParseError)) if explained.is_some_and(|explained| explained.flag.broken()) => {
            "its definition is broken and never was good".to_owned()
        }
        (_, Some(ErrorCode::ParseError)) => "its rule gave NaN or infinity".to_owned(),
        (_, Some(ErrorCode::General)) => match failed {
            Some(Outcome::Failed(why)) => format!("its rule has no result: {why}"),
            Some(Outcome::Value { json, .. }) => format!("its rule gave {json}, which names no variant"),
            _ => "its rule has no result".to_owned(),
        },
        (_, Some(error)) => error.as_str().to_owned(),
        (reason, None) => reason.as_str().to_owned(),
    }
}

/// The way through the rule to its result, from the outside in.
fn matched(part: &Part) -> Vec<String> {
    const MOST: usize = 100;
    let mut ways = Vec::new();
    let mut part = part;
    loop {
        if let Some(bucketing) = &part.bucketing {
            ways.push(bucket(bucketing));
            return ways;
        }
        let branches = part.parts.iter().any(|part| matches!(part.role, Role::Then | Role::Else));
        let taken = part
            .parts
            .iter()
            .enumerate()
            .find(|(_, part)| matches!(part.role, Role::Then | Role::Else) && part.outcome != Outcome::Skipped);
        match taken {
            Some((at, then)) if then.role == Role::Then => {
                let condition = part.parts.get(at - 1).map(|condition| clip(&condition.rule, MOST)).unwrap_or_default();
                ways.push(format!("{} because {condition} holds", then.pointer));
                part = then;
            }
            Some((_, other)) => {
                ways.push(format!("{}, the else", other.pointer));
                part = other;
            }
            None => {
                if branches {
                    ways.push("no branch: no condition holds".to_owned());
                }
                return ways;
            }
        }
    }
}

fn bucket(bucketing: &Bucketing) -> String {
    let Bucketing { key, hash, total, place, buckets, .. } = bucketing;
    let Some(key) = key else { return "no bucket: there is no targeting key".to_owned() };
    let Some(chosen) = bucketing.chosen() else { return "no bucket".to_owned() };
    let start = chosen.checked_sub(1).map_or(0, |before| buckets[before].1);
    let (variant, end) = &buckets[chosen];
    format!("bucket {variant}, places {start} to {end} of {total}: murmur3({key:?}) = {hash:#010x}, place {place}")
}

/// The rule and what became of each part of it, indented.
fn print(part: &Part, depth: usize, output: &mut Output) -> Result<(), Failure> {
    const MOST: usize = 120;
    let indent = "  ".repeat(depth);
    let rule = clip(&part.rule, MOST);
    let role = part.role.as_str();
    let line = match &part.outcome {
        Outcome::Skipped => output.paint(Look::Dim, &format!("{indent}{role:9}  {rule}  (not reached)")),
        Outcome::Failed(why) => format!("{indent}{role:9}  {rule}  {}", output.paint(Look::Bad, why)),
        // What stands for itself is not said twice.
        Outcome::Value { json, .. } if *json == part.rule => format!("{indent}{role:9}  {rule}"),
        Outcome::Value { json, truthy } => {
            let look = if *truthy { Look::Good } else { Look::Warn };
            format!("{indent}{role:9}  {rule}  → {}", output.paint(look, &clip(json, MOST)))
        }
    };
    output.line(line)?;
    part.parts.iter().try_for_each(|part| print(part, depth + 1, output))
}

/// Up to three keys that `key` may have been meant to be.
fn alike<'k>(keys: impl Iterator<Item = &'k str>, key: &str) -> Vec<&'k str> {
    const MOST: usize = 3;
    let most = 1 + key.chars().count() / 4;
    let mut near: Vec<(usize, &str)> = keys
        .filter(|other| other.len().abs_diff(key.len()) <= 4 * most)
        .map(|other| (distance(other, key), other))
        .filter(|(distance, other)| *distance <= most || (key.len() > 2 && other.contains(key)))
        .collect();
    near.sort_unstable();
    near.dedup();
    near.into_iter().take(MOST).map(|(_, key)| key).collect()
}

/// Levenshtein's: how many letters must be put in, taken out or replaced.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (at, letter) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], at + 1);
        for (column, other) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(letter != *other);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_json_where_they_can_be() {
        assert_eq!(attribute("a=1"), Ok(("a".into(), json!(1))));
        assert_eq!(attribute("a=x=y"), Ok(("a".into(), json!("x=y"))));
        assert_eq!(attribute("a=\"1\""), Ok(("a".into(), json!("1"))));
        assert_eq!(attribute("a="), Ok(("a".into(), json!(""))));
        assert!(attribute("a").is_err() && attribute("=a").is_err());
    }

    #[test]
    fn keys_alike_are_found() {
        let keys = ["new-cart", "new-chart", "checkout", "old-cart"];
        assert_eq!(alike(keys.into_iter(), "new-cat"), ["new-cart", "new-chart"]);
        assert_eq!(alike(keys.into_iter(), "zzz"), Vec::<&str>::new());
        assert_eq!(alike(keys.into_iter(), "cart"), ["new-cart", "old-cart"]);
        assert_eq!(distance("kitten", "sitting"), 3);
    }
}
