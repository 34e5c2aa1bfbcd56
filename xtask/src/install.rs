//! `cargo xtask install`: the C and C++ library, where compilers, pkg-config and CMake find it; flagsd, or the control plane, where systemd does.

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
    /// What to install.
    #[arg(value_enum, default_values_t = [Part::Library])]
    parts: Vec<Part>,
    /// Where to install: DIR/lib, DIR/include, DIR/bin, DIR/share. Files are put under $DESTDIR, if that is set, and speak of DIR.
    #[arg(long, value_name = "DIR", default_value = "/usr/local")]
    prefix: PathBuf,
    /// The cargo profile to build with.
    #[arg(long, value_name = "NAME", default_value = "dist")]
    profile: String,
}

/// What can be installed.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// libflags for C and C++: libraries, headers, flags.pc, a CMake package.
    Library,
    /// flagsd and flagsctl, with the unit.
    Host,
    /// flags-control, with the unit, an example of its configuration, what watches it and its documents.
    ControlPlane,
}

impl Part {
    fn packages(self) -> &'static [&'static str] {
        match self {
            Self::Library => &["libflags-ffi"],
            Self::Host => &["flagsd", "flagsctl"],
            Self::ControlPlane => &["flags-control"],
        }
    }

    /// Where programs and files of the repository go, below the prefix.
    fn files(self) -> (&'static [&'static str], &'static [(&'static str, &'static str)]) {
        match self {
            Self::Library => (&[], &[]),
            Self::Host => (&["flagsd", "flagsctl"], HOST),
            Self::ControlPlane => (&["flags-control"], CONTROL_PLANE),
        }
    }
}

const HOST: &[(&str, &str)] = &[
    ("packaging/systemd/flagsd.service", "lib/systemd/system"),
    ("packaging/sysusers.d/flags.conf", "lib/sysusers.d"),
    ("packaging/tmpfiles.d/flags.conf", "lib/tmpfiles.d"),
    ("packaging/systemd/control-plane.conf", "share/doc/flagsd"),
    ("packaging/prometheus/flagsd.rules.yml", "share/doc/flagsd"),
    ("docs/operations.md", "share/doc/flagsd"),
    ("docs/flagsctl.md", "share/doc/flagsd"),
];

const CONTROL_PLANE: &[(&str, &str)] = &[
    ("packaging/systemd/flags-control.service", "lib/systemd/system"),
    ("packaging/sysusers.d/flags-control.conf", "lib/sysusers.d"),
    ("packaging/tmpfiles.d/flags-control.conf", "lib/tmpfiles.d"),
    ("packaging/examples/control.toml", "share/doc/flags-control"),
    ("packaging/prometheus/flags-control.rules.yml", "share/doc/flags-control"),
    ("packaging/grafana/flags.json", "share/doc/flags-control"),
    ("packaging/nginx/flags-cache.conf", "share/doc/flags-control"),
    ("docs/operations-control.md", "share/doc/flags-control"),
    ("docs/http-api.md", "share/doc/flags-control"),
    ("docs/openapi.json", "share/doc/flags-control"),
];

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let profile = arguments.profile.as_str();
    let mut build = process::cargo();
    build.args(["build", "--profile", profile]);
    if profile == "dev" {
        // What is for tests is built as they build it, so that nothing is compiled twice.
        build.arg("--workspace");
    } else {
        build.args(arguments.parts.iter().flat_map(|part| part.packages()).flat_map(|name| ["--package", name]));
    }
    process::run("cargo", &mut build)?;
    let built = process::target().join(if profile == "dev" { "debug" } else { profile });
    let prefix = std::path::absolute(&arguments.prefix).context("the prefix is no path")?;
    for part in &arguments.parts {
        copy(*part, &built, &prefix, std::env::var_os("DESTDIR"))?;
    }
    Ok(())
}

