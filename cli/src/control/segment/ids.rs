//! `flagsctl segment upload`, `flagsctl segment add` and `flagsctl segment remove`

use clap::Args;

use super::{
    OneSegment, path,
    source::{Format, Ids},
};
use crate::{
    control::client::{Control, told},
    failure::{Exit, Failure},
    output::Output,
    value,
};

/// Give a list the ids of a file, in place of all that it had
///
/// The file is sent as it is read. Nothing is changed where it breaks off, or has a line that is no id. Where nobody says at which revision, it
/// is the one of the moment before: what somebody else changes meanwhile is not overwritten.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  flagsctl segment upload vip vip.csv.gz --env production --comment 'of Monday'
  psql -Atc 'SELECT id FROM customer WHERE vip' | flagsctl segment upload vip - --env production")]
pub(crate) struct Upload {
    #[command(flatten)]
    segment: OneSegment,
    /// The file, `-` for standard input
    file: String,
    #[command(flatten)]
    format: FormatArguments,
}

/// Add ids to a list; those that it has already stay
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  flagsctl segment add vip user-17 user-18\n  flagsctl segment add vip --file more.txt"
)]
pub(crate) struct Add {
    #[command(flatten)]
    batch: Batch,
}

/// Remove ids from a list; those that it does not have are no error
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  flagsctl segment remove vip user-17\n  flagsctl segment remove vip --file gone.txt"
)]
pub(crate) struct Remove {
    #[command(flatten)]
    batch: Batch,
}

#[derive(Args, Debug)]
struct Batch {
    #[command(flatten)]
    segment: OneSegment,
    /// The ids
    #[arg(value_name = "ID", required_unless_present = "file", conflicts_with = "file")]
    ids: Vec<String>,
    /// A file with the ids, `-` for standard input
    #[arg(long, value_name = "FILE")]
    file: Option<String>,
    #[command(flatten)]
    format: FormatArguments,
}

#[derive(Args, Debug)]
struct FormatArguments {
    /// How the file is written [default: as its name says, .csv, .jsonl or .ndjson; else an id a line]. What ends in .gz is packed
    #[arg(long, value_enum)]
    format: Option<Format>,
}

pub(crate) fn upload(arguments: &Upload, output: &mut Output) -> Result<Exit, Failure> {
    let mut ids = Ids::of_file(&arguments.file, arguments.format.format)?;
    send(&arguments.segment, "PUT", &[], &mut ids, output)
}

pub(crate) fn add(arguments: &Add, output: &mut Output) -> Result<Exit, Failure> {
    arguments.batch.send("add", output)
}

pub(crate) fn remove(arguments: &Remove, output: &mut Output) -> Result<Exit, Failure> {
    arguments.batch.send("remove", output)
}

impl Batch {
    fn send(&self, verb: &str, output: &mut Output) -> Result<Exit, Failure> {
        let mut ids = match &self.file {
            Some(file) => Ids::of_file(file, self.format.format)?,
            None => Ids::given(&self.ids),
        };
        send(&self.segment, "POST", &[verb], &mut ids, output)
    }
}

fn send(
    segment: &OneSegment,
    method: &str,
    verb: &[&str],
    ids: &mut Ids,
    output: &mut Output,
) -> Result<Exit, Failure> {
    let OneSegment { key, change, target } = segment;
    let control = Control::open(target)?;
    let mut if_revision = change.if_revision;
    if method == "PUT" && if_revision.is_none() {
        if_revision = control.get(&path(&control, &[key])?)?.revision;
    }
    let path = path(&control, &[&[key.as_str(), "ids"], verb].concat())?;
    let done = control.upload(method, &path, ids, &change.write, if_revision);
    let sent = ids.end()?;
    let done = done?.body;
    let (number, place) = (counted(done["ids"].as_u64().unwrap_or_default()), control.place()?);
    let sentence =
        format!("{key} has {number} in {place}, at revision {}; {} were sent", done["revision"], value::bytes(sent));
    told(output, &done, &change.write, &sentence)
}

/// `1 id`, `2 ids`.
pub(super) fn counted(ids: u64) -> String {
    format!("{ids} id{}", if ids == 1 { "" } else { "s" })
}
