//! A flag definition file, taken apart: which flags it holds and where, nothing of a flag looked into yet.

use super::check::Evaluators;
use super::error::DefinitionError;
use super::flag::Scalar;
use super::json::{Fault, RawText, Scanner, Tape, Token, push_segment};
use super::limits::Limits;
use super::lists::{ListDeclaration, PreparedList};
use super::number;
use super::position::Lines;
use super::problem::{Problem, Severity};
#[cfg(feature = "yaml")]
use super::yaml;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fs::File;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, Read};
use std::ops::Range;
use std::path::Path;
use std::sync::OnceLock;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// How a document is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// JSON (RFC 8259).
    Json,
    /// YAML 1.2, core schema; needs the feature `yaml`.
    Yaml,
}

impl Format {
    /// By the path's ending: `.yaml` and `.yml` are YAML, all else is JSON.
    #[must_use]
    pub fn from_path(path: &Path) -> Self {
        match path.extension().and_then(|ending| ending.to_str()) {
            Some(ending) if ending.eq_ignore_ascii_case("yaml") || ending.eq_ignore_ascii_case("yml") => Self::Yaml,
            _ => Self::Json,
        }
    }
}

/// A flag definition file, taken apart into flags that are not looked into yet.
///
/// ```
/// use libflags::definition::{Document, Flag, Format, Limits, ListNames};
///
/// let text = r#"{"flags": {"new-checkout": {"state": "ENABLED", "variants": {"on": true}, "defaultVariant": "on"}}}"#;
/// let limits = Limits::default();
/// let document = Document::parse("flags.json", text, Format::Json, &limits)?;
/// let evaluators = document.evaluators(&limits);
/// for raw in document.flags() {
///     let checked = Flag::parse(&raw, &evaluators, &ListNames::default(), &limits).expect("a good flag");
///     assert_eq!(checked.flag.key, "new-checkout");
/// }
/// # Ok::<(), libflags::definition::DefinitionError>(())
/// ```
#[derive(Debug)]
pub struct Document {
    name: String,
    text: String,
    yaml: Option<Converted>,
    lines: OnceLock<Lines>,
    flags: Vec<FlagEntry>,
    evaluators: Vec<(String, Range<usize>)>,
    metadata: Vec<(String, Scalar)>,
    lists: Vec<ListDeclaration>,
    prepared: Vec<PreparedList>,
    problems: Vec<Problem>,
}

/// YAML as JSON, and where in the YAML each value came from.
#[derive(Debug, Default)]
pub(crate) struct Converted {
    pub(crate) json: String,
    /// Rising by offset.
    pub(crate) marks: Vec<Mark>,
}

/// The value or name at byte `json` of the converted text stands at `line` and `column` of the YAML.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) json: u32,
    pub(crate) line: u32,
    pub(crate) column: u32,
}

#[derive(Debug)]
struct FlagEntry {
    key: Key,
    json: Range<u32>,
    /// Its place, where `flags` is an array; else `u32::MAX`.
    item: u32,
}

/// A flag key: most often it stands in the text as it is.
#[derive(Debug)]
enum Key {
    Plain(Range<u32>),
    Decoded(Box<str>),
}

/// A flag as written, with what is needed to say where something in it stands.
#[derive(Clone, Copy, Debug)]
pub struct RawFlag<'d> {
    document: &'d Document,
    key: &'d str,
    json: &'d str,
    at: usize,
    item: u32,
}

impl<'d> RawFlag<'d> {
    /// Its key: 1 to [`Limits::key_bytes`] bytes without NUL.
    #[must_use]
    pub fn key(&self) -> &'d str {
        self.key
    }

    /// Its definition: one JSON value. Two flags of the same JSON (and evaluators, and lists) mean the same.
    #[must_use]
    pub fn json(&self) -> &'d str {
        self.json
    }

    /// The document it stands in.
    #[must_use]
    pub fn document(&self) -> &'d Document {
        self.document
    }

    /// Where it stands in the document: `/flags/KEY`, or `/flags/INDEX` where `flags` is an array.
    #[must_use]
    pub fn pointer(&self) -> String {
        let mut pointer = "/flags".to_owned();
        if self.item == u32::MAX {
            push_segment(&mut pointer, self.key);
        } else {
            push_segment(&mut pointer, &self.item.to_string());
        }
        pointer
    }

    /// A problem of this flag as a whole, for stages after this one.
    #[must_use]
    pub fn problem(&self, severity: Severity, message: impl Into<String>) -> Problem {
        let flag = Some(self.key.to_owned());
        self.document.problem(severity, self.at, flag, self.pointer(), message.into())
    }

    pub(crate) fn at(&self) -> usize {
        self.at
    }

    pub(crate) fn in_array(&self) -> bool {
        self.item != u32::MAX
    }
}

