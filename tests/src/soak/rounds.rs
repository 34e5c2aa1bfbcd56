//! Definitions that change at random, and what is right in each.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use proptest::strategy::{BoxedStrategy, Strategy as _, ValueTree as _};
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};
use serde_json::{Map, Value as Json, json};

use super::{ROUND, Random, Row, Table};
use crate::engine::{Kind, Subject};
use crate::model::Model;
use crate::strategy;

/// How many flags come and go.
const KEYS: u64 = 40;
/// Never fewer, so that there is something to read.
const FEWEST: usize = 20;
const SUBJECTS: usize = 6;
/// How many more there are in a big round, and every how many of them is asked for.
const BIG: usize = 3_000;
const BIG_STEP: usize = 100;
/// Time stands still for the naive evaluator, so no rule may tell it.
const CLOCK: &str = "$flagd.timestamp";

/// One definition after another.
#[derive(Debug)]
pub struct Rounds {
    random: Random,
    runner: TestRunner,
    flag: BoxedStrategy<Json>,
    evaluators: Map<String, Json>,
    subjects: Vec<Subject>,
    number: u64,
    flags: BTreeMap<String, Json>,
    /// What each flag answers by its last sound form: a broken one keeps that.
    last_good: BTreeMap<String, Arc<Model>>,
}

impl Rounds {
    /// The rounds of a seed.
    ///
    /// # Errors
    /// Where a generator gives nothing.
    pub fn new(seed: u64) -> Result<Self> {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
        let mut runner = TestRunner::new_with_rng(strategy::config(1), rng);
        let timeless = |value: &Json| !value.to_string().contains(CLOCK);
        let evaluator = strategy::rule().prop_filter("tells the time", timeless);
        let mut evaluators = Map::new();
        for name in ["e0", "e1", "e2"] {
            evaluators.insert(name.to_owned(), sample(&mut runner, &evaluator)?);
        }
        let mut subjects = vec![Subject::default()];
        while subjects.len() < SUBJECTS {
            subjects.push(plain(sample(&mut runner, &strategy::subject())?));
        }
        let flag = strategy::flag().prop_filter("tells the time", timeless).boxed();
        let (random, number, flags, last_good) = (Random::new(seed), 0, BTreeMap::new(), BTreeMap::new());
        let mut rounds = Self { random, runner, flag, evaluators, subjects, number, flags, last_good };
        for number in 0..KEYS {
            rounds.put(&format!("f{number:02}"), true)?;
        }
        Ok(rounds)
    }

    /// The number of the last round; 0 before the first.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Makes the next round: the definition, and its answers. Without `may_break` no flag is broken that was not before: what a broken
    /// flag answers depends on whether the round before was seen.
    ///
    /// # Errors
    /// Where a generator gives nothing, or the naive evaluator takes the definition for none.
    pub fn advance(&mut self, may_break: bool) -> Result<(String, Table)> {
        self.number += 1;
        for _ in 0..=self.random.below(4) {
            let key = format!("f{:02}", self.random.below(KEYS));
            if self.flags.len() > FEWEST && self.random.one_in(4) {
                self.flags.remove(&key);
                // Whether a flag that went is remembered is not what is asked here.
                self.last_good.remove(&key);
            } else {
                // A flag that comes anew is sound, or has a key of its own, as below.
                let sound = !may_break || !self.flags.contains_key(&key);
                self.put(&key, sound)?;
            }
        }
        let mut flags: Map<String, Json> = self.flags.clone().into_iter().collect();
        flags.insert(
            ROUND.to_owned(),
            json!({"state": "ENABLED", "variants": {"v": self.number}, "defaultVariant": "v"}),
        );
        // Broken from its first day on.
        flags.insert(format!("never-{}", self.number), json!({"state": "ENABLED", "variants": {}}));
        let big = self.random.one_in(25).then(|| self.random.below(2) == 0);
        for number in 0..big.map_or(0, |_| BIG) {
            let name = if big == Some(number % 3 == 0) { "on" } else { "off" };
            let flag = json!({"state": "ENABLED", "variants": {"on": true, "off": false}, "defaultVariant": name});
            flags.insert(format!("big-{number:04}"), flag);
        }
        let definition = json!({"$evaluators": self.evaluators, "flags": flags}).to_string();
        let model = Arc::new(Model::from_json(&definition)?);
        let mut table = Table { subjects: self.subjects.clone(), rows: Vec::new() };
        for (key, flag) in &flags {
            let answers = match model.problem(key) {
                None => {
                    self.last_good.insert(key.clone(), Arc::clone(&model));
                    &model
                }
                Some(_) => self.last_good.get(key).unwrap_or(&model),
            };
            let is_big = key.starts_with("big-");
            if is_big && self.random.below(BIG_STEP as u64) > 0 {
                self.last_good.remove(key);
                continue;
            }
            let kinds = kinds(flag, answers, key, &mut self.random);
            for (number, subject) in self.subjects.iter().enumerate().take(if is_big { 1 } else { SUBJECTS }) {
                for kind in kinds {
                    let answer = answers.evaluate(key, subject).read(kind, &Json::Null);
                    table.rows.push(Row::new(key, kind, number, &answer));
                }
            }
            if is_big {
                self.last_good.remove(key);
            }
        }
        for key in ["nobody", "f", "big-9999"] {
            let answer = model.evaluate(key, &self.subjects[0]).read(Kind::Boolean, &Json::Null);
            table.rows.push(Row::new(key, Kind::Boolean, 0, &answer));
        }
        Ok((definition, table))
    }

