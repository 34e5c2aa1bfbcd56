//! flagd files: what an environment's flags are written as, and made from.
//!
//! ```text
//! {"metadata": {"flagSetId": "shop"},
//!  "$evaluators": {"staff": RULE},
//!  "$segments": {"staff": {"kind": "rule", "name": "Staff"}},
//!  "flags": {"new-cart": {"state": "ENABLED", "variants": {"on": true, "off": false}, "defaultVariant": "off",
//!                         "targeting": {"if": [{"$ref": "staff"}, "on"]},
//!                         "rollout": {…}, "owner": "web"}}}
//! ```
//!
//! Beside flagd's members a flag has those of the API that flagd has no word for. What they come to is told by the other form, which is what hosts get.

use std::collections::{BTreeMap, BTreeSet};

use libflags::compile::Compiler;
use libflags::definition::{Document, Format, Limits, Selector};
use serde_json::{Map, Value, json};

use crate::definition::{Configured, named_lists};
use crate::evaluators;
use crate::model::{Config, FlagBody, FlagKind, check_key, escaped};
use crate::parse::parse_value;
use crate::problem::{Fault, Problem};
use crate::resource::part::NewList;
use crate::resource::segment::{FileSegment, SegmentKind};

/// The members of a flag that mean the same in all environments.
const ABOUT: [&str; 7] = ["type", "variants", "description", "owner", "tags", "kind", "expiresMs"];

/// A flag as a file has it.
#[derive(Debug)]
pub(crate) struct FileFlag {
    /// Of [`ABOUT`], what is said.
    about: Map<String, Value>,
    /// What it does in the environment, whole.
    pub(crate) config: Config,
}

/// A file.
#[derive(Debug)]
pub(crate) struct File {
    /// By key, each with the evaluators that it names.
    pub(crate) flags: BTreeMap<String, FileFlag>,
    /// Of the flag set, where the file says anything of it.
    pub(crate) metadata: Option<Map<String, Value>>,
    /// What it calls segments, by key: rules with their conditions, and lists.
    pub(crate) segments: BTreeMap<String, (FileSegment, Option<Value>)>,
    /// Id lists that came with it, by key.
    pub(crate) lists: BTreeMap<String, NewList>,
}

/// What a file says. Its rules may name `lists`, and the files of ids that it names are looked for by the caller.
///
/// # Errors
/// All that a host would refuse, and what the control plane has no place for, each with its place in the file.
pub(crate) fn read(document: Document, lists: &BTreeSet<String>) -> Result<File, Problem> {
    let document = &with_lists(document, lists)?;
    check(document)?;
    let broken = |error: serde_json::Error| Problem::invalid("", error.to_string());
    let whole: Value = serde_json::from_str(document.json()).map_err(broken)?;
    let members = |name: &str| whole[name].as_object().cloned();
    let (evaluators, mut metadata) = (members("$evaluators").unwrap_or_default(), members("metadata"));
    if let Some(metadata) = &mut metadata {
        metadata.retain(|_, value| !value.is_null());
    }
    let (mut flags, mut faults) = (BTreeMap::new(), Vec::new());
    let segments = segments(&whole["$segments"], &evaluators, lists, &mut faults);
    for raw in document.flags() {
        let json: Map<String, Value> = serde_json::from_str(raw.json()).map_err(broken)?;
        let key = raw.key();
        if let Err(problem) = check_key(key, "") {
            let detail = format!("{key:?} can't be a key here: {}", problem.detail());
            faults.push(Fault { pointer: place(key), detail });
        }
        match flag(key, json, &evaluators) {
            Ok(flag) => drop(flags.insert(key.to_owned(), flag)),
            Err(problem) => faults.extend(problem.within(&place(key)).faults()),
        }
    }
    if faults.is_empty() {
        Ok(File { flags, metadata, segments, lists: BTreeMap::new() })
    } else {
        Err(Problem::all_invalid(faults))
    }
}

