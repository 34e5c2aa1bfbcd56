//! How many changes are committed a second.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::http::request;
use super::load::{Load, Role};
use super::plane::{Database, ENVIRONMENT, Plane, config, config_path, processor_seconds};
use super::postgres::Postgres;
use crate::definitions;
use crate::lab::Lab;
use crate::measure::{Figures, count};

const FLAGS: usize = 1_000;
const CONNECTIONS: usize = 32;

pub(super) fn sqlite(lab: &Lab) -> Result<Option<Figures>> {
    let Some(database) = Database::with_flags(lab, "writes", lab.scaled(FLAGS))? else { return Ok(None) };
    rate(lab, &database.serve(lab)?).map(Some)
}

pub(super) fn postgres(lab: &Lab) -> Result<Option<Figures>> {
    if lab.control.is_none() {
        return Ok(None);
    }
    let Some(server) = Postgres::start(&lab.disk("postgres")?)? else {
        eprintln!("skipped: control-writes-pg: PostgreSQL is not installed");
        return Ok(None);
    };
    let Some(database) = Database::on_postgres(lab, &server, lab.scaled(FLAGS))? else { return Ok(None) };
    rate(lab, &database.serve(lab)?).map(Some)
}

fn rate(lab: &Lab, plane: &Plane) -> Result<Figures> {
    let flags = lab.scaled(FLAGS);
    // Each flag is turned and turned back: every write changes something.
    let requests = [true, false].map(|turned| {
        (0..flags).map(move |flag| {
            let body = config(definitions::answer(flag) != turned);
            request("PATCH", &config_path(ENVIRONMENT, flag), plane.admin(), "", &body)
        })
    });
    let requests = requests.into_iter().flatten().collect();
    let role = Role::Write { address: plane.address(), requests, connections: CONNECTIONS.min(flags), keeps: true };
    let mut load = Load::start(&role)?;
    load.run(lab.effort.duration)?;
    let first = plane.revision(ENVIRONMENT)?;
    let (server, asking) = (processor_seconds(plane.pid())?, processor_seconds(load.pid())?);
    let (mut rates, mut seconds, mut acknowledged) = (Vec::new(), 0.0, 0);
    for _ in 0..(lab.effort.repeats / 6).max(1) {
        let done = load.run(lab.effort.duration.min(Duration::from_millis(500)))?;
        acknowledged += done.answers;
        #[expect(clippy::cast_precision_loss, reason = "a number of answers")]
        rates.push(done.answers as f64 / done.seconds);
        seconds += done.seconds;
    }
    let made = plane.revision(ENVIRONMENT)? - first;
    ensure!(made == acknowledged, "{acknowledged} changes were acknowledged, and {made} revisions made");
    let (server, asking) = (processor_seconds(plane.pid())? - server, processor_seconds(load.pid())? - asking);
    lab.note(format!("the server took {:.2} processors and the load {:.2}", server / seconds, asking / seconds));
    Figures::of_high(rates)
}

pub(super) fn disk(lab: &Lab) -> Result<Option<Figures>> {
    if lab.control.is_none() {
        return Ok(None);
    }
    let file = File::create(lab.disk("fsync")?.join("file"))?;
    // As a write-ahead log that is used again: the blocks are there already.
    file.write_all_at(&vec![1; 1 << 20], 0)?;
    file.sync_all()?;
    let mut samples = Vec::new();
    for turn in 0..lab.effort.repeats as u64 * 2 {
        let start = Instant::now();
        file.write_all_at(&[2; 4096], turn % 256 * 4096)?;
        file.sync_data()?;
        samples.push(start.elapsed().as_secs_f64() * 1e3);
    }
    ensure!(count(samples.len()) > 0.0, "nothing was written");
    Figures::of(samples).map(Some)
}
