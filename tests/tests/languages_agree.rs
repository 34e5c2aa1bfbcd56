//! Rust, C and Python answer alike: value, variant, reason and error, to the last bit, for generated definitions and
//! contexts, out of one store that all three follow.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use libflags::compile::Compiler;
use libflags::definition::{Document, Format, Limits, Selector};
use libflags::store::{PublishMeta, Publisher, PublisherOptions};
use libflags::{Client, Evaluation, FlagValue, Pinned, Want};
use libflags_tests::compiled::Asked;
use libflags_tests::engine::{Subject, same_json};
use libflags_tests::languages::Languages;
use libflags_tests::processes::{Watchdog, store_folder};
use libflags_tests::strategy;
use proptest::strategy::{Strategy as _, ValueTree as _};
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};
use serde_json::{Value as Json, json};

const DEFINITIONS: usize = 250;
const SUBJECTS: usize = 3;
const KINDS: [(&str, Want); 5] =
    [("bool", Want::Bool), ("int", Want::Int), ("float", Want::Float), ("text", Want::Text), ("json", Want::Json)];

#[test]
fn rust_c_and_python_answer_alike() {
    let _watchdog = Watchdog::start(Duration::from_secs(900));
    let languages = Languages::build();
    let folder = store_folder();
    let mut publisher = Publisher::open(folder.path(), &PublisherOptions::default()).expect("a publisher");
    let mut compiler = Compiler::new(Limits::default());
    let mut publish = |definition: &Json| {
        let document = Document::parse("generated", definition.to_string(), Format::Json, compiler.limits());
        let documents = [document.expect("a definition")];
        let compilation = compiler.compile(&documents, &Selector::All).expect("a snapshot");
        publisher.publish(&compilation.snapshot, &PublishMeta::default()).expect("published").0
    };
    publish(&json!({"flags": {}}));
    let client = Client::open(Some(folder.path())).expect("a client");
    let mut others = Vec::new();
    for (language, program) in [("C", languages.c("answer")), ("Python", languages.python("answer"))] {
        match program {
            Ok(mut program) => others.push(Other::start(language, program.arg(folder.path()))),
            Err(why) => println!("skipped: answers in {language}: {why}"),
        }
    }

    let mut runner = TestRunner::new_with_rng(strategy::config(1), TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let generated = (strategy::definition(), proptest::collection::vec(strategy::subject(), SUBJECTS));
    let (mut pairs, mut compared, mut seen) = (0, 0, BTreeMap::<String, u64>::new());
    while pairs < DEFINITIONS * SUBJECTS {
        let (definition, subjects) = generated.new_tree(&mut runner).expect("a case").current();
        // Each reads the clock by itself.
        if definition.to_string().contains("$flagd.timestamp") {
            continue;
        }
        let generation = publish(&definition);
        let flags = client.snapshot();
        assert_eq!(flags.generation(), generation);
        let subjects: Vec<_> = subjects.into_iter().map(plain).collect();
        let questions: Vec<_> = questions(&definition, &subjects).collect();
        let answers: Vec<String> = questions.iter().map(|question| question.answer(&flags)).collect();
        for other in &mut others {
            let lines: Vec<_> = ["null".to_owned()].into_iter().chain(questions.iter().map(Question::line)).collect();
            let said = other.ask(&lines);
            assert_eq!(said[0], format!("generation {generation}"), "{}", other.language);
            for ((question, expected), found) in questions.iter().zip(&answers).zip(&said[1..]) {
                assert!(
                    same(expected, found),
                    "{definition}\n{}\nin Rust: {expected}\nin {}: {found}",
                    question.line(),
                    other.language
                );
                compared += 1;
            }
        }
        for answer in answers {
            let mut words = answer.split('\t');
            let (reason, error) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
            *seen.entry(format!("{reason} {error}")).or_default() += 1;
        }
        pairs += subjects.len();
    }
    println!("{pairs} pairs of a definition and a context, {compared} answers compared with Rust's; in Rust: {seen:?}");
    let missed: BTreeSet<_> = [
        "STATIC -",
        "DEFAULT -",
        "TARGETING_MATCH -",
        "DISABLED -",
        "ERROR FLAG_NOT_FOUND",
        "ERROR TYPE_MISMATCH",
        "ERROR PARSE_ERROR",
        "ERROR GENERAL",
    ]
    .into_iter()
    .filter(|answer| !seen.contains_key(*answer))
    .collect();
    assert!(missed.is_empty(), "never seen: {missed:?}");
    for other in others {
        other.finish();
    }
}

struct Question<'a> {
    key: String,
    kind: &'static str,
    want: Want,
    subject: &'a Subject,
}

