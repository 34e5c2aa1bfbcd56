//! `cargo xtask install`: what it installs is found by pkg-config and CMake, and programs built with them run.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

const PROGRAM: &str = r#"
#include <flags.h>
#include <stdio.h>

int main(int argc, char **argv)
{
    flags_client *client;
    if (argc < 2 || flags_open_file(argv[1], &client) != FLAGS_OK)
        return 1;
    printf("answer %lld of %s\n", (long long)flags_int(client, "answer", NULL, -1), flags_version());
    flags_close(client);
    return 0;
}
"#;

const CPP_PROGRAM: &str = r#"
#include <flags.hpp>
#include <iostream>

int main(int argc, char **argv)
{
    const flags::client client(flags::from_file, argv[argc - 1]);
    std::cout << "answer " << client.get_int("answer", {}, -1) << " of " << flags_version() << "\n";
}
"#;

const CMAKE_PROJECT: &str = r#"
cmake_minimum_required(VERSION 3.16)
project(consumer C CXX)
find_package(flags 0.1 REQUIRED)
add_executable(shared program.c)
target_link_libraries(shared PRIVATE flags::flags)
add_executable(static program.c)
target_link_libraries(static PRIVATE flags::flags_static)
add_executable(cpp program.cpp)
target_compile_features(cpp PRIVATE cxx_std_17)
target_link_libraries(cpp PRIVATE flags::flags)
find_package(flags 9 QUIET)
if(flags_FOUND)
    message(FATAL_ERROR "version 9 was found")
endif()
"#;

#[test]
fn pkg_config_finds_it() {
    if !runs("pkg-config") {
        println!("skipped: pkg-config is not installed");
        return;
    }
    let folder = scratch("pkg-config");
    let ask = |arguments: &[&str]| -> Vec<String> {
        let mut command = Command::new("pkg-config");
        command.args(arguments).arg("flags").env("PKG_CONFIG_PATH", prefix().join("lib/pkgconfig"));
        succeed(&mut command).split_whitespace().map(str::to_owned).collect()
    };
    assert_eq!(ask(&["--modversion"]), [env!("CARGO_PKG_VERSION")]);

    for (name, text, compiler) in [("program.c", PROGRAM, "cc"), ("program.cpp", CPP_PROGRAM, "c++")] {
        let source = write(&folder, name, text);
        let program = folder.join(name).with_extension("shared");
        succeed(Command::new(compiler).arg(&source).arg("-o").arg(&program).args(ask(&["--cflags", "--libs"])));
        check(&program);
    }
    // The static library, by name, with what flags.pc says that it needs besides.
    let program = folder.join("static");
    let mut command = Command::new("cc");
    command.arg(folder.join("program.c")).arg("-o").arg(&program).args(ask(&["--cflags"]));
    command.arg(prefix().join("lib/libflags.a"));
    command.args(ask(&["--static", "--libs"]).iter().filter(|argument| *argument != "-lflags"));
    succeed(&mut command);
    check(&program);
}

#[test]
fn cmake_finds_it() {
    if !runs("cmake") {
        println!("skipped: cmake is not installed");
        return;
    }
    let folder = scratch("cmake");
    write(&folder, "CMakeLists.txt", CMAKE_PROJECT);
    write(&folder, "program.c", PROGRAM);
    write(&folder, "program.cpp", CPP_PROGRAM);
    let build = folder.join("build");
    let mut configure = Command::new("cmake");
    configure.arg("-S").arg(&folder).arg("-B").arg(&build);
    configure.arg(format!("-DCMAKE_PREFIX_PATH={}", prefix().display()));
    succeed(&mut configure);
    succeed(Command::new("cmake").arg("--build").arg(&build));
    for program in ["shared", "static", "cpp"] {
        check(&build.join(program));
    }
}

/// The prefix that everything was installed under, once.
fn prefix() -> &'static Path {
    static PREFIX: OnceLock<PathBuf> = OnceLock::new();
    PREFIX.get_or_init(|| {
        let prefix = scratch("prefix");
        // As the other tests build it: one package alone would have other features, and so compile most crates again.
        let mut build = Command::new(env!("CARGO"));
        succeed(build.args(["build", "--quiet", "--workspace", "--bin", "xtask"]).current_dir(root()));
        let mut command = Command::new(Path::new(env!("CARGO_BIN_EXE_flags-publish")).with_file_name("xtask"));
        command.args(["install", "--profile", "dev", "--prefix"]).arg(&prefix).env("CARGO", env!("CARGO"));
        succeed(command.current_dir(root()).env_remove("DESTDIR"));
        prefix
    })
}

fn check(program: &Path) {
    let mut command = Command::new(program);
    command.arg(root().join("tests/c/flags.json")).env("LD_LIBRARY_PATH", prefix().join("lib"));
    assert_eq!(succeed(&mut command), format!("answer 42 of {}\n", env!("CARGO_PKG_VERSION")));
}

fn succeed(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{command:?}\n{said}{}", String::from_utf8_lossy(&output.stderr));
    said
}

fn runs(program: impl AsRef<OsStr>) -> bool {
    Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success())
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace")
}

/// An empty folder under target.
fn scratch(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("c-package").join(name);
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).expect("a folder under target");
    folder
}

fn write(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    fs::write(&path, text).expect("a file under target");
    path
}