impl Document {
    /// Takes `text` apart. `name` is what problems call it, usually its path. A leading byte order mark is ignored.
    ///
    /// # Errors
    /// [`DefinitionError::TooLong`], and [`DefinitionError::Malformed`] where the text is not JSON (or YAML), where it
    /// is no object with `flags` in it, or has more flags than the limit. What is wrong with single flags is no
    /// error here but found by [`Flag::parse`](super::Flag::parse) and, where a flag has no usable key, among
    /// [`problems`](Self::problems).
    pub fn parse(
        name: &str,
        text: impl Into<String>,
        format: Format,
        limits: &Limits,
    ) -> Result<Self, DefinitionError> {
        let mut text = text.into();
        let limit = limits.document_bytes.min(u32::MAX as usize - 1);
        if text.len() > limit {
            return Err(DefinitionError::TooLong { file: name.to_owned(), bytes: text.len() as u64, limit });
        }
        if text.starts_with('\u{feff}') {
            text.drain(..'\u{feff}'.len_utf8());
        }
        let yaml = match format {
            Format::Json => None,
            #[cfg(feature = "yaml")]
            Format::Yaml => Some(yaml::convert(name, &text)?),
            #[cfg(not(feature = "yaml"))]
            Format::Yaml => {
                let message = "YAML, which this build can't read (feature `yaml`)".to_owned();
                return Err(DefinitionError::Malformed { file: name.to_owned(), line: 1, column: 1, message });
            }
        };
        let mut document = Self {
            name: name.to_owned(),
            text,
            yaml,
            lines: OnceLock::new(),
            flags: Vec::new(),
            evaluators: Vec::new(),
            metadata: Vec::new(),
            lists: Vec::new(),
            prepared: Vec::new(),
            problems: Vec::new(),
        };
        let parts = match Parts::of(document.json(), limits) {
            Ok(parts) => parts,
            Err(fault) => {
                let (line, column) = document.position(fault.at);
                return Err(DefinitionError::Malformed { file: document.name, line, column, message: fault.message });
            }
        };
        let Parts { flags, evaluators, metadata, lists, mut notes, .. } = parts;
        notes.sort_by_key(|note| note.at);
        document.problems = notes
            .into_iter()
            .map(|note| document.problem(note.severity, note.at, note.flag, note.pointer, note.message))
            .collect();
        document.flags = flags;
        document.evaluators = evaluators;
        document.metadata = metadata;
        document.lists = lists;
        Ok(document)
    }

    /// Reads and takes apart the file at `path`; its ending tells the format ([`Format::from_path`]).
    ///
    /// # Errors
    /// As [`parse`](Self::parse); [`DefinitionError::Io`] where it can't be read, and [`DefinitionError::NotUtf8`].
    /// A file longer than the limit is not read whole to find that out.
    pub fn load(path: impl AsRef<Path>, limits: &Limits) -> Result<Self, DefinitionError> {
        let path = path.as_ref();
        let name = path.display().to_string();
        let failed = |error| DefinitionError::Io { path: path.to_owned(), error };
        let limit = limits.document_bytes;
        let file = File::open(path).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        if metadata.is_dir() {
            return Err(failed(io::ErrorKind::IsADirectory.into()));
        }
        let length = metadata.len();
        if length > limit as u64 {
            return Err(DefinitionError::TooLong { file: name, bytes: length, limit });
        }
        let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or(0) + 1);
        // The length may be stale or, for a pipe, unknown: never read more than one byte past the limit.
        file.take(limit as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
        if bytes.len() > limit {
            return Err(DefinitionError::TooLong { file: name, bytes: bytes.len() as u64, limit });
        }
        let text = String::from_utf8(bytes).map_err(|error| {
            let good = error.utf8_error().valid_up_to();
            let good = std::str::from_utf8(&error.as_bytes()[..good]).unwrap_or_default();
            let (line, column) = Lines::of(good).position(good, good.len());
            DefinitionError::NotUtf8 { file: name.clone(), line, column }
        })?;
        Self::parse(&name, text, Format::from_path(path), limits)
    }

