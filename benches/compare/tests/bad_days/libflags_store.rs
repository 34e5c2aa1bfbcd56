//! libflags: a publisher and clients, as flagsd and programs have them.

use std::fs;
use std::path::Path;

use anyhow::{Result, ensure};
use libflags::compile::Compiler;
use libflags::definition::{Document, Format, Limits, Selector};
use libflags::store::{PublishMeta, Publisher, PublisherOptions};
use libflags::{Client, Context, Error, Pinned};

use crate::days;
use crate::system::{Meanwhile, System, Version, Written};

pub(crate) struct Libflags;

fn listed(pinned: &Pinned) -> Result<Version> {
    let nobody = Context::anonymous();
    // A number that no version has, for a flag that is not there.
    Version::from_list(pinned.keys().map(|key| u32::try_from(pinned.int(key, &nobody, -1)).unwrap_or(u32::MAX)))
}

impl System for Libflags {
    const NAME: &'static str = "libflags";
    type Writer = (Publisher, Compiler);
    type Reader = Client;

    fn writer(folder: &Path) -> Result<Self::Writer> {
        Ok((Publisher::open(folder, &PublisherOptions::default())?, Compiler::new(Limits::default())))
    }

    fn write((publisher, compiler): &mut Self::Writer, version: Version) -> Result<Written> {
        let number = version.number;
        let flag = format!(r#"{{"state":"ENABLED","variants":{{"is":{number}}},"defaultVariant":"is"}}"#);
        let flags: Vec<String> = (0..version.length).map(|index| format!("\"flag-{index}\":{flag}")).collect();
        let text = format!("{{\"flags\":{{{}}}}}", flags.join(","));
        let document = Document::parse("flags.json", &text, Format::Json, &Limits::default())?;
        let compilation = compiler.compile(&[document], &Selector::All)?;
        publisher.publish(&compilation.snapshot, &PublishMeta::default())?;
        Ok(Written::default())
    }

    fn reader(folder: &Path) -> Result<Client> {
        Ok(Client::open(Some(folder))?)
    }

    fn read(client: &mut Client) -> Result<Version> {
        listed(&client.snapshot())
    }

    fn hold(client: &mut Client, meanwhile: impl FnOnce() -> Result<Meanwhile>) -> Result<Version> {
        let pinned = client.snapshot();
        listed(&pinned)?;
        meanwhile()?;
        listed(&pinned)
    }
}

/// A store of the next format, one whose segment is cut short, and one with a damaged control page.
pub(crate) fn foreign_format() -> Result<String> {
    let folder = days::folder()?;
    let mut writer = Libflags::writer(folder.path())?;
    Libflags::write(&mut writer, Version::of(1))?;
    let mut before = Libflags::reader(folder.path())?;
    drop(writer);
    let format = folder.path().join("v1");
    let segment = fs::read_dir(&format)?.filter_map(Result::ok).map(|entry| entry.path());
    let segment = segment.max_by_key(|path| path.metadata().map_or(0, |metadata| metadata.len()));
    let Some(segment) = segment else { anyhow::bail!("there is a segment") };

    let bytes = fs::read(&segment)?;
    // A new file of that name: whoever has the old one mapped keeps it.
    fs::remove_file(&segment)?;
    fs::write(&segment, &bytes[..bytes.len() / 2])?;
    ensure!(matches!(Client::open(Some(folder.path())), Err(Error::Corrupt { .. })), "half a segment is not refused");

    let control = format.join("control");
    let mut page = fs::read(&control)?;
    page[..64].fill(0xA5);
    fs::write(&control, page)?;
    ensure!(Client::open(Some(folder.path())).is_err(), "a damaged control page is not refused");

    fs::rename(&format, folder.path().join("v2"))?;
    let refused = Client::open(Some(folder.path()));
    ensure!(refused.is_err(), "a store of another format is not refused");
    ensure!(Libflags::read(&mut before)? == Version::of(1), "an open client loses what it has");
    Ok("opening is refused and says why; a client that is open keeps what it has".to_owned())
}
