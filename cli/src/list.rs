//! `flagsctl list`: the flags there are.

use clap::Args;
use libflags::snapshot::flag_set;
use serde_json::Value;

use crate::{
    failure::{Exit, Failure},
    output::{Cell, Look, Output, Table, clip},
    source::SourceArguments,
    value,
};

/// List flags: key, type, state, default, targeting
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  flagsctl list
  flagsctl list 'checkout.*'
  flagsctl list --file flags.json --state broken
  flagsctl list --json | jq -r '.[] | select(.targeted) | .key'")]
pub(crate) struct List {
    /// Only keys that match: `*` stands for anything, `?` for one character
    #[arg(value_name = "GLOB")]
    pattern: Option<String>,
    #[command(flatten)]
    source: SourceArguments,
    /// Only flags in this state
    #[arg(long, value_parser = ["enabled", "disabled", "broken"])]
    state: Option<String>,
    /// Print keys alone
    #[arg(long, conflicts_with = "json")]
    keys: bool,
}

pub(crate) fn run(arguments: &List, output: &mut Output) -> Result<Exit, Failure> {
    const MOST: usize = 60;
    let (_, flags) = arguments.source.open()?;
    let flags: Vec<_> = flags
        .snapshot()
        .into_iter()
        .flat_map(|snapshot| snapshot.flags())
        .filter(|flag| arguments.pattern.as_deref().is_none_or(|pattern| matches(pattern, flag.key)))
        .filter(|flag| arguments.state.as_deref().is_none_or(|state| value::state(flag) == state))
        .collect();
    if output.json {
        let flags: Vec<Value> = flags.iter().map(value::flag).collect();
        output.document(&flags)?;
        return Ok(Exit::Done);
    }
    if arguments.keys {
        flags.iter().try_for_each(|flag| output.line(Cell::new(flag.key).plain()))?;
        return Ok(Exit::Done);
    }
    let in_sets = flags.iter().any(|flag| flag_set(flag).is_some());
    let mut table = Table { header: vec!["KEY", "TYPE", "STATE", "DEFAULT", "TARGETING"], rows: Vec::new() };
    if in_sets {
        table.header.push("FLAG SET");
    }
    for flag in &flags {
        let state = value::state(flag);
        let look = match state {
            "broken" => Look::Bad,
            "disabled" => Look::Warn,
            _ => Look::Plain,
        };
        let mut row = vec![
            Cell::new(flag.key),
            Cell::new(value::kind(flag.kind())),
            Cell::new(state).look(look),
            Cell::new(clip(&value::default_shown(flag), MOST)),
            Cell::new(if flag.targeted() { "yes" } else { "-" }),
        ];
        if in_sets {
            row.push(Cell::new(flag_set(flag).unwrap_or("-")));
        }
        table.rows.push(row);
    }
    if table.rows.is_empty() {
        output.line("no flags")?;
    } else {
        output.table(&table)?;
    }
    Ok(Exit::Done)
}

/// Whether `text` is what `pattern` describes. Looks back only to the last `*`, so it takes at most their lengths' product.
fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    let (mut at, mut star, mut next) = (0, None, 0);
    while next < text.len() {
        match pattern.get(at) {
            Some('*') => {
                star = Some((at, next));
                at += 1;
            }
            Some(letter) if *letter == '?' || *letter == text[next] => {
                at += 1;
                next += 1;
            }
            _ => match star {
                Some((back, from)) => {
                    star = Some((back, from + 1));
                    (at, next) = (back + 1, from + 1);
                }
                None => return false,
            },
        }
    }
    pattern[at..].iter().all(|letter| *letter == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs() {
        for (pattern, text, expected) in [
            ("*", "", true),
            ("", "", true),
            ("", "a", false),
            ("a*c", "abbc", true),
            ("a*c", "abcb", false),
            ("*b*b*", "abab", true),
            ("?b", "äb", true),
            ("a?", "a", false),
            ("checkout.*", "checkout.new", true),
            ("checkout.*", "checkout-new", false),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
        assert!(!matches(&"*a".repeat(50), &"a".repeat(49)));
    }
}
