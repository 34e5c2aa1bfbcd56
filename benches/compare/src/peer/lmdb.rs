//! LMDB: a B-tree in a mapped file, read in transactions. A key's value is one byte.

use std::collections::HashMap;
use std::path::Path;

use anyhow::{Context as _, Result};
use heed::types::{Bytes, Str};
use heed::{CommitOrAbort, Database, Env, EnvFlags, EnvOpenOptions};

pub(crate) struct Store {
    env: Env,
    flags: Database<'static, Str, Bytes>,
}

impl Store {
    pub(crate) fn new(folder: &Path, values: &HashMap<String, bool>) -> Result<Self> {
        let mut options = EnvOpenOptions::new();
        options.map_size(256 << 20);
        // SAFETY: without syncs a power cut may cost the store, as it costs every contender's: all are in memory here.
        let options = unsafe { options.flags(EnvFlags::NO_SYNC) };
        // SAFETY: the folder is this program's alone, and opened once.
        let env = unsafe { options.open(folder) }.context("cannot open LMDB's store")?;
        let flags = env
            .create_databases_and_commit(env.write_txn()?, |opener, transaction| {
                opener.create_database(transaction, None).map(CommitOrAbort::<_, ()>::Commit)
            })?
            .unwrap_commit();
        let store = Self { env, flags };
        let mut transaction = store.env.write_txn()?;
        for (key, value) in values {
            store.flags.put(&mut transaction, key, &[u8::from(*value)])?;
        }
        transaction.commit()?;
        Ok(store)
    }

    pub(crate) fn put(&self, key: &str, value: bool) -> Result<()> {
        let mut transaction = self.env.write_txn()?;
        self.flags.put(&mut transaction, key, &[u8::from(value)])?;
        Ok(transaction.commit()?)
    }

    /// One key in a transaction of its own, as a check that must see the newest version has to.
    pub(crate) fn is_on(&self, key: &str) -> bool {
        let Ok(transaction) = self.env.read_txn() else { return false };
        matches!(self.flags.get(&transaction, key), Ok(Some([1])))
    }
}
