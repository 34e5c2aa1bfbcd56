//! Builds what programs in Rust, C, C++ and Python need to run against this checkout, without installing anything.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::process;

/// A profile of cargo's, and what is built with it.
#[derive(Clone, Copy)]
pub(crate) struct Build {
    profile: &'static str,
    /// Cargo's name for the profile's folder.
    folder: &'static str,
}

impl Build {
    /// Quick to build: for tests.
    pub(crate) const DEBUG: Self = Self { profile: "dev", folder: "debug" };
    /// What is shipped: for measuring.
    pub(crate) const DIST: Self = Self { profile: "dist", folder: "dist" };

    /// Builds packages of the workspace, perhaps among others.
    pub(crate) fn packages(self, packages: &[&str]) -> Result<()> {
        let mut command = process::cargo();
        command.args(["build", "--quiet", "--profile", self.profile]);
        if self.folder == Self::DEBUG.folder {
            // The tests build the whole workspace, and a part of it would be built anew with fewer features of what it depends on.
            command.arg("--workspace");
        } else {
            command.args(packages.iter().flat_map(|package| ["--package", package]));
        }
        process::run("cargo build", &mut command)
    }

    /// Builds what these arguments of cargo select, and nothing else.
    pub(crate) fn only(self, selection: &[&str]) -> Result<()> {
        let mut command = process::cargo();
        command.args(["build", "--quiet", "--profile", self.profile]).args(selection);
        process::run("cargo build", &mut command)
    }

    /// What was built, by its file name.
    pub(crate) fn file(self, name: &str) -> PathBuf {
        process::target().join(self.folder).join(name)
    }

    /// Makes a C or C++ program, compiled as strictly as our own and linked with the shared library.
    pub(crate) fn compile(self, source: &Path, program: &Path) -> Result<()> {
        let is_c = source.extension().is_some_and(|extension| extension == "c");
        let (variable, default, standard) = if is_c { ("CC", "cc", "-std=c11") } else { ("CXX", "c++", "-std=c++17") };
        let compiler = std::env::var_os(variable).unwrap_or_else(|| default.into());
        let library = self.library_folder()?;
        let mut command = Command::new(compiler);
        command.args([standard, "-D_POSIX_C_SOURCE=200809L", "-O2", "-Wall", "-Wextra", "-Wpedantic", "-Werror"]);
        command.arg("-pthread").arg("-I").arg(process::root().join("include")).arg(source).arg("-o").arg(program);
        command.arg("-L").arg(&library).arg(format!("-Wl,-rpath,{}", library.display())).arg("-lflags");
        process::run(&format!("compiling {}", source.display()), &mut command)
    }

    /// A folder where `libflags.so` is found under the name that programs linked with it ask for.
    fn library_folder(self) -> Result<PathBuf> {
        let folder = process::scratch(&format!("{}/lib", self.folder))?;
        let library = self.file("libflags.so");
        let said = process::output_of("readelf", [Path::new("-d"), &library]);
        let dynamic = said.context("cannot read libflags.so with readelf")?;
        let soname = dynamic.lines().find_map(|line| line.split_once("soname: [")?.1.strip_suffix(']'));
        for name in ["libflags.so", soname.context("libflags.so has no soname")?] {
            link(&library, &folder.join(name))?;
        }
        Ok(folder)
    }

    /// A folder for `PYTHONPATH` in which `import libflags` finds the package of this checkout.
    pub(crate) fn python_path(self) -> Result<PathBuf> {
        let folder = process::scratch(&format!("{}/python", self.folder))?;
        let package = folder.join("libflags");
        fs::create_dir_all(&package).with_context(|| format!("cannot make {}", package.display()))?;
        let sources = process::root().join("bindings/python/python/libflags");
        for entry in fs::read_dir(&sources).with_context(|| format!("cannot read {}", sources.display()))? {
            let source = entry?.path();
            if let (true, Some(name)) = (source.is_file(), source.file_name()) {
                link(&source, &package.join(name))?;
            }
        }
        link(&self.file("lib_libflags.so"), &package.join("_libflags.abi3.so"))?;
        Ok(folder)
    }
}

fn link(original: &Path, name: &Path) -> Result<()> {
    ensure!(original.is_file(), "{} was not built", original.display());
    let _ = fs::remove_file(name);
    symlink(original, name).with_context(|| format!("cannot make {}", name.display()))
}
