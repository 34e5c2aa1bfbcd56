//! Id lists: which ones a definition declares, where they lie, and the ids in them, read as a stream.

use super::document::Document;
use super::flag::Scalar;
use super::json::{Scanner, Tape, Token};
use super::limits::Limits;
use super::number;
use super::problem::{Problem, Severity};
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Component, Path, PathBuf};
use std::{fmt, fs};

/// What a definition's metadata says about id lists.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ListDeclaration {
    /// `"list.NAME": "PATH"`: one list.
    File {
        /// What rules call it: `{"var": "$lists.NAME"}`.
        name: String,
        /// Its file, relative to the definition's directory.
        path: PathBuf,
    },
    /// `"lists": "PATH"`: each file in a directory, named by its stem.
    Directory {
        /// The directory, relative to the definition's.
        path: PathBuf,
    },
}

impl ListDeclaration {
    /// What a member of the metadata declares, if it declares a list.
    pub(crate) fn from_metadata(name: &str, value: &Scalar) -> Option<Result<Self, String>> {
        let list = name.strip_prefix("list.");
        if list.is_none() && name != "lists" {
            return None;
        }
        let path = match value {
            Scalar::Text(path) if !path.is_empty() && !path.contains('\0') => PathBuf::from(path),
            _ => return Some(Err("expected a path as text".to_owned())),
        };
        // A definition may come from people who must not learn what else lies on the host.
        if !path.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir)) {
            let message = "expected a path below the definition's directory, neither absolute nor with `..`";
            return Some(Err(message.to_owned()));
        }
        Some(match list {
            Some("") => Err("expected the list's name after `list.`".to_owned()),
            Some(name) => Ok(Self::File { name: name.to_owned(), path }),
            None => Ok(Self::Directory { path }),
        })
    }
}

/// The names of the lists that rules may refer to.
#[derive(Clone, Debug, Default)]
pub struct ListNames(HashSet<String>);

impl ListNames {
    /// Whether there is a list called `name`.
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        self.0.contains(name)
    }
}

impl<S: Into<String>> FromIterator<S> for ListNames {
    fn from_iter<I: IntoIterator<Item = S>>(names: I) -> Self {
        Self(names.into_iter().map(Into::into).collect())
    }
}

/// A list and the file that holds its ids.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ListFile {
    /// What rules call it.
    pub name: String,
    /// Where its ids are.
    pub path: PathBuf,
}

/// A list that is built already: what a host that gets its lists elsewhere than from files gives a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PreparedList {
    /// What rules call it: `{"var": "$lists.LABEL"}`.
    pub label: String,
    /// The name of its content: [`BuiltIdList::name`](crate::snapshot::BuiltIdList::name).
    pub content: u64,
    /// How many ids it has.
    pub ids: u64,
    /// Where its bytes lie, for who places lists beside a snapshot; the compiler does not read them.
    pub file: PathBuf,
}

/// The list files that a document declares, sorted by name, and what is wrong with the declarations.
///
/// Paths are taken relative to `directory`, the one the definition file lies in. A directory of lists contributes each
/// file in it that ends in `.txt`, `.csv`, `.jsonl` or nothing; files whose name begins with a dot are passed over. A
/// list declared by `list.NAME` wins over one of that name in the directory. A file that does not exist is a problem
/// and no list, so flags that refer to it are refused.
#[must_use]
pub fn resolve(document: &Document, directory: &Path) -> (Vec<ListFile>, Vec<Problem>) {
    let mut problems = Vec::new();
    let mut problem = |member: &str, message: String| {
        let pointer = format!("/metadata/{}", member.replace('~', "~0").replace('/', "~1"));
        let (line, column) = document.locate(&pointer).unwrap_or((1, 1));
        let file = document.name().to_owned();
        problems.push(Problem { severity: Severity::Error, file, line, column, flag: None, pointer, message });
    };
    let mut files = BTreeMap::new();
    for declaration in document.lists() {
        if let ListDeclaration::Directory { path } = declaration {
            match in_directory(&directory.join(path)) {
                Ok((found, twice)) => {
                    files.extend(found);
                    for name in twice {
                        problem("lists", format!("two files for the list {name:?}; the first by name counts"));
                    }
                }
                Err(error) => problem("lists", format!("{}: {error}", directory.join(path).display())),
            }
        }
    }
    for declaration in document.lists() {
        if let ListDeclaration::File { name, path } = declaration {
            let path = directory.join(path);
            let outcome = fs::metadata(&path).map_err(|error| error.to_string());
            match outcome.and_then(|file| if file.is_file() { Ok(()) } else { Err("no regular file".to_owned()) }) {
                Ok(()) => drop(files.insert(name.clone(), path)),
                Err(error) => {
                    files.remove(name);
                    problem(&format!("list.{name}"), format!("{}: {error}", path.display()));
                }
            }
        }
    }
    (files.into_iter().map(|(name, path)| ListFile { name, path }).collect(), problems)
}

