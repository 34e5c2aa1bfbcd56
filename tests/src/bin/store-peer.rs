//! `store-peer SET`: publishes and reads a store as it is told on standard input, one command a line, one line of answer each,
//! `ok ...` or `error ...`:
//!
//! - `publish FILE`: compiles a definition and publishes it, as the set's publisher from now on; answers `ok GENERATION`
//! - `leave`: no longer publishes
//! - `answers GENERATION`: waits until the client reads that generation and says what each of its flags answers to some users
//!
//! `ci/previous.sh` builds this very file over the library as it was at an earlier commit too, so it uses nothing but the
//! library's lasting API and the standard library.

use std::error::Error;
use std::io::{BufRead, Write};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use libflags::compile::Compiler;
use libflags::definition::{Document, Limits, Selector};
use libflags::store::{PublishMeta, Publisher, PublisherOptions};
use libflags::{Client, Context, FlagValue, Pinned, Want};

fn main() -> Result<(), Box<dyn Error>> {
    let set = std::env::args_os().nth(1).ok_or("usage: store-peer SET")?;
    let (mut publisher, mut client) = (None, None);
    let mut output = std::io::stdout().lock();
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let answer = match line.split_once(' ').unwrap_or((&line, "")) {
            ("publish", file) => publish(&mut publisher, Path::new(&set), Path::new(file)),
            ("leave", "") => {
                publisher = None;
                Ok(String::new())
            }
            ("answers", generation) => answers(&mut client, Path::new(&set), generation),
            _ => Err(format!("no such command: {line}").into()),
        };
        match answer {
            Ok(text) => writeln!(output, "ok {}", text.replace('\n', " "))?,
            Err(error) => writeln!(output, "error {}", error.to_string().replace('\n', " "))?,
        }
        output.flush()?;
    }
    Ok(())
}

fn publish(publisher: &mut Option<Publisher>, set: &Path, file: &Path) -> Result<String, Box<dyn Error>> {
    let limits = Limits::default();
    let document = Document::load(file, &limits)?;
    let compilation = Compiler::new(limits).compile(&[document], &Selector::All)?;
    let publisher = match publisher {
        Some(publisher) => publisher,
        None => publisher.insert(Publisher::open(set, &PublisherOptions::default())?),
    };
    for list in &compilation.lists {
        if let Some(built) = &list.built {
            publisher.publish_list(&format!("{:016x}", list.name), |file| built.write_to(file))?;
        }
    }
    Ok(publisher.publish(&compilation.snapshot, &PublishMeta::default())?.to_string())
}

fn answers(client: &mut Option<Client>, set: &Path, generation: &str) -> Result<String, Box<dyn Error>> {
    let client = match client {
        Some(client) => client,
        None => client.insert(Client::open(Some(set))?),
    };
    let wanted: u64 = generation.parse()?;
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        let flags = client.snapshot();
        if flags.generation() == wanted {
            return Ok(all_answers(&flags));
        }
        let status = client.status();
        match status.last_error {
            Some(error) => return Err(error.into()),
            None if Instant::now() > end => return Err(format!("it stays at generation {}", status.generation).into()),
            None => thread::sleep(Duration::from_millis(5)),
        }
    }
}

fn all_answers(flags: &Pinned) -> String {
    let users = [
        Context::anonymous(),
        Context::new("user-1")
            .with("tier", "gold")
            .with("age", 20)
            .with("email", "b@example.com")
            .with("country", "DE"),
        Context::new("user-2").with("tier", "silver").with("age", 18).with("version", "2.10.0").with("name", "xaz"),
        Context::new("ürgen").with("age", "18").with("email", "ü@example.org").with("country", "CH"),
    ];
    let mut told = Vec::new();
    for key in flags.keys() {
        for (number, user) in users.iter().enumerate() {
            let evaluation = flags.evaluate(key, Want::Any, user);
            let value = match evaluation.value {
                None => "none".to_owned(),
                Some(FlagValue::Bool(value)) => value.to_string(),
                Some(FlagValue::Int(value)) => value.to_string(),
                Some(FlagValue::Float(value)) => format!("{value:?}"),
                Some(FlagValue::Text(value) | FlagValue::Json(value)) => format!("{value:?}"),
            };
            let (variant, reason) = (evaluation.variant.unwrap_or("-"), evaluation.reason.as_str());
            let error = evaluation.error.map_or("-", |error| error.as_str());
            told.push(format!("{key}/{number}: {value} {variant} {reason} {error}"));
        }
    }
    told.join("; ")
}
