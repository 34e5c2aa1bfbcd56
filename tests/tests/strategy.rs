//! What the generators generate: enough of every answer for a comparison of evaluators to mean something.

use std::collections::BTreeMap;

use libflags_tests::model::Model;
use libflags_tests::strategy;
use proptest::prelude::Strategy as _;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};

#[test]
fn every_answer_is_reached() {
    const ROUNDS: usize = 3000;
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut runner = TestRunner::new_with_rng(Default::default(), rng);
    let strategy = (strategy::definition(), strategy::subject());
    let mut answers: BTreeMap<String, usize> = BTreeMap::new();
    for _ in 0..ROUNDS {
        let (definition, subject) = strategy.new_tree(&mut runner).unwrap().current();
        let model = Model::from_json(&definition.to_string()).unwrap();
        let outcome = model.evaluate("f0", &subject);
        let name = outcome.error_code.map_or(outcome.reason.to_string(), |code| code.to_string());
        *answers.entry(name).or_default() += 1;
    }
    println!("{answers:?}");
    for (name, share) in
        [("STATIC", 5), ("TARGETING_MATCH", 10), ("DEFAULT", 8), ("DISABLED", 2), ("PARSE_ERROR", 3), ("GENERAL", 5)]
    {
        let count = answers.get(name).copied().unwrap_or_default();
        assert!(count * 100 >= ROUNDS * share, "{name} is {count} of {ROUNDS} answers: {answers:?}");
    }
}
