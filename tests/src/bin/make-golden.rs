//! `make-golden [--again]`: makes the newest golden files out of `definition.json` beside them: a control
//! page, a segment, its id lists, and the answers. `--again` replaces them, which is right only before anybody else has such
//! files.

use std::fs;

use anyhow::{Result, ensure};
use libflags::Client;
use libflags::store::layout::FORMAT;
use libflags::store::{PublishMeta, Publisher, PublisherOptions};
use libflags_tests::golden;

fn main() -> Result<()> {
    let again = std::env::args().nth(1).is_some_and(|argument| argument == "--again");
    let folder = golden::folder(golden::NEWEST);
    ensure!(again || !folder.join("segment-1").exists(), "{} has golden files already", folder.display());
    let compilation = golden::compile(&folder)?;
    let set = tempfile::tempdir()?;
    let mut publisher = Publisher::open(set.path(), &PublisherOptions::default())?;
    for list in &compilation.lists {
        if let Some(built) = &list.built {
            publisher.publish_list(&format!("{:016x}", list.name), |file| built.write_to(file))?;
        }
    }
    let meta = PublishMeta { revision: golden::REVISION, ..PublishMeta::default() };
    publisher.publish(&compilation.snapshot, &meta)?;
    drop(publisher);

    for entry in fs::read_dir(&folder)? {
        let path = entry?.path();
        if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("list-")) {
            fs::remove_file(path)?;
        }
    }
    for entry in fs::read_dir(set.path().join(format!("v{FORMAT}")))? {
        let entry = entry?;
        if entry.file_name() != "lock" {
            fs::write(folder.join(entry.file_name()), fs::read(entry.path())?)?;
        }
    }
    let answers = golden::record(&Client::open(Some(set.path()))?.snapshot());
    let lines: Vec<String> = answers.iter().map(serde_json::Value::to_string).collect();
    fs::write(folder.join("answers.json"), format!("[\n{}\n]\n", lines.join(",\n")))?;
    println!("{} answers recorded in {}", lines.len(), folder.display());
    Ok(())
}
