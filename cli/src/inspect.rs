//! `flagsctl inspect`: what the files of a store hold.

use std::path::{Path, PathBuf};

use clap::Args;
use libflags::{
    Snapshot,
    snapshot::{Sizes, list_len},
    store::{ControlSummary, Record, SegmentFile, SegmentHeader, WriterState, inspect_control},
};
use serde_json::{Value, json};

use crate::{
    failure::{Exit, Failure},
    output::{Cell, Look, Output, Table, count},
    source::{FileKind, open_segment},
    value,
};

/// Show what a store, a control page, a segment or an id list holds, and whether it is whole
#[derive(Args, Debug)]
#[command(after_help = "\
Exit codes: 0 it is whole, 3 it is not, or cannot be read.

Examples:
  flagsctl inspect /run/flags/default
  flagsctl inspect /run/flags/default/v1/segment-42")]
pub(crate) struct Inspect {
    /// A set's directory, or a file of a store
    path: PathBuf,
}

pub(crate) fn run(arguments: &Inspect, output: &mut Output) -> Result<Exit, Failure> {
    let path = arguments.path.as_path();
    match FileKind::of(path)? {
        FileKind::Store => {
            let control = inspect_control(path)?;
            let directory = path.join(libflags::store::layout::FORMAT_DIRECTORY);
            let current = control.current.filter(|record| record.generation.0 != 0);
            let current = current.map(|record| directory.join(segment_name(&record)));
            let segment = current.as_deref().map(segment).transpose()?;
            let files = files(&directory)?;
            if output.json {
                let files: Vec<Value> =
                    files.iter().map(|(name, bytes)| json!({"name": name, "bytes": bytes})).collect();
                let segment = segment.as_ref().map(Segment::json);
                let control = control_json(&control);
                output.document(&json!({"store": path, "control": control, "segment": segment, "files": files}))?;
                return Ok(Exit::Done);
            }
            control_facts(&control, output)?;
            if let (Some(path), Some(segment)) = (&current, &segment) {
                output.line("")?;
                segment.print(path, output)?;
            }
            output.line("")?;
            let mut table = Table { header: vec!["FILE", "SIZE"], rows: Vec::new() };
            for (name, bytes) in &files {
                table.rows.push(vec![Cell::new(name), Cell::new(value::bytes(*bytes))]);
            }
            output.table(&table)?;
        }
        FileKind::Control => {
            // A page is looked at through its set's directory, which tells whether it can be trusted.
            let set = path.parent().and_then(Path::parent).filter(|set| !set.as_os_str().is_empty());
            let control = inspect_control(set.unwrap_or(Path::new("..")))?;
            if output.json {
                output.document(&control_json(&control))?;
            } else {
                control_facts(&control, output)?;
            }
        }
        FileKind::Segment => {
            let segment = segment(path)?;
            if output.json {
                output.document(&segment.json())?;
            } else {
                segment.print(path, output)?;
            }
        }
        FileKind::IdList => {
            let failed = |error| Failure::new(format!("cannot read {}: {error}", path.display()));
            let bytes = std::fs::read(path).map_err(failed)?;
            let Some(ids) = list_len(&bytes) else {
                return Err(Failure::new(format!("{} is cut short or altered: no id list", path.display())));
            };
            if output.json {
                output.document(&json!({"ids": ids, "bytes": bytes.len()}))?;
            } else {
                let size = value::bytes(bytes.len() as u64);
                output.facts(&[
                    ("id list", Cell::new(path.display().to_string())),
                    ("ids", Cell::new(ids.to_string())),
                    ("size", Cell::new(size)),
                ])?;
            }
        }
        FileKind::Definition => {
            return Err(Failure::new(format!("{} is no file of a store", path.display()))
                .hint("`flagsctl check` and `flagsctl list --file` read definition files"));
        }
    }
    Ok(Exit::Done)
}

fn segment_name(record: &Record) -> String {
    format!("segment-{}", record.generation)
}

