//! Flags with targeting: those peers that evaluate.

use anyhow::{Result, ensure};
use libflags::definition::Format;
use libflags::evaluate::Attributes;
use libflags::{Client, Context, Value};

use crate::contest::{self, Contender, Effort, Outcome};
use crate::measure::Random;
use crate::{Row, definitions, peer};

const VALUES_ONLY: &[(&str, &str)] = &[
    (peer::MMAP_SYNC, "holds values, has no rules"),
    (peer::ARC_SWAP, "holds values, has no rules"),
    (peer::LMDB, "holds values, has no rules"),
];

pub(crate) const ROWS: &[Row] = &[
    Row {
        name: "equality",
        about: "one string equality, a context of 5 attributes made before",
        unit: "ns",
        measure: |effort| people(effort, "equality", |person| person.country == "DE"),
        absent: VALUES_ONLY,
    },
    Row {
        name: "two-levels",
        about: "two levels of and/or over 4 attributes, a context made before",
        unit: "ns",
        measure: |effort| people(effort, "two-levels", Person::has_two_levels),
        absent: VALUES_ONLY,
    },
    Row {
        name: "fractional",
        about: "half of all users by the targeting key, 4 096 users",
        unit: "ns",
        measure: fractional,
        absent: VALUES_ONLY,
    },
    Row {
        name: "in-10k",
        about: "in over 10 000 ids in the rule, half of the users in it",
        unit: "ns",
        measure: in_rule,
        absent: VALUES_ONLY,
    },
];

/// Who asks for flags.
pub(crate) struct Person {
    pub(crate) country: &'static str,
    pub(crate) tier: &'static str,
    pub(crate) age: i64,
    pub(crate) beta: bool,
}

impl Person {
    fn has_two_levels(&self) -> bool {
        (self.tier == "premium" && self.country == "DE") || (self.age >= 18 && self.beta)
    }

    fn context(&self) -> Context<'static> {
        Context::new("user-1")
            .with("tier", self.tier)
            .with("age", self.age)
            .with("country", self.country)
            .with("beta", self.beta)
            .with("version", "2.3.1")
    }
}

