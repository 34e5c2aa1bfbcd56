//! Flags with targeting.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use libflags::evaluate::{Attributes, Want};
use libflags::{Client, Context, Value};

use crate::Row;
use crate::lab::{Lab, Target};
use crate::measure::{self, Figures, Random};
use crate::{allocations, definitions, publish};

pub(crate) const ROWS: &[Row] = &[
    Row {
        name: "equality",
        about: "one string equality, a context of 5 attributes, Rust",
        unit: "ns",
        target: Target::AtMost(20.0),
        measure: |lab| equality(lab).map(Some),
    },
    Row {
        name: "two-levels",
        about: "two levels of and/or over 4 attributes, Rust",
        unit: "ns",
        target: Target::AtMost(45.0),
        measure: |lab| two_levels(lab).map(Some),
    },
    Row {
        name: "fractional",
        about: "fractional 50/50 on the targeting key, 4 096 users, Rust",
        unit: "ns",
        target: Target::AtMost(25.0),
        measure: |lab| fractional(lab).map(Some),
    },
    Row {
        name: "in-10k",
        about: "in over 10 000 ids in the rule, half of the users in it, Rust",
        unit: "ns",
        target: Target::AtMost(35.0),
        measure: |lab| in_rule(lab).map(Some),
    },
    Row {
        name: "in-10m",
        about: "in over an id list of 10 000 000, half of the users in it, Rust",
        unit: "ns",
        target: Target::AtMost(120.0),
        measure: |lab| in_list(lab).map(Some),
    },
    Row {
        name: "allocations",
        about: "allocations while evaluating all inputs once, the most of all kinds above",
        unit: "",
        target: Target::AtMost(0.0),
        measure: |lab| allocated(lab).map(Some),
    },
];

/// Somebody with an id and nothing else: what a program that has no attributes hands over.
struct User<'a>(&'a str);

impl Attributes for User<'_> {
    #[inline]
    fn targeting_key(&self) -> Option<Value<'_>> {
        Some(Value::from(self.0))
    }

    #[inline]
    fn attribute(&self, _: &[u8]) -> Option<Value<'_>> {
        None
    }
}

/// The store of 1 000 static flags and one flag of each kind of rule.
pub(crate) fn rules() -> String {
    definitions::with_rules(
        1_000,
        &[
            ("equality", definitions::equality()),
            ("two-levels", definitions::two_levels()),
            ("half", definitions::half()),
            ("written", definitions::written_ids(10_000)),
        ],
    )
}

fn client(lab: &Lab) -> Result<Client> {
    lab.client("rules", rules)
}

/// Contexts of five attributes, and who each is.
fn people() -> Vec<(Context<'static>, &'static str, &'static str, i64, bool)> {
    let mut people = Vec::new();
    for (country, tier, age, beta) in [
        ("DE", "premium", 42, false),
        ("FR", "premium", 17, true),
        ("DE", "free", 30, true),
        ("US", "free", 12, true),
        ("DE", "premium", 16, false),
        ("DE", "free", 65, false),
        ("GB", "free", 18, true),
        ("FR", "premium", 40, false),
    ] {
        let context = Context::new("user-1")
            .with("tier", tier)
            .with("age", age)
            .with("country", country)
            .with("beta", beta)
            .with("version", "2.3.1");
        people.push((context, country, tier, age, beta));
    }
    people
}

fn equality_inputs() -> Vec<(Context<'static>, bool)> {
    people().into_iter().map(|(context, country, ..)| (context, country == "DE")).collect()
}

fn two_levels_inputs() -> Vec<(Context<'static>, bool)> {
    let expected = |country, tier, age, beta| (tier == "premium" && country == "DE") || (age >= 18 && beta);
    people()
        .into_iter()
        .map(|(context, country, tier, age, beta)| (context, expected(country, tier, age, beta)))
        .collect()
}

fn equality(lab: &Lab) -> Result<Figures> {
    let client = client(lab)?;
    measure::reads(lab.effort, &equality_inputs(), |context| client.bool("equality", context, false))
}

fn two_levels(lab: &Lab) -> Result<Figures> {
    let client = client(lab)?;
    measure::reads(lab.effort, &two_levels_inputs(), |context| client.bool("two-levels", context, false))
}

fn fractional(lab: &Lab) -> Result<Figures> {
    let client = client(lab)?;
    measure::reads(lab.effort, &half_inputs()?, |user| client.bool("half", &User(user), false))
}

/// Users with what the definition of `fractional` gives them, computed here anew.
fn half_inputs() -> Result<Vec<(String, bool)>> {
    let inputs: Vec<(String, bool)> = (0..4096)
        .map(|number| {
            let user = definitions::user(number);
            let hash = murmur3(format!("half{user}").as_bytes());
            (user, (u64::from(hash) * 100) >> 32 < 50)
        })
        .collect();
    let trues = inputs.iter().filter(|(_, expected)| *expected).count();
    ensure!((1900..2200).contains(&trues), "{trues} of 4096 users are no half");
    Ok(inputs)
}

fn in_rule(lab: &Lab) -> Result<Figures> {
    let client = client(lab)?;
    measure::reads(lab.effort, &members(10_000, 16_384), |user| client.bool("written", &User(user), false))
}

