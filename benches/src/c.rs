//! The rows in C: `benches/c/read.c` measures itself on the stores made here.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::Row;
use crate::lab::{Lab, Target};
use crate::measure::Figures;
use crate::{definitions, evaluate};

pub(crate) const ROWS: &[Row] = &[
    Row {
        name: "c-key",
        about: "static bool by key, 1 000 flags in random order, C",
        unit: "ns",
        target: Target::AtMost(10.0),
        measure: |lab| static_flags(lab, "key", 1_000),
    },
    Row {
        name: "c-key-100k",
        about: "static bool by key, 100 000 flags in random order, C",
        unit: "ns",
        target: Target::AtMost(45.0),
        measure: |lab| static_flags(lab, "key-100k", 100_000),
    },
    Row {
        name: "c-handle",
        about: "static bool by resolved handle, C",
        unit: "ns",
        target: Target::AtMost(3.0),
        measure: |lab| static_flags(lab, "handle", 1_000),
    },
    Row {
        name: "c-equality",
        about: "one string equality, a context of 5 attributes made for each call, C",
        unit: "ns",
        target: Target::AtMost(20.0),
        measure: |lab| rules(lab, "equality"),
    },
    Row {
        name: "c-two-levels",
        about: "two levels of and/or over 4 attributes, a context of 5 made for each call, C",
        unit: "ns",
        target: Target::AtMost(45.0),
        measure: |lab| rules(lab, "two-levels"),
    },
    Row {
        name: "c-fractional",
        about: "fractional 50/50 on the targeting key, 4 096 users, C",
        unit: "ns",
        target: Target::AtMost(25.0),
        measure: |lab| rules(lab, "fractional"),
    },
    Row {
        name: "c-in-10k",
        about: "in over 10 000 ids in the rule, half of the users in it, C",
        unit: "ns",
        target: Target::AtMost(35.0),
        measure: |lab| rules(lab, "in-10k"),
    },
    Row {
        name: "c-in-10m",
        about: "in over an id list of 10 000 000, half of the users in it, C",
        unit: "ns",
        target: Target::AtMost(120.0),
        measure: |lab| {
            if lab.c_program.is_some() { run(lab, "in-10m", &evaluate::ten_million(lab)?) } else { Ok(None) }
        },
    },
    Row {
        name: "c-allocations",
        about: "allocations while evaluating all inputs once, the most of four kinds, C",
        unit: "",
        target: Target::AtMost(0.0),
        measure: |lab| rules(lab, "allocations"),
    },
    Row {
        name: "c-two-threads",
        about: "what a 2nd thread adds to reading by key, over what it adds to pure computing, C",
        unit: "×",
        target: Target::AtLeast(0.97),
        measure: |lab| static_flags(lab, "two-threads", 1_000),
    },
];

fn static_flags(lab: &Lab, row: &str, number: usize) -> Result<Option<Figures>> {
    let store = lab.store(&format!("static-{number}"), || definitions::static_flags(number))?;
    run(lab, row, &store)
}

fn rules(lab: &Lab, row: &str) -> Result<Option<Figures>> {
    let store = lab.store("rules", evaluate::rules)?;
    run(lab, row, &store)
}

fn run(lab: &Lab, row: &str, store: &Path) -> Result<Option<Figures>> {
    let Some(program) = &lab.c_program else { return Ok(None) };
    let output = Command::new(program)
        .arg(row)
        .arg(store)
        .arg(lab.effort.duration.as_millis().to_string())
        .output()
        .with_context(|| format!("cannot run {}", program.display()))?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr).trim());
    let text = String::from_utf8(output.stdout)?;
    let mut numbers = text.split_whitespace();
    let mut next = || numbers.next().context("the C program prints four numbers");
    let (best, median, p99) = (next()?.parse()?, next()?.parse()?, next()?.parse()?);
    Ok(Some(Figures { best, median, p99, samples: next()?.parse()? }))
}
