//! Flags without targeting, by key.

use anyhow::Result;
use arc_swap::ArcSwap;
use libflags::definition::Format;
use libflags::{Client, Context};

use crate::contest::{self, Contender, Effort, Outcome};
use crate::measure::Random;
use crate::{Row, definitions, peer};

pub(crate) const ROWS: &[Row] = &[
    Row {
        name: "key",
        about: "static bool by key, 1 000 flags in random order",
        unit: "ns",
        measure: |effort| by_key(effort, 1_000),
        absent: &[],
    },
    Row {
        name: "key-100k",
        about: "static bool by key, 100 000 flags in random order",
        unit: "ns",
        // Longer turns, since each begins with caches full of somebody else's flags.
        measure: |effort| {
            by_key(Effort { turn: effort.turn * 5, rounds: effort.rounds.div_ceil(5), ..effort }, 100_000)
        },
        absent: &[],
    },
];

/// The keys of `number` static flags in random order, with their answers.
pub(crate) fn inputs(number: usize) -> Vec<(String, bool)> {
    let mut inputs: Vec<(String, bool)> =
        (0..number).map(|index| (definitions::key(index), definitions::answer(index))).collect();
    Random::new(42).shuffle(&mut inputs);
    // Made anew in this order, so that the keys themselves lie in memory as they are read.
    inputs.iter().map(|(key, answer)| (key.as_str().to_owned(), *answer)).collect()
}

fn by_key(effort: Effort, number: usize) -> Result<Vec<Outcome>> {
    let folder = crate::folder()?;
    let client = Client::from_definition(&definitions::static_flags(number), Format::Json)?;
    let nobody = Context::anonymous();
    let yggdrasil = peer::yggdrasil::engine(&peer::yggdrasil::features(number, false))?;
    let yggdrasil_nobody = peer::yggdrasil::user("user-1")?;
    let eppo = peer::eppo::configuration(&peer::eppo::flags(number, false))?;
    let eppo_read = peer::eppo::reader(&eppo);
    let eppo_nobody = peer::eppo::user("user-1");
    let engine = datalogic_rs::Engine::new();
    let rules = peer::datalogic::rules(&engine, number, false)?;
    let mut session = engine.session();
    let datalogic_nobody = peer::datalogic::nobody()?;
    let mut synchronizer = peer::mmap_sync::synchronizer(folder.path());
    peer::mmap_sync::write(&mut synchronizer, &peer::map(number).into())?;
    let map = ArcSwap::from_pointee(peer::map(number));
    let lmdb = peer::lmdb::Store::new(folder.path(), &peer::map(number))?;
    let keys = || inputs(number);
    contest::hold(
        effort,
        vec![
            Contender::new(peer::LIBFLAGS, keys(), |key| client.bool(key, &nobody, false)),
            Contender::new(peer::YGGDRASIL, keys(), |key| yggdrasil.is_enabled(key, &yggdrasil_nobody, &None)),
            Contender::new(peer::EPPO, keys(), |key| eppo_read(key, &eppo_nobody)),
            Contender::new(peer::DATALOGIC, keys(), |key| {
                peer::datalogic::is_on(&mut session, rules.get(key), &datalogic_nobody)
            }),
            Contender::new(peer::MMAP_SYNC, keys(), |key| peer::mmap_sync::is_on(&mut synchronizer, key)),
            Contender::new(peer::ARC_SWAP, keys(), |key| map.load().get(key).copied().unwrap_or(false)),
            Contender::new(peer::LMDB, keys(), |key| lmdb.is_on(key)),
        ],
    )
}