    /// What problems call it, usually its path.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The text it was parsed from, without byte order mark.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Its flags in the order written, keys unique: of two with the same key, the later.
    pub fn flags(&self) -> impl ExactSizeIterator<Item = RawFlag<'_>> + '_ {
        let json = self.json();
        self.flags.iter().map(move |entry| RawFlag {
            document: self,
            key: entry.key.text(json),
            json: &json[entry.json.start as usize..entry.json.end as usize],
            at: entry.json.start as usize,
            item: entry.item,
        })
    }

    /// Its `$evaluators`, ready for [`Flag::parse`](super::Flag::parse).
    #[must_use]
    pub fn evaluators(&self, limits: &Limits) -> Evaluators<'_> {
        let json = self.json();
        Evaluators::new(self.evaluators.iter().map(|(name, body)| (&**name, body.start, &json[body.clone()])), limits)
    }

    /// Its metadata (the flag set's) in the order written, names unique; `null`s and [`lists`](Self::lists) left out.
    #[must_use]
    pub fn metadata(&self) -> &[(String, Scalar)] {
        &self.metadata
    }

    /// The id lists that its metadata declares (`lists`, `list.NAME`), in the order written.
    #[must_use]
    pub fn lists(&self) -> &[ListDeclaration] {
        &self.lists
    }

    /// What is wrong with it outside of its flags, and flags that have no usable key.
    #[must_use]
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// Line and column (from 1, in characters) of what `pointer` (RFC 6901) points at; `None` where nothing stands.
    #[must_use]
    pub fn locate(&self, pointer: &str) -> Option<(u32, u32)> {
        let mut scanner = Scanner::new(self.json());
        let mut here = scanner.skip().ok()?;
        if !pointer.is_empty() {
            for segment in pointer.strip_prefix('/')?.split('/') {
                let segment = segment.replace("~1", "/").replace("~0", "~");
                here += child(&self.json()[here..], &segment)?;
            }
        }
        Some(self.position(here))
    }

    /// The same document, whose rules may also refer to these lists, by their labels. They win over declared ones of the same name.
    #[must_use]
    pub fn with_lists(mut self, lists: Vec<PreparedList>) -> Self {
        self.prepared = lists;
        self
    }

    /// The lists that it was given.
    #[must_use]
    pub fn prepared_lists(&self) -> &[PreparedList] {
        &self.prepared
    }

    /// The evaluators by name, as written.
    pub(crate) fn raw_evaluators(&self) -> impl Iterator<Item = (&str, &str)> {
        let json = self.json();
        self.evaluators.iter().map(move |(name, body)| (&**name, &json[body.clone()]))
    }

    /// Its text as JSON: what it was parsed from, or what its YAML stands for.
    #[must_use]
    pub fn json(&self) -> &str {
        self.yaml.as_ref().map_or(&self.text, |converted| &converted.json)
    }

    /// Line and column of the byte at `at` of [`json`](Self::json).
    pub(crate) fn position(&self, at: usize) -> (u32, u32) {
        match &self.yaml {
            Some(converted) => {
                let next = converted.marks.partition_point(|mark| mark.json as usize <= at);
                next.checked_sub(1).map_or((1, 1), |last| (converted.marks[last].line, converted.marks[last].column))
            }
            None => self.lines.get_or_init(|| Lines::of(&self.text)).position(&self.text, at),
        }
    }

    pub(crate) fn problem(
        &self,
        severity: Severity,
        at: usize,
        flag: Option<String>,
        pointer: String,
        message: String,
    ) -> Problem {
        let (line, column) = self.position(at);
        Problem { severity, file: self.name.clone(), line, column, flag, pointer, message }
    }
}

impl Key {
    fn text<'a>(&'a self, json: &'a str) -> &'a str {
        match self {
            Self::Plain(range) => &json[range.start as usize..range.end as usize],
            Self::Decoded(text) => text,
        }
    }
}

/// A problem whose line is not known yet.
#[derive(Debug)]
struct Note {
    severity: Severity,
    at: usize,
    flag: Option<String>,
    pointer: String,
    message: String,
}

