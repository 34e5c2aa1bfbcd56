//! An environment of 100 000 flags.

use std::time::Instant;

use anyhow::{Result, ensure};
use flags_sync::{Snapshot, Trust};

use super::http::request;
use super::plane::{Database, ENVIRONMENT, config, config_path};
use crate::definitions;
use crate::lab::Lab;
use crate::measure::Figures;

const FLAGS: usize = 100_000;

pub(super) fn write(lab: &Lab) -> Result<Option<Figures>> {
    let flags = lab.scaled(FLAGS);
    let Some(database) = Database::with_flags(lab, "write-large", flags)? else { return Ok(None) };
    let plane = database.serve(lab)?;
    let mut connection = plane.connect()?;
    let mut samples = Vec::new();
    let before = plane.revision(ENVIRONMENT)?;
    for turn in 0..lab.effort.repeats {
        let flag = turn * 7 % 1_000.min(flags);
        let text =
            request("PATCH", &config_path(ENVIRONMENT, flag), plane.admin(), "", &config(!definitions::answer(flag)));
        let start = Instant::now();
        connection.send(text.as_bytes())?;
        let reply = connection.receive()?;
        samples.push(start.elapsed().as_secs_f64() * 1e3);
        reply.json()?;
    }
    let made = plane.revision(ENVIRONMENT)? - before;
    ensure!(made == samples.len() as u64, "{} writes made {made} revisions", samples.len());
    Figures::of(samples).map(Some)
}

pub(super) fn ready(lab: &Lab) -> Result<Option<Figures>> {
    Ok(starts(lab)?.map(|(ready, _)| ready))
}

pub(super) fn first_snapshot(lab: &Lab) -> Result<Option<Figures>> {
    Ok(starts(lab)?.map(|(_, first)| first))
}

fn starts(lab: &Lab) -> Result<Option<(Figures, Figures)>> {
    let flags = lab.scaled(FLAGS);
    let Some(database) = Database::with_flags(lab, "ready-large", flags)? else { return Ok(None) };
    let (mut ready, mut first) = (Vec::new(), Vec::new());
    for _ in 0..(lab.effort.repeats / 10).max(1) {
        let start = Instant::now();
        let plane = database.serve(lab)?;
        ready.push(start.elapsed().as_secs_f64());
        let mut connection = plane.connect()?;
        let path = format!("/sync/v1/{ENVIRONMENT}/snapshot");
        connection.send(request("GET", &path, plane.admin(), "", "").as_bytes())?;
        let reply = connection.receive()?;
        first.push(start.elapsed().as_secs_f64());
        let snapshot = Snapshot::open(std::str::from_utf8(reply.body)?, ENVIRONMENT, &Trust::Transport)?;
        ensure!(snapshot.flags.len() == flags, "{} flags", snapshot.flags.len());
        // Dropping it is a kill -9.
    }
    Ok(Some((Figures::of(ready)?, Figures::of(first)?)))
}
