//! What each attached host costs, from 10 to 10 000.
//!
//! A host is a stream that resumes at the current revision, as flagsd's does; here all are held by one process that only reads, and
//! that takes a part of the same processors. The database is in memory: its disk has rows of its own.

use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use flags_sync::{Change, Trust};

use super::floor;
use super::http::{Connection, request};
use super::load::{Load, Order, Role, data_of, value_of};
use super::plane::{Database, ENVIRONMENT, Plane, config, config_path, processor_seconds, resident_bytes};
use super::visible::commits;
use crate::definitions;
use crate::lab::Lab;
use crate::measure::{Figures, count};

const FLAGS: usize = 1_000;

/// How many streams, and how many changes each of them gets.
const SIZES: [(usize, usize); 4] = [(10, 1_600), (100, 400), (1_000, 80), (10_000, 20)];

/// Changes go in so many blocks, in turns with others that nobody follows.
const BLOCKS: usize = 4;

/// Which part of the cost.
#[derive(Clone, Copy)]
pub(super) enum Of {
    Cpu,
    Floor,
    Memory,
}

/// What so many streams were found to cost.
#[derive(Clone, Debug)]
pub(crate) struct Cost {
    /// Of the server for each stream and change, beyond what the change takes without streams, in microseconds: a block each.
    cpu_us: Vec<f64>,
    /// The same of a server that only writes: a block each.
    floor_us: Vec<f64>,
    /// Of the server for each stream: the first block's is what counts, later ones find memory that was given back.
    memory_kib: Vec<f64>,
    /// Of the whole server, at most.
    resident_mib: f64,
    /// From commit to the last stream, in milliseconds.
    last_ms: Vec<f64>,
}

pub(super) fn memory(lab: &Lab) -> Result<Option<Figures>> {
    Ok(costs(lab)?.and_then(|costs| Some(Figures::exact(costs.last()?.resident_mib))))
}

pub(super) fn delivery(lab: &Lab) -> Result<Option<Figures>> {
    costs(lab)?.and_then(|costs| Some(Figures::of(costs.last()?.last_ms.clone()))).transpose()
}

pub(super) fn cost(lab: &Lab, size: usize, of: Of) -> Result<Option<Figures>> {
    let Some(costs) = costs(lab)? else { return Ok(None) };
    let cost = costs.get(size).context("a size")?;
    Ok(Some(match of {
        Of::Cpu => Figures::of(cost.cpu_us.clone())?,
        Of::Floor => Figures::of(cost.floor_us.clone())?,
        Of::Memory => Figures::exact(*cost.memory_kib.first().context("a block")?),
    }))
}

/// How much more it is for the most streams than for a hundred.
pub(super) fn growth(lab: &Lab, of: Of) -> Result<Option<Figures>> {
    let (Some(few), Some(many)) = (cost(lab, 1, of)?, cost(lab, 3, of)?) else { return Ok(None) };
    Ok(Some(Figures::exact(many.median / few.median)))
}

/// Streams that are held until this is dropped.
pub(super) fn follow(plane: &Plane, streams: usize) -> Result<Load> {
    let from = format!("1.{}", plane.revision(ENVIRONMENT)?);
    let path = format!("/sync/v1/{ENVIRONMENT}/stream");
    Load::start(&Role::Follow { address: plane.address(), path, token: plane.admin().to_owned(), from, streams })
}

fn costs(lab: &Lab) -> Result<Option<Vec<Cost>>> {
    if let Some(costs) = lab.costs() {
        return Ok(Some(costs));
    }
    let Some(database) = Database::with_flags(lab, "hosts", lab.scaled(FLAGS))? else { return Ok(None) };
    let database = database.copied(&lab.folder("hosts")?)?;
    let plane = database.serve_logging(lab, "debug")?;
    let mut writer = Writer::new(lab, &plane)?;
    // What the first requests, and the first streams, leave behind is not the further streams'.
    writer.change(&plane, lab.effort.repeats * 3)?;
    block(&plane, &mut writer, lab.scaled(SIZES[1].0), BLOCKS)?;
    let mut costs = Vec::new();
    for (streams, changes) in SIZES {
        let (streams, changes) = (lab.scaled(streams).min(streams), (changes * lab.effort.repeats / 60).max(BLOCKS));
        costs.push(measure(&plane, &mut writer, streams, changes)?);
    }
    Ok(Some(lab.keep_costs(costs)))
}