struct Parts<'a> {
    json: &'a str,
    limits: &'a Limits,
    flags: Vec<FlagEntry>,
    evaluators: Vec<(String, Range<usize>)>,
    metadata: Vec<(String, Scalar)>,
    lists: Vec<ListDeclaration>,
    notes: Vec<Note>,
}

impl<'a> Parts<'a> {
    fn of(json: &'a str, limits: &'a Limits) -> Result<Self, Fault> {
        let mut parts = Self {
            json,
            limits,
            flags: Vec::new(),
            evaluators: Vec::new(),
            metadata: Vec::new(),
            lists: Vec::new(),
            notes: Vec::new(),
        };
        let mut scanner = Scanner::new(json);
        if scanner.peek() != Some(b'{') {
            return scanner.fault("an object with `flags`");
        }
        let start = scanner.at();
        let mut seen: Vec<String> = Vec::new();
        scanner.members(|scanner, name, at| {
            let (name, _) = name.decode();
            if seen.iter().any(|earlier| *earlier == name) {
                let message = format!("{name:?} twice in the document; the later one counts");
                parts.note_member(Severity::Error, at, "", &name, message);
            }
            match &*name {
                "flags" => parts.flags(scanner)?,
                "$evaluators" => parts.evaluators(scanner)?,
                "metadata" => parts.metadata(scanner)?,
                // The last three are what a control plane's snapshot has besides.
                "$schema" | "$sync" | "$signature" | "$lists" => drop(scanner.skip()?),
                _ => {
                    scanner.skip()?;
                    let message = format!("unknown member {name:?}; expected `flags`, `$evaluators` or `metadata`");
                    parts.note_member(Severity::Warning, at, "", &name, message);
                }
            }
            // Unknown ones are reported each by itself; remembering them all could be made slow.
            if matches!(&*name, "flags" | "$evaluators" | "metadata") {
                seen.push(name.into_owned());
            }
            Ok(())
        })?;
        scanner.end()?;
        if !seen.iter().any(|name| name == "flags") {
            return Err(Fault { at: start, message: "expected `flags` in the object, found none".to_owned() });
        }
        parts.keep_last_of_each_key();
        Ok(parts)
    }

    fn flags(&mut self, scanner: &mut Scanner<'a>) -> Result<(), Fault> {
        self.flags.clear();
        match scanner.peek() {
            Some(b'{') => scanner.members(|scanner, key, at| {
                let start = scanner.skip()?;
                self.flag(key, at, start, scanner.at(), None)
            }),
            Some(b'[') => scanner.elements(|scanner, index| {
                let start = scanner.skip()?;
                self.item(start, scanner.at(), index)
            }),
            _ => scanner.fault("an object or array of flags"),
        }
    }

    /// A flag in an array: finds its `key`.
    fn item(&mut self, start: usize, end: usize, index: u32) -> Result<(), Fault> {
        let pointer = format!("/flags/{index}");
        let mut scanner = Scanner::new(&self.json[start..end]);
        if scanner.peek() != Some(b'{') {
            let message = "expected a flag, an object with `key`".to_owned();
            self.note(Severity::Error, start, None, pointer, message);
            return Ok(());
        }
        let mut key = None;
        scanner.members(|scanner, name, _| {
            let from = scanner.skip()?;
            if name.decode().0 == "key" {
                key = Some((from, scanner.slice(from)));
            }
            Ok(())
        })?;
        let Some((from, value)) = key else {
            self.note(Severity::Error, start, None, pointer, "no `key`; each flag of an array needs one".to_owned());
            return Ok(());
        };
        let mut found = None;
        if value.starts_with('"') {
            // The key is the only member name of `{KEY: 0}`, so to speak: read it as text.
            let tape = Tape::parse(value, 1)?;
            if let (Some(text), []) = (tape.text(0), tape.not_unicode()) {
                found = Some(text.to_owned());
            }
        }
        match found {
            Some(key) => self.entry(Key::Decoded(key.into()), start + from, start, end, Some(index)),
            None => {
                let message = "expected text as `key`".to_owned();
                self.note(Severity::Error, start + from, None, pointer + "/key", message);
                Ok(())
            }
        }
    }

