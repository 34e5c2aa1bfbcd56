//! The text of a definition: compiled and evaluated as the naive evaluator does it.
//!
//! A document may say who asks in a member that definitions don't have, so that an input is one text:
//! `"$subjects": [{"targetingKey": "user-1", "tier": "gold"}]`.

use std::collections::BTreeMap;

use libflags::compile::{Compilation, Compiler, Patch};
use libflags::definition::{Document, Format, Limits, Selector};
use libflags::evaluate::{ErrorCode as Code, FlagValue, Want};
use libflags::{Context, Snapshot};
use serde_json::{Map, Value as Json, json};

use crate::compiled::{Asked, answer};
use crate::engine::{Answer, ErrorCode, Kind, Reason, Subject, same_answer, same_json, unix_seconds};
use crate::model::Model;

/// Compiles `text`, and asks about each of its flags.
///
/// # Panics
/// Where the compiled evaluator and the naive one do not agree.
pub fn run(text: &[u8]) {
    let Ok(text) = std::str::from_utf8(text) else { return };
    if !text.trim_start().starts_with('{') {
        run_yaml(text);
    }
    let parsed = Document::parse(NAME, text, Format::Json, &Limits::default());
    let model = Model::from_json(text);
    let document = match (parsed, &model) {
        (Ok(document), _) => document,
        // A text that the naive evaluator takes is refused for what it does not know of.
        (Err(error), Ok(_)) => {
            let message = error.to_string();
            assert!(is_beyond_the_model(&message), "refused: {message}");
            return;
        }
        (Err(_), Err(_)) => return,
    };
    let mut compiler = Compiler::new(Limits::default());
    let fresh = compile(&mut compiler, &document);
    let snapshot = snapshot(&fresh);
    let again = recompiled(text);
    let subjects = subjects(text);
    let Ok(model) = model else {
        // Such as a number that no double holds, which breaks one flag only.
        for flag in document.flags() {
            ask_all(&snapshot, flag.key(), &subjects);
        }
        return;
    };
    for flag in document.flags().take(MOST_FLAGS) {
        let key = flag.key();
        if model.problem(key).is_none() && fresh.broken.iter().any(|broken| broken.key == key) {
            let messages = || fresh.problems.iter().filter(|problem| problem.flag.as_deref() == Some(key));
            assert!(
                messages().any(|problem| is_beyond_the_model(&problem.message)),
                "{key} is refused: {:?}",
                messages().map(|problem| &problem.message).collect::<Vec<_>>()
            );
            continue;
        }
        for subject in &subjects {
            for kind in [Kind::Boolean, Kind::String, Kind::Integer, Kind::Float, Kind::Object] {
                compare(&model, &snapshot, key, subject, kind);
            }
            for other in again.iter().flatten() {
                same_from_both([&snapshot, other], key, subject);
            }
        }
        ask_all(&snapshot, key, &subjects);
    }
}

/// A document in YAML has no naive reader: whatever it says, it is refused or answers.
fn run_yaml(text: &str) {
    let Ok(document) = Document::parse(NAME, text, Format::Yaml, &Limits::default()) else { return };
    let snapshot = snapshot(&compile(&mut Compiler::new(Limits::default()), &document));
    for flag in document.flags().take(MOST_FLAGS) {
        ask_all(&snapshot, flag.key(), &[Subject::default()]);
    }
}

/// A file of this name lies nowhere, and so do the id lists that a definition names beside itself.
const NAME: &str = "/nowhere/definition.json";

/// More flags than this tell nothing new.
const MOST_FLAGS: usize = 8;
const MOST_SUBJECTS: usize = 4;

fn compile(compiler: &mut Compiler, document: &Document) -> Compilation {
    compiler.compile(&[document], &Selector::All).expect("a document that was read is compiled, broken flags and all")
}

fn snapshot(compilation: &Compilation) -> Snapshot {
    Snapshot::from_bytes(&compilation.snapshot).expect("what the compiler makes is a snapshot")
}

/// The same definition twice more, from compilers that know it with every second flag missing and another one instead: compiled
/// whole, and patched.
fn recompiled(text: &str) -> Option<[Snapshot; 2]> {
    let mut fewer: BTreeMap<String, Json> = serde_json::from_str(text).ok()?;
    let parse = |definition: &BTreeMap<String, Json>| {
        Document::parse(NAME, json!(definition).to_string(), Format::Json, &Limits::default()).ok()
    };
    let all = parse(&fewer)?;
    let flags = fewer.get_mut("flags")?.as_object_mut()?;
    let mut place = 0_usize;
    flags.retain(|_, _| {
        place += 1;
        place.is_multiple_of(2)
    });
    let other = json!({"state": "ENABLED", "variants": {"on": true}});
    let removed = if flags.contains_key(OTHER) || all.flags().any(|flag| flag.key() == OTHER) {
        Vec::new()
    } else {
        flags.insert(OTHER.to_owned(), other);
        vec![OTHER.to_owned()]
    };
    let fewer = parse(&fewer)?;
    let mut compilers = [(); 2].map(|()| Compiler::new(Limits::default()));
    compilers.iter_mut().for_each(|compiler| drop(compile(compiler, &fewer)));
    let [whole, patched] = &mut compilers;
    let patch = Patch { flags: &all, removed: &removed };
    let patched = patched.apply(&[patch]).expect("a document that was compiled can be patched");
    Some([snapshot(&compile(whole, &all)), snapshot(&patched)])
}

const OTHER: &str = "other";

