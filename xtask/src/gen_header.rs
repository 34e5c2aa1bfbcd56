//! Makes `include/flags.h` from the comments and types of the crate in `ffi/`.

use std::fs;

use anyhow::{Context, Result, bail};

use crate::process;

/// Where the header lies, from the top of the checkout.
const HEADER: &str = "include/flags.h";

/// Writes the header, or with `check` only says whether the committed one is what it would write.
pub(crate) fn run(check: bool) -> Result<()> {
    let path = process::root().join(HEADER);
    let made = header()?;
    let committed = fs::read_to_string(&path).unwrap_or_default();
    if made == committed {
        println!("{HEADER} is up to date");
        return Ok(());
    }
    if check {
        let line = made.lines().zip(committed.lines()).take_while(|(made, committed)| made == committed).count() + 1;
        bail!("{HEADER} is stale from line {line} on: run cargo xtask gen header, and commit it");
    }
    fs::write(&path, made).with_context(|| format!("cannot write {HEADER}"))?;
    println!("wrote {HEADER}");
    Ok(())
}

/// The text of the header.
fn header() -> Result<String> {
    let ffi = process::root().join("ffi");
    let config = cbindgen::Config::from_file(ffi.join("cbindgen.toml")).map_err(anyhow::Error::msg)?;
    let bindings = cbindgen::Builder::new()
        .with_config(config)
        .with_crate(&ffi)
        .generate()
        .context("cbindgen cannot read the crate in ffi/")?;
    let mut text = Vec::new();
    bindings.write(&mut text);
    let text = String::from_utf8(text).context("cbindgen wrote something that is not UTF-8")?;
    Ok(polished(&text))
}

/// What cbindgen has no setting for: types by their own name, comments of one line on one line, prototypes of at most 120 columns and otherwise one
/// argument a line, an empty line between the parts, and no trailing blanks.
fn polished(text: &str) -> String {
    let mut lines: Vec<String> = Vec::new();
    for line in text.lines().map(|line| untagged(line.trim_end())) {
        let line = line.as_str();
        let blank = |lines: &[String]| lines.last().is_none_or(String::is_empty);
        if line.is_empty() && blank(&lines) {
            continue;
        }
        match line.trim_start() {
            "*/" => close_comment(&mut lines, line),
            _ if line.len() > COLUMNS && line.ends_with(");") => wrap_prototype(&mut lines, line),
            _ => lines.push(line.to_owned()),
        }
    }
    let mut text = lines.join("\n");
    text.push('\n');
    text
}

/// `flags_list` for `struct flags_list`, but where the type is defined.
fn untagged(line: &str) -> String {
    if line.starts_with("typedef") {
        return line.to_owned();
    }
    ["struct", "union", "enum"]
        .iter()
        .fold(line.to_owned(), |line, tag| line.replace(&format!("{tag} flags_"), "flags_"))
}

/// How wide a line may be.
const COLUMNS: usize = 120;

/// Ends a comment: without an empty line before its end, and on one line where it has room.
fn close_comment(lines: &mut Vec<String>, end: &str) {
    while lines.last().is_some_and(|line| line.trim_start() == "*") {
        lines.pop();
    }
    if let [.., start, only] = lines.as_slice()
        && start.trim_start() == "/**"
        && let Some(words) = only.trim_start().strip_prefix("* ")
        && start.len() + words.len() + 4 <= COLUMNS
    {
        let joined = format!("{start} {words} */");
        lines.truncate(lines.len() - 2);
        lines.push(joined);
    } else {
        lines.push(end.to_owned());
    }
}

fn wrap_prototype(lines: &mut Vec<String>, line: &str) {
    let (name, arguments) = line.split_once('(').unwrap_or((line, ""));
    lines.push(format!("{name}("));
    lines.extend(arguments.split_inclusive(", ").map(|argument| format!("    {}", argument.trim_end())));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_header_is_what_would_be_made() {
        run(true).unwrap();
    }

    #[test]
    fn making_it_twice_gives_the_same() {
        assert_eq!(header().unwrap(), header().unwrap());
    }

    #[test]
    fn comments_and_prototypes_are_tidied() {
        let prototype = format!("int {}(int first, int second);", "f".repeat(COLUMNS));
        let made = polished(&format!(
            "\n\n/**\n * One.\n *\n */\n{prototype}  \n\n\n/**\n * One.\n * Two.\n */\nint f(void);\n"
        ));
        let wrapped = format!("int {}(\n    int first,\n    int second);", "f".repeat(COLUMNS));
        assert_eq!(made, format!("/** One. */\n{wrapped}\n\n/**\n * One.\n * Two.\n */\nint f(void);\n"));
    }
}
