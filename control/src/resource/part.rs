//! Parts of id lists as they are stored: gzip in chunks, written before anything refers to them, and swept when nothing has for long.
//!
//! What was written for a list that never came to be is removed by who wrote it ([`Unused`]); the sweep is for what is left when that fails.

use std::fmt;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::sync::Arc;
use std::time::Duration;

use flags_sync::list::{Merge, PartHasher};
use flags_sync::{List, Part, PartHash};
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use tokio::runtime::Handle;

use crate::clock::now_ms;
use crate::problem::Problem;
use crate::store::{Store, StoreError, Transaction};

/// Bytes of one row.
const CHUNK_BYTES: usize = 256 << 10;

/// A part that was begun and that nothing refers to is swept after this long: whoever wrote it has failed.
const ABANDONED_MS: i64 = 3_600_000;

/// A part that no list is made of any more is there for so much longer: for hosts that are behind, and for what caches still hold.
const RETIRED_MS: i64 = 48 * 3_600_000;

/// How many rows are deleted in one transaction.
const SWEPT_AT_ONCE: i64 = 64;

/// Writes a part, from a thread that may block. Nothing refers to it yet.
pub(crate) struct PartWriter<'s> {
    store: &'s Store,
    /// Once something of it is stored.
    stored: Option<Arc<Unused>>,
    number: i64,
    packer: GzEncoder<Vec<u8>>,
    hasher: PartHasher,
    bytes: u64,
    ids: u64,
    is_dry: bool,
}

impl<'s> PartWriter<'s> {
    /// `is_dry`: it is only counted, and nothing stored.
    pub(crate) fn begin(store: &'s Store, is_dry: bool) -> Self {
        let packer = GzEncoder::new(Vec::with_capacity(2 * CHUNK_BYTES), Compression::fast());
        Self { store, stored: None, number: 0, packer, hasher: PartHasher::default(), bytes: 0, ids: 0, is_dry }
    }

    fn row(&mut self) -> Result<i64, StoreError> {
        if let Some(stored) = &self.stored {
            return Ok(stored.id);
        }
        let id = blocking(self.store.write(|transaction| {
            let id = transaction.new_id()?;
            let values = [id.into(), "".into(), now_ms().into()];
            transaction.execute("INSERT INTO part (id, sha256, created_ms) VALUES ($1, $2, $3)", &values)?;
            Ok::<_, StoreError>(id)
        }))?;
        self.stored = Some(Arc::new(Unused { store: self.store.clone(), id }));
        Ok(id)
    }

    /// The next id; they come in order.
    pub(crate) fn push(&mut self, id: &[u8]) -> Result<(), StoreError> {
        for bytes in [id, b"\n"] {
            self.hasher.update(bytes);
            self.packer.write_all(bytes).map_err(|error| StoreError::Broken(error.to_string()))?;
        }
        (self.bytes, self.ids) = (self.bytes + id.len() as u64 + 1, self.ids + 1);
        if self.packer.get_ref().len() >= CHUNK_BYTES {
            let chunk = std::mem::replace(self.packer.get_mut(), Vec::with_capacity(2 * CHUNK_BYTES));
            self.write(chunk)?;
        }
        Ok(())
    }

    /// `None` where there were no ids.
    pub(crate) fn finish(mut self, removes: bool) -> Result<Option<Written>, StoreError> {
        if self.ids == 0 {
            return Ok(None);
        }
        let packer = std::mem::replace(&mut self.packer, GzEncoder::new(Vec::new(), Compression::none()));
        let rest = packer.finish().map_err(|error| StoreError::Broken(error.to_string()))?;
        self.write(rest)?;
        let sha256 = self.hasher.finish();
        if let Some(stored) = &self.stored {
            let values = [sha256.to_string().into(), stored.id.into()];
            let sql = "UPDATE part SET sha256 = $1 WHERE id = $2";
            blocking(self.store.write(move |transaction| transaction.execute(sql, &values)))?;
        }
        let part = Part { sha256, bytes: self.bytes, ids: self.ids, removes };
        Ok(Some(Written { stored: self.stored, part }))
    }

    fn write(&mut self, chunk: Vec<u8>) -> Result<(), StoreError> {
        if self.is_dry {
            return Ok(());
        }
        let values = [self.row()?.into(), self.number.into(), chunk.as_slice().into()];
        let sql = "INSERT INTO part_chunk (part_id, number, bytes) VALUES ($1, $2, $3)";
        blocking(self.store.write(move |transaction| transaction.execute(sql, &values)))?;
        self.number += 1;
        Ok(())
    }
}

/// A part that is whole.
pub(crate) struct Written {
    /// In the database, if it was to be stored.
    pub(crate) stored: Option<Arc<Unused>>,
    /// What lists say of it.
    pub(crate) part: Part,
}

/// A stored part that no list may be made of yet. When nobody has it any more the database is asked, and it is removed where none is.
#[derive(Debug)]
pub(crate) struct Unused {
    store: Store,
    id: i64,
}