fn in_list(lab: &Lab) -> Result<Figures> {
    let client = Client::open(Some(&ten_million(lab)?))?;
    measure::reads(lab.effort, &members(TEN_MILLION, 1 << 20), |user| client.bool("listed", &User(user), false))
}

const TEN_MILLION: usize = 10_000_000;

/// The store whose flag `listed` asks for membership in a list of so many ids.
pub(crate) fn ten_million(lab: &Lab) -> Result<PathBuf> {
    lab.store_made("ten-million", |store| {
        let folder = lab.folder("ten-million-ids")?;
        let mut ids = String::with_capacity(TEN_MILLION * 14);
        for number in 0..TEN_MILLION {
            ids.push_str(&definitions::user(number * 2));
            ids.push('\n');
        }
        std::fs::write(folder.join("everybody.txt"), ids)?;
        let flag = definitions::with_rules(10, &[("listed", definitions::listed_ids("everybody"))]);
        let metadata = "{\"metadata\":{\"list.everybody\":\"everybody.txt\"},\"flags\"";
        let definition = flag.replacen("{\"flags\"", metadata, 1);
        publish::Writer::new(store)?.publish(&publish::document(&definition, Some(&folder))?)?;
        Ok(std::fs::remove_dir_all(folder)?)
    })
}

/// `number` random users, half of them among the even `ids`.
fn members(ids: usize, number: usize) -> Vec<(String, bool)> {
    let mut random = Random::new(3);
    (0..number)
        .map(|_| {
            let user = random.below(ids * 2);
            (definitions::user(user), user.is_multiple_of(2))
        })
        .collect()
}

fn allocated(lab: &Lab) -> Result<Figures> {
    let client = client(lab)?;
    let pinned = client.snapshot();
    let handle = client.flag("feature-000001");
    let (equality, two_levels, half, ids) =
        (equality_inputs(), two_levels_inputs(), half_inputs()?, members(10_000, 1000));
    let nobody = Context::anonymous();
    let kinds: [(&str, &dyn Fn()); 6] = [
        ("static", &|| assert_eq!(client.bool("feature-000001", &nobody, false), definitions::answer(1))),
        ("handle", &|| assert_eq!(handle.bool(&nobody, false), definitions::answer(1))),
        ("equality", &|| {
            equality.iter().for_each(|(who, right)| assert_eq!(client.bool("equality", who, !right), *right))
        }),
        ("two-levels", &|| {
            two_levels.iter().for_each(|(who, right)| assert_eq!(client.bool("two-levels", who, !right), *right));
        }),
        ("fractional", &|| {
            half.iter().for_each(|(who, right)| assert_eq!(client.bool("half", &User(who), !right), *right))
        }),
        ("in and details", &|| {
            for (who, right) in &ids {
                let answer = pinned.evaluate(b"written", Want::Bool, &User(who));
                assert_eq!(answer.variant == Some("on"), *right);
            }
        }),
    ];
    let mut most = 0;
    for (name, kind) in kinds {
        kind();
        // The least of some rounds: once a second a reader looks whether its store is still where it was, which allocates; what an
        // evaluation allocates shows in every round, since each goes over all inputs.
        let rounds = (0..20).map(|_| {
            let before = allocations::so_far();
            kind();
            allocations::so_far() - before
        });
        let number = rounds.min().unwrap_or_default();
        if number > 0 {
            eprintln!("allocations: {number} in a round of {name}");
        }
        most = most.max(number);
    }
    Ok(Figures::exact(measure::count(usize::try_from(most)?)))
}

/// MurmurHash3 x86 32 with seed 0, written from its definition to check the evaluator's own.
fn murmur3(bytes: &[u8]) -> u32 {
    let scramble = |block: u32| block.wrapping_mul(0xCC9E_2D51).rotate_left(15).wrapping_mul(0x1B87_3593);
    let mut hash = 0_u32;
    let (blocks, tail) = bytes.as_chunks::<4>();
    for block in blocks {
        hash = (hash ^ scramble(u32::from_le_bytes(*block))).rotate_left(13).wrapping_mul(5).wrapping_add(0xE654_6B64);
    }
    if !tail.is_empty() {
        let last = tail.iter().rev().fold(0, |last, byte| last << 8 | u32::from(*byte));
        hash ^= scramble(last);
    }
    #[expect(clippy::cast_possible_truncation, reason = "the hash is defined on the length modulo 2^32")]
    let length = bytes.len() as u32;
    hash ^= length;
    hash = (hash ^ (hash >> 16)).wrapping_mul(0x85EB_CA6B);
    hash = (hash ^ (hash >> 13)).wrapping_mul(0xC2B2_AE35);
    hash ^ (hash >> 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn murmur3_hashes_the_published_boundary_keys() {
        assert_eq!(murmur3(b"ejOoVL"), 0);
        assert_eq!(murmur3(b"bY9fO-"), 1);
        assert_eq!(murmur3(b"SI7p-"), 0x7FFF_FFFF);
        assert_eq!(murmur3(b"6LvT0"), 0x8000_0000);
        assert_eq!(murmur3(b"ceQdGm"), 0xFFFF_FFFF);
    }
}
