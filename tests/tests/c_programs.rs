//! The C and C++ programs in `tests/c` and `tests/cpp`: compiled strictly, run under AddressSanitizer and
//! UndefinedBehaviorSanitizer, and again under valgrind. Each is a test of its own here.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

/// How a program is made and run.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// Instrumented by the compiler.
    Sanitized,
    /// As it is, watched by valgrind.
    Valgrind,
    /// As it is, optimised, with `libflags.a` in it.
    Static,
}

/// Makes a test for a program in each of the modes it is to pass in.
macro_rules! programs {
    ($($name:ident: $source:literal in $($mode:ident)+;)+) => {
        $(mod $name {
            $(
                #[test]
                #[allow(non_snake_case, reason = "the tests are called as the modes are")]
                fn $mode() {
                    super::run($source, super::Mode::$mode);
                }
            )+
        })+
    };
}

programs! {
    layout: "tests/c/layout.c" in Sanitized;
    api: "tests/c/api.c" in Sanitized Valgrind Static;
    hostile: "tests/c/hostile.c" in Sanitized Valgrind;
    threads: "tests/c/threads.c" in Sanitized Valgrind;
    fork: "tests/c/fork.c" in Sanitized Valgrind;
    attach: "tests/c/attach.c" in Sanitized Valgrind;
    refused: "tests/c/refused.c" in Sanitized Valgrind;
    unload: "tests/c/unload.c" in Sanitized Valgrind;
    cpp_api: "tests/cpp/api.cpp" in Sanitized Valgrind Static;
}

/// What a program in C must link besides `libflags.a`; the same stands in xtask/src/install.rs for `flags.pc`.
const STATIC_LIBS: [&str; 6] = ["-lgcc_s", "-lutil", "-lrt", "-lpthread", "-lm", "-ldl"];

const WARNINGS: [&str; 4] = ["-Wall", "-Wextra", "-Wpedantic", "-Werror"];

#[test]
fn the_example_in_flags_h_works() {
    let source = example("include/flags.h", " *     ");
    assert!(source.contains("int main("), "{source}");
    let program = compile(&write("example.c", &source), "example-c", Mode::Sanitized);
    check_example(&program);
}

#[test]
fn the_example_in_flags_hpp_works() {
    let source = example("include/flags.hpp", "//     ");
    assert!(source.contains("int main("), "{source}");
    let program = compile(&write("example.cpp", &source), "example-cpp", Mode::Sanitized);
    let said = check_example(&program);
    assert!(said.ends_with("#0000ff: STATIC\n"), "{said}");
}

/// Runs the example on a definition that it speaks of, and without one.
fn check_example(program: &Path) -> String {
    let definition = write(
        "example.json",
        r##"{"flags": {
            "new-checkout": {"state": "ENABLED", "variants": {"on": true, "off": false}, "defaultVariant": "off",
                "targeting": {"if": [{"and": [{"==": [{"var": "tier"}, "premium"]}, {">": [{"var": "age"}, 40]}]}, "on"]}},
            "button-colour": {"state": "ENABLED", "variants": {"blue": "#0000ff"}, "defaultVariant": "blue"},
            "dark-mode": {"state": "ENABLED", "variants": {"on": true}, "defaultVariant": "on"}}}"##,
    );
    let output = Command::new(program).arg(definition).output().expect("the example starts");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.starts_with("the new checkout\na #0000ff button\nin the dark\n"), "{said}");

    let nowhere = Command::new(program).env("FLAGS_STORE", "no/such/store").output().expect("the example starts");
    assert!(!nowhere.status.success());
    assert!(String::from_utf8_lossy(&nowhere.stderr).contains("no/such/store"));
    said
}

