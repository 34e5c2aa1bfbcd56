//! What `cargo xtask instructions` counts under callgrind: the hot paths, each called again and again in [`counted`].
//!
//! - `instructions publish FOLDER` makes the stores that this program and its like in C read.
//! - `instructions read FOLDER` reads them: each path `CALLS` times to warm up, `CALLS` times and twice as often. callgrind counts
//!   from [`counted`]'s beginning to its end, and dumps what it counted; so the last two dumps of a path differ by `CALLS` calls, with
//!   the loop around them and without what happens once.
//!
//! Nothing here is random: the flags, the order of the inputs and their number are the same in every run.

#[path = "../definitions.rs"]
#[expect(dead_code, reason = "the benchmarks need more of it")]
mod definitions;

use std::fs;
use std::hint::black_box;
use std::ops::Range;
use std::path::Path;
use std::thread;

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use libflags::compile::Compiler;
use libflags::definition::{Document, Format, Limits, Selector};
use libflags::evaluate::Attributes;
use libflags::store::{PublishMeta, Publisher, PublisherOptions};
use libflags::{Client, Context, FlagHandle, Value};

/// A multiple of the number of inputs of each path, so that none counts more than another. Four times as many are fewer than a thread
/// makes between two looks at the clock: what it does then depends on the time.
const CALLS: usize = 1_000;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, act, folder] = arguments.as_slice() else { bail!("usage: instructions publish|read FOLDER") };
    match act.as_str() {
        "publish" => publish(Path::new(folder)),
        "read" => read(Path::new(folder)),
        _ => bail!("publish or read, not {act}"),
    }
}

fn publish(folder: &Path) -> Result<()> {
    let rules = [
        ("equality", definitions::equality()),
        ("two-levels", definitions::two_levels()),
        ("half", definitions::half()),
        ("written", definitions::written_ids(10_000)),
    ];
    let text = definitions::with_rules(1_000, &rules);
    fs::create_dir_all(folder)?;
    let document = Document::parse("flags.json", &text, Format::Json, &Limits::default())?;
    let compilation = Compiler::new(Limits::default()).compile(&[document], &Selector::All)?;
    ensure!(compilation.problems.is_empty(), "{:?}", compilation.problems);
    let mut publisher = Publisher::open(folder, &PublisherOptions::default())?;
    publisher.publish(&compilation.snapshot, &PublishMeta::default())?;
    Ok(())
}

fn read(folder: &Path) -> Result<()> {
    let client = Client::open(Some(folder)).context("cannot open the store")?;
    let keys = |range: Range<usize>, answer: fn(usize) -> bool| -> Vec<(String, bool)> {
        range.map(|number| (definitions::key(number), answer(number))).collect()
    };
    let flags = || keys(0..1_000, definitions::answer);
    path("key", flags, |key, nobody| client.bool(key, nobody, false))?;
    let pinned = client.snapshot();
    path("pinned-key", flags, |key, nobody| pinned.bool(key, nobody, false))?;
    path("missing-key", || keys(1_000..2_000, |_| true), |key, nobody| client.bool(key, nobody, true))?;
    let handles =
        || keys(0..10, definitions::answer).into_iter().map(|(key, answer)| (client.flag(key), answer)).collect();
    path("handle", handles, |handle: &FlagHandle<'_>, nobody| handle.bool(nobody, false))?;
    path("equality", || people(|person| person.country == "DE"), |context, _| client.bool("equality", context, false))?;
    let chosen =
        |person: &Person| (person.tier == "premium" && person.country == "DE") || (person.age >= 18 && person.beta);
    path("two-levels", || people(chosen), |context, _| client.bool("two-levels", context, false))?;
    let users = |answer: &dyn Fn(usize, &str) -> bool| -> Vec<(String, bool)> {
        let user = |number| (definitions::user(number), answer(number, &definitions::user(number)));
        (0..1_000).map(user).collect()
    };
    // Which half is whose the benchmark proves; here it must only stay so.
    let half = |user: &str| client.bool("half", &User(user), false);
    let trues = users(&|_, user| half(user)).iter().filter(|(_, on)| *on).count();
    ensure!((400..600).contains(&trues), "{trues} of 1000 users are no half");
    path("fractional", || users(&|_, user| half(user)), |user, _| half(user))?;
    let members = || users(&|number, _| number.is_multiple_of(2));
    path("in-10k", members, |user, _| client.bool("written", &User(user), false))
}

/// Has a path counted, in a thread that has not read anything yet, and says so.
fn path<I>(
    name: &str,
    inputs: impl Fn() -> Vec<(I, bool)> + Sync,
    read: impl Fn(&I, &Context<'_>) -> bool + Sync,
) -> Result<()> {
    for (position, (input, expected)) in inputs().iter().enumerate() {
        ensure!(read(input, &Context::anonymous()) == *expected, "{name}: input {position} is not answered {expected}");
    }
    let count = || {
        let inputs = inputs();
        let trues = inputs.iter().filter(|(_, expected)| *expected).count();
        let turns = [1, 1, 2].map(|times| times * CALLS / inputs.len());
        turns.map(|passes| counted(&inputs, passes, &read) == passes * trues)
    };
    let right = thread::scope(|scope| scope.spawn(count).join()).map_err(|_| anyhow!("{name} panicked"))?;
    ensure!(right == [true; 3], "{name}: not as many answers were true as before");
    println!("path {name} {CALLS}");
    Ok(())
}

/// Where callgrind counts, by its name.
#[inline(never)]
fn counted<I>(inputs: &[(I, bool)], passes: usize, read: &impl Fn(&I, &Context<'_>) -> bool) -> usize {
    let (mut trues, nobody) = (0, Context::anonymous());
    for _ in 0..passes {
        for (input, _) in inputs {
            trues += usize::from(read(black_box(input), &nobody));
        }
    }
    trues
}

/// Somebody of five attributes.
struct Person {
    country: &'static str,
    tier: &'static str,
    age: i64,
    beta: bool,
}

/// Eight of them, and what each is answered.
fn people(answer: impl Fn(&Person) -> bool) -> Vec<(Context<'static>, bool)> {
    let people = [
        ("DE", "premium", 42, false),
        ("FR", "premium", 17, true),
        ("DE", "free", 30, true),
        ("US", "free", 12, true),
        ("DE", "premium", 16, false),
        ("DE", "free", 65, false),
        ("GB", "free", 18, true),
        ("FR", "premium", 40, false),
    ]
    .map(|(country, tier, age, beta)| Person { country, tier, age, beta });
    let with_answer = |person: &Person| {
        let context = Context::new("user-1").with("tier", person.tier).with("age", person.age);
        let context = context.with("country", person.country).with("beta", person.beta).with("version", "2.3.1");
        (context, answer(person))
    };
    people.iter().map(with_answer).collect()
}

/// Somebody with an id and nothing else.
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
