//! One flag, checked on its own: what is wrong with it never touches its neighbours.
//!
//! The good flag is the fast one: it is laid out flat, read once and turned into a [`Flag`]. Whatever is odd is noted as
//! a message and a place on the tape; pointer, line and column are worked out when all is read, if anything was noted.

use super::document::{Document, RawFlag, scalar};
use super::flag::{Flag, Scalar, ValueKind, Variant, VariantValue};
use super::json::{Fault, Tape, Token, push_segment};
use super::limits::Limits;
use super::lists::ListNames;
use super::number;
use super::problem::{Problem, Severity};
use std::collections::{HashMap, HashSet};

/// A flag without errors, and what is odd about it all the same.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Checked {
    /// The flag.
    pub flag: Flag,
    /// Warnings only.
    pub warnings: Vec<Problem>,
}

/// A document's `$evaluators`: rules that its flags share by `{"$ref": "NAME"}`.
#[derive(Debug, Default)]
pub struct Evaluators<'d> {
    places: HashMap<&'d str, usize>,
    bodies: Vec<Evaluator<'d>>,
}

#[derive(Debug)]
pub(crate) struct Evaluator<'d> {
    pub(crate) name: &'d str,
    /// Where its body begins in the document.
    at: usize,
    pub(crate) tape: Result<Tape<'d>, Fault>,
}

impl<'d> Evaluators<'d> {
    /// From names, where each body begins in the document, and bodies.
    pub(crate) fn new(named: impl Iterator<Item = (&'d str, usize, &'d str)>, limits: &Limits) -> Self {
        let bodies: Vec<_> =
            named.map(|(name, at, body)| Evaluator { name, at, tape: Tape::parse(body, limits.literals()) }).collect();
        let places = bodies.iter().enumerate().map(|(index, body)| (body.name, index)).collect();
        Self { places, bodies }
    }

    /// Their names, in the order written.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &'d str> + '_ {
        self.bodies.iter().map(|body| body.name)
    }

    pub(crate) fn find(&self, name: &str) -> Option<usize> {
        self.places.get(name).copied()
    }

    pub(crate) fn body(&self, index: usize) -> &Evaluator<'d> {
        &self.bodies[index]
    }
}

impl Flag {
    /// Checks one flag on its own. `evaluators` are its document's, `lists` the names of the id lists there are.
    ///
    /// # Errors
    /// Everything wrong with the flag, warnings included, in the order of the text; at least one is an error.
    pub fn parse(
        raw: &RawFlag<'_>,
        evaluators: &Evaluators<'_>,
        lists: &ListNames,
        limits: &Limits,
    ) -> Result<Checked, Vec<Problem>> {
        Self::parse_on(&mut Tape::new(), raw, evaluators, lists, limits)
    }

    /// The same on a tape that serves one flag after the other.
    pub(crate) fn parse_on<'d>(
        tape: &mut Tape<'d>,
        raw: &RawFlag<'d>,
        evaluators: &Evaluators<'_>,
        lists: &ListNames,
        limits: &Limits,
    ) -> Result<Checked, Vec<Problem>> {
        if let Err(fault) = tape.lay_out(raw.json(), limits.literals()) {
            let mut message = fault.message;
            if fault.at < raw.json().len() {
                message = format!("{message}; a flag may hold about {} at most", limits.literals());
            }
            let (flag, at) = (Some(raw.key().to_owned()), raw.at() + fault.at);
            return Err(vec![raw.document().problem(Severity::Error, at, flag, raw.pointer(), message)]);
        }
        let subject = Subject::Flag(raw);
        let mut checker = Checker::new(subject, tape, evaluators, lists, limits);
        let flag = checker.flag(raw.key(), raw.in_array());
        if checker.notes.is_empty() {
            return Ok(Checked { flag, warnings: Vec::new() });
        }
        let problems = checker.problems();
        if problems.iter().any(Problem::is_error) { Err(problems) } else { Ok(Checked { flag, warnings: problems }) }
    }
}

