//! Id lists: which ones a definition declares, where they lie, and the ids in them, read as a stream.

use super::flag::Scalar;
use std::collections::HashSet;
use std::path::PathBuf;

/// What a definition's metadata says about id lists.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ListDeclaration {
    /// `"list.NAME": "PATH"`: one list.
    File {
        /// What rules call it: `{"var": "$lists.NAME"}`.
        name: String,
        /// Its file, relative to the definition's directory.
        path: PathBuf,
    },
    /// `"lists": "PATH"`: each file in a directory, named by its stem.
    Directory {
        /// The directory, relative to the definition's.
        path: PathBuf,
    },
}

impl ListDeclaration {
    /// What a member of the metadata declares, if it declares a list.
    pub(crate) fn from_metadata(name: &str, value: &Scalar) -> Option<Result<Self, String>> {
        let list = name.strip_prefix("list.");
        if list.is_none() && name != "lists" {
            return None;
        }
        let path = match value {
            Scalar::Text(path) if !path.is_empty() && !path.contains('\0') => PathBuf::from(path),
            _ => return Some(Err("expected a path as text".to_owned())),
        };
        Some(match list {
            Some("") => Err("expected the list's name after `list.`".to_owned()),
            Some(name) => Ok(Self::File { name: name.to_owned(), path }),
            None => Ok(Self::Directory { path }),
        })
    }
}

/// The names of the lists that rules may refer to.
#[derive(Clone, Debug, Default)]
pub struct ListNames(HashSet<String>);

impl ListNames {
    /// Whether there is a list called `name`.
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        self.0.contains(name)
    }
}

impl<S: Into<String>> FromIterator<S> for ListNames {
    fn from_iter<I: IntoIterator<Item = S>>(names: I) -> Self {
        Self(names.into_iter().map(Into::into).collect())
    }
}
