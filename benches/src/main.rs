//! What a flag check costs, measured: the rows of the design's table of targets.
//!
//! `cargo xtask bench` builds everything this needs and keeps a record. By hand, for the rows that need nothing else:
//! `cargo run --release -p libflags-benches -- --only key`.

mod allocations;
mod c;
mod control;
mod definitions;
mod evaluate;
mod lab;
mod measure;
mod processes;
mod publish;
mod read;
mod scaling;
mod tail;

use anyhow::{Result, bail};
use clap::Parser;
use serde_json::json;

use crate::lab::{Lab, Programs, Target};
use crate::measure::{Effort, Figures};

#[derive(Parser)]
struct Arguments {
    /// Only the rows whose names begin so; may be given more than once.
    #[arg(long, value_name = "ROW")]
    only: Vec<String>,
    /// Lists the rows.
    #[arg(long)]
    list: bool,
    /// One JSON object a line instead of a table.
    #[arg(long)]
    json: bool,
    /// Hardly measures: shows that every row works and answers right.
    #[arg(long)]
    check: bool,
    /// `benches/c/read.c`, compiled: the rows in C.
    #[arg(long, value_name = "PROGRAM")]
    c_program: Option<std::path::PathBuf>,
    /// flagsd: the rows that need the daemon.
    #[arg(long, value_name = "PROGRAM")]
    flagsd: Option<std::path::PathBuf>,
    /// flags-control: the rows of the control plane, which need flagsd too.
    #[arg(long, value_name = "PROGRAM")]
    control: Option<std::path::PathBuf>,
    /// `benches/c/visible.c`, compiled: the control plane's rows that end in a reader in C.
    #[arg(long, value_name = "PROGRAM")]
    c_visible: Option<std::path::PathBuf>,
    /// The folder in which Python finds the package: the rows that start Python.
    #[arg(long, value_name = "FOLDER")]
    python_path: Option<std::path::PathBuf>,
    /// What this program does as a child of itself.
    #[arg(long, value_name = "ROLE STORE NUMBER", hide = true, num_args = 3)]
    child: Vec<String>,
}

/// One line of the table.
pub(crate) struct Row {
    name: &'static str,
    about: &'static str,
    unit: &'static str,
    target: Target,
    /// Gives `None` where the row needs a program that was not named.
    measure: fn(&Lab) -> Result<Option<Figures>>,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    if let [role, store, number] = arguments.child.as_slice() {
        if role == "load" {
            return control::work();
        }
        return processes::child(role, store, number.parse()?);
    }
    let rows: Vec<&Row> =
        [read::ROWS, evaluate::ROWS, c::ROWS, scaling::ROWS, publish::ROWS, processes::ROWS, tail::ROWS, control::ROWS]
            .into_iter()
            .flatten()
            .filter(|row| {
                arguments.only.is_empty() || arguments.only.iter().any(|start| row.name.starts_with(start.as_str()))
            })
            .collect();
    if rows.is_empty() {
        bail!("no row has such a name; see --list");
    }
    if arguments.list {
        for row in rows {
            println!("{:<22} {}", row.name, row.about);
        }
        return Ok(());
    }
    let effort = if arguments.check { Effort::CHECK } else { Effort::FULL };
    let programs = Programs {
        c: arguments.c_program,
        c_visible: arguments.c_visible,
        flagsd: arguments.flagsd,
        control: arguments.control,
        python_path: arguments.python_path,
    };
    let lab = Lab::new(effort, programs)?;
    if !arguments.json {
        println!("{:<22}{:>12}{:>11}{:>11}{:>11}  {:<6} what", "row", "target", "best", "median", "p99", "unit");
    }
    let mut failed = 0;
    for row in rows {
        let measured = (row.measure)(&lab);
        let note = lab.take_note();
        match measured {
            Ok(Some(figures)) if arguments.json => println!("{}", as_json(row, figures, &note)),
            Ok(Some(figures)) => print_line(row, figures, &note),
            Ok(None) if arguments.json => {}
            Ok(None) => {
                println!("{:<22}skipped: needs a program that was not named (cargo xtask bench names all)", row.name)
            }
            Err(error) => {
                failed += 1;
                eprintln!("{}: {error:#}", row.name);
            }
        }
    }
    if failed > 0 {
        bail!("{failed} rows failed");
    }
    Ok(())
}

fn as_json(row: &Row, figures: Figures, note: &str) -> serde_json::Value {
    let mut said = json!({
        "row": row.name,
        "about": row.about,
        "unit": row.unit,
        "target": row.target.text(),
        "met": row.target.is_met_by(figures),
        "best": rounded(figures.best),
        "median": rounded(figures.median),
        "p99": rounded(figures.p99),
        "samples": figures.samples,
    });
    if !note.is_empty() {
        said["note"] = json!(note);
    }
    said
}

/// Four digits after the point are more than any clock here has.
fn rounded(number: f64) -> f64 {
    (number * 1e4).round() / 1e4
}

fn print_line(row: &Row, figures: Figures, note: &str) {
    let mark = match row.target.is_met_by(figures) {
        Some(false) => "!",
        _ => " ",
    };
    println!(
        "{:<22}{:>12}{:>11.2}{:>11.2}{mark}{:>10.2}  {:<6} {} {note}",
        row.name,
        row.target.text(),
        figures.best,
        figures.median,
        figures.p99,
        row.unit,
        row.about
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every row that needs no other program runs and answers right; big ones stay out of the everyday run.
    #[test]
    fn every_row_works() {
        let lab = Lab::new(Effort::CHECK, Programs::default()).unwrap();
        let mut ran = 0;
        for row in [read::ROWS, evaluate::ROWS, publish::ROWS, tail::ROWS].into_iter().flatten() {
            if row.name.ends_with("-10m") || row.name.ends_with("-100k") {
                continue;
            }
            let figures = (row.measure)(&lab).unwrap_or_else(|error| panic!("{}: {error:#}", row.name));
            assert!(figures.is_some_and(|figures| figures.median >= 0.0), "{}", row.name);
            ran += 1;
        }
        assert!(ran >= 8, "only {ran} rows ran");
    }
}