/// Every problem of every flag of every document, and of the documents themselves, sorted by file, line and column.
///
/// `lists` are the names of the id lists there are. A document that can't be parsed at all is no document yet:
/// [`DefinitionError::to_problem`](super::DefinitionError::to_problem).
#[must_use]
pub fn check<'d>(
    documents: impl IntoIterator<Item = &'d Document>,
    lists: &ListNames,
    limits: &Limits,
) -> Vec<Problem> {
    let mut problems = Vec::new();
    for document in documents {
        problems.extend_from_slice(document.problems());
        let evaluators = document.evaluators(limits);
        let start = problems.len();
        for raw in document.flags() {
            match Flag::parse(&raw, &evaluators, lists, limits) {
                Ok(checked) => problems.extend(checked.warnings),
                Err(wrong) => problems.extend(wrong),
            }
        }
        // What a flag has reported of an evaluator is not said again; what no flag uses is checked here alone.
        let said: HashSet<(String, String)> = problems[start..]
            .iter()
            .filter(|problem| problem.pointer.starts_with("/$evaluators/"))
            .map(|problem| (problem.pointer.clone(), problem.message.clone()))
            .collect();
        for index in 0..evaluators.bodies.len() {
            let found = evaluator_problems(document, &evaluators, index, lists, limits);
            problems.extend(
                found.into_iter().filter(|problem| !said.contains(&(problem.pointer.clone(), problem.message.clone()))),
            );
        }
    }
    problems.sort_by(|one, other| {
        (&one.file, one.line, one.column, &one.pointer).cmp(&(&other.file, other.line, other.column, &other.pointer))
    });
    problems
}

fn evaluator_problems(
    document: &Document,
    evaluators: &Evaluators<'_>,
    index: usize,
    lists: &ListNames,
    limits: &Limits,
) -> Vec<Problem> {
    let body = evaluators.body(index);
    let tape = match &body.tape {
        Ok(tape) => tape,
        Err(fault) => {
            let mut pointer = "/$evaluators".to_owned();
            push_segment(&mut pointer, body.name);
            let message = fault.message.clone();
            return vec![document.problem(Severity::Error, body.at + fault.at, None, pointer, message)];
        }
    };
    let mut checker = Checker::new(Subject::Evaluator(document), tape, evaluators, lists, limits);
    checker.evaluator(index);
    // What is wrong in an evaluator it refers to is that one's problem.
    let mut own = "/$evaluators".to_owned();
    push_segment(&mut own, body.name);
    let mut problems = checker.problems();
    problems.retain(|problem| {
        problem.pointer.strip_prefix(&*own).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    });
    problems
}

/// Where something stands: on the flag's tape, or on that of an evaluator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Spot {
    pub(crate) evaluator: Option<usize>,
    pub(crate) node: u32,
}

#[derive(Clone, Copy)]
pub(crate) enum Subject<'c> {
    Flag(&'c RawFlag<'c>),
    Evaluator(&'c Document),
}

pub(crate) struct Checker<'c> {
    subject: Subject<'c>,
    tape: &'c Tape<'c>,
    pub(crate) evaluators: &'c Evaluators<'c>,
    pub(crate) lists: &'c ListNames,
    pub(crate) limits: &'c Limits,
    notes: Vec<Note>,
    /// The flag's, once read; empty where something is wrong with them.
    pub(crate) variants: Vec<Variant>,
    /// The evaluators being read, outermost first.
    pub(crate) refs: Vec<usize>,
    pub(crate) nodes: usize,
    pub(crate) literals: usize,
    /// A limit is exceeded, and reading on would be a waste.
    pub(crate) stopped: bool,
}

struct Note {
    severity: Severity,
    spot: Spot,
    message: String,
}

/// How many problems of one flag are listed.
const MOST_NOTES: usize = 1000;

const ROOT: Spot = Spot { evaluator: None, node: 0 };

impl<'c> Checker<'c> {
    fn new(
        subject: Subject<'c>,
        tape: &'c Tape<'c>,
        evaluators: &'c Evaluators<'c>,
        lists: &'c ListNames,
        limits: &'c Limits,
    ) -> Self {
        Self {
            subject,
            tape,
            evaluators,
            lists,
            limits,
            notes: Vec::new(),
            variants: Vec::new(),
            refs: Vec::new(),
            nodes: 0,
            literals: 0,
            stopped: false,
        }
    }

    fn evaluator(&mut self, index: usize) {
        self.refs.push(index);
        let spot = Spot { evaluator: Some(index), node: 0 };
        self.not_unicode(spot);
        self.rule(spot, 1, super::targeting::Place::Plain);
    }

