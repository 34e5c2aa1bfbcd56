//! Definitions, changed as the trees they are: most random bytes are no JSON.
#![no_main]

use std::cell::RefCell;

use libflags_tests::{fuzz, strategy};
use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};
use proptest::strategy::{BoxedStrategy, Strategy as _, ValueTree as _};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use serde_json::{Map, Value as Json, json};

fuzz_target!(|text: &[u8]| fuzz::definition::run(text));

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    let mut random = Random(u64::from(seed) | 1 << 32);
    let document = serde_json::from_slice::<Json>(&data[..size]).ok().filter(Json::is_object);
    let Some(mut document) = document.filter(|_| random.below(4) > 0) else {
        return fuzzer_mutate(data, size, max_size);
    };
    for _ in 0..=random.below(3) {
        // A change may have left something else.
        if document.is_object() {
            change(&mut document, &mut random);
        }
    }
    let text = document.to_string();
    if text.len() > max_size {
        return fuzzer_mutate(data, size, max_size);
    }
    data[..text.len()].copy_from_slice(text.as_bytes());
    text.len()
});

/// Changes one place of a document.
fn change(document: &mut Json, random: &mut Random) {
    let wanted = random.below(20);
    if wanted == 0 {
        *document = made(random, |makers| &makers.definition);
    } else if wanted < 4 {
        // Who asks matters as much as what is asked.
        let subject = made(random, |makers| &makers.subject);
        let subjects = &mut document["$subjects"];
        match subjects.as_array_mut().filter(|subjects| subjects.len() < 3) {
            Some(subjects) => subjects.push(subject),
            None => *subjects = json!([subject]),
        }
    } else if wanted < 6 {
        let flag = made(random, |makers| &makers.flag);
        let key = format!("f{}", random.below(4));
        if let Some(flags) = document.get_mut("flags").and_then(Json::as_object_mut) {
            flags.insert(key, flag);
        }
    } else {
        let places = count(document);
        let other = random.below(places);
        let other = nth(document, other).map(|value| value.clone()).unwrap_or_default();
        let place = random.below(places);
        if let Some(place) = nth(document, place) {
            change_value(place, other, random);
        }
    }
}

fn change_value(value: &mut Json, other: Json, random: &mut Random) {
    let rule = |random: &mut Random| made(random, |makers| &makers.rule);
    match random.below(7) {
        0 => *value = other,
        1 | 2 => *value = rule(random),
        // Around what is there.
        3 => *value = json!({OPERATORS[random.below(OPERATORS.len())]: [value.take(), rule(random)]}),
        4 => *value = json!({OPERATORS[random.below(OPERATORS.len())]: value.take()}),
        _ => match value {
            Json::Array(elements) => {
                let place = random.below(elements.len() + 1);
                match random.below(3) {
                    0 if place < elements.len() => drop(elements.remove(place)),
                    1 if place < elements.len() => elements.push(elements[place].clone()),
                    _ => elements.insert(place, rule(random)),
                }
            }
            Json::Object(members) => {
                let name = members.keys().nth(random.below(members.len() + 1)).cloned();
                match (name, random.below(3)) {
                    (Some(name), 0) => drop(members.remove(&name)),
                    // The same under another name: another operator, or another member.
                    (Some(name), 1) => {
                        let inner = members.remove(&name).unwrap_or_default();
                        members.insert(OPERATORS[random.below(OPERATORS.len())].to_owned(), inner);
                    }
                    _ => drop(members.insert(NAMES[random.below(NAMES.len())].to_owned(), rule(random))),
                }
            }
            Json::Number(number) => {
                let number = number.as_f64().unwrap_or_default();
                *value = match random.below(5) {
                    0 => json!(-number),
                    1 => json!(number + 1.0),
                    2 => json!(number * 1024.0),
                    3 => json!(number / 3.0),
                    _ => json!(number.to_string()),
                };
            }
            Json::String(text) => {
                let at = random.below(text.len() + 1);
                if text.is_char_boundary(at) {
                    match random.below(3) {
                        0 => text.truncate(at),
                        1 => text.insert_str(at, PIECES[random.below(PIECES.len())]),
                        _ => *text = text.repeat(2),
                    }
                }
            }
            Json::Bool(_) | Json::Null => *value = other,
        },
    }
}

/// How many values there are in a document, itself included.
fn count(value: &Json) -> usize {
    1 + match value {
        Json::Array(elements) => elements.iter().map(count).sum(),
        Json::Object(members) => members.values().map(count).sum(),
        _ => 0,
    }
}

/// The value at a place, places being counted as `count` counts them.
fn nth(value: &mut Json, mut place: usize) -> Option<&mut Json> {
    if place == 0 {
        return Some(value);
    }
    place -= 1;
    let inner: Box<dyn Iterator<Item = &mut Json>> = match value {
        Json::Array(elements) => Box::new(elements.iter_mut()),
        Json::Object(members) => Box::new(members.values_mut()),
        _ => return None,
    };
    for value in inner {
        let places = count(value);
        if place < places {
            return nth(value, place);
        }
        place -= places;
    }
    None
}

/// The generators of the everyday tests, made once: that takes longer than to use them.
struct Makers {
    definition: BoxedStrategy<Json>,
    flag: BoxedStrategy<Json>,
    rule: BoxedStrategy<Json>,
    subject: BoxedStrategy<Json>,
}

thread_local! {
    static MAKERS: RefCell<Makers> = RefCell::new(Makers {
        definition: strategy::definition().boxed(),
        flag: strategy::flag().boxed(),
        rule: strategy::rule(),
        subject: strategy::subject().prop_map(|subject| {
            let mut members: Map<String, Json> = subject.attributes;
            members.extend(subject.targeting_key.map(|key| ("targetingKey".to_owned(), key)));
            Json::Object(members)
        }).boxed(),
    });
}

fn made(random: &mut Random, maker: impl FnOnce(&Makers) -> &BoxedStrategy<Json>) -> Json {
    let mut seed = [0; 16];
    seed.chunks_exact_mut(8).for_each(|part| part.copy_from_slice(&random.next().to_le_bytes()));
    let config = Config { failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::XorShift, &seed));
    MAKERS.with_borrow(|makers| maker(makers).new_tree(&mut runner).map(|tree| tree.current()).unwrap_or_default())
}

/// xorshift64*.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() >> 33) as usize % bound
    }
}

const OPERATORS: [&str; 39] = [
    "var",
    "missing",
    "missing_some",
    "if",
    "?:",
    "==",
    "!=",
    "===",
    "!==",
    "!",
    "!!",
    "or",
    "and",
    ">",
    ">=",
    "<",
    "<=",
    "max",
    "min",
    "+",
    "-",
    "*",
    "/",
    "%",
    "map",
    "filter",
    "reduce",
    "all",
    "none",
    "some",
    "merge",
    "in",
    "cat",
    "substr",
    "log",
    "fractional",
    "sem_ver",
    "starts_with",
    "ends_with",
];

const NAMES: [&str; 16] = [
    "f0",
    "f1",
    "on",
    "off",
    "true",
    "a",
    "b",
    "state",
    "variants",
    "defaultVariant",
    "targeting",
    "metadata",
    "$evaluators",
    "e0",
    "$ref",
    "flagSetId",
];

const PIECES: [&str; 14] =
    [".", "0", "1", "é", "😀", " ", "v", "-", "+", "e5", "\0", "\"", "$flagd.flagKey", "$lists.x"];
