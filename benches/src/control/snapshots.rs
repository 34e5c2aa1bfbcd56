//! How many snapshots a second.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use flags_sync::{Snapshot, Trust};

use super::http::request;
use super::load::{Load, Role};
use super::plane::{Database, ENVIRONMENT, processor_seconds};
use crate::lab::Lab;
use crate::measure::Figures;

const FLAGS: usize = 1_000;
const CONNECTIONS: usize = 64;

/// What hosts are answered.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Answer {
    NotModified,
    Whole,
}

pub(super) fn rate(lab: &Lab, answer: Answer) -> Result<Option<Figures>> {
    let flags = lab.scaled(FLAGS);
    let name = if answer == Answer::Whole { "full" } else { "304" };
    let Some(database) = Database::with_flags(lab, name, flags)? else { return Ok(None) };
    let plane = database.serve(lab)?;
    let path = format!("/sync/v1/{ENVIRONMENT}/snapshot");
    let mut connection = plane.connect()?;
    connection.send(request("GET", &path, plane.admin(), "", "").as_bytes())?;
    let first = connection.receive()?;
    ensure!(first.status == 200, "the first snapshot: {}", first.head);
    let snapshot = Snapshot::open(std::str::from_utf8(first.body)?, ENVIRONMENT, &Trust::Transport)?;
    ensure!(snapshot.flags.len() == flags, "{} flags", snapshot.flags.len());
    let tag = first.header("etag").context("an ETag")?;
    let (more, status, length) = match answer {
        Answer::NotModified => (format!("if-none-match: {tag}\r\n"), 304, 0),
        Answer::Whole => (String::new(), 200, first.body.len()),
    };
    let request = request("GET", &path, plane.admin(), &more, "");
    let role = Role::Ask { address: plane.address(), request, connections: CONNECTIONS, status, length };
    let mut load = Load::start(&role)?;
    load.run(lab.effort.duration)?;
    let (server, asking) = (processor_seconds(plane.pid())?, processor_seconds(load.pid())?);
    let mut rates = Vec::new();
    let mut seconds = 0.0;
    for _ in 0..(lab.effort.repeats / 6).max(1) {
        let done = load.run(lab.effort.duration.min(Duration::from_millis(500)))?;
        #[expect(clippy::cast_precision_loss, reason = "a number of answers")]
        rates.push(done.answers as f64 / done.seconds);
        seconds += done.seconds;
    }
    let share = |before: f64, pid| -> Result<f64> { Ok((processor_seconds(pid)? - before) / seconds) };
    let (server, asking) = (share(server, plane.pid())?, share(asking, load.pid())?);
    lab.note(format!("the server took {server:.2} processors and the load {asking:.2}, of {}", processors()));
    Figures::of_high(rates).map(Some)
}

fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