    fn flag(&mut self, key: &str, in_array: bool) -> Flag {
        self.not_unicode(ROOT);
        let mut flag = Flag {
            key: key.to_owned(),
            enabled: false,
            kind: ValueKind::Bool,
            variants: Vec::new(),
            default_variant: None,
            targeting: None,
            metadata: Vec::new(),
        };
        let tape = self.tape;
        if *tape.token(0) != Token::Object {
            self.error(
                ROOT,
                format!("expected a flag, an object with `state` and `variants`, found {}", self.kind(ROOT)),
            );
            return flag;
        }
        let [mut state, mut variants, mut default_variant, mut targeting, mut metadata] = [None; 5];
        for (name, name_at, value) in tape.members(0) {
            let slot = match name {
                "state" => &mut state,
                "variants" => &mut variants,
                "defaultVariant" => &mut default_variant,
                "targeting" => &mut targeting,
                "metadata" => &mut metadata,
                "key" if in_array || tape.text(value) == Some(key) => continue,
                _ => {
                    let known = "`state`, `variants`, `defaultVariant`, `targeting` or `metadata`";
                    self.warn(at(name_at), format!("unknown property {name:?}; expected {known}"));
                    continue;
                }
            };
            *slot = Some(at(value));
        }
        self.repeated(ROOT);
        flag.enabled = match state.map(|state| (state, tape.text(state.node))) {
            Some((_, Some("ENABLED"))) => true,
            Some((_, Some("DISABLED"))) => false,
            Some((spot, _)) => {
                self.error(spot, format!("expected \"ENABLED\" or \"DISABLED\" as `state`, found {}", self.kind(spot)));
                false
            }
            None => {
                self.error(ROOT, "no `state`; expected \"ENABLED\" or \"DISABLED\"".to_owned());
                false
            }
        };
        if let Some(kind) = self.variants(variants) {
            flag.kind = kind;
            flag.default_variant = default_variant.and_then(|spot| self.default_variant(spot));
        } else if let Some(spot) = default_variant {
            self.expect_text_or_null(spot);
        }
        flag.metadata = metadata.map(|spot| self.metadata(spot)).unwrap_or_default();
        flag.targeting = targeting.and_then(|spot| self.targeting(spot));
        flag.variants = std::mem::take(&mut self.variants);
        flag
    }

    /// Reads the variants; gives what they all are. `None` where something is wrong with them.
    fn variants(&mut self, spot: Option<Spot>) -> Option<ValueKind> {
        let Some(spot) = spot else {
            self.error(ROOT, "no `variants`; expected an object of at least one".to_owned());
            return None;
        };
        let tape = self.tape;
        if *tape.token(spot.node) != Token::Object {
            self.error(spot, format!("expected an object as `variants`, found {}", self.kind(spot)));
            return None;
        }
        let mut overridden = Vec::new();
        self.repeated_into(spot, &mut overridden);
        let mut good = true;
        let mut shared: Option<(ValueKind, &str)> = None;
        let mut variants = Vec::with_capacity(tape.members(spot.node).take(self.limits.variants).count());
        for (name, name_at, value) in tape.members(spot.node) {
            if overridden.binary_search(&name_at).is_ok() {
                continue;
            }
            if variants.len() >= self.limits.variants {
                self.error(at(name_at), format!("more than {} variants, the limit", self.limits.variants));
                good = false;
                break;
            }
            if name.is_empty() {
                self.error(at(name_at), "a variant without a name; expected at least one character".to_owned());
                good = false;
            }
            let Some((kind, value)) = self.variant_value(at(value)) else {
                good = false;
                continue;
            };
            match shared {
                None => shared = Some((kind, name)),
                Some((first, _)) if first == kind => {}
                Some((first, first_name)) => {
                    let message = format!(
                        "this variant is {}, but {first_name:?} is {}; expected variants of one type",
                        article(kind),
                        article(first)
                    );
                    self.error(at(name_at + 1), message);
                    good = false;
                }
            }
            variants.push(Variant { name: name.to_owned(), value });
        }
        if tape.node(spot.node).end == spot.node + 1 {
            self.error(spot, "no variant; expected at least one".to_owned());
        }
        let (kind, _) = shared?;
        good.then(|| {
            self.variants = variants;
            kind
        })
    }

