//! A list of the control plane, written as a file.

use std::{
    fs::{self, File},
    io::{self, BufRead, BufReader, BufWriter, Seek, Write},
    path::{Path, PathBuf},
};

use serde_json::Value;

use super::path;
use crate::{control::client::Control, failure::Failure};

/// Writes the ids of a list into `folder`, which is there: `KEY.txt`, or `KEY.jsonl` where an id could not stand on a line as it is.
/// The file is put in place when it is whole.
pub(in crate::control) fn fetch(
    control: &Control,
    environment: &str,
    key: &str,
    segment: &Value,
    folder: &Path,
) -> Result<PathBuf, Failure> {
    // A file of another name could lie anywhere, or would not be taken for a list when it is read.
    let is_key = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if key.is_empty() || !key.bytes().all(is_key) || key.starts_with('.') {
        return Err(Failure::new(format!("{key:?} is no key of a segment, and gets no file")));
    }
    let ids = control.download(&path(control, environment, &[key, "ids"])?)?;
    let failed = |error: io::Error| Failure::new(format!("cannot write the ids of {key}: {error}"));
    let mut text = tempfile::NamedTempFile::new_in(folder).map_err(failed)?;
    let (count, is_plain) = copy(BufReader::new(ids), text.as_file_mut()).map_err(failed)?;
    if segment["ids"].as_u64() != Some(count) {
        let said = &segment["ids"];
        return Err(Failure::new(format!("{key} has changed meanwhile: {count} ids came, where there were {said}"))
            .hint("run it again"));
    }
    let (file, ending) = if is_plain {
        (text, "txt")
    } else {
        let mut lines = tempfile::NamedTempFile::new_in(folder).map_err(failed)?;
        as_json(text.as_file_mut(), lines.as_file_mut()).map_err(failed)?;
        (lines, "jsonl")
    };
    let path = folder.join(format!("{key}.{ending}"));
    // As any file that a program writes, not for its owner alone.
    fs::set_permissions(file.path(), std::os::unix::fs::PermissionsExt::from_mode(0o644)).map_err(failed)?;
    file.persist(&path).map_err(|error| failed(error.error))?;
    Ok(path)
}

/// How many lines there are, and whether each is an id when it is read as text.
fn copy(mut from: impl BufRead, to: &mut File) -> io::Result<(u64, bool)> {
    let (mut to, mut line) = (BufWriter::new(to), Vec::new());
    let (mut count, mut is_plain) = (0, true);
    while from.read_until(b'\n', &mut line)? > 0 {
        let id = line.strip_suffix(b"\n").ok_or(io::ErrorKind::UnexpectedEof)?;
        is_plain &= id.trim_ascii() == id && !id.starts_with("\u{feff}".as_bytes());
        count += 1;
        to.write_all(&line)?;
        line.clear();
    }
    to.flush()?;
    Ok((count, is_plain))
}

fn as_json(from: &mut File, to: &mut File) -> io::Result<()> {
    from.rewind()?;
    let mut to = BufWriter::new(to);
    for id in BufReader::new(from).lines() {
        serde_json::to_writer(&mut to, &id?)?;
        to.write_all(b"\n")?;
    }
    to.flush()
}
