//! Where flags come from: a published store, a definition file compiled here, or a single segment file.

use std::{
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

use clap::Args;
use libflags::{
    Client, Error, Pinned, Snapshot,
    definition::Problem,
    store::{Files, Payload, Region, SegmentFile},
};

use crate::failure::Failure;

/// Which store is meant.
#[derive(Args, Clone, Debug)]
pub(crate) struct StoreArguments {
    /// The store: a set's directory, as in `flagsd run --store DIR`
    #[arg(long, value_name = "DIR")]
    pub(crate) store: Option<PathBuf>,
}

/// Which store or definition file is meant.
#[derive(Args, Clone, Debug)]
pub(crate) struct SourceArguments {
    #[command(flatten)]
    pub(crate) store: StoreArguments,
    /// Compile a definition file instead of reading a store
    #[arg(long, value_name = "FILE", conflicts_with = "store")]
    pub(crate) file: Option<PathBuf>,
}

/// Flags, wherever they came from.
#[derive(Debug)]
pub(crate) struct Flags {
    content: Content,
    /// What is wrong with the definition they were compiled from.
    pub(crate) problems: Vec<Problem>,
}

#[derive(Debug)]
enum Content {
    Pinned(Pinned),
    Segment(Box<Snapshot>),
}

/// What a file or directory is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FileKind {
    /// A set's directory.
    Store,
    /// A control page.
    Control,
    /// A segment file.
    Segment,
    /// An id list as it lies in a store.
    IdList,
    /// Anything else: a definition, it is hoped.
    Definition,
}

impl StoreArguments {
    /// The client of the store.
    pub(crate) fn client(&self) -> Result<Client, Failure> {
        Ok(Client::open(self.store.as_deref())?)
    }

    /// The directories in which the store may be, the likeliest first: the one given, the one found, or all that were tried.
    pub(crate) fn directories(&self) -> Vec<PathBuf> {
        if let Some(store) = &self.store {
            return vec![store.clone()];
        }
        match Client::open(None) {
            Ok(client) => client.status().path.into_iter().collect(),
            Err(Error::NothingPublished { path }) => vec![path],
            Err(Error::NoStore { tried }) => tried.into_iter().map(|(path, _)| path).collect(),
            Err(_) => std::env::var_os("FLAGS_STORE").map(PathBuf::from).into_iter().collect(),
        }
    }
}

impl Flags {
    /// Those of a pinned version.
    pub(crate) fn pinned(pinned: Pinned) -> Self {
        Self { content: Content::Pinned(pinned), problems: Vec::new() }
    }

    /// Those of a definition file, and the client that compiled them.
    pub(crate) fn compile(path: &Path) -> Result<(Client, Self), Failure> {
        let client = Client::from_file(path)?;
        // A client says what is wrong when it reads the file again.
        let problems = client.reload()?;
        let flags = Self { content: Content::Pinned(client.snapshot()), problems };
        Ok((client, flags))
    }

    /// Those at `path`: a store, a segment file or a definition file.
    pub(crate) fn at(path: &Path) -> Result<Self, Failure> {
        match FileKind::of(path)? {
            FileKind::Store => Ok(Self::pinned(Client::open(Some(path))?.snapshot())),
            FileKind::Control => Err(Failure::new(format!("{} is a control page", path.display()))
                .hint("name the set's directory to read the flags it points at")),
            FileKind::IdList => Err(Failure::new(format!("{} is an id list, not flags", path.display()))),
            FileKind::Segment => {
                let snapshot = open_segment(path, &SegmentFile::read(path)?)?;
                Ok(Self { content: Content::Segment(Box::new(snapshot)), problems: Vec::new() })
            }
            FileKind::Definition => Ok(Self::compile(path)?.1),
        }
    }

    /// The flags; `None` where a store's client had none.
    pub(crate) fn snapshot(&self) -> Option<&Snapshot> {
        match &self.content {
            Content::Pinned(pinned) => pinned.flags(),
            Content::Segment(snapshot) => Some(snapshot),
        }
    }
}

impl SourceArguments {
    /// A client and its flags now.
    pub(crate) fn open(&self) -> Result<(Client, Flags), Failure> {
        match &self.file {
            Some(file) => Flags::compile(file),
            None => {
                let client = self.store.client()?;
                let flags = Flags::pinned(client.snapshot());
                Ok((client, flags))
            }
        }
    }
}

/// The flags of a segment file; the id lists they name are looked for beside it.
pub(crate) fn open_segment(path: &Path, segment: &SegmentFile) -> Result<Snapshot, Failure> {
    let beside = Beside(path.parent().unwrap_or(Path::new(".")).to_owned());
    Ok(Snapshot::open(segment.payload.clone(), &beside, None)?)
}

/// The files in a directory.
struct Beside(PathBuf);

impl Files for Beside {
    fn file(&self, name: &str) -> Result<Region, Error> {
        let path = self.0.join(name);
        match std::fs::read(&path) {
            Ok(bytes) => Ok(Region::copy_of(&bytes)),
            Err(source) => Err(Error::Io { action: "read", path, source }),
        }
    }
}

impl FileKind {
    /// What lies at `path`, by its first bytes.
    pub(crate) fn of(path: &Path) -> Result<Self, Failure> {
        let failed = |error: std::io::Error| Failure::new(format!("cannot read {}: {error}", path.display()));
        let mut file = File::open(path).map_err(failed)?;
        if file.metadata().map_err(failed)?.is_dir() {
            return Ok(Self::Store);
        }
        let mut magic = Vec::new();
        file.by_ref().take(8).read_to_end(&mut magic).map_err(failed)?;
        Ok(match magic.as_slice() {
            b"FLAGSSEG" => Self::Segment,
            b"FLAGSCTL" => Self::Control,
            b"FLAGLST1" => Self::IdList,
            _ => Self::Definition,
        })
    }
}