/// The names of the C header, of the list, and of the library are the same, and the library exports no other.
#[test]
fn exported_symbols_are_those_listed() {
    let listed: BTreeSet<String> = read("include/flags.symbols").lines().map(str::to_owned).collect();
    let output =
        Command::new("nm").args(["--dynamic", "--defined-only", "--format=posix"]).arg(&built().shared).output();
    let output = output.expect("nm");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let exported: BTreeSet<String> = String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .map(str::to_owned)
        .collect();
    assert_eq!(exported, listed, "include/flags.symbols lists what libflags.so exports");
    assert!(listed.iter().all(|name| name.starts_with("flags_")), "{listed:?}");

    let header = read("include/flags.h");
    let declared: BTreeSet<String> = header
        .lines()
        .filter(|line| !line.starts_with([' ', '/', '#', '}']) && !line.starts_with("static inline"))
        .filter_map(|line| line.split_once('(')?.0.rsplit([' ', '*']).next().map(str::to_owned))
        .collect();
    assert_eq!(declared, listed, "include/flags.symbols lists what flags.h declares");
}

#[test]
fn the_library_says_its_soname() {
    let output = Command::new("readelf").arg("-d").arg(&built().shared).output().expect("readelf");
    let dynamic = String::from_utf8_lossy(&output.stdout);
    assert!(dynamic.contains("Library soname: [libflags.so.0]"), "{dynamic}");
    assert!(!dynamic.contains("TEXTREL"), "{dynamic}");
}

/// Every public header can be included alone and twice, by C11 and later, by C++17 and later.
#[test]
fn headers_stand_alone() {
    for (name, text, compiler, standards) in [
        ("alone.c", "#include <flags.h>\n#include <flags.h>\nint main(void) { return 0; }\n", "cc", &["c11", "c2x"]),
        ("alone.cpp", "#include <flags.h>\n#include <flags.h>\nint main() {}\n", "c++", &["c++17", "c++20"]),
        ("alone2.cpp", "#include <flags.hpp>\n#include <flags.hpp>\nint main() {}\n", "c++", &["c++17", "c++20"]),
    ] {
        let source = write(name, text);
        for standard in standards {
            let mut command = Command::new(compiler);
            command.args(WARNINGS).arg(format!("-std={standard}")).arg("-fsyntax-only").arg(include()).arg(&source);
            succeed(&mut command);
        }
    }
}

/// What cargo built for C.
struct Built {
    shared: PathBuf,
    archive: PathBuf,
    /// A folder where the shared library has the names that linking and running ask for.
    folder: PathBuf,
}

fn built() -> &'static Built {
    static BUILT: OnceLock<Built> = OnceLock::new();
    BUILT.get_or_init(|| {
        let mut cargo = Command::new(env!("CARGO"));
        // As the other tests build it: one package alone would have other features, and so compile most crates again.
        cargo.args(["build", "--workspace", "--message-format", "json-render-diagnostics"]);
        cargo.current_dir(root()).stderr(Stdio::inherit());
        let output = cargo.output().expect("cargo starts");
        assert!(output.status.success(), "libflags-ffi does not build");
        let messages = String::from_utf8_lossy(&output.stdout);
        let files: Vec<PathBuf> = messages
            .lines()
            .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
            .filter(|message| message["target"]["name"] == "flags")
            .flat_map(|message| message["filenames"].as_array().cloned().unwrap_or_default())
            .filter_map(|name| name.as_str().map(PathBuf::from))
            .collect();
        let find =
            |name: &str| files.iter().find(|file| file.ends_with(name)).expect("cargo names what it built").clone();
        let (shared, archive) = (find("libflags.so"), find("libflags.a"));
        let folder = scratch("lib");
        for name in ["libflags.so", "libflags.so.0"] {
            let link = folder.join(name);
            let _ = fs::remove_file(&link);
            std::os::unix::fs::symlink(&shared, &link).expect("a link");
        }
        Built { shared, archive, folder }
    })
}

