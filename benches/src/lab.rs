//! What the rows share: stores to read, and how long to measure.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context as _, Result};
use libflags::Client;
use tempfile::TempDir;

use crate::control::{Cost, Database, Reported, Seen, Uploaded};
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
    /// flags-control, and `benches/c/visible.c`: the rows of the control plane.
    pub(crate) control: Option<PathBuf>,
    pub(crate) c_visible: Option<PathBuf>,
    folder: TempDir,
    /// Where what is written has to reach a disk.
    disk: TempDir,
    /// The stores made so far, by name: rows share them.
    stores: Mutex<BTreeMap<String, PathBuf>>,
    kept: Mutex<Kept>,
}

/// What the control plane's rows share.
#[derive(Default)]
struct Kept {
    /// By their number of flags.
    databases: BTreeMap<usize, Database>,
    seen: BTreeMap<String, Vec<Seen>>,
    costs: Option<Vec<Cost>>,
    uploads: Option<Vec<Uploaded>>,
    reported: Option<Reported>,
    /// What is to be said about the row that is measured.
    note: String,
}

/// The programs that rows need; a row whose program is not named is left out.
#[derive(Clone, Debug, Default)]
pub(crate) struct Programs {
    pub(crate) c: Option<PathBuf>,
    pub(crate) c_visible: Option<PathBuf>,
    pub(crate) flagsd: Option<PathBuf>,
    pub(crate) control: Option<PathBuf>,
    pub(crate) python_path: Option<PathBuf>,
}

impl Lab {
    pub(crate) fn new(effort: Effort, programs: Programs) -> Result<Self> {
        // Stores live in memory, as /run does.
        let memory = Path::new("/dev/shm");
        let folder = if memory.is_dir() { TempDir::new_in(memory) } else { TempDir::new() };
        Ok(Self {
            effort,
            c_program: programs.c,
            flagsd: programs.flagsd,
            python_path: programs.python_path,
            control: programs.control,
            c_visible: programs.c_visible,
            folder: folder.context("cannot make a folder")?,
            // What is to outlive a restart of the machine lies there by custom, so it is no memory.
            disk: TempDir::new_in("/var/tmp").context("cannot make a folder")?,
            stores: Mutex::default(),
            kept: Mutex::default(),
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

    /// A fresh folder on the disk.
    pub(crate) fn disk(&self, name: &str) -> Result<PathBuf> {
        let folder = self.disk.path().join(name);
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        Ok(folder)
    }

    /// So many where it is measured, few where it is only checked.
    pub(crate) fn scaled(&self, number: usize) -> usize {
        if self.effort.repeats == Effort::FULL.repeats { number } else { number.min(48) }
    }

    /// A database with so many flags; `make` makes it in a folder when it is first asked for.
    pub(crate) fn database(&self, flags: usize, make: impl FnOnce(&Path) -> Result<Database>) -> Result<Database> {
        let mut kept = self.kept();
        if let Some(database) = kept.databases.get(&flags) {
            return Ok(database.clone());
        }
        let folder = self.disk(&format!("flags-{flags}"))?;
        let database = make(&folder).inspect_err(|_| drop(fs::remove_dir_all(&folder)))?;
        kept.databases.insert(flags, database.clone());
        Ok(database)
    }

    pub(crate) fn seen(&self, name: &str) -> Option<Vec<Seen>> {
        self.kept().seen.get(name).cloned()
    }

    pub(crate) fn keep_seen(&self, name: String, seen: Vec<Seen>) -> Vec<Seen> {
        self.kept().seen.insert(name, seen.clone());
        seen
    }

    pub(crate) fn costs(&self) -> Option<Vec<Cost>> {
        self.kept().costs.clone()
    }

    pub(crate) fn keep_costs(&self, costs: Vec<Cost>) -> Vec<Cost> {
        self.kept().costs = Some(costs.clone());
        costs
    }

    pub(crate) fn reported(&self) -> Option<Reported> {
        self.kept().reported.clone()
    }

    pub(crate) fn keep_reported(&self, reported: Reported) -> Reported {
        self.kept().reported = Some(reported.clone());
        reported
    }

    pub(crate) fn uploads(&self) -> Option<Vec<Uploaded>> {
        self.kept().uploads.clone()
    }

    pub(crate) fn keep_uploads(&self, uploads: Vec<Uploaded>) -> Vec<Uploaded> {
        self.kept().uploads = Some(uploads.clone());
        uploads
    }

    /// Says something about the row that is measured.
    pub(crate) fn note(&self, note: String) {
        self.kept().note = note;
    }

    pub(crate) fn take_note(&self) -> String {
        std::mem::take(&mut self.kept().note)
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
