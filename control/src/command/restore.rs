//! `flags-control restore`: an older state, which hosts take because it is of a new epoch.
//!
//! ```text
//! backup ──► a copy beside the database: tables up to date, new epoch ──► renamed into its place
//! ```
//!
//! Killed at any moment, what was there is there, or the whole of the new.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::Context;
use clap::Args;

use super::failed;
use crate::config::{Config, Flags};
use crate::resource::environment::{self, Replaced};
use crate::store::{Direction, Location, Store, sqlite_file};

#[derive(Args, Debug)]
pub(crate) struct Restore {
    /// What `backup` has written; for PostgreSQL nothing: its own tools have restored it, and a new epoch begins
    file: Option<PathBuf>,
    /// Overwrite the database that is there, which nobody may be using
    #[arg(long)]
    replace: bool,
    #[command(flatten)]
    pub(crate) flags: Flags,
}

impl Restore {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let config = Config::load(&self.flags)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let environments = match (config.database, self.file) {
            (Location::Sqlite(path), Some(file)) => {
                // Held until the end: nobody opens it meanwhile.
                let replaced = sqlite_file::Claimed::claim(&path, self.replace)?;
                let copy = sqlite_file::copy_beside(&file, &path).with_context(|| file.display().to_string())?;
                let location = Location::Sqlite(copy.path().to_owned());
                let environments = runtime.block_on(begin_epoch(&location, replaced.environments()?))?;
                copy.put_in_place(&path)?;
                environments
            }
            (Location::Sqlite(_), None) => {
                anyhow::bail!("what is to be restored? Name a file that `backup` has written")
            }
            (Location::Postgres(_), Some(_)) => {
                anyhow::bail!("a PostgreSQL database is restored by pg_restore; then run this without a file")
            }
            (location @ Location::Postgres(_), None) => runtime.block_on(begin_epoch(&location, BTreeMap::new()))?,
        };
        for (path, epoch, revision) in environments {
            println!("{path}: epoch {epoch}, revision {revision}");
        }
        Ok(())
    }
}

async fn begin_epoch(
    location: &Location,
    replaced: BTreeMap<Vec<u8>, Replaced>,
) -> anyhow::Result<Vec<(String, u64, u64)>> {
    let (store, _news) = Store::open(location)?;
    store.migrate(Direction::Up).await?;
    store.write(move |transaction| environment::begin_epoch(transaction, &replaced)).await.map_err(failed)
}