/// The document with these lists, and without those that its metadata declares.
fn with_lists(document: Document, lists: &BTreeSet<String>) -> Result<Document, Problem> {
    let broken = |error: String| Problem::invalid("", error);
    let mut faults = Vec::new();
    let mut without = None;
    if !document.lists().is_empty() {
        // What the text alone tells, such as members that stand there twice, is not told by what is made of it.
        faults.extend(document.problems().iter().filter(|problem| problem.is_error()).map(Fault::from));
        let mut whole: Value = serde_json::from_str(document.json()).map_err(|error| broken(error.to_string()))?;
        if let Some(metadata) = whole["metadata"].as_object_mut() {
            metadata.retain(|name, _| {
                let declared = name.strip_prefix("list.");
                if let Some(list) = declared.filter(|list| !lists.contains(*list)) {
                    let detail = format!("the ids of {list:?} do not come with the file, and there is no such segment");
                    faults.push(Fault { pointer: format!("/metadata/{}", escaped(name)), detail });
                }
                declared.is_none() && name != "lists"
            });
        }
        without = Some(whole.to_string());
    }
    if !faults.is_empty() {
        return Err(Problem::all_invalid(faults));
    }
    let document = match without {
        None => document,
        Some(text) => Document::parse(document.name(), text, Format::Json, &Limits::default())
            .map_err(|error| broken(error.to_string()))?,
    };
    Ok(document.with_lists(named_lists(lists.iter().cloned())))
}

/// What the member `$segments` says.
fn segments(
    member: &Value,
    evaluators: &Map<String, Value>,
    lists: &BTreeSet<String>,
    faults: &mut Vec<Fault>,
) -> BTreeMap<String, (FileSegment, Option<Value>)> {
    let mut segments = BTreeMap::new();
    let members = match member {
        Value::Null => return segments,
        Value::Object(members) => members,
        _ => {
            faults.push(Fault { pointer: "/$segments".to_owned(), detail: "segments by key are wanted".to_owned() });
            return segments;
        }
    };
    for (key, value) in members {
        let read = check_key(key, "").and_then(|()| {
            let segment: FileSegment = parse_value(value.clone())?;
            let condition = evaluators.get(key).cloned();
            match segment.kind {
                SegmentKind::Rule if condition.is_none() => {
                    Err(Problem::invalid("/kind", "a rule has its condition in `$evaluators`, and there is none"))
                }
                SegmentKind::List if !lists.contains(key) => {
                    Err(Problem::invalid("/kind", "its ids do not come with the file, and there is no such segment"))
                }
                SegmentKind::Rule => Ok((segment, condition)),
                SegmentKind::List => Ok((segment, None)),
            }
        });
        match read {
            Ok(segment) => drop(segments.insert(key.clone(), segment)),
            Err(problem) => faults.extend(problem.within(&segment_place(key)).faults()),
        }
    }
    segments
}

/// Where a segment stands in a file.
pub(crate) fn segment_place(key: &str) -> String {
    format!("/$segments/{}", escaped(key))
}

/// Where the condition of one does.
pub(crate) fn rule_place(key: &str) -> String {
    format!("/$evaluators/{}", escaped(key))
}

/// Where a flag stands in a file.
pub(crate) fn place(key: &str) -> String {
    format!("/flags/{}", escaped(key))
}

/// Compiles it as a host does.
fn check(document: &Document) -> Result<(), Problem> {
    let compiled = Compiler::new(Limits::default()).compile(std::slice::from_ref(document), &Selector::All);
    let compiled = compiled.map_err(|error| Problem::invalid("", error.to_string()))?;
    let problems = compiled.problems.iter().chain(document.problems()).filter(|problem| problem.is_error());
    let mut faults: Vec<Fault> = Vec::new();
    for problem in problems {
        let fault = Fault::from(problem);
        if !faults.contains(&fault) {
            faults.push(fault);
        }
    }
    if faults.is_empty() { Ok(()) } else { Err(Problem::all_invalid(faults)) }
}

