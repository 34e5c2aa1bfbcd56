//! `cargo xtask install`: the C and C++ library, where compilers, pkg-config and CMake find it.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::process;

/// The number in the soname, which ffi/build.rs gives the library.
const SOVERSION: &str = "0";

/// What a program that links `libflags.a` must link besides: what `rustc --print native-static-libs` says on Linux.
const STATIC_LIBS: &[&str] = &["-lgcc_s", "-lutil", "-lrt", "-lpthread", "-lm", "-ldl", "-lc"];

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Where to install: DIR/lib, DIR/include. Files are put under $DESTDIR, if that is set, and speak of DIR.
    #[arg(long, value_name = "DIR", default_value = "/usr/local")]
    prefix: PathBuf,
    /// The cargo profile to build with.
    #[arg(long, value_name = "NAME", default_value = "dist")]
    profile: String,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    build_and_install(&arguments.prefix, &arguments.profile)
}

fn build_and_install(prefix: &Path, profile: &str) -> Result<()> {
    let mut build = process::cargo();
    build.args(["build", "--profile", profile]);
    // What is for tests is built as they build it, so that nothing is compiled twice.
    build.args(if profile == "dev" { &["--workspace"][..] } else { &["--package", "libflags-ffi"] });
    process::run("cargo", &mut build)?;
    let folder = if profile == "dev" { "debug" } else { profile };
    let prefix = std::path::absolute(prefix).context("the prefix is no path")?;
    copy(&process::target().join(folder), &prefix, std::env::var_os("DESTDIR"))
}

/// Copies what was built in the folder `built`, with the files that tell others where it lies.
fn copy(built: &Path, prefix: &Path, destdir: Option<OsString>) -> Result<()> {
    let version = env!("CARGO_PKG_VERSION");
    ensure!(version.split('.').next() == Some(SOVERSION), "the soname's number is not the major version of {version}");
    let text =
        prefix.to_str().filter(|text| !text.contains(['\n', '$', '"'])).context("the prefix is no plain text")?;
    let to = staged(prefix, destdir);
    let root = process::root();

    let filled = |template: &str| -> Result<Vec<u8>> {
        let template = root.join("packaging").join(template);
        let content = fs::read_to_string(&template).with_context(|| format!("cannot read {}", template.display()))?;
        Ok(content
            .replace("@PREFIX@", text)
            .replace("@VERSION@", version)
            .replace("@SOVERSION@", SOVERSION)
            .replace("@POINTER_BYTES@", &size_of::<usize>().to_string())
            .replace("@STATIC_LIBS@", &STATIC_LIBS.join(" "))
            .into_bytes())
    };
    let read = |path: PathBuf| fs::read(&path).with_context(|| format!("cannot read {}", path.display()));

    let shared = format!("libflags.so.{version}");
    put(&to.join("lib").join(&shared), &read(built.join("libflags.so"))?, 0o755)?;
    put(&to.join("lib/libflags.a"), &read(built.join("libflags.a"))?, 0o644)?;
    link(&to.join("lib").join(format!("libflags.so.{SOVERSION}")), &shared)?;
    link(&to.join("lib/libflags.so"), &format!("libflags.so.{SOVERSION}"))?;
    for header in ["flags.h", "flags.hpp"] {
        put(&to.join("include").join(header), &read(root.join("include").join(header))?, 0o644)?;
    }
    put(&to.join("lib/pkgconfig/flags.pc"), &filled("pkgconfig/flags.pc.in")?, 0o644)?;
    for file in ["flags-config.cmake", "flags-config-version.cmake"] {
        let content = filled(&format!("cmake/{file}.in"))?;
        // A list in CMake is parted by semicolons.
        let content = String::from_utf8(content)?.replace(&STATIC_LIBS.join(" "), &STATIC_LIBS.join(";"));
        put(&to.join("lib/cmake/flags").join(file), content.as_bytes(), 0o644)?;
    }
    println!("installed libflags {version} in {}", to.display());
    Ok(())
}

/// Where files for `prefix` are put: under the staging folder of a package build, where there is one.
fn staged(prefix: &Path, destdir: Option<OsString>) -> PathBuf {
    match destdir.filter(|destdir| !destdir.is_empty()) {
        None => prefix.to_path_buf(),
        Some(destdir) => {
            let mut path = destdir.as_bytes().to_vec();
            path.extend_from_slice(prefix.as_os_str().as_bytes());
            PathBuf::from(std::ffi::OsStr::from_bytes(&path))
        }
    }
}

/// Puts a file in place at once: a program that runs with the old library keeps it.
fn put(path: &Path, content: &[u8], mode: u32) -> Result<()> {
    let why = || format!("cannot write {}", path.display());
    let fresh = beside(path)?;
    fs::write(&fresh, content).with_context(why)?;
    fs::set_permissions(&fresh, fs::Permissions::from_mode(mode)).with_context(why)?;
    fs::rename(&fresh, path).with_context(why)
}

fn link(path: &Path, to: &str) -> Result<()> {
    let why = || format!("cannot link {}", path.display());
    let fresh = beside(path)?;
    let _ = fs::remove_file(&fresh);
    symlink(to, &fresh).with_context(why)?;
    fs::rename(&fresh, path).with_context(why)
}

/// A name for `path` until it is ready, in the same folder, which is made.
fn beside(path: &Path) -> Result<PathBuf> {
    let folder = path.parent().context("no folder")?;
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let name = path.file_name().context("no name")?.to_string_lossy().into_owned();
    Ok(folder.join(format!(".{name}.new")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_put_in_place() {
        let scratch = process::scratch("install-test").unwrap();
        let (built, stage) = (scratch.join("built"), scratch.join("stage"));
        let _ = fs::remove_dir_all(&stage);
        fs::create_dir_all(&built).unwrap();
        fs::write(built.join("libflags.so"), "shared").unwrap();
        fs::write(built.join("libflags.a"), "static").unwrap();
        // The second time replaces the first.
        for _ in 0..2 {
            copy(&built, Path::new("/opt/flags"), Some(stage.clone().into())).unwrap();
        }

        let to = stage.join("opt/flags");
        assert_eq!(fs::read_to_string(to.join("lib/libflags.so")).unwrap(), "shared");
        assert_eq!(fs::read_link(to.join("lib/libflags.so")).unwrap(), Path::new("libflags.so.0"));
        assert!(to.join("include/flags.hpp").is_file());
        let pc = fs::read_to_string(to.join("lib/pkgconfig/flags.pc")).unwrap();
        assert!(pc.starts_with("prefix=/opt/flags\n"), "{pc}");
        for file in [
            "lib/pkgconfig/flags.pc",
            "lib/cmake/flags/flags-config.cmake",
            "lib/cmake/flags/flags-config-version.cmake",
        ] {
            let content = fs::read_to_string(to.join(file)).unwrap();
            assert!(!content.contains('@'), "{file} has a place that was not filled in");
            assert!(!content.contains(stage.to_str().unwrap()), "{file} speaks of the staging folder");
        }
    }

    #[test]
    fn the_soname_is_what_the_library_gets() {
        let build = fs::read_to_string(process::root().join("ffi/build.rs")).unwrap();
        assert!(build.contains(&format!("-soname,libflags.so.{SOVERSION}\"")));
    }
}
