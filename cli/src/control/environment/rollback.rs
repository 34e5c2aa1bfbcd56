//! `flagsctl env rollback`: back to what flags did at a revision.

use clap::Args;
use serde_json::{Value, json};

use crate::{
    control::{
        client::{ChangeArguments, Control, told},
        profile::Target,
    },
    failure::{Exit, Failure},
    output::{Output, visible},
};

/// Let all flags do what they did at a revision
///
/// This is a change like any other: it has a revision of its own, and can be taken back. Configurations, rules that are segments and metadata
/// become what they were; flags that hosts did not have then are disabled. What flags are in all environments stays as it is, and so do ids of
/// lists; where that decides answers, it is said.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  flagsctl log --env production\n  flagsctl env rollback 41 --env production")]
pub(super) struct Rollback {
    /// The revision, as `flagsctl log` shows it
    revision: u64,
    #[command(flatten)]
    change: ChangeArguments,
    #[command(flatten)]
    target: Target,
}

pub(super) fn run(arguments: &Rollback, output: &mut Output) -> Result<Exit, Failure> {
    let control = Control::open(&arguments.target)?;
    let path = control.in_project(&["environments", control.environment_key()?])?;
    let before = control.get(&path)?.body["revision"].take();
    let (change, to) = (&arguments.change, arguments.revision);
    let body = json!({"revision": to});
    let done = control.write("POST", &format!("{path}/rollback"), Some(&body), &change.write, change.if_revision)?.body;
    let place = control.place()?;
    let left = done["left"].as_array().map(Vec::as_slice).unwrap_or_default();
    let sentence = match (done["revision"] == before, left.is_empty()) {
        (true, true) => format!("{place} is as it was at revision {to} already"),
        (false, true) => format!("{place} is as it was at revision {to}, now at revision {}", done["revision"]),
        (true, false) => format!(
            "{place}: there is nothing that a rollback to revision {to} would take back, but not all is as it was:"
        ),
        (false, false) => {
            let revision = &done["revision"];
            format!(
                "{place} is back at what it did at revision {to}, now at revision {revision}, but not all is as it was:"
            )
        }
    };
    let exit = told(output, &done, &change.write, &sentence)?;
    if !output.json {
        for line in left.iter().map(|left| line(left, to)) {
            output.line(visible(&line))?;
        }
    }
    Ok(exit)
}

/// What stays as it is, and what to do about it.
fn line(left: &Value, to: u64) -> String {
    let text = |name: &str| left[name].as_str().unwrap_or_default();
    let key = if left["flag"].is_string() { text("flag") } else { text("segment") };
    match text("what") {
        "archived" => format!("  {key}  is archived: `flagsctl flag restore {key}`, then this rollback again"),
        "variants" => format!(
            "  {key}  has other variants, as in all environments: `flagsctl log diff {to}` shows them, `flagsctl flag set {key} --variant NAME=VALUE` sets them"
        ),
        "ids" => format!("  {key}  has had its ids changed since: `flagsctl segment upload {key} FILE` sets them"),
        // A control plane of a later version.
        other => format!("  {key}  {other}"),
    }
}
