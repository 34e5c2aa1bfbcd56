//! The examples of `docs/flagsctl.md` do what it says.

mod common;

use std::{
    path::Path,
    process::{Command, Stdio},
};

use common::{directory, finish};

/// A fenced block: what stands behind the three backticks, and the text between.
struct Block<'d> {
    info: &'d str,
    text: String,
}

fn blocks(document: &str) -> Vec<Block<'_>> {
    let mut blocks = Vec::new();
    let mut lines = document.lines();
    while let Some(line) = lines.next() {
        let Some(info) = line.strip_prefix("```") else { continue };
        let text = lines.by_ref().take_while(|line| *line != "```").map(|line| format!("{line}\n")).collect();
        blocks.push(Block { info, text });
    }
    blocks
}

/// Commands and what they print.
fn examples(block: &str) -> Vec<(String, String)> {
    let mut examples: Vec<(String, String)> = Vec::new();
    for line in block.lines() {
        match (line.strip_prefix("$ "), examples.last_mut()) {
            (Some(command), _) => examples.push((command.to_owned(), String::new())),
            (None, Some((_, printed))) => printed.push_str(&format!("{line}\n")),
            (None, None) => panic!("output without a command: {line}"),
        }
    }
    examples
}

#[test]
fn examples_print_what_is_written() {
    let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/flagsctl.md");
    let document = std::fs::read_to_string(document).expect("the document");
    let blocks = blocks(&document);
    let files = directory(&[]);
    for block in &blocks {
        if let Some((_, name)) = block.info.split_once(' ') {
            std::fs::write(files.path().join(name), &block.text).expect("a file");
        }
    }
    let flags = std::fs::read_to_string(files.path().join("flags.json")).expect("the document has it");
    let newer = flags
        .replace("\"premium\"", "\"gold\"")
        .replace("\"defaultVariant\": \"few\"", "\"defaultVariant\": \"many\"")
        .replace("\"DISABLED\"", "\"ENABLED\"");
    std::fs::write(files.path().join("newer.json"), newer).expect("a file");
    let binaries = Path::new(env!("CARGO_BIN_EXE_flagsctl")).parent().expect("a directory").display().to_string();
    let path = format!("{binaries}:{}", std::env::var("PATH").unwrap_or_default());
    let mut run = 0;
    for block in blocks.iter().filter(|block| block.info == "console") {
        for (command, printed) in examples(&block.text) {
            let mut shell = Command::new("sh");
            shell.args(["-c", &format!("{command} 2>&1")]).current_dir(files.path()).env("PATH", &path);
            shell.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
            assert_eq!(finish(shell.spawn().expect("sh")).stdout, printed, "$ {command}");
            run += 1;
        }
    }
    assert!(run >= 15, "{run} examples were found");
}
