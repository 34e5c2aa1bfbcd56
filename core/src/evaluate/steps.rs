//! The walk along a rule's steps: a chain of questions about one attribute each, every one naming the next for yes and for no.
//!
//! No recursion, no intermediate values, no counting: a step leads only to steps behind it, so whatever the bytes are the walk ends.

use super::{
    bucket::Murmur3,
    context::Attributes,
    operator::{equal, number, same, truthy},
    rule::{Chosen, Fault, bucketed, is_among, is_listed},
    value::Value,
};
use crate::snapshot::{
    island::{Words, double, step},
    set::Set,
    view::Shared,
};

/// Where the steps lead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// To the variant whose place the [`step::PLACE`] bits say.
    Variant(u32),
    /// To the default variant.
    Default,
    /// To a node of the tree, which decides.
    Node(u32),
}

/// Follows the steps of an island from the one at word `first` on. `test` tells whether a node of the tree is truthy.
#[inline]
pub(crate) fn walk<A: Attributes + ?Sized>(
    words: Words<'_>,
    first: usize,
    context: &A,
    shared: &Shared<'_>,
    test: impl Fn(usize) -> Result<bool, Fault>,
) -> Result<End, Fault> {
    let mut at = first;
    loop {
        let [head, yes, no, name, name_len, low, high, last] =
            words.words::<{ step::WORDS }>(at).ok_or(Fault::Exhausted)?;
        #[expect(clippy::cast_possible_truncation, reason = "the low 8 bits are wanted")]
        let operation = head as u8;
        let is_so = if operation >= step::TEST {
            match operation {
                step::TEST => test(low as usize)?,
                step::BUCKET => {
                    return bucket(words, yes & !step::KIND, Murmur3::resume([low, high, last]), context);
                }
                _ => true,
            }
        } else {
            let found = attribute(context, name, words.bytes(name, name_len).ok_or(Fault::Exhausted)?);
            // What is asked most is answered here, without a call.
            match (operation, found) {
                (step::IS, Some(Value::Text(found))) => {
                    found.len() == high as usize && same(found, words.bytes(low, high).ok_or(Fault::Exhausted)?)
                }
                (step::COMPARE, Some(Value::Int(found))) => {
                    #[expect(clippy::cast_precision_loss, reason = "rules compute in doubles")]
                    let found = found as f64;
                    compare(head >> 8, found, low, high)
                }
                (step::COMPARE, Some(Value::Bool(found))) if head >> 8 == step::EQUAL => {
                    f64::from(u8::from(found)) == double(low, high)
                }
                (_, found) => answer(words, [head, low, high], &found.unwrap_or_default(), shared)?,
            }
        };
        let target = if is_so { yes } else { no };
        let to = target & !step::KIND;
        match target & step::KIND {
            step::TO_STEP if to as usize > at => at = to as usize,
            step::TO_VARIANT => return Ok(End::Variant(to)),
            step::TO_DEFAULT => return Ok(End::Default),
            step::TO_NODE => return Ok(End::Node(to)),
            _ => return Err(Fault::Exhausted),
        }
    }
}

/// The variant that the targeting key chooses, whose bytes come behind those that have been hashed.
#[inline(never)]
fn bucket<A: Attributes + ?Sized>(words: Words<'_>, node: u32, flag_key: Murmur3, context: &A) -> Result<End, Fault> {
    let Some(Value::Text(targeting_key @ [_, ..])) = context.targeting_key() else { return Ok(End::Default) };
    let mut hash = flag_key;
    hash.write(targeting_key);
    Ok(match bucketed(words, node as usize, hash)? {
        Chosen::Variant(place) => End::Variant(place),
        Chosen::Nothing => End::Default,
    })
}

/// What a step looks at. A call of its own: within the loop, what it knows of the context would be taken out of it and paid for before the
/// first step.
#[inline(never)]
fn attribute<'c, A: Attributes + ?Sized>(context: &'c A, offset: u32, name: &[u8]) -> Option<Value<'c>> {
    if offset == 0 { context.targeting_key() } else { context.attribute(name) }
}

