//! `flagsctl check`: everything that is wrong with definition files.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use libflags::{
    compile::Compiler,
    definition::{Document, Limits, Problem, Selector, Severity},
};
use serde_json::json;

use crate::{
    failure::{Exit, Failure},
    output::{Look, Output, count},
};

/// Check definition files: every problem of every flag, with its place
///
/// Id lists that a definition names are read too. A directory stands for the .json, .yaml and .yml files in it, as for flagsd.
#[derive(Args, Debug)]
#[command(after_help = "\
Exit codes: 0 nothing is wrong (or only warnings), 1 warnings and --strict, 2 errors, 3 nothing to check.

Examples:
  flagsctl check flags.json
  flagsctl check --strict flags/
  flagsctl check --format github flags/*.yaml    # annotations in a pull request")]
pub(crate) struct Check {
    /// Definition files, or directories of them
    #[arg(required = true, value_name = "FILE")]
    paths: Vec<PathBuf>,
    /// Let warnings fail the check
    #[arg(long)]
    strict: bool,
    /// How problems are written; --json is the same as `--format json`
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// `file:line:column: error: …`, as compilers do
    Text,
    /// One document with all problems
    Json,
    /// Commands that GitHub Actions turn into annotations
    Github,
}

pub(crate) fn run(arguments: &Check, output: &mut Output) -> Result<Exit, Failure> {
    let mut files = Vec::new();
    let mut problems = Vec::new();
    for path in &arguments.paths {
        if path.is_dir() {
            files.extend(definitions_in(path)?);
        } else {
            files.push(path.clone());
        }
    }
    let mut flags = 0;
    for file in &files {
        flags += check(file, &mut problems);
    }
    let errors = problems.iter().filter(|problem| problem.is_error()).count();
    let warnings = problems.len() - errors;
    let format = if output.json { Format::Json } else { arguments.format };
    match format {
        Format::Text => {
            for problem in &problems {
                text(problem, output)?;
            }
            let look = if errors > 0 {
                Look::Bad
            } else if warnings > 0 {
                Look::Warn
            } else {
                Look::Good
            };
            let outcome = format!("{}, {}", count(errors, "error"), count(warnings, "warning"));
            let outcome = output.paint(look, &outcome);
            output.line(format!("{}, {}: {outcome}", count(files.len(), "file"), count(flags, "flag")))?;
        }
        Format::Json => output.document(&json!({
            "files": files.len(), "flags": flags, "errors": errors, "warnings": warnings, "problems": problems,
        }))?,
        Format::Github => problems.iter().try_for_each(|problem| output.line(github(problem)))?,
    }
    Ok(match (errors, warnings) {
        (0, 0) => Exit::Done,
        (0, _) if arguments.strict => Exit::No,
        (0, _) => Exit::Done,
        _ => Exit::Wrong,
    })
}

/// Checks one file; gives the number of its flags.
fn check(file: &Path, problems: &mut Vec<Problem>) -> usize {
    let limits = Limits::default();
    let document = match Document::load(file, &limits) {
        Ok(document) => document,
        Err(error) => {
            problems.push(error.to_problem());
            return 0;
        }
    };
    let flags = document.flags().len();
    match Compiler::new(limits).compile(std::slice::from_ref(&document), &Selector::All) {
        Ok(compilation) => problems.extend(compilation.problems),
        Err(error) => problems.push(Problem {
            severity: Severity::Error,
            file: document.name().to_owned(),
            line: 1,
            column: 1,
            flag: None,
            pointer: String::new(),
            message: error.to_string(),
        }),
    }
    flags
}

/// The definition files in a directory, by name. Hidden ones are left out, as editors' and Kubernetes' are.
pub(crate) fn definitions_in(directory: &Path) -> Result<Vec<PathBuf>, Failure> {
    let failed = |error| Failure::new(format!("cannot read {}: {error}", directory.display()));
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let hidden = path.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
        let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default().to_ascii_lowercase();
        if !hidden && matches!(ending.as_str(), "json" | "yaml" | "yml") && path.is_file() {
            files.push(path);
        }
    }
    if files.is_empty() {
        return Err(Failure::new(format!("there is no .json, .yaml or .yml file in {}", directory.display())));
    }
    files.sort_unstable();
    Ok(files)
}

fn text(problem: &Problem, output: &mut Output) -> Result<(), Failure> {
    let line = problem.to_string();
    let place = format!("{}:{}:{}: ", problem.file, problem.line, problem.column);
    let severity = problem.severity.to_string();
    let look = if problem.is_error() { Look::Bad } else { Look::Warn };
    // Of a file whose name cannot be found in the line again, nothing is painted.
    let line = match line.strip_prefix(&place).and_then(|rest| rest.strip_prefix(&severity)) {
        Some(rest) => format!("{}{}{rest}", output.paint(Look::Bold, &place), output.paint(look, &severity)),
        None => line,
    };
    Ok(output.line(line)?)
}

/// A workflow command. Source: GitHub's toolkit, `core/src/command.ts`.
fn github(problem: &Problem) -> String {
    let data = |text: &str| text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A");
    let property = |text: &str| data(text).replace(':', "%3A").replace(',', "%2C");
    let title = match &problem.flag {
        Some(flag) => property(&format!("flag {flag}")),
        None => "flag definition".to_owned(),
    };
    let place = if problem.pointer.is_empty() { String::new() } else { format!("{}: ", problem.pointer) };
    format!(
        "::{} file={},line={},col={},title={title}::{}",
        problem.severity,
        property(&problem.file),
        problem.line,
        problem.column,
        data(&format!("{place}{}", problem.message)),
    )
}
