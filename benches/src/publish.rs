//! From a definition to what readers see.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use libflags::compile::Compiler;
use libflags::definition::{Document, Format, Limits, Selector};
use libflags::store::{PublishMeta, Publisher, PublisherOptions};
use libflags::{Client, Context};

use crate::Row;
use crate::definitions;
use crate::lab::{Lab, Target};
use crate::measure::{self, Figures};

pub(crate) const ROWS: &[Row] = &[
    Row {
        name: "load-1k",
        about: "1 000 flags from JSON text to the first read, in process",
        unit: "ms",
        target: Target::AtMost(2.0),
        measure: |lab| load(lab, 1_000).map(Some),
    },
    Row {
        name: "load-10k",
        about: "10 000 flags from JSON text to the first read, in process",
        unit: "ms",
        target: Target::AtMost(12.0),
        measure: |lab| load(lab, 10_000).map(Some),
    },
    Row {
        name: "load-100k",
        about: "100 000 flags from JSON text to the first read, in process",
        unit: "ms",
        target: Target::AtMost(100.0),
        measure: |lab| load(lab, 100_000).map(Some),
    },
    Row {
        name: "change-10k",
        about: "one changed flag of 10 000, from the parsed document to a reader's answer",
        unit: "ms",
        target: Target::AtMost(1.0),
        measure: |lab| change(lab, 10_000).map(Some),
    },
    Row {
        name: "change-100k",
        about: "one changed flag of 100 000, from the parsed document to a reader's answer",
        unit: "ms",
        target: Target::AtMost(5.0),
        measure: |lab| change(lab, 100_000).map(Some),
    },
];

/// Compiles documents and publishes them into a store, as flagsd does.
pub(crate) struct Writer {
    compiler: Compiler,
    publisher: Publisher,
}

impl Writer {
    pub(crate) fn new(store: &Path) -> Result<Self> {
        let publisher = Publisher::open(store, &PublisherOptions::default())?;
        Ok(Self { compiler: Compiler::new(Limits::default()), publisher })
    }

    pub(crate) fn publish(&mut self, document: &Document) -> Result<()> {
        let compilation = self.compiler.compile(std::slice::from_ref(document), &Selector::All)?;
        ensure!(compilation.problems.is_empty(), "{:?}", compilation.problems);
        for list in &compilation.lists {
            if let Some(built) = &list.built {
                self.publisher.publish_list(&format!("{:016x}", list.name), |to| built.write_to(to))?;
            }
        }
        self.publisher.publish(&compilation.snapshot, &PublishMeta::default())?;
        Ok(())
    }
}

/// A definition, taken apart; the id lists that it names lie in `folder`.
pub(crate) fn document(text: &str, folder: Option<&Path>) -> Result<Document> {
    let name = folder.map_or_else(|| "flags.json".into(), |folder| folder.join("flags.json").display().to_string());
    Document::parse(&name, text, Format::Json, &Limits::default()).context("the definition cannot be read")
}

fn load(lab: &Lab, number: usize) -> Result<Figures> {
    let text = definitions::static_flags(number);
    let last = definitions::key(number - 1);
    let act = |_| {
        let client = Client::from_definition(&text, Format::Json)?;
        let answer = client.bool(&last, &Context::anonymous(), !definitions::answer(number - 1));
        Ok((client, answer))
    };
    let figures =
        measure::repeats(turns(lab, number), act, |_, (_, answer)| answer == definitions::answer(number - 1))?;
    Ok(figures.times(1e-6))
}

fn change(lab: &Lab, number: usize) -> Result<Figures> {
    let store = lab.folder(&format!("change-{number}"))?;
    let text = definitions::static_flags(number);
    let changed = number / 2;
    let documents = [document(&text, None)?, document(&definitions::with_one_turned(&text, changed), None)?];
    let mut writer = Writer::new(&store)?;
    writer.publish(&documents[1])?;
    let client = Client::open(Some(&store))?;
    let key = definitions::key(changed);
    let read = || client.bool(&key, &Context::anonymous(), false);
    ensure!(read() != definitions::answer(changed), "the first version does not show");
    let act = |turn: usize| {
        writer.publish(&documents[turn % 2])?;
        // A reader may answer from the version before while it reads the new one.
        let wanted = definitions::answer(changed) == turn.is_multiple_of(2);
        let end = Instant::now() + Duration::from_secs(10);
        while read() != wanted && Instant::now() < end {}
        Ok(read())
    };
    let figures = measure::repeats(turns(lab, number), act, |turn, answer| {
        answer == (definitions::answer(changed) == (turn % 2 == 0))
    })?;
    std::fs::remove_dir_all(store)?;
    Ok(figures.times(1e-6))
}

fn turns(lab: &Lab, number: usize) -> usize {
    lab.effort.repeats * 10_000 / number.clamp(5_000, 20_000)
}
