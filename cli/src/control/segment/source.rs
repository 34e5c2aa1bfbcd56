//! Where ids come from, read as they are sent.

use std::{
    fs::File,
    io::{self, Cursor, Read, Seek},
    path::Path,
};

use clap::ValueEnum;
use libflags::definition::ListFormat;

use super::progress::Progress;
use crate::{control::client::Streamed, failure::Failure};

/// How ids are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// One a line
    Text,
    /// The first column
    Csv,
    /// JSON on each line: an id, or an object with one
    Jsonl,
}

/// Ids on their way.
#[derive(Debug)]
pub(in crate::control) struct Ids {
    from: From,
    /// As people are told.
    name: String,
    format: Format,
    is_packed: bool,
    progress: Progress,
    failed: Option<io::Error>,
}

#[derive(Debug)]
enum From {
    File(File),
    Stdin,
    Arguments(Cursor<Vec<u8>>),
}

impl Ids {
    /// Those of a file, `-` for standard input. Unless `format` says how it is written, its name does.
    pub(super) fn of_file(name: &str, format: Option<Format>) -> Result<Self, Failure> {
        if name == "-" {
            return Ok(Self::new(From::Stdin, "standard input", format.unwrap_or(Format::Text), false, None));
        }
        let failed = |error: io::Error| Failure::new(format!("cannot read {name}: {error}"));
        let file = File::open(name).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        // A named pipe has no length.
        let total = metadata.is_file().then_some(metadata.len());
        let (named, is_packed) = named(name);
        Ok(Self::new(From::File(file), name, format.unwrap_or(named), is_packed, total))
    }

    /// Those of a file beside a definition.
    pub(in crate::control) fn of_list(path: &Path, format: ListFormat) -> Result<Self, Failure> {
        let name = path.display().to_string();
        let failed = |error: io::Error| Failure::new(format!("cannot read {name}: {error}"));
        let file = File::open(path).map_err(failed)?;
        let total = Some(file.metadata().map_err(failed)?.len());
        let format = match format {
            ListFormat::Csv => Format::Csv,
            ListFormat::JsonLines => Format::Jsonl,
            _ => Format::Text,
        };
        Ok(Self::new(From::File(file), &name, format, false, total))
    }

    /// These. As JSON, so that the control plane sees where one ends, whatever is in it.
    pub(super) fn given(ids: &[String]) -> Self {
        let lines: String = ids.iter().map(|id| format!("{}\n", serde_json::Value::from(id.as_str()))).collect();
        let total = Some(lines.len() as u64);
        Self::new(From::Arguments(Cursor::new(lines.into_bytes())), "the arguments", Format::Jsonl, false, total)
    }

    fn new(from: From, name: &str, format: Format, is_packed: bool, total: Option<u64>) -> Self {
        Self { from, name: name.to_owned(), format, is_packed, progress: Progress::begin(total), failed: None }
    }

    /// How many bytes were sent.
    ///
    /// # Errors
    /// Where they could not be read, which the control plane has only seen to break off.
    pub(in crate::control) fn end(&mut self) -> Result<u64, Failure> {
        let sent = self.progress.end();
        match self.failed.take() {
            Some(error) => Err(Failure::new(format!("cannot read {}: {error}; nothing was changed", self.name))),
            None => Ok(sent),
        }
    }
}

impl Read for Ids {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = match &mut self.from {
            From::File(file) => file.read(buffer),
            From::Stdin => io::stdin().lock().read(buffer),
            From::Arguments(lines) => lines.read(buffer),
        };
        match read {
            Ok(bytes) => {
                self.progress.advance(bytes as u64);
                Ok(bytes)
            }
            Err(error) => {
                let same = io::Error::new(error.kind(), error.to_string());
                self.failed = Some(error);
                Err(same)
            }
        }
    }
}

impl Streamed for Ids {
    fn content_type(&self) -> &'static str {
        match self.format {
            Format::Text => "text/plain",
            Format::Csv => "text/csv",
            Format::Jsonl => "application/x-ndjson",
        }
    }

    fn is_packed(&self) -> bool {
        self.is_packed
    }

    fn rewind(&mut self) -> io::Result<bool> {
        if self.progress.is_at_the_begin() {
            return Ok(true);
        }
        match &mut self.from {
            From::File(file) => file.rewind()?,
            From::Arguments(lines) => lines.set_position(0),
            From::Stdin => return Ok(false),
        }
        self.progress.again();
        Ok(true)
    }
}

/// What a file's name says of how it is written, and whether it is packed.
fn named(name: &str) -> (Format, bool) {
    let is = |name: &str, wanted: &[&str]| {
        let extension = Path::new(name).extension().and_then(|extension| extension.to_str()).unwrap_or_default();
        wanted.iter().any(|wanted| extension.eq_ignore_ascii_case(wanted))
    };
    let is_packed = is(name, &["gz"]);
    let unpacked = if is_packed { name.get(..name.len() - 3).unwrap_or_default() } else { name };
    if is(unpacked, &["csv"]) {
        (Format::Csv, is_packed)
    } else if is(unpacked, &["jsonl", "ndjson"]) {
        (Format::Jsonl, is_packed)
    } else {
        (Format::Text, is_packed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_how_a_file_is_written() {
        for (name, expected) in [
            ("vip", (Format::Text, false)),
            ("vip.gz", (Format::Text, true)),
            ("a.csv/vip.txt", (Format::Text, false)),
            ("VIP.CSV", (Format::Csv, false)),
            ("vip.ndjson.gz", (Format::Jsonl, true)),
            ("é.jsonl", (Format::Jsonl, false)),
        ] {
            assert_eq!(named(name), expected, "{name}");
        }
    }

    #[test]
    fn arguments_are_sent_one_a_line_whatever_is_in_them() {
        let mut ids = Ids::given(&["a".to_owned(), "b\n\"c".to_owned()]);
        let mut sent = String::new();
        for _ in 0..2 {
            sent.clear();
            ids.read_to_string(&mut sent).expect("read");
            assert_eq!(sent, "\"a\"\n\"b\\n\\\"c\"\n");
            assert!(ids.rewind().expect("back"));
        }
    }
}
