//! What hosts' reports cost: after each change all hosts of a replica say within `report_ms` what they have published.
//!
//! Each host is one of its own name, so the server knows all of them. flagsd's reports come on a connection of their own; over
//! connections that stay is what is left of that without TCP's part, as a load balancer in front would bring them.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::http::request;
use super::load::{Load, Role};
use super::plane::{Database, ENVIRONMENT, Plane, processor_seconds, resident_bytes};
use crate::lab::Lab;
use crate::measure::{Figures, count};

const FLAGS: usize = 1_000;
const HOSTS: usize = 10_000;
const CONNECTIONS: usize = 64;

/// What was found out, over connections that stay and over one for each report.
#[derive(Clone, Debug)]
pub(crate) struct Reported {
    /// Reports a second.
    rates: [Vec<f64>; 2],
    /// Of the server, in microseconds for each report.
    cpu_us: [f64; 2],
    /// Of the load, in processors.
    asking: [f64; 2],
    /// Of the server, for knowing all hosts.
    memory_mib: f64,
}

/// Over which connections.
#[derive(Clone, Copy)]
pub(super) enum Over {
    Kept = 0,
    Own = 1,
}

pub(super) fn rate(lab: &Lab, over: Over) -> Result<Option<Figures>> {
    let Some(reported) = reported(lab)? else { return Ok(None) };
    let (cpu, asking) = (reported.cpu_us[over as usize], reported.asking[over as usize]);
    lab.note(format!("the server took {cpu:.1} µs of a processor for each, the load {asking:.2} processors"));
    Figures::of_high(reported.rates[over as usize].clone()).map(Some)
}

pub(super) fn cpu(lab: &Lab, over: Over) -> Result<Option<Figures>> {
    Ok(reported(lab)?.map(|reported| Figures::exact(reported.cpu_us[over as usize])))
}

pub(super) fn memory(lab: &Lab) -> Result<Option<Figures>> {
    Ok(reported(lab)?.map(|reported| Figures::exact(reported.memory_mib)))
}

fn reported(lab: &Lab) -> Result<Option<Reported>> {
    if let Some(reported) = lab.reported() {
        return Ok(Some(reported));
    }
    let Some(database) = Database::with_flags(lab, "reports", lab.scaled(FLAGS))? else { return Ok(None) };
    let plane = database.serve(lab)?;
    let hosts = lab.scaled(HOSTS);
    let body = report(&plane)?;
    let path = format!("/sync/v1/{ENVIRONMENT}/report");
    let as_host = |host: usize| ("POST", path.clone(), body.replace("HOST", &name(host)));
    // What the first requests leave behind is not the hosts'.
    plane.many(hosts, |_| as_host(0))?;
    let before = resident_bytes(plane.pid())?;
    plane.many(hosts, as_host)?;
    let memory_mib = (resident_bytes(plane.pid())? - before).max(0.0) / f64::from(1 << 20);
    ensure!(known(&plane)? == hosts, "{} hosts are known", known(&plane)?);
    let (mut rates, mut cpu_us, mut asking) = ([const { Vec::new() }; 2], [0.0; 2], [0.0; 2]);
    for (over, keeps) in [(Over::Kept as usize, true), (Over::Own as usize, false)] {
        let more = if keeps { "" } else { "connection: close\r\n" };
        let text = |host| request("POST", &path, plane.admin(), more, &as_host(host).2);
        let requests = (0..hosts).map(text).collect();
        let role = Role::Write { address: plane.address(), requests, connections: CONNECTIONS.min(hosts), keeps };
        let mut load = Load::start(&role)?;
        load.run(lab.effort.duration)?;
        let (server, own) = (processor_seconds(plane.pid())?, processor_seconds(load.pid())?);
        let (mut seconds, mut reports) = (0.0, 0);
        for _ in 0..(lab.effort.repeats / 6).max(1) {
            let done = load.run(lab.effort.duration.min(Duration::from_millis(500)))?;
            #[expect(clippy::cast_precision_loss, reason = "a number of answers")]
            rates[over].push(done.answers as f64 / done.seconds);
            seconds += done.seconds;
            reports += usize::try_from(done.answers)?;
        }
        cpu_us[over] = (processor_seconds(plane.pid())? - server) * 1e6 / count(reports);
        asking[over] = (processor_seconds(load.pid())? - own) / seconds;
    }
    ensure!(known(&plane)? == hosts, "others came, or some were forgotten");
    Ok(Some(lab.keep_reported(Reported { rates, cpu_us, asking, memory_mib })))
}

/// Of the current state, as `HOST`.
fn report(plane: &Plane) -> Result<String> {
    let revision = plane.revision(ENVIRONMENT)?;
    let body = json!({
        "host": "HOST", "set": "default", "epoch": 1, "revision": revision, "publishedNs": 1_763_000_000_012_345_678_u64,
        "changedMs": 1_763_000_000_000_u64, "state": "fresh", "version": "0.1.0",
    });
    Ok(body.to_string())
}

/// As long as names of hosts are.
fn name(host: usize) -> String {
    format!("web-{host:05}.eu-central-1.example.com")
}

/// How many hosts the server lists.
fn known(plane: &Plane) -> Result<usize> {
    let (project, environment) = ENVIRONMENT.split_once('/').context("PROJECT/ENVIRONMENT")?;
    let path = format!("/api/v1/projects/{project}/environments/{environment}/hosts?limit=1000");
    let (mut hosts, mut next) = (0, String::new());
    loop {
        let page = plane.ask("GET", &format!("{path}{next}"), &Value::Null)?;
        hosts += page["items"].as_array().context("items")?.len();
        match page["next"].as_str() {
            Some(cursor) => next = format!("&cursor={cursor}"),
            None => return Ok(hosts),
        }
    }
}