fn measure(plane: &Plane, writer: &mut Writer, streams: usize, changes: usize) -> Result<Cost> {
    let number = changes / BLOCKS;
    let (mut cpu_us, mut floor_us, mut memory_kib, mut last) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut resident_mib = 0.0;
    for _ in 0..BLOCKS {
        // In turns, so that what disturbs one disturbs the other. Where there are few, some more: a change itself takes
        // much longer than handing it to one stream.
        let alone = number.max(40);
        let before = processor_seconds(plane.pid())?;
        writer.change(plane, alone)?;
        let without = (processor_seconds(plane.pid())? - before) / count(alone);
        let block = block(plane, writer, streams, number)?;
        cpu_us.push((block.seconds / count(number) - without) * 1e6 / count(streams));
        floor_us.push(floor::block(streams, number, block.event_bytes)?);
        memory_kib.push(block.memory_kib);
        resident_mib = block.resident_mib.max(resident_mib);
        last.extend(block.last);
    }
    let committed = commits(&plane.log())?;
    let last_ms = last.into_iter().map(|(revision, at)| {
        let committed = committed.get(&revision).with_context(|| format!("revision {revision} is not in the log"))?;
        Ok((at - committed) / 1e3)
    });
    Ok(Cost { cpu_us, floor_us, memory_kib, resident_mib, last_ms: last_ms.collect::<Result<_>>()? })
}

/// Some changes with streams attached.
struct Block {
    /// Of the server's processors, for the changes.
    seconds: f64,
    memory_kib: f64,
    resident_mib: f64,
    /// How long an event is.
    event_bytes: usize,
    /// By revision, when the last stream had it.
    last: Vec<(u64, f64)>,
}

fn block(plane: &Plane, writer: &mut Writer, streams: usize, changes: usize) -> Result<Block> {
    let before = resident_bytes(plane.pid())?;
    let mut load = follow(plane, streams)?;
    let seconds = processor_seconds(plane.pid())?;
    let (mut event_bytes, mut last) = (0, Vec::new());
    for _ in 0..changes {
        let revision = writer.next(plane)?;
        load.order(&Order::Until { id: format!("1.{revision}") })?;
        let done = load.answer()?;
        ensure!(done.answers == streams as u64, "{} streams have the change", done.answers);
        check(&done.event, revision)?;
        event_bytes = done.event.len();
        last.push((revision, done.at[2]));
    }
    let seconds = processor_seconds(plane.pid())? - seconds;
    let resident = resident_bytes(plane.pid())?;
    drop(load);
    // Until the server has noticed that they are gone.
    thread::sleep(Duration::from_millis(400));
    let memory_kib = (resident - before).max(0.0) / 1024.0 / count(streams);
    Ok(Block { seconds, event_bytes, memory_kib, resident_mib: resident / f64::from(1 << 20), last })
}

/// All streams got the same bytes, and those are the signed change to this revision.
fn check(event: &str, revision: u64) -> Result<()> {
    let change = Change::open(data_of(event)?, ENVIRONMENT, &Trust::Transport)?;
    ensure!(change.stamp.revision == revision && change.flags.len() == 1, "another change: {}", value_of(event)?);
    Ok(())
}

/// Turns one flag on and off.
struct Writer {
    connection: Connection,
    flag: usize,
    on: bool,
}

impl Writer {
    fn new(lab: &Lab, plane: &Plane) -> Result<Self> {
        let flag = lab.scaled(FLAGS) / 2;
        Ok(Self { connection: plane.connect()?, flag, on: definitions::answer(flag) })
    }

    fn change(&mut self, plane: &Plane, times: usize) -> Result<()> {
        (0..times).try_for_each(|_| self.next(plane).map(drop))
    }

    /// Returns the revision.
    fn next(&mut self, plane: &Plane) -> Result<u64> {
        self.on = !self.on;
        let text = request("PATCH", &config_path(ENVIRONMENT, self.flag), plane.admin(), "", &config(self.on));
        self.connection.send(text.as_bytes())?;
        self.connection.receive()?.json()?["revision"].as_u64().context("a revision")
    }
}
