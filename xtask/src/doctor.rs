//! The programs that building and testing need beside Rust: which are here, and how to get the others.

use std::process::Command;

use anyhow::{Result, bail};

use crate::process;

/// A program that is looked for.
struct Tool {
    name: &'static str,
    /// What is run to see whether it works; its first line of output is shown.
    probe: &'static [&'static str],
    /// What cannot be done without it.
    purpose: &'static str,
    /// The Debian package it comes in.
    package: &'static str,
    /// Whether `cargo xtask test` stops without it, or only the checks that use it are skipped.
    required: bool,
}

const PYTHON_PROBE: &str = "import sys, venv, ensurepip; assert sys.version_info >= (3, 10), 'older than 3.10'; \
    print('Python', sys.version.split()[0], 'with venv')";

const TOOLS: &[Tool] = &[
    Tool { name: "cargo", probe: &["cargo", "--version"], purpose: "everything", package: "", required: true },
    Tool {
        name: "rustfmt",
        probe: &["cargo", "fmt", "--version"],
        purpose: "the formatting check (rustup component add rustfmt)",
        package: "",
        required: true,
    },
    Tool {
        name: "clippy",
        probe: &["cargo", "clippy", "--version"],
        purpose: "the lints (rustup component add clippy)",
        package: "",
        required: true,
    },
    Tool { name: "cc", probe: &["cc", "--version"], purpose: "C programs, linking", package: "gcc", required: true },
    Tool { name: "c++", probe: &["c++", "--version"], purpose: "C++ programs", package: "g++", required: true },
    Tool {
        name: "python3",
        probe: &["python3", "-c", PYTHON_PROBE],
        purpose: "the Python package",
        package: "python3-venv",
        required: true,
    },
    Tool {
        name: "nm",
        probe: &["nm", "--version"],
        purpose: "the check of exported symbols",
        package: "binutils",
        required: true,
    },
    Tool {
        name: "valgrind",
        probe: &["valgrind", "--version"],
        purpose: "C and C++ programs under valgrind",
        package: "valgrind",
        required: false,
    },
    Tool {
        name: "pkg-config",
        probe: &["pkg-config", "--version"],
        purpose: "the test of flags.pc",
        package: "pkg-config",
        required: false,
    },
    Tool {
        name: "cmake",
        probe: &["cmake", "--version"],
        purpose: "the test of the CMake package",
        package: "cmake",
        required: false,
    },
    Tool {
        name: "postgres",
        // Debian keeps it where no path leads.
        probe: &[
            "sh",
            "-c",
            "$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | tail -n 1 | grep . || echo /usr/bin)/postgres --version",
        ],
        purpose: "the control plane on PostgreSQL",
        package: "postgresql",
        required: false,
    },
    Tool {
        name: "nginx",
        // It tells its version on stderr.
        probe: &["sh", "-c", "PATH=$PATH:/usr/sbin; nginx -v 2>&1"],
        purpose: "a cache between hosts and the control plane",
        package: "nginx-light",
        required: false,
    },
    Tool {
        name: "promtool",
        probe: &["promtool", "--version"],
        purpose: "the tests of the alert rules",
        package: "prometheus",
        required: false,
    },
];

impl Tool {
    /// What the program says of itself, `None` where it is missing or does not work.
    fn version(&self) -> Option<String> {
        let (program, arguments) = self.probe.split_first()?;
        let said = process::output_of(program, arguments)?;
        Some(said.lines().next().unwrap_or_default().to_owned())
    }

    fn remedy(&self) -> String {
        if self.package.is_empty() {
            format!("needed for {}", self.purpose)
        } else {
            format!("needed for {}; Debian and Ubuntu: apt-get install {}", self.purpose, self.package)
        }
    }
}

/// Prints what is here and what is missing; an error where something required is missing.
pub(crate) fn run() -> Result<()> {
    let mut missing = Vec::new();
    for tool in TOOLS {
        match tool.version() {
            Some(version) => println!("{:<12}{version}", tool.name),
            None => {
                println!("{:<12}missing: {}", tool.name, tool.remedy());
                if tool.required {
                    missing.push(tool.name);
                }
            }
        }
    }
    if !missing.is_empty() {
        bail!("missing and required: {}", missing.join(", "));
    }
    println!(
        "\nall that is required is here; maturin, pytest and the like are fetched from PyPI into a folder under target/"
    );
    Ok(())
}

/// Installs what is missing where that is possible (Debian, as root), says what else is missing, and is an error where that is required.
pub(crate) fn provide() -> Result<()> {
    let missing = || TOOLS.iter().filter(|tool| tool.version().is_none());
    let packages: Vec<&str> = missing().map(|tool| tool.package).filter(|package| !package.is_empty()).collect();
    if !packages.is_empty()
        && nix::unistd::geteuid().is_root()
        && process::output_of("apt-get", ["--version"]).is_some()
    {
        println!("installing {}", packages.join(" "));
        let log = process::scratch("log")?.join("apt-get.log");
        let script = "apt-get update && apt-get install -y --no-install-recommends \"$@\"";
        let mut command = Command::new("sh");
        command.env("DEBIAN_FRONTEND", "noninteractive").args(["-c", script, "sh"]).args(&packages);
        let status = process::run_logged("apt-get", &mut command, &log, std::time::Duration::from_secs(600))?;
        if !status.success() {
            println!("apt-get failed ({status}), see {}", log.display());
        }
    }
    let mut required = Vec::new();
    for tool in missing() {
        println!("missing: {}, {}", tool.name, tool.remedy());
        if tool.required {
            required.push(tool.name);
        }
    }
    if !required.is_empty() {
        bail!("cannot go on without {}", required.join(", "));
    }
    Ok(())
}