    /// Gives a flag another definition.
    fn put(&mut self, key: &str, sound: bool) -> Result<()> {
        loop {
            let flag = sample(&mut self.runner, &self.flag)?;
            let alone = json!({"$evaluators": self.evaluators, "flags": {key: flag}}).to_string();
            if !sound || Model::from_json(&alone)?.problem(key).is_none() {
                self.flags.insert(key.to_owned(), flag);
                return Ok(());
            }
        }
    }
}

/// The type that the flag has in what it answers by, where that can be told, and any type.
fn kinds(flag: &Json, answers: &Model, key: &str, random: &mut Random) -> [Kind; 2] {
    const ALL: [Kind; 5] = [Kind::Boolean, Kind::String, Kind::Integer, Kind::Float, Kind::Object];
    let any = ALL[usize::try_from(random.below(5)).unwrap_or_default()];
    let value = answers.evaluate(key, &Subject::default()).value;
    let value = value.or_else(|| flag["variants"].as_object().and_then(|variants| variants.values().next().cloned()));
    let own = match value {
        Some(Json::Bool(_)) => Kind::Boolean,
        Some(Json::String(_)) => Kind::String,
        Some(Json::Number(number)) if number.as_f64().is_some_and(|number| number.fract() == 0.0) => Kind::Integer,
        Some(Json::Number(_)) => Kind::Float,
        Some(Json::Array(_) | Json::Object(_)) => Kind::Object,
        _ => any,
    };
    [own, any]
}

fn sample<S: proptest::strategy::Strategy>(runner: &mut TestRunner, strategy: &S) -> Result<S::Value> {
    let tree = strategy.new_tree(runner).map_err(|reason| anyhow::anyhow!("{reason}")).context("cannot generate")?;
    Ok(tree.current())
}

/// A subject of scalars, which a line tells.
fn plain(mut subject: Subject) -> Subject {
    let is_plain = |value: &Json| !matches!(value, Json::Null | Json::Array(_) | Json::Object(_));
    subject.attributes.retain(|name, value| name != "targetingKey" && is_plain(value));
    subject
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use libflags::Client;
    use libflags::compile::Compiler;
    use libflags::definition::{Document, Format, Limits, Selector};
    use libflags::store::{PublishMeta, Publisher, PublisherOptions};

    use super::super::text_of;
    use super::*;
    use crate::compiled::Asked;
    use crate::processes::store_folder;

    #[test]
    fn a_seed_gives_the_same_rounds_again() {
        let (mut one, mut other) = (Rounds::new(7).unwrap(), Rounds::new(7).unwrap());
        for _ in 0..5 {
            let ((text, table), (same, same_table)) = (one.advance(true).unwrap(), other.advance(true).unwrap());
            assert_eq!((text, table.rows), (same, same_table.rows));
        }
        assert_ne!(Rounds::new(8).unwrap().advance(true).unwrap().0, Rounds::new(7).unwrap().advance(true).unwrap().0);
    }

    #[test]
    fn tables_are_read_as_they_are_written() {
        let (_, table) = Rounds::new(3).unwrap().advance(true).unwrap();
        let read = Table::parse(&table.to_text()).unwrap();
        assert_eq!(read.rows, table.rows);
        assert_eq!(read.to_text(), table.to_text());
        assert!(Table::parse(table.to_text().strip_suffix("end\n").unwrap()).is_none(), "a part of one is none");
    }

    /// Without processes: the compiler, which remembers last good forms, answers as the tables say.
    #[test]
    fn the_compiler_agrees_with_the_tables() {
        let mut rounds = Rounds::new(11).unwrap();
        let folder = store_folder();
        let mut publisher = Publisher::open(folder.path(), &PublisherOptions::default()).unwrap();
        let mut compiler = Compiler::new(Limits::default());
        let mut seen = BTreeSet::new();
        for _ in 0..60 {
            let (text, table) = rounds.advance(true).unwrap();
            let document = Document::parse("round", &text, Format::Json, compiler.limits()).unwrap();
            let compilation = compiler.compile(&[document], &Selector::All).unwrap();
            publisher.publish(&compilation.snapshot, &PublishMeta::default()).unwrap();
            let flags = Client::open(Some(folder.path())).unwrap().snapshot();
            for row in &table.rows {
                let subject = Asked(&table.subjects[row.subject]);
                let found = text_of(&flags.evaluate(&row.key, row.want(), &subject));
                assert_eq!(found, row.answer, "round {}: {row:?}\n{text}", rounds.number());
                seen.insert(found.split('\t').take(2).collect::<Vec<_>>().join(" "));
            }
        }
        let kinds = ["STATIC -", "DEFAULT -", "TARGETING_MATCH -", "DISABLED -", "ERROR FLAG_NOT_FOUND"];
        let errors = ["ERROR TYPE_MISMATCH", "ERROR PARSE_ERROR", "ERROR GENERAL"];
        for kind in kinds.into_iter().chain(errors) {
            assert!(seen.contains(kind), "{kind} is never seen: {seen:?}");
        }
    }
}
