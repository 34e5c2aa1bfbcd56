//! Flags that all carry the number of the generation they are published in, so that a reader can tell a torn or a mixed
//! answer from a right one. Readers in other languages (`tests/c/reader.c`, `tests/python/reader.py`) check the same.
//!
//! - `n-0` to `n-63`: numbers, the generation modulo [`CYCLE`], without targeting
//! - `t-0` to `t-7`: text, by a rule: `gold-N` for the tier `gold`, `plain-N` for others, N the same number
//! - `even`: whether that number is even

use std::fmt::Write;

use libflags::compile::Compiler;
use libflags::definition::{Document, Format, Limits, Selector};
use libflags::{Context, Pinned};

/// Numbers repeat after so many generations, so that a publisher at full speed need not compile them anew.
pub const CYCLE: u64 = 256;
const PLACES: usize = 256;
/// Flags without targeting.
pub const NUMBERS: usize = 64;
/// Flags with a rule.
pub const TEXTS: usize = 8;
/// Evaluations of one [`check`].
pub const CHECKED: u64 = (NUMBERS + TEXTS + 1) as u64;

/// The definition to publish as `generation`.
#[must_use]
pub fn definition(generation: u64) -> String {
    let number = generation % CYCLE;
    let mut flags = String::new();
    for index in 0..NUMBERS {
        let flag =
            format!(r#""n-{index}": {{"state": "ENABLED", "variants": {{"v": {number}}}, "defaultVariant": "v"}}, "#);
        flags.push_str(&flag);
    }
    for index in 0..TEXTS {
        // Writing to a text cannot fail.
        let _ = write!(
            flags,
            r#""t-{index}": {{"state": "ENABLED", "variants": {{"gold": "gold-{number}", "plain": "plain-{number}"}},
                "defaultVariant": "plain", "targeting": {{"if": [{{"==": [{{"var": "tier"}}, "gold"]}}, "gold"]}}}}, "#
        );
    }
    let even = if number.is_multiple_of(2) { "yes" } else { "no" };
    format!(
        r#"{{"flags": {{{flags} "even": {{"state": "ENABLED", "variants": {{"yes": true, "no": false}}, "defaultVariant": "{even}"}}}}}}"#
    )
}

/// Payloads by generation, each compiled once.
#[derive(Debug)]
pub struct Payloads {
    compiler: Compiler,
    compiled: Vec<Vec<u8>>,
}

impl Default for Payloads {
    fn default() -> Self {
        Self { compiler: Compiler::new(Limits::default()), compiled: vec![Vec::new(); PLACES] }
    }
}

impl Payloads {
    /// What to publish as `generation`.
    ///
    /// # Panics
    /// Where the definition above does not compile.
    pub fn of(&mut self, generation: u64) -> &[u8] {
        let index = usize::try_from(generation % CYCLE).expect("below PLACES");
        if self.compiled[index].is_empty() {
            let text = definition(generation);
            let document = Document::parse("numbered", &text, Format::Json, self.compiler.limits()).expect("JSON");
            let compilation = self.compiler.compile(&[document], &Selector::All).expect("a snapshot");
            assert_eq!(compilation.problems.len(), 0, "{:?}", compilation.problems);
            self.compiled[index] = compilation.snapshot.to_vec();
        }
        &self.compiled[index]
    }
}

/// Reads every flag of one version and checks that it is that version's.
///
/// # Errors
/// What does not fit.
pub fn check(flags: &Pinned) -> Result<(), String> {
    let generation = flags.generation();
    let number = i64::try_from(generation % CYCLE).unwrap_or(-1);
    let wrong = |key: &str, found: &dyn std::fmt::Debug| Err(format!("{key} is {found:?} in generation {generation}"));
    let nobody = Context::anonymous();
    for index in 0..NUMBERS {
        let key = format!("n-{index}");
        let found = flags.int(&key, &nobody, -1);
        if found != number {
            return wrong(&key, &found);
        }
    }
    for index in 0..TEXTS {
        let key = format!("t-{index}");
        let tier = if index % 2 == 0 { "gold" } else { "plain" };
        let context = Context::new("user").with("tier", tier);
        let found = flags.string(&key, &context, "default");
        if found != format!("{tier}-{number}") {
            return wrong(&key, &found);
        }
    }
    let is_even = number % 2 == 0;
    if flags.bool("even", &nobody, !is_even) != is_even {
        return wrong("even", &!is_even);
    }
    Ok(())
}

/// Whether `number`, read while the generation went from `before` to `after`, is that of one of these.
#[must_use]
pub fn is_between(number: i64, before: u64, after: u64) -> bool {
    let Ok(number) = u64::try_from(number) else { return false };
    after >= before && number < CYCLE && (number + CYCLE - before % CYCLE) % CYCLE <= after - before
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_between_generations_are_told_from_others() {
        assert!(is_between(5, 5, 5) && is_between(5, 261, 261) && is_between(1, 255, 257) && is_between(255, 255, 257));
        assert!(
            !is_between(4, 5, 5) && !is_between(2, 255, 257) && !is_between(254, 255, 257) && !is_between(-1, 5, 5)
        );
    }

    #[test]
    fn there_is_a_place_for_each_number() {
        assert_eq!(PLACES as u64, CYCLE);
    }

    #[test]
    fn a_generation_is_right_only_under_its_own_number() {
        let client = |generation| libflags::Client::from_definition(&definition(generation), Format::Json).unwrap();
        // A client that compiles in process begins with generation 1.
        assert_eq!(check(&client(1).snapshot()), Ok(()));
        assert_eq!(check(&client(CYCLE + 1).snapshot()), Ok(()));
        let wrong = check(&client(2).snapshot()).unwrap_err();
        assert_eq!(wrong, "n-0 is 2 in generation 1");
    }
}
