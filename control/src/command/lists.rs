//! Id lists as files beside a definition: read into parts of lists, and written out of them.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use flags_sync::list::Merge;
use libflags::definition::ListFormat;
use libflags::definition::lists::ListFile;

use super::failed;
use crate::ids::{self, Most};
use crate::resource::part::{self, NewList};
use crate::resource::segment::Segment;
use crate::store::Store;

/// Reads and stores the ids of files, from a thread that may block. Nothing refers to what is stored yet.
pub(super) fn read(
    store: &Store,
    files: &[ListFile],
    most: Most,
    is_dry: bool,
) -> anyhow::Result<BTreeMap<String, NewList>> {
    let mut lists = BTreeMap::new();
    for ListFile { name, path } in files {
        let why = || path.display().to_string();
        let file = File::open(path).with_context(why)?;
        ensure!(!file.metadata()?.is_dir(), "{}: it is a directory", path.display());
        let mut sorted = ids::sort(file, ListFormat::from_path(path), false, most).map_err(failed).with_context(why)?;
        lists.insert(name.clone(), part::write_list(store, &mut sorted.merge()?, is_dry)?);
    }
    Ok(lists)
}

/// Writes a file for each list into a folder of their own, which is made.
///
/// # Errors
/// Where there are other files in it, which would be taken for lists too.
pub(super) fn write(store: &Store, lists: &[Segment], folder: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    let mut written = Vec::new();
    for list in lists {
        // Text where every id can stand as a line of it.
        let file = match write_one(store, list, folder, ListFormat::Text)? {
            Some(file) => Some(file),
            None => write_one(store, list, folder, ListFormat::JsonLines)?,
        };
        written.extend(file);
    }
    for other in fs::read_dir(folder)? {
        let other = other?.path();
        if !written.contains(&other) {
            bail!("{} is not one of the lists, and would be taken for one: move it away", other.display());
        }
    }
    Ok(())
}

/// The list's file, put in place when it is whole; `None` where an id can't be written so.
fn write_one(store: &Store, list: &Segment, folder: &Path, format: ListFormat) -> anyhow::Result<Option<PathBuf>> {
    let ending = if format == ListFormat::Text { "txt" } else { "jsonl" };
    let path = folder.join(format!("{}.{ending}", list.key));
    let mut file = BufWriter::new(tempfile::NamedTempFile::new_in(folder)?);
    let mut ids = Merge::new(part::texts(store, list.id, &list.list)?)?;
    while let Some(id) = ids.next_id()? {
        let id = std::str::from_utf8(id).map_err(io::Error::other)?;
        if format != ListFormat::Text {
            serde_json::to_writer(&mut file, id)?;
            file.write_all(b"\n")?;
        } else if id.trim_ascii() == id && !id.starts_with('\u{feff}') {
            file.write_all(id.as_bytes())?;
            file.write_all(b"\n")?;
        } else {
            return Ok(None);
        }
    }
    let file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
    // As any file that a program writes, not for its owner alone.
    fs::set_permissions(file.path(), std::os::unix::fs::PermissionsExt::from_mode(0o644))?;
    file.persist(&path).with_context(|| path.display().to_string())?;
    Ok(Some(path))
}
