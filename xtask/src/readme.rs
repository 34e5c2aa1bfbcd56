//! The README keeps its word: its programs are compiled and run.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::daemon::{self, Host, PATIENCE};
use crate::languages::Build;
use crate::process;

/// A fenced block.
struct Block<'a> {
    language: &'a str,
    text: String,
}

/// Compiles and runs every program in the README, and every `flagsctl`, against flagsd on the flag file in the README, and compares what each prints with
/// what the README says that it prints.
pub(crate) fn run() -> Result<()> {
    let text = readme()?;
    let blocks = blocks(&text);
    let one = |language: &str| -> Result<&str> {
        let mut all = blocks.iter().filter(|block| block.language == language);
        let block = all.next().with_context(|| format!("the README has no block of {language}"))?;
        Ok(&block.text)
    };
    Build::DEBUG.packages(&["flagsd", "flagsctl", "libflags", "libflags-ffi", "libflags-python"])?;
    let host = Host::new(one("json")?)?;
    let mut flagsd = host.start_daemon()?;
    let expected = one("text")?;
    let folder = process::scratch("readme")?;
    let python_path = Build::DEBUG.python_path()?;
    let mut failed = 0;
    let languages = ["rust", "c", "cpp", "python"];
    for language in languages {
        let extension = if language == "python" { "py" } else { language };
        let source = folder.join(format!("program.{extension}"));
        fs::write(&source, one(language)?).with_context(|| format!("cannot write {}", source.display()))?;
        let program = folder.join(format!("program-{language}"));
        let mut command = Command::new(&program);
        match language {
            "rust" => compile_rust(&source, &program)?,
            "python" => {
                command = Command::new("python3");
                command.arg(&source).env("PYTHONPATH", &python_path);
            }
            _ => Build::DEBUG.compile(&source, &program)?,
        }
        let output = command.env("FLAGS_STORE", host.store()).stdin(Stdio::null()).output();
        let output = output.with_context(|| format!("cannot run the program in {language}"))?;
        let said = String::from_utf8_lossy(&output.stdout);
        if output.status.success() && said == expected {
            println!("the program in {language} prints what the README says");
        } else {
            failed += 1;
            println!("the program in {language} ended with {} and printed:\n{said}", output.status);
            println!("{}", String::from_utf8_lossy(&output.stderr));
        }
    }
    let commands = flagsctl_commands(&blocks);
    for words in &commands {
        let mut command = Command::new(Build::DEBUG.file("flagsctl"));
        command.args(words).current_dir(host.file().parent().context("a folder")?).env("FLAGS_STORE", host.store());
        let output = command.stdin(Stdio::null()).output().context("cannot run flagsctl")?;
        println!("flagsctl {}: {}\n{}", words.join(" "), output.status, String::from_utf8_lossy(&output.stdout));
        if !output.status.success() {
            failed += 1;
            println!("{}", String::from_utf8_lossy(&output.stderr));
        }
    }
    daemon::stop(&mut flagsd)?;
    println!("{} passed, {failed} failed", languages.len() + commands.len() - failed);
    ensure!(commands.len() >= 2, "the README uses flagsctl");
    ensure!(failed == 0, "{failed} of the README do not work");
    Ok(())
}

/// The arguments of each `flagsctl` in the README, which are words without quotes.
fn flagsctl_commands<'a>(blocks: &'a [Block<'_>]) -> Vec<Vec<&'a str>> {
    let lines = blocks.iter().filter(|block| block.language == "sh").flat_map(|block| block.text.lines());
    let commands = lines.filter_map(|line| line.strip_prefix("target/release/flagsctl "));
    commands.map(|arguments| arguments.split(' ').collect()).collect()
}

fn compile_rust(source: &Path, program: &Path) -> Result<()> {
    let library = Build::DEBUG.file("liblibflags.rlib");
    let mut command = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    command.args(["--edition", "2024", "-D", "warnings", "--extern"]).arg(format!("libflags={}", library.display()));
    command.arg("-L").arg(format!("dependency={}", Build::DEBUG.file("deps").display()));
    command.arg(source).arg("-o").arg(program);
    let status = crate::process::Program::start("rustc", command.stdin(Stdio::null()))?.wait(PATIENCE)?;
    ensure!(status.success(), "the program in rust does not compile");
    Ok(())
}

fn readme() -> Result<String> {
    fs::read_to_string(process::root().join("README.md")).context("cannot read README.md")
}

fn blocks(text: &str) -> Vec<Block<'_>> {
    let mut blocks = Vec::new();
    let mut open: Option<Block<'_>> = None;
    for line in text.lines() {
        match (line.strip_prefix("```"), open.take()) {
            (Some(_), Some(block)) => blocks.push(block),
            (Some(language), None) => open = Some(Block { language, text: String::new() }),
            (None, Some(mut block)) => {
                block.text.push_str(line);
                block.text.push('\n');
                open = Some(block);
            }
            (None, None) => {}
        }
    }
    blocks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_between_documents_lead_somewhere() {
        let root = process::root();
        let mut checked = 0;
        for folder in [root.clone(), root.join("docs"), root.join("docs/design")] {
            for entry in fs::read_dir(&folder).unwrap() {
                let path = entry.unwrap().path();
                if path.extension().is_none_or(|extension| extension != "md") {
                    continue;
                }
                let text = fs::read_to_string(&path).unwrap();
                let targets = text.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next());
                for target in targets.filter(|target| !target.is_empty() && !target.contains("://")) {
                    assert!(folder.join(target).exists(), "{}: {target} leads nowhere", path.display());
                    checked += 1;
                }
            }
        }
        assert!(checked >= 5, "only {checked} links found");
    }

    #[test]
    fn blocks_are_found_with_their_language() {
        let found = blocks("a\n```c\nint x;\n```\nb\n```\nplain\n\n```\n");
        let found: Vec<_> = found.iter().map(|block| (block.language, block.text.as_str())).collect();
        assert_eq!(found, [("c", "int x;\n"), ("", "plain\n\n")]);
    }
}