/// Compiles a program and runs it in a folder of its own.
fn run(source: &str, mode: Mode) {
    if mode == Mode::Valgrind && Command::new("valgrind").arg("--version").output().is_err() {
        println!("skipped: valgrind is not installed");
        return;
    }
    let name = source.trim_start_matches("tests/").replace(['/', '.'], "-");
    let program = compile(&root().join(source), &name, mode);
    let folder = scratch(&format!("{name}-{}", mode.name()));
    fs::remove_dir_all(&folder).expect("the folder of the last run goes");
    fs::create_dir_all(&folder).expect("a folder");

    let mut command = match mode {
        Mode::Valgrind => {
            let mut valgrind = Command::new("valgrind");
            valgrind.args(["--quiet", "--error-exitcode=99", "--leak-check=full", "--show-leak-kinds=definite"]);
            valgrind.args(["--errors-for-leak-kinds=definite", "--child-silent-after-fork=no", "--fair-sched=try"]);
            valgrind.arg(&program);
            valgrind
        }
        _ => Command::new(&program),
    };
    // Nothing of this machine's own flags is to be found.
    command.env_remove("FLAGS_STORE").env("XDG_RUNTIME_DIR", &folder).current_dir(&folder);
    command.env("FLAGS_DEFINITION", root().join("tests/c/flags.json"));
    command.env("FLAGS_PUBLISH", env!("CARGO_BIN_EXE_flags-publish"));
    command.env("FLAGS_LIBRARY", &built().shared);
    command.env("ASAN_OPTIONS", "detect_leaks=1:abort_on_error=1").env("UBSAN_OPTIONS", "print_stacktrace=1");
    let said = succeed(&mut command);
    // A child that a program forks has no say in the exit status.
    assert!(mode != Mode::Valgrind || !said.lines().any(|line| line.starts_with("==")), "{said}");
}

/// Compiles a program against the headers in `include`, and gives its path.
fn compile(source: &Path, name: &str, mode: Mode) -> PathBuf {
    let program = scratch("bin").join(format!("{name}-{}", mode.name()));
    let cpp = source.extension().is_some_and(|extension| extension == "cpp");
    let mut command = Command::new(if cpp { "c++" } else { "cc" });
    command.arg(if cpp { "-std=c++17" } else { "-std=c11" }).arg("-D_POSIX_C_SOURCE=200809L").args(WARNINGS);
    command.args(match mode {
        Mode::Sanitized => &["-g", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"][..],
        Mode::Valgrind => &["-g", "-O1"],
        Mode::Static => &["-g", "-O2"],
    });
    command.arg("-pthread").arg(include()).arg(source).arg("-o").arg(&program);
    if mode == Mode::Static {
        command.arg(&built().archive).args(STATIC_LIBS);
    } else {
        let folder = built().folder.display();
        command.arg(format!("-L{folder}")).arg(format!("-Wl,-rpath,{folder}")).args(["-lflags", "-ldl"]);
    }
    succeed(&mut command);
    program
}

impl Mode {
    fn name(self) -> &'static str {
        match self {
            Mode::Sanitized => "sanitized",
            Mode::Valgrind => "valgrind",
            Mode::Static => "static",
        }
    }
}

/// The program in the comment at the top of a header, whose lines begin with `prefix`.
fn example(header: &str, prefix: &str) -> String {
    let blank = prefix.trim_end();
    let text = read(header);
    let mut lines = text.lines().skip_while(|line| !line.starts_with(&format!("{prefix}#include"))).peekable();
    let mut example = String::new();
    while let Some(line) = lines.next_if(|line| line.starts_with(prefix) || line.trim_end() == blank) {
        example.push_str(line.strip_prefix(prefix).unwrap_or_default());
        example.push('\n');
    }
    example
}

/// Runs a command that must succeed, and gives what it said.
fn succeed(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said = format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert!(status.success(), "{command:?}\n{status}\n{said}");
    said
}

fn include() -> String {
    format!("-I{}", root().join("include").display())
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace")
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn scratch(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("c").join(name);
    fs::create_dir_all(&folder).expect("a folder under target");
    folder
}

fn write(name: &str, text: &str) -> PathBuf {
    let path = scratch("source").join(name);
    fs::write(&path, text).expect("a file under target");
    path
}