/// As in `benches/src/evaluate.rs`.
const PEOPLE: &[Person] = &[
    Person { country: "DE", tier: "premium", age: 42, beta: false },
    Person { country: "FR", tier: "premium", age: 17, beta: true },
    Person { country: "DE", tier: "free", age: 30, beta: true },
    Person { country: "US", tier: "free", age: 12, beta: true },
    Person { country: "DE", tier: "premium", age: 16, beta: false },
    Person { country: "DE", tier: "free", age: 65, beta: false },
    Person { country: "GB", tier: "free", age: 18, beta: true },
    Person { country: "FR", tier: "premium", age: 40, beta: false },
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

/// 1 000 static flags and one of each rule.
fn client() -> Result<Client> {
    let rules = [
        ("equality", definitions::equality()),
        ("two-levels", definitions::two_levels()),
        ("half", definitions::half()),
        ("written", definitions::written_ids(10_000)),
    ];
    Ok(Client::from_definition(&definitions::with_rules(1_000, &rules), Format::Json)?)
}

fn people(effort: Effort, key: &str, expected: fn(&Person) -> bool) -> Result<Vec<Outcome>> {
    let client = client()?;
    let yggdrasil = peer::yggdrasil::engine(&peer::yggdrasil::features(1_000, true))?;
    let eppo = peer::eppo::configuration(&peer::eppo::flags(1_000, true))?;
    let eppo_read = peer::eppo::reader(&eppo);
    let engine = datalogic_rs::Engine::new();
    let rules = peer::datalogic::rules(&engine, 1_000, true)?;
    let mut session = engine.session();
    contest::hold(
        effort,
        vec![
            Contender::new(peer::LIBFLAGS, asked(|person| Ok(person.context()), expected)?, |context| {
                client.bool(key, context, false)
            }),
            Contender::new(peer::YGGDRASIL, asked(peer::yggdrasil::context, expected)?, |context| {
                yggdrasil.is_enabled(key, context, &None)
            }),
            Contender::new(peer::EPPO, asked(|person| Ok(peer::eppo::subject(person)), expected)?, |subject| {
                eppo_read(key, subject)
            }),
            Contender::new(peer::DATALOGIC, asked(peer::datalogic::person, expected)?, |context| {
                peer::datalogic::is_on(&mut session, rules.get(key), context)
            }),
        ],
    )
}

/// Everybody, in a peer's terms.
fn asked<C>(context: impl Fn(&Person) -> Result<C>, expected: fn(&Person) -> bool) -> Result<Vec<(C, bool)>> {
    PEOPLE.iter().map(|person| Ok((context(person)?, expected(person)))).collect()
}

fn fractional(effort: Effort) -> Result<Vec<Outcome>> {
    let client = client()?;
    let yggdrasil = peer::yggdrasil::engine(&peer::yggdrasil::features(1_000, true))?;
    let eppo = peer::eppo::configuration(&peer::eppo::flags(1_000, true))?;
    let eppo_read = peer::eppo::reader(&eppo);
    let engine = datalogic_rs::Engine::new();
    let rules = peer::datalogic::rules(&engine, 1_000, true)?;
    let (mut session, mut first) = (engine.session(), engine.session());
    contest::hold(
        effort,
        vec![
            Contender::new(
                peer::LIBFLAGS,
                halved(Ok, |user| client.bool("half", &User(user), false))?,
                |user: &String| client.bool("half", &User(user), false),
            ),
            Contender::new(
                peer::YGGDRASIL,
                halved(|id| peer::yggdrasil::user(&id), |user| yggdrasil.is_enabled("half", user, &None))?,
                |user| yggdrasil.is_enabled("half", user, &None),
            ),
            Contender::new(
                peer::EPPO,
                halved(|id| Ok(peer::eppo::user(&id)), |user| eppo_read("half", user))?,
                |user| eppo_read("half", user),
            ),
            Contender::new(
                peer::DATALOGIC,
                halved(
                    |id| peer::datalogic::user(&id),
                    |user| peer::datalogic::is_on(&mut first, rules.get("half"), user),
                )?,
                |user| peer::datalogic::is_on(&mut session, rules.get("half"), user),
            ),
        ],
    )
}

/// Users in a peer's terms, with its first answer: each hashes in its own way, so all that can be asked of it is that half of all
/// users have the flag, and that each keeps its answer.
fn halved<C>(context: impl Fn(String) -> Result<C>, mut read: impl FnMut(&C) -> bool) -> Result<Vec<(C, bool)>> {
    let mut users = Vec::new();
    for number in 0..4096 {
        let user = context(definitions::user(number))?;
        let answer = read(&user);
        users.push((user, answer));
    }
    let trues = users.iter().filter(|(_, answer)| *answer).count();
    ensure!((1900..2200).contains(&trues), "{trues} of 4096 users are no half");
    Ok(users)
}

fn in_rule(effort: Effort) -> Result<Vec<Outcome>> {
    let client = client()?;
    let yggdrasil = peer::yggdrasil::engine(&peer::yggdrasil::features(1_000, true))?;
    let eppo = peer::eppo::configuration(&peer::eppo::flags(1_000, true))?;
    let eppo_read = peer::eppo::reader(&eppo);
    let engine = datalogic_rs::Engine::new();
    let rules = peer::datalogic::rules(&engine, 1_000, true)?;
    let mut session = engine.session();
    contest::hold(
        effort,
        vec![
            Contender::new(peer::LIBFLAGS, members(Ok)?, |user: &String| client.bool("written", &User(user), false)),
            Contender::new(peer::YGGDRASIL, members(|id| peer::yggdrasil::user(&id))?, |user| {
                yggdrasil.is_enabled("written", user, &None)
            }),
            Contender::new(peer::EPPO, members(|id| Ok(peer::eppo::user(&id)))?, |user| eppo_read("written", user)),
            Contender::new(peer::DATALOGIC, members(|id| peer::datalogic::user(&id))?, |user| {
                peer::datalogic::is_on(&mut session, rules.get("written"), user)
            }),
        ],
    )
}

/// Random users in a peer's terms, half of them among the even ids of the rule. Fewer than libflags alone is measured with, since
/// some peers look through the whole list.
fn members<C>(context: impl Fn(String) -> Result<C>) -> Result<Vec<(C, bool)>> {
    let mut random = Random::new(3);
    let mut users = Vec::new();
    for _ in 0..4096 {
        let user = random.below(20_000);
        users.push((context(definitions::user(user))?, user.is_multiple_of(2)));
    }
    Ok(users)
}