/// How long is waited for before each further try to remove a part; what the last one leaves is swept.
const REMOVED_AFTER_S: [u64; 8] = [0, 1, 2, 5, 30, 60, 300, 900];

impl Drop for Unused {
    fn drop(&mut self) {
        let Ok(runtime) = Handle::try_current() else { return };
        let (store, id) = (self.store.clone(), self.id);
        runtime.spawn(async move {
            for wait_s in REMOVED_AFTER_S {
                tokio::time::sleep(Duration::from_secs(wait_s)).await;
                match remove_unused(&store, id).await {
                    Ok(()) => return,
                    Err(error) => tracing::debug!("a part that nobody uses stays for now: {error}"),
                }
            }
        });
    }
}

async fn remove_unused(store: &Store, id: i64) -> Result<(), StoreError> {
    let work = move |transaction: &mut dyn Transaction| {
        let locks = transaction.for_update();
        if transaction.row(&format!("SELECT id FROM part WHERE id = $1{locks}"), &[id.into()])?.is_none() {
            return Ok(0);
        }
        // Asked after the lock, so that a transaction that waited for is seen.
        match transaction.row("SELECT part_id FROM part_use WHERE part_id = $1 LIMIT 1", &[id.into()])? {
            Some(_) => Ok(0),
            None => remove_some(transaction, id),
        }
    };
    while store.write(work).await? > 0 {}
    Ok(())
}

/// What a list is to be made of.
#[derive(Clone, Debug)]
pub(crate) struct NewList {
    pub(crate) list: List,
    /// The part of it that is new, where there is one and it is stored.
    pub(crate) part: Option<Arc<Unused>>,
}

impl NewList {
    pub(crate) fn part_id(&self) -> Option<i64> {
        self.part.as_ref().map(|part| part.id)
    }
}

/// Writes a list of all ids that come as one part, from a thread that may block.
///
/// # Errors
/// Where the ids can't be read; [`Stored`] within where they can't be stored.
pub(crate) fn write_list<L: BufRead>(store: &Store, ids: &mut Merge<L>, is_dry: bool) -> io::Result<NewList> {
    let mut writer = PartWriter::begin(store, is_dry);
    while let Some(id) = ids.next_id()? {
        writer.push(id).map_err(Stored::within)?;
    }
    let (part, parts) = match writer.finish(false).map_err(Stored::within)? {
        Some(Written { stored, part }) => (stored, vec![part]),
        None => (None, Vec::new()),
    };
    Ok(NewList { list: List { ids: parts.iter().map(|part| part.ids).sum(), parts }, part })
}

/// What the database said to who writes, on its way through [`io::Error`].
#[derive(Debug)]
pub(crate) struct Stored(pub(crate) StoreError);

impl Stored {
    pub(crate) fn within(error: StoreError) -> io::Error {
        io::Error::other(Self(error))
    }
}

impl fmt::Display for Stored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Stored {}

/// The ids of a stored part, one a line, to be read by a thread that may block.
pub(crate) type PartText = BufReader<GzDecoder<Chunks>>;

/// The gzip file that a part is stored as.
#[derive(Debug)]
pub(crate) struct Chunks {
    store: Store,
    id: i64,
    number: i64,
    chunk: io::Cursor<Vec<u8>>,
}

impl Read for Chunks {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        loop {
            let read = self.chunk.read(to)?;
            if read > 0 || to.is_empty() {
                return Ok(read);
            }
            match blocking(chunk(&self.store, self.id, self.number)).map_err(io::Error::other)? {
                Some(bytes) => (self.chunk, self.number) = (io::Cursor::new(bytes), self.number + 1),
                None => return Ok(0),
            }
        }
    }
}

/// The parts of a segment's list, as [`flags_sync::list::Merge`] takes them.
pub(crate) fn texts(store: &Store, segment_id: i64, list: &List) -> Result<Vec<(PartText, bool)>, StoreError> {
    let mut texts = Vec::with_capacity(list.parts.len());
    for part in &list.parts {
        let sha256 = part.sha256;
        let found = blocking(store.read(move |transaction| {
            let sql =
                "SELECT part.id FROM part_use JOIN part ON part.id = part_id WHERE segment_id = $1 AND sha256 = $2";
            transaction
                .row(sql, &[segment_id.into(), sha256.to_string().into()])?
                .map(|mut row| row.integer(0))
                .transpose()
        }))?;
        let id = found.ok_or_else(|| StoreError::Broken(format!("the part {sha256} is missing")))?;
        let chunks = Chunks { store: store.clone(), id, number: 0, chunk: io::Cursor::default() };
        texts.push((BufReader::with_capacity(64 << 10, GzDecoder::new(chunks)), part.removes));
    }
    Ok(texts)
}

