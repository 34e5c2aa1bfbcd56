//! Generators of definitions and contexts that look like people's, and now and then like nobody's.
//!
//! Names are few, so that rules find attributes, results find variants and `$ref`s find evaluators. In every choice the
//! plainest comes first: that is where proptest shrinks to.

use std::env;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{FileFailurePersistence, RngSeed};
use serde_json::{Map, Value as Json, json};

use crate::engine::{Kind, Subject};

/// A definition of one to four flags called `f0` to `f3`, with evaluators and metadata.
pub fn definition() -> impl Strategy<Value = Json> {
    let evaluator = prop_oneof![4 => rule(), 1 => call(rule())];
    (vec(flag(), 1..=4), vec(evaluator, 0..=3), option(metadata())).prop_map(|(flags, evaluators, metadata)| {
        let named = |prefix: &str, values: Vec<Json>| -> Map<String, Json> {
            values.into_iter().enumerate().map(|(index, value)| (format!("{prefix}{index}"), value)).collect()
        };
        let mut definition = json!({"flags": named("f", flags)});
        if !evaluators.is_empty() {
            definition["$evaluators"] = Json::Object(named("e", evaluators));
        }
        if let Some(metadata) = metadata {
            definition["metadata"] = metadata;
        }
        definition
    })
}

/// A key of [`definition`], or of no flag.
pub fn flag_key() -> impl Strategy<Value = &'static str> {
    select(vec!["f0", "f1", "f2", "f3", "nobody", ""])
}

/// Who is asking, at time 0.
pub fn subject() -> impl Strategy<Value = Subject> {
    (option(text().prop_map(Json::String)), vec((name(), value()), 0..=6)).prop_map(|(targeting_key, attributes)| {
        Subject {
            targeting_key,
            attributes: attributes.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
            unix_seconds: 0,
        }
    })
}

/// A type to read a flag as.
pub fn kind() -> impl Strategy<Value = Kind> {
    select(vec![Kind::Boolean, Kind::String, Kind::Integer, Kind::Float, Kind::Object])
}

/// A flag; in one of eight something about it is broken.
pub fn flag() -> impl Strategy<Value = Json> {
    let sound = (
        prop::bool::weighted(0.9),
        variants(),
        option(select(VARIANTS.to_vec())),
        option(targeting()),
        option(metadata()),
    )
        .prop_map(|(enabled, variants, default, targeting, metadata)| {
            let mut flag = json!({"state": if enabled { "ENABLED" } else { "DISABLED" }, "variants": variants});
            if let Some(default) = default.filter(|default| variants.contains_key(*default)) {
                flag["defaultVariant"] = json!(default);
            }
            if let Some(targeting) = targeting {
                flag["targeting"] = targeting;
            }
            if let Some(metadata) = metadata {
                flag["metadata"] = metadata;
            }
            flag
        });
    let damage = prop_oneof![
        7 => Just(None),
        1 => select(vec![
            ("state", Json::Null),
            ("state", json!("ON")),
            ("variants", json!({})),
            ("variants", json!({"on": true, "a": "text"})),
            ("variants", json!({"on": null})),
            ("variants", json!([true])),
            ("variants", json!({"": true})),
            ("variants", json!({"on": 9_007_199_254_740_992_u64})),
            ("defaultVariant", json!("nobody")),
            ("defaultVariant", json!(1)),
            ("defaultVariant", Json::Null),
            ("defaultVariant", json!("")),
            ("targeting", json!({"nonsense": []})),
            ("targeting", json!({"==": [1]})),
            ("targeting", json!({"$ref": "nobody"})),
            ("targeting", Json::Null),
            ("targeting", json!({})),
        ])
        .prop_map(Some),
    ];
    (sound, damage).prop_map(|(mut flag, damage)| {
        if let Some((member, value)) = damage {
            flag[member] = value;
        }
        flag
    })
}