    fn variant_value(&mut self, spot: Spot) -> Option<(ValueKind, VariantValue)> {
        let tape = self.tape;
        Some(match tape.token(spot.node) {
            Token::Bool(value) => (ValueKind::Bool, VariantValue::Bool(*value)),
            Token::Text(text) => (ValueKind::Text, VariantValue::Text(text.as_ref().to_owned())),
            Token::Number(spelling) => match number::parse(spelling) {
                Ok(value) => (ValueKind::Number, VariantValue::Number(value)),
                Err(message) => {
                    self.error(spot, message);
                    return None;
                }
            },
            Token::Null => {
                self.error(
                    spot,
                    "a variant is null; expected a boolean, text, a number, an object or an array".to_owned(),
                );
                return None;
            }
            Token::Array | Token::Object => {
                if !self.json_value(spot) {
                    return None;
                }
                let end = tape.node(spot.node).end - 1;
                let length = tape.node(end).at - tape.node(spot.node).at;
                let mut text = String::with_capacity(length as usize + 16);
                tape.write(spot.node, &mut text);
                (ValueKind::Json, VariantValue::Json(text))
            }
        })
    }

    /// Checks an object or array that is a variant's value: depth, numbers, members that come twice.
    fn json_value(&mut self, spot: Spot) -> bool {
        let tape = self.tape;
        let mut good = true;
        let mut open: Vec<u32> = Vec::new();
        for index in spot.node..tape.node(spot.node).end {
            while open.last().is_some_and(|end| *end <= index) {
                open.pop();
            }
            match tape.token(index) {
                Token::Number(spelling) => {
                    if let Err(message) = number::parse(spelling) {
                        self.error(at(index), message);
                        good = false;
                    }
                }
                Token::Array | Token::Object => {
                    open.push(tape.node(index).end);
                    if open.len() > self.limits.rule_depth {
                        let limit = self.limits.rule_depth;
                        self.error(at(index), format!("a value nested deeper than {limit} levels, the limit"));
                        return false;
                    }
                    self.repeated(at(index));
                }
                _ => {}
            }
        }
        good
    }

    fn default_variant(&mut self, spot: Spot) -> Option<usize> {
        let name = self.expect_text_or_null(spot).filter(|name| !name.is_empty())?;
        let found = self.variants.iter().position(|variant| variant.name == name);
        if found.is_none() {
            let message = format!("{:?} names no variant; expected {}", number::shorten(name), self.variant_names());
            self.error(spot, message);
        }
        found
    }

