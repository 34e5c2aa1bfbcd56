//! What a user writes to name a source.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use super::ControlSpec;

/// What a user names: `file:PATH`, `dir:PATH` or `control+https://HOST/PROJECT/ENVIRONMENT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SourceSpec {
    /// One definition file.
    File(PathBuf),
    /// Every JSON and YAML file in a directory, in the order of their names.
    Dir(PathBuf),
    /// An environment of a control plane.
    Control(Box<ControlSpec>),
}

impl SourceSpec {
    /// Whether the files that say how it is reached are good, as they are now; flags need not be there.
    ///
    /// # Errors
    ///
    /// A sentence that names source and file.
    pub(crate) fn check_files(&self) -> Result<(), String> {
        match self {
            Self::Control(spec) => spec.check_files().map_err(|error| format!("source `{self}`: {error}")),
            Self::File(_) | Self::Dir(_) => Ok(()),
        }
    }
}

impl FromStr for SourceSpec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const LATER: &[&str] = &["http", "https", "grpc", "grpcs", "s3", "gs", "azblob"];
        let (scheme, rest) = text
            .split_once(':')
            .ok_or_else(|| format!("source `{text}`: expected file:PATH or dir:PATH, as in file:{text}"))?;
        let path = |rest: &str| match rest {
            "" => Err(format!("source `{text}`: the path is empty")),
            rest => std::path::absolute(rest).map_err(|error| format!("source `{text}`: {error}")),
        };
        match scheme {
            "file" => Ok(Self::File(path(rest)?)),
            "dir" => Ok(Self::Dir(path(rest)?)),
            "control+http" | "control+https" => {
                let shown = text.split(['?', '#']).next().unwrap_or_default();
                let shown = if shown.contains('@') { scheme } else { shown };
                let url = text.trim_start_matches("control+");
                let spec = ControlSpec::parse(url).map_err(|error| format!("source `{shown}`: {error}"))?;
                Ok(Self::Control(Box::new(spec)))
            }
            scheme if LATER.contains(&scheme) => {
                Err(format!("source `{text}`: {scheme} is not supported by this version"))
            }
            _ => Err(format!(
                "source `{text}`: expected file:PATH, dir:PATH or control+https://HOST/PROJECT/ENVIRONMENT"
            )),
        }
    }
}

impl fmt::Display for SourceSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "file:{}", path.display()),
            Self::Dir(path) => write!(f, "dir:{}", path.display()),
            Self::Control(spec) => write!(f, "{spec}"),
        }
    }
}