/// A targeting rule that often ends in the name of a variant.
pub fn targeting() -> impl Strategy<Value = Json> {
    let result =
        || prop_oneof![6 => select(VARIANTS.to_vec()).prop_map(|name| json!(name)), 1 => Just(Json::Null), 1 => rule()];
    prop_oneof![
        4 => (rule(), result(), result()).prop_map(|(condition, yes, no)| json!({"if": [condition, yes, no]})),
        2 => (rule(), result(), rule(), result()).prop_map(|(a, x, b, y)| json!({"if": [a, x, b, y]})),
        2 => fractional(rule().boxed()),
        3 => call(rule()),
    ]
}

/// A rule of any shape: data, or operators some levels deep.
pub fn rule() -> BoxedStrategy<Json> {
    let leaf = prop_oneof![
        6 => scalar(),
        8 => path().prop_map(|path| json!({"var": path})),
        1 => select(vec!["e0", "e1", "e2"]).prop_map(|name| json!({"$ref": name})),
        1 => select(vec![json!([]), json!({}), json!({"a": 1, "b": {"var": "a"}})]),
    ];
    leaf.prop_recursive(4, 40, 4, |inner| {
        prop_oneof![6 => call(inner.clone()), 1 => vec(inner, 0..=3).prop_map(Json::Array)].boxed()
    })
    .boxed()
}

/// An operator applied to rules out of `inner`.
fn call(inner: impl Strategy<Value = Json> + Clone + 'static) -> BoxedStrategy<Json> {
    let inner = inner.boxed();
    let operator = |names: &[&'static str], arguments: std::ops::RangeInclusive<usize>| {
        (select(names.to_vec()), vec(inner.clone(), arguments)).prop_map(|(name, arguments)| json!({name: arguments}))
    };
    let over = || prop_oneof![2 => path().prop_map(|path| json!({"var": path})), 2 => vec(inner.clone(), 0..=3).prop_map(Json::Array), 1 => inner.clone()];
    let of_scope = || prop_oneof![1 => inner.clone(), 1 => comparison_with(select(vec![json!({"var": ""}), json!({"var": "a"})]).boxed(), inner.clone())];
    prop_oneof![
        8 => comparison_with(inner.clone(), inner.clone()),
        3 => operator(&["<", "<="], 3..=3),
        3 => operator(&["!", "!!", "log"], 0..=1),
        5 => operator(&["and", "or", "if", "?:"], 0..=4),
        4 => operator(&["+", "max", "min", "cat", "merge"], 0..=4),
        3 => operator(&["-"], 1..=2),
        2 => operator(&["*"], 1..=3),
        3 => operator(&["/", "%"], 2..=2),
        4 => operator(&["in"], 2..=2),
        3 => operator(&["substr"], 2..=3),
        3 => (path(), inner.clone()).prop_map(|(path, default)| json!({"var": [path, default]})),
        1 => inner.clone().prop_map(|path| json!({"var": path})),
        2 => vec(path(), 0..=3).prop_map(|names| json!({"missing": names})),
        2 => operator(&["missing"], 0..=2),
        2 => (0..4_i32, vec(path(), 0..=3)).prop_map(|(need, names)| json!({"missing_some": [need, names]})),
        3 => (select(vec!["map", "filter", "all", "none", "some"]), over(), of_scope()).prop_map(|(name, over, each)| json!({name: [over, each]})),
        2 => (over(), inner.clone(), inner.clone()).prop_map(|(over, each, initial)| json!({"reduce": [over, each, initial]})),
        2 => (over(), select(vec!["+", "cat", "max", "merge"]), inner.clone()).prop_map(|(over, name, initial)| {
            json!({"reduce": [over, {name: [{"var": "accumulator"}, {"var": "current"}]}, initial]})
        }),
        3 => fractional(inner.clone()),
        4 => (version(), select(SEMVER_OPERATORS.to_vec()), version()).prop_map(|(a, operator, b)| json!({"sem_ver": [a, operator, b]})),
        1 => operator(&["sem_ver"], 0..=4),
        3 => operator(&["starts_with", "ends_with"], 2..=2),
        1 => operator(&["starts_with", "ends_with"], 0..=3),
        // A single argument needs no array around it.
        1 => (select(vec!["!", "var", "cat", "+", "missing", "merge"]), inner.clone()).prop_map(|(name, argument)| json!({name: argument})),
    ]
    .boxed()
}

