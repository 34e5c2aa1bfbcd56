//! From a change at the control plane to a reader in C, on the same machine.

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::hosts::follow;
use super::http::{PATIENCE, request};
use super::plane::{Database, ENVIRONMENT, config, config_path};
use crate::definitions;
use crate::lab::Lab;
use crate::measure::Figures;

const FLAGS: usize = 1_000;

/// How long between two changes: what the last one left to do is done then.
const PAUSE: Duration = Duration::from_millis(15);

pub(super) fn from_commit(lab: &Lab, streams: usize) -> Result<Option<Figures>> {
    let Some(seen) = seen(lab, streams)? else { return Ok(None) };
    Figures::of(seen.iter().map(|seen| (seen.visible_us - seen.committed_us) / 1e3).collect()).map(Some)
}

pub(super) fn from_request(lab: &Lab) -> Result<Option<Figures>> {
    let Some(seen) = seen(lab, 0)? else { return Ok(None) };
    Figures::of(seen.iter().map(|seen| (seen.visible_us - seen.asked_us) / 1e3).collect()).map(Some)
}

/// The moments of one change, in microseconds since 1970.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    asked_us: f64,
    /// By the server's log, which it writes after the database has said so.
    committed_us: f64,
    visible_us: f64,
}

fn seen(lab: &Lab, streams: usize) -> Result<Option<Vec<Seen>>> {
    let name = format!("visible-{streams}");
    if let Some(seen) = lab.seen(&name) {
        return Ok(Some(seen));
    }
    let (Some(flagsd), Some(reader)) = (&lab.flagsd, &lab.c_visible) else { return Ok(None) };
    let flags = lab.scaled(FLAGS);
    let Some(database) = Database::with_flags(lab, &name, flags)? else { return Ok(None) };
    let plane = database.serve_logging(lab, "debug")?;
    let _streams = if streams > 0 { Some(follow(&plane, streams)?) } else { None };
    let _daemon = Daemon::start(lab, flagsd, &plane.source()?, &name)?;
    let mut reader = Reader::start(reader, &lab.folder(&name)?.join("store"))?;
    let mut connection = plane.connect()?;
    let (changed, mut on) = (flags / 2, definitions::answer(flags / 2));
    let mut asked = Vec::new();
    for turn in 0..lab.effort.repeats * 4 {
        on = !on;
        reader.expect(&definitions::key(changed), on)?;
        thread::sleep(PAUSE);
        let text = request("PATCH", &config_path(ENVIRONMENT, changed), plane.admin(), "", &config(on));
        let asked_us = now_us()?;
        connection.send(text.as_bytes())?;
        let revision = connection.receive()?.json()?["revision"].as_u64().context("a revision")?;
        let visible_us = reader.seen_us()?;
        if turn > 0 {
            asked.push((revision, asked_us, visible_us));
        }
    }
    let committed = commits(&plane.log())?;
    let seen: Result<Vec<Seen>> = asked
        .into_iter()
        .map(|(revision, asked_us, visible_us)| {
            let committed_us =
                *committed.get(&revision).with_context(|| format!("revision {revision} is not in the log"))?;
            ensure!(asked_us < committed_us, "revision {revision} was committed before it was asked for");
            Ok(Seen { asked_us, committed_us, visible_us })
        })
        .collect();
    Ok(Some(lab.keep_seen(name, seen?)))
}

/// When each revision was committed, in microseconds since 1970, by the server's log.
pub(super) fn commits(log: &str) -> Result<HashMap<u64, f64>> {
    let mut commits = HashMap::new();
    for line in log.lines().filter(|line| line.contains("\"committed\"")) {
        let entry: Value = serde_json::from_str(line).context("a log in JSON")?;
        let revision = entry["revision"].as_u64().context("a revision in the log")?;
        let time = entry["timestamp"].as_str().and_then(micros_of).context("a time in the log")?;
        commits.entry(revision).or_insert(time);
    }
    Ok(commits)
}

/// `2026-11-23T04:42:44.123456Z` in microseconds since 1970.
fn micros_of(time: &str) -> Option<f64> {
    let (date, clock) = time.strip_suffix('Z')?.split_once('T')?;
    let mut date = date.split('-').map(str::parse::<i64>);
    let (year, month, day) = (date.next()?.ok()?, date.next()?.ok()?, date.next()?.ok()?);
    // Days since 1970 of a date, years beginning in March.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5 + day - 719_469;
    let mut clock = clock.split(':').map(str::parse::<f64>);
    let (hours, minutes, seconds) = (clock.next()?.ok()?, clock.next()?.ok()?, clock.next()?.ok()?);
    let days: f64 = i32::try_from(days).ok()?.into();
    Some((((days * 24.0 + hours) * 60.0 + minutes) * 60.0 + seconds) * 1e6)
}

pub(super) fn now_us() -> Result<f64> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs_f64() * 1e6)
}

/// flagsd that follows a control plane.
pub(super) struct Daemon(Child);

impl Daemon {
    pub(super) fn start(lab: &Lab, program: &Path, source: &str, name: &str) -> Result<Self> {
        let (memory, disk) = (lab.folder(name)?, lab.disk(&format!("{name}-host"))?);
        let log = fs::File::create(disk.join("log"))?;
        let child = Command::new(program)
            .arg("run")
            .arg("--store")
            .arg(memory.join("store"))
            .args(["--source", source, "--state-dir"])
            .arg(disk.join("state"))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        Ok(Self(child))
    }

    pub(super) fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// `benches/c/visible.c`
pub(super) struct Reader {
    child: Child,
    questions: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Reader {
    /// Returns when there are flags in the store, and the reader has opened it.
    pub(super) fn start(program: &Path, store: &Path) -> Result<Self> {
        let start = Instant::now();
        while !fs::read_dir(store.join("v1")).is_ok_and(|entries| {
            entries.flatten().any(|entry| entry.file_name().to_string_lossy().starts_with("segment-"))
        }) {
            ensure!(start.elapsed() < PATIENCE, "flagsd has published nothing");
            thread::sleep(Duration::from_millis(5));
        }
        let mut child = Command::new(program)
            .arg(store)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        let questions = child.stdin.take().context("its stdin is piped")?;
        let answers = BufReader::new(child.stdout.take().context("its stdout is piped")?);
        let mut reader = Self { child, questions, answers };
        ensure!(reader.line()? == "ready", "the reader is not ready");
        Ok(reader)
    }

    /// Lets it wait for that answer without a context.
    fn expect(&mut self, key: &str, on: bool) -> Result<()> {
        writeln!(self.questions, "{key} {}", u8::from(on)).context("the reader has ended")
    }

    /// Lets it wait for that answer for a user.
    pub(super) fn expect_for(&mut self, key: &str, on: bool, user: &str) -> Result<()> {
        writeln!(self.questions, "{key} {} {user}", u8::from(on)).context("the reader has ended")
    }

    /// When it got the answer it was to wait for, in microseconds since 1970.
    pub(super) fn seen_us(&mut self) -> Result<f64> {
        Ok(self.line()?.parse::<f64>().context("a time")? / 1e3)
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        Ok(line.trim().to_owned())
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_of_a_log_is_found() {
        for (text, micros) in [
            ("1970-01-01T00:00:00.000000Z", 0.0),
            ("2000-03-01T00:00:01.500000Z", 951_868_801_500_000.0),
            ("2026-11-23T04:42:44.123456Z", 1_795_408_964_123_456.0),
        ] {
            let found = micros_of(text).expect(text);
            assert!((found - micros).abs() < 1.0, "{text}: {found}");
        }
    }
}
