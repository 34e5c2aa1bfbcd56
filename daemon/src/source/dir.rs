//! Which files of a directory are definitions.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::file::ReadError;

/// The definition files in the directory at `path`: names that end in `.json`, `.yaml` or `.yml` and do not begin with a
/// dot or `#`. That leaves out what editors and package tools leave behind (`.x.json.swp`, `#x.json#`, `x.json~`,
/// `x.json.bak`) and a ConfigMap's `..data`.
///
/// # Errors
///
/// As [`read`](super::file::read)'s, about the directory.
pub(super) fn list(path: &Path) -> Result<BTreeSet<PathBuf>, ReadError> {
    let mut files = BTreeSet::new();
    for entry in std::fs::read_dir(path)? {
        let name = entry?.file_name();
        if name.to_str().is_some_and(is_definition) {
            files.insert(path.join(name));
        }
    }
    Ok(files)
}

fn is_definition(name: &str) -> bool {
    let ending = Path::new(name).extension().and_then(|ending| ending.to_str());
    !name.starts_with(['.', '#']) && matches!(ending, Some("json" | "yaml" | "yml"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn editors_leftovers_are_skipped() {
        for name in ["a.json", "b.yaml", "c.yml", "with space.json", "é.json"] {
            assert!(is_definition(name), "{name}");
        }
        for name in [
            ".a.json",
            "..data",
            "#a.json#",
            "#a.json",
            "a.json~",
            "a.json.bak",
            ".a.json.swp",
            "README",
            "4913",
            ".json",
        ] {
            assert!(!is_definition(name), "{name}");
        }
    }
}
