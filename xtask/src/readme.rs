//! The README keeps its word: its programs are compiled and run, and its figures are those of the record it names.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::daemon::{self, Host, PATIENCE};
use crate::languages::Build;
use crate::process;

/// Between these two lines stands what the last full run of `cargo xtask bench` measured.
const FIGURES_BEGIN: &str = "<!-- figures: cargo xtask bench writes these lines, from ";
const FIGURES_END: &str = "<!-- end of figures -->";

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

/// A document that shows the figures of a record.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Document {
    path: &'static str,
    /// How the names of its records begin.
    kind: &'static str,
}

/// All of them.
const DOCUMENTS: [Document; 2] =
    [Document { path: "README.md", kind: "" }, Document { path: "docs/design/control.md", kind: "control-" }];

impl Document {
    /// The one that shows records whose names begin with `kind`.
    pub(crate) fn of(kind: &str) -> Self {
        DOCUMENTS.into_iter().find(|document| document.kind == kind).unwrap_or(DOCUMENTS[0])
    }

    pub(crate) fn path(self) -> &'static str {
        self.path
    }

    /// Replaces the document's figures by those of `record`, kept in `place`.
    pub(crate) fn put_figures(self, record: &Value, place: &Path) -> Result<()> {
        let (text, path) = (self.text()?, self.path);
        let (before, rest) =
            text.split_once(FIGURES_BEGIN).with_context(|| format!("{path} has no place for figures"))?;
        let (_, after) = rest.split_once(FIGURES_END).with_context(|| format!("the figures in {path} do not end"))?;
        let text = format!("{before}{}{after}", figures(record, &place.to_string_lossy()));
        fs::write(process::root().join(path), text).with_context(|| format!("cannot write {path}"))
    }

    fn text(self) -> Result<String> {
        fs::read_to_string(process::root().join(self.path)).with_context(|| format!("cannot read {}", self.path))
    }
}

/// Makes the documents' figures anew from the records that they name; with `check`, only says whether they would be others.
pub(crate) fn gen_figures(check: bool) -> Result<()> {
    for document in DOCUMENTS {
        let (text, path) = (document.text()?, document.path);
        let (_, rest) = text.split_once(FIGURES_BEGIN).with_context(|| format!("{path} has no place for figures"))?;
        let (place, _) = rest.split_once(" -->").with_context(|| format!("{path} names no record"))?;
        if place == NOTHING_YET {
            continue;
        }
        let record = fs::read_to_string(process::root().join(place)).with_context(|| format!("cannot read {place}"))?;
        let record = serde_json::from_str(&record).with_context(|| format!("{place} is no record"))?;
        if check {
            ensure!(text.contains(&figures(&record, place)), "the figures in {path} are not those of {place}");
        } else {
            document.put_figures(&record, Path::new(place))?;
        }
    }
    Ok(())
}

/// What stands for a record's place before there is one.
const NOTHING_YET: &str = "nothing measured yet";

/// The lines with the figures of `record`, kept in `place`, the lines around them included.
fn figures(record: &Value, place: &str) -> String {
    let mut text = format!("{FIGURES_BEGIN}{place} -->\n\n");
    let rows = || record["rows"].as_array().into_iter().flatten();
    let has_peers = rows().any(|row| row.get("best_peer").is_some());
    text.push_str("| what | target | median | p99 | best |");
    text.push_str(if has_peers {
        " best peer, median |\n|---|---|---|---|---|---|\n"
    } else {
        "\n|---|---|---|---|---|\n"
    });
    for row in rows() {
        let target = match word(row, "target") {
            "" => String::new(),
            target => format!("{target} {}", word(row, "unit")).trim_end().to_owned(),
        };
        let peer = row
            .get("best_peer")
            .map_or_else(String::new, |peer| format!("{} {}", number(peer, "median"), word(peer, "name")));
        let _ = writeln!(
            text,
            "| {} | {target} | {} | {} | {} |{}",
            word(row, "about"),
            number(row, "median"),
            number(row, "p99"),
            number(row, "best"),
            if has_peers { format!(" {peer} |") } else { String::new() },
        );
    }
    let mut noted = rows().filter(|row| row.get("note").is_some()).peekable();
    if noted.peek().is_some() {
        text.push_str("\nWhile it was measured:\n\n");
    }
    for row in noted {
        let _ = writeln!(text, "- {}: {}.", word(row, "about"), word(row, "note"));
    }
    let mut missed = rows().filter(|row| row.get("limit").is_some()).peekable();
    if missed.peek().is_some() {
        text.push_str("\nWhere a target is missed, this is what limits it:\n\n");
    }
    for row in missed {
        let (limit, about) = (word(row, "limit"), word(row, "about"));
        let _ =
            writeln!(text, "- {about}: {} where {} is asked for. {limit}", number(row, "median"), word(row, "target"));
    }
    text.push('\n');
    text.push_str(FIGURES_END);
    text
}

fn word<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_default()
}

fn number(value: &Value, name: &str) -> String {
    let number = value[name].as_f64().unwrap_or(f64::NAN);
    if number >= 100.0 { format!("{number:.0}") } else { format!("{number:.2}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_figures_are_those_of_the_record() {
        for document in DOCUMENTS {
            let (text, path) = (document.text().unwrap(), document.path);
            let (_, rest) = text.split_once(FIGURES_BEGIN).expect("a place for figures");
            let (place, _) = rest.split_once(" -->").expect("the name of a record");
            if place == NOTHING_YET {
                assert_eq!(path, "docs/design/control.md", "there are records, and {path} does not show one");
                continue;
            }
            let record = fs::read_to_string(process::root().join(place)).expect("the record that the document names");
            let made = figures(&serde_json::from_str(&record).unwrap(), place);
            assert!(text.contains(&made), "the figures in {path} are not those of {place}");
        }
    }

    #[test]
    fn a_missed_target_is_shown_with_what_limits_it() {
        let row = |limit: &str| {
            serde_json::json!({"about": "a check", "target": "≤ 1", "unit": "ns", "best": 1.0, "median": 2.0, "p99": 3.0,
                "best_peer": {"name": "somebody", "median": 400.0}, "limit": limit})
        };
        let text = figures(&serde_json::json!({"rows": [row("Light is slow.")]}), "a place");
        assert!(text.contains("| a check | ≤ 1 ns | 2.00 | 3.00 | 1.00 | 400 somebody |"), "{text}");
        assert!(text.contains("- a check: 2.00 where ≤ 1 is asked for. Light is slow."), "{text}");
    }

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
