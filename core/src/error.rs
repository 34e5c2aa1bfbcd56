//! What can go wrong outside an evaluation. (Evaluating never fails: it answers the caller's default and says why.)

use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::definition::DefinitionError;

/// Why something other than an evaluation failed. Its text is a lowercase fragment that fits after "failed to ..: ".
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// No store was found; every path tried, with the reason it was not used.
    NoStore {
        /// Set directories in the order they were tried.
        tried: Vec<(PathBuf, String)>,
    },
    /// There is a store, but no generation has been published in it yet.
    NothingPublished {
        /// The set directory.
        path: PathBuf,
    },
    /// The operating system refused an operation on a file.
    Io {
        /// What was being done, as a verb: "open", "map".
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// A file of the store belongs to somebody, or may be written by somebody, who could feed this process anything.
    Untrusted {
        /// The file.
        path: PathBuf,
        /// Its owner.
        uid: u32,
        /// Its permission bits.
        mode: u32,
        /// Which rule it breaks.
        reason: &'static str,
    },
    /// The bytes of a file are not what they must be: torn, cut short, altered, or not ours.
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What was expected and what was found.
        reason: String,
    },
    /// The file is of a format version that this library doesn't read.
    UnknownFormat {
        /// The file or directory.
        path: PathBuf,
        /// The version found there, as written.
        found: String,
        /// The version this library reads.
        supported: u32,
    },
    /// Another publisher holds the store.
    Locked {
        /// The lock file.
        path: PathBuf,
        /// Process id of the holder, where the lock file tells it.
        pid: Option<u32>,
    },
    /// The payload of a snapshot was refused by the layer that reads it.
    Payload(String),
    /// A definition file can't be read, or is no flag definition at all.
    Definition(DefinitionError),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::NoStore { tried } => {
                f.write_str("no flag store found; tried")?;
                for (position, (path, reason)) in tried.iter().enumerate() {
                    let separator = if position == 0 { " " } else { ", " };
                    write!(f, "{separator}{} ({reason})", path.display())?;
                }
                if tried.is_empty() {
                    f.write_str(" nothing")?;
                }
                Ok(())
            }
            Error::NothingPublished { path } => {
                write!(f, "nothing has been published in {} yet", path.display())
            }
            Error::Io { action, path, source } => write!(f, "cannot {action} {}: {source}", path.display()),
            Error::Untrusted { path, uid, mode, reason } => {
                write!(f, "{} is not trusted: {reason} (owner uid {uid}, mode {mode:04o})", path.display())
            }
            Error::Corrupt { path, reason } => write!(f, "{} is corrupt: {reason}", path.display()),
            Error::UnknownFormat { path, found, supported } => {
                write!(f, "{} has format version {found}, this library reads version {supported}", path.display())
            }
            Error::Locked { path, pid } => {
                write!(f, "another publisher holds {}", path.display())?;
                match pid {
                    Some(pid) => write!(f, " (process {pid})"),
                    None => Ok(()),
                }
            }
            Error::Payload(reason) => write!(f, "snapshot refused: {reason}"),
            Error::Definition(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::Io { source, .. } => Some(source),
            Error::Definition(error) => Some(error),
            _ => None,
        }
    }
}

impl From<DefinitionError> for Error {
    fn from(error: DefinitionError) -> Self {
        Self::Definition(error)
    }
}

impl Error {
    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>, source: impl Into<io::Error>) -> Self {
        Error::Io { action, path: path.into(), source: source.into() }
    }

    pub(crate) fn corrupt(path: impl Into<PathBuf>, reason: impl Into<String>) -> Self {
        Error::Corrupt { path: path.into(), reason: reason.into() }
    }

    /// The system's error kind, where the system is to blame.
    pub(crate) fn io_kind(&self) -> Option<io::ErrorKind> {
        match self {
            Error::Io { source, .. } => Some(source.kind()),
            _ => None,
        }
    }
}