fn flag(key: &str, members: Map<String, Value>, shared: &Map<String, Value>) -> Result<FileFlag, Problem> {
    let (mut about, mut config) = (Map::new(), Map::new());
    for (name, value) in members {
        if ABOUT.contains(&name.as_str()) {
            about.insert(name, value);
        } else if name != "key" || value != key {
            config.insert(name, value);
        }
    }
    let mut config: Config = parse_value(Value::Object(config))?;
    // To flagd, a default variant without a name is none.
    config.default_variant = config.default_variant.filter(|name| !name.is_empty());
    config.metadata.retain(|_, value| !value.is_null());
    if let Some(targeting) = &config.targeting {
        let mut named = BTreeMap::new();
        evaluators::named(targeting, shared, &mut named);
        config.evaluators.extend(named.into_iter().map(|(name, rule)| (name.to_owned(), rule.clone())));
    }
    Ok(FileFlag { about, config })
}

impl FileFlag {
    /// What the flag is in all environments: as it was, but for what the file says.
    ///
    /// # Errors
    /// Where that is no flag.
    pub(crate) fn body(&self, old: Option<&FlagBody>) -> Result<FlagBody, Problem> {
        let mut body = match old {
            Some(old) => json!(old),
            None => json!({"type": self.type_of_first_variant()}),
        };
        for (name, value) in &self.about {
            body[name] = value.clone();
        }
        let body: FlagBody = parse_value(body)?;
        body.check()?;
        match old {
            Some(old) if old.flag_type != body.flag_type => {
                Err(Problem::invalid("/variants", "the flag has another type, which it keeps: programs rely on it"))
            }
            _ => Ok(body),
        }
    }

    fn type_of_first_variant(&self) -> &'static str {
        match self.about.get("variants").and_then(|variants| variants.as_object()?.values().next()) {
            Some(Value::String(_)) => "string",
            Some(Value::Number(_)) => "number",
            Some(Value::Object(_) | Value::Array(_)) => "object",
            _ => "boolean",
        }
    }
}

/// Flags, segments and the metadata of their set as a file that [`read`] makes the same of.
pub(crate) fn written(
    flags: &[Configured],
    segments: BTreeMap<String, (FileSegment, Option<Value>)>,
    metadata: &Map<String, Value>,
) -> Value {
    let (mut shared, mut members, mut called) = (Map::new(), Map::new(), Map::new());
    for (key, (segment, condition)) in segments {
        called.insert(key.clone(), json!(segment));
        shared.extend(condition.map(|condition| (key, condition)));
    }
    for configured in flags {
        members.insert(configured.flag.key.clone(), written_flag(configured, &mut shared));
    }
    let mut file = Map::new();
    if !shared.is_empty() {
        file.insert("$evaluators".to_owned(), Value::Object(shared));
    }
    if !called.is_empty() {
        file.insert("$segments".to_owned(), Value::Object(called));
    }
    file.insert("flags".to_owned(), Value::Object(members));
    if !metadata.is_empty() {
        file.insert("metadata".to_owned(), Value::Object(metadata.clone()));
    }
    Value::Object(file)
}

fn written_flag(configured: &Configured, shared: &mut Map<String, Value>) -> Value {
    let Configured { flag, config } = configured;
    let mut config = config.clone();
    // A file has one rule of a name; where two flags mean something else by it, one of them has it written out.
    let own = std::mem::take(&mut config.evaluators);
    if own.iter().all(|(name, rule)| shared.get(name).is_none_or(|other| other == rule)) {
        shared.extend(own);
    } else if let Some(targeting) = &config.targeting {
        config.targeting = evaluators::written_out(targeting, |name| own.get(name), &mut evaluators::Budget::default());
    }
    let mut members = json!(config);
    let body = &flag.body;
    members["variants"] = json!(body.variants);
    if config.default_variant.is_none()
        && let Some(members) = members.as_object_mut()
    {
        members.remove("defaultVariant");
    }
    for (name, text) in [("description", &body.description), ("owner", &body.owner)] {
        if !text.is_empty() {
            members[name] = json!(text);
        }
    }
    if !body.tags.is_empty() {
        members["tags"] = json!(body.tags);
    }
    if body.kind != FlagKind::default() {
        members["kind"] = json!(body.kind);
    }
    if let Some(at_ms) = body.expires_ms {
        members["expiresMs"] = json!(at_ms);
    }
    members
}