/// Copies what was built in the folder `built`, with the files that tell others where it lies.
fn copy(part: Part, built: &Path, prefix: &Path, destdir: Option<OsString>) -> Result<()> {
    let text =
        prefix.to_str().filter(|text| !text.contains(['\n', '$', '"'])).context("the prefix is no plain text")?;
    let to = staged(prefix, destdir);
    if part == Part::Library {
        return copy_library(built, text, &to);
    }
    let (programs, files) = part.files();
    for program in programs {
        put(&to.join("bin").join(program), &read(&built.join(program))?, 0o755)?;
    }
    for (file, folder) in files {
        let path = process::root().join(file);
        let name = path.file_name().context("no name")?;
        // Units name their programs.
        let content = if file.ends_with(".service") {
            ensure!(!text.contains(char::is_whitespace), "systemd takes no path with spaces in it");
            String::from_utf8(read(&path)?)?.replace("/usr/bin/", &format!("{text}/bin/")).into_bytes()
        } else {
            read(&path)?
        };
        put(&to.join(folder).join(name), &content, 0o644)?;
    }
    println!("installed {} in {}", programs.join(", "), to.display());
    Ok(())
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

fn copy_library(built: &Path, text: &str, to: &Path) -> Result<()> {
    let version = env!("CARGO_PKG_VERSION");
    ensure!(version.split('.').next() == Some(SOVERSION), "the soname's number is not the major version of {version}");
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

    let shared = format!("libflags.so.{version}");
    put(&to.join("lib").join(&shared), &read(&built.join("libflags.so"))?, 0o755)?;
    put(&to.join("lib/libflags.a"), &read(&built.join("libflags.a"))?, 0o644)?;
    link(&to.join("lib").join(format!("libflags.so.{SOVERSION}")), &shared)?;
    link(&to.join("lib/libflags.so"), &format!("libflags.so.{SOVERSION}"))?;
    for header in ["flags.h", "flags.hpp"] {
        put(&to.join("include").join(header), &read(&root.join("include").join(header))?, 0o644)?;
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
            copy(Part::Library, &built, Path::new("/opt/flags"), Some(stage.clone().into())).unwrap();
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
    fn what_systemd_starts_is_where_it_was_put() {
        let scratch = process::scratch("install-services-test").unwrap();
        let (built, stage) = (scratch.join("built"), scratch.join("stage"));
        let _ = fs::remove_dir_all(&stage);
        fs::create_dir_all(&built).unwrap();
        for (part, unit, other) in [
            (Part::Host, "flagsd.service", "bin/flagsctl"),
            (Part::ControlPlane, "flags-control.service", "share/doc/flags-control/control.toml"),
        ] {
            for program in part.files().0 {
                fs::write(built.join(program), format!("the program {program}")).unwrap();
            }
            for _ in 0..2 {
                copy(part, &built, Path::new("/opt/flags"), Some(stage.clone().into())).unwrap();
            }
            let to = stage.join("opt/flags");
            assert!(to.join(other).is_file());
            let unit = fs::read_to_string(to.join("lib/systemd/system").join(unit)).unwrap();
            let starts: Vec<&str> = unit.lines().filter(|line| line.starts_with("ExecStart")).collect();
            assert!(!starts.is_empty() && !unit.contains("/usr/bin/"), "{unit}");
            for start in starts {
                let program = start.split_once('=').unwrap().1.trim_start_matches('-').split(' ').next().unwrap();
                let program = stage.join(program.trim_start_matches('/'));
                assert!(fs::read_to_string(&program).unwrap().starts_with("the program"), "{start}");
                assert_eq!(fs::metadata(&program).unwrap().permissions().mode() & 0o777, 0o755);
            }
        }
        assert!(copy(Part::Host, &built, Path::new("/opt/with space"), Some(stage.into())).is_err());
    }

    #[test]
    fn the_soname_is_what_the_library_gets() {
        let build = fs::read_to_string(process::root().join("ffi/build.rs")).unwrap();
        assert!(build.contains(&format!("-soname,libflags.so.{SOVERSION}\"")));
    }
}