/// The lists in a directory by name, and the names that more than one file has.
fn in_directory(directory: &Path) -> io::Result<(BTreeMap<String, PathBuf>, Vec<String>)> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if !hidden && ListFormat::of_ending(&path).is_some() && fs::metadata(&path).is_ok_and(|file| file.is_file()) {
            paths.push(path);
        }
    }
    paths.sort();
    let (mut files, mut twice) = (BTreeMap::new(), Vec::new());
    for path in paths {
        let Some(name) = path.file_stem().and_then(|stem| stem.to_str()).map(str::to_owned) else { continue };
        match files.entry(name) {
            Entry::Vacant(first) => drop(first.insert(path)),
            Entry::Occupied(first) => twice.push(first.key().clone()),
        }
    }
    Ok((files, twice))
}

/// How a list's file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ListFormat {
    /// One id a line; white space around it does not count.
    Text,
    /// The first column, comma-separated, quoted as RFC 4180 has it; a first line `id` is a header.
    Csv,
    /// On each line a JSON string, a number, or an object with either as `id`.
    JsonLines,
}

impl ListFormat {
    /// By the path's ending: `.csv`, `.jsonl`, else text.
    #[must_use]
    pub fn from_path(path: &Path) -> Self {
        Self::of_ending(path).unwrap_or(Self::Text)
    }

    fn of_ending(path: &Path) -> Option<Self> {
        let Some(ending) = path.extension() else { return Some(Self::Text) };
        Some(match ending.to_str()?.to_ascii_lowercase().as_str() {
            "txt" => Self::Text,
            "csv" => Self::Csv,
            "jsonl" => Self::JsonLines,
            _ => return None,
        })
    }
}

/// Why a list is refused. Displayed as a fragment, such as `ids.csv:7: not UTF-8`.
#[derive(Debug)]
#[non_exhaustive]
pub enum ListError {
    /// It can't be read.
    Io {
        /// The path tried.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// A line of it is no id.
    Line {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: u64,
        /// What was found and what was expected.
        message: String,
    },
}

impl fmt::Display for ListError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { path, error } => write!(f, "{}: {error}", path.display()),
            Self::Line { path, line, message } => write!(f, "{}:{line}: {message}", path.display()),
        }
    }
}

impl std::error::Error for ListError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { error, .. } => Some(error),
            Self::Line { .. } => None,
        }
    }
}

/// The longest line, in bytes: an id, or a JSON object with one in it.
const LONGEST_LINE: usize = 64 << 10;

/// Hands each id of the list at `path` to `id`, in the order of the file; gives how many there were.
///
/// An id is its text: a number of a `.jsonl` file is what a rule's number is as text (whole numbers keep all their
/// digits). Nothing is kept of a list but the line being read. Blank lines and a byte order mark are passed over;
/// repeated ids are handed out each time.
///
/// # Errors
/// At the first line that is no id, is not UTF-8 or is longer than 64 KiB, and at the first id beyond
/// [`Limits::list_ids`]; whatever was handed out before is then to be thrown away.
pub fn read_ids(path: &Path, limits: &Limits, id: impl FnMut(&str)) -> Result<u64, ListError> {
    let failed = |error| ListError::Io { path: path.to_owned(), error };
    let file = File::open(path).map_err(failed)?;
    if file.metadata().map_err(failed)?.is_dir() {
        return Err(failed(io::ErrorKind::IsADirectory.into()));
    }
    read_ids_from(BufReader::with_capacity(256 << 10, file), path, ListFormat::from_path(path), limits, id)
}

/// As [`read_ids`], from anything that can be read; `path` is what errors call it.
///
/// # Errors
/// As [`read_ids`].
pub fn read_ids_from(
    mut lines: impl BufRead,
    path: &Path,
    format: ListFormat,
    limits: &Limits,
    mut id: impl FnMut(&str),
) -> Result<u64, ListError> {
    let mut buffer = Vec::new();
    let (mut line, mut count) = (0_u64, 0_u64);
    let mut first = true;
    loop {
        buffer.clear();
        let most = LONGEST_LINE as u64 + 2;
        let read = lines.by_ref().take(most).read_until(b'\n', &mut buffer);
        if read.map_err(|error| ListError::Io { path: path.to_owned(), error })? == 0 {
            return Ok(count);
        }
        line += 1;
        let refuse = |message: String| ListError::Line { path: path.to_owned(), line, message };
        let mut bytes = buffer.strip_suffix(b"\n").unwrap_or(&buffer);
        if line == 1 {
            bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        }
        if bytes.len() > LONGEST_LINE {
            return Err(refuse(format!("a line longer than {LONGEST_LINE} bytes, the limit")));
        }
        let text = std::str::from_utf8(bytes).map_err(|_| refuse("not UTF-8".to_owned()))?;
        let text = text.trim_ascii();
        if text.is_empty() {
            continue;
        }
        let header = std::mem::replace(&mut first, false) && format == ListFormat::Csv;
        let mut hand_out = |text: &str| {
            if header && text == "id" {
                return Ok(());
            }
            if text.is_empty() {
                return Err("an empty id; expected at least one character".to_owned());
            }
            count += 1;
            if count > limits.list_ids as u64 {
                return Err(format!("more than {} ids, the limit", limits.list_ids));
            }
            id(text);
            Ok(())
        };
        match format {
            ListFormat::Text => hand_out(text),
            ListFormat::Csv => csv_id(text, hand_out),
            ListFormat::JsonLines => json_id(text, &mut hand_out),
        }
        .map_err(refuse)?;
    }
}

