//! LMDB through heed, each process with one environment of its own.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Result, ensure};
use heed::types::{Str, U32};
use heed::{CommitOrAbort, Database, Env, EnvOpenOptions, MdbError, byteorder::NativeEndian};

use crate::days;
use crate::system::{Meanwhile, System, Version, Written};

pub(crate) struct Lmdb;

pub(crate) struct Store {
    env: Env,
    numbers: Database<'static, Str, U32<NativeEndian>>,
}

fn open(folder: &Path) -> Result<Store, heed::Error> {
    let mut options = EnvOpenOptions::new();
    options.map_size(64 << 20);
    // SAFETY: nobody alters the files but LMDB, save where a test says so; no process opens them twice.
    let env = unsafe { options.open(folder)? };
    let numbers = env
        .create_databases_and_commit(env.write_txn()?, |opener, transaction| {
            opener.create_database(transaction, None).map(CommitOrAbort::<_, ()>::Commit)
        })?
        .unwrap_commit();
    Ok(Store { env, numbers })
}

impl Store {
    fn listed(&self, transaction: &heed::RoTxn<'_>) -> Result<Version> {
        let list: Result<Vec<u32>, heed::Error> =
            self.numbers.iter(transaction)?.map(|entry| entry.map(|(_, number)| number)).collect();
        Version::from_list(list?)
    }
}

impl System for Lmdb {
    const NAME: &'static str = "LMDB";
    type Writer = Store;
    type Reader = Store;

    fn writer(folder: &Path) -> Result<Store> {
        Ok(open(folder)?)
    }

    fn write(store: &mut Store, version: Version) -> Result<Written> {
        let mut transaction = store.env.write_txn()?;
        store.numbers.clear(&mut transaction)?;
        for index in 0..version.length {
            store.numbers.put(&mut transaction, &format!("flag-{index}"), &version.number)?;
        }
        transaction.commit()?;
        Ok(Written::default())
    }

    fn reader(folder: &Path) -> Result<Store> {
        Ok(open(folder)?)
    }

    fn read(store: &mut Store) -> Result<Version> {
        store.listed(&*store.env.read_txn()?)
    }

    fn hold(store: &mut Store, meanwhile: impl FnOnce() -> Result<Meanwhile>) -> Result<Version> {
        let transaction = store.env.read_txn()?;
        store.listed(&transaction)?;
        match meanwhile()? {
            Meanwhile::ReadOn => store.listed(&transaction),
            Meanwhile::LetGo => Ok(Version::of(0)),
        }
    }

    fn clear_dead_readers(store: &Store) -> Result<usize> {
        Ok(store.env.clear_stale_readers()?)
    }
}

/// A data file of another version, and one that is none.
pub(crate) fn foreign_format() -> Result<String> {
    /// Where a meta page has its magic number and the version after it: behind the page's header.
    const MAGIC: u64 = 16;
    let refused = |place: u64, bytes: &[u8]| -> Result<MdbError> {
        let folder = days::folder()?;
        days::write_once::<Lmdb>(folder.path(), Version::of(1))?;
        let file = File::options().write(true).open(folder.path().join("data.mdb"))?;
        for page in [0, 4096] {
            file.write_all_at(bytes, page + place)?;
        }
        match open(folder.path()) {
            Err(heed::Error::Mdb(error)) => Ok(error),
            Err(error) => Err(error.into()),
            Ok(_) => anyhow::bail!("it is not refused"),
        }
    };
    let version = refused(MAGIC + 4, &77_u32.to_ne_bytes())?;
    ensure!(matches!(version, MdbError::VersionMismatch), "another version: {version}");
    let magic = refused(MAGIC, &[0; 4])?;
    ensure!(matches!(magic, MdbError::Invalid), "no data file at all: {magic}");
    Ok("opening is refused and says why".to_owned())
}
