//! From a definition to what readers see.

use std::cell::RefCell;
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use libflags::compile::{Compilation, Compiler, Patch};
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
        about: "one changed flag of 10 000, from its parsed definition to the answers of two readers",
        unit: "ms",
        target: Target::AtMost(1.0),
        measure: |lab| change(lab, 10_000).map(Some),
    },
    Row {
        name: "change-100k",
        about: "one changed flag of 100 000, from its parsed definition to the answers of two readers",
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
        self.put(&compilation)
    }

    /// Publishes a few flags of a document, as flagsd does with what a stream of changes brings.
    fn patch(&mut self, flags: &Document) -> Result<()> {
        let compilation = self.compiler.apply(&[Patch { flags, removed: &[] }])?;
        self.put(&compilation)
    }

    fn put(&mut self, compilation: &Compilation) -> Result<()> {
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

/// From a changed flag, parsed, until two clients of other threads answer by it. Not timed is what is done between two changes: flagsd
/// gets ready for the next, and readers, which evaluate on, give back the generation before.
fn change(lab: &Lab, number: usize) -> Result<Figures> {
    let store = lab.folder(&format!("change-{number}"))?;
    let changed = number / 2;
    let patches = [changed_flag(changed, false)?, changed_flag(changed, true)?];
    let writer = RefCell::new(Writer::new(&store)?);
    writer
        .borrow_mut()
        .publish(&document(&definitions::with_one_turned(&definitions::static_flags(number), changed), None)?)?;
    let figures = thread::scope(|scope| {
        let readers = [Reader::start(scope, &store, changed)?, Reader::start(scope, &store, changed)?];
        let before = !definitions::answer(changed);
        readers.iter().for_each(|reader| reader.ask(before));
        ensure!(readers.iter().all(|reader| reader.told() == Some(before)), "the first version does not show");
        let between = || {
            writer.borrow_mut().publisher.prepare();
            readers.iter().for_each(Reader::release);
            readers.each_ref().map(Reader::told)
        };
        between();
        let act = |turn: usize| {
            writer.borrow_mut().patch(&patches[turn % 2])?;
            readers.iter().for_each(|reader| reader.ask(definitions::answer(changed) == turn.is_multiple_of(2)));
            Ok(readers.each_ref().map(Reader::told))
        };
        measure::repeats(turns(lab, number), act, |turn, answers| {
            let expected = [Some(definitions::answer(changed) == turn.is_multiple_of(2)); 2];
            answers == expected && between() == expected
        })
    })?;
    std::fs::remove_dir_all(store)?;
    Ok(figures.times(1e-6))
}

/// The definition of one of the static flags, alone.
fn changed_flag(number: usize, turned: bool) -> Result<Document> {
    let text = definitions::one_static_flag(number);
    document(&if turned { definitions::with_one_turned(&text, number) } else { text }, None)
}

/// A client in a thread of its own, which reads when it is asked to.
struct Reader {
    ask: Sender<Ask>,
    told: Receiver<bool>,
}

enum Ask {
    /// Until it reads this.
    Answer(bool),
    /// For a while, in which the generation before is given back, part by part.
    Release,
}

/// Parts of 128 KiB, one an evaluation: for 15 MB and a processor that others want too.
const RELEASE: Duration = Duration::from_millis(20);

impl Reader {
    fn start<'s>(scope: &'s thread::Scope<'s, '_>, store: &Path, number: usize) -> Result<Self> {
        let (client, key) = (Client::open(Some(store))?, definitions::key(number));
        let ((ask, asked), (tell, told)) = (channel(), channel());
        scope.spawn(move || {
            let read = || client.bool(&key, &Context::anonymous(), false);
            for asked in asked {
                let start = Instant::now();
                match asked {
                    // It may answer from the version before while it reads the new one.
                    Ask::Answer(wanted) => while read() != wanted && start.elapsed() < Duration::from_secs(10) {},
                    Ask::Release => {
                        while start.elapsed() < RELEASE {
                            read();
                        }
                    }
                }
                if tell.send(read()).is_err() {
                    break;
                }
            }
        });
        Ok(Self { ask, told })
    }

    fn ask(&self, wanted: bool) {
        // One that is gone has nothing to tell.
        let _ = self.ask.send(Ask::Answer(wanted));
    }

    fn release(&self) {
        let _ = self.ask.send(Ask::Release);
    }

    fn told(&self) -> Option<bool> {
        self.told.recv().ok()
    }
}

fn turns(lab: &Lab, number: usize) -> usize {
    lab.effort.repeats * 10_000 / number.clamp(5_000, 20_000)
}
