//! A SQLite database as a file: copied, and put in another one's place.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use super::StoreError;
use super::sqlite::error;
use crate::resource::environment::Replaced;

/// The database that is about to be replaced; locked, so that nobody uses it.
pub(crate) struct Claimed(Option<Connection>);

impl Claimed {
    /// # Errors
    /// Where there is a database and `may_replace` is false, where somebody uses it, and where it is no database.
    pub(crate) fn claim(path: &Path, may_replace: bool) -> Result<Self, StoreError> {
        let is_there = fs::metadata(path).is_ok_and(|metadata| metadata.len() > 0);
        if !is_there {
            return Ok(Self(None));
        }
        if !may_replace {
            return Err(StoreError::Broken(format!(
                "there is a database at {}: --replace overwrites it",
                path.display()
            )));
        }
        let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(error)?;
        connection.busy_timeout(Duration::ZERO).map_err(error)?;
        // This mode is only left while nobody else has the file open, and leaves it without a companion.
        leave_the_log(&connection, path)?;
        connection.execute_batch("BEGIN EXCLUSIVE").map_err(|why| in_use(path, &why))?;
        Ok(Self(Some(connection)))
    }

    /// Its environments, each by the seed that it was made with, which no other environment has.
    pub(crate) fn environments(&self) -> Result<BTreeMap<Vec<u8>, Replaced>, StoreError> {
        let Some(connection) = &self.0 else { return Ok(BTreeMap::new()) };
        // The latter of a database from before there was another key to rotate to. One without tables has none.
        let queries = [
            "SELECT origin, epoch, seed, next_seed FROM environment",
            "SELECT seed, epoch, seed, NULL FROM environment",
        ];
        let Some(mut statement) = queries.iter().find_map(|query| connection.prepare(query).ok()) else {
            return Ok(BTreeMap::new());
        };
        let epoch = |epoch: i64| u64::try_from(epoch).unwrap_or(0);
        let rows = statement.query_map([], |row| {
            let replaced = Replaced { epoch: epoch(row.get(1)?), seed: row.get(2)?, next_seed: row.get(3)? };
            Ok((row.get(0)?, replaced))
        });
        rows.map_err(error)?.collect::<Result<_, _>>().map_err(error)
    }
}

/// A copy of a database that is not in its place yet; it goes where that does not come to pass.
pub(crate) struct Copied(PathBuf);

/// Copies a database to a file beside `path`, writes that are still in its log included.
///
/// # Errors
/// Where it is no database of this program, or can't be copied.
pub(crate) fn copy_beside(from: &Path, path: &Path) -> Result<Copied, StoreError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".restoring");
    let copied = Copied(name.into());
    copied.remove();
    let source = Connection::open_with_flags(from, OpenFlags::SQLITE_OPEN_READ_ONLY).map_err(error)?;
    let is_ours = source.prepare("SELECT name FROM migration").is_ok();
    if !is_ours {
        return Err(StoreError::Broken("it is not a database of flags-control".to_owned()));
    }
    source.backup("main", &copied.0, None).map_err(error)?;
    Ok(copied)
}

impl Copied {
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Makes it the database at `path`; nobody has it open.
    pub(crate) fn put_in_place(self, path: &Path) -> Result<(), StoreError> {
        let copy = Connection::open_with_flags(&self.0, OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(error)?;
        // All of it has to be in the one file.
        leave_the_log(&copy, &self.0)?;
        copy.close().map_err(|(_, why)| error(why))?;
        let failed = |why: std::io::Error| StoreError::Broken(format!("{}: {why}", path.display()));
        File::open(&self.0).and_then(|file| file.sync_all()).map_err(failed)?;
        // The log of a database that is no more would be taken for this one's.
        for companion in companions(path) {
            let _ = fs::remove_file(companion);
        }
        fs::rename(&self.0, path).map_err(failed)?;
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)
    }

    fn remove(&self) {
        for file in companions(&self.0).into_iter().chain([self.0.clone()]) {
            let _ = fs::remove_file(file);
        }
    }
}

impl Drop for Copied {
    fn drop(&mut self) {
        self.remove();
    }
}

/// Brings what is in the write-ahead log into the file, which only works while nobody else has it open.
fn leave_the_log(connection: &Connection, path: &Path) -> Result<(), StoreError> {
    let mode = connection.query_row("PRAGMA journal_mode = DELETE", [], |row| row.get::<_, String>(0));
    match mode {
        Ok(mode) if mode == "delete" => Ok(()),
        Ok(mode) => Err(in_use(path, &format_args!("its journal stays in mode {mode}"))),
        Err(why) => Err(in_use(path, &why)),
    }
}

fn in_use(path: &Path, why: &dyn Display) -> StoreError {
    StoreError::Broken(format!("{} is in use, end flags-control there first: {why}", path.display()))
}

fn companions(path: &Path) -> [PathBuf; 2] {
    ["-wal", "-shm"].map(|ending| {
        let mut name = path.as_os_str().to_owned();
        name.push(ending);
        name.into()
    })
}
