//! Why a whole document, or a list of ids, is refused.

use super::problem::{Problem, Severity};
use std::path::PathBuf;
use std::{fmt, io};

/// Why a document is refused whole. Displayed as a fragment, such as ``flags.json:3:5: expected `:`, found `,` ``.
#[derive(Debug)]
#[non_exhaustive]
pub enum DefinitionError {
    /// It can't be read.
    Io {
        /// The path tried.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// It is longer than a document may be.
    TooLong {
        /// The document's name.
        file: String,
        /// Its length; where that is unknown, how much of it was read.
        bytes: u64,
        /// The limit.
        limit: usize,
    },
    /// It is not UTF-8.
    NotUtf8 {
        /// The document's name.
        file: String,
        /// Line of the first bad byte, from 1.
        line: u32,
        /// Its column in characters, from 1.
        column: u32,
    },
    /// It is not JSON (or YAML), or not of the shape of a flag definition.
    Malformed {
        /// The document's name.
        file: String,
        /// Line, from 1.
        line: u32,
        /// Column in characters, from 1.
        column: u32,
        /// What was found and what was expected.
        message: String,
    },
}

impl DefinitionError {
    /// The error as `check` reports it.
    #[must_use]
    pub fn to_problem(&self) -> Problem {
        let (file, line, column) = match self {
            Self::Io { path, .. } => (path.display().to_string(), 1, 1),
            Self::TooLong { file, .. } => (file.clone(), 1, 1),
            Self::NotUtf8 { file, line, column } | Self::Malformed { file, line, column, .. } => {
                (file.clone(), *line, *column)
            }
        };
        let message = self.message();
        Problem { severity: Severity::Error, file, line, column, flag: None, pointer: String::new(), message }
    }

    fn message(&self) -> String {
        match self {
            Self::Io { error, .. } => error.to_string(),
            Self::TooLong { bytes, limit, .. } => {
                format!("{bytes} bytes, but a document may hold no more than {limit}")
            }
            Self::NotUtf8 { .. } => "not UTF-8".to_owned(),
            Self::Malformed { message, .. } => message.clone(),
        }
    }
}

impl fmt::Display for DefinitionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { path, .. } => write!(f, "{}: {}", path.display(), self.message()),
            Self::TooLong { file, .. } => write!(f, "{file}: {}", self.message()),
            Self::NotUtf8 { file, line, column } | Self::Malformed { file, line, column, .. } => {
                write!(f, "{file}:{line}:{column}: {}", self.message())
            }
        }
    }
}

impl std::error::Error for DefinitionError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { error, .. } => Some(error),
            _ => None,
        }
    }
}
