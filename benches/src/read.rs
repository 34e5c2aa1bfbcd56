//! Flags without targeting, by key and by handle.

use anyhow::Result;
use libflags::{Client, Context};

use crate::Row;
use crate::definitions;
use crate::lab::{Lab, Target};
use crate::measure::{self, Figures, Random};

pub(crate) const ROWS: &[Row] = &[
    Row {
        name: "key",
        about: "static bool by key, 1 000 flags in random order, Rust",
        unit: "ns",
        target: Target::AtMost(10.0),
        measure: |lab| by_key(lab, 1_000).map(Some),
    },
    Row {
        name: "key-100k",
        about: "static bool by key, 100 000 flags in random order, Rust",
        unit: "ns",
        target: Target::AtMost(45.0),
        measure: |lab| by_key(lab, 100_000).map(Some),
    },
    Row {
        name: "pinned-key",
        about: "static bool by key out of a pinned version, 1 000 flags, Rust",
        unit: "ns",
        target: Target::None,
        measure: |lab| by_key_pinned(lab).map(Some),
    },
    Row {
        name: "handle",
        about: "static bool by resolved handle, 16 of 1 000 flags, Rust",
        unit: "ns",
        target: Target::AtMost(3.0),
        measure: |lab| by_handle(lab).map(Some),
    },
];

/// A client on a store of `number` static flags.
pub(crate) fn static_client(lab: &Lab, number: usize) -> Result<Client> {
    lab.client(&format!("static-{number}"), || definitions::static_flags(number))
}

/// The keys of `number` static flags in random order, with their answers.
pub(crate) fn static_inputs(number: usize) -> Vec<(String, bool)> {
    let mut inputs: Vec<(String, bool)> =
        (0..number).map(|index| (definitions::key(index), definitions::answer(index))).collect();
    Random::new(42).shuffle(&mut inputs);
    // Made anew in this order, so that the keys themselves lie in memory as they are read.
    inputs.iter().map(|(key, answer)| (key.as_str().to_owned(), *answer)).collect()
}

fn by_key(lab: &Lab, number: usize) -> Result<Figures> {
    let client = static_client(lab, number)?;
    let context = Context::anonymous();
    measure::reads(lab.effort, &static_inputs(number), |key| client.bool(key, &context, false))
}

fn by_key_pinned(lab: &Lab) -> Result<Figures> {
    let client = static_client(lab, 1_000)?;
    let pinned = client.snapshot();
    let context = Context::anonymous();
    measure::reads(lab.effort, &static_inputs(1_000), |key| pinned.bool(key, &context, false))
}

fn by_handle(lab: &Lab) -> Result<Figures> {
    let client = static_client(lab, 1_000)?;
    let context = Context::anonymous();
    let inputs = static_inputs(1_000);
    let handles: Vec<_> = inputs[..16].iter().map(|(key, answer)| (client.flag(key), *answer)).collect();
    measure::reads(lab.effort, &handles, |handle| handle.bool(&context, false))
}