/// Any step about `found`.
#[inline(never)]
fn answer(
    words: Words<'_>,
    [head, low, high]: [u32; 3],
    found: &Value<'_>,
    shared: &Shared<'_>,
) -> Result<bool, Fault> {
    let text = || words.bytes(low, high).ok_or(Fault::Exhausted);
    let argument = head >> 8;
    #[expect(clippy::cast_possible_truncation, reason = "the low 8 bits are wanted")]
    Ok(match head as u8 {
        step::IS => argument == 0 && equal(found, &Value::Text(text()?)),
        step::COMPARE => match (argument, found) {
            (step::NULL, found) => matches!(found, Value::Null),
            (step::EQUAL, Value::Null) => false,
            (step::STRICTLY_NUMBER, Value::Int(_) | Value::Float(_)) => number(found) == double(low, high),
            (step::STRICTLY_BOOL, Value::Bool(found)) => f64::from(u8::from(*found)) == double(low, high),
            (step::STRICTLY_NUMBER | step::STRICTLY_BOOL, _) => false,
            (comparison, found) => compare(comparison, number(found), low, high),
        },
        step::TRUTHY => truthy(found),
        step::STARTS_WITH => matches!(found, Value::Text(found) if found.starts_with(text()?)),
        step::ENDS_WITH => matches!(found, Value::Text(found) if found.ends_with(text()?)),
        step::IN_TEXTS => {
            let Value::Text(found) = found else { return Ok(false) };
            is_among(words, found, low as usize, argument as usize)?
        }
        step::IN_SET => Set::new(words, low).contains(found),
        step::IN_SHARED => shared.set(low, high).ok_or(Fault::Exhausted)?.contains(found),
        step::IN_LIST => is_listed(shared, [low, high], found)?,
        _ => return Err(Fault::Exhausted),
    })
}

