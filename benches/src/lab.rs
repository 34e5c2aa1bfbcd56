//! What the rows share: stores to read, and how long to measure.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context as _, Result};
use libflags::Client;
use tempfile::TempDir;

use crate::measure::{Effort, Figures};

/// The figure that the design asks for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Target {
    /// The figure may be as large as this.
    AtMost(f64),
    /// The median may be as large as the first, the 99th percentile as the second.
    MedianAndP99AtMost(f64, f64),
    /// The figure must be as large as this.
    AtLeast(f64),
    /// The design names none.
    None,
}

impl Target {
    pub(crate) fn text(self) -> String {
        match self {
            Self::AtMost(limit) => format!("≤ {limit}"),
            Self::MedianAndP99AtMost(median, p99) => format!("≤ {median}, {p99}"),
            Self::AtLeast(limit) => format!("≥ {limit}"),
            Self::None => String::new(),
        }
    }

    pub(crate) fn is_met_by(self, figures: Figures) -> Option<bool> {
        match self {
            Self::AtMost(limit) => Some(figures.median <= limit),
            Self::MedianAndP99AtMost(median, p99) => Some(figures.median <= median && figures.p99 <= p99),
            Self::AtLeast(limit) => Some(figures.median >= limit),
            Self::None => None,
        }
    }
}

/// Where the measuring happens.
pub(crate) struct Lab {
    pub(crate) effort: Effort,
    pub(crate) c_program: Option<PathBuf>,
    pub(crate) flagsd: Option<PathBuf>,
    pub(crate) python_path: Option<PathBuf>,
    folder: TempDir,
    /// The stores made so far, by name: rows share them.
    stores: Mutex<BTreeMap<String, PathBuf>>,
}

impl Lab {
    pub(crate) fn new(
        effort: Effort,
        c_program: Option<PathBuf>,
        flagsd: Option<PathBuf>,
        python_path: Option<PathBuf>,
    ) -> Result<Self> {
        // Stores live in memory, as /run does.
        let memory = Path::new("/dev/shm");
        let folder = if memory.is_dir() { TempDir::new_in(memory) } else { TempDir::new() };
        Ok(Self {
            effort,
            c_program,
            flagsd,
            python_path,
            folder: folder.context("cannot make a folder")?,
            stores: Mutex::default(),
        })
    }

    /// A fresh folder.
    pub(crate) fn folder(&self, name: &str) -> Result<PathBuf> {
        let folder = self.folder.path().join(name);
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        Ok(folder)
    }

    /// The store called `name`, holding the flags of `definition`; made when it is first asked for.
    pub(crate) fn store(&self, name: &str, definition: impl FnOnce() -> String) -> Result<PathBuf> {
        self.store_made(name, |store| {
            crate::publish::Writer::new(store)?.publish(&crate::publish::document(&definition(), None)?)
        })
    }

    /// The store called `name`; `make` makes it when it is first asked for.
    pub(crate) fn store_made(&self, name: &str, make: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
        let mut stores = self.stores.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(store) = stores.get(name) {
            return Ok(store.clone());
        }
        let store = self.folder(name)?;
        make(&store)?;
        stores.insert(name.to_owned(), store.clone());
        Ok(store)
    }

    /// A client on that store.
    pub(crate) fn client(&self, name: &str, definition: impl FnOnce() -> String) -> Result<Client> {
        let store = self.store(name, definition)?;
        Client::open(Some(&store)).with_context(|| format!("cannot open the store {name}"))
    }
}