    fn expect_text_or_null(&mut self, spot: Spot) -> Option<&'c str> {
        let tape = self.tape;
        match tape.token(spot.node) {
            Token::Text(name) => Some(name),
            Token::Null => None,
            _ => {
                let found = self.kind(spot);
                self.error(spot, format!("expected a variant's name or null as `defaultVariant`, found {found}"));
                None
            }
        }
    }

    fn metadata(&mut self, spot: Spot) -> Vec<(String, Scalar)> {
        let tape = self.tape;
        match tape.token(spot.node) {
            Token::Object => {}
            Token::Null => return Vec::new(),
            _ => {
                self.error(spot, format!("expected an object as `metadata`, found {}", self.kind(spot)));
                return Vec::new();
            }
        }
        let mut overridden = Vec::new();
        self.repeated_into(spot, &mut overridden);
        let mut metadata = Vec::new();
        for (name, name_at, value) in tape.members(spot.node) {
            if overridden.binary_search(&name_at).is_ok() {
                continue;
            }
            // A lone surrogate is reported already, as any in the flag.
            let unicode = tape.not_unicode().binary_search(&value).is_err();
            match scalar(tape, value) {
                Ok(Some(scalar)) => {
                    if name == "flagSetId" && !matches!(scalar, Scalar::Text(_)) {
                        self.warn(at(value), "expected text as `flagSetId`; this one is ignored".to_owned());
                    }
                    metadata.push((name.to_owned(), scalar));
                }
                Ok(None) => {}
                Err(message) if unicode => self.error(at(value), message),
                Err(_) => {}
            }
        }
        metadata
    }

    /// Reports texts that are not Unicode, anywhere on a tape.
    pub(crate) fn not_unicode(&mut self, root: Spot) {
        let Some(tape) = self.tape_of(root) else { return };
        for &node in tape.not_unicode() {
            let message = "text with a lone surrogate in it, which is no character".to_owned();
            self.error(Spot { node, ..root }, message);
        }
    }

    /// Warns of members that a later one of the same name overrides.
    pub(crate) fn repeated(&mut self, spot: Spot) {
        let mut overridden = Vec::new();
        self.repeated_into(spot, &mut overridden);
    }

    fn repeated_into(&mut self, spot: Spot, overridden: &mut Vec<u32>) {
        let Some(tape) = self.tape_of(spot) else { return };
        tape.repeated(spot.node, |name| overridden.push(name));
        for &node in &*overridden {
            let name = number::shorten(tape.text(node).unwrap_or_default());
            self.warn(Spot { node, ..spot }, format!("{name:?} comes again in this object; the last one counts"));
        }
    }

    /// The tape a spot is on; `None` where an evaluator could not be laid out.
    pub(crate) fn tape_of(&self, spot: Spot) -> Option<&'c Tape<'c>> {
        match spot.evaluator {
            None => Some(self.tape),
            Some(index) => self.evaluators.body(index).tape.as_ref().ok(),
        }
    }

    pub(crate) fn error(&mut self, spot: Spot, message: String) {
        self.note(Severity::Error, spot, message);
    }

    pub(crate) fn warn(&mut self, spot: Spot, message: String) {
        self.note(Severity::Warning, spot, message);
    }

    #[cold]
    fn note(&mut self, severity: Severity, spot: Spot, message: String) {
        // An evaluator used twice is reported once.
        let known = |note: &Note| note.spot == spot && note.severity == severity && note.message == message;
        if self.notes.len() < MOST_NOTES && !(spot.evaluator.is_some() && self.notes.iter().any(known)) {
            self.notes.push(Note { severity, spot, message });
        } else if severity == Severity::Error && self.notes.len() == MOST_NOTES {
            // The cap must not turn a broken flag into a good one.
            self.notes.push(Note { severity, spot, message: format!("{message} (further problems are not listed)") });
        }
    }

    /// What stands at a spot, in words.
    pub(crate) fn kind(&self, spot: Spot) -> String {
        let Some(tape) = self.tape_of(spot) else { return "nothing".to_owned() };
        match tape.token(spot.node) {
            Token::Null => "null".to_owned(),
            Token::Bool(value) => value.to_string(),
            Token::Number(spelling) => format!("the number {}", number::shorten(spelling)),
            Token::Text(text) => format!("{:?}", number::shorten(text)),
            Token::Array => "an array".to_owned(),
            Token::Object => "an object".to_owned(),
        }
    }

    /// The names of the variants, in words.
    pub(crate) fn variant_names(&self) -> String {
        one_of(self.variants.iter().map(|variant| &*variant.name))
    }

    fn problems(&mut self) -> Vec<Problem> {
        let (document, flag, start, at) = match self.subject {
            Subject::Flag(raw) => (raw.document(), Some(raw.key()), raw.pointer(), raw.at()),
            Subject::Evaluator(document) => (document, None, String::new(), 0),
        };
        let notes = std::mem::take(&mut self.notes);
        let mut problems: Vec<_> = notes
            .into_iter()
            .map(|note| {
                let (mut pointer, mut at) = (start.clone(), at);
                if let Some(index) = note.spot.evaluator {
                    let body = self.evaluators.body(index);
                    "/$evaluators".clone_into(&mut pointer);
                    push_segment(&mut pointer, body.name);
                    at = body.at;
                }
                if let Some(tape) = self.tape_of(note.spot) {
                    tape.pointer(note.spot.node, &mut pointer);
                    at += tape.node(note.spot.node).at as usize;
                }
                document.problem(note.severity, at, flag.map(str::to_owned), pointer, note.message)
            })
            .collect();
        problems.sort_by_key(|problem| (problem.line, problem.column));
        problems
    }
}

/// `"a", "b" or "c"`, or the first few of them.
pub(crate) fn one_of<'a>(names: impl Iterator<Item = &'a str>) -> String {
    const FEW: usize = 8;
    let mut names: Vec<String> = names.take(FEW + 1).map(|name| format!("{:?}", number::shorten(name))).collect();
    if names.len() > FEW {
        names.truncate(FEW);
        return format!("one of {}, …", names.join(", "));
    }
    match names.as_slice() {
        [] => "none".to_owned(),
        [one] => one.clone(),
        [most @ .., last] => format!("{} or {last}", most.join(", ")),
    }
}

fn at(node: u32) -> Spot {
    Spot { evaluator: None, node }
}

fn article(kind: ValueKind) -> &'static str {
    match kind {
        ValueKind::Bool => "a boolean",
        ValueKind::Text => "text",
        ValueKind::Number => "a number",
        ValueKind::Json => "an object or array",
    }
}
