//! A list of a million ids: uploaded, and on a host.

use std::fmt::Write as _;
use std::time::Instant;

use anyhow::{Result, ensure};
use serde_json::json;

use super::http::Connection;
use super::plane::{Database, ENVIRONMENT, Plane, processor_seconds};
use super::visible::{Daemon, Reader, now_us};
use crate::definitions;
use crate::lab::Lab;
use crate::measure::{Figures, count};

const FLAGS: usize = 1_000;

const IDS: usize = 1_000_000;

/// How many are added to the list afterwards.
const ADDED: usize = 100;

/// Bytes of a body that go out at once.
const PIECE: usize = 64 << 10;

/// The segment, and the flag that is on for those in it.
const SEGMENT: &str = "measured";
const FLAG: &str = "for-measured";

/// What became of one list, in seconds since its first byte was sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Uploaded {
    answered: f64,
    on_host: f64,
    /// Of the batch that followed, since its own first byte.
    added: f64,
    /// Processor seconds of server and flagsd until the list was on the host.
    server: f64,
    daemon: f64,
}

pub(super) fn upload(lab: &Lab) -> Result<Option<Figures>> {
    figures(lab, |uploaded| uploaded.answered)
}

pub(super) fn on_host(lab: &Lab) -> Result<Option<Figures>> {
    figures(lab, |uploaded| uploaded.on_host)
}

pub(super) fn add(lab: &Lab) -> Result<Option<Figures>> {
    figures(lab, |uploaded| uploaded.added)
}

fn figures(lab: &Lab, of: impl Fn(&Uploaded) -> f64) -> Result<Option<Figures>> {
    let Some(uploads) = uploads(lab)? else { return Ok(None) };
    let mean = |of: fn(&Uploaded) -> f64| uploads.iter().map(of).sum::<f64>() / count(uploads.len());
    let (server, daemon) = (mean(|uploaded| uploaded.server), mean(|uploaded| uploaded.daemon));
    lab.note(format!("a list took {server:.2} s of the server's processor time and {daemon:.2} s of flagsd's"));
    Figures::of(uploads.iter().map(of).collect()).map(Some)
}

fn uploads(lab: &Lab) -> Result<Option<Vec<Uploaded>>> {
    if let Some(uploads) = lab.uploads() {
        return Ok(Some(uploads));
    }
    let (Some(flagsd), Some(reader)) = (&lab.flagsd, &lab.c_visible) else { return Ok(None) };
    let Some(database) = Database::with_flags(lab, "segment", lab.scaled(FLAGS))? else { return Ok(None) };
    let plane = database.serve(lab)?;
    furnish(&plane)?;
    let daemon = Daemon::start(lab, flagsd, &plane.source()?, "segment")?;
    let mut reader = Reader::start(reader, &lab.folder("segment")?.join("store"))?;
    let mut uploads = Vec::new();
    for turn in 0..(lab.effort.repeats / 10).max(1) {
        uploads.push(measure(&plane, &daemon, &mut reader, turn, lab.scaled(IDS))?);
    }
    Ok(Some(lab.keep_uploads(uploads)))
}

/// Makes the list, empty, and the flag.
fn furnish(plane: &Plane) -> Result<()> {
    let environment = environment();
    plane.ask("POST", &format!("{environment}/segments"), &json!({"key": SEGMENT, "kind": "list"}))?;
    plane.ask("POST", "/api/v1/projects/shop/flags", &json!({"key": FLAG}))?;
    let config = json!({
        "state": "ENABLED",
        "defaultVariant": "off",
        "targeting": definitions::listed_ids(SEGMENT),
    });
    plane.ask("PATCH", &format!("{environment}/flags/{FLAG}"), &config)?;
    Ok(())
}

