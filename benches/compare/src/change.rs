//! One changed flag, from the parsed change to a reader's answer. libflags itself is measured by libflags-benches, with a store
//! between writer and reader; of the peers here only mmap-sync and LMDB reach another process so.

use std::sync::Arc;
use std::time::Instant;

use anyhow::{Result, ensure};
use arc_swap::ArcSwap;
use serde_json::json;
use unleash_yggdrasil::UpdateMessage;

use crate::contest::{self, Effort, Outcome};
use crate::{Row, definitions, peer};

const WHOLE_ONLY: &[(&str, &str)] =
    &[(peer::EPPO, "takes only whole definitions, see the load rows"), (peer::DATALOGIC, "has rules, no set of flags")];

pub(crate) const ROWS: &[Row] = &[
    Row {
        name: "change-10k",
        about: "one changed flag of 10 000, from the parsed change to a reader's answer",
        unit: "ms",
        measure: |effort| change(effort, 10_000),
        absent: WHOLE_ONLY,
    },
    Row {
        name: "change-100k",
        about: "one changed flag of 100 000, from the parsed change to a reader's answer",
        unit: "ms",
        measure: |effort| change(Effort { repeats: effort.repeats.div_ceil(3), ..effort }, 100_000),
        absent: WHOLE_ONLY,
    },
];

fn change(effort: Effort, number: usize) -> Result<Vec<Outcome>> {
    let folder = crate::folder()?;
    let changed = definitions::key(number / 2);
    let key = changed.as_str();
    let nobody = peer::yggdrasil::user("user-1")?;
    let engine = peer::yggdrasil::engine(&peer::yggdrasil::features(number, false))?;
    let yggdrasil = |turn: usize| {
        let right = turn.is_multiple_of(2);
        let strategies = json!([{"name": "default", "parameters": {}, "constraints": []}]);
        let feature =
            json!({"name": key, "type": "release", "enabled": right, "strategies": strategies, "variants": []});
        let event = json!({"type": "feature-updated", "eventId": turn + 1, "feature": feature});
        let delta: UpdateMessage = serde_json::from_value(json!({"events": [event]}))?;
        ensure!(matches!(delta, UpdateMessage::PartialUpdate(_)), "it is not read as a partial update");
        let start = Instant::now();
        let warnings = engine.take_state(delta);
        let answer = engine.is_enabled(key, &nobody, &None);
        let time = start.elapsed();
        ensure!(warnings.is_none() && answer == right, "a wrong answer");
        Ok(time)
    };
    let mut writer = peer::mmap_sync::synchronizer(folder.path());
    let mut reader = peer::mmap_sync::synchronizer(folder.path());
    let mut values = peer::map(number);
    let mmap_sync = |turn: usize| {
        let right = turn.is_multiple_of(2);
        values.insert(key.to_owned(), right);
        let flags = std::mem::take(&mut values).into();
        let start = Instant::now();
        peer::mmap_sync::write(&mut writer, &flags)?;
        let answer = peer::mmap_sync::is_on(&mut reader, key);
        let time = start.elapsed();
        values = flags.into();
        ensure!(answer == right, "a wrong answer");
        Ok(time)
    };
    let map = ArcSwap::from_pointee(peer::map(number));
    let arc_swap = |turn: usize| {
        let right = turn.is_multiple_of(2);
        let start = Instant::now();
        let mut next = map.load().as_ref().clone();
        next.insert(key.to_owned(), right);
        map.store(Arc::new(next));
        let answer = map.load().get(key).copied();
        let time = start.elapsed();
        ensure!(answer == Some(right), "a wrong answer");
        Ok(time)
    };
    let store = peer::lmdb::Store::new(folder.path(), &peer::map(number))?;
    let lmdb = |turn: usize| {
        let right = turn.is_multiple_of(2);
        let start = Instant::now();
        store.put(key, right)?;
        let answer = store.is_on(key);
        let time = start.elapsed();
        ensure!(answer == right, "a wrong answer");
        Ok(time)
    };
    contest::repeat(
        effort.repeats,
        vec![
            (peer::YGGDRASIL, Box::new(yggdrasil)),
            (peer::MMAP_SYNC, Box::new(mmap_sync)),
            (peer::ARC_SWAP, Box::new(arc_swap)),
            (peer::LMDB, Box::new(lmdb)),
        ],
    )
}
