//! Golden files: what a released format looks like on disk, and what its flags answer.
//!
//! A folder in `tests/golden` holds a definition, the store that was made of it once, and the answers that were recorded then. They
//! are made by `cargo run -p libflags-tests --bin make-golden`; an older folder never changes, since its files are what older
//! publishers wrote.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use libflags::compile::{Compilation, Compiler};
use libflags::definition::{Document, Limits, Selector};
use libflags::evaluate::Attributes;
use libflags::{Evaluation, FlagValue, Pinned, Value, Want};
use serde_json::{Value as Json, json};

use crate::languages::root;

/// The revision that the golden files are published as.
pub const REVISION: u64 = 42;

/// The folders, oldest first: all of them are to be read, the last is what today's compiler makes.
///
/// - `v1`: format 1 as it was at first.
/// - `v1-steps`: with rules as steps besides, which readers of the first pass over.
pub const FOLDERS: [&str; 2] = ["v1", "v1-steps"];

/// The folder that today's compiler makes.
pub const NEWEST: &str = FOLDERS[FOLDERS.len() - 1];

/// A folder of golden files.
#[must_use]
pub fn folder(name: &str) -> PathBuf {
    root().join("tests/golden").join(name)
}

/// Compiles the definition in such a folder.
///
/// # Errors
/// Where it cannot be read.
pub fn compile(folder: &Path) -> anyhow::Result<Compilation> {
    let limits = Limits::default();
    let document = Document::load(folder.join("definition.json"), &limits)?;
    Ok(Compiler::new(limits).compile(&[document], &Selector::All)?)
}

/// Asks for every flag, and for one that there is not, in every type by everybody; each question with its answer.
#[must_use]
pub fn record(flags: &Pinned) -> Vec<Json> {
    let contexts = [
        json!({}),
        json!({"targetingKey": "user-1", "tier": "gold", "age": 20, "email": "b@example.com", "points": [1, 2], "country": "DE"}),
        json!({"targetingKey": "user-2", "tier": "silver", "age": 18, "version": "2.10.0", "points": [0, 3, -1], "name": "xaz"}),
        json!({"targetingKey": "ürgen", "tier": null, "age": "18", "email": "ü@example.org", "points": {"a": 1}, "country": "CH"}),
        json!({"targetingKey": "", "version": "v2.1.0-rc.1", "points": []}),
    ];
    let keys: BTreeSet<&str> = flags.keys().chain(["no-such-flag"]).collect();
    let mut answers = Vec::new();
    for key in keys {
        for context in &contexts {
            answers.push(json!({"key": key, "as": "any", "context": context}));
        }
        for kind in ["bool", "int", "float", "text", "json"] {
            answers.push(json!({"key": key, "as": kind, "context": contexts[1]}));
        }
    }
    for question in &mut answers {
        question["answer"] = answer(flags, question);
    }
    answers
}

/// What the flags answer to a question of [`record`].
///
/// # Panics
/// Where it is none.
#[must_use]
pub fn answer(flags: &Pinned, question: &Json) -> Json {
    let want = match question["as"].as_str() {
        Some("any") => Want::Any,
        Some("bool") => Want::Bool,
        Some("int") => Want::Int,
        Some("float") => Want::Float,
        Some("text") => Want::Text,
        Some("json") => Want::Json,
        other => panic!("{other:?} is no type"),
    };
    let key = question["key"].as_str().expect("a key");
    let Evaluation { value, variant, reason, error, metadata, .. } =
        flags.evaluate(key, want, &Asking(&question["context"]));
    let value = match value {
        None => json!(null),
        Some(FlagValue::Bool(value)) => json!(value),
        Some(FlagValue::Int(value)) => json!(value),
        Some(FlagValue::Float(value)) => json!({"float": value}),
        Some(FlagValue::Text(value)) => json!(value),
        Some(FlagValue::Json(value)) => json!({"json": value}),
    };
    let metadata: Vec<String> = metadata.iter().map(|(name, value)| format!("{name}: {value:?}")).collect();
    json!({
        "value": value, "variant": variant, "reason": reason.as_str(), "error": error.map(|error| error.as_str()),
        "metadata": metadata,
    })
}

/// A context as a JSON object, the targeting key in it.
struct Asking<'a>(&'a Json);

impl Attributes for Asking<'_> {
    fn targeting_key(&self) -> Option<Value<'_>> {
        self.attribute(b"targetingKey")
    }

    fn attribute(&self, name: &[u8]) -> Option<Value<'_>> {
        self.0.get(std::str::from_utf8(name).ok()?).map(Value::from)
    }
}