fn comparison_with(left: BoxedStrategy<Json>, right: BoxedStrategy<Json>) -> impl Strategy<Value = Json> {
    (select(vec!["==", "!=", "===", "!==", "<", "<=", ">", ">=", "in"]), left, right)
        .prop_map(|(name, a, b)| json!({name: [a, b]}))
}

fn fractional(inner: BoxedStrategy<Json>) -> impl Strategy<Value = Json> {
    let variant =
        prop_oneof![6 => select(VARIANTS.to_vec()).prop_map(|name| json!(name)), 1 => scalar(), 1 => inner.clone()];
    let weight = prop_oneof![
        6 => (0..100_i64).prop_map(|weight| json!(weight)),
        1 => select(vec![json!(0x7fff_ffff), json!(0x8000_0000_u32), json!(-3), json!(2.5), json!(7.0), Json::Null]),
        1 => inner.clone(),
    ];
    let bucket = prop_oneof![
        8 => (variant.clone(), weight).prop_map(|(variant, weight)| json!([variant, weight])),
        2 => variant.prop_map(|variant| json!([variant])),
        1 => inner.clone(),
    ];
    let key = prop_oneof![
        2 => Just(json!({"var": "targetingKey"})),
        2 => Just(json!({"cat": [{"var": "$flagd.flagKey"}, {"var": "email"}]})),
        1 => select(vec!["", "ejOoVL", "bY9fO-", "SI7p-", "6LvT0", "ceQdGm"]).prop_map(|key| json!(key)),
        1 => inner,
    ];
    (option(key), vec(bucket, 0..=4))
        .prop_map(|(key, buckets)| json!({"fractional": key.into_iter().chain(buckets).collect::<Vec<_>>()}))
}

fn variants() -> impl Strategy<Value = Map<String, Json>> {
    fn of(value: impl Strategy<Value = Json>) -> impl Strategy<Value = Map<String, Json>> {
        vec((select(VARIANTS.to_vec()), value), 1..=12)
            .prop_map(|variants| variants.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
    }
    prop_oneof![
        of(any::<bool>().prop_map(Json::Bool)),
        of(text().prop_map(Json::String)),
        of(number()),
        of(select(vec![
            json!({}),
            json!([]),
            json!({"a": [1, "é", null, {"b": 1.5}]}),
            json!([true, {"x": "\"\\\n"}])
        ])),
    ]
}

fn metadata() -> impl Strategy<Value = Json> {
    let value = prop_oneof![3 => text().prop_map(Json::String), 2 => number(), 1 => any::<bool>().prop_map(Json::Bool), 1 => Just(Json::Null)];
    vec((select(vec!["owner", "version", "é"]), value), 0..=3)
        .prop_map(|members| Json::Object(members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()))
}

/// A value of an attribute, two levels deep at most.
fn value() -> impl Strategy<Value = Json> {
    scalar().prop_recursive(2, 8, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..=4).prop_map(Json::Array),
            vec((name(), inner), 0..=3).prop_map(|members| Json::Object(
                members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
            )),
        ]
    })
}

fn scalar() -> impl Strategy<Value = Json> {
    prop_oneof![
        2 => Just(Json::Null),
        2 => any::<bool>().prop_map(Json::Bool),
        4 => number(),
        4 => text().prop_map(Json::String),
        1 => version(),
    ]
}