/// Who asks: those that the document names, or two of our own.
fn subjects(text: &str) -> Vec<Subject> {
    let document: Json = serde_json::from_str(text).unwrap_or_default();
    let named = document["$subjects"].as_array().into_iter().flatten().filter_map(Json::as_object);
    let mut subjects: Vec<Subject> = named.take(MOST_SUBJECTS).map(subject).collect();
    if subjects.is_empty() {
        let plain = json!({"targetingKey": "user-1", "email": "a@example.com", "a": {"b": [1, "2"]}, "age": 30, "version": "1.2.3"});
        subjects = vec![Subject::default(), subject(plain.as_object().unwrap_or(&Map::new()))];
    }
    subjects
}

fn subject(members: &Map<String, Json>) -> Subject {
    let mut attributes = members.clone();
    Subject { targeting_key: attributes.remove("targetingKey"), attributes, unix_seconds: 0 }
}

/// Reads one flag with both.
fn compare(model: &Model, snapshot: &Snapshot, key: &str, subject: &Subject, kind: Kind) {
    let fallback = json!({"the": "caller's"});
    let want = want(kind);
    let (found, expected) = loop {
        // Rules can tell the time: both are to see the same second.
        let subject = Subject { unix_seconds: unix_seconds(), ..subject.clone() };
        let mut found = answer(&snapshot.evaluate(key.as_bytes(), want, &Asked(&subject)), &fallback);
        if found.error_code == Some(ErrorCode::General) && may_exhaust(model, key) {
            return;
        }
        let mut expected = model.evaluate(key, &subject).read(kind, &fallback);
        // The names of id lists are no metadata, nor is what metadata cannot be; the naive evaluator takes both.
        for answer in [&mut found, &mut expected] {
            answer.metadata.retain(|name, value| name != "lists" && !name.starts_with("list.") && is_scalar(value));
        }
        if unix_seconds() == subject.unix_seconds {
            break (found, expected);
        }
    };
    assert!(same_answer(&found, &expected), "{key} for {subject:?}:\n   found {found:?}\nexpected {expected:?}");
    let Answer { value, variant, reason, error_code, .. } = found;
    assert_eq!(value == fallback, variant.is_none());
    assert_eq!(error_code.is_some(), reason == Reason::Error);
}

/// Whether metadata can be `value`: a set's member that cannot is reported and left out.
fn is_scalar(value: &Json) -> bool {
    match value {
        Json::Array(_) | Json::Object(_) => false,
        Json::Number(number) => number.as_f64().is_some_and(|number| number.abs() <= LARGEST),
        _ => true,
    }
}

/// The largest number that a definition may hold: 2^53-1.
const LARGEST: f64 = 9_007_199_254_740_991.0;

/// A flag means the same however its snapshot came about.
fn same_from_both(snapshots: [&Snapshot; 2], key: &str, subject: &Subject) {
    loop {
        let now = unix_seconds();
        let [fresh, again] = snapshots.map(|snapshot| {
            let evaluation = snapshot.evaluate(key.as_bytes(), Want::Any, &Asked(subject));
            // Written anew, an object's text has its members in another order.
            (answer(&evaluation, &Json::Null).value, evaluation.variant, evaluation.reason, evaluation.error)
        });
        if unix_seconds() == now {
            assert!(
                same_json(&fresh.0, &again.0) && (fresh.1, fresh.2, fresh.3) == (again.1, again.2, again.3),
                "{key} compiled anew {fresh:?}, and in another way {again:?}"
            );
            return;
        }
    }
}

const fn want(kind: Kind) -> Want {
    match kind {
        Kind::Boolean => Want::Bool,
        Kind::String => Want::Text,
        Kind::Integer => Want::Int,
        Kind::Float => Want::Float,
        Kind::Object => Want::Json,
    }
}

/// Everything else that can be asked about a flag: it need only end.
fn ask_all(snapshot: &Snapshot, key: &str, subjects: &[Subject]) {
    for subject in subjects {
        let evaluation = snapshot.evaluate(key.as_bytes(), Want::Any, &Asked(subject));
        assert_eq!(evaluation.value.is_some(), evaluation.variant.is_some());
        if let Some(FlagValue::Json(text)) = evaluation.value {
            assert!(serde_json::from_str::<Json>(text).is_ok(), "an object's text is JSON: {text}");
        }
        assert_ne!(evaluation.error, Some(Code::FlagNotFound), "{key} is there");
        if let Some(flag) = snapshot.flag(key.as_bytes()) {
            let _ = snapshot.explain(&flag, &Asked(subject));
        }
    }
    if let Some(flag) = snapshot.flag(key.as_bytes()) {
        let _ = snapshot.targeting(&flag);
    }
    let absent = snapshot.evaluate(format!("{key}?").as_bytes(), Want::Any, &Context::anonymous());
    // The key with a question mark may be a flag's as well.
    assert!(absent.error == Some(Code::FlagNotFound) || snapshot.keys().any(|other| other == format!("{key}?")));
}

/// Whether a rule may need more memory or steps than an evaluation has: the naive evaluator knows no bounds, and must not be let
/// loose on it either.
fn may_exhaust(model: &Model, key: &str) -> bool {
    fn builds(rule: &Json) -> bool {
        match rule {
            Json::Array(elements) => elements.iter().any(builds),
            Json::Object(members) => {
                members.iter().any(|(name, inner)| BUILDERS.contains(&name.as_str()) || builds(inner))
            }
            _ => false,
        }
    }
    model.targeting(key).is_some_and(builds)
}

const BUILDERS: [&str; 11] =
    ["cat", "substr", "map", "filter", "reduce", "merge", "missing", "missing_some", "all", "some", "none"];

/// Whether a message is about a limit, or about something else that the naive evaluator does not look at.
fn is_beyond_the_model(message: &str) -> bool {
    BEYOND.iter().any(|words| message.contains(words))
}

const BEYOND: [&str; 4] = ["more than", "deeper", "longer", "surrogate"];