/// `found` compared with the number in two words.
#[inline]
fn compare(comparison: u32, found: f64, low: u32, high: u32) -> bool {
    let number = double(low, high);
    match comparison {
        step::LESS => found < number,
        step::LESS_OR_EQUAL => found <= number,
        step::GREATER => found > number,
        step::GREATER_OR_EQUAL => found >= number,
        step::EQUAL | step::STRICTLY_NUMBER => found == number,
        // A boolean and null, which no number is.
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        compile::Compiler,
        definition::{Document, Format, Limits, Selector},
        evaluate::{Context, Want},
        snapshot::{
            Snapshot,
            island::{Island, STEPS},
        },
    };

    const CONDITIONS: &[&str] = &[
        r#"{"==": [{"var": "a"}, "x"]}"#,
        r#"{"===": ["x", {"var": "a"}]}"#,
        r#"{"!=": [{"var": "a"}, "x"]}"#,
        r#"{"!==": [{"var": "a"}, ""]}"#,
        r#"{"==": [{"var": "a"}, "12"]}"#,
        r#"{"==": [{"var": "a"}, 12]}"#,
        r#"{"===": [{"var": "a"}, 12]}"#,
        r#"{"!==": [0, {"var": "a"}]}"#,
        r#"{"==": [{"var": "a"}, true]}"#,
        r#"{"===": [{"var": "a"}, false]}"#,
        r#"{"!=": [{"var": "a"}, false]}"#,
        r#"{"==": [{"var": "a"}, null]}"#,
        r#"{"!==": [null, {"var": "a"}]}"#,
        r#"{"<": [{"var": "a"}, 12]}"#,
        r#"{"<=": [{"var": "a"}, 12]}"#,
        r#"{">": [{"var": "a"}, 0]}"#,
        r#"{">=": [{"var": "a"}, 0, 9]}"#,
        r#"{"<": [12, {"var": "a"}]}"#,
        r#"{">=": [12, {"var": "a"}]}"#,
        r#"{"<": [0, {"var": "a"}, 12]}"#,
        r#"{"<=": [0, {"var": "a"}, 12]}"#,
        r#"{"<": [{"var": "a"}, "x"]}"#,
        r#"{"var": "a"}"#,
        r#"{"!": [{"var": "a"}]}"#,
        r#"{"!!": [{"var": "targetingKey"}]}"#,
        r#"{"starts_with": [{"var": "a"}, "x"]}"#,
        r#"{"ends_with": [{"var": "a"}, "longer than sixteen"]}"#,
        r#"{"in": [{"var": "a"}, ["x", "12", "a text that is longer than sixteen"]]}"#,
        r#"{"in": [{"var": "a"}, [12, true, null, "x"]]}"#,
        r#"{"in": [{"var": "targetingKey"}, ["user-1", "user-2"]]}"#,
        r#"{"in": ["x", {"var": "a"}]}"#,
        r#"{"and": [{"var": "a"}, {"!=": [{"var": "a"}, "x"]}, true]}"#,
        r#"{"or": [{"==": [{"var": "a"}, "x"]}, {"and": [{"var": "b"}, {">": [{"var": "a"}, 1]}]}]}"#,
        r#"{"and": []}"#,
        r#"{"or": []}"#,
        r#"{"if": [{"var": "b"}, {"var": "a"}, {"!": {"var": "a"}}]}"#,
        r#"{"var": ["a", "fallback"]}"#,
        r#"{"var": "a.b"}"#,
        r#"{"sem_ver": [{"var": "a"}, "=", "1.0.0"]}"#,
        r#"{"cat": [{"var": "a"}, ""]}"#,
    ];

    const RESULTS: &[&str] = &[
        r#""on""#,
        r#""off""#,
        "null",
        "true",
        r#""nowhere""#,
        r#"{"fractional": [["on", 50], ["off", 50]]}"#,
        r#"{"fractional": [{"var": "a"}, ["on", 1], ["off", 2], [null, 3]]}"#,
        r#"{"fractional": [["on", 1], ["off", 1], ["on", 1], ["off", 1], ["on", 1], ["off", 1], ["on", 1], ["off", 1], ["on", 1]]}"#,
        r#"{"if": [{"var": "b"}, "on", "off"]}"#,
    ];

    fn snapshot() -> Snapshot {
        let members: Vec<String> = (0..100).map(|number| format!("\"user-{number}\"")).collect();
        let shared = format!(r#"{{"in": [{{"var": "targetingKey"}}, [{}]]}}"#, members.join(","));
        let conditions: Vec<&str> = CONDITIONS.iter().copied().chain([shared.as_str()]).collect();
        let mut flags = Vec::new();
        for (index, condition) in conditions.iter().enumerate() {
            for (other, result) in RESULTS.iter().enumerate() {
                let last = RESULTS[(other + 1 + index) % RESULTS.len()];
                flags.push(format!(
                    r#""flag-{index}-{other}": {{"state": "ENABLED", "variants": {{"off": false, "on": true, "true": true}},
                        "defaultVariant": "off", "targeting": {{"if": [{condition}, {result}, {last}]}}}}"#
                ));
            }
        }
        let text = format!(r#"{{"flags": {{{}}}}}"#, flags.join(","));
        let limits = Limits::default();
        let document = Document::parse("test", &text, Format::Json, &limits).expect("a definition");
        let compilation = Compiler::new(limits).compile(&[document], &Selector::All).expect("a snapshot");
        assert_eq!(
            compilation.problems.iter().find(|problem| problem.severity != crate::definition::Severity::Warning),
            None
        );
        Snapshot::from_bytes(&compilation.snapshot).expect("a snapshot")
    }

    #[test]
    fn steps_and_tree_decide_alike() {
        let snapshot = snapshot();
        let view = snapshot.view();
        let list = [Value::from("x")];
        let values = [
            Value::Null,
            Value::from(true),
            Value::from(false),
            Value::from(0),
            Value::from(12),
            Value::from(11.5),
            Value::from(f64::NAN),
            Value::from(""),
            Value::from("x"),
            Value::from("12"),
            Value::from("xy longer than sixteen"),
            Value::from("a text that is longer than sixteen"),
            Value::List(crate::evaluate::List::new(&list)),
        ];
        let mut with_steps = 0;
        for flag in snapshot.flags() {
            let mut bytes = flag.compiled().to_vec();
            let head = flag.island().head().expect("a head");
            with_steps += u32::from(head & STEPS != 0);
            bytes[..4].copy_from_slice(&(head & !STEPS).to_le_bytes());
            let tree = Island::new(&bytes);
            for key in [None, Some("user-1"), Some("user-200"), Some("")] {
                for value in &values {
                    for b in [false, true] {
                        let attributes = [("a", *value), ("b", Value::from(b))];
                        let context = Context::from_slice(key, &attributes);
                        let (steps, tree) = (
                            view.evaluate_island(flag.island(), Want::Any, &context),
                            view.evaluate_island(tree, Want::Any, &context),
                        );
                        assert_eq!(
                            (steps.value, steps.reason, steps.error),
                            (tree.value, tree.reason, tree.error),
                            "{} {context:?}",
                            flag.key
                        );
                        assert_eq!(steps.variant, tree.variant, "{} {context:?}", flag.key);
                        let truth = view.truth(view.find(flag.key.as_bytes()).expect("the flag"), &context);
                        assert_eq!(truth.map(crate::FlagValue::Bool), steps.value, "{} {context:?}", flag.key);
                    }
                }
            }
        }
        assert!(with_steps as usize > CONDITIONS.len() * RESULTS.len() * 9 / 10, "{with_steps} flags have steps");
    }

    #[test]
    fn any_bytes_end() {
        let context = Context::new("user-1").with("a", "x");
        let test = |_| Ok(true);
        for seed in 0..2000_u64 {
            let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
            let mut bytes = Vec::new();
            for _ in 0..64 {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                // Small numbers most of the time, so that targets and offsets often are some.
                let word = if state & 0x300 == 0 { (state >> 32) as u32 } else { (state >> 32) as u32 & 0x3f };
                bytes.extend_from_slice(&word.to_le_bytes());
            }
            // Whatever comes of it.
            let _ = walk(Words(&bytes), 8, &context, &Shared::none(), test);
        }
        // A step that leads to itself.
        let step = [u32::from(step::GO), 8, 8, 0, 0, 0, 0, 0];
        let bytes: Vec<u8> = [0; 8].into_iter().chain(step).flat_map(u32::to_le_bytes).collect();
        assert_eq!(walk(Words(&bytes), 8, &context, &Shared::none(), test), Err(Fault::Exhausted));
    }
}