/// Numbers that a definition may hold: within ±(2^53-1).
fn number() -> impl Strategy<Value = Json> {
    prop_oneof![
        4 => (-3..=20_i64).prop_map(|number| json!(number)),
        2 => select(vec![
            json!(0.5), json!(-0.0), json!(1.0), json!(1.5), json!(-2.5), json!(0.1), json!(1e-7), json!(5e-324), json!(1e6), json!(999_999),
            json!(1e15), json!(9_007_199_254_740_991_i64), json!(-9_007_199_254_740_991_i64), json!(0x7fff_ffff), json!(0x8000_0000_u32),
            json!(0.0001), json!(0.00001), json!(123_456.789),
        ]),
        1 => (-1e15..1e15).prop_map(|number| json!(number)),
        1 => (-10.0..10.0).prop_map(|number| json!(number)),
    ]
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => select(vec![
            "", "a", "b", "ab", "on", "off", "user-1", "a@example.com", "@example.com", "é", "日本語", "a😀b", "A", " a ", "[object Object]", "a,b",
        ]).prop_map(str::to_owned),
        3 => select(vec![
            "0", "1", "-1", "1.5", " 12 ", "12px", "1e3", "1e", "0x1F", "0b11", "0o7", "Infinity", "-Infinity", "NaN", ".5", "5.", "+3", "-", "1e400",
            "\u{a0}7\u{feff}", "true", "false", "null", "9007199254740993", "0.1", "1_000",
        ]).prop_map(str::to_owned),
        1 => "[a-c]{0,3}",
        1 => "\\PC{0,6}",
    ]
}

/// Versions, right and wrong.
fn version() -> impl Strategy<Value = Json> {
    prop_oneof![
        4 => (0..3_u8, 0..3_u8, 0..12_u8).prop_map(|(major, minor, patch)| json!(format!("{major}.{minor}.{patch}"))),
        2 => select(vec![
            json!("1"), json!("1.2"), json!("v1.2.3"), json!("V1"), json!("vv1"), json!("1.2.3-alpha"), json!("1.2.3-alpha.1"), json!("1.2.3-alpha.beta"),
            json!("1.2.3-1"), json!("1.2.3-01"), json!("1.2.3-0a"), json!("1.2.3+b"), json!("1.2.3-rc.1+b.01"), json!("1.2.3-"), json!("1.2.3+"),
            json!("1.2-a"), json!("01.2.3"), json!("1.2.3.4"), json!(""), json!("v"), json!("1..2"), json!("18446744073709551616.0.0"), json!("-1"),
            json!(1), json!(1.2), json!(1.05), json!(1e6), json!(0), json!({"var": "version"}),
        ]),
    ]
}

/// What `var` and `missing` name.
fn path() -> impl Strategy<Value = Json> {
    prop_oneof![
        8 => name().prop_map(|name| json!(name)),
        3 => select(vec![
            "targetingKey", "$flagd.flagKey", "a.b", "a.0", "a.1", "b.a.0", "current", "accumulator", "current.a", "", "a..b", ".a", "$flagd.timestamp",
            "$flagd.other",
            "$flagd.flagKey.x", "$lists.x", "targetingKey.a", "email.0", "a.99999999999999999999", "a.é",
        ]).prop_map(|path| json!(path)),
        1 => select(vec![json!(0), json!(1), json!(1.5), Json::Null]),
    ]
}

/// The names of attributes and members.
fn name() -> impl Strategy<Value = &'static str> {
    prop_oneof![
        8 => select(vec!["a", "b", "email", "age", "version", "tags", "é", "0", "1"]),
        1 => select(vec!["targetingKey", "$flagd", "$lists", "5", "current"]),
    ]
}

fn option<S: Strategy>(strategy: S) -> impl Strategy<Value = Option<S::Value>>
where
    S::Value: Clone,
{
    prop::option::weighted(0.6, strategy)
}

const VARIANTS: [&str; 9] = ["on", "off", "a", "b", "true", "false", "1", "é", "1.5"];

const SEMVER_OPERATORS: [&str; 10] = ["=", "!=", "<", "<=", ">", ">=", "^", "~", "==", ""];

/// How a property is tested: with the same `everyday` cases each time, so that a change that breaks nothing passes; where
/// `$PROPTEST_CASES` is set with so many new ones. A case that failed is written beside the test's source, to be kept.
#[must_use]
pub fn config(everyday: u32) -> ProptestConfig {
    let asked = env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok());
    ProptestConfig {
        cases: asked.unwrap_or(everyday),
        rng_seed: if asked.is_some() { RngSeed::Random } else { RngSeed::Fixed(0) },
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("regressions"))),
        max_shrink_iters: 20_000,
        ..ProptestConfig::default()
    }
}