    #[expect(clippy::cast_possible_truncation, reason = "the document is shorter than 4 GiB")]
    fn flag(&mut self, key: RawText<'a>, at: usize, start: usize, end: usize, item: Option<u32>) -> Result<(), Fault> {
        let entry = match key.decode() {
            (std::borrow::Cow::Borrowed(text), _) => Key::Plain(at as u32 + 1..(at + 1 + text.len()) as u32),
            (std::borrow::Cow::Owned(text), true) => Key::Decoded(text.into()),
            (std::borrow::Cow::Owned(text), false) => {
                let message = "the key holds a lone surrogate, which is no character".to_owned();
                self.note_member(Severity::Error, at, "/flags", &text, message);
                return Ok(());
            }
        };
        self.entry(entry, at, start, end, item)
    }

    #[expect(clippy::cast_possible_truncation, reason = "the document is shorter than 4 GiB")]
    fn entry(&mut self, key: Key, key_at: usize, start: usize, end: usize, item: Option<u32>) -> Result<(), Fault> {
        let text = key.text(self.json);
        let limit = self.limits.key_bytes;
        let wrong = if text.is_empty() {
            Some("an empty key; expected at least one character".to_owned())
        } else if text.len() > limit {
            Some(format!("a key of {} bytes; expected no more than {limit}", text.len()))
        } else if text.contains('\0') {
            Some("a key with a NUL character in it; expected none".to_owned())
        } else {
            None
        };
        if let Some(message) = wrong {
            let mut pointer = "/flags".to_owned();
            match item {
                Some(index) => pointer = format!("{pointer}/{index}/key"),
                None => push_segment(&mut pointer, text),
            }
            let flag = Some(text.to_owned());
            self.note(Severity::Error, key_at, flag, pointer, message);
            return Ok(());
        }
        if self.flags.len() >= self.limits.flags {
            let message = format!("more than {} flags, the limit", self.limits.flags);
            return Err(Fault { at: key_at, message });
        }
        self.flags.push(FlagEntry { key, json: start as u32..end as u32, item: item.unwrap_or(u32::MAX) });
        Ok(())
    }

    fn keep_last_of_each_key(&mut self) {
        let mut last: HashMap<&str, usize, KeyHash> =
            HashMap::with_capacity_and_hasher(self.flags.len(), KeyHash::random());
        let mut overridden = Vec::new();
        for (index, flag) in self.flags.iter().enumerate() {
            match last.entry(flag.key.text(self.json)) {
                Entry::Vacant(vacant) => {
                    vacant.insert(index);
                }
                Entry::Occupied(mut earlier) => {
                    overridden.push(earlier.insert(index));
                    let (flag, key) = (&self.flags[index], *earlier.key());
                    let mut pointer = "/flags".to_owned();
                    let segment = if flag.item == u32::MAX { key.to_owned() } else { flag.item.to_string() };
                    push_segment(&mut pointer, &segment);
                    self.notes.push(Note {
                        severity: Severity::Error,
                        at: flag.json.start as usize,
                        flag: Some(key.to_owned()),
                        pointer,
                        message: "a flag of this key stands in the document already; the later one counts".to_owned(),
                    });
                }
            }
        }
        drop(last);
        if !overridden.is_empty() {
            overridden.sort_unstable();
            let mut index = 0;
            self.flags.retain(|_| {
                let keep = overridden.binary_search(&index).is_err();
                index += 1;
                keep
            });
        }
    }

    fn evaluators(&mut self, scanner: &mut Scanner<'a>) -> Result<(), Fault> {
        self.evaluators.clear();
        match scanner.peek() {
            Some(b'{') => {}
            Some(b'n') => return scanner.skip().map(drop),
            _ => return scanner.fault("an object as `$evaluators`"),
        }
        let mut places = HashMap::new();
        scanner.members(|scanner, name, at| {
            let start = scanner.skip()?;
            let body = start..scanner.at();
            let name = name.decode().0.into_owned();
            match places.entry(name.clone()) {
                Entry::Vacant(vacant) => {
                    vacant.insert(self.evaluators.len());
                    self.evaluators.push((name, body));
                }
                Entry::Occupied(earlier) => {
                    let message = "an evaluator of this name stands in the document already; the later one counts";
                    self.note_member(Severity::Error, at, "/$evaluators", &name, message.to_owned());
                    self.evaluators[*earlier.get()].1 = body;
                }
            }
            Ok(())
        })
    }

