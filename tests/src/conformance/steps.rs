//! The steps of flagd's published evaluator scenarios.

use anyhow::{Context as _, bail, ensure};
use serde_json::{Map, Value as Json, json};

use super::gherkin::{Scenario, Step};
use crate::engine::{Answer, Engine, Kind, Subject, same_json};

/// Runs one scenario on an engine of type `E` that has loaded `definition`.
///
/// # Errors
/// A check that does not hold, or a step that is not known.
pub fn run<E: Engine>(scenario: &Scenario, definition: &str) -> anyhow::Result<()> {
    let mut world = World::<E>::default();
    for step in &scenario.steps {
        world.step(step, definition).with_context(|| format!("{}: {}", scenario.name, step.text))?;
    }
    ensure!(world.checks > 0, "{}: it checks nothing", scenario.name);
    Ok(())
}

/// What the steps so far have set up.
struct World<E> {
    engine: Option<E>,
    flag: Option<(String, Kind, Json)>,
    subject: Subject,
    answer: Option<Answer>,
    checks: usize,
}

impl<E> Default for World<E> {
    fn default() -> Self {
        Self { engine: None, flag: None, subject: Subject::default(), answer: None, checks: 0 }
    }
}

impl<E: Engine> World<E> {
    fn step(&mut self, step: &Step, definition: &str) -> anyhow::Result<()> {
        let (shape, quoted) = split_quoted(&step.text)?;
        let quoted: Vec<&str> = quoted.iter().map(String::as_str).collect();
        match (shape.as_str(), &quoted[..]) {
            ("an evaluator", []) => self.engine = Some(E::load(definition)?),
            ("a context containing a targeting key with value _", [value]) => {
                self.subject.targeting_key = Some(json!(value));
            }
            ("a context containing a key _, with type _ and with value _", [key, kind, value]) => {
                self.subject.attributes.insert((*key).to_owned(), typed(value, parse_kind(kind)?)?);
            }
            (
                "a context containing a nested property with outer key _ and inner key _, with value _",
                [outer, inner, value],
            ) => {
                self.subject.attributes.insert((*outer).to_owned(), json!({*inner: value}));
            }
            ("the flag was evaluated with details", []) => {
                let engine = self.engine.as_ref().context("there is no evaluator yet")?;
                let (key, kind, fallback) = self.flag.as_ref().context("no flag was named")?;
                self.answer = Some(engine.evaluate(key, &self.subject, *kind, fallback));
            }
            ("the resolved details value should be _", [value]) => {
                let (_, kind, _) = self.flag.as_ref().context("no flag was named")?;
                let expected = typed(value, *kind)?;
                let answer = self.check()?;
                ensure!(same_json(&answer.value, &expected), "expected {expected}, got {answer:?}");
            }
            ("the reason should be _", [reason]) => {
                let answer = self.check()?;
                ensure!(answer.reason.to_string() == *reason, "got {answer:?}");
            }
            ("the error-code should be _", [code]) => {
                let answer = self.check()?;
                ensure!(answer.error_code.is_some_and(|found| found.to_string() == *code), "got {answer:?}");
            }
            ("the resolved metadata should contain", []) => {
                let expected = metadata(&step.table)?;
                let answer = self.check()?;
                for (name, value) in &expected {
                    let found = answer.metadata.get(name).with_context(|| format!("no {name} in {answer:?}"))?;
                    ensure!(same_json(found, value), "{name} is {found}");
                }
            }
            ("the resolved metadata is empty", []) => {
                let answer = self.check()?;
                ensure!(answer.metadata.is_empty(), "got {answer:?}");
            }
            (shape, [key, fallback]) => {
                let kind = shape
                    .strip_prefix("a ")
                    .and_then(|rest| rest.strip_suffix("-flag with key _ and a fallback value _"))
                    .context("no such step")?;
                let kind = parse_kind(kind)?;
                self.flag = Some(((*key).to_owned(), kind, typed(fallback, kind)?));
            }
            _ => bail!("no such step"),
        }
        Ok(())
    }

    fn check(&mut self) -> anyhow::Result<&Answer> {
        self.checks += 1;
        self.answer.as_ref().context("the flag was not evaluated yet")
    }
}

/// A step's text with `_` for each quoted part, and those parts. Within quotes a backslash makes the next character literal.
fn split_quoted(text: &str) -> anyhow::Result<(String, Vec<String>)> {
    let mut shape = String::new();
    let mut quoted = Vec::new();
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        if character != '"' {
            shape.push(character);
            continue;
        }
        let mut part = String::new();
        loop {
            match characters.next().context("a quote is not closed")? {
                '"' => break,
                '\\' => part.extend(characters.next()),
                inside => part.push(inside),
            }
        }
        shape.push('_');
        quoted.push(part);
    }
    Ok((shape, quoted))
}

fn parse_kind(name: &str) -> anyhow::Result<Kind> {
    Ok(match name {
        "Boolean" => Kind::Boolean,
        "String" => Kind::String,
        "Integer" => Kind::Integer,
        "Float" => Kind::Float,
        "Object" => Kind::Object,
        _ => bail!("{name} is no type"),
    })
}

/// The text of a value, read as `kind`.
fn typed(text: &str, kind: Kind) -> anyhow::Result<Json> {
    Ok(match kind {
        Kind::Boolean => json!(text.parse::<bool>()?),
        Kind::String => json!(text),
        Kind::Integer => json!(text.parse::<i64>()?),
        Kind::Float => json!(text.parse::<f64>()?),
        Kind::Object => serde_json::from_str(text)?,
    })
}

fn metadata(table: &[Vec<String>]) -> anyhow::Result<Map<String, Json>> {
    let (head, rows) = table.split_first().context("it needs a table")?;
    ensure!(head == &["key", "metadata_type", "value"], "unknown columns {head:?}");
    rows.iter()
        .map(|row| match &row[..] {
            [key, kind, value] => Ok((key.clone(), typed(value, parse_kind(kind)?)?)),
            _ => bail!("{row:?} has not three cells"),
        })
        .collect()
}