/// Puts a list in the place of that of the turn before, none of whose ids is in it; then adds some.
fn measure(plane: &Plane, daemon: &Daemon, reader: &mut Reader, turn: usize, ids: usize) -> Result<Uploaded> {
    let mut connection = plane.connect()?;
    let (body, batch) =
        (body(plane, "PUT", "ids", turn, 0..ids), body(plane, "POST", "ids/add", turn, ids..ids + ADDED));
    let processors = || Ok::<_, anyhow::Error>((processor_seconds(plane.pid())?, processor_seconds(daemon.pid())?));
    let (in_list, in_batch, in_neither) = (id(turn, ids / 2), id(turn, ids + ADDED / 2), id(turn + 1, 0));
    // Nobody is in it yet.
    for user in [&in_list, &in_batch] {
        at_once(reader, false, user)?;
    }

    let before = processors()?;
    reader.expect_for(FLAG, true, &in_list)?;
    let (answered, on_host) = send(&mut connection, reader, &body, ids)?;
    let after = processors()?;
    for (user, expected) in
        [(id(turn, 0), true), (id(turn, ids - 1), true), (in_batch.clone(), false), (in_neither.clone(), false)]
    {
        at_once(reader, expected, &user)?;
    }

    reader.expect_for(FLAG, true, &in_batch)?;
    let (_, added) = send(&mut connection, reader, &batch, ids + ADDED)?;
    for (user, expected) in [(&in_list, true), (&in_neither, false)] {
        at_once(reader, expected, user)?;
    }
    Ok(Uploaded { answered, on_host, added, server: after.0 - before.0, daemon: after.1 - before.1 })
}

/// Seconds until the answer, which has to speak of so many ids, and until the reader has what it waits for.
fn send(connection: &mut Connection, reader: &mut Reader, request: &[u8], ids: usize) -> Result<(f64, f64)> {
    let (start, start_us) = (Instant::now(), now_us()?);
    for piece in request.chunks(PIECE) {
        connection.send(piece)?;
    }
    let answer = connection.receive()?.json()?;
    let answered = start.elapsed().as_secs_f64();
    ensure!(answer["ids"] == ids, "{} ids, and not {ids}", answer["ids"]);
    let on_host = (reader.seen_us()? - start_us) / 1e6;
    Ok((answered, on_host))
}

/// Checks an answer that the reader has to give now.
fn at_once(reader: &mut Reader, expected: bool, user: &str) -> Result<()> {
    reader.expect_for(FLAG, expected, user)?;
    let asked = now_us()?;
    let seen = reader.seen_us()?;
    ensure!(seen - asked < 1e6, "{user} was not {expected} at once");
    Ok(())
}

/// A request with these ids, one a line, whose length is not said before: as a program sends them that reads them somewhere.
fn body(plane: &Plane, method: &str, what: &str, turn: usize, ids: std::ops::Range<usize>) -> Vec<u8> {
    let (environment, token) = (environment(), plane.admin());
    let mut request = format!(
        "{method} {environment}/segments/{SEGMENT}/{what} HTTP/1.1\r\nhost: control\r\nauthorization: Bearer {token}\r\n\
         if-match: *\r\ncontent-type: text/plain\r\ntransfer-encoding: chunked\r\n\r\n"
    );
    let mut lines = String::with_capacity(ids.len() * 37);
    for number in ids {
        let _ = writeln!(lines, "{}", id(turn, number));
    }
    for chunk in lines.as_bytes().chunks(PIECE) {
        // All ids are ASCII.
        let _ = write!(request, "{:x}\r\n{}\r\n", chunk.len(), String::from_utf8_lossy(chunk));
    }
    request.push_str("0\r\n\r\n");
    request.into_bytes()
}

/// An id in the form of a UUID. Neighbours have nothing in common, so they come in no order and pack badly, as real ones.
fn id(turn: usize, number: usize) -> String {
    let high = mixed((turn as u64) << 40 | number as u64);
    let low = mixed(high);
    format!(
        "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
        high >> 32,
        high >> 16 & 0xffff,
        high & 0xffff,
        low >> 48,
        low & 0xffff_ffff_ffff
    )
}

/// Two different numbers give two different ones (the finalizer of splitmix64).
fn mixed(number: u64) -> u64 {
    let number = number.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let number = (number ^ number >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let number = (number ^ number >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    number ^ number >> 31
}

fn environment() -> String {
    let (project, environment) = ENVIRONMENT.split_once('/').unwrap_or((ENVIRONMENT, ""));
    format!("/api/v1/projects/{project}/environments/{environment}")
}