/// The first column of a line.
fn csv_id(line: &str, mut hand_out: impl FnMut(&str) -> Result<(), String>) -> Result<(), String> {
    let Some(quoted) = line.strip_prefix('"') else {
        return hand_out(line.split(',').next().unwrap_or_default().trim_ascii());
    };
    let mut id = String::new();
    let mut rest = quoted;
    loop {
        let Some((before, after)) = rest.split_once('"') else {
            return Err("a quoted column that does not end on its line; expected `\"`".to_owned());
        };
        id.push_str(before);
        rest = after;
        match rest.strip_prefix('"') {
            Some(more) => {
                id.push('"');
                rest = more;
            }
            None if rest.is_empty() || rest.trim_ascii_start().starts_with(',') => return hand_out(&id),
            None => return Err("expected `,` or the end of the line after a quoted column".to_owned()),
        }
    }
}

/// A line of JSON: text, a number, or an object with either as `id`.
fn json_id(line: &str, hand_out: &mut dyn FnMut(&str) -> Result<(), String>) -> Result<(), String> {
    // Most lines are plain text.
    if let Some(inner) = line.strip_prefix('"').and_then(|line| line.strip_suffix('"'))
        && !inner.bytes().any(|byte| byte < 0x20 || byte == b'"' || byte == b'\\')
    {
        return hand_out(inner);
    }
    let fault = |fault: super::json::Fault| format!("not JSON: column {}: {}", fault.at + 1, fault.message);
    let mut value = line;
    let mut scanner = Scanner::new(line);
    if scanner.peek() == Some(b'{') {
        let mut found = None;
        let outcome = scanner.members(|scanner, name, _| {
            let start = scanner.skip()?;
            if name.decode().0 == "id" {
                found = Some(scanner.slice(start));
            }
            Ok(())
        });
        outcome.and_then(|()| scanner.end()).map_err(fault)?;
        value = found.ok_or("an object without `id`")?;
    }
    let tape = Tape::parse(value, LONGEST_LINE).map_err(fault)?;
    match tape.token(0) {
        Token::Text(text) if tape.not_unicode().is_empty() => hand_out(text),
        Token::Text(_) => Err("text with a lone surrogate in it, which is no character".to_owned()),
        Token::Number(spelling) if !spelling.contains(['.', 'e', 'E']) && *spelling != "-0" => hand_out(spelling),
        Token::Number(spelling) => hand_out(&number::to_text(number::parse(spelling)?)),
        _ => Err("expected text, a number, or an object with either as `id`".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Format;
    use super::*;

    fn read(format: ListFormat, bytes: &[u8]) -> Result<Vec<String>, String> {
        let mut ids = Vec::new();
        let limits = Limits { list_ids: 5, ..Limits::default() };
        let count = read_ids_from(bytes, Path::new("ids"), format, &limits, |id| ids.push(id.to_owned()));
        let count = count.map_err(|error| error.to_string())?;
        assert_eq!(count, ids.len() as u64);
        Ok(ids)
    }

    #[test]
    fn text_lists_hold_an_id_a_line() {
        let ids = read(ListFormat::Text, b"\xef\xbb\xbfa\r\n\n  b c \n\"d\"\n\xc3\xa9,x").unwrap();
        assert_eq!(ids, ["a", "b c", "\"d\"", "é,x"]);
        assert_eq!(read(ListFormat::Text, b"").unwrap(), [""; 0]);
        assert_eq!(read(ListFormat::Text, b"id\n").unwrap(), ["id"]);
    }

    #[test]
    fn csv_lists_hold_ids_in_the_first_column() {
        let ids = read(ListFormat::Csv, b"id,name\na,1\n \"b,\"\"c\" , 2\nd\n\nid\n").unwrap();
        assert_eq!(ids, ["a", "b,\"c", "d", "id"]);
        assert_eq!(read(ListFormat::Csv, b"\xef\xbb\xbf\n\"id\"\r\na\r\n").unwrap(), ["a"]);
        for (wrong, message) in [
            (&b"a\n,b"[..], "ids:2: an empty id; expected at least one character"),
            (b"a\n\n\"b", "ids:3: a quoted column that does not end on its line; expected `\"`"),
            (b"\"b\"c", "ids:1: expected `,` or the end of the line after a quoted column"),
        ] {
            assert_eq!(read(ListFormat::Csv, wrong).unwrap_err(), message);
        }
    }

    #[test]
    fn json_lines_hold_text_numbers_or_objects() {
        let lines = b"\"a\"\n\n12345678901234567890\n{\"x\": [1], \"id\": \"\\u00e9\"}\n 1.50\n{\"id\":2e0}\n";
        assert_eq!(read(ListFormat::JsonLines, lines).unwrap(), ["a", "12345678901234567890", "é", "1.5", "2"]);
        for (wrong, message) in [
            (&b"\"a\"\nnull"[..], "ids:2: expected text, a number, or an object with either as `id`"),
            (b"{\"id\": [1]}", "ids:1: expected text, a number, or an object with either as `id`"),
            (b"{}", "ids:1: an object without `id`"),
            (b"\"a\" \"b\"", "ids:1: not JSON: column 5: expected the end of the text, found `\"`"),
            (b"abc", "ids:1: not JSON: column 1: expected a value, found `a`"),
            (b"\"\"", "ids:1: an empty id; expected at least one character"),
            (b"\"\\ud800\"", "ids:1: text with a lone surrogate in it, which is no character"),
        ] {
            assert_eq!(read(ListFormat::JsonLines, wrong).unwrap_err(), message);
        }
    }

    #[test]
    fn bad_lines_are_named() {
        assert_eq!(read(ListFormat::Text, b"a\n\xff\n").unwrap_err(), "ids:2: not UTF-8");
        assert_eq!(read(ListFormat::Text, b"1\n2\n3\n4\n5\n6\n").unwrap_err(), "ids:6: more than 5 ids, the limit");
        let mut long = b"a\n".to_vec();
        long.resize(LONGEST_LINE + 2, b'x');
        assert_eq!(read(ListFormat::Text, &long).unwrap().len(), 2);
        long.resize(10 * LONGEST_LINE, b'x');
        assert_eq!(read(ListFormat::Text, &long).unwrap_err(), "ids:2: a line longer than 65536 bytes, the limit");
    }

    #[test]
    fn lists_are_found_where_the_definition_says() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("ids")).unwrap();
        for name in ["ids/a.txt", "ids/b.csv", "ids/b.txt", "ids/c", "ids/d.md", "ids/.e", "ids/f.jsonl", "own.txt"] {
            fs::write(at(name), "x\n").unwrap();
        }
        fs::create_dir(at("ids/g")).unwrap();
        let text = r#"{"flags": {}, "metadata": {
            "lists": "ids", "list.c": "./own.txt", "list.f": "none.txt", "list.dir": "ids"}}"#;
        let document = Document::parse("flags.json", text, Format::Json, &Limits::default()).unwrap();
        let (files, problems) = resolve(&document, folder.path());
        let names: Vec<_> = files.iter().map(|file| (&*file.name, file.path.clone())).collect();
        assert_eq!(names, [("a", at("ids/a.txt")), ("b", at("ids/b.csv")), ("c", at("own.txt"))]);
        let found: Vec<_> = problems.iter().map(|problem| (problem.line, problem.column, &*problem.pointer)).collect();
        assert_eq!(found, [(2, 22, "/metadata/lists"), (2, 62, "/metadata/list.f"), (2, 86, "/metadata/list.dir")]);
        assert_eq!(problems[0].message, "two files for the list \"b\"; the first by name counts");
        assert!(problems[1].message.contains("none.txt: No such file"), "{}", problems[1].message);
        assert!(problems[2].message.ends_with("ids: no regular file"), "{}", problems[2].message);
        let mut ids = Vec::new();
        let count = read_ids(&files[0].path, &Limits::default(), |id| ids.push(id.to_owned())).unwrap();
        assert_eq!((count, &*ids), (1, &["x".to_owned()][..]));
        assert!(matches!(read_ids(folder.path(), &Limits::default(), |_| ()), Err(ListError::Io { .. })));
    }

    #[test]
    fn lists_outside_of_the_definitions_directory_are_refused() {
        for path in ["/etc/passwd", "../x", "a/../../x", ""] {
            let text = format!(r#"{{"flags": {{}}, "metadata": {{"list.a": {path:?}}}}}"#);
            let document = Document::parse("f", text, Format::Json, &Limits::default()).unwrap();
            assert_eq!(document.lists(), []);
            assert_eq!(document.problems().len(), 1);
            assert_eq!(document.problems()[0].pointer, "/metadata/list.a");
        }
    }
}
