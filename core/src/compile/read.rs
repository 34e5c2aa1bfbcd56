//! From flags as they are written to islands in the bank; many at a time on several threads.
//!
//! What comes of a flag depends on its text and its document only, so threads share nothing: each has its own bank, and the banks are
//! put one behind the other.

use std::{collections::HashMap, num::NonZero, sync::Arc, thread};

use super::{
    emit::Emitter,
    fold::fold,
    known::{Bank, Place, Uses},
};
use crate::buffer;
use crate::definition::{
    Document, Evaluators, Flag, Limits, ListNames, Problem, RawFlag, Tape, flag::Scalar, flag_set_id,
};

/// What the flags of one document have in common.
#[derive(Debug)]
pub(super) struct Reading<'r> {
    pub(super) evaluators: Evaluators<'r>,
    /// The names of the id lists by what rules call them.
    pub(super) labels: &'r HashMap<String, u64>,
    pub(super) names: ListNames,
    pub(super) metadata: &'r [(String, Scalar)],
    /// The flag set they are in unless they say otherwise.
    pub(super) set_id: Option<Arc<str>>,
    pub(super) limits: &'r Limits,
}

/// A flag without errors, compiled.
#[derive(Debug)]
pub(super) struct Fresh {
    pub(super) island: Place,
    pub(super) what: u32,
    pub(super) uses: Option<Box<Uses>>,
    pub(super) set_id: Option<Arc<str>>,
    pub(super) warnings: Vec<Problem>,
}

/// From how many flags on it pays to start another thread.
const MANY: usize = 4096;

/// More threads than this would only wait for memory.
const MOST_THREADS: usize = 8;

impl<'r> Reading<'r> {
    /// Of the flags of `document`.
    pub(super) fn of(document: &'r Document, labels: &'r HashMap<String, u64>, limits: &'r Limits) -> Self {
        Self::new(document.evaluators(limits), labels, document.metadata(), limits)
    }

    pub(super) fn new(
        evaluators: Evaluators<'r>,
        labels: &'r HashMap<String, u64>,
        metadata: &'r [(String, Scalar)],
        limits: &'r Limits,
    ) -> Self {
        let set_id = flag_set_id(metadata, &[]).map(Arc::from);
        Self { evaluators, labels, names: labels.keys().cloned().collect(), metadata, set_id, limits }
    }

    /// Reads and compiles flags into `bank`, and gives what came of each, in their order.
    pub(super) fn flags(&self, raws: &[RawFlag<'_>], bank: &mut Bank) -> Vec<Result<Fresh, Vec<Problem>>> {
        let threads = thread::available_parallelism().map_or(1, NonZero::get).min(MOST_THREADS);
        let mut read = buffer::with_room(raws.len());
        bank.make_room(raws);
        if raws.len() < MANY || threads == 1 {
            self.some(raws, bank, &mut read);
            return read;
        }
        let parts = raws.chunks(raws.len().div_ceil(threads));
        thread::scope(|scope| {
            let helpers: Vec<_> = parts
                .skip(1)
                .map(|part| {
                    let read = move || {
                        let (mut bank, mut read) = (Bank::default(), buffer::with_room(part.len()));
                        bank.make_room(part);
                        self.some(part, &mut bank, &mut read);
                        (read, bank)
                    };
                    // Where no thread is to be had, this one does its work.
                    (part, thread::Builder::new().spawn_scoped(scope, read))
                })
                .collect();
            self.some(raws.get(..raws.len().div_ceil(threads)).unwrap_or(raws), bank, &mut read);
            for (part, helper) in helpers {
                match helper.map(thread::ScopedJoinHandle::join) {
                    Ok(Ok((flags, other))) => {
                        let start = bank.append(&other);
                        let moved = |mut fresh: Fresh| {
                            fresh.island.start += start;
                            fresh
                        };
                        read.extend(flags.into_iter().map(|flag| flag.map(moved)));
                    }
                    Ok(Err(panic)) => std::panic::resume_unwind(panic),
                    Err(_) => self.some(part, bank, &mut read),
                }
            }
            read
        })
    }

    fn some(&self, raws: &[RawFlag<'_>], bank: &mut Bank, read: &mut Vec<Result<Fresh, Vec<Problem>>>) {
        let (mut tape, mut emitter) = (Tape::new(), Emitter::default());
        for raw in raws {
            let checked = Flag::parse_on(&mut tape, raw, &self.evaluators, &self.names, self.limits);
            read.push(checked.map(|checked| {
                let start = bank.bytes.len();
                let lists = |label: &str| self.labels.get(label).copied();
                let buffers = std::mem::take(&mut emitter);
                let mut flag = checked.flag;
                if let Some(folded) = flag.targeting.as_ref().and_then(fold) {
                    flag.targeting = Some(folded);
                }
                let emitted;
                (emitted, emitter) = buffers.flag(&flag, &lists, &mut bank.bytes);
                Fresh {
                    island: bank.place(start),
                    what: emitted.what,
                    uses: Uses::of(emitted.sets, emitted.lists),
                    set_id: self.set_id_of(&flag),
                    warnings: checked.warnings,
                }
            }));
        }
    }

    fn set_id_of(&self, flag: &Flag) -> Option<Arc<str>> {
        if flag.metadata.is_empty() {
            return self.set_id.clone();
        }
        let id = flag_set_id(self.metadata, &flag.metadata);
        if id == self.set_id.as_deref() { self.set_id.clone() } else { id.map(Arc::from) }
    }
}