/// The part of an environment that has this name.
pub(crate) fn find(
    transaction: &mut dyn Transaction,
    environment_id: i64,
    sha256: PartHash,
) -> Result<Option<i64>, StoreError> {
    let sql =
        "SELECT part.id FROM part JOIN part_use ON part.id = part_id WHERE sha256 = $1 AND environment_id = $2 LIMIT 1";
    transaction.row(sql, &[sha256.to_string().into(), environment_id.into()])?.map(|mut row| row.integer(0)).transpose()
}

/// One chunk of a part; `None` behind the last one.
pub(crate) async fn chunk(store: &Store, id: i64, number: i64) -> Result<Option<Vec<u8>>, StoreError> {
    let work = move |transaction: &mut dyn Transaction| {
        let sql = "SELECT bytes FROM part_chunk WHERE part_id = $1 AND number = $2";
        transaction.row(sql, &[id.into(), number.into()])?.map(|mut row| row.bytes(0)).transpose()
    };
    store.read(work).await
}

/// A segment's list is made of a part from now on.
pub(crate) fn take(
    transaction: &mut dyn Transaction,
    environment_id: i64,
    segment_id: i64,
    id: i64,
) -> Result<(), Problem> {
    // Against the sweeper, which may just think it abandoned.
    let kept = transaction
        .execute("UPDATE part SET created_ms = $1 WHERE id = $2 AND sha256 <> ''", &[now_ms().into(), id.into()])?;
    if kept == 0 {
        return Err(StoreError::Unavailable("an upload took so long that its beginning was swept".to_owned()).into());
    }
    let sql = "INSERT INTO part_use (segment_id, part_id, environment_id) VALUES ($1, $2, $3)";
    transaction.execute(sql, &[segment_id.into(), id.into(), environment_id.into()])?;
    Ok(())
}

/// A copy of a segment is made of the same parts.
pub(crate) fn share(transaction: &mut dyn Transaction, from_segment: i64, to: (i64, i64)) -> Result<(), StoreError> {
    let sql = "INSERT INTO part_use (segment_id, part_id, environment_id) SELECT $1, part_id, $2 FROM part_use \
               WHERE segment_id = $3 AND retired_ms IS NULL";
    transaction.execute(sql, &[to.1.into(), to.0.into(), from_segment.into()]).map(drop)
}

/// A segment's list is made of these parts alone.
pub(crate) fn retire_others(transaction: &mut dyn Transaction, segment_id: i64, list: &List) -> Result<(), StoreError> {
    let sql = "SELECT part.id, sha256 FROM part_use JOIN part ON part.id = part_id WHERE segment_id = $1 AND retired_ms IS NULL";
    for mut row in transaction.rows(sql, &[segment_id.into()])? {
        let (id, sha256) = (row.integer(0)?, row.text(1)?);
        if !list.parts.iter().any(|part| part.sha256.to_string() == sha256) {
            let sql = "UPDATE part_use SET retired_ms = $1 WHERE segment_id = $2 AND part_id = $3";
            transaction.execute(sql, &[now_ms().into(), segment_id.into(), id.into()])?;
        }
    }
    Ok(())
}

/// Deletes what nothing has referred to for long, a few rows at a time; how many rows went.
pub(crate) async fn sweep(store: &Store) -> Result<u64, StoreError> {
    let now = now_ms();
    let work = move |transaction: &mut dyn Transaction| {
        let retired = [(now - RETIRED_MS).into()];
        let mut gone = transaction.execute("DELETE FROM part_use WHERE retired_ms < $1", &retired)?;
        let sql = "SELECT id FROM part WHERE created_ms < $1 AND NOT EXISTS (SELECT 1 FROM part_use WHERE part_id = part.id) LIMIT 1";
        let locks = transaction.for_update();
        let Some(mut row) = transaction.row(&format!("{sql}{locks}"), &[(now - ABANDONED_MS).into()])? else {
            return Ok(gone);
        };
        let id = row.integer(0)?;
        gone += remove_some(transaction, id)?;
        Ok::<_, StoreError>(gone)
    };
    store.write(work).await
}

/// Deletes some of the rows of a part that is locked, and the part with the last of them; how many rows went.
fn remove_some(transaction: &mut dyn Transaction, id: i64) -> Result<u64, StoreError> {
    // What is half gone is not taken by a slow upload.
    transaction.execute("UPDATE part SET sha256 = '' WHERE id = $1", &[id.into()])?;
    let sql = "DELETE FROM part_chunk WHERE part_id = $1 AND number IN \
               (SELECT number FROM part_chunk WHERE part_id = $1 ORDER BY number LIMIT $2)";
    match transaction.execute(sql, &[id.into(), SWEPT_AT_ONCE.into()])? {
        0 => transaction.execute("DELETE FROM part WHERE id = $1", &[id.into()]),
        chunks => Ok(chunks),
    }
}

fn blocking<T>(work: impl Future<Output = T>) -> T {
    Handle::current().block_on(work)
}
