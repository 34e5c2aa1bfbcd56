//! From the text of a definition to the first answer, each in its own format.

use std::time::Instant;

use anyhow::{Result, ensure};
use libflags::definition::Format;
use libflags::{Client, Context};

use crate::contest::{self, Outcome};
use crate::{Row, definitions, peer};

const NO_DEFINITIONS: &[(&str, &str)] = &[
    (peer::DATALOGIC, "has rules, no definitions of flags"),
    (peer::MMAP_SYNC, "has no definitions of flags"),
    (peer::ARC_SWAP, "has no definitions of flags"),
    (peer::LMDB, "has no definitions of flags"),
];

pub(crate) const ROWS: &[Row] = &[
    Row {
        name: "load-1k",
        about: "1 000 flags from JSON text to the first read, in process",
        unit: "ms",
        measure: |effort| load(effort.repeats * 2, 1_000),
        absent: NO_DEFINITIONS,
    },
    Row {
        name: "load-10k",
        about: "10 000 flags from JSON text to the first read, in process",
        unit: "ms",
        measure: |effort| load(effort.repeats, 10_000),
        absent: NO_DEFINITIONS,
    },
    Row {
        name: "load-100k",
        about: "100 000 flags from JSON text to the first read, in process",
        unit: "ms",
        measure: |effort| load(effort.repeats.div_ceil(5), 100_000),
        absent: NO_DEFINITIONS,
    },
];

fn load(repeats: usize, number: usize) -> Result<Vec<Outcome>> {
    let definition = definitions::static_flags(number);
    let features = peer::yggdrasil::features(number, false);
    let flags = peer::eppo::flags(number, false);
    let (key, right) = (definitions::key(number - 1), definitions::answer(number - 1));
    let key = key.as_str();
    let libflags = |_| {
        let start = Instant::now();
        let client = Client::from_definition(&definition, Format::Json)?;
        let answer = client.bool(key, &Context::anonymous(), !right);
        let time = start.elapsed();
        ensure!(answer == right, "a wrong answer");
        Ok(time)
    };
    let yggdrasil = |_| {
        let nobody = peer::yggdrasil::user("user-1")?;
        let start = Instant::now();
        let engine = peer::yggdrasil::engine(&features)?;
        let answer = engine.is_enabled(key, &nobody, &None);
        let time = start.elapsed();
        ensure!(answer == right, "a wrong answer");
        Ok(time)
    };
    let eppo = |_| {
        let nobody = peer::eppo::user("user-1");
        let start = Instant::now();
        let configuration = peer::eppo::configuration(&flags)?;
        let answer = peer::eppo::reader(&configuration)(key, &nobody);
        let time = start.elapsed();
        ensure!(answer == right, "a wrong answer");
        Ok(time)
    };
    contest::repeat(
        repeats,
        vec![
            (peer::LIBFLAGS, Box::new(libflags)),
            (peer::YGGDRASIL, Box::new(yggdrasil)),
            (peer::EPPO, Box::new(eppo)),
        ],
    )
}
