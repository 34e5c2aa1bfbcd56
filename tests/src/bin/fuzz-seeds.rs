//! Writes what the fuzzer starts from, `FOLDER/TARGET/NAME`: `fuzz-seeds FOLDER`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use libflags::compile::Compiler;
use libflags::definition::{Document, Format, Limits, Selector};
use libflags_tests::fuzz::store::{Mend, input};
use libflags_tests::golden;
use libflags_tests::languages::root;
use serde_json::{Map, Value as Json, json};

fn main() -> Result<()> {
    let folder = PathBuf::from(std::env::args_os().nth(1).context("usage: fuzz-seeds FOLDER")?);
    let definitions = definitions()?;
    for (number, definition) in definitions.iter().enumerate() {
        write(&folder, "definition", number, definition.to_string().as_bytes())?;
    }
    for (number, store) in stores(&definitions)?.iter().enumerate() {
        write(&folder, "store", number, store)?;
    }
    for (number, calls) in calls().iter().enumerate() {
        write(&folder, "c_api", number, calls)?;
    }
    Ok(())
}

fn write(folder: &Path, target: &str, number: usize, seed: &[u8]) -> Result<()> {
    let folder = folder.join(target);
    fs::create_dir_all(&folder)?;
    Ok(fs::write(folder.join(format!("seed-{number}")), seed)?)
}

/// The definitions of the other tests, and their rules, a few to a definition.
fn definitions() -> Result<Vec<Json>> {
    let read = |path: &str| -> Result<Json> {
        let text = fs::read_to_string(root().join(path)).with_context(|| path.to_owned())?;
        Ok(serde_json::from_str(&text)?)
    };
    let mut definitions = vec![read("tests/golden/v1/definition.json")?, read("tests/c/flags.json")?];
    let groups = read("tests/vectors/flags.json")?;
    definitions.extend(groups.as_array().into_iter().flatten().map(|group| group["definition"].clone()));
    for group in read("tests/vectors/rules.json")?.as_array().into_iter().flatten() {
        for cases in group["cases"].as_array().map_or(&[][..], Vec::as_slice).chunks(4) {
            let flags = cases.iter().enumerate().map(|(number, case)| {
                let variants = json!({"on": "a", "off": "b", "true": "c", "false": "d", "0": "e", "1": "f", "a": "g"});
                let flag =
                    json!({"state": "ENABLED", "variants": variants, "defaultVariant": "off", "targeting": case[0]});
                (format!("f{number}"), flag)
            });
            let flags: Map<String, Json> = flags.collect();
            let subjects: Vec<&Json> = cases.iter().map(|case| &case[1]).filter(|data| data.is_object()).collect();
            definitions.push(json!({"flags": flags, "$subjects": subjects}));
        }
    }
    Ok(definitions)
}

/// The golden store, put right in several ways, and the snapshots of the definitions.
fn stores(definitions: &[Json]) -> Result<Vec<Vec<u8>>> {
    let read = |name: &str| fs::read(golden::folder(golden::NEWEST).join(name));
    let (control, segment, list) = (read("control")?, read("segment-1")?, read("list-8b23f8252ecc9fb4")?);
    let all = Mend::IDENTITY | Mend::RECORDS | Mend::SEGMENT | Mend::HEADER | Mend::PAYLOAD | Mend::LIST;
    let mut stores = Vec::new();
    for mend in [all, 0, Mend::IDENTITY, Mend::IDENTITY | Mend::RECORDS] {
        for more in [0, 4, 7, 8] {
            stores.push(input(mend, more, &control, &segment, &list));
        }
    }
    for definition in definitions {
        let document = Document::parse("definition", definition.to_string(), Format::Json, &Limits::default())?;
        let snapshot = Compiler::new(Limits::default()).compile(&[document], &Selector::All)?.snapshot;
        let segment = [&segment[..128], &snapshot].concat();
        stores.push(input(all, 4, &control, &segment, &[]));
        stores.push(input(all | Mend::IN_MEMORY, 0, &control, &segment, &[]));
    }
    Ok(stores)
}

/// Bytes of no meaning: any are calls.
fn calls() -> Vec<Vec<u8>> {
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut byte = || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random.to_le_bytes()[4]
    };
    (0..64).map(|number| (0..32 + number * 8).map(|_| byte()).collect()).collect()
}
