//! What test programs in C and Python need to run against this checkout: the libraries freshly built, nothing installed.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

/// The libraries for C and Python, in a folder that goes when this is dropped.
#[derive(Debug)]
pub struct Languages {
    folder: TempDir,
}

impl Languages {
    /// Builds the shared library and the Python extension, with the profile of the tests.
    ///
    /// # Panics
    /// Where one does not build.
    #[must_use]
    pub fn build() -> Self {
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        // As the other tests build it: some packages alone would have other features, and so compile most crates again.
        cargo.args(["build", "--quiet", "--workspace"]);
        cargo.args(["--message-format", "json-render-diagnostics"]).current_dir(root()).stderr(Stdio::inherit());
        let output = cargo.output().expect("cargo starts");
        assert!(output.status.success(), "the libraries do not build");
        let messages = String::from_utf8_lossy(&output.stdout);
        let files = messages
            .lines()
            .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
            .flat_map(|message| message["filenames"].as_array().cloned().unwrap_or_default())
            .filter_map(|name| name.as_str().map(PathBuf::from));
        let (mut c, mut python) = (None, None);
        for file in files {
            match file.file_name().and_then(|name| name.to_str()) {
                Some("libflags.so") => c = Some(file),
                Some("lib_libflags.so") => python = Some(file),
                _ => {}
            }
        }
        let folder = TempDir::new().expect("a temporary folder");
        let link = |original: &Path, name: &str| symlink(original, folder.path().join(name)).expect("a link");
        let c = c.expect("cargo names libflags.so");
        link(&c, "libflags.so");
        link(&c, "libflags.so.0");
        fs::create_dir(folder.path().join("libflags")).expect("a folder");
        link(&python.expect("cargo names lib_libflags.so"), "libflags/_libflags.abi3.so");
        for entry in fs::read_dir(root().join("bindings/python/python/libflags")).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_file() && path.extension().is_some_and(|extension| extension == "py") {
                link(&path, &format!("libflags/{}", entry.file_name().to_string_lossy()));
            }
        }
        Self { folder }
    }

    /// A program of `tests/c`, compiled strictly, once.
    ///
    /// # Errors
    /// What this machine lacks.
    ///
    /// # Panics
    /// Where it does not compile.
    pub fn c(&self, name: &str) -> Result<Command, String> {
        let compiler = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
        if Command::new(&compiler).arg("--version").output().is_err() {
            return Err("there is no C compiler".to_owned());
        }
        let (folder, program) = (self.folder.path(), self.folder.path().join(name));
        if program.exists() {
            return Ok(Command::new(program));
        }
        let mut command = Command::new(compiler);
        command.args([
            "-std=c11",
            "-D_POSIX_C_SOURCE=200809L",
            "-Wall",
            "-Wextra",
            "-Wpedantic",
            "-Werror",
            "-g",
            "-O1",
        ]);
        command.arg("-pthread").arg("-I").arg(root().join("include")).arg("-o").arg(&program);
        command.arg(root().join("tests/c").join(name).with_extension("c"));
        command.arg("-L").arg(folder).arg(format!("-Wl,-rpath,{}", folder.display())).arg("-lflags");
        let output = command.output().expect("the compiler starts");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(Command::new(program))
    }

    /// A program of `tests/python`.
    ///
    /// # Errors
    /// What this machine lacks.
    pub fn python(&self, name: &str) -> Result<Command, String> {
        let python = std::env::var_os("PYTHON").unwrap_or_else(|| "python3".into());
        let mut probe = Command::new(&python);
        let can = "import sys; sys.exit(sys.version_info < (3, 10))";
        if !probe.args(["-c", can]).stderr(Stdio::null()).status().is_ok_and(|status| status.success()) {
            return Err("there is no Python 3.10 or later".to_owned());
        }
        let mut command = Command::new(python);
        command.args(["-W", "error", "-B"]).arg(root().join("tests/python").join(name).with_extension("py"));
        command.env("PYTHONPATH", self.folder.path());
        Ok(command)
    }
}

/// The workspace's folder.
///
/// # Panics
/// Never: a package of a workspace has a parent folder.
#[must_use]
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace")
}