/// Each flag and one that there is not, as each type, for each subject.
fn questions<'a>(definition: &Json, subjects: &'a [Subject]) -> impl Iterator<Item = Question<'a>> {
    let flags = definition["flags"].as_object().expect("flags");
    let keys: Vec<String> = flags.keys().cloned().chain(["nobody".to_owned()]).collect();
    subjects.iter().flat_map(move |subject| {
        let keys = keys.clone();
        keys.into_iter().flat_map(move |key| {
            KINDS.into_iter().map(move |(kind, want)| Question { key: key.clone(), kind, want, subject })
        })
    })
}

impl Question<'_> {
    fn line(&self) -> String {
        json!([self.key, self.kind, self.subject.targeting_key, self.subject.attributes]).to_string()
    }

    fn answer(&self, flags: &Pinned) -> String {
        text_of(&flags.evaluate(&self.key, self.want, &Asked(self.subject)))
    }
}

/// The answer as the programs in other languages write it.
fn text_of(evaluation: &Evaluation<'_>) -> String {
    let error = evaluation.error.map_or("-", |error| error.as_str());
    let variant = evaluation.variant.map_or("-".to_owned(), |variant| format!("={}", hexadecimal(variant)));
    let value = match evaluation.value {
        None => "-".to_owned(),
        Some(FlagValue::Bool(value)) => format!("bool:{value}"),
        Some(FlagValue::Int(value)) => format!("int:{value}"),
        Some(FlagValue::Float(value)) => format!("float:{:016x}", value.to_bits()),
        Some(FlagValue::Text(value)) => format!("text:{}", hexadecimal(value)),
        Some(FlagValue::Json(value)) => format!("json:{}", hexadecimal(value)),
    };
    format!("{}\t{error}\t{variant}\t{value}", evaluation.reason.as_str())
}

/// Whether two answers are the same; Python has an object as a `dict` or `list` and writes it in its own way.
fn same(expected: &str, found: &str) -> bool {
    let object = |answer: &str| {
        let (rest, text) = answer.split_once("\tjson:")?;
        Some((rest.to_owned(), serde_json::from_slice::<Json>(&bytes(text)?).ok()?))
    };
    expected == found
        || object(expected)
            .zip(object(found))
            .is_some_and(|(expected, found)| expected.0 == found.0 && same_json(&expected.1, &found.1))
}

fn hexadecimal(text: &str) -> String {
    text.bytes().map(|byte| format!("{byte:02x}")).collect()
}

fn bytes(hexadecimal: &str) -> Option<Vec<u8>> {
    let pairs = hexadecimal.as_bytes().chunks(2);
    pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}

/// A subject that every language can tell of: where the context is one `dict`, an attribute called `targetingKey` is the
/// targeting key.
fn plain(mut subject: Subject) -> Subject {
    subject.attributes.remove("targetingKey");
    subject
}

/// A program in another language that answers.
struct Other {
    language: &'static str,
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Other {
    fn start(language: &'static str, command: &mut Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the program starts");
        let (input, output) = (child.stdin.take(), child.stdout.take().expect("it was asked for"));
        Self { language, child, input, output: BufReader::new(output) }
    }

    /// Asks all at once, so that neither waits for the other between two lines.
    fn ask(&mut self, lines: &[String]) -> Vec<String> {
        let Self { language, input, output, .. } = self;
        let input = input.as_mut().expect("it was asked for");
        let text: String = lines.iter().flat_map(|line| [line.as_str(), "\n"]).collect();
        std::thread::scope(|scope| {
            scope.spawn(move || input.write_all(text.as_bytes()).expect("the program listens"));
            lines
                .iter()
                .map(|line| {
                    let mut answer = String::new();
                    output.read_line(&mut answer).expect("the program answers in UTF-8");
                    assert!(answer.ends_with('\n'), "{language} ends at {line}");
                    answer.trim_end_matches('\n').to_owned()
                })
                .collect()
        })
    }

    fn finish(mut self) {
        drop(self.input.take());
        let status = self.child.wait().expect("a child can be waited for");
        assert!(status.success(), "{}: {status}", self.language);
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        // Ended already, unless the test fails.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
