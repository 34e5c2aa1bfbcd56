//! Where files go when nobody says where: the system's directories when they can be written, else the user's own.

use std::path::{Path, PathBuf};

use nix::unistd::{AccessFlags, access, getuid};

/// `/run/flags/<set>` when writable, else `$XDG_RUNTIME_DIR/flags/<set>`, else `/dev/shm/flags-<uid>/<set>`: the places
/// where clients look, in their order.
pub(crate) fn default_store(set: &str) -> Option<PathBuf> {
    let system = PathBuf::from("/run/flags").join(set);
    let runtime = || directory_variable("XDG_RUNTIME_DIR").map(|dir| dir.join("flags").join(set));
    let shared = || Some(PathBuf::from(format!("/dev/shm/flags-{}", getuid())).join(set));
    [Some(system), runtime(), shared()].into_iter().flatten().find(|path| can_be_made(path))
}

/// `/var/lib/flags` when writable, else `$XDG_STATE_HOME/flags`, else `~/.local/state/flags`.
pub(crate) fn default_state_dir() -> Option<PathBuf> {
    let system = PathBuf::from("/var/lib/flags");
    let state_home = || directory_variable("XDG_STATE_HOME").map(|dir| dir.join("flags"));
    let home = || directory_variable("HOME").map(|dir| dir.join(".local/state/flags"));
    [Some(system), state_home(), home()].into_iter().flatten().find(|path| can_be_made(path))
}

fn directory_variable(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute())
}

/// Whether `path` is a directory that can be written, or could be made in the nearest one that exists.
fn can_be_made(path: &Path) -> bool {
    let existing = path.ancestors().find(|ancestor| ancestor.symlink_metadata().is_ok());
    existing.is_some_and(|dir| dir.is_dir() && access(dir, AccessFlags::W_OK | AccessFlags::X_OK).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_in_the_way_cannot_be_made_a_directory() {
        let dir = tempfile::tempdir().expect("a directory");
        assert!(can_be_made(&dir.path().join("a/b/c")));
        std::fs::write(dir.path().join("a"), "x").expect("a file");
        assert!(!can_be_made(&dir.path().join("a/b/c")));
        assert!(!can_be_made(&dir.path().join("a")));
    }
}