    fn metadata(&mut self, scanner: &mut Scanner<'a>) -> Result<(), Fault> {
        self.metadata.clear();
        self.lists.clear();
        match scanner.peek() {
            Some(b'{') => {}
            Some(b'n') => return scanner.skip().map(drop),
            _ => return scanner.fault("an object as `metadata`"),
        }
        let start = scanner.skip()?;
        let tape = Tape::parse(scanner.slice(start), self.limits.literals())
            .map_err(|fault| Fault { at: start + fault.at, message: fault.message })?;
        let mut members = Vec::new();
        let mut repeated = Vec::new();
        tape.repeated(0, |name| repeated.push(name));
        for (name, name_at, value) in tape.members(0) {
            let at = start + tape.node(value).at as usize;
            if repeated.binary_search(&name_at).is_ok() {
                let message = "twice in `metadata`; the later one counts".to_owned();
                self.note_member(Severity::Error, start + tape.node(name_at).at as usize, "/metadata", name, message);
                continue;
            }
            match scalar(&tape, value) {
                Ok(Some(value)) => members.push((name.to_owned(), value, at)),
                Ok(None) => {}
                Err(message) => self.note_member(Severity::Error, at, "/metadata", name, message),
            }
        }
        for (name, value, at) in members {
            if name == "flagSetId" && !matches!(value, Scalar::Text(_)) {
                let message = "expected text as `flagSetId`; this one is ignored".to_owned();
                self.note_member(Severity::Warning, at, "/metadata", &name, message);
            }
            match ListDeclaration::from_metadata(&name, &value) {
                None => self.metadata.push((name, value)),
                Some(Ok(declaration)) => self.lists.push(declaration),
                Some(Err(message)) => self.note_member(Severity::Error, at, "/metadata", &name, message),
            }
        }
        Ok(())
    }

    fn note_member(&mut self, severity: Severity, at: usize, parent: &str, name: &str, message: String) {
        let mut pointer = parent.to_owned();
        push_segment(&mut pointer, name);
        self.note(severity, at, None, pointer, message);
    }

    fn note(&mut self, severity: Severity, at: usize, flag: Option<String>, pointer: String, message: String) {
        self.notes.push(Note { severity, at, flag, pointer, message });
    }
}

/// Hashes flag keys: std's hash takes a fifth of the time that taking a document apart needs.
struct KeyHash(u64);

impl KeyHash {
    fn random() -> Self {
        Self(RandomState::new().hash_one(0))
    }
}

impl BuildHasher for KeyHash {
    type Hasher = KeyHash;

    fn build_hasher(&self) -> KeyHash {
        KeyHash(self.0)
    }
}

impl Hasher for KeyHash {
    fn write(&mut self, bytes: &[u8]) {
        self.0 = xxh3_64_with_seed(bytes, self.0);
    }

    /// What ends a text: keys are hashed alone, so nothing needs telling apart.
    fn write_u8(&mut self, _: u8) {}

    fn finish(&self) -> u64 {
        self.0
    }
}

/// Metadata's value at `index`; `None` for `null`.
pub(crate) fn scalar(tape: &Tape<'_>, index: u32) -> Result<Option<Scalar>, String> {
    Ok(Some(match tape.token(index) {
        Token::Null => return Ok(None),
        Token::Bool(value) => Scalar::Bool(*value),
        Token::Number(spelling) => Scalar::Number(number::parse(spelling)?),
        Token::Text(_) if tape.not_unicode().binary_search(&index).is_ok() => {
            return Err("text with a lone surrogate in it, which is no character".to_owned());
        }
        Token::Text(text) => Scalar::Text(text.as_ref().to_owned()),
        Token::Array | Token::Object => return Err("expected text, a number or a boolean as metadata".to_owned()),
    }))
}

/// Offset, in the JSON value `json`, of its member or element `segment`.
fn child(json: &str, segment: &str) -> Option<usize> {
    let mut scanner = Scanner::new(json);
    let mut found = None;
    // The last member of a name counts. What follows the value is somebody else's, so a fault there means nothing.
    let _ = match scanner.peek()? {
        b'{' => scanner.members(|scanner, name, _| {
            let start = scanner.skip()?;
            if name.decode().0 == segment {
                found = Some(start);
            }
            Ok(())
        }),
        b'[' => scanner.elements(|scanner, index| {
            let start = scanner.skip()?;
            if index.to_string() == segment {
                found = Some(start);
            }
            Ok(())
        }),
        _ => return None,
    };
    found
}