/// A segment, read and found whole.
struct Segment {
    header: SegmentHeader,
    sizes: Sizes,
    /// Name of the file, what rules call it, number of ids.
    lists: Vec<(String, String, u64)>,
    states: [(&'static str, usize); 3],
}

fn segment(path: &Path) -> Result<Segment, Failure> {
    let file = SegmentFile::read(path)?;
    let snapshot: Snapshot = open_segment(path, &file)?;
    let in_state = |state: &str| snapshot.flags().filter(|flag| value::state(flag) == state).count();
    Ok(Segment {
        header: file.header,
        sizes: snapshot.sizes(),
        lists: snapshot
            .lists()
            .map(|(name, label, ids)| (libflags::snapshot::list_file(name), label.to_owned(), ids))
            .collect(),
        states: ["enabled", "disabled", "broken"].map(|state| (state, in_state(state))),
    })
}

impl Segment {
    fn json(&self) -> Value {
        let Self { header, sizes, lists, states } = self;
        let lists: Vec<Value> =
            lists.iter().map(|(file, label, ids)| json!({"file": file, "label": label, "ids": ids})).collect();
        json!({
            "generation": header.generation.0,
            "revision": header.revision,
            "publishedAt": value::time_ns(header.published_at_ns),
            "confirmedAt": value::time_ns(header.upstream_confirmed_at_ns),
            "checksum": format!("{:016x}", header.payload_checksum),
            "checksumOk": true,
            "flags": sizes.flags,
            "states": states.iter().map(|(state, count)| ((*state).to_owned(), json!(count)))
                .collect::<serde_json::Map<_, _>>(),
            "bytes": {
                "payload": sizes.payload, "islands": sizes.islands, "arena": sizes.arena, "index": sizes.index,
                "lists": sizes.lists,
            },
            "flagSets": sizes.sets,
            "sharedSets": sizes.shared_sets,
            "lists": lists,
        })
    }

    fn print(&self, path: &Path, output: &mut Output) -> Result<(), Failure> {
        let Self { header, sizes, lists, states } = self;
        let bytes = |bytes: usize| value::bytes(bytes as u64);
        let states: Vec<String> =
            states.iter().filter(|(_, count)| *count > 0).map(|(state, count)| format!("{count} {state}")).collect();
        let states = if states.is_empty() { String::new() } else { format!(" ({})", states.join(", ")) };
        let mut facts = vec![
            ("segment", Cell::new(path.display().to_string())),
            ("generation", Cell::new(header.generation.to_string())),
            ("revision", Cell::new(header.revision.to_string())),
            ("published", Cell::new(value::time_ns(header.published_at_ns).unwrap_or_else(|| "never".to_owned()))),
            ("checksum", Cell::new(format!("{:016x}, it matches", header.payload_checksum)).look(Look::Good)),
            ("flags", Cell::new(format!("{}{states}", sizes.flags))),
            ("payload", Cell::new(bytes(sizes.payload))),
            ("  islands", Cell::new(format!("{} (compiled flags)", bytes(sizes.islands)))),
            (
                "  shared",
                Cell::new(format!(
                    "{} (metadata of {}, {})",
                    bytes(sizes.arena.saturating_sub(sizes.islands)),
                    count(sizes.sets, "file"),
                    count(sizes.shared_sets, "literal set")
                )),
            ),
            ("  index", Cell::new(bytes(sizes.index))),
        ];
        for (file, label, ids) in lists {
            facts.push(("id list", Cell::new(format!("{label}: {ids} ids in {file}"))));
        }
        Ok(output.facts(&facts)?)
    }
}

fn control_json(control: &ControlSummary) -> Value {
    let record = control.current.map(|record| {
        json!({
            "generation": record.generation.0,
            "revision": record.revision,
            "segmentBytes": record.segment_bytes,
            "checksum": format!("{:016x}", record.segment_checksum),
            "publishedAt": value::time_ns(record.published_at_ns),
            "confirmedAt": value::time_ns(record.upstream_confirmed_at_ns),
            "maxAgeSeconds": (record.max_age_ns != 0).then_some(record.max_age_ns / 1_000_000_000),
        })
    });
    json!({
        "createdAt": value::time_ns(control.created_at_ns),
        "version": control.version,
        "instance": format!("{:016x}", control.instance),
        "writerPid": control.pid,
        "heartbeatAgeSeconds": control.heartbeat_age.map(|age| age.as_secs_f64()),
        "writerState": writer_state(control.state),
        "moved": control.moved,
        "current": record,
    })
}

fn control_facts(control: &ControlSummary, output: &mut Output) -> Result<(), Failure> {
    let never = || "never".to_owned();
    let mut facts = vec![
        ("control page", Cell::new(format!("made {}", value::time_ns(control.created_at_ns).unwrap_or_else(never)))),
        ("version", Cell::new(control.version.to_string())),
    ];
    match (&control.current, control.moved) {
        (_, true) => facts.push(("record", Cell::new("the store has moved: look at the path again").look(Look::Warn))),
        (None, false) => facts.push(("record", Cell::new("damaged").look(Look::Bad))),
        (Some(record), false) if record.generation.0 == 0 => {
            facts.push(("record", Cell::new("nothing is published yet").look(Look::Warn)));
        }
        (Some(record), false) => {
            facts.push(("generation", Cell::new(record.generation.to_string())));
            facts.push(("revision", Cell::new(record.revision.to_string())));
            let confirmed = value::time_ns(record.upstream_confirmed_at_ns).unwrap_or_else(never);
            facts.push(("confirmed", Cell::new(confirmed)));
        }
    }
    let heartbeat = control.heartbeat_age.map_or_else(never, |age| format!("{} ago", value::duration(age)));
    let writer = match control.pid {
        0 => "none: the last one ended in order".to_owned(),
        pid => format!("pid {pid}, {}", writer_state(control.state)),
    };
    facts.push(("publisher", Cell::new(format!("{writer}, heartbeat {heartbeat}"))));
    Ok(output.facts(&facts)?)
}

const fn writer_state(state: WriterState) -> &'static str {
    match state {
        WriterState::Fresh => "fresh",
        WriterState::Stale => "stale",
        WriterState::Frozen => "frozen",
    }
}

/// The files of the store, by name, with their sizes.
fn files(directory: &Path) -> Result<Vec<(String, u64)>, Failure> {
    let failed = |error| Failure::new(format!("cannot read {}: {error}", directory.display()));
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        // Segments come and go while we look.
        let Ok(metadata) = entry.metadata() else { continue };
        files.push((entry.file_name().to_string_lossy().into_owned(), metadata.len()));
    }
    files.sort_unstable();
    Ok(files)
}
