//! `flags-publish STORE`: publishes definition files in a store, as it is told on standard input, one command a line.
//!
//! For tests that need a publisher they can drive, pause or kill. Each command gets one line of answer, `ok ...` or
//! `error: ...`:
//!
//! - `publish FILE`: compiles a definition and publishes it; answers `ok GENERATION`
//! - `confirm`: says that what is published is still current
//! - `heartbeat`: gives a sign of life
//! - `state fresh|stale|frozen`: says how current the store is kept
//! - `exit`: ends in order; so does the end of standard input

use std::collections::BTreeSet;
use std::io::{BufRead, Write};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use libflags::compile::Compiler;
use libflags::definition::{Document, Limits, Selector};
use libflags::store::{PublishMeta, Publisher, PublisherOptions, WriterState};

fn main() -> Result<()> {
    let store = std::env::args_os().nth(1).context("usage: flags-publish STORE")?;
    let mut publisher = Publisher::open(Path::new(&store), &PublisherOptions::default())?;
    let mut compiler = Compiler::new(Limits::default());
    let mut output = std::io::stdout().lock();
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        if line == "exit" {
            writeln!(output, "ok")?;
            break;
        }
        match obey(&line, &mut publisher, &mut compiler) {
            Ok(answer) => writeln!(output, "{}", format!("ok {answer}").trim_end())?,
            Err(error) => writeln!(output, "error: {}", format!("{error:#}").replace('\n', " "))?,
        }
        output.flush()?;
    }
    Ok(())
}

fn obey(line: &str, publisher: &mut Publisher, compiler: &mut Compiler) -> Result<String> {
    match line.split_once(' ').unwrap_or((line, "")) {
        ("publish", path) => publish(Path::new(path), publisher, compiler),
        ("confirm", "") => {
            publisher.confirm(now_ns()?);
            Ok(String::new())
        }
        ("heartbeat", "") => {
            publisher.heartbeat();
            Ok(String::new())
        }
        ("state", state) => {
            publisher.set_state(match state {
                "fresh" => WriterState::Fresh,
                "stale" => WriterState::Stale,
                "frozen" => WriterState::Frozen,
                _ => bail!("no such state: {state}"),
            });
            Ok(String::new())
        }
        _ => bail!("no such command: {line}"),
    }
}

fn publish(path: &Path, publisher: &mut Publisher, compiler: &mut Compiler) -> Result<String> {
    let document = Document::load(path, compiler.limits())?;
    let compilation = compiler.compile(&[document], &Selector::All)?;
    let mut names = BTreeSet::new();
    for list in &compilation.lists {
        let name = format!("{:016x}", list.name);
        if let Some(built) = &list.built {
            publisher.publish_list(&name, |file| built.write_to(file))?;
        }
        names.insert(name);
    }
    let generation = publisher.publish(&compilation.snapshot, &PublishMeta::default())?;
    publisher.retain_lists(&names)?;
    publisher.heartbeat();
    Ok(generation.to_string())
}

fn now_ns() -> Result<u64> {
    Ok(u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos())?)
}
